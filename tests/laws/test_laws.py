"""The laws hold for every part, built in or plugged in; and each law can be broken."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nanotx import laws
from nanotx.errors import LawBroken
from nanotx.laws.testing import laws_of
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.nn.ffn import Ffn
from nanotx.nn.position import NO_POSITION
from nanotx.nn.transformer import Model
from nanotx.optim import Optimizer
from nanotx.recipe import Recipe
from nanotx.tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
DIM = 24

test_every_part_obeys_its_laws = laws_of(*laws.LAWS)


def attention(name, seed, **fields):
    torch.manual_seed(seed)
    return Attention.find(name)(**fields).build(DIM).eval()


def stream(batch, time, seed):
    return torch.randn(batch, time, DIM, generator=torch.Generator().manual_seed(seed))


@given(
    dim=st.integers(1, 999),
    lr=st.floats(0, 1, allow_subnormal=True),
    betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    hidden_dim=st.none() | st.integers(1, 99),
    parts=st.tuples(st.sampled_from(["fused", "per_head", "sdpa"]), st.sampled_from(["mlp", "swiglu"])),
)
def test_any_recipe_is_a_value_that_can_be_written_and_read(dim, lr, betas, hidden_dim, parts):
    block = Block.find("postnorm")(attention=Attention.find(parts[0])(), ffn=Ffn.find(parts[1])(hidden_dim=hidden_dim))
    optimizer = Optimizer.find("adamw")(lr=lr, betas=betas)
    for model in (Model(dim=dim, block=block), Model(dim=dim, blocks=(block, Block.find("prenorm")()))):
        laws.config_round_trip(Recipe(model=model, optimizer=optimizer))


class Peek(nn.Module):
    def forward(self, x, cache=None):
        return x + x.roll(-1, dims=1)


class Deaf(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x) + x[:, :1].detach()


class Hint(nn.Module):
    """Leaks the future through a path that no gradient takes."""

    def forward(self, x):
        return x + x.mean(dim=1, keepdim=True).detach()


class SoftMask(nn.Module):
    """Hides the future by a large score, not by minus infinity."""

    def forward(self, x):
        time = x.shape[1]
        scores = x @ x.mT - 10.0 * torch.ones(time, time).triu(1)
        return scores.softmax(dim=-1) @ x


class TopLeft(nn.Module):
    """Masks a chunk after a cache as if there were no cache."""

    def forward(self, x, position=NO_POSITION, cache=None):
        k, v = cache.append(x, x) if cache is not None else (x, x)
        y = nn.functional.scaled_dot_product_attention(x, k, v, is_causal=True)
        return y


def test_law_of_causality_catches_a_peek():
    with pytest.raises(LawBroken, match="outputs up to 2 feel position 3"):
        laws.causal(Peek(), torch.randn(1, 5, 4), cut=2)


def test_law_of_causality_catches_a_mask_that_is_too_soft():
    with pytest.raises(LawBroken, match="outputs up to 1 feel position"):
        laws.causal(SoftMask(), torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0)), cut=1)


def test_law_of_causality_rejects_a_layer_that_reads_nothing():
    with pytest.raises(LawBroken, match="do not feel position 2 itself"):
        laws.causal(lambda x: Deaf()(x) + 0 * x, torch.randn(1, 5, 4), cut=2)


def test_law_of_the_prefix_catches_a_leak_that_no_gradient_shows():
    x = torch.randn(1, 5, 4)
    laws.causal(Hint(), x, cut=2)
    with pytest.raises(LawBroken, match="time_prefix: cut 2"):
        laws.time_prefix(Hint(), x, cut=2)


def test_law_of_the_cache_catches_a_mask_at_the_top_left():
    with pytest.raises(LawBroken, match=r"cache_agrees: cuts \[2\]"):
        laws.cache_agrees(TopLeft(), torch.randn(1, 5, 4), cuts=[2])


def test_law_of_equivalence_catches_one_weight_that_differs():
    first, other = attention("fused", 0), attention("sdpa", 0)
    other.load_state_dict(first.state_dict())
    laws.equivalent(first, other, stream(1, 4, 0))
    with torch.no_grad():
        other.to_out.weight[0, 0] += 0.1
    with pytest.raises(LawBroken, match="equivalent: outputs"):
        laws.equivalent(first, other, stream(1, 4, 0))


def test_law_of_equivalence_catches_a_gradient_that_is_lost():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(4, 4)

        def forward(self, x):
            return self.map(x) + x - x.detach()

    first, other = Detached(), nn.Module()
    other.map, other.forward = first.map, first.map.forward
    with pytest.raises(LawBroken, match="gradient of x"):
        laws.equivalent(first, other, torch.randn(1, 3, 4))


def test_law_of_tokenizers_catches_a_lost_character():
    codec = Tokenizer.find("byte")().train([])

    class Forgetful(type(codec)):
        def encode(self, text):
            return super().encode(text.replace("e", ""))

    with pytest.raises(LawBroken, match="lossless: 'here' came back"):
        laws.lossless(Forgetful(), "here")


def test_law_of_configs_catches_a_field_that_does_not_come_back():
    from dataclasses import dataclass

    @dataclass(frozen=True, kw_only=True)
    class Rounding:
        rate: float = 0.0

        def __post_init__(self):
            object.__setattr__(self, "rate", self.rate + 1.0)

    with pytest.raises(LawBroken, match="config_round_trip: through a table"):
        laws.config_round_trip(Rounding(rate=0.5))


def table_of_laws() -> str:
    """The table of docs/laws.md: a row for each law and sentence, in the order in which they are tried."""
    slots: dict[tuple[str, str], list[str]] = {}
    for slot, some in laws.LAWS.items():
        for law in some:
            slots.setdefault((law.name, law.about), []).append(slot)
    rows = [
        f"| `{name}` | {'all' if len(of) == len(laws.LAWS) else ', '.join(of)} | {about}. |"
        for (name, about), of in slots.items()
    ]
    return "\n".join(["| law | of | it states |", "|---|---|---|", *rows])


def test_page_of_laws_has_their_table():
    assert table_of_laws() in (ROOT / "docs" / "laws.md").read_text(encoding="utf-8"), f"\n{table_of_laws()}"


def test_page_of_laws_names_the_mutants_of_each():
    page = (ROOT / "docs" / "laws.md").read_text(encoding="utf-8")
    table = page.partition("\n## Mutants\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))))
    assert named == {law.name for some in laws.LAWS.values() for law in some}
