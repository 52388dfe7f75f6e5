"""Documents of token files: packed whole, learned once an epoch, in an order that no number of ranks changes."""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nanotx.cli.main import run as nanotx_command
from nanotx.data.corpus.tokens import Tokens
from nanotx.data.documents import Documents, PackedWindows, pack
from nanotx.data.mixtures import JoinedRows, MixedDocuments
from nanotx.data.packed_files import PackedFile, documents_of, long_pieces, pack_file
from nanotx.data.packing_plan import best_fit
from nanotx.data.shares import Share
from nanotx.data.stored_ids import DiskIds, JoinedIds, boundary
from nanotx.errors import ConfigError, DataError, LawBroken
from nanotx.evaluation.loss import evaluate
from nanotx.hardware.device import choose_machine
from nanotx.laws.mixtures import ranks_agree, shares_kept
from nanotx.laws.packing import each_target_once
from nanotx.laws.windows import batch_invariant_order
from nanotx.nn.attention.linear import LinearKernel
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Train
from nanotx.tokenizers.byte import ByteCodec
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.token_file import Block, Place, write_tokens
from nanotx.training.dataset import load_dataset
from nanotx.training.trainer import Trainer

quick = settings(max_examples=20, deadline=None)
few = settings(max_examples=6, deadline=None)
lengths_drawn = st.lists(st.one_of(st.integers(0, 12), st.just(40)), min_size=1, max_size=25)


class Marked(DiskIds):
    """Ids in memory with the ends of their documents, as a token file gives them."""

    def __init__(self, lengths, first=1):
        self.row, self.ends = np.arange(first, first + sum(lengths), dtype=np.int32), np.cumsum(lengths)
        self.count, self.dtype = len(self.row), self.row.dtype

    def read(self, first, count):
        return self.row[first : first + count]

    def blocks_of_ends(self, first, count, at_once=2**16):
        """In smaller blocks than are asked for, and some of them empty, as the files of many small texts give them."""
        inside = (self.ends > first) & (self.ends <= first + count)
        ends = np.unique(self.ends[inside]) - first
        for at in range(0, len(ends), min(3, at_once)):
            yield ends[at : at + min(3, at_once)]
            yield ends[:0]

    @property
    def texts(self):
        return [part.tolist() for part in np.split(self.row, self.ends) if len(part)]


def windows_of(lengths, context, seed=3):
    ids = Marked(lengths)
    return PackedWindows(packed=pack_file(ids, context), seed=seed), ids.texts


# The rows.


@quick
@given(lengths=lengths_drawn, context=st.integers(1, 9), batch=st.integers(1, 7), epoch=st.integers(0, 3))
def test_each_token_is_learned_once_an_epoch_after_its_own_document(lengths, context, batch, epoch):
    if sum(lengths):
        windows, texts = windows_of(lengths, context)
        each_target_once(windows, texts, batch, epoch)
        assert windows.learned(0, windows.per_epoch) == windows.packed.targets


@quick
@given(lengths=lengths_drawn, context=st.integers(1, 9))
def test_rows_are_those_of_best_fit_one_document_at_a_time(lengths, context):
    """The plan by lengths alone fills as many rows with the same numbers of ids as the packing in memory."""
    lengths = [length for length in lengths if length] or [1]
    packed = pack_file(Marked(lengths), context)
    starts = np.cumsum([0, *lengths[:-1]])
    slow = pack(Documents(ids=np.arange(1, sum(lengths) + 1), starts=starts), context, True)
    taken = (packed.read(slice(None)) > 0).sum(axis=1)
    assert sorted(taken) == sorted((slow.ids > 0).sum(axis=1)) and packed.filled == taken.sum()
    assert packed.targets == slow.targets
    assert packed.counted_of(slice(None)).sum() == packed.filled
    assert packed.flat[:].tolist() == packed.read(slice(None)).reshape(-1).tolist()


