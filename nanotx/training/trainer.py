"""The trainer: a model, its optimizer and its data, and the training step that updates them.

The windows of a step are a pure function of seed and step, and dropout of seed, step and row. So a run that resumes
from a checkpoint continues exactly as it would have without the interruption, and micro-batches drop what one batch
would.
"""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

import nanotx
from nanotx.config.plugin_errors import describe_part
from nanotx.config.schema import divisors
from nanotx.data.batches import Windows, step_seed
from nanotx.data.documents import PackedWindows
from nanotx.distributed import Alone, Ranks, Sum
from nanotx.errors import ConfigError, Diverged, MemoryFull, RankLost, RunError, is_memory_full
from nanotx.hardware.device import Machine
from nanotx.nn.buffers import Buffers
from nanotx.nn.canonical import to_canonical
from nanotx.nn.dropout import named_dropouts, row_seeded
from nanotx.nn.empty import moved
from nanotx.nn.hooks import AuxLossModule, OnStepModule
from nanotx.nn.loss import Head, LossModule
from nanotx.nn.loss.cross_entropy import CrossEntropy
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Transformer
from nanotx.optim.state import StateCodec, Table
from nanotx.recipe import Recipe
from nanotx.training.compile import compile_blocks
from nanotx.training.ema import EMA
from nanotx.training.freezing import freeze
from nanotx.training.nonfinite import finite, listed, report

if TYPE_CHECKING:
    from nanotx.distributed.slices import Slices


