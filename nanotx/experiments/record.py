"""The record of an experiment, `experiment.json`: what was planned and measured, what each run gave, and each look.

A continued experiment reads it, so its verdicts are those of an experiment that was never disturbed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError, RunError
from nanotx.experiments.plan import Facts
from nanotx.experiments.runner import Result
from nanotx.experiments.tries import Choice
from nanotx.files import read_regular, write_atomic
from nanotx.hardware.device import choose_machine
from nanotx.runs.initial_weights import read_source
from nanotx.runs.valid import TEXT

FORMAT = 1
"""Version of experiment.json."""


class ExperimentRecord:
    """The record in an experiment's folder."""

    def __init__(self, folder: Path, planned: dict[str, Any]) -> None:
        """Open the folder, or prepare it.

        Args:
            folder: of the experiment.
            planned: what may not change while an experiment lasts.

        Raises:
            ConfigError: it holds another experiment, or something else.
            RunError: its record cannot be read.
        """
        self.file = folder / "experiment.json"
        self.table = self.opened(folder, planned)

    def opened(self, folder: Path, planned: dict[str, Any]) -> dict[str, Any]:
        """Return the record in the folder, or a new one."""
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"--out {folder}: not a folder; choose another.")
        if not self.file.exists():
            if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
                raise ConfigError(f"--out {folder}: not empty, and no experiment; choose another folder.")
            return {"format": FORMAT, **planned, "arms": {}, "laws": {}, "choices": {}, "results": {},
                    "verdicts_after": [], "validation_readings": []}  # fmt: skip
        try:
            record: dict[str, Any] = {"tries": [], "choices": {}, **json.loads(read_regular(self.file, 64 * TEXT))}
            known = record["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.file}: cannot be read: {error}; choose another --out.") from None
        if known != FORMAT:
            raise RunError(f"{self.file}: format {known}, and this version of nanotx knows {FORMAT}; update nanotx.")
        for key, value in planned.items():
            if record.get(key) != value:
                raise ConfigError(
                    f"--out {folder}: holds an experiment that differs in {key} ({record.get(key)!r:.60}, and now "
                    f"{value!r:.60}); choose another folder, or give the same flags to continue it."
                )
        return record

    def write(self) -> None:
        """Write the record."""
        write_atomic(self.file, json.dumps(self.table, indent=1, allow_nan=False) + "\n")

    # What was done once, for all runs.

    def init_sha256(self, source: str) -> str:
        """Return the digest of the weights that runs begin with: the source may be trained further meanwhile."""
        recorded: dict[str, str] = self.table.setdefault("init_sha256", {})
        if source not in recorded:
            recorded[source] = read_source(source).sha256
        return recorded[source]

    def dtype(self, device: str) -> str:
        """Return the dtype that "auto" is on a device: a timing decides, so it is asked once, for all processes."""
        recorded: dict[str, str] = self.table.setdefault("dtypes", {})
        if device not in recorded:
            recorded[device] = choose_machine(device, "auto", 1).dtype_name
        return recorded[device]

    def choose(self, arm: str, choice: Choice) -> None:
        """Record the choice of an arm; what was known of it with another one is forgotten."""
        before = self.table["choices"].get(arm)
        if before is not None and before["values"] != choice.values:
            self.table["results"].pop(arm, None)
            self.table["arms"].pop(arm, None)
            if self.table["verdicts_after"]:
                self.table["chosen_again"] = sorted({*self.table.get("chosen_again", []), arm})
        self.table["choices"][arm] = {"values": choice.values, "own": choice.own, "losses": choice.losses}

    # Runs and verdicts.

    def results(self, arm: str) -> dict[str, Any]:
        """Return the recorded results of an arm by seed."""
        recorded: dict[str, Any] = self.table["results"].setdefault(arm, {})
        return recorded

    def note(self, result: Result) -> None:
        """Record a result."""
        keys = ("bits_per_byte", "val_loss", "train_seconds", "tokenizer_sha256", "corpus_sha256", "eval_tokens")
        figures = {key: result.figures.get(key) for key in keys}
        lost = result.diverged or ("" if result.finite else "its loss is not finite")
        entry = {"diverged": lost} if lost else figures
        before = self.results(result.arm).get(str(result.seed), {})
        about = {"machine": result.machine, "cpu_seconds": result.cpu_seconds} if result.cpu_seconds else {}
        self.results(result.arm)[str(result.seed)] = {**before, **entry, **about}

    def column(self, arm: str, key: str, seeds: Sequence[int]) -> list[float | None]:
        """Return a figure of an arm at some seeds: as many as there are, None where it diverged."""
        recorded = self.results(arm)
        present = [seed for seed in map(str, seeds) if seed in recorded]
        return [recorded[seed].get(key) for seed in present]

    def unit(self) -> str:
        """Return the key of the figure that is judged: bits per byte, or nats where a text does not round-trip.

        Raises:
            ConfigError: there are no bits per byte, and the tokenizers differ.
        """
        entries = [
            entry for some in self.table["results"].values() for entry in some.values() if "diverged" not in entry
        ]
        if all(entry["bits_per_byte"] is not None for entry in entries):
            return "bits_per_byte"
        if len({entry["tokenizer_sha256"] for entry in entries}) > 1:
            raise ConfigError(
                "the arms have different tokenizers, and one of them does not round-trip the text, so there are no "
                "bits per byte to compare; use one that round-trips, such as byte or bpe."
            )
        return "val_loss"

    def notes(self, size: int, looks: Sequence[int]) -> list[str]:
        """Return what a reader of the verdicts after a number of seeds has to know.

        Args:
            size: the number of seeds.
            looks: numbers of seeds after which verdicts were planned.
        """
        notes = []
        earlier = [look for look in self.table["verdicts_after"] if look < size and look not in looks]
        if earlier:
            notes.append(
                f"There was a verdict after {earlier[-1]} seed{'s' * (earlier[-1] > 1)} already, and seeds were added "
                "since: looking again costs certainty, and this p does not contain that. Next time plan for it with "
                "--until verdict."
            )
        if again := self.table.get("chosen_again"):
            notes.append(
                f"There was a verdict before tries were added, after which {', '.join(again)} chose anew: this p does "
                "not contain that."
            )
        machines: dict[str, list[str]] = {}
        for arm, some in self.table["results"].items():
            for seed, entry in some.items():
                if entry.get("machine"):
                    machines.setdefault(json.dumps(entry["machine"], sort_keys=True), []).append(f"{arm}, seed {seed}")
        if len(machines) > 1:
            groups = sorted(machines.values(), key=len)
            shown = [f"{group[0]} and {len(group) - 1} more" if len(group) > 1 else group[0] for group in groups]
            notes.append(
                f"The runs were made on {len(machines)} machines or versions ({'; '.join(shown)}): a pair whose runs "
                "differ in that differs in more than the change."
            )
        return notes


def facts_of(entry: Mapping[str, Any]) -> Facts:
    """Return the facts of an arm from its entry in the record."""
    values: dict[str, Any] = {key: value for key, value in entry.items() if key in Facts.__dataclass_fields__}
    size = values["bytes_per_token"]
    return Facts(
        **{
            **values,
            "bytes_per_token": math.nan if size is None else size,
            "warnings": tuple(values.get("warnings", ())),
        }
    )


def strict(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with None for numbers that are not finite."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }
