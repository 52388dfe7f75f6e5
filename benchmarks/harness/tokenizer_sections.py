"""What the benchmark of tokenizers measures, in sections: learning, encoding, look-ups, all cores, files."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harness import Row
from harness.laws import PASS
from harness.passages import documents
from harness.processes import megabytes, peak_in_child
from harness.report import Announce
from harness.timing import MIN_ROUNDS, Times, interleave, iqr, ratio, seconds
from harness.tokenizer_rivals import PATTERN, Rival, encoders, same_ids, trainers
from nanotx.hardware.cpu import cores
from nanotx.laws.law import Where
from nanotx.laws.registry import LAWS
from nanotx.laws.runner import attempt
from nanotx.tokenizers import Codec, Tokenizer
from nanotx.tokenizers.bpe import Bpe, BpeCodec, compiled
from nanotx.tokenizers.bpe.splitting import Splitter
from nanotx.tokenizers.bpe.training import count_pieces, learn_merges
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.regexes import source_of

CPU = torch.device("cpu")
REFERENCE = {"learn": "rustbpe", "encode": "tiktoken", "all cores": "tiktoken"}
VOCAB_SIZE, LESSON = 32_768, 10  # of the tokenizer that encodes, and the megabytes of text that it is learned from
HUGE = 50  # megabytes, from which on nothing is measured cold, and only the largest vocabulary is learned


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How thoroughly all of it is measured."""

    texts: tuple[str, ...]
    megabytes: tuple[int, ...]
    vocab_sizes: tuple[int, ...]
    rounds: int
    seconds: float
    cases: int
    quick: bool

    def passages(self) -> Iterator[tuple[str, float, list[str]]]:
        """Each text in each size, with its name and its true size; one that is all there is comes once."""
        for kind in self.texts:
            before = 0.0
            for size in self.megabytes:
                found = documents(kind, size)
                if self.quick:
                    found = [found[0][:50_000]]
                true = sum(len(text.encode("utf-8")) for text in found) / 1e6
                if true > 1.01 * before:
                    yield kind, true, found
                before = true


def judged(plan: Plan, name: str) -> Row:
    """What the laws say of a tokenizer."""
    part = Tokenizer.find(name)
    verdicts = [attempt(law, part, plan.cases, Where(device="cpu", dtype="float32")) for law in LAWS["tokenizer"]]
    broken = [one.broken for one in verdicts if one.broken]
    return {"laws": f"failed: {broken[0]}" if broken else PASS, "cases": sum(one.cases for one in verdicts)}


def timed(
    task: str, about: Row, runs: dict[str, Callable[[], object]], plan: Plan, calls: int | None = None
) -> list[Row]:
    """A row for each candidate, all of them measured in turns."""
    if about["laws"] != PASS:
        return [figures(task, name, about, {}) for name in runs]
    times = interleave(runs, plan.rounds, CPU, calls, plan.seconds)
    return [figures(task, name, about, times) for name in runs]


def figures(task: str, name: str, about: Row, times: Times) -> Row:
    """A row; without times, only what is known without them."""
    taken, reference = times.get(name, []), REFERENCE.get(task)
    middle = statistics.median(taken) if taken else None
    return {
        "task": task,
        "name": name,
        "device": "cpu",
        "state": None,
        "vocab_size": None,
        "hits": None,
        "memory_mb": None,
        "median_ms": middle and 1e3 * middle,
        "iqr_ms": 1e3 * iqr(taken) if taken else None,
        "rounds": len(taken),
        "megabytes_per_second": middle and about["megabytes"] / middle,
        "tokens_per_second": middle and about.get("tokens") and about["tokens"] / middle,
        "reference": reference,
        "ratio": ratio(times, name, reference) if reference else None,
        **about,
    }


