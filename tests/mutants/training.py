"""Bugs of a training step, a line of the code each, and a recipe whose steps differ by it from those written out.

They are planted by `mutated`: in the function, `old` is replaced by `new`. Those of `RUN` are seen by a check of what a
run reports, in test_figures.py.
"""

CATCHES: dict[str, str] = {}
"""None of them is a part."""

TRAINER, ADAMW, MUON = "nanotx.training.trainer:Trainer", "nanotx.optim.adamw:AdamW", "nanotx.optim.muon:MuonOptimizer"

STEP: dict[str, tuple[str, str, str, str]] = {
    # name: (recipe, function, old, new)
    "the schedule is asked for the next step": (
        "plain",
        f"{TRAINER}.factor",
        "factor(self.progress.step,",
        "factor(self.progress.step + 1,",
    ),
    "the schedule is asked for a run that is one step shorter": (
        "plain",
        f"{TRAINER}.factor",
        "self.recipe.train.steps",
        "self.recipe.train.steps - 1",
    ),
    "all groups have the rate of the matrices": (
        "muon",
        f"{TRAINER}.optimizer_step",
        'group["base_lr"]',
        "self.recipe.optimizer.lr",
    ),
    "the gradient is clipped before it is unscaled": (
        "float16",
        f"{TRAINER}.compute_gradients",
        "self.scaler.unscale_(self.optimizer)",
        "clip(self.model.parameters(), plan.grad_clip or math.inf); self.scaler.unscale_(self.optimizer)",
    ),
    "the gradient is never unscaled": (
        "float16",
        f"{TRAINER}.compute_gradients",
        "self.scaler.unscale_(self.optimizer)",
        "pass",
    ),
    "the loss scale is never changed": (
        "float16",
        f"{TRAINER}.optimizer_step",
        "self.scaler.update()",
        "self.scaler.update(self.scaler.get_scale())",
    ),
    "Muon steps where a float16 gradient overflowed": (
        "float16 muon",
        f"{MUON}.__init__",
        "_scaling = False",
        "_scaling = True",
    ),
    "a small gradient is scaled up to the limit": ("loose", "nanotx.training.trainer:clip", ".clamp(max=1.0)", ""),
    "nothing is clipped": ("plain", "nanotx.training.trainer:clip", "math.isfinite(limit)", "False"),
    "the norm is reported after clipping": (
        "plain",
        "nanotx.training.trainer:clip",
        "return norm",
        "return norm.clamp(max=limit)",
    ),
    "the norm is that of the largest gradient": (
        "plain",
        "nanotx.training.trainer:clip",
        "torch.linalg.vector_norm(torch.stack(",
        "torch.amax(torch.stack(",
    ),
    "dropout is that of the first step in every step": (
        "plain",
        f"{TRAINER}.row_randomness",
        "step_seed(self.recipe.seeds.dropout, self.progress.step)",
        "step_seed(self.recipe.seeds.dropout, 0)",
    ),
    "dropout does not depend on the recipe's seed": (
        "plain",
        f"{TRAINER}.row_randomness",
        "step_seed(self.recipe.seeds.dropout, self.progress.step)",
        "step_seed(0, self.progress.step)",
    ),
    "every micro-batch has the same dropout": (
        "plain",
        f"{TRAINER}.row_randomness",
        "seed, rows, self",
        "seed, range(len(rows)), self",
    ),
    "the blocks are computed again with other dropout": (
        "activation_checkpointing",
        f"{TRAINER}.backward",
        "        self.scaler.scale(total / parts).backward()",
        "    self.scaler.scale(total / parts).backward()",
    ),
    "every step has the same seed for PyTorch's generator": (
        "library dropout",
        f"{TRAINER}.row_randomness",
        "torch.manual_seed(seed + rows.start)",
        "torch.manual_seed(rows.start)",
    ),
    "every micro-batch has the same seed for PyTorch's generator": (
        "library dropout",
        f"{TRAINER}.row_randomness",
        "torch.manual_seed(seed + rows.start)",
        "torch.manual_seed(seed)",
    ),
    "the windows are those of the next step": (
        "plain",
        f"{TRAINER}.compute_gradients",
        "batch(step,",
        "batch(step + 1,",
    ),
    "micro-batches take every other row": (
        "plain",
        f"{TRAINER}.backward",
        "self.forward_loss(x[place], y[place], apart, count)",
        "self.forward_loss(x[number::parts], y[number::parts], apart, count)",
    ),
    "the last micro-batch is left out": (
        "plain",
        "nanotx.distributed.ranks:Alone.sum",
        "tree_sum(range(count),",
        "tree_sum(range(count)[:-1],",
    ),
    "the gradient is not divided by the number of micro-batches": (
        "plain",
        f"{TRAINER}.backward",
        "total / parts",
        "total",
    ),
    "the loss is not divided by the number of micro-batches": ("plain", f"{TRAINER}.backward", "loss / parts", "loss"),
    "gradients are not set to zero after a step": (
        "plain",
        f"{TRAINER}.release_gradients",
        "self.optimizer.zero_grad(set_to_none=True)",
        "pass",
    ),
    "penalties are left out": ("penalties", f"{TRAINER}.forward_loss", "total + sum(aux.values())", "total"),
    "the reported loss holds the penalties": (
        "penalties",
        f"{TRAINER}.forward_loss",
        'losses = {"loss": cross_entropy,',
        'losses = {"loss": cross_entropy + sum(aux.values()),',
    ),
    "the total that is reported leaves out the penalties": (
        "penalties",
        f"{TRAINER}.forward_loss",
        '"total_loss": total.detach()}',
        '"total_loss": (total - sum(aux.values())).detach()}',
    ),
    "the penalties that are reported are those of the last layer": (
        "penalties",
        f"{TRAINER}.forward_loss",
        "torch.stack([*reported.values()]).sum()",
        "torch.stack([*reported.values()])[-1]",
    ),
    "the z-loss is left out": (
        "plain",
        "nanotx.nn.loss.cross_entropy:CrossEntropyLoss.objective",
        "cross_entropy + z_loss(logits, self.config.z_loss)",
        "cross_entropy",
    ),
    "the reported loss holds the z-loss": (
        "plain",
        "nanotx.nn.loss.chunked_loss:Head.mean",
        "cross.detach() / count\n    learned",
        "total.detach() / count\n    learned",
    ),
    "the head's gradient misses the loss's factor in chunks": (
        "chunks",
        "nanotx.nn.loss.chunked_loss:Chunked.backward",
        "(weight * g for weight in learned)",
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
        "for name, param in self.model.named_parameters() if param.requires_grad",
        "for name, param in self.model.named_parameters(remove_duplicate=False) if param.requires_grad",
    ),
    "the last group that matches decides": (
        "groups",
        "nanotx.config.patterns:first_match",
        "rule_of |= dict.fromkeys(fresh, index)",
        "rule_of |= dict.fromkeys(matched, index)",
    ),
    "a group's decay is added to the optimizer's": (
        "groups",
        "nanotx.optim.groups:changed",
        '{"weight_decay": by.weight_decay}',
        '{"weight_decay": group["weight_decay"] + by.weight_decay}',
    ),
    "a group's rate is that of the others": (
        "groups",
        "nanotx.optim.groups:changed",
        'group["base_lr"] * by.lr_scale',
        'group["base_lr"]',
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
        "math.sqrt(max(1.0, rows / columns))",
        "1.0",
    ),
    "a matrix decays by the full rate": ("muon", f"{MUON}._orthogonal", '1 - group["lr"] *', '1 - group["base_lr"] *'),
    "rows that are met have a square as young as the table": (
        "muon",
        f"{MUON}._rows",
        '(1 - second ** float(state["step"]))',
        "(1 - second)",
    ),
    "the tables are never reset": (
        "muon",
        f"{TRAINER}.compute_gradients",
        "module.on_step(step, plan.steps)",
        "module.on_step(0, plan.steps)",
    ),
    "the average's decay and its complement are swapped": (
        "plain",
        "nanotx.training.ema:EMA.update",
        "weights, 1 - decay",
        "weights, decay",
    ),
    "the average begins with the full decay": (
        "plain",
        "nanotx.training.ema:EMA.update",
        "min(self.decay, step / (step + 9))",
        "self.decay",
    ),
    "the average is one step late": ("plain", f"{TRAINER}.take_step", "update(step + 1)", "update(step)"),
    "the average is taken before the step": (
        "plain",
        f"{TRAINER}.take_step",
        "began, step, notes = time.perf_counter(), self.progress.step, list[str]()",
        "began, step, notes = time.perf_counter(), self.progress.step, list[str](); self.ema.update(step + 1)",
    ),
    "the mathematics stay float32": (
        "bfloat16",
        f"{TRAINER}.forward_loss",
        "with self.machine.autocast(), model.one_pass():",
        "with model.one_pass():",
    ),
}

