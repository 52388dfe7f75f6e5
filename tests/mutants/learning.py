"""Schedules, optimizers, orders of the data and configs that are wrong; and for each the law that is to catch it.

Schedules and optimizers are parts like any other, imported by `--load`:

    nanotx laws schedule/mutant_last_step --load tests/mutants/learning.py
"""

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from nanotx.data.batches import Windows, mix, permute
from nanotx.errors import ConfigError
from nanotx.laws.cases.training import Data
from nanotx.optim import Optimizer
from nanotx.optim.matrices import MatrixOptimizer
from nanotx.optim.schedules import Schedule

CATCHES: dict[str, str] = {}
"""For each mutant the law that catches it, and that all before it let pass."""

DATA: dict[str, type] = {}
"""The mutants that fill no slot."""


# Schedules.


def schedule(name, law):
    """Registers a schedule."""

    def enter(config):
        CATCHES[f"schedule/mutant_{name}"] = law
        return Schedule.register(f"mutant_{name}")(dataclass(frozen=True, kw_only=True)(config))

    return enter


@schedule("cooldown", "finite_factor")
class Cooldown(Schedule):
    """Falls in a line after the warm-up, and divides by what is left where nothing is left."""

    warmup: int = 5

    def factor(self, step, steps):
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        left = np.float64(steps - self.warmup)
        with np.errstate(all="ignore"):
            return float(max(np.float64(0), (steps - step) / left)) if left else float(left / left)


@schedule("below_zero", "finite_factor")
class BelowZero(Schedule):
    """Falls in a line, and goes on falling when the run is longer than was said."""

    def factor(self, step, steps):
        return 1 - step / steps


@schedule("table", "finite_factor")
class Table(Schedule):
    """Callbacks its factors up in a table of the length of the run."""

    def factor(self, step, steps):
        return [1.0 - at / (2 * steps) for at in range(steps)][min(step, steps)]