@quick
@given(lengths=lengths_drawn, blocks=st.integers(1, 30))
def test_documents_are_the_same_in_blocks_of_any_size(lengths, blocks):
    ids = Marked(lengths)
    found = [pair for starts, ends in documents_of(ids, blocks) for pair in zip(starts, ends, strict=True)]
    assert [ids.row[start:end].tolist() for start, end in found] == ids.texts


@quick
@given(lengths=lengths_drawn, context=st.integers(1, 9), blocks=st.integers(1, 30))
def test_rows_are_those_of_the_slow_definition_in_blocks_of_any_size(lengths, context, blocks):
    ids = Marked(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nanotx.data.packed_files.BLOCK", blocks)
        patch.setattr("nanotx.data.packed_files.BLOCK_LENGTHS", 0)
        packed = pack_file(ids, context)
    pieces = pieces_by_hand(ids.texts, context + 1)
    counts = np.bincount([len(piece) for piece in pieces], minlength=context + 2)
    rows = [[pieces[number] for number in row] for row in rows_by_hand(counts)]
    assert packed.read(slice(None)).tolist() == [list(chain(*row, [0] * context))[: context + 1] for row in rows]
    numbers = np.arange(len(pieces))
    assert packed.pieces.starts(numbers).tolist() == [piece[0] - 1 for piece in pieces]
    assert packed.pieces.starts(numbers[::-1]).tolist() == [piece[0] - 1 for piece in pieces[::-1]]
    assert len(packed.pieces) == len(pieces) and packed.filled == sum(map(len, pieces))
    longer = sum(len(text) > context + 1 for text in ids.texts)
    assert (packed.documents_cut, packed.documents_whole) == (longer, len(ids.texts) - longer)


class Unread(Marked):
    """Documents too long to be held: their ends are known alone."""

    def __init__(self, lengths):
        self.ends = np.cumsum(np.array(lengths, np.int64))
        self.count, self.dtype = int(self.ends[-1]), np.dtype("<u2")


@pytest.mark.parametrize("blocks", [1, 3, 100])
@pytest.mark.parametrize("context", [2**15, 2**16, 2**20])
def test_pieces_of_texts_beyond_32_bits_begin_where_they_do(context, blocks, monkeypatch):
    monkeypatch.setattr("nanotx.data.packed_files.BLOCK", blocks)
    monkeypatch.setattr("nanotx.data.packed_files.BLOCK_LENGTHS", 0)
    lengths = [7, 2**31 + 9, 5, 2**32 + 2**20 + 2, 2**20, 7, 1, 2**33, 2**20 + 1, 40]
    begins = np.cumsum([0, *lengths[:-1]]).tolist()
    pieces = [
        (begin + at, min(context + 1, length - at))
        for begin, length in zip(begins, lengths, strict=True)
        for at in range(0, max(1, length - 1), context)
    ]
    packed = pack_file(Unread(lengths), context)
    pieces.sort(key=lambda piece: -piece[1])
    assert packed.pieces.starts(np.arange(len(packed.pieces))).tolist() == [start for start, _ in pieces]
    assert packed.filled == sum(length for _, length in pieces)


def pieces_by_hand(texts, width):
    """Pieces of at most `width` ids that overlap by one, the longest first, those of one length as in the text."""
    pieces = [text[at : at + width] for text in texts for at in range(0, max(1, len(text) - 1), width - 1)]
    return sorted(pieces, key=len, reverse=True)


def rows_by_hand(counts):
    """Best-fit decreasing, row by row, of documents numbered from the longest: the order of rows is part of a run."""
    width, first = len(counts) - 1, 0
    full, by_room = [], {}  # groups of rows; the last one of a room comes first
    for length in range(width, 0, -1):
        left = int(counts[length])
        while left:
            room = min((room for room in by_room if room >= length and by_room[room]), default=width)
            rows = by_room[room].pop() if room < width else [[] for _ in range(max(1, left // (width // length)))]
            each = min(left, room // length)
            some, others = rows[: left // each], rows[left // each :]
            for row in some:
                row += range(first, first + each)
                first, left = first + each, left - each
            if others:
                by_room[room].append(others)
            group = by_room.setdefault(room - each * length, []) if room > each * length else full
            group.append(some)
    return [row for group in [*full, *(group for room in sorted(by_room) for group in by_room[room])] for row in group]


@pytest.mark.parametrize(
    ("context", "digest"), [(7, "a44d84dd1943"), (64, "4ba0f5636120"), (200, "b69a4e3100b1"), (1000, "5d4e3c5f752f")]
)
def test_rows_are_those_of_the_runs_that_were_begun_before(context, digest):
    """A run that resumes reads the rows that it would have read: these digests never change."""
    lengths = (np.arange(1, 3001) * 2654435769 % 2**32 % 97) ** 2 // 23
    rows = pack_file(Marked(lengths.tolist()), context).read(slice(None))
    assert hashlib.sha256(rows.astype("<i4").tobytes()).hexdigest().startswith(digest)


def test_plan_of_ten_million_documents_is_a_few_thousand_groups():
    counts = np.zeros(1026, np.int64)
    counts[1:] = np.random.default_rng(1).integers(0, 20_000, 1025)
    plan = best_fit(counts)
    assert counts.sum() > 10**7 and len(plan.groups) < 5_000
    assert sum(g.rows * count for g in plan.groups for _, count, _ in g.fillings()) == counts.sum()
    assert all(sum(length * count for length, count, _ in g.fillings()) <= 1025 for g in plan.groups)


@few
@given(lengths=lengths_drawn, step=st.integers(0, 10**6), ranks=st.sampled_from([1, 2, 4, 8, 16, 32, 64]))
def test_order_is_the_same_for_1_to_64_ranks_and_asked_again(lengths, step, ranks):
    if sum(lengths):
        windows, _ = windows_of(lengths, 6)
        ranks_agree(windows, step, 64, ranks)
        batch_invariant_order(windows, [1, step], 3)
        own = [windows.batch(step, 64, range(64 // ranks * rank, 64 // ranks * (rank + 1))) for rank in range(ranks)]
        for whole, parts in zip(windows.batch(step, 64), zip(*own, strict=True), strict=True):
            assert torch.equal(whole, torch.cat(parts))


class OneText(PackedFile):
    """Rows whose documents read one another."""

    def numbers_of(self, rows):
        return np.zeros_like(super().numbers_of(rows))


class LearnedPadding(PackedFile):
    """The padding is a document."""

    def counted_of(self, rows):
        return np.ones_like(super().counted_of(rows))


class CutAtWindows(PackedFile):
    """Rows are cut from the text, wherever documents end."""

    def read(self, rows):
        width = self.plan.width
        return np.stack([np.resize(self.ids.row[row * width :][:width], width) for row in self.indices(rows)])


class Neighbour(PackedFile):
    """Every document begins one token late."""

    def read(self, rows):
        return super().read(rows) + 1


class Drawn(PackedWindows):
    """Rows are drawn with replacement."""

    def order(self, step, batch):
        return np.random.default_rng(step).integers(0, self.per_epoch, batch)


class Again(PackedWindows):
    """The order begins again at every step."""

    def order(self, step, batch):
        return super().order(0, batch)


@dataclass(frozen=True, kw_only=True, eq=False)
class ByRank(PackedWindows):
    """The order depends on how many rows are asked for."""

    def order(self, step, batch):
        return (super().order(step, batch) + batch) % self.per_epoch


LENGTHS = [3, 7, 20, 1, 5, 2, 6, 4, 9, 9, 2]


@pytest.mark.parametrize("mutant", [OneText, LearnedPadding, CutAtWindows, Neighbour])
def test_law_of_packing_catches_rows_that_are(mutant):
    windows, texts = windows_of(LENGTHS, 6)
    each_target_once(windows, texts, 4)
    wrong = mutant(**vars_of(windows.packed))
    with pytest.raises(LawBroken, match=r"each_target_once: token \d+ after .* is learned \d+ times in epoch 0"):
        each_target_once(replace(windows, packed=wrong), texts, 4)


def vars_of(packed):
    return {name: getattr(packed, name) for name in ("ids", "plan", "pieces", "documents_whole", "documents_cut")}


def lost_tail(lengths, width):
    """Pieces without the last one of a long document."""
    counts, rest = long_pieces(lengths, width)
    return counts, 0 * rest


@pytest.mark.parametrize(("name", "mutant"), [("OVERLAP", 0), ("long_pieces", lost_tail)])
def test_law_of_packing_catches_pieces_with_another(name, mutant, monkeypatch):
    """Pieces that share no token, so that the first of each is never learned; and a long document without its end."""
    monkeypatch.setattr(f"nanotx.data.packed_files.{name}", mutant)
    windows, texts = windows_of(LENGTHS, 6)
    with pytest.raises(LawBroken, match=r"each_target_once: token \d+ after"):
        each_target_once(windows, texts, 4)


@pytest.mark.parametrize("mutant", [Drawn, Again])
def test_law_of_packing_catches_an_order_that_is(mutant):
    windows, texts = windows_of(LENGTHS, 6)
    with pytest.raises(LawBroken, match="each_target_once: token"):
        each_target_once(mutant(packed=windows.packed, seed=3), texts, 4)


def test_law_of_ranks_catches_an_order_that_depends_on_them():
    windows, _ = windows_of(LENGTHS, 6)
    with pytest.raises(LawBroken, match="ranks_agree: with 2 ranks"):
        ranks_agree(ByRank(packed=windows.packed, seed=3), 3, 64, 2)


# Mixtures.


@few
@given(seed=st.integers(0, 2**31), batch=st.integers(1, 6), weight=st.floats(0.05, 0.95))
def test_mixture_of_documents_keeps_its_shares_and_reads_each_text_once_before_again(seed, batch, weight):
    parts = [Marked([3, 7, 20, 1, 5]), Marked([4, 4, 4, 9], first=1000)]
    rows = [pack_file(ids, 6) for ids in parts]
    weights = (weight, 1 - weight)
    shares = tuple(
        Share(name=str(n), length=len(text.flat), weight=share)
        for n, (text, share) in enumerate(zip(rows, weights, strict=True))
    )
    windows = MixedDocuments(packed=JoinedRows(rows), shares=shares, seed=seed)
    shares_kept(windows, 300, batch)
    batch_invariant_order(windows, [0, 5], batch)
    order = windows.order(0, 300)
    for offset, text in zip(windows.packed.offsets, rows, strict=False):
        own = order[(order >= offset) & (order < offset + len(text))] - offset
        epochs = [own[at : at + len(text)] for at in range(0, len(own) - len(text) + 1, len(text))]
        assert all(sorted(epoch) == list(range(len(text))) for epoch in epochs)
    x, _ = windows.batch(0, 60)
    assert ((x >= 1000).any(1) != ((x > 0) & (x < 1000)).any(1)).all()  # no row has tokens of two texts
    assert windows.packed.targets == sum(text.targets for text in rows)
    assert windows.ids[: len(rows[0].flat)].tolist() == rows[0].flat[:].tolist()


# Where a text is cut for validation.


@quick
@given(lengths=lengths_drawn, data=st.data())
def test_boundary_is_where_a_document_begins(lengths, data):
    ids = Marked(lengths)
    if len(ids):
        at = data.draw(st.integers(0, len(ids) - 1))
        begins = [0, *[end for end in ids.ends if 0 < end < len(ids)]]
        assert boundary(ids, at) == next((begin for begin in begins if begin >= at), begins[-1])


def test_ends_of_joined_files_are_ends_of_documents():
    joined = JoinedIds([(Marked([3, 4]), 0, 7), (Marked([2, 2], first=50), 0, 3)])
    assert [(s.tolist(), e.tolist()) for s, e in documents_of(joined, 100)] == [([0, 3, 7, 9], [3, 7, 9, 10])]


# From token files.


def encoded(path, texts, marked=True):
    """A token file of the bytes of texts."""
    ids = np.frombuffer("".join(texts).encode(), np.uint8)
    ends = np.cumsum([len(text) for text in texts]) if marked else np.empty(0, np.int64)
    place = Place(count=len(ids), size=len(ids), documents=len(ends))
    write_tokens(ByteCodec(), path, lambda _: [Block(ids, place, ends)])
    return str(path)


MACHINE = choose_machine("cpu", "float32", 1)
MODEL = Model(dim=16, layers=1, context=16, block=PreNorm(attention=Sdpa(heads=2)))
TEXTS = [chr(97 + n) * (n % 5) + "xyz"[: n % 3] + "-" * (40 * (n == 7)) for n in range(26)]  # one is empty, one is long


def recipe(*paths, model=MODEL, **fields):
    corpus = Tokens(path=paths, documents="separate", **fields)
    plan = Train(batch_size=4, steps=2, grad_clip=0.0)
    return Recipe(corpus=corpus, tokenizer=Saved(path=str(paths[0])), model=model, train=plan)


def test_documents_of_files_are_packed_and_the_last_ones_validate(tmp_path):
    first, second = encoded(tmp_path / "a", TEXTS[:13]), encoded(tmp_path / "b", TEXTS[13:])
    said = []
    data = load_dataset(recipe(first, second), say=said.append)
    held_out = [text for text in TEXTS if text][-3:]
    assert data.codec.decode(data.eval_texts["val"].ids) == "".join(held_out)
    training = [text.encode() for text in TEXTS if text][:-3]
    each_target_once(data.windows, training, 4)
    assert data.eval_texts["val"].tokens == data.eval_texts["val"].size == sum(len(text) - 1 for text in held_out)
    rows = len(data.windows.packed)
    assert data.padding == pytest.approx(1 - data.windows.packed.filled / (17 * rows))
    assert said == [
        f"corpus tokens: {len(training)} documents in {rows} rows of 17 tokens, {data.padding:.1%} padding; 1 of them "
        "are longer and are cut."
    ]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice")
@pytest.mark.parametrize("documents", ["join", "separate"])
def test_what_a_batch_reads_is_announced_before(documents, tmp_path, monkeypatch):
    """So a disk reads it all at the same time; without advice the batch is the same."""
    plan = recipe(encoded(tmp_path / "a", TEXTS), encoded(tmp_path / "b", TEXTS))
    windows = load_dataset(replace(plan, corpus=replace(plan.corpus, documents=documents))).windows
    batch, calls = windows.batch(0, 6), []
    with monkeypatch.context() as patch:
        pread, advise = os.pread, os.posix_fadvise
        patch.setattr(os, "pread", lambda *span: calls.append(("read", span)) or pread(*span))
        patch.setattr(os, "posix_fadvise", lambda *span: calls.append(("announce", span)) or advise(*span))
        windows.batch(0, 6)
    names = [name for name, _ in calls]
    assert names == sorted(names) and len(set(names)) == 2
    announced = {(file, start, size) for name, (file, start, size, *_) in calls if name == "announce"}
    read = {(file, start, size) for name, (file, size, start, *_) in calls if name == "read"}
    if documents == "separate":
        assert announced == read
    else:  # of a window in two files the first part alone
        assert announced <= read and len(read - announced) <= 1
    for advice in (None, unknown_advice):
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fadvise", advice) if advice else patch.delattr(os, "posix_fadvise")
            assert all(map(torch.equal, windows.batch(0, 6), batch))


def unknown_advice(*span):
    raise OSError("a file system may know none")


def test_loss_of_a_step_and_of_an_evaluation_is_the_mean_over_documents_each_read_alone(tmp_path):
    plan = recipe(encoded(tmp_path / "a", TEXTS))
    data = load_dataset(plan)
    trainer = Trainer(plan, MODEL.build(256, 1), data.windows, MACHINE)

    def by_hand(rows):
        losses = []
        for ids, numbers, counted in zip(rows.ids, rows.numbers, rows.counted, strict=True):
            for number in range(numbers.max() + 1):
                own = torch.from_numpy(ids[(numbers == number) & counted]).long()[None]
                if own.shape[1] > 1:
                    losses.append(F.cross_entropy(trainer.model(own[:, :-1])[0], own[0, 1:], reduction="none"))
        return torch.cat(losses).mean().item()

    rows, order = data.windows.packed.spread(10**6), data.windows.order(0, 4)
    step = replace(rows, ids=rows.ids[order], numbers=rows.numbers[order], counted=rows.counted[order])
    assert trainer.compute_gradients()["loss"] == pytest.approx(by_hand(step), rel=1e-5)
    val = data.eval_texts["val"]
    assert evaluate(trainer.model, val, MACHINE).loss == pytest.approx(by_hand(val.packed.spread(10**6)), rel=1e-5)


def test_run_on_documents_resumes_to_the_bit_and_is_verified(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    encoded(tmp_path / "a.ids", TEXTS), encoded(tmp_path / "b.ids", TEXTS[::-1])
    words = ["train", "shakespeare_char", *tiny(), "--corpus", "tokens", "--corpus.documents", "separate"]
    words += ["--corpus.path", "a.ids", "b.ids", "--corpus.weights", "0.7", "0.3", "--schedule", "constant"]
    assert nanotx_command([*words, "--run", "whole"]) == 0
    words[words.index("--train.steps") + 1] = "3"
    assert nanotx_command([*words, "--run", "half"]) == 0
    assert nanotx_command(["resume", "half", "--train.steps", "6"]) == 0
    whole, half = (measured(Path(folder)) for folder in ("whole", "half"))
    assert whole == half and len(whole) == 6
    start = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert 0 < start["padding"] < 1
    for command in (["verify", "whole"], ["eval", "whole"], ["replay", "whole", "--step", "5"]):
        assert nanotx_command(command) == 0
    assert "documents in" in capsys.readouterr().out


def measured(folder):
    """What was measured of each step, clocks aside; what was written for it again replaces it."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [row for row in map(json.loads, lines) if row["event"] == "step"]
    return {row["step"]: (row["loss"], row["grad_norm"]) for row in steps}


def test_files_whose_documents_cannot_be_kept_apart_are_refused(tmp_path):
    plain, short = encoded(tmp_path / "plain", TEXTS, marked=False), encoded(tmp_path / "short", ["abcdefghij"])
    good, empty = encoded(tmp_path / "good", TEXTS), encoded(tmp_path / "empty", [""])
    with pytest.raises(DataError, match=r"plain: marks no documents, .* encode the texts again .*documents join"):
        load_dataset(recipe(good, plain))
    with pytest.raises(DataError, match=r"0 tokens to train on and 10 to validate on .* try more documents"):
        load_dataset(recipe(short))
    with pytest.raises(DataError, match=r"0 tokens to learn and 0 to validate on: the first token .* longer documents"):
        load_dataset(recipe(encoded(tmp_path / "letters", list("abcdefghij"))))
    with pytest.raises(DataError, match=r"short has no document to train on"):
        load_dataset(recipe(good, short, weights=(0.5, 0.5)))
    with pytest.raises(ConfigError, match=r"linear.*documents"):
        load_dataset(recipe(good, model=replace(MODEL, block=PreNorm(attention=LinearKernel(heads=2)))))
    assert load_dataset(recipe(good, empty)).size == load_dataset(recipe(good)).size
