"""Dropout: how much is dropped, what each mask depends on, and what it does not."""

import subprocess
import sys
from itertools import combinations, product

import pytest
import torch
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nanotx.errors import ConfigError
from nanotx.nn.dropout import Dropout, name_key, named_dropouts, row_bytes, row_keys, row_seeded

CPU = torch.device("cpu")
FRACTIONS = [0.001, 0.05, 0.1, 0.5, 0.9, 0.999]


def seeded(dropout, seed=3, rows=range(4), name="blocks.0.dropout"):
    """The context of a training step, for one dropout."""
    return row_seeded({name: dropout}, seed, rows, CPU)


def mask(fraction=0.5, seed=3, rows=range(4), name="blocks.0.dropout", shape=(6, 40), start=()):
    """Which numbers a dropout keeps."""
    dropout = Dropout(fraction)
    with seeded(dropout, seed, rows, name):
        return dropout(torch.ones(len(rows), *shape), start) > 0


# The fraction, and the scale.


@given(fraction=st.sampled_from(FRACTIONS), seed=st.integers(0, 2**63 - 1))
def test_fraction_is_zeroed_and_the_rest_is_scaled(fraction, seed):
    dropout, count = Dropout(fraction), 64_000
    with seeded(dropout, seed):
        y = dropout(torch.ones(4, 40, 400))
    dropped = min(max(round(fraction * 256), 1), 255) / 256
    deviation = (dropped * (1 - dropped) / count) ** 0.5
    assert (y == 0).double().mean().item() == pytest.approx(dropped, abs=6 * deviation)
    assert y.max().item() == pytest.approx(1 / (1 - dropped)) and len(y.unique()) == 2


@given(st.integers(0, 99))
def test_gradient_is_dropped_where_the_number_is(seed):
    x, dropout = torch.randn(4, 9, requires_grad=True), Dropout(0.5)
    with seeded(dropout, seed):
        y = dropout(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x, y)


def test_half_precision_stays_half_precision():
    dropout = Dropout(0.5)
    with seeded(dropout, rows=range(64)):
        y = dropout(torch.ones(64, dtype=torch.bfloat16))
    assert y.dtype is torch.bfloat16
    assert set(y.tolist()) == {0.0, 2.0}


def test_no_fraction_and_no_training_change_nothing_and_draw_nothing():
    x, before = torch.randn(5), torch.random.get_rng_state()
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5).eval()(x) is x
    idle = Dropout(0.0)
    with seeded(idle):
        assert idle.row_keys is None
    assert torch.equal(torch.random.get_rng_state(), before)


# What a mask depends on.


@given(seed=st.integers(0, 2**63 - 1), cuts=st.sets(st.integers(1, 7)), shape=st.lists(st.integers(1, 19), max_size=3))
def test_rows_mask_is_the_same_however_the_batch_is_split(seed, cuts, shape):
    edges = [0, *sorted(cuts), 8]
    parts = [mask(seed=seed, rows=range(*edges[at : at + 2]), shape=shape) for at in range(len(edges) - 1)]
    assert torch.equal(torch.cat(parts), mask(seed=seed, rows=range(8), shape=shape))


@given(seed=st.integers(0, 99), data=st.data())
def test_part_of_a_tensor_is_dropped_as_in_the_whole(seed, data):
    sizes = data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=3))
    starts = [data.draw(st.integers(0, size - 1)) for size in sizes]
    lengths = [data.draw(st.integers(1, size - start)) for size, start in zip(sizes, starts, strict=True)]
    inside = tuple(slice(start, start + length) for start, length in zip(starts, lengths, strict=True))
    whole = mask(seed=seed, shape=sizes)
    assert torch.equal(mask(seed=seed, shape=lengths, start=starts), whole[(slice(None), *inside)])


def test_mask_of_a_longer_text_begins_with_that_of_a_shorter_one():
    assert torch.equal(mask(shape=(9, 40))[:, :6], mask(shape=(6, 40)))


def test_seed_row_name_and_place_each_change_a_mask():
    result = mask(shape=(6, 400))
    assert not torch.equal(result, mask(seed=4, shape=(6, 400)))
    assert not torch.equal(result, mask(rows=range(1, 5), shape=(6, 400)))
    assert not torch.equal(result, mask(name="blocks.1.dropout", shape=(6, 400)))
    assert not torch.equal(result[:, 0], result[:, 1])


