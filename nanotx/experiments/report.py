"""The verdicts of an experiment as a page of at most 80 columns, and as plain values for JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nanotx.experiments.experiment import Outcome, warned
from nanotx.experiments.record import strict
from nanotx.experiments.statistics import EQUAL, MAX_SEEDS, Losses, Verdict, pairing_gain
from nanotx.experiments.tokens import reading, share_tokenizer
from nanotx.experiments.tries import Choice, Tried

WIDTH = 80
NAME = 23
"""Columns for the name of an arm; a longer name has a line of its own."""

MIDDLE_NAME, SHORT_NAME = 21, 16
"""The same in the table of losses, and in that of costs, which is wider."""


def verdict_words(verdict: Verdict, unit: str) -> str:
    """Return a verdict as a careful colleague would say it."""
    if verdict.outcome == "diverged":
        return f"diverged, {verdict.diverged} of {verdict.seeds} seeds: not better, whatever the others reached"
    if verdict.outcome in ("better", "worse"):
        low, high = sorted(map(abs, verdict.interval or (0.0, 0.0)))
        less = "" if low >= verdict.smallest else ", less" if high < verdict.smallest else ", perhaps less"
        than = f"{less} than --smallest {verdict.smallest:g}" if less else ""
        return f"{verdict.outcome}, by {digits(low)} to {digits(high)} {unit}{than}"
    if verdict.outcome == "same":
        return f"no difference above {digits(verdict.bound or 0.0)} {unit}"
    if verdict.reason == EQUAL:
        return "equal to the bit, and so no verdict"
    if verdict.reason:
        return f"cannot tell: {verdict.reason}"
    if verdict.more is None:
        return f"cannot tell; not even {MAX_SEEDS} seeds would: the differences vary too much"
    return f"cannot tell; about {verdict.more} more seed{'s' * (verdict.more != 1)} would"


def digits(value: float) -> str:
    """Return a small positive number with two digits that count, at least three after the point."""
    if value <= 0:
        return "0.000"
    return f"{value:.{max(3, 1 - math.floor(math.log10(value)))}f}" if value > 1e-6 else f"{value:.1e}"


def page(outcome: Outcome) -> str:
    """Return the page."""
    names = [arm.name for arm in outcome.design.arms]
    table = figures(names, outcome.losses, comparable_nats(outcome), outcome.verdicts, outcome.unit)
    verdicts = verdict_lines(outcome.verdicts, outcome.unit)
    tables = [table, choices(outcome), costs(outcome), readings(outcome)]
    blocks = [heading(outcome), verdicts, *tables, "\n".join(remarks(outcome))]
    return "\n\n".join(block for block in blocks if block)


def heading(outcome: Outcome) -> str:
    """Return what was compared."""
    design = outcome.design
    size = len(outcome.losses[design.arms[0].name])
    seeds = design.seeds[:size]
    text = (
        f"{design.name}: {outcome.steps[0]:,} steps, equal {design.equal}, {size} seed{'s' * (size != 1)} "
        f"({span(seeds)}), judged on the last {design.held_out:.0%} of the training text."
    )
    return folded(text, "")


def span(seeds: Sequence[int]) -> str:
    """Return the first and the last of some seeds, or the only one."""
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"


def verdict_lines(verdicts: Mapping[str, Verdict], unit: str) -> str:
    """Return a line per arm: its name and the verdict."""
    lines = []
    for name, verdict in verdicts.items():
        words = verdict_words(verdict, unit)
        if len(name) <= NAME:
            lines.append(folded(f"{name:<{NAME}}  {words}", " " * (NAME + 2)))
        else:
            lines += [folded(name, "  "), folded(f"{'':<{NAME}}  {words}", " " * (NAME + 2))]
    return "\n".join(lines)


def figures(
    names: Sequence[str],
    losses: Mapping[str, Losses],
    nats: Mapping[str, Losses],
    verdicts: Mapping[str, Verdict],
    unit: str,
) -> str:
    """Return the table of losses and differences."""
    header = ["", unit if unit == "nats" else "bits/byte", "nats", "difference", "95% interval", "p"]
    if any(verdict.level > 0.9501 for verdict in verdicts.values()):
        header[4] = "interval"
    rows = [header]
    for name in names:
        verdict = verdicts.get(name)
        loss, in_nats = mean(losses[name]), mean(nats[name])
        cells = [name, number(loss), number(in_nats), "", "", ""]
        if verdict and verdict.difference is not None:
            cells[3] = f"{verdict.difference:+.4f}"
        if verdict and verdict.interval:
            cells[4] = f"{verdict.interval[0]:+.4f} to {verdict.interval[1]:+.4f}"
            cells[5] = "<0.001" if (verdict.p or 0) < 0.001 else f"{verdict.p:.3f}"
        rows.append(cells)
    return columns(rows, MIDDLE_NAME)


def comparable_nats(outcome: Outcome) -> dict[str, Losses]:
    """Return the losses in nats per token, without those of tokens that are not the baseline's."""
    base, *_ = outcome.design.arms
    same = {arm.name for arm in outcome.design.arms if arm.recipe.tokenizer == base.recipe.tokenizer}
    return {name: losses if name in same else [] for name, losses in outcome.nats.items()}