EVALUATE, SUMMARY, PROGRESS = (
    "nanotx.evaluation.loss",
    "nanotx.runs.summary:summarize",
    "nanotx.training.trainer:Progress",
)
BEST = 'if validation.loss < best.get("val_loss", math.inf):\n        progress.best = {'
LAST_EVAL = '"wall_seconds": progress.wall_seconds,'

RUN: dict[str, tuple[str, str, str, str]] = {
    # name: (check, function, old, new)
    "the schedule is asked for the next step": (
        "rates",
        f"{TRAINER}.factor",
        "factor(self.progress.step,",
        "factor(self.progress.step + 1,",
    ),
    "a row has the rate of the step after it": (
        "rates",
        f"{TRAINER}.optimizer_step",
        "optimizer.lr * factor",
        "optimizer.lr",
    ),
    "the best step is that of the lowest training loss": (
        "best",
        "nanotx.training.callbacks.evaluation:evaluation",
        BEST,
        'if training.loss < best.get("train_loss", math.inf):\n        progress.best = {"train_loss": training.loss, ',
    ),
    "the best step is the first": (
        "best",
        "nanotx.training.callbacks.evaluation:evaluation",
        BEST,
        "if not progress.best:\n        progress.best = {",
    ),
    "the best step is the last": (
        "best",
        "nanotx.training.callbacks.evaluation:evaluation",
        BEST,
        "if True:\n        progress.best = {",
    ),
    "the best step is that of the highest loss": (
        "best",
        "nanotx.training.callbacks.evaluation:evaluation",
        BEST,
        BEST.replace("<", ">").replace("math.inf", "0"),
    ),
    "the checkpoint of the best step is not kept": (
        "best",
        "nanotx.runs.checkpoint:prune",
        'f"step-{best}"',
        'f"step-{newest}"',
    ),
    "the weights are scored and not their average": (
        "losses",
        "nanotx.training.callbacks.evaluation:shared_scores",
        "with trainer.use_eval_weights():",
        "if True:",
    ),
    "the texts are swapped": (
        "losses",
        "nanotx.training.callbacks.evaluation:evaluation",
        'scores.get("train"), scores["val"]',
        'scores.get("val"), scores["train"]',
    ),
    "dropout is on while a text is scored": ("losses", f"{EVALUATE}:batch_losses", "model.eval()", "model.train()"),
    "the last tokens of a text are not scored": (
        "losses",
        f"{EVALUATE}:EvalText.batches",
        "if rest := len(self.ids) % context:",
        "if rest := 0:",
    ),
    "the loss is a mean over windows": (
        "losses",
        f"{EVALUATE}:evaluate",
        "/ eval_text.tokens",
        "/ (spread.windows * model.context)",
    ),
    "bits are nats": ("losses", f"{EVALUATE}:bits_per_byte", "loss / math.log(2)", "loss"),
    "bits are of a token": ("losses", f"{EVALUATE}:bits_per_byte", "* tokens / size", ""),
    "bytes are characters": (
        "losses",
        "nanotx.evaluation.texts:eval_text",
        "size=known_bytes(codec, ids, data)",
        "size=len(text)",
    ),
    "perplexity is a power of two": ("losses", f"{EVALUATE}:Score.perplexity", "math.exp(", "math.exp2("),
    "perplexity is that of the training text": (
        "losses",
        "nanotx.training.callbacks.evaluation:evaluation",
        "validation.perplexity",
        "training.perplexity",
    ),
    "the standard error is that of a window": ("losses", f"{EVALUATE}:Spread.stderr", ") / self.tokens", ")"),
    "a complete run is called incomplete": (
        "counts",
        SUMMARY,
        "progress.step >= recipe.train.steps and not progress.eval_pending",
        "progress.step > recipe.train.steps",
    ),
    "what is loaded is not the average": (
        "loaded",
        "nanotx.runs.load:read_loaded",
        "if recipe.train.ema_decay else",
        "if False else",
    ),
    "tokens are those of a micro-batch": (
        "counts",
        SUMMARY,
        "progress.step * recipe.train.batch_size",
        "progress.step * recipe.train.batch_size // recipe.train.num_micro_batches",
    ),
    "tokens are windows": (
        "counts",
        SUMMARY,
        "recipe.train.batch_size * recipe.model.context",
        "recipe.train.batch_size",
    ),
    "a tied weight counts twice": (
        "counts",
        "nanotx.nn.transformer:Transformer.parameter_count",
        "for parameter in self.parameters())",
        "for _, parameter in self.named_parameters(remove_duplicate=False))",
    ),
    "operations are those of the forward pass": (
        "counts",
        "nanotx.nn.transformer:Transformer.flops_per_token",
        "6 * maps",
        "2 * maps",
    ),
    "the share of the peak is of one thread less": (
        "counts",
        SUMMARY,
        "flops_per_token / peak",
        "flops_per_token / (2 * peak)",
    ),
    "a row's tokens a second are windows": (
        "clocks",
        f"{TRAINER}.take_step",
        "self.recipe.train.batch_size * self.model.context",
        "self.recipe.train.batch_size",
    ),
    "seconds of training are those of the last step": (
        "clocks",
        f"{TRAINER}.take_step",
        "train_seconds += seconds",
        "train_seconds = seconds",
    ),
    "the clock of the run starts with its first step": (
        "clocks",
        f"{PROGRESS}.wall_seconds",
        "self.earlier_seconds + time.perf_counter() - nanotx.started",
        "self.train_seconds",
    ),
    "the digest is that of the training text": (
        "names",
        "nanotx.training.dataset:sha256",
        "for text in texts:",
        "for text in texts[:1]:",
    ),
}

