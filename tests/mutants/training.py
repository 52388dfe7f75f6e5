"""Bugs of a training step, a line of the code each, and a recipe whose steps differ by it from those written out.

They are planted by `mutated`: in the function, `old` is replaced by `new`.
"""

CATCHES: dict[str, str] = {}
"""None of them is a part."""

TRAINER, ADAMW, MUON = "nanotx.trainer:Trainer", "nanotx.optimizers.adamw:AdamW", "nanotx.optimizers.muon:MuonOptimizer"
SEED = "torch.manual_seed(step_seed(self.recipe.seed, self.progress.step))"

STEP: dict[str, tuple[str, str, str, str]] = {
    # name: (recipe, function, old, new)
    "the schedule is asked for the next step": (
        "plain",
        f"{TRAINER}.update",
        "factor(self.progress.step,",
        "factor(self.progress.step + 1,",
    ),
    "the schedule is asked for a run that is one step shorter": (
        "plain",
        f"{TRAINER}.update",
        "self.recipe.train.steps)",
        "self.recipe.train.steps - 1)",
    ),
    "all groups have the rate of the matrices": (
        "muon",
        f"{TRAINER}.update",
        'group["base_lr"]',
        "self.recipe.optimizer.lr",
    ),
    "the gradient is clipped before it is unscaled": (
        "float16",
        f"{TRAINER}.gradient",
        "self.scaler.unscale_(self.optimizer)\n    norm = clip(self.model.parameters(), plan.clip or math.inf)",
        "norm = clip(self.model.parameters(), plan.clip or math.inf)\n    self.scaler.unscale_(self.optimizer)",
    ),
    "the gradient is never unscaled": (
        "float16",
        f"{TRAINER}.gradient",
        "self.scaler.unscale_(self.optimizer)",
        "pass",
    ),
    "the loss scale is never changed": (
        "float16",
        f"{TRAINER}.update",
        "self.scaler.update()",
        "self.scaler.update(self.scaler.get_scale())",
    ),
    "Muon steps where a float16 gradient overflowed": (
        "float16 muon",
        f"{MUON}.__init__",
        "_scaling = False",
        "_scaling = True",
    ),
    "a small gradient is scaled up to the limit": ("loose", "nanotx.trainer:clip", ".clamp(max=1.0)", ""),
    "nothing is clipped": ("plain", "nanotx.trainer:clip", "math.isfinite(limit)", "False"),
    "the norm is reported after clipping": (
        "plain",
        "nanotx.trainer:clip",
        "return norm",
        "return norm.clamp(max=limit)",
    ),
    "the norm is that of the largest gradient": (
        "plain",
        "nanotx.trainer:clip",
        "torch.linalg.vector_norm(torch.stack(",
        "torch.amax(torch.stack(",
    ),
    "dropout is that of the first step in every step": (
        "plain",
        f"{TRAINER}.gradient",
        "step_seed(self.recipe.seed, step)",
        "step_seed(self.recipe.seed, 0)",
    ),
    "dropout does not depend on the recipe's seed": (
        "plain",
        f"{TRAINER}.gradient",
        "step_seed(self.recipe.seed, step)",
        "step_seed(0, step)",
    ),
    "every micro-batch has the same dropout": (
        "plain",
        f"{TRAINER}.losses",
        "with self.machine.autocast():",
        f"{SEED}\n    with self.machine.autocast():",
    ),
    "the blocks are computed again with other dropout": (
        "recompute",
        "nanotx.model:Transformer.stream",
        "use_reentrant=False",
        "use_reentrant=False, preserve_rng_state=False",
    ),
    "the windows are those of the next step": ("plain", f"{TRAINER}.gradient", "batch(step,", "batch(step + 1,"),
    "micro-batches take every other row": (
        "plain",
        f"{TRAINER}.backward",
        "zip(x.chunk(parts), y.chunk(parts), strict=True)",
        "((x[part::parts], y[part::parts]) for part in range(parts))",
    ),
    "the last micro-batch is left out": (
        "plain",
        f"{TRAINER}.backward",
        "x.chunk(parts), y.chunk(parts), strict=True",
        "x.chunk(parts), y.chunk(parts)[:-1]",
    ),
    "the gradient is not divided by the number of micro-batches": (
        "plain",
        f"{TRAINER}.backward",
        "lowered / parts",
        "lowered",
    ),
    "the loss is not divided by the number of micro-batches": (
        "plain",
        f"{TRAINER}.backward",
        "cross / parts",
        "cross",
    ),
    "gradients are not set to zero after a step": (
        "plain",
        f"{TRAINER}.advance",
        "self.optimizer.zero_grad(set_to_none=True)",
        "pass",
    ),
    "penalties are left out": (
        "penalties",
        f"{TRAINER}.losses",
        "lowered + sum(module.penalty() for module in self.penalised)",
        "lowered",
    ),
    "the reported loss holds the penalties": (
        "penalties",
        f"{TRAINER}.losses",
        ", cross\n",
        ", cross + sum(module.penalty() for module in self.penalised)\n",
    ),
    "the z-loss is left out": ("plain", "nanotx.loss:loss", "(cross + z) / len(rows)", "cross / len(rows)"),
    "the reported loss holds the z-loss": (
        "plain",
        "nanotx.loss:loss",
        "cross.detach() / len",
        "(cross + z).detach() / len",
    ),
    "the head's gradient misses the loss's factor in chunks": (
        "chunks",
        "nanotx.loss_chunks:Chunked.backward",
        "(one * g for one in learned)",
        "learned",
    ),
    "norms and biases decay": ("plain", f"{ADAMW}.build", '"weight_decay": 0.0', '"weight_decay": self.weight_decay'),
    "nothing decays": ("plain", f"{ADAMW}.build", '"weight_decay": self.weight_decay', '"weight_decay": 0.0'),
    "the embedding does not decay": (
        "plain",
        f"{ADAMW}.build",
        "pair[1].ndim >= 2]",
        'pair[1].ndim >= 2 and "embedding" not in pair[0]]',
    ),
    "the betas are swapped": ("plain", f"{ADAMW}.build", "betas=self.betas", "betas=self.betas[::-1]"),
    "eps is the library's": ("plain", f"{ADAMW}.build", "eps=self.eps, ", ""),
    "a tied weight has two states": (
        "plain",
        f"{TRAINER}.__init__",
        "build(self.model.named_parameters())",
        "build(self.model.named_parameters(remove_duplicate=False))",
    ),
    "momentum does not look ahead": (
        "muon",
        f"{MUON}._orthogonal",
        "torch._foreach_lerp(gradients, averages, beta)",
        "averages",
    ),
    "a tall matrix takes the step of a wide one": (
        "muon",
        f"{MUON}._orthogonal",
        "math.sqrt(max(1.0, shape[-2] / shape[-1]))",
        "1.0",
    ),
    "a matrix decays by the full rate": ("muon", f"{MUON}._orthogonal", '1 - group["lr"] *', '1 - group["base_lr"] *'),
    "rows that are met have a square as young as the table": (
        "muon",
        f"{MUON}._rows",
        '(1 - second ** float(state["step"]))',
        "(1 - second)",
    ),
    "the tables never begin anew": (
        "muon",
        f"{TRAINER}.gradient",
        "module.pace(step, plan.steps)",
        "module.pace(0, plan.steps)",
    ),
    "the average's decay and its complement are swapped": (
        "plain",
        "nanotx.averaging:Averaged.take",
        "weights, 1 - decay",
        "weights, decay",
    ),
    "the average begins with the full decay": (
        "plain",
        "nanotx.averaging:Averaged.take",
        "min(self.decay, step / (step + 9))",
        "self.decay",
    ),
    "the average is one step late": ("plain", f"{TRAINER}.advance", "take(step + 1)", "take(step)"),
    "the average is taken before the step": (
        "plain",
        f"{TRAINER}.advance",
        "began, step = time.perf_counter(), self.progress.step\n",
        "began, step = time.perf_counter(), self.progress.step\n    self.averaged.take(step + 1)\n",
    ),
    "the mathematics stay float32": ("bfloat16", f"{TRAINER}.losses", "with self.machine.autocast():", "if True:"),
}