def learning(plan: Plan, tell: Announce) -> list[Row]:
    """Byte-pair learning, to several sizes."""
    verdict, rows = judged(plan, "bpe"), list[Row]()
    compiled.loops(True)  # as the others were compiled before, too
    for text, size, texts in plan.passages():
        for vocab_size in plan.vocab_sizes if size < HUGE else plan.vocab_sizes[-1:]:
            vocab_size = min(vocab_size, possible(texts, vocab_size))
            runs = trainers(texts, vocab_size)
            about: Row = {"text": text, "megabytes": size, "vocab_size": vocab_size, **verdict}
            tell(f"learn {vocab_size} from {size:.1f} MB of {text}")
            try:
                found = {name: run() for name, run in runs.items()}
            except Exception as error:
                rows.append(figures("learn", "nanotx", about | {"laws": f"failed: {error}"}, {}))
                continue
            ours = found["nanotx"]
            assert isinstance(ours, list)
            for name, theirs in found.items():
                count = theirs if isinstance(theirs, int) else len(theirs)
                # Other tables of Unicode count otherwise: beyond ASCII, only the size compares.
                if count != len(ours) if text == "mixed" else theirs not in (ours, len(ours)):
                    about["laws"] = f"failed: {name} learned other tokens"
            rows += timed("learn", about, dict(runs), plan, calls=1 if size > HUGE else None)
    return rows


def possible(texts: list[str], vocab_size: int) -> int:
    """Nine of ten ids that the texts allow, if these are fewer: where all are taken, each stops otherwise."""
    pieces = count_pieces(texts, Splitter(source_of(PATTERN)))
    merges = len(learn_merges(pieces, vocab_size - 256))
    return vocab_size if merges == vocab_size - 256 else 256 + 9 * merges // 10


def vocabulary(plan: Plan) -> BpeCodec:
    """The tokenizer that all encode with."""
    if plan.quick:
        return Bpe(vocab_size=300).train([documents("shakespeare", 1)[0][:50_000]])
    return Bpe(vocab_size=VOCAB_SIZE).train(documents("ascii", LESSON))


def encoding(plan: Plan, tell: Announce) -> list[Row]:
    """Encoding on one thread: cold, all that is remembered empty, and warm, after the same text."""
    verdict, rows, codec = judged(plan, "bpe"), list[Row](), vocabulary(plan)
    build = encoders(codec)
    compiled.loops(True)  # as the others were compiled before, too
    for text, size, texts in plan.passages():
        whole = "".join(texts)
        warm = {name: make() for name, make in build.items()}
        tell(f"encode {size:.1f} MB of {text}")
        ids = {name: rival.encode(whole) for name, rival in warm.items()}
        about: Row = {"text": text, "megabytes": size, "vocab_size": codec.vocab_size, **verdict}
        about["tokens"] = len(ids["nanotx"])
        for name, theirs in ids.items():
            if not same_ids(ids["nanotx"], theirs):
                about["laws"] = f"failed: {name} gives other ids"
        del ids
        runs: dict[str, Callable[[], object]] = {name: partial(rival.encode, whole) for name, rival in warm.items()}
        hits = {state: share_of_hits(codec, whole, state == "warm") for state in ("warm", "cold")}
        found = timed("encode", about | {"state": "warm"}, runs, plan, 1 if size > HUGE else None)
        if size < HUGE:
            times = cold(build, whole, plan) if about["laws"] == PASS else {}
            found += [figures("encode", name, about | {"state": "cold"}, times) for name in build]
        rows += [row | ({"hits": hits[row["state"]]} if row["name"] == "nanotx" else {}) for row in found]
    return rows


def cold(makes: dict[str, Callable[[], Rival]], text: str, plan: Plan) -> Times:
    """Each in turn encodes the text with a tokenizer that was built for this; how long that took is not counted."""
    times: Times = {name: [] for name in makes}
    start, order = time.perf_counter(), list(makes)
    for done in range(plan.rounds):
        if done >= MIN_ROUNDS and time.perf_counter() - start > plan.seconds:
            break
        for name in order:
            fresh = makes[name]()
            times[name].append(seconds(partial(fresh.encode, text), 1, CPU))
        order = order[1:] + order[:1]
    return times