RESUMED: dict[str, tuple[str, str, str, str]] = {
    "seconds of training before a stop are lost": (
        "clocks",
        "nanotx.runs.resume:restore",
        'Progress(**state["progress"])',
        'Progress(**state["progress"] | {"train_seconds": 0.0})',
    ),
    "seconds before a stop are lost": (
        "clocks",
        "nanotx.runs.resume:restore",
        'Progress(**state["progress"])',
        'Progress(**state["progress"] | {"earlier_seconds": 0.0})',
    ),
    "the best step before a stop is forgotten": (
        "best",
        "nanotx.runs.resume:restore",
        'Progress(**state["progress"])',
        'Progress(**state["progress"] | {"best": {}})',
    ),
    "a resumed run reads the text from its beginning": (
        "steps",
        f"{TRAINER}.compute_gradients",
        "self.windows.batch(step,",
        "self.windows.batch(step % 5,",
    ),
    "a resumed average is the weights": (
        "steps",
        "nanotx.runs.resume:restore",
        'path / "ema.safetensors"',
        'path / "model.safetensors"',
    ),
    "a resumed optimizer has no averages": (
        "steps",
        "nanotx.optim.state:StateCodec.put",
        '{"state": indexed | saved.shared,',
        '{"state": {},',
    ),
}
