"""Mixtures of token files: each text has its share of the rows, and is read once before it is read again."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotx.cli.main import run as nanotx_command
from nanotx.data.batches import Windows
from nanotx.data.corpus import TokenFiles
from nanotx.data.corpus.tokens import Tokens
from nanotx.data.mixtures import CIRCLE, GOLDEN, MixedWindows, floor_sum
from nanotx.data.shares import Share
from nanotx.errors import ConfigError, DataError, LawBroken
from nanotx.laws.mixtures import each_text_once, ranks_agree, shares_kept
from nanotx.laws.windows import batch_invariant_order, targets_shifted
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Train
from nanotx.tokenizers.byte import ByteCodec
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.token_file import Block, Place, write_tokens
from nanotx.training.dataset import load_dataset

quick = settings(max_examples=25, deadline=None)


@st.composite
def mixtures(draw):
    """Windows of a few texts of any lengths and weights."""
    context, texts = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    lengths = [context + draw(st.integers(1, 60)) for _ in range(texts)]
    raw = [draw(st.integers(1, 1000)) for _ in range(texts)]
    shares = tuple(
        Share(name=f"{n}", length=length, weight=w / sum(raw))
        for n, (length, w) in enumerate(zip(lengths, raw, strict=True))
    )
    return MixedWindows(ids=np.arange(sum(lengths)), context=context, seed=draw(st.integers(0, 2**31)), shares=shares)


@quick
@given(windows=mixtures(), step=st.integers(0, 10**9), batch=st.integers(1, 5))
def test_mixture_keeps_the_laws_of_windows(windows, step, batch):
    targets_shifted(windows, step, batch)
    batch_invariant_order(windows, [0, 1, step], batch)


@quick
@given(windows=mixtures(), batch=st.integers(20, 90))
def test_mixture_keeps_its_shares_and_reads_each_window_of_a_text_once_an_epoch(windows, batch):
    shares_kept(windows, 600, batch)
    each_text_once(windows, 300, batch)


@quick
@given(windows=mixtures(), step=st.integers(0, 10**6), ranks=st.sampled_from([1, 2, 4, 8, 16, 32, 64]))
def test_order_is_the_same_for_1_to_64_ranks(windows, step, ranks):
    ranks_agree(windows, step, 64, ranks)
    ranks_agree(Windows(ids=windows.ids, context=windows.context, seed=windows.seed), step, 64, ranks)


class Drawn(MixedWindows):
    """Texts by chance."""

    def texts(self, first, end):
        return np.array(
            [
                np.random.default_rng(row).choice(len(self.shares), p=[s.weight for s in self.shares])
                for row in range(first, end)
            ]
        )

    def counts(self, rows):
        return [0] * len(self.shares)  # all rows are of one step


class Restarted(MixedWindows):
    """Each text begins again at every step, as where a counter is kept by a process and lost."""

    def counts(self, rows):
        return [0] * len(self.shares)


class Crossing(MixedWindows):
    """Windows that reach into the next text."""

    def starts(self, step, batch):
        return super().starts(step, batch) + 1


SHARES = (Share(name="a", length=50, weight=0.7), Share(name="b", length=40, weight=0.3))


@pytest.mark.parametrize(
    ("mutant", "law", "message"),
    [
        (Drawn, lambda windows: shares_kept(windows, 4000, 4000), r"shares_kept: of the first \d+ rows \d+ are of a"),
        (Restarted, lambda windows: each_text_once(windows, 100, 8), "each_text_once: row .* of a begins at"),
        (Crossing, lambda windows: each_text_once(windows, 100, 8), "each_text_once: row .* begins at"),
    ],
)
def test_law_of_mixtures_catches(mutant, law, message):
    with pytest.raises(LawBroken, match=message):
        law(mutant(ids=np.arange(90), context=4, seed=1, shares=SHARES))


def test_law_of_ranks_catches_rows_that_depend_on_them(monkeypatch):
    windows = MixedWindows(ids=np.arange(90), context=4, seed=1, shares=SHARES)
    original = MixedWindows.starts
    monkeypatch.setattr(MixedWindows, "starts", lambda self, step, batch: original(self, step, batch) + (batch == 32))
    with pytest.raises(LawBroken, match="ranks_agree: with 2 ranks, row 0 of step 3 begins at"):
        ranks_agree(windows, 3, 64, 2)


@quick
@given(count=st.integers(0, 400), divisor=st.integers(1, 50), factor=st.integers(0, 99), start=st.integers(0, 99))
def test_sum_of_floors_is_the_sum(count, divisor, factor, start):
    assert floor_sum(count, divisor, factor, start) == sum((factor * i + start) // divisor for i in range(count))


def test_place_of_rows_is_each_once_around_the_circle():
    assert math.gcd(GOLDEN, CIRCLE) == 1 and abs(GOLDEN / CIRCLE - (math.sqrt(5) - 1) / 2) < 1e-9
    windows = MixedWindows(ids=np.arange(90), context=4, seed=3, shares=SHARES)
    assert windows.counts(CIRCLE) == [round(0.7 * CIRCLE), CIRCLE - round(0.7 * CIRCLE)]
    far = 10**15
    assert (
        np.bincount(windows.texts(far, far + 100)).tolist()
        == np.subtract(windows.counts(far + 100), windows.counts(far)).tolist()
    )


# From token files.


def tokens(path, ids, size=0):
    """A token file of bytes."""
    write_tokens(ByteCodec(), path, lambda _: [Block(np.asarray(ids), Place(count=len(ids), size=size or len(ids)))])
    return str(path)


def recipe(corpus, first, context=8):
    return Recipe(corpus=corpus, tokenizer=Saved(path=first), model=Model(context=context), train=Train())


def test_mixture_of_files_trains_on_each_and_holds_out_the_end_of_each(tmp_path):
    (tmp_path / "web").mkdir()
    web = [tokens(tmp_path / "web" / f"{n}.ids", [n] * 100, size=300) for n in range(2)]
    code = tokens(tmp_path / "code.ids", [7] * 100, size=100)
    corpus = Tokens(path=(str(tmp_path / "web" / "*.ids"), code), weights=(0.25, 0.75))
    assert corpus.token_files().sizes == (2, 1)
    data = load_dataset(recipe(corpus, web[0]))
    assert data.windows.ids[:].tolist() == [0] * 100 + [1] * 80 + [7] * 90
    assert data.eval_texts["val"].ids.tolist() == [1] * 20 + [7] * 10
    assert float(data.bytes_per_token) == pytest.approx(0.25 * 3 + 0.75 * 1)
    x, _ = data.windows.batch(0, 64)
    assert (x == 7).all(dim=1).sum().item() in (47, 48, 49)
    assert ((x == 7).any(dim=1) == (x == 7).all(dim=1)).all()  # no window has tokens of both
    plain = load_dataset(recipe(replace(corpus, weights=()), web[0]))
    assert type(plain.windows) is Windows and plain.sha256 == data.sha256


def test_one_text_with_the_weight_1_is_read_in_shares_too(tmp_path):
    path = tokens(tmp_path / "a.ids", range(200))
    windows = load_dataset(recipe(Tokens(path=(path,), weights=(1.0,)), path)).windows
    each_text_once(windows, 60, 7)


WRONG = {
    "do not add up": ((0.8, 0.3), r"expected weights that add up to 1, got 0.8 0.3, which add up to 1.1; try 0.727273"),
    "negative": ((1.2, -0.2), r"expected weights above 0, .* that add up to 1, got 1.2 -0.2"),
    "zero": ((1.0, 0.0), r"expected weights above 0, .* leave a path out"),
    "NaN": ((0.5, math.nan), r"expected weights above 0, .* got 0.5 nan"),
    "too many": ((0.5, 0.25, 0.25), r"expected a weight for each of the 2 paths, got 3: 0.5 0.25 0.25"),
    "too few": ((1.0,), r"expected a weight for each of the 2 paths, got 1: 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_weights_that_are_wrong_are_refused(name):
    weights, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        Tokens(path=("a.ids", "b.ids"), weights=weights)


def test_text_of_a_mixture_that_is_too_short_is_named(tmp_path):
    long, short = tokens(tmp_path / "long.ids", range(200)), tokens(tmp_path / "short.ids", range(8))
    with pytest.raises(DataError, match=r"short.ids has 7 tokens to train on, and no window of model.context=8"):
        load_dataset(recipe(Tokens(path=(long, short), weights=(0.5, 0.5)), long))
    with pytest.raises(DataError, match=r"sizes that add up to its 2 files, got sizes=\(1,\)"):
        TokenFiles(train=[long, short], sizes=[1], weights=[1.0])


def test_run_on_a_mixture_records_its_weights_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.ids", "b.ids")):
        tokens(tmp_path / name, np.arange(number, 300) % 256)
    words = ["train", "shakespeare_char", *tiny(train_steps=2), "--corpus", "tokens", "--corpus.path", "a.ids", "b.ids"]
    words += ["--corpus.weights", "0.8", "0.2", "--tokenizer", "a.ids", "--run", "run"]
    assert nanotx_command(words) == 0
    assert "weights = [" in (tmp_path / "run" / "recipe.toml").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert any(row["event"] == "eval" and row["bits_per_byte"] for row in rows)
    assert nanotx_command(["resume", "run", "--train.steps", "3"]) == 0