def choices(outcome: Outcome) -> str:
    """Return what each arm chose from its tries, and what to type where that is an edge; "" without tries."""
    design, rows, lines = outcome.design, [("", "chose", "of", "times its own", "")], list[str]()
    if not outcome.choices:
        return ""
    for name, choice in outcome.choices.items():
        edges = edges_of(design.tries, choice)
        by = " by its own tries" if choice.own else ""
        notes = [f"{end} end of {tried.field}" for tried, end in edges] + [f"{choice.diverged} diverged"] * (
            choice.diverged > 0
        )
        times = " and ".join(f"{multiple:g}" for multiple in choice.multiples)
        rows.append((name, ", ".join(choice.values.values()), str(len(choice.losses)), times, "; ".join(notes) + by))
        for tried, end in edges:
            wider = f"--tries {tried.field}={tried.wider(end == 'high')}"
            lines += [f"The lowest may be beyond the {end} end of {tried.field}: {wider} goes further."]
    seeds, fields = design.seeds_of_tries, [tried.field for tried in design.tries]
    head = folded(f"Tries of {' and '.join(fields)}, on seeds {seeds[0]} to {seeds[-1]}:", "  ")
    return "\n".join([head, columns(rows), *(folded(line, "  ") for line in dict.fromkeys(lines))])


def edges_of(tries: Sequence[Tried], choice: Choice) -> list[tuple[Tried, str]]:
    """Return the fields of which a choice is at an end of the range, with the end."""
    ends = list[tuple[Tried, str]]()
    for tried, multiple in zip(tries, choice.multiples, strict=True):
        ends += [(tried, "low")] if multiple == min(tried.multiples) else []
        ends += [(tried, "high")] if multiple == max(tried.multiples) else []
    return ends


def costs(outcome: Outcome) -> str:
    """Return the table of what the arms cost: MB of the tensors of a step, steps (and seconds) to a baseline's loss."""
    rows = [("", "weights", "FLOPs/token", "MB", "steps", "ms/step", "baseline's loss")]
    for arm, facts, steps in zip(outcome.design.arms, outcome.facts, outcome.steps, strict=True):
        seconds = facts.seconds_per_step
        reached = outcome.to_baseline.get(arm.name, math.nan)
        if reached is None:
            until = "never"
        elif math.isnan(reached):
            until = "-"
        else:
            until = f"{reached:,.0f}" + (f" ({reached * seconds:.3g} s)" if seconds else "")
        time = "-" if seconds is None else f"{1000 * seconds:.3g}"
        megabytes = "-" if facts.memory_bytes is None else f"{facts.memory_bytes / 1e6:,.3g}"
        sizes = (f"{facts.parameters:,}", f"{facts.flops_per_token:.3g}", megabytes)
        rows.append((arm.name, *sizes, f"{steps:,}", time, until))
    return columns(rows, SHORT_NAME)


def readings(outcome: Outcome) -> str:
    """Return the table of what arms with different tokenizers learned from, in bytes; "" where there is one."""
    if share_tokenizer(outcome.design.arms):
        return ""
    rows: list[Sequence[str]] = [("bytes of", "a token", "a window", "a step", "the run", "FLOPs")]
    for arm, facts, steps in zip(outcome.design.arms, outcome.facts, outcome.steps, strict=True):
        text = reading(arm, facts, steps)
        sizes = [f"{text.token:.3f}", *(f"{size:,.0f}" for size in (text.window, text.step, text.run))]
        rows.append((arm.name, *("-" if math.isnan(text.token) else size for size in sizes), f"{text.flops:.3g}"))
    return columns(rows, SHORT_NAME)