class SavedState(NamedTuple):
    """What a checkpoint holds of a trainer, by name, in the canonical layout."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]  # the tensors of its state, by `<parameter>/<key>`
    table: Table  # all else of its state, as JSON can hold it
    averages: dict[str, Tensor]  # of the weights; empty where the run averages none


Row = dict[str, Any]
"""A line of metrics.jsonl: what happened (`event`), at which `step`, and its numbers."""

SKIPS = 10
"""The run has diverged after this many consecutive non-finite steps."""

SPIKE = 5.0
"""A gradient whose norm exceeds the usual one by this factor is reported."""


@dataclass(kw_only=True)
class Progress:
    """Progress of a run: the numbers that a checkpoint stores next to the tensors."""

    step: int = 0  # steps done
    train_seconds: float = 0.0  # spent on steps
    earlier_seconds: float = 0.0  # wall-clock seconds of the processes before this one
    scores: Row = field(default_factory=dict)  # the last evaluation
    best: Row = field(default_factory=dict)  # the one with the lowest validation loss
    eval_pending: bool = False  # whether this step's evaluation and sample are still to come
    usual_norm: float = 0.0  # of the gradient, over some fifty steps
    skipped: int = 0  # steps that were not taken, because their loss or gradient was not finite
    skipped_in_row: int = 0  # consecutive steps skipped up to now

    @property
    def wall_seconds(self) -> float:
        """Seconds since the start of the run, over all its processes."""
        return self.earlier_seconds + time.perf_counter() - nanotx.started

    def spike(self, norm: float) -> str:
        """Update the running norm of the gradient; return a warning if this one is a spike, else ""."""
        if not math.isfinite(norm):  # expected now and then in float16; the loss scaler skips such steps
            return ""
        usual, self.usual_norm = self.usual_norm, 0.98 * (self.usual_norm or norm) + 0.02 * norm
        if self.step < 20 or norm <= SPIKE * usual:
            return ""
        return f"step {self.step}: the gradient's norm is {norm:.3g}, and usually {usual:.3g}."


class Trainer:
    """The training state, and the step that updates it."""

    def __init__(
        self,
        recipe: Recipe,
        model: Transformer,
        windows: Windows | PackedWindows,
        machine: Machine,
        in_slices: bool = False,
    ) -> None:
        """Prepare the first step.

        Args:
            recipe: of the run.
            model: with all its weights.
            windows: of the training text.
            machine: that computes.
            in_slices: the model stays in the memory of the CPU, until `join` takes slices of it to the machine.
        """
        self.recipe, self.machine = recipe, machine
        self.ranks: Ranks = Alone()  # the processes that train together
        self.slices: Slices | None = None  # of the model, where it is divided among them
        self.windows = replace(windows, device=machine.device)
        model.add_loss(recipe.loss, recipe.seeds.weights)
        if windows.masked:
            check_masked(recipe, model.loss)
        self.model = moved(model, torch.device("cpu") if in_slices else machine.device).train()
        freeze(self.model, recipe.freeze)
        self.buffers = Buffers(self.model)
        self.has_aux_losses = any(isinstance(module, AuxLossModule) for module in self.model.modules())
        self.has_other_loss = recipe.loss != CrossEntropy() or self.has_aux_losses
        self.on_step_modules = [module for module in self.model.modules() if isinstance(module, OnStepModule)]
        self.dropouts = named_dropouts(self.model)
        self.optimizer = recipe.optimizer.build_grouped(
            (name, param) for name, param in self.model.named_parameters() if param.requires_grad
        )
        self.state_codec = StateCodec(self.optimizer, dict(self.model.named_parameters()), self.model)
        self.scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.dtype is torch.float16)
        self.progress = Progress()
        self.consistent = True  # False while an update is half applied
        self.restored_from = ""  # the file that the optimizer's state is from, until it has taken a step with it
        self.detect = False  # whether the operation is named that makes a number which is not finite
        self.model.embedding.sparse = recipe.optimizer.takes_sparse
        self.model.activation_checkpointing = recipe.train.activation_checkpointing
        self.ema: EMA | None = None
        if recipe.train.ema_decay:
            self.ema = EMA(dict(self.model.named_parameters()), recipe.train.ema_decay)
        if recipe.compile is True:
            compile_blocks(self.model)

    def rows(self) -> Iterator[Row]:
        """Take the steps that are left; yield the row of each, as `train_step` returns it.

        The gradients of a step are there until the next row is asked for.
        """
        while self.progress.step < self.recipe.train.steps:
            yield self.train_step(keep_gradients=True)
            self.release_gradients()

    def train_step(self, keep_gradients: bool = False) -> Row:
        """Take one optimizer step and return its row; `warning` holds a message for the user, if any, `kind` its kind.

        Args:
            keep_gradients: keep the gradients until `release_gradients`, for callbacks that read them.

        Raises:
            Diverged: a number is no longer finite; the weights are still those before the step.
            ConfigError: the schedule's factor is not finite; likewise.
        """
        with self.ranks.step([*self.model.parameters()]):
            return self.take_step(keep_gradients)

    def take_step(self, keep_gradients: bool) -> Row:
        """Take a step as `train_step` does, which all ranks take together."""
        began, step, notes = time.perf_counter(), self.progress.step, list[str]()
        self.factor()  # raises here, before anything has changed
        with self.buffers.undone_on_error() as undo:
            numbers = self.compute_gradients()
            loss, norm = numbers["loss"], numbers["grad_norm"]
            taken = math.isfinite(loss + (0.0 if self.scaler.is_enabled() else norm))
            if not taken:
                undo()
                warning, lr = self.handle_nonfinite(loss, norm), 0.0  # computes the gradients once more
                undo()
        if not taken:
            self.progress.skipped += 1
            self.progress.skipped_in_row += 1
        else:
            self.consistent = False
            self.progress.skipped_in_row = 0
            with self.memory_checked():
                notes = [module.step_note(step, self.recipe.train.steps) for module in self.on_step_modules]
                warning = " ".join(filter(None, [*notes, self.progress.spike(norm)]))
                lr = self.optimizer_step()
        if not keep_gradients:
            self.release_gradients()
        seconds = time.perf_counter() - began
        if self.ema:
            self.ema.update(step + 1)
        self.progress.step += 1
        self.consistent = True
        self.progress.train_seconds += seconds
        speed = self.recipe.train.batch_size * self.model.context / seconds
        numbers |= {"lr": lr, "tokens_per_second": speed}
        extra = {"warning": warning, "kind": "reset" if any(notes) else ""}
        return {"event": "step", "step": step + 1, **numbers} | {key: text for key, text in extra.items() if text}

    def release_gradients(self) -> None:
        """Free the memory of the gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.slices is not None:
            self.slices.clear_gradients()

    def compute_gradients(self) -> dict[str, float]:
        """Compute the clipped gradients of this step; return its losses and the gradient's norm before clipping.

        All randomness comes from seed, step and row, so a second call gives the same gradients.
        """
        step, plan = self.progress.step, self.recipe.train
        for module in self.on_step_modules:
            module.on_step(step, plan.steps)
        with self.memory_checked():
            own = self.own_rows()
            documents = self.windows.documents(step, plan.batch_size, own)
            losses = self.backward(*self.windows.batch(step, plan.batch_size, own), documents)
            self.scaler.unscale_(self.optimizer)
            norm = clip(self.model.parameters(), plan.grad_clip or math.inf, self.ranks)
        numbers = losses | {"grad_norm": norm}
        values = torch.stack([*numbers.values()]).tolist()  # the only GPU synchronisation in a step
        return dict(zip(numbers, values, strict=True))

    @contextmanager
    def memory_checked(self) -> Iterator[None]:
        """Context that turns an out-of-memory error into MemoryFull with a remedy, and frees what the step allocated.

        Raises:
            MemoryFull: memory is full.
        """
        full = False
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_memory_full(error):
                raise
            full = True
        if full:  # here the error, which holds tensors of the step, is gone
            self.release_gradients()
            raise MemoryFull(f"step {self.progress.step}: memory is full with {self.less_memory()}.")

    def less_memory(self) -> str:
        """Return how many windows are in memory at a time, and flags that need less memory, valid for this recipe."""
        plan = self.recipe.train
        held = plan.batch_size // plan.num_micro_batches
        fewer = max((count for count in divisors(plan.batch_size) if count <= held / 2), default=0)
        more = (
            f"grad-accum-steps {plan.batch_size // fewer}"
            if fewer and plan.grad_accum_steps > 1
            else f"micro-batch-size {fewer}" + (" (or auto)" if not plan.micro_batch_size else "")
        )
        aux = " and the auxiliary loss, which is a mean over micro-batches" if self.has_aux_losses else ""
        parts = f"take fewer with --train.{more}, which changes only rounding{aux}; or " if fewer else ""
        others = "a smaller --model.context" if plan.activation_checkpointing else "--train.activation-checkpointing"
        return f"{held} window{'s' * (held > 1)} at a time; {parts}try {others}"

    def handle_nonfinite(self, loss: float, grad_norm: float) -> str:
        """Return the warning for a step that was skipped because its loss or gradient is not finite.

        Raises:
            Diverged: `on_nonfinite` is "raise", or too many consecutive steps were skipped.
        """

        def again() -> None:
            self.scaler.update()  # GradScaler allows one `unscale_` per `update`
            self.compute_gradients()

        step, plan = self.progress.step, self.recipe.train
        alone = " Rank 0 looked at its own micro-batches alone." if self.ranks.size > 1 else ""
        starts = listed(self.windows.starts(step, plan.batch_size).tolist())
        message = (
            f"step {step}: the loss is {loss:g} and the gradient's norm {grad_norm:g}; the step was not taken. "
            f"{report(self.model, again, detect=self.detect)}{alone} "
            f"Its windows of {self.model.context} tokens begin at token {starts} of the training text."
        )
        if plan.on_nonfinite == "skip":
            in_row = self.progress.skipped_in_row + 1
            if in_row < SKIPS and all(map(finite, self.model.parameters())):
                self.scaler.update()
                return message
            raise Diverged(
                f"{message} Steps skipped in a row: {in_row}, and in all: {self.progress.skipped + 1}. "
                f"Try a lower --optimizer.lr than {self.recipe.optimizer.lr:g}."
            )
        raise Diverged(
            f"{message} Try a lower --optimizer.lr than {self.recipe.optimizer.lr:g}, "
            "or --train.on-nonfinite skip, which continues without such steps."
        )

    def factor(self) -> float:
        """Return the schedule's factor on the learning rate in this step.

        Raises:
            ConfigError: it is not finite; it would make every weight NaN.
        """
        schedule, steps = self.recipe.schedule, self.recipe.train.steps
        factor = schedule.factor(self.progress.step, steps)
        if not math.isfinite(factor):
            raise ConfigError(
                f"{describe_part(type(schedule))}: factor({self.progress.step}, {steps}) returned {factor!r}; "
                "expected a "
                "finite number, so the step was not taken."
            )
        return factor

    def optimizer_step(self) -> float:
        """Apply the gradients with the scheduled learning rate, and return that rate.

        Raises:
            RunError: the optimizer cannot step with the state that was restored.
        """
        factor = self.factor()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        try:
            self.ranks.update(lambda: self.scaler.step(self.optimizer))
        except Exception as error:  # of any optimizer, which may be the user's own
            if not self.restored_from or is_memory_full(error) or isinstance(error, RankLost):
                raise
            raise RunError(
                f"{self.restored_from}: the optimizer cannot step with what is saved there: {error!r}."
            ) from error
        self.restored_from = ""
        self.scaler.update()
        return float(self.recipe.optimizer.lr * factor)

    def own_rows(self) -> range:
        """Return the rows of a step's batch that this process computes: all of them, unless several train together."""
        plan = self.recipe.train
        share, size = self.ranks.share(plan.num_micro_batches), plan.batch_size // plan.num_micro_batches
        return range(share.start * size, share.stop * size)

    def backward(self, x: Tokens, y: Tokens, documents: Tokens | None = None) -> dict[str, Tensor]:
        """Compute the gradient of the mean loss over a step's windows; return its losses.

        The mean is over the targets that count, those of all micro-batches, which are summed in the order of
        `distributed/tree.py`: it does not depend on the number of ranks.

        Args:
            x: inputs of `own_rows`.
            y: the next token of each; IGNORE where it does not count.
            documents: the number of each input's document, where they are kept apart.
        """
        parts, params, own = self.recipe.train.num_micro_batches, [*self.model.parameters()], self.own_rows()
        size, count = self.recipe.train.batch_size // parts, self.mean_count()

        def micro_batch(number: int) -> Sum:
            first = number * size
            rows, place = range(first, first + size), slice(first - own.start, first - own.start + size)
            with self.row_randomness(rows):
                apart = None if documents is None else documents[place]
                total, losses = self.forward_loss(x[place], y[place], apart, count)
                self.scaler.scale(total / parts).backward()
            return Sum(taken(params), {name: loss / parts for name, loss in losses.items()})

        total = self.ranks.sum(micro_batch, parts, params)
        for param, gradient in zip(params, total.gradients, strict=True):
            param.grad = gradient
        return total.losses

    def mean_count(self) -> float | None:
        """Return what the sums of a micro-batch are divided by; None where all targets count.

        It is the mean number of targets of this step's micro-batches, and the same for each of them, so that the sum of
        their quotients, divided by their number, is the mean over all targets that count.
        """
        plan = self.recipe.train
        count = self.windows.learned(self.progress.step, plan.batch_size)
        return None if count is None else max(1, count) / plan.num_micro_batches

    @contextmanager
    def row_randomness(self, rows: range) -> Iterator[None]:
        """Context in which dropout is a function of seed, step and row, for these rows of the step's batch.

        What draws from PyTorch's own generator is a function of seed, step and the first of the rows.
        """
        seed = step_seed(self.recipe.seeds.dropout, self.progress.step)
        torch.manual_seed(seed + rows.start)
        with row_seeded(self.dropouts, seed, rows, self.machine.device):
            yield

    def forward_loss(
        self, x: Tokens, y: Tokens, documents: Tokens | None = None, count: float | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss that a micro-batch lowers, and the losses that its row reports.

        The row reports as `loss` the cross-entropy of the next token, which `nn/loss/chunked_loss.py` computes. If
        training minimises something else, that is `total_loss`, and `aux_loss` is the sum of the auxiliary losses, each
        of which is reported under the name of its module.

        Args:
            x: the inputs.
            y: the next token of each; IGNORE where it does not count.
            documents: the number of each input's document, where they are kept apart.
            count: what sums are divided by; see `Head`.
        """
        model = self.model
        assert model.loss is not None
        with self.machine.autocast(), model.one_pass():
            stream = model.hidden_states(x, None, documents)
            head = Head(model.logits, [*model.head.parameters()], self.recipe.train.loss_chunk_size, count)
            total, cross_entropy = model.loss(head, stream, y)
        aux = {f"aux_loss/{name}": loss for name, loss in model.aux_losses().items()} if self.has_aux_losses else {}
        total = total + sum(aux.values())
        if not self.has_other_loss:
            return total, {"loss": cross_entropy}
        reported = {name: loss.detach().float() for name, loss in aux.items()}
        losses = {"loss": cross_entropy, "total_loss": total.detach()}
        return total, losses | ({"aux_loss": torch.stack([*reported.values()]).sum()} if aux else {}) | reported

    def use_eval_weights(self) -> AbstractContextManager[None]:
        """Return a context in which the model has the weights to evaluate and sample: the EMA, if there is one."""
        return self.ema.applied() if self.ema else nullcontext()

    # What a checkpoint keeps, by name, in the canonical layout.

    def weights(self) -> dict[str, Tensor]:
        """Return the model's weights; tied ones once."""
        return to_canonical(self.model, {name: param.detach() for name, param in self.model.named_parameters()})

    def eval_weights(self) -> dict[str, Tensor]:
        """Return the weights to evaluate and sample."""
        return to_canonical(self.model, dict(self.ema.averages)) if self.ema else self.weights()

    def optimizer_state(self) -> tuple[dict[str, Tensor], Table]:
        """Return the optimizer's state: tensors by `<parameter>/<key>`, and all else as JSON can hold it.

        Raises:
            ConfigError: some of it cannot be saved; names the parameter and the key.
        """
        saved = self.saved_state()
        return saved.optimizer, saved.table

    def saved_state(self) -> SavedState:
        """Return the state for a checkpoint, in the canonical layout.

        Of a model in slices rank 0, which alone calls it, collects them in the memory of the CPU.

        Raises:
            ConfigError: some of the optimizer's state cannot be saved; names the parameter and the key.
        """
        if self.slices is None:
            with self.ranks.whole_state():
                return SavedState(self.weights(), *self.state_codec.save(), self.eval_weights() if self.ema else {})
        from nanotx.training import slicing  # FSDP2, which it needs, takes seconds to import

        return slicing.saved_state(self, self.slices)

    @contextmanager
    def eval_model(self) -> Iterator[Transformer]:
        """Context with a model that has the weights to evaluate and sample; rank 0 alone enters it.

        Of a model in slices it is a whole copy, where the device has memory for one; otherwise the model itself, which
        all ranks gather block by block each time that it is called.
        """
        if self.slices is None:
            with self.use_eval_weights():
                yield self.model
            return
        from nanotx.training import slicing

        with slicing.eval_model(self, self.slices) as model:
            yield model

    def become_whole(self) -> None:
        """Train no more, and have a whole model of its own, where the one that was trained is in slices.

        It is in the memory of the CPU, where the device has none for it.
        """
        if self.slices is None:
            return
        from nanotx.training import slicing

        self.model, self.ema = slicing.final_model(self, self.slices)
        self.buffers, self.slices = Buffers(self.model), None

    def join(self, ranks: Ranks) -> None:
        """Train together with other processes, which are in the same state.

        Where the weights of the model have no memory, this process gets slices of any contents: set them, and call
        `slicing.load_slices`.
        """
        named = {name: param for name, param in self.model.named_parameters() if param.requires_grad}
        costs = {name: self.recipe.optimizer.step_cost(name, param) for name, param in named.items()}
        if ranks.parallel == "fsdp" and ranks.size > 1:
            from nanotx.training import slicing

            del named  # what is sliced is given up, block by block
            slicing.take_slices(self, ranks, costs)
        else:
            ranks.divide(self.optimizer, {param: costs[name] for name, param in named.items()})
        self.ranks = ranks


def taken(params: Iterable[nn.Parameter]) -> list[Tensor | None]:
    """Return the gradients of parameters, which no longer have them."""
    gradients: list[Tensor | None] = []
    for param in params:
        gradients.append(param.grad)
        param.grad = None
    return gradients


def check_masked(recipe: Recipe, loss: LossModule | None) -> None:
    """Raise ConfigError if the loss cannot leave targets out, or a part cannot keep documents apart."""
    if loss is not None and type(loss).forward is not LossModule.forward:
        raise ConfigError(
            f"loss {recipe.loss.part}: corpus {recipe.corpus.part} leaves some tokens out of the loss, and this one "
            "reads several tokens at a time; try --loss cross_entropy."
        )
    if recipe.corpus.keeps_apart:
        recipe.model.check_documents()


def check_rows(model: Transformer) -> None:
    """Raise ConfigError if the weights of a model cannot be divided by rows among processes."""
    if modules := [name for name, module in model.named_modules() if isinstance(module, OnStepModule)]:
        raise ConfigError(
            f"--parallel fsdp: {listed(modules)} changes its own weights between steps, and no process has all of "
            "them; try --parallel owner."
        )
    if scalars := [name for name, param in model.named_parameters() if not param.ndim]:
        raise ConfigError(f"--parallel fsdp: {listed(scalars)} has no rows to divide; try --parallel owner.")


def clip(parameters: Iterable[nn.Parameter], limit: float, ranks: Ranks | None = None) -> Tensor:
    """Scale the gradients so that their norm is at most `limit`; return the norm before.

    Args:
        parameters: whose gradients are meant.
        limit: infinite for no limit.
        ranks: the processes that train together, where gradients may be in slices.
    """
    ranks = ranks or Alone()
    values = []
    for param in parameters:
        if param.grad is not None:
            param.grad = param.grad.coalesce() if param.grad.is_sparse else param.grad
            values.append(param.grad.values() if param.grad.is_sparse else ranks.own(param.grad))
    norm = ranks.norm(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(values))))
    if math.isfinite(limit):
        torch._foreach_mul_(values, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm
