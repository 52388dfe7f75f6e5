"""What can be said of runs that exist already: grouped by recipe, paired by seed, judged on the validation text.

Nothing was held out for such runs: they were trained on all of the training text, so the text that chose them, if any
was looked at, is the one that judges them. The page says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nanotx.errors import ConfigError, RunError
from nanotx.experiments.record import strict
from nanotx.experiments.report import figures, folded, verdict_lines, verdict_words
from nanotx.experiments.statistics import Losses, Verdict, judge
from nanotx.runs.run_table import RunRow, find_runs, read_run

SEEDS = ("seed", "weights_seed", "data_seed", "dropout_seed")
"""Fields of a recipe in which the runs of one arm may differ."""


ALIKE = 1.01
"""Ratio of two budgets up to which they are called equal: steps are whole."""


@dataclass(frozen=True, kw_only=True)
class Existing:
    """Verdicts on runs that exist."""

    seeds: list[Any]  # of the pairs, as texts of the four seeds
    losses: Mapping[str, Losses]  # of each arm, the baseline first
    nats: Mapping[str, Losses]  # none of an arm with another tokenizer than the baseline's
    verdicts: dict[str, Verdict]
    unit: str
    notes: list[str]


def compare_runs(folders: Sequence[str], smallest: float) -> Existing:
    """Return verdicts on runs; the recipe of the first one is the baseline.

    Args:
        folders: runs, or folders of runs.
        smallest: the smallest difference that matters, in bits per byte.

    Raises:
        RunError: a run cannot be read, or is not complete.
        ConfigError: the runs cannot be compared; says why.
    """
    runs = [read_run(name) for name in find_runs(folders)]
    for run in runs:
        if run.figures.get("status") != "complete":
            status = run.figures.get("status", "unreadable")
            raise RunError(f"{run.name}: {status}; only complete runs are compared. nanotx resume RUN continues one.")
    texts = {(run.corpus_sha256, run.figures.get("eval_tokens")) for run in runs}
    if len(texts) > 1:
        raise ConfigError(
            "the runs were evaluated on different texts, or on other windows of them (corpus_sha256 and eval_tokens in "
            "summary.json), so no difference of their losses means anything; nanotx eval evaluates them on a file."
        )
    groups = grouped(runs)
    if len(groups) < 2:
        raise ConfigError("the runs have one recipe, and differ in their seeds alone; name runs of another one too.")
    common = [seed for seed in next(iter(groups.values())) if all(seed in arm for arm in groups.values())]
    if not common:
        raise ConfigError("no seed has a run of every recipe, so there are no pairs; train them on the same seeds.")
    key, unit = figure_of(runs)
    losses = {name: [number(arm[seed], key) for seed in common] for name, arm in groups.items()}
    nats = {
        name: [number(arm[seed], "val_loss") for seed in common] if same_tokenizer(runs[0], arm) else []
        for name, arm in groups.items()
    }
    baseline, *others = losses
    verdicts = judge(losses[baseline], {name: losses[name] for name in others}, smallest=smallest)
    notes = notes_on(runs, groups, len(common))
    return Existing(seeds=common, losses=losses, nats=nats, verdicts=verdicts, unit=unit, notes=notes)


def same_tokenizer(first: RunRow, arm: Mapping[Any, RunRow]) -> bool:
    """Return whether the runs of an arm have the tokenizer of the first one."""
    return all(run.figures.get("tokenizer_sha256") == first.figures.get("tokenizer_sha256") for run in arm.values())


def number(run: RunRow, key: str) -> float | None:
    """Return a figure of a run; None where it is not finite."""
    value = run.figures.get(key)
    return float(value) if isinstance(value, int | float) else None


def figure_of(runs: Sequence[RunRow]) -> tuple[str, str]:
    """Return the key of the figure that is judged, and its unit.

    Raises:
        ConfigError: there are no bits per byte, and the tokenizers differ.
    """
    if all(number(run, "bits_per_byte") is not None for run in runs if number(run, "val_loss") is not None):
        return "bits_per_byte", "bits per byte"
    if len({run.figures.get("tokenizer_sha256") for run in runs}) > 1:
        raise ConfigError("the tokenizers differ, and a run has no bits per byte, so the losses cannot be compared.")
    return "val_loss", "nats"


def grouped(runs: Sequence[RunRow]) -> dict[str, dict[tuple[Any, ...], RunRow]]:
    """Return the runs of each recipe by their seeds; a group is named by the fields that differ from the first one.

    Raises:
        ConfigError: two runs have the same recipe and seeds.
    """
    first = plain_recipe(runs[0])
    groups: dict[str, dict[tuple[Any, ...], RunRow]] = {}
    for run in runs:
        recipe = plain_recipe(run)
        changed = [name for name in {**first, **recipe} if name in recipe and first.get(name) != recipe[name]]
        gone = [f"without {name}" for name in first if name not in recipe and not changed]
        assigned = [f"{name}={', '.join(map(str, recipe[name]))}" for name in changed]
        group = groups.setdefault("; ".join([*assigned, *gone]) or "baseline", {})
        seeds = tuple(run.figures.get(name) for name in SEEDS)
        if seeds in group:
            raise ConfigError(f"{run.name} and {group[seeds].name} have one recipe and one seed; leave one out.")
        group[seeds] = run
    return groups


def plain_recipe(run: RunRow) -> dict[str, tuple[Any, ...]]:
    """Return the fields of a run's recipe, without its seeds."""
    return {name: values for name, values in run.recipe.items() if name not in SEEDS}