@given(seed=st.integers(0, 2**63 - 1), row=st.integers(0, 2**20), data=st.data())
def test_bytes_are_those_of_splitmix64_written_with_python_numbers(seed, row, data):
    sizes = data.draw(st.lists(st.integers(1, 10), min_size=1, max_size=3))
    keys = row_keys(seed, range(row, row + 1), ("attention.dropout",), CPU)[0]
    got = row_bytes(keys, (1, *sizes))
    golden, limit = 0x9E3779B97F4A7C15, 2**64

    def mixed(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % limit
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % limit
        return z ^ (z >> 31)

    key = mixed((name_key("attention.dropout") + mixed((seed + golden * (row + 1)) % limit)) % limit)
    for place in product(*map(range, sizes)):
        number = 0
        for digit in (*place[:-1], place[-1] // 8):
            number = number * golden + digit + 1
        word = mixed((key + number * golden) % limit)
        assert got[(0, *place)] == word >> 8 * (place[-1] % 8) & 255


def test_masks_of_known_keys_never_change():
    """They are a format: a run that resumes with another version of nanotx drops the same."""
    assert [row.int().tolist() for row in mask(rows=range(2), shape=(12,))] == [
        [0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0],
        [0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1],
    ]


# Statistics.


def test_all_bytes_are_equally_likely_at_each_of_the_eight_places():
    octets = row_bytes(row_keys(0, range(8), ("a",), CPU)[0], (8, 100, 640))
    counts = torch.stack([torch.bincount(octets[..., place::8].flatten().long(), minlength=256) for place in range(8)])
    expected = 64_000 / 256
    chi_square = ((counts - expected).square() / expected).sum(dim=1)
    assert (chi_square - 255).abs().max() < 6 * (2 * 255) ** 0.5


@pytest.mark.parametrize("threshold", [13, 26, 51, 128])
def test_rows_steps_names_and_neighbours_are_not_correlated(threshold):
    """The correlation of two independent masks of n numbers deviates from zero by 1 / sqrt(n)."""

    def draw(seed=1, rows=range(4), name="a"):
        return (row_bytes(row_keys(seed, rows, (name,), CPU)[0], (4, 64, 96)) >= threshold).double()

    def require_uncorrelated(x, y):
        pair = torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1]
        assert abs(float(pair)) < 6 / x.numel() ** 0.5

    masks = draw()
    for item, other in combinations(masks, 2):
        require_uncorrelated(item, other)
    for other in (draw(seed=2), draw(seed=1 + 2**32), draw(rows=range(4, 8)), draw(name="b"), draw(name="")):
        require_uncorrelated(masks, other)
    for distance in (1, 2, 7, 8, 9, 16):
        require_uncorrelated(masks[..., distance:], masks[..., :-distance])
        require_uncorrelated(masks[:, distance:], masks[:, :-distance])


@pytest.mark.parametrize("threshold", [13, 128])
def test_four_corners_of_a_rectangle_are_not_correlated(threshold):
    """Numbers that add up from a row's part and a place's part would be, however random each of the parts is."""
    kept = (row_bytes(row_keys(1, range(4), ("a",), CPU)[0], (4, 64, 96)) >= threshold).double()
    z = (kept - kept.mean()) / kept.std()
    products = {
        "rows and columns": z[1:, :, 8:] * z[:-1, :, 8:] * z[1:, :, :-8] * z[:-1, :, :-8],
        "rows and positions": z[1:, 1:] * z[:-1, 1:] * z[1:, :-1] * z[:-1, :-1],
        "positions and columns": z[:, 1:, 8:] * z[:, :-1, 8:] * z[:, 1:, :-8] * z[:, :-1, :-8],
    }
    for corners, values in products.items():
        assert abs(values.mean()) < 6 / values.numel() ** 0.5, corners


# The context.


def test_outside_of_a_step_masks_follow_the_default_generator():
    dropout, x = Dropout(0.5), torch.ones(5, 99)
    torch.manual_seed(3)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_in_a_step_nothing_is_drawn_from_the_default_generator():
    before = torch.random.get_rng_state()
    mask()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_keys_are_gone_after_the_context_and_after_an_error_in_it():
    dropout = Dropout(0.5)
    with pytest.raises(ZeroDivisionError), seeded(dropout):
        assert dropout.row_keys is not None
        raise ZeroDivisionError
    assert dropout.row_keys is None


def test_dropouts_are_found_by_name_and_none_is_in_the_state():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(Dropout(0.1)))
    assert named_dropouts(model) == {"1.0": model[1][0]}
    with row_seeded(named_dropouts(model), 1, range(3), CPU):
        assert list(model.state_dict()) == ["0.weight", "0.bias"]


def test_tensor_without_a_row_per_sequence_is_refused_with_its_shape_and_the_remedy():
    dropout = Dropout(0.5)
    with seeded(dropout), pytest.raises(ConfigError, match=r"\(20, 3\) .* 4 rows.* before the batch is\s+flattened"):
        dropout(torch.ones(20, 3))


def test_operation_inside_compiled_code_gives_the_bytes_of_eager_code():
    keys, start = row_keys(1, range(3), ("a",), CPU)[0], (2, 3)
    assert torch.equal(torch.ops.nanotx.row_bytes(keys, (3, 5, 21), start), row_bytes(keys, (3, 5, 21), start))


COMPILED = """
import copy
import torch
from torch._dynamo.utils import counters
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.nn.dropout import named_dropouts, row_seeded
from nanotx.nn.transformer import Model
from nanotx.training.compile import compile_blocks

for name in ("sdpa", "fused"):
    block = Block.find("prenorm")(attention=Attention.find(name)(heads=2, dropout=0.3), dropout=0.3)
    eager = Model(dim=16, layers=3, context=8, block=block, dropout=0.3).build(11).train()
    compiled = copy.deepcopy(eager)
    compile_blocks(compiled, backend="aot_eager")
    before = counters["stats"]["unique_graphs"]
    for step in range(3):
        ids, passes = torch.randint(11, (4, 8)), []
        for model in (eager, compiled):
            model.activation_checkpointing = step == 2
            with row_seeded(named_dropouts(model), step, range(4 * step, 4 * step + 4), torch.device("cpu")):
                passes.append(model(ids))
                model.zero_grad()
                passes[-1].square().mean().backward()
            passes.append(model.embedding.weight.grad)
        torch.testing.assert_close(passes[2], passes[0])
        torch.testing.assert_close(passes[3], passes[1])
    assert counters["stats"]["unique_graphs"] == before + 1, counters["stats"]
    assert not counters["graph_break"], counters["graph_break"]
"""


@pytest.mark.slow
def test_compiled_blocks_drop_as_eager_ones_do_and_no_step_compiles_again():
    # In a process of its own: what checks annotations here cannot be traced.
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, encoding="utf-8", check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