def remarks(outcome: Outcome) -> list[str]:
    """Return what there is to say besides, a paragraph each."""
    lines = list[str]()
    names = [arm.name for arm in outcome.design.arms]
    for arm in outcome.design.arms[1:]:
        if arm.swapped:
            lines.append(f"{arm.name} swaps: {'. '.join(arm.swapped)}.")
    for name, how in outcome.diverged.items():
        lines.append(f"{name} diverged: {how}")
    if gain := gain_of(outcome):
        size = len(outcome.losses[names[0]])
        saved = (
            f"{size} seeds do the work of {gain * size:,.0f}."
            if gain >= 1
            else "here pairs cost seeds: what a seed does to one arm, it does not do to the other."
        )
        lines.append(f"Pairing by seed divides the variance of a difference by {gain:.3g}: {saved}")
    flips = [verdict.p_flips for verdict in outcome.verdicts.values() if verdict.p_flips is not None]
    sizes = [verdict.seeds for verdict in outcome.verdicts.values() if verdict.p_flips is not None]
    if flips:
        smallest = 2 / 2 ** min(sizes)
        limit = f" ({min(sizes)} seeds cannot go below {smallest:.3g})" if smallest > 0.01 else ""
        boots = [
            f"{name} {verdict.bootstrap[0]:+.4f} to {verdict.bootstrap[1]:+.4f}, p {verdict.p_flips:.3g}"
            for name, verdict in outcome.verdicts.items()
            if verdict.bootstrap and verdict.p_flips is not None
        ]
        lines.append(
            f"The paired t test above decides. For information, bootstrap interval and sign-flip test{limit}: "
            f"{'; '.join(boots)}."
        )
    arms = len(outcome.verdicts)
    if arms > 1 or len(outcome.design.looks) > 1:
        paid = [f"{arms} arms"] * (arms > 1) + [f"{len(outcome.design.looks)} looks"] * (len(outcome.design.looks) > 1)
        lines.append(f"Intervals pay for {' and '.join(paid)}: a table errs anywhere with a probability of at most 5%.")
    lines += [*warned(names, [fact.warnings for fact in outcome.facts]), *outcome.notes]
    if outcome.validation:
        last, times = outcome.validation[-1]["bits_per_byte"], len(outcome.validation)
        means = [f"{name} {number(mean(list(last[name].values())))}" for name in names if name in last]
        lines.append(
            f"Validation text, bits per byte: {', '.join(means)}. It was read {times} time{'s' * (times != 1)}; "
            "it decided nothing."
        )
    return [folded(line, "  ") for line in lines]


def gain_of(outcome: Outcome) -> float | None:
    """Return the gain of pairing over all arms that have no divergence."""
    names = [arm.name for arm in outcome.design.arms]
    base, pairs = outcome.losses[names[0]], []
    for name in names[1:]:
        losses = outcome.losses[name]
        if None not in losses and None not in base and len(losses) > 1:
            pairs.append((np.array(base[: len(losses)], dtype=np.float64), np.array(losses, dtype=np.float64)))
    return pairing_gain([first for first, _ in pairs], [second for _, second in pairs]) if pairs else None


def mean(losses: Losses) -> float | None:
    """Return the mean of the known losses."""
    known = [loss for loss in losses if loss is not None]
    return math.fsum(known) / len(known) if known else None


def number(value: float | None) -> str:
    """Return a loss with four digits; "-" for none."""
    return "-" if value is None else f"{value:.4f}"


def columns(rows: Sequence[Sequence[str]], longest: int = NAME) -> str:
    """Return rows as columns, the first left-aligned; a first cell that is too long has a line of its own."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    widths[0] = min(widths[0], longest)
    lines = []
    for row in rows:
        first = row[0]
        if len(first) > longest:
            lines.append(folded(first, "  "))
            first = ""
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def folded(text: str, indent: str) -> str:
    """Return a text in lines of at most 80 columns, those after the first indented."""
    lines, line = list[str](), ""
    for index, word in enumerate(text.split(" ")):
        if index and len(line) + 1 + len(word) > WIDTH and line.strip():
            lines.append(line)
            line = indent + word
        else:
            line = f"{line} {word}" if index else word
    return "\n".join([*lines, line])


def to_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain values."""
    design = outcome.design
    arms = []
    for arm, facts, steps in zip(design.arms, outcome.facts, outcome.steps, strict=True):
        verdict = outcome.verdicts.get(arm.name)
        words = verdict_words(verdict, outcome.unit) if verdict else ""
        plain = {"verdict": words, **strict(asdict(verdict))} if verdict else {}
        losses = {"losses": outcome.losses[arm.name], "nats": outcome.nats[arm.name]}
        sizes = {**strict(asdict(facts)), "steps": steps, "steps_to_baseline": outcome.to_baseline.get(arm.name)}
        choice = outcome.choices.get(arm.name)
        chosen = (
            {"choice": {**asdict(choice), "edges": {tried.field: end for tried, end in edges_of(design.tries, choice)}}}
            if choice
            else {}
        )
        arms.append({"arm": arm.name, "swapped": list(arm.swapped), **losses, **plain, **chosen, "costs": sizes})
    return {
        "recipe": design.name,
        "unit": outcome.unit,
        "equal": design.equal,
        "held_out": design.held_out,
        "smallest": design.smallest,
        "looks": list(design.looks),
        "tries": {tried.field: tried.multiples for tried in design.tries},
        "seeds_of_tries": list(design.seeds_of_tries) if design.tries else [],
        "seeds": list(design.seeds[: len(outcome.losses[design.arms[0].name])]),
        "pairing_gain": gain_of(outcome),
        "arms": arms,
        "notes": outcome.notes,
        "validation_readings": outcome.validation,
    }