def notes_on(runs: Sequence[RunRow], groups: dict[str, dict[tuple[Any, ...], RunRow]], pairs: int) -> list[str]:
    """Return what a reader of the verdicts has to know."""
    notes = [
        "Judged on the validation text: the runs were trained on the rest. If it helped to choose among them, the "
        "verdicts are too good."
    ]
    left = len(runs) - pairs * len(groups)
    if left:
        notes.append(f"{left} of {len(runs)} runs have a seed that not every recipe has, and were left out.")
    if len({run.figures.get("tokenizer_sha256") for run in runs}) == 1:
        if len({run.figures.get("tokens") for run in runs}) > 1:
            notes.append("Budgets differ: the runs learned from different numbers of tokens.")
        return notes
    notes.append("The tokenizers differ: nats of unlike tokens are left out, and bits per byte decide.")
    read = [number(run, "bytes") for run in runs]
    least, most = min(size or 0.0 for size in read), max(size or 0.0 for size in read)
    if most > ALIKE * least:
        known = f"{least:,.0f} to {most:,.0f}" if None not in read else "unknown numbers of"
        notes.append(f"Budgets differ: the runs learned from {known} bytes of text.")
    return notes


def page(result: Existing) -> str:
    """Return the page, of at most 80 columns."""
    names, size = list(result.losses), len(result.seeds)
    seeds = ", ".join(str(seeds[0]) for seeds in result.seeds)
    title = f"{len(names)} recipes, {size} pair{'s' * (size != 1)} by seed ({seeds})."
    blocks = [
        folded(title, ""),
        verdict_lines(result.verdicts, result.unit),
        figures(names, result.losses, result.nats, result.verdicts, result.unit),
        "\n".join(folded(note, "  ") for note in result.notes),
    ]
    return "\n\n".join(blocks)


def to_json(result: Existing) -> dict[str, Any]:
    """Return the verdicts as plain values."""
    arms = [
        {
            "arm": name,
            "losses": list(losses),
            "nats": list(result.nats[name]),
            **(
                {"verdict": verdict_words(result.verdicts[name], result.unit), **strict(asdict(result.verdicts[name]))}
                if name in result.verdicts
                else {}
            ),
        }
        for name, losses in result.losses.items()
    ]
    return {"seeds": [list(seeds) for seeds in result.seeds], "unit": result.unit, "arms": arms, "notes": result.notes}
