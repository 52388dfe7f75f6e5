"""Positions and norms that are wrong, each in one way; and for each the law that is there to catch it."""

from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from torch import nn

from nanotx.nn.norm import Norm
from nanotx.nn.position import Position, PositionalEncoding
from nanotx.nn.position.learned import Learned
from nanotx.nn.position.rope import Rope

CATCHES: dict[str, str] = {}
"""For each mutant the law that catches it, and that all before it let pass."""


@dataclass(frozen=True, kw_only=True)
class Turning:
    """The field of positions that turn."""

    theta: float = 10_000.0


def position(name, law, **marks):
    """Registers a position whose thing is the class that is decorated, built from its config, dim and context.

    `marks` are class variables of the config.
    """

    def enter(thing):
        def build(self, dim, heads, context):
            return thing(self, dim, context)

        config = type(f"Mutant_{name}", (Turning, Position), {"build": build, "__doc__": thing.__doc__, **marks})
        Position.register(f"mutant_{name}")(dataclass(frozen=True, kw_only=True)(config))
        CATCHES[f"position/mutant_{name}"] = law
        return thing

    return enter


class Turns(PositionalEncoding):
    """Rotary, with room for mistakes."""

    def __init__(self, config, dim, context):
        super().__init__()
        self.config = config

    def rotate(self, q, k, positions):
        return Rope(theta=self.config.theta).build(q.shape[-1], 1, 1).rotate(q, k, positions)


@position("from_its_own_start", "local")
class FromItsOwnStart(Turns):
    """Counts from the first token that it is shown."""

    def rotate(self, q, k, positions):
        return super().rotate(q, k, positions - positions[:1])


@position("queries_alone", "relative")
class QueriesAlone(Turns):
    """Turns queries and forgets the keys."""

    def rotate(self, q, k, positions):
        return super().rotate(q, k, positions)[0], k


@position("grows", "relative")
class Grows(Turns):
    """Adds to the scores by where a query stands."""

    def bias(self, q_pos, k_pos):
        return rearrange(q_pos.float() / 100, "t -> 1 t 1") * rearrange(k_pos.float() / 100, "s -> 1 1 s")


@position("stretches", "norm_preserving")
class Stretches(Turns):
    """Turns, and makes all longer."""

    def rotate(self, q, k, positions):
        q, k = super().rotate(q, k, positions)
        return 1.5 * q, 1.5 * k


@position("gain_left_out", "norm_preserving")
class GainLeftOut(Turns):
    """States an `attention_scale`, and only turns."""

    attention_scale = 1.1


@position("unmoved", "informative")
class Unmoved(Turns):
    """Turns by no angle at all."""

    def rotate(self, q, k, positions):
        return super().rotate(q, k, 0 * positions)


TABLES: dict[int, float] = {}


@position("shared_table", "distinct")
class SharedTable(Turns):
    """Keeps one table for all, by their width, and forgets the base."""

    def rotate(self, q, k, positions):
        theta = TABLES.setdefault(q.shape[-1], self.config.theta)
        return Rope(theta=theta).build(q.shape[-1], 1, 1).rotate(q, k, positions)


class Table(PositionalEncoding):
    """A row a position, with room for mistakes."""

    def __init__(self, config, dim, context):
        super().__init__()
        self.context, self.learned = context, Learned().build(dim, 1, context)
        self.scale = config.theta

    def embed(self, x, positions):
        return self.learned.embed(x, self.place(positions)) * self.scale


@position("begins_again", "out_of_range")
class BeginsAgain(Table):
    """Beyond its table, begins again."""

    def place(self, positions):
        return positions % self.context


@position("stops", "out_of_range")
class Stops(Table):
    """Beyond its table, stays at the last place."""

    def place(self, positions):
        return positions.clamp(max=self.context - 1)


class FromRates(PositionalEncoding):
    """Rotary, from rates that it is given at each call."""

    def turned(self, x, positions, rates):
        angle = rearrange(positions.type_as(rates), "t -> t 1") * rates
        left, right = x.chunk(2, dim=-1)
        turned = [left * angle.cos() - right * angle.sin(), right * angle.cos() + left * angle.sin()]
        return torch.cat(turned, dim=-1).type_as(x)


@position("rates_as_weights", "cast_close")
class RatesAsWeights(FromRates):
    """Keeps its rates as a weight that is not learned: cast with the others, position 257 is position 256."""

    def __init__(self, config, dim, context):
        super().__init__()
        self.theta, self.log_theta = config.theta, nn.Parameter(torch.tensor(config.theta).log(), requires_grad=False)

    def rotate(self, q, k, positions):
        rates = (-self.log_theta * torch.arange(0, q.shape[-1], 2) / q.shape[-1]).exp().to(self.log_theta.dtype)
        return self.turned(q, positions, rates), self.turned(k, positions, rates)


@position("angles_as_queries", "cast_close")
class AnglesAsQueries(FromRates):
    """Works out its angles in the format of the queries."""

    def __init__(self, config, dim, context):
        super().__init__()
        self.config = config

    def rotate(self, q, k, positions):
        rates = (self.config.theta ** -(torch.arange(0, q.shape[-1], 2) / q.shape[-1])).type_as(q)
        return self.turned(q, positions, rates), self.turned(k, positions, rates)


@position("small_bias", "cast_close")
class SmallBias(Turns):
    """A penalty on distance whose slope is a weight: in float16 there is no distance beyond 65,504."""

    def __init__(self, config, dim, context):
        super().__init__(config, dim, context)
        self.slope = nn.Parameter(torch.tensor(0.01 / config.theta), requires_grad=False)

    def bias(self, q_pos, k_pos):
        distance = rearrange(q_pos, "t -> 1 t 1") - rearrange(k_pos, "s -> 1 1 s")
        return -self.slope * distance


@position("unstated_bias", "adds_bias")
class UnstatedBias(Turns):
    """Adds a penalty on distance, and does not say so."""

    def bias(self, q_pos, k_pos):
        return -0.01 * (rearrange(q_pos, "t -> 1 t 1") - rearrange(k_pos, "s -> 1 1 s"))


@position("table_called_relative", "shift_invariant", relative=True)
class TableCalledRelative(Table):
    """States that it is relative, and adds a row of a table."""

    def __init__(self, config, dim, context):
        super().__init__(config, dim, context)
        self.scale = 1 + config.theta / 1e6

    def place(self, positions):
        return positions


def norm(name, law):
    """Registers a norm whose module is the class that is decorated."""

    def enter(module):
        config = type(f"Mutant_{name}", (Norm,), {"build": lambda self, dim: module(), "__doc__": module.__doc__})
        Norm.register(f"mutant_{name}")(dataclass(frozen=True, kw_only=True)(config))
        CATCHES[f"norm/mutant_{name}"] = law
        return module

    return enter


@norm("over_time", "position_wise")
class OverTime(nn.Module):
    """Divides by the root mean square over the whole text."""

    def forward(self, x):
        return x / (reduce(x.square(), "b t d -> b 1 1", "mean") + 1e-6).sqrt()


@norm("constant", "depends_on_past")
class Constant(nn.Module):
    """Says the same whatever it is told."""

    def forward(self, x):
        return torch.ones_like(x)


@norm("timid", "scale_invariant")
class Timid(nn.Module):
    """Bounds large numbers, and leaves small ones small."""

    def forward(self, x):
        return x / (1 + reduce(x.square(), "b t d -> b t 1", "mean")).sqrt()


@Norm.register("mutant_eps_unread")
@dataclass(frozen=True, kw_only=True)
class EpsUnread(Norm):
    """Declares an eps, and adds another."""

    eps: float = 1e-5

    def build(self, dim):
        return nn.RMSNorm(dim, eps=1e-5)


CATCHES["norm/mutant_eps_unread"] = "field_matters"


@norm("no_eps", "finite")
class NoEps(nn.Module):
    """Divides by what may be zero."""

    def forward(self, x):
        return x / reduce(x.square(), "b t d -> b t 1", "mean").sqrt()


@norm("random_gain", "init")
class RandomGain(nn.Module):
    """Draws its gain from PyTorch's global generator, so that it depends on all that was built before."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(1 + 0.1 * torch.randn(()))

    def forward(self, x):
        return self.gain * x / (reduce(x.square(), "b t d -> b t 1", "mean") + 1e-6).sqrt()
