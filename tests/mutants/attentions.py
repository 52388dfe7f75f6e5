"""Attentions that are wrong, each in one way that somebody's was; and for each the law that is there to catch it.

They are parts like any other, imported by `--load`:

    nanotx laws attention/mutant_peek --load tests/mutants/attentions.py --show
"""

import math
from dataclasses import dataclass

import torch
from einops import einsum, rearrange, reduce
from torch.nn import functional as F

from nanotx.nn.attention import SOFTMAX, Attention, MultiHead, MultiHeadAttention, causal_mask, positions
from nanotx.nn.pass_store import StoreModule

CATCHES: dict[str, str] = {}
"""For each mutant the law that catches it, and that all before it let pass."""


def mutant(name, law, **marks):
    """Registers an attention whose module is the class that is decorated; `marks` are class variables of the config."""

    def enter(module):
        def build(self, dim):
            return module(self, dim)

        config = type(f"Mutant_{name}", (MultiHead,), {"build": build, "__doc__": module.__doc__, **marks})
        Attention.register(f"mutant_{name}")(dataclass(frozen=True, kw_only=True)(config))
        CATCHES[f"attention/mutant_{name}"] = law
        return module

    return enter


class WrittenOut(MultiHeadAttention):
    """softmax(Q K^T / sqrt(k)) V, in steps that a mutant may change."""

    def attend(self, q, k, v, bias):
        scores = einsum(q, k, "b h t k, b h s k -> b h t s") / math.sqrt(q.shape[-1])
        scores = scores if bias is None else scores + bias
        return einsum(self.weights(scores).type_as(v), v, "b h t s, b h s k -> b h t k")

    def weights(self, scores):
        return scores.masked_fill(~self.mask(*scores.shape[-2:]), -torch.inf).softmax(dim=-1)

    def mask(self, t, s):
        return causal_mask(t, s, torch.device("cpu"))


@mutant("reads_the_neighbour", "documents_apart", supports_documents=True)
class ReadsTheNeighbour(WrittenOut):
    """Takes the bias of the first text for all."""

    def attend(self, q, k, v, bias):
        return super().attend(q, k, v, bias if bias is None or bias.ndim == 3 else bias[0])


class ValueResidual(StoreModule, WrittenOut):
    """Values are mixed with those of the first layer; right as it is."""

    def attend(self, q, k, v, bias):
        return super().attend(q, k, (v + self.store.first("values", v)) / 2, bias)


@mutant("counts_calls", "one_pass")
class CountsCalls(ValueResidual):
    """Counts its calls while it trains, so that a layer that is computed again differs."""

    calls = 0

    def attend(self, q, k, v, bias):
        self.calls += self.training
        return super().attend(q, k, v * (1 + 0.1 * (self.calls % 2)), bias)


def distances(t, s):
    """How far each of `s` keys lies behind each of the last `t` positions."""
    at = torch.arange(s)
    return rearrange(at[s - t :], "t -> t 1") - rearrange(at, "s -> 1 s")


# Rows of a batch.


@mutant("batch_mean", "batch_independent")
class BatchMean(WrittenOut):
    """Adds the mean over the batch, as a batch norm does."""

    def forward(self, x, position=None, cache=None):
        return super().forward(x, position, cache) + 0.1 * reduce(x, "b t d -> 1 t d", "mean")


@mutant("first_row", "batch_independent")
class FirstRow(WrittenOut):
    """Every row reads the keys of the first."""

    def attend(self, q, k, v, bias):
        return super().attend(q, k[:1].expand_as(k), v, bias)


# The future, by gradients.


@mutant("peek", "causal")
class Peek(WrittenOut):
    """The mask is off by one."""

    def mask(self, t, s):
        return distances(t, s) >= -1


@mutant("soft", "causal")
class Soft(WrittenOut):
    """Hides the future by a score that is merely low."""

    def weights(self, scores):
        return (scores - 10.0 * ~self.mask(*scores.shape[-2:])).softmax(dim=-1)


@mutant("soft_at_large_scores", "causal")
class SoftAtLargeScores(WrittenOut):
    """Hides the future by a score that is low enough for any ordinary input."""

    def weights(self, scores):
        return (scores - 1e4 * ~self.mask(*scores.shape[-2:])).softmax(dim=-1)


@mutant("multiplied", "causal")
class Multiplied(WrittenOut):
    """Masks after the softmax, so that the future still shares out the weights."""

    def weights(self, scores):
        return scores.softmax(dim=-1) * self.mask(*scores.shape[-2:])


@mutant("time_mean", "causal")
class TimeMean(WrittenOut):
    """Subtracts a mean over the whole text."""

    def forward(self, x, position=None, cache=None):
        return super().forward(x, position, cache) - 1e-3 * reduce(x, "b t d -> b 1 d", "mean")


def leaks_at_multiples(n):
    """Where a block of n begins, the position before it sees its first."""

    class AtMultiples(WrittenOut):
        def mask(self, t, s):
            at = torch.arange(s)
            leak = rearrange(at % n == 0, "s -> 1 s") & (distances(t, s) == -1)
            return super().mask(t, s) | leak

    AtMultiples.__doc__ = f"Sees one ahead where a block of {n} begins."
    return AtMultiples


for n in (2, 7, 16, 32):
    mutant(f"multiples_of_{n}", "causal")(leaks_at_multiples(n))


@mutant("wrapped", "causal")
class Wrapped(WrittenOut):
    """The first position reads the last one, as a roll that wraps around does."""

    def mask(self, t, s):
        mask = super().mask(t, s).clone()
        mask[0, -1] = True
        return mask


@mutant("second_head", "causal")
class SecondHead(WrittenOut):
    """All heads but the first are not masked."""

    def weights(self, scores):
        free = torch.arange(scores.shape[1]) > 0
        mask = self.mask(*scores.shape[-2:]) | rearrange(free, "h -> h 1 1")
        return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


# The past.


@mutant("deaf", "depends_on_past")
class Deaf(WrittenOut):
    """Each position reads itself alone."""

    def mask(self, t, s):
        return distances(t, s) == 0


@mutant("strict", "depends_on_past")
class Strict(WrittenOut):
    """No position reads itself, but for the first, which has nobody else."""

    def mask(self, t, s):
        return (distances(t, s) > 0) | (rearrange(torch.arange(s), "s -> 1 s") == 0) & (distances(t, s) == 0)


@mutant("deaf_later", "depends_on_past")
class DeafLater(WrittenOut):
    """From the seventeenth position on, only itself is read."""

    def mask(self, t, s):
        return super().mask(t, s) & ((distances(t, s) == 0) | (rearrange(torch.arange(s - t, s), "t -> t 1") < 16))


# The future, by values.


@mutant("hint", "prefix")
class Hint(WrittenOut):
    """Feels the mean of the whole text through a path that no gradient takes."""

    def forward(self, x, position=None, cache=None):
        return super().forward(x, position, cache) + 0.1 * reduce(x.detach(), "b t d -> b 1 d", "mean")


@mutant("counts", "prefix")
class Counts(WrittenOut):
    """Scales by how long the text is: the model learns where it will end."""

    def forward(self, x, position=None, cache=None):
        return super().forward(x, position, cache) * (1 + math.log(x.shape[1]) / 10)


@mutant("end_of_text", "padding")
class EndOfText(WrittenOut):
    """Callbacks ahead for a padded place, and says that it comes."""

    def forward(self, x, position=None, cache=None):
        empty = (x == 0).all(dim=-1, keepdim=True).to(x)
        return super().forward(x, position, cache) + empty.roll(-1, dims=1)


@mutant("loudest", "padding")
class Loudest(WrittenOut):
    """Turns all down by the loudest number of the text, if that is very loud."""

    def forward(self, x, position=None, cache=None):
        loud = (reduce(x.detach().abs(), "b t d -> b 1 1", "max") / 1e3).clamp(min=1)
        return super().forward(x, position, cache) / loud


# The cache.


@mutant("forgetful", "cache")
class Forgetful(WrittenOut):
    """The cache is filled and never read."""

    def attend(self, q, k, v, bias):
        t = q.shape[2]
        return super().attend(q, k[:, :, -t:], v[:, :, -t:], None if bias is None else bias[..., -t:])


@mutant("top_left", "cache")
class TopLeft(WrittenOut):
    """Masks a chunk as if nothing had come before it."""

    def mask(self, t, s):
        return rearrange(torch.arange(t), "t -> t 1") >= rearrange(torch.arange(s), "s -> 1 s")


@mutant("open_chunk", "cache")
class OpenChunk(WrittenOut):
    """A chunk after a cache takes no mask, which is right for a chunk of one."""

    def mask(self, t, s):
        return super().mask(t, s) if t == s else torch.ones(t, s, dtype=torch.bool)


@mutant("turned_anew", "cache")
class TurnedAnew(MultiHeadAttention):
    """With a cache, queries and keys are turned as if the chunk were the beginning."""

    def forward(self, x, position, cache=None):
        heads = self.config.heads
        q, k, v = rearrange(self.to_qkv(x), "b t (n h k) -> n b h t k", n=3, h=heads)
        q_pos, k_pos = positions(x, cache)
        q, k = position.rotate(self.q_norm(q), self.k_norm(k), torch.arange(x.shape[1]))
        if cache is not None:
            k, v = cache.append(k, v)
        y = self.attend(q, k, v, position.bias(q_pos, k_pos))
        return self.to_out(rearrange(y, "b h t k -> b t (h k)"))

    def attend(self, q, k, v, bias):
        mask = torch.zeros(q.shape[2], k.shape[2]) if bias is None else bias
        mask = mask.masked_fill(~causal_mask(q.shape[2], k.shape[2], q.device), -torch.inf)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


# Windows.


class Windowed(WrittenOut):
    """A query sees the last few positions, its own included."""

    def mask(self, t, s):
        return super().mask(t, s) & (distances(t, s) < self.config.attention_window)


def reach_of_five(self):
    """Narrow, so that short texts cross it."""
    return 5


