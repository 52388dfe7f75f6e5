"""Whether the validation loss that a run recorded comes again."""

from dataclasses import dataclass
from pathlib import Path

from nanotx.device import Machine, choose, repeat_exactly
from nanotx.errors import ConfigError, DataError
from nanotx.evaluate import evaluate
from nanotx.folder import RunFolder
from nanotx.journal import Row, read
from nanotx.layers import read_config
from nanotx.recipe import Recipe
from nanotx.save import strict
from nanotx.texts import exam, sha256
from nanotx.tokenizers import load
from nanotx.trainer_json import read_state
from nanotx.verbs.verify._check import Check, Result
from nanotx.verbs.verify._files import judged

NAME = "validation loss"
TOLERANCES = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 1e-2}
"""How far apart, in nats per token, a loss in such numbers may come out where it is computed in another order."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Where to evaluate; "run", and 0 threads, for where the run did."""

    device: str
    dtype: str
    threads: int

    def machine(self, recipe: Recipe) -> Machine:
        """The one that is meant.

        Raises:
            ConfigError: it is not there.
        """
        device = recipe.device if self.device == "run" else self.device
        dtype = recipe.dtype if self.dtype == "run" else self.dtype
        return choose(device, dtype, self.threads or recipe.threads)


def reproduced(folder: RunFolder, sound: list[Path], wish: Wish) -> Check:
    """Evaluate the newest of some checkpoints whose step was evaluated, and compare.

    Args:
        folder: the run's.
        sound: its checkpoints that can be believed, the newest first.
        wish: where to.
    """
    rows = {f"step-{row['step']}": row for row in read(folder.metrics) if row.get("event") == "eval"}
    losses = {name: row["val_loss"] for name, row in rows.items()}
    path = next((path for path in sound if losses.get(path.name) is not None), None)
    if path is None:
        return Check(name=NAME, result="not made", detail="no sound checkpoint is of a step that was evaluated")
    recipe: Recipe = read_config(Recipe, path / "recipe.toml")
    try:
        text, machine = validation(path, recipe), wish.machine(recipe)
        if recipe.deterministic:
            repeat_exactly(machine.device)
        codec = load(path / "tokenizer.json")
        paper = exam(codec, text, asked(rows[path.name], text), recipe.model.context)
        now = evaluate(judged(path, codec).to(machine.device), paper, machine).loss
    except (DataError, ConfigError) as error:
        return Check(name=NAME, result="not made", detail=str(error))
    return compared(path.name, losses[path.name], now, machine, recipe)


def asked(row: Row, text: str) -> int:
    """How many tokens of a text an evaluation was to read; 0 for all, as before there was a choice.

    Raises:
        DataError: the row holds no such number.
    """
    count = row.get("eval_tokens", 0)
    if not isinstance(count, int) or not 0 <= count <= 4 * len(text):
        raise DataError(f"metrics.jsonl: eval_tokens: expected how many tokens were read, got {count!r:.60}.")
    return count


def validation(path: Path, recipe: Recipe) -> str:
    """The validation text that a checkpoint's run was evaluated on.

    Raises:
        DataError: it cannot be had, or is another one now.
    """
    training, text = recipe.corpus.split()
    said, found = read_state(path)["corpus_sha256"], sha256(training, text)
    if said != found:
        raise DataError(f"the run's corpus had SHA-256 {said[:12]}..., and now it is {found[:12]}...")
    return text


def compared(name: str, recorded: float, now: float, machine: Machine, recipe: Recipe) -> Check:
    """The check of a loss beside the recorded one."""
    apart, tolerance = abs(now - recorded), max(TOLERANCES[machine.dtype_name], TOLERANCES[recipe.dtype])
    here = (machine.device.type, machine.dtype_name, machine.threads)
    there = (recipe.device, recipe.dtype, recipe.threads)
    if now == recorded:
        said = f"{now:.6f} again, equal to the last bit"
    elif apart <= tolerance:
        where = "the same device, dtype and threads, so a machine or a torch that is another"
        where = where if here == there else f"{told(*here)}, and the run had {told(*there)}"
        said = f"{now:.6f}, {apart:.1e} from the recorded one and within {tolerance:g}: {where}"
    else:
        said = (
            f"{now:.6f}, and {recorded:.6f} is recorded: {apart:.1e} apart, more than {tolerance:g}, on {told(*here)}"
        )
    figures = {
        "step": int(name.removeprefix("step-")),
        "recorded": recorded,
        "now": now,
        "bit_equal": now == recorded,
        "tolerance": tolerance,
        "same_settings": here == there,
    }
    result: Result = "holds" if apart <= tolerance else "fails"
    return Check(name=NAME, result=result, detail=f"{name}: {said}", figures=strict(figures))


def told(device: str, dtype: str, threads: int) -> str:
    """A machine in words."""
    return f"{device} {dtype}, {threads} thread{'s' * (threads > 1)}"