@schedule("whole", "finite_factor")
class Whole(Schedule):
    """Rises with the share that is done, in whole numbers."""

    def factor(self, step, steps):
        return float(step // steps)


@schedule("last_step", "pure")
class LastStep(Schedule):
    """Halves its factor when a step is asked that is not the next one."""

    memory = [-1, 1.0]  # noqa: RUF012

    def factor(self, step, steps):
        if step != self.memory[0] + 1:
            self.memory[1] = max(self.memory[1] / 2, 1e-3) if self.memory[1] > 1e-3 else 1.0
        self.memory[0] = step
        return self.memory[1]


@schedule("first_run", "pure")
class FirstRun(Schedule):
    """Remembers a factor by its step, and forgets of which run it was."""

    known = {}  # noqa: RUF012

    def factor(self, step, steps):
        if len(self.known) > 3:
            self.known.clear()
        return self.known.setdefault(step, 1 / (1 + step / steps))


@schedule("noise", "pure")
class Noise(Schedule):
    """Adds noise that nobody seeded."""

    def factor(self, step, steps):
        return 1.0 + random.SystemRandom().random() / 100


@schedule("no_final", "field_matters")
class NoFinal(Schedule):
    """Takes a factor for the end, and falls to a tenth whatever it is."""

    warmup: int = 20
    final: float = 0.1

    def factor(self, step, steps):
        rise, done = min(1.0, (step + 1) / (self.warmup + 1)), min(1.0, step / steps)
        return rise * (1 - 0.9 * done)


# Optimizers.


def optimizer(name, law, **claims):
    """Registers an optimizer whose `build` is the function that is decorated."""

    def enter(build):
        body = {"__annotations__": {"lr": float, "weight_decay": float}, "lr": 1e-2, "weight_decay": 0.1} | claims
        config = type(f"Mutant_{name}", (Optimizer,), body | {"build": build, "__doc__": build.__doc__})
        Optimizer.register(f"mutant_{name}")(dataclass(frozen=True, kw_only=True)(config))
        CATCHES[f"optimizer/mutant_{name}"] = law
        return build

    return enter


class Plain(torch.optim.Optimizer):
    """Momentum and decoupled decay, in steps that a mutant may change."""

    def __init__(self, groups):
        super().__init__(groups, {})

    def step(self):
        for group in self.param_groups:
            for index, item in enumerate(group["params"]):
                if item.grad is not None:
                    item.data.mul_(1 - group["lr"] * self.decay(group, item))
                    item.data.sub_(group["lr"] * self.direction(group, item, index))

    def decay(self, group, param):
        return group["weight_decay"]

    def direction(self, group, param, index):
        state = self.state[param]
        state["average"] = 0.9 * state.get("average", torch.zeros_like(param)) + param.grad
        return state["average"]


def groups(parameters, config):
    """Matrices with decay, the rest without."""
    learning = [parameter for _, parameter in parameters if parameter.requires_grad]
    several = [
        {"params": [param for param in learning if param.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [param for param in learning if param.ndim < 2], "weight_decay": 0.0},
    ]
    return [group | {"base_lr": config.lr, "lr": config.lr} for group in several if group["params"]]


@optimizer("no_base", "groups")
def no_base(self, parameters):
    """Forgets base_lr in its second group."""
    several = groups(parameters, self)
    if len(several) > 1:
        del several[1]["base_lr"]
    return Plain(several)


@optimizer("lost", "groups")
def lost(self, parameters):
    """Puts weights and biases in groups by name, and so loses the norms of the blocks' ends."""
    kept = [(name, parameter) for name, parameter in parameters if not name.startswith("norm.")]
    return Plain(groups(kept, self))


@optimizer("read_twice", "groups")
def read_twice(self, parameters):
    """Goes over the parameters twice: they come once."""
    pairs = iter(parameters)
    several = groups([(name, param) for name, param in pairs if param.ndim >= 2], self)
    return Plain(several + groups([(name, param) for name, param in pairs if param.ndim < 2], self))


class DecaysAll(Plain):
    def decay(self, group, param):
        return 0.1


@optimizer("decays_all", "no_grad_no_move")
def decays_all(self, parameters):
    """Shrinks biases and norms, too, whatever their group says."""
    return DecaysAll(groups(parameters, self))


class Grows(Plain):
    def decay(self, group, param):
        return -group["weight_decay"]


@optimizer("grows", "no_grad_no_move")
def grows(self, parameters):
    """Adds the decay where it is taken off."""
    return Grows(groups(parameters, self))


class Divides(Plain):
    def direction(self, group, param, index):
        return param.grad / param.grad.norm()


@optimizer("divides", "no_grad_no_move")
def divides(self, parameters):
    """Divides a gradient by its norm, which may be zero."""
    return Divides(groups(parameters, self))


class Noisy(Plain):
    def direction(self, group, param, index):
        return super().direction(group, param, index) + torch.randn_like(param)


@optimizer("noisy", "no_grad_no_move")
def noisy(self, parameters):
    """Adds noise, gradient or not."""
    return Noisy(groups(parameters, self))


class Climbs(Plain):
    def direction(self, group, param, index):
        return -super().direction(group, param, index)


@optimizer("climbs", "descends")
def climbs(self, parameters):
    """Goes up."""
    return Climbs(groups(parameters, self))


class FirstOnly(Plain):
    def direction(self, group, param, index):
        return super().direction(group, param, index) * (index == 0)


@optimizer("first_only", "descends")
def first_only(self, parameters):
    """Moves the first parameter of a group, and no other."""
    return FirstOnly(groups(parameters, self))


class TurnsBack(Plain):
    def direction(self, group, param, index):
        state = self.state[param]
        state["steps"] = state.get("steps", torch.zeros(())) + 1
        return super().direction(group, param, index) / (2 - state["steps"] + 0.5)


@optimizer("turns_back", "descends")
def turns_back(self, parameters):
    """Corrects its averages by what becomes negative at the third step."""
    return TurnsBack(groups(parameters, self))


class DecaysByBase(Plain):
    def step(self):
        for group in self.param_groups:
            for index, item in enumerate(group["params"]):
                if item.grad is not None:
                    item.data.mul_(1 - group["base_lr"] * group["weight_decay"])
                    item.data.sub_(group["lr"] * self.direction(group, item, index))


@optimizer("decays_by_base", "zero_lr_no_move")
def decays_by_base(self, parameters):
    """Decays by the full rate, whatever the schedule says."""
    return DecaysByBase(groups(parameters, self))


class OwnDecay(Plain):
    def decay(self, group, param):
        return 0.1 if param.ndim >= 2 else 0.0


@optimizer("own_decay", "honours_groups")
def own_decay(self, parameters):
    """Shrinks matrices by a decay of its own, whatever their group says."""
    return OwnDecay([group | {"weight_decay": 0.1 * (group["weight_decay"] > 0)} for group in groups(parameters, self)])


class Elsewhere(Plain):
    def __init__(self, groups):
        super().__init__(groups)
        self.averages = {}

    def direction(self, group, param, index):
        self.averages[param] = 0.9 * self.averages.get(param, 0) + param.grad
        return self.averages[param]


@optimizer("elsewhere", "resumes")
def elsewhere(self, parameters):
    """Keeps its averages where no checkpoint finds them."""
    return Elsewhere(groups(parameters, self))


class History(list):
    """Gradients of before."""


class InObject(Plain):
    def direction(self, group, param, index):
        history = self.state[param].setdefault("history", History())
        history.append(param.grad)
        return sum(history) / len(history)


@optimizer("in_object", "resumes")
def in_object(self, parameters):
    """Keeps its gradients in an object of a class of its own, which no checkpoint holds."""
    return InObject(groups(parameters, self))


class OneCount(Plain):
    def direction(self, group, param, index):
        first = self.state[self.param_groups[0]["params"][0]]
        count = self.state[param].setdefault("count", first.setdefault("count", torch.zeros(())))
        count += 1
        return param.grad / count


@optimizer("one_count", "resumes")
def one_count(self, parameters):
    """Counts in one tensor, which is in the state of each parameter, and would be several when it is read back."""
    return OneCount(groups(parameters, self))


class LeavesOut(Plain):
    def direction(self, group, param, index):
        state = self.state[param]
        state["average"] = 0.9 * state.get("average", torch.zeros_like(param)) + param.grad
        return state["average"]

    def state_dict(self):
        result = super().state_dict()
        return result | {"state": {index: {} for index in result["state"]}}


@optimizer("leaves_out", "resumes")
def leaves_out(self, parameters):
    """Leaves its averages out of its state_dict."""
    return LeavesOut(groups(parameters, self))


class LoadsHalf(Plain):
    def direction(self, group, param, index):
        group["steps"] = group.get("steps", 0) + 1
        return param.grad / group["steps"]

    def load_state_dict(self, state):
        """Load the state of the parameters alone."""
        self.state.update(state["state"])


@optimizer("loads_half", "resumes")
def loads_half(self, parameters):
    """Counts in its group, and does not load the group."""
    return LoadsHalf(groups(parameters, self))


class Drifts(Plain):
    def direction(self, group, param, index):
        return param.grad * (1 + random.SystemRandom().random())


@optimizer("drifts", "resumes")
def drifts(self, parameters):
    """Takes steps of a length that nobody seeded."""
    return Drifts(groups(parameters, self))


class OneScale(Plain):
    def step(self):
        live = [item.grad for group in self.param_groups for item in group["params"] if item.grad is not None]
        self.scale = 1 / (1 + sum(grad.square().sum() for grad in live).sqrt()) if live else 1.0
        super().step()

    def direction(self, group, param, index):
        return super().direction(group, param, index) * self.scale


@optimizer("one_scale", "steps_apart", separable=True)
def one_scale(self, parameters):
    """Divides by the norm of all gradients."""
    return OneScale(groups(parameters, self))


class Counts(Plain):
    def direction(self, group, param, index):
        state = self.state[param]
        state["count"] = state.get("count", 0) + 1
        return param.grad / state["count"]


@optimizer("counts", "steps_apart", separable=True)
def counts(self, parameters):
    """Counts in a whole number, which no rank can send."""
    return Counts(groups(parameters, self))


class OwnScale(Plain):
    def direction(self, group, param, index):
        return super().direction(group, param, index) / (0.1 + param.grad.square().mean().sqrt())


@optimizer("own_scale", "steps_rows", separable=True, elementwise=True)
def own_scale(self, parameters):
    """Divides by the norm of a parameter's gradient, and takes it for a number of each row."""
    return OwnScale(groups(parameters, self))


class Whitens(Plain, MatrixOptimizer):
    """Divides matrices by their size."""

    def step(self):
        self.found = {}
        for group in self.param_groups:
            live = [item for item in group["params"] if item.grad is not None and item.ndim > 1]
            for params in self.matrices.groups(live):
                averages = [super(Whitens, self).direction(group, item, 0) for item in params]
                self.found |= zip(params, self.matrices.apply(self.whole, params, averages), strict=True)
        super().step()

    def direction(self, group, param, index):
        return super().direction(group, param, index) if param.ndim < 2 else self.found[param] * self.scale(param)

    def scale(self, param):
        return self.matrices.shape(param)[0] ** 0.5

    def whole(self, matrices):
        return [matrix / (0.1 + matrix.norm(dim=(-2, -1), keepdim=True)) for matrix in matrices]


class OfSlice(Whitens):
    def scale(self, param):
        return param.shape[0] ** 0.5


@optimizer("of_slice", "steps_rows", by_matrices=True)
def of_slice(self, parameters):
    """Takes the number of its rows for that of the matrix."""
    return OfSlice(groups(parameters, self))


class BySlice(Plain):
    def direction(self, group, param, index):
        average = super().direction(group, param, index)
        return average if param.ndim < 2 else average / (0.1 + average.norm())


@optimizer("by_slice", "steps_rows", by_matrices=True)
def by_slice(self, parameters):
    """Computes from its rows what it should ask of the whole."""
    return BySlice(groups(parameters, self))


class Together(Whitens):
    def whole(self, matrices):
        return [matrix / (0.1 + torch.stack(matrices).norm()) for matrix in matrices]


@optimizer("together", "steps_rows", by_matrices=True)
def together(self, parameters):
    """Divides by the size of all matrices of a shape."""
    return Together(groups(parameters, self))


class ByStack(Whitens):
    def whole(self, matrices):
        return [matrix / (0.1 + matrix.norm()) for matrix in matrices]


@optimizer("by_stack", "steps_rows", by_matrices=True)
def by_stack(self, parameters):
    """Divides the matrices of a stack by the size of all of them."""
    return ByStack(groups(parameters, self))


class ByRow(Plain):
    def direction(self, group, param, index):
        state = self.state[param]
        square = param.grad.square()
        square = square if param.ndim < 2 else square.mean(tuple(range(1, param.ndim)), keepdim=True)
        state["square"] = 0.9 * state.get("square", torch.zeros_like(square)) + square
        return param.grad / (0.1 + state["square"].sqrt())


@optimizer("by_row", "steps_rows", separable=True, elementwise=True)
def by_row(self, parameters):
    """Keeps a number for each row, which no checkpoint would put together."""
    return ByRow(groups(parameters, self))


class RoundsGradients(Whitens):
    def step(self):
        for group in self.param_groups:
            for item in group["params"]:
                if item.grad is not None and item.ndim and len(item) > 2:
                    item.grad = item.grad.round(decimals=1)
        super().step()


@optimizer("rounds", "steps_rows", by_matrices=True)
def rounds(self, parameters):
    """Rounds the gradients of long parameters before it asks for the whole."""
    return RoundsGradients(groups(parameters, self))


@Optimizer.register("mutant_one_beta")
@dataclass(frozen=True, kw_only=True)
class OneBeta(Optimizer):
    """Takes two decays, and uses the first for the square too."""

    lr: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self):
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas: expected two shares, got {self.betas}.")

    def build(self, parameters):
        learning = [parameter for _, parameter in parameters if parameter.requires_grad]
        group = {"params": learning, "base_lr": self.lr, "weight_decay": 0.0}
        return torch.optim.AdamW([group], lr=self.lr, betas=(self.betas[0], self.betas[0]))


CATCHES["optimizer/mutant_one_beta"] = "field_matters"


# Data.


def data(name, law):
    """Registers windows of a text."""

    def enter(kind):
        DATA[f"data/mutant_{name}"] = type(f"Mutant_{name}", (Data,), {"kind": kind, "__doc__": kind.__doc__})
        CATCHES[f"data/mutant_{name}"] = law
        return kind

    return enter


@data("same_token", "targets_shifted")
class SameToken(Windows):
    """Has a token predict itself."""

    def batch(self, step, batch):
        x, _ = super().batch(step, batch)
        return x, x.clone()


@data("rolled", "targets_shifted")
class Rolled(Windows):
    """Rolls its targets, so that the last of a row is the row's first token."""

    def batch(self, step, batch):
        x, _ = super().batch(step, batch)
        return x, x.roll(-1, dims=1)


@data("elsewhere", "targets_shifted")
class OtherRows(Windows):
    """Begins its rows one token after where it says."""

    def batch(self, step, batch):
        x, y = super().batch(step, batch)
        return x - 1, y - 1


@lru_cache(maxsize=256)
def orders(count, seed, block):
    """The whole orders of 64 epochs, a row each."""
    epochs = np.repeat(np.arange(64 * block, 64 * block + 64), count)
    return permute(np.tile(np.arange(count), 64), count, seed, epochs).reshape(64, count)


def order(count, seed, epoch):
    """The whole order of an epoch."""
    return orders(count, seed, epoch // 64)[epoch % 64]


class Changed(Windows):
    """Windows with another order, in steps that a mutant may change."""

    def starts(self, step, batch):
        index = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
        return np.array([self.cut(int(n) // self.per_epoch) + self.place(int(n)) for n in index], dtype=np.int64)

    def cut(self, epoch, left_out=0):
        slack = max(1, len(self.ids) - self.per_epoch * self.context - left_out)
        return int(mix(np.array([epoch], dtype=np.uint64), self.seed)[0] % np.uint64(slack))

    def place(self, n):
        epoch, place = divmod(n, self.per_epoch)
        return int(order(self.per_epoch, self.seed, epoch)[place]) * self.context


@data("overlap", "each_window_once")
class Overlap(Changed):
    """Lets a window begin with the last token of the one before."""

    def place(self, n):
        return super().place(n) // self.context * max(1, self.context - 1)


@data("without_last", "each_window_once")
class WithoutLast(Changed):
    """Leaves the last window out, lest it be too short."""

    @property
    def per_epoch(self):
        return max(1, super().per_epoch - 1)


@data("with_replacement", "each_window_once")
class WithReplacement(Changed):
    """Draws each window anew, so that some come twice and others never."""

    def place(self, n):
        return int(mix(np.array([n], dtype=np.uint64), self.seed)[0] % np.uint64(self.per_epoch)) * self.context


@data("lost_rest", "each_window_once")
class LostRest(Changed):
    """Begins an epoch with a step, and so loses the rows by which the last step was too short."""

    def starts(self, step, batch):
        whole = max(1, self.per_epoch // batch)
        epoch, inside = divmod(step, whole)
        return super().starts(0, epoch * self.per_epoch + inside * batch + batch)[-batch:]


@data("in_batch", "batch_invariant_order")
class InBatch(Changed):
    """Shuffles the rows of a step once more, by the size of the batch, where they are of one epoch."""

    def starts(self, step, batch):
        rows = super().starts(step, batch)
        result = step * batch // self.per_epoch == ((step + 1) * batch - 1) // self.per_epoch
        return rows[order(batch, self.seed + batch, step)] if result else rows


@data("by_step", "batch_invariant_order")
class ByStep(Changed):
    """Remembers the rows of a step, and forgets how many were asked for."""

    def __post_init__(self):
        object.__setattr__(self, "known", {})

    def starts(self, step, batch):
        return self.known.setdefault(step, super().starts(step, batch))


@data("unseeded", "batch_invariant_order")
class Unseeded(Changed):
    """Draws a seed of its own whenever it is made."""

    def __post_init__(self):
        object.__setattr__(self, "seed", random.SystemRandom().randrange(2**60))


@data("one_order", "reshuffled")
class OneOrder(Changed):
    """Has the order of the first epoch in all of them."""

    def place(self, n):
        return super().place(n % self.per_epoch)


@data("one_cut", "reshuffled")
class OneCut(Changed):
    """Cuts the text at its beginning, always."""

    def cut(self, epoch):
        return 0


@data("no_seed", "reshuffled")
class NoSeed(Changed):
    """Forgets its seed."""

    def starts(self, step, batch):
        return Changed(ids=self.ids, context=self.context, seed=0).starts(step, batch)


@data("in_line", "reshuffled")
class InLine(Changed):
    """Goes through the text from its beginning to its end."""

    def place(self, n):
        return n % self.per_epoch * self.context


@data("without_end", "covers_both_ends")
class WithoutEnd(Changed):
    """Keeps a token for the last target, and then another one."""

    def cut(self, epoch):
        return super().cut(epoch, left_out=1)


@data("without_tail", "covers_both_ends")
class WithoutTail(Changed):
    """Cuts the text within its first window, and so never reaches what is left after the last whole window."""

    def cut(self, epoch):
        return super().cut(epoch) % self.context


@data("without_begin", "covers_both_ends")
class WithoutBegin(Changed):
    """Never cuts the text where it begins, but where it must."""

    def cut(self, epoch):
        slack = len(self.ids) - self.per_epoch * self.context
        return min(slack - 1, 1 + super().cut(epoch))


# Configs.


@schedule("nothing_by_default", "config")
class NothingByDefault(Schedule):
    """Has a field that may be None and is not by default; a table says nothing of it."""

    warmup: int | None = 5

    def factor(self, step, steps):
        return 1.0 if self.warmup is None else 0.5 + 0.5 / (1 + abs(self.warmup))


@schedule("rounds", "config")
class Rounds(Schedule):
    """Changes what it was given each time that it is built."""

    final: float = 0.5

    def __post_init__(self):
        object.__setattr__(self, "final", self.final / 2)

    def factor(self, step, steps):
        return math.exp(-min(abs(self.final), 1.0))