narrow = {"attention_window": property(reach_of_five)}


@mutant("window_when_cached", "cache", **narrow)
class WindowWhenCached(Windowed):
    """The cache ignores the window."""

    def mask(self, t, s):
        return super().mask(t, s) if t == s else WrittenOut.mask(self, t, s)


@mutant("window_too_wide", "window", **narrow)
class TooWide(WrittenOut):
    """The window is one too wide."""

    def mask(self, t, s):
        return super().mask(t, s) & (distances(t, s) <= self.config.attention_window)


@mutant("window_too_narrow", "window", **narrow)
class TooNarrow(WrittenOut):
    """The window is one too narrow."""

    def mask(self, t, s):
        return super().mask(t, s) & (distances(t, s) < self.config.attention_window - 1)


# One function in several implementations.

claims = {"equivalent_to": SOFTMAX}


@mutant("swapped_axes", "equivalent", **claims)
class SwappedAxes(WrittenOut):
    """What the heads read is merged as (k h), where the others merge it as (h k)."""

    def attend(self, q, k, v, bias):
        read = super().attend(q, k, v, bias)
        merged = rearrange(read, "b h t k -> b t (k h)")
        return rearrange(merged, "b t (h k) -> b h t k", h=self.config.heads)


@mutant("unscaled", "equivalent", **claims)
class Unscaled(WrittenOut):
    """Forgets to divide by the root of a head's width."""

    def attend(self, q, k, v, bias):
        return super().attend(q * math.sqrt(q.shape[-1]), k, v, bias)


@mutant("detached_keys", "equivalent", **claims)
class DetachedKeys(WrittenOut):
    """Right in every value, and no gradient reaches the keys."""

    def attend(self, q, k, v, bias):
        return super().attend(q, k.detach(), v, bias)


# What is declared.


class Dropping(WrittenOut):
    """Right in everything, dropout too."""

    def weights(self, scores):
        return self.dropout(super().weights(scores))


@mutant("unheard_weight", "gets_gradient")
class UnheardWeight(Dropping):
    """Has a weight that nothing reads."""

    def __init__(self, config, dim):
        super().__init__(config, dim)
        self.gate = torch.nn.Parameter(torch.ones(dim))


@mutant("keys_that_do_not_learn", "gets_gradient")
class KeysThatDoNotLearn(Dropping):
    """No gradient reaches the keys, a third of a weight of which the rest learns."""

    def attend(self, q, k, v, bias):
        return super().attend(q, k.detach(), v, bias)


@mutant("drops_nothing", "field_matters")
class DropsNothing(WrittenOut):
    """Takes a dropout, and drops nothing."""


@mutant("heads_for_nothing", "field_matters", cost_only=("heads",))
class HeadsForNothing(Dropping):
    """Says that heads are a matter of cost, and computes something else with each number of them."""


# Numbers.


@mutant("coarse_sums", "bf16_close")
class CoarseSums(WrittenOut):
    """Adds up in the format of training: there, what is read becomes whole numbers."""

    def attend(self, q, k, v, bias):
        read = super().attend(q, k, v, bias)
        return read if read.dtype is torch.float32 else read.round()


@mutant("hidden_weight", "state_complete")
class HiddenWeight(WrittenOut):
    """Keeps something it drew outside its state."""

    def __init__(self, config, dim):
        super().__init__(config, dim)
        self.gain = 1 + torch.rand(dim)

    def forward(self, x, position=None, cache=None):
        return super().forward(x, position, cache) * self.gain


@mutant("length_of_nothing", "finite")
class LengthOfNothing(WrittenOut):
    """Sharpens queries by their length, whose root has no gradient at zero."""

    def attend(self, q, k, v, bias):
        return super().attend(q * (1 + reduce(q.square(), "b h t k -> b h t 1", "sum").sqrt()), k, v, bias)


# Dropout.


@mutant("library_dropout", "accumulates_alike")
class LibraryDropout(WrittenOut):
    """Drops weights by PyTorch's generator, whose draws depend on the rows before."""

    def weights(self, scores):
        return F.dropout(super().weights(scores), self.config.dropout, self.training)


@mutant("training_mean", "accumulates_alike")
class TrainingMean(Dropping):
    """Subtracts a mean over the batch, but only in training."""

    def attend(self, q, k, v, bias):
        return super().attend(q, k, v - 0.1 * reduce(v, "b h s k -> 1 h s k", "mean") * self.training, bias)


@mutant("counted_calls", "accumulates_alike")
class CountedCalls(WrittenOut):
    """Draws another mask at each call, so that a micro-batch and a recomputed one have masks of their own."""

    calls = 0

    def weights(self, scores):
        self.calls += self.training
        return self.dropout(super().weights(scores), start=(0, self.calls, 0))


@mutant("like_halves", "masks_distinct")
class LikeHalves(WrittenOut):
    """Drops each half of the queries by itself, and forgets to say where the second begins."""

    def weights(self, scores):
        return torch.cat([self.dropout(half) for half in super().weights(scores).chunk(2, dim=2)], dim=2)
