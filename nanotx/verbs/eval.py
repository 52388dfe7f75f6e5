"""nanotx eval RUN [--text FILE] [--by-script]: how well a run's model predicts a text, in bits per byte."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.text import Text

from nanotx import checkpoint, columns
from nanotx.corpus import Corpus
from nanotx.corpus.file import File
from nanotx.corpus.playhouse import Playhouse
from nanotx.device import choose
from nanotx.errors import DataError, RunError
from nanotx.files import publish
from nanotx.flags import parse
from nanotx.folder import RunFolder
from nanotx.loaded import Loaded, load
from nanotx.registry import load_file
from nanotx.scoring import Account, score_text
from nanotx.scripts import stretches

ALL = "all"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Scores the whole validation text of a run's corpus, or a file: every byte once, whatever the tokenizer.

    The text is cut into windows of the model's context side by side. The first token of the text is predicted from the
    recorded start alone, the first of each later window from the token before it alone, as in training. By script, a
    token's loss falls to the stretch in which its first byte lies, so that the scripts' losses add up to the whole.
    """

    folder: tyro.conf.Positional[str]  # the run's folder
    text: str = ""  # a file, or a folder of them, instead of the validation text
    by_script: bool = False  # and what each script of it costs
    step: int | None = None  # of which checkpoint; without it the newest
    json: str = ""  # write the figures into this file
    device: Literal["run", "auto", "cpu", "cuda", "mps"] = "run"  # "run" is the one that the run had
    dtype: Literal["run", "auto", "float32", "bfloat16", "float16"] = "run"  # likewise
    threads: int = 0  # processor threads; 0 for as many as the run had
    load: tuple[str, ...] = ()  # Python files of your own, with parts in them


def run(words: list[str]) -> int:
    """Score."""
    flags = parse(Flags, words, "nanotx eval")
    for file in flags.load:
        load_file(file)
    loaded = load(flags.folder, flags.step)
    recipe = loaded.recipe
    device = recipe.device if flags.device == "run" else flags.device
    dtype = recipe.dtype if flags.dtype == "run" else flags.dtype
    machine = choose(device, dtype, flags.threads or recipe.threads)
    name = flags.text or f"validation text of {recipe.corpus.part}"
    text = File(path=flags.text).text() if flags.text else validation(loaded, RunFolder(Path(flags.folder)))
    whole, parts = score_text(loaded.model.to(machine.device), loaded.tokenizer, text, machine)
    floor, floors = (None, {}) if flags.text else known(recipe.corpus)
    console, said = Console(highlight=False), "" if floor is None else f"; floor {floor:.4f}"
    for line in (
        f"{flags.folder}, step {loaded.step}: {name}, {whole.size:,} bytes",
        f"loss {whole.loss:.4f} nats per token over {whole.tokens:,} tokens, "
        f"{whole.bits_per_byte:.4f} bits per byte{said}",
    ):
        console.print(Text(line), soft_wrap=True)
    if flags.by_script:
        columns.show(
            console, "", table(whole, parts, floors | ({} if floor is None else {ALL: floor})), sys.stdout.isatty()
        )
    if flags.json:
        rows = {one: figures(part) | {"floor_bits_per_byte": floors.get(one)} for one, part in parts.items()}
        head = {"run": flags.folder, "step": loaded.step, "text": name, "floor_bits_per_byte": floor}
        write(flags.json, head | figures(whole) | {"scripts": rows})
    return 0


def validation(loaded: Loaded, folder: RunFolder) -> str:
    """The validation text of a run's corpus.

    Raises:
        DataError: it cannot be had, or it is no longer the text that the run was trained on.
    """
    state = checkpoint.read_json(folder.checkpoints / f"step-{loaded.step}" / "trainer.json")
    training, text = loaded.recipe.corpus.split()
    if (found := hashlib.sha256((training + text).encode("utf-8")).hexdigest()) != state["corpus_sha256"]:
        raise DataError(
            f"{folder.path}: the run began with a corpus of SHA-256 {state['corpus_sha256'][:12]}..., and now it is "
            f"{found[:12]}...; bring the old text back, or name a text by --text FILE."
        )
    return text


def known(corpus: Corpus) -> tuple[float | None, dict[str, float]]:
    """The bits per byte of the validation text to one who knows what wrote it, over all and by script, if anybody does.

    Every byte of a text falls to a script here as it does in a score by script.
    """
    if not isinstance(corpus, Playhouse):  # no other knows it for each character
        return corpus.floor(), {}
    training, text = corpus.split()
    bits, at = corpus.surprisal(training + text)[len(training) :], 0
    sums: dict[str, tuple[float, int]] = {}
    for script, stretch in stretches(text):
        cost, size = sums.get(script, (0.0, 0))
        here = float(bits[at : at + len(stretch)].sum())
        sums[script] = cost + here, size + len(stretch.encode("utf-8"))
        at += len(stretch)
    floors = {script: cost / size for script, (cost, size) in sums.items()}
    return float(bits.sum()) / len(text.encode("utf-8")), floors


def table(whole: Account, parts: Mapping[str, Account], floors: Mapping[str, float]) -> list[list[str]]:
    """A header, a row for each script, and one for all of them; the last column where a floor is known."""
    cells = [["script", "bytes", "tokens", "tokens/word", "loss", "share of bits", "bits/byte", "floor"]]
    for name, one in {**parts, ALL: whole}.items():
        fertility, loss, rate, floor = (
            "-" if figure is None else f"{figure:.4f}"
            for figure in (one.fertility, one.loss, one.bits_per_byte, floors.get(name))
        )
        share = f"{one.nats / whole.nats:.1%}"
        cells.append([name, f"{one.size:,}", f"{one.tokens:,}", fertility, loss, share, rate, floor])
    return cells if floors else [row[:-1] for row in cells]


def figures(one: Account) -> dict[str, Any]:
    """All of them, as plain values."""
    rates = {"loss": one.loss, "bits_per_byte": one.bits_per_byte, "fertility": one.fertility}
    return {"bytes": one.size, "words": one.words, "tokens": one.tokens, "nats": one.nats, **rates}


def write(path: str, what: dict[str, Any]) -> None:
    """Strict JSON.

    Raises:
        RunError: it cannot be written there.
    """
    try:
        publish(Path(path), json.dumps(what, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise RunError(f"--json {path}: cannot be written: {error.strerror}.") from None