def share_of_hits(codec: BpeCodec, text: str, warm: bool) -> float:
    """How many of the text's parts were remembered, of all."""
    fresh = BpeCodec(codec.merges, codec.source)
    memory: Any = fresh._memory
    if fast := compiled.loops(True):
        memory = fresh._engine(fast)
    for _ in range(1 + warm):
        before = memory.misses
        fresh.encode_ordinary(text)
    parts = memory.parts // (1 + warm) if fast else len(fresh._splitter.parts(text))
    return float(1 - (memory.misses - before) / max(parts, 1))


def lookups(plan: Plan, tell: Announce) -> list[Row]:
    """The tokenizers that look up."""
    text = documents("shakespeare", 1)[0]
    whole = text[:50_000] if plan.quick else text * (100_000_000 // len(text))
    rows = []
    kinds: dict[str, Codec] = {"char": Char().train([text]), "byte": Byte().train([])}
    for name, codec in kinds.items():
        tell(f"look up by {name}")
        about: Row = {"text": "shakespeare, again and again", "megabytes": len(whole) / 1e6, "tokens": len(whole)}
        about |= {"vocab_size": codec.vocab_size, "state": "warm", **judged(plan, name)}
        rows += timed("look up", about, {name: partial(codec.encode, whole)}, plan)
    return rows


def all_cores(plan: Plan, tell: Announce) -> list[Row]:
    """Encoding of many texts on all cores, each tokenizer in its own way."""
    verdict, rows, codec, many = judged(plan, "bpe"), list[Row](), vocabulary(plan), cores()
    compiled.loops(True)  # as the others were compiled before, too
    for text, size, texts in plan.passages():
        rivals = {name: make() for name, make in encoders(codec).items()}
        tell(f"encode {size:.1f} MB of {text} on {many} cores")
        about: Row = {"text": text, "megabytes": size, "vocab_size": codec.vocab_size, "state": "warm", **verdict}
        runs: dict[str, Callable[[], Any]] = {
            name: partial(rival.batch, texts, many) for name, rival in rivals.items() if rival.batch
        }
        ids = {name: [one for row in run() for one in row] for name, run in runs.items()} if size < HUGE else {}
        for name, theirs in ids.items():
            if not same_ids(ids["nanotx"], theirs):
                about["laws"] = f"failed: {name} gives other ids"
        rows += timed("all cores", about, dict(runs), plan, calls=1 if size > HUGE else None)
    return rows


def files(plan: Plan, tell: Announce) -> list[Row]:
    """Encoding into a token file, with the most memory that it took above an empty process."""
    rows, codec, verdict = list[Row](), vocabulary(plan), judged(plan, "bpe")
    empty = peak_in_child(int)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "tokenizer.json")
        codec.save(saved)
        for text, size, texts in plan.passages():
            tell(f"encode {size:.1f} MB of {text} into a file")
            source = Path(folder, "text.txt")
            source.write_text("".join(texts), encoding="utf-8", newline="")
            memory = megabytes(peak_in_child(into_file, saved, source), empty)
            about: Row = {
                "text": text,
                "megabytes": size,
                "vocab_size": codec.vocab_size,
                "memory_mb": memory,
                **verdict,
            }
            rows += timed("file", about, {"nanotx": partial(into_file, saved, source)}, plan, calls=1)
    return rows


def into_file(saved: Path, source: Path) -> None:
    """Encode a file, cold."""
    from nanotx.tokenizers import load

    load(saved).encode_to_file([source], source.with_suffix(".bin"))


@dataclass(frozen=True)
class Section:
    """Some rows, and whether the libraries have all cores while they are measured, or one."""

    rows: Callable[[Plan, Announce], list[Row]]
    all_cores: bool = False


SECTIONS = {
    "learn": Section(learning),
    "encode": Section(encoding),
    "lookup": Section(lookups),
    "batch": Section(all_cores, all_cores=True),
    "file": Section(files),
}
