"""A card in words and tables, the same for the terminal and for every file."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nanotx.experiments.experiment import warned
from nanotx.experiments.prove.benches import BOTH, FORWARD
from nanotx.experiments.prove.card import Card, Laws, Speed
from nanotx.experiments.report import folded, number, span

Table = list[list[str]]


@dataclass(kw_only=True)
class Section:
    """A titled part of a card."""

    title: str
    lines: list[str] = field(default_factory=list)  # sentences before the table
    table: Table | None = None  # header and rows
    notes: list[str] = field(default_factory=list)  # sentences after the table
    code: str = ""  # lines of Python
    bad: bool = False  # whether it shows a fault


def title(card: Card) -> str:
    """Return the title of a card."""
    return f"{card.part} against {card.slot}/{card.against}"


def summary(card: Card) -> str:
    """Return the whole card in a few sentences."""
    if card.broken:
        laws = next(laws for laws in card.laws or [] if laws.broken)
        names = ", ".join(broken["law"] for broken in laws.broken)
        return f"{laws.part} breaks {names}. Nothing was timed and nothing was trained; correct the part first."
    sentences = [*law_words(card), *claim_words(card), *speed_words(card), *learning_words(card)]
    return " ".join(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in sentences)


def law_words(card: Card) -> list[str]:
    """Return the sentence about laws."""
    held, cases = (sum(getattr(laws, name) for laws in card.laws or []) for name in ("held", "cases"))
    return [f"{held} laws hold on {cases:,} random cases"] if card.laws else []


def claim_words(card: Card) -> list[str]:
    """Return the sentence about equality."""
    equal = [claim.other for claim in card.claims or [] if claim.same]
    if not card.claims:
        return []
    return [f"one function with {listed(equal)}" if equal else f"a function other than that of {card.against}"]


WORDS_OF_PASSES = {BOTH: "training", "step": "a step", "encode": "encoding"}
"""What takes time, by the name of the pass."""


def speed_words(card: Card) -> list[str]:
    """Return the sentence about the time of the last pass, over the sizes."""
    timed = [speed for speed in card.speeds or [] if speed.ratio is not None]
    if not timed:
        return []
    whole = BOTH if any(speed.what == BOTH for speed in timed) else timed[0].what
    some = [speed for speed in timed if speed.what == whole]
    what = WORDS_OF_PASSES.get(whole, whole)
    ratios = [speed.ratio for speed in some if speed.ratio is not None]
    if all(speed.interval and speed.interval[0] <= 1 <= speed.interval[1] for speed in some):
        return [f"{what} takes as long as with {card.against}, as far as can be told"]
    low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    return [f"{what} takes {low if low == high else f'{low} to {high}'} times as long as with {card.against}"]


def learning_words(card: Card) -> list[str]:
    """Return the sentence about the comparison of runs."""
    if card.learning is None:
        return []
    arms, seeds = card.learning["arms"], card.learning["seeds"]
    steps = arms[0]["costs"]["steps"]
    verdict = str(arms[1]["verdict"])
    return [f"after {steps:,} steps of {card.recipe} on {len(seeds)} seed{'s' * (len(seeds) != 1)}: {verdict}"]


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def sections(card: Card) -> list[Section]:
    """Return the sections of a card: those that were measured, and why others were not."""
    parts = [law_section(card)]
    if not card.broken:
        parts += [equality_section(card), speed_section(card), learning_section(card)]
    swapped = [f"{swap}." for swap in card.swapped] or ["Nothing."]
    configs = [f"{card.part}: {card.config}", f"{card.slot}/{card.against}: {card.against_config}"]
    parts.append(Section(title="What changed besides", lines=swapped))
    recipe = shlex.join(["recipe:", card.recipe, *card.flags])
    parts.append(Section(title="Set-up", lines=[*configs, recipe, machine_words(card)]))
    return parts


# Laws.


def law_section(card: Card) -> Section:
    """Return the section about laws."""
    section = Section(title="Laws", bad=card.broken)
    for laws in card.laws or []:
        section.lines += law_lines(laws)
        if laws.broken and not section.code:
            section.code = laws.broken[0]["replay"]
    return section


def law_lines(laws: Laws) -> list[str]:
    """Return the sentences about the laws of one part."""
    cases = f"{laws.cases:,} random cases from seed {laws.seed}"
    lines = [f"{laws.part} breaks {broken['law']}: {broken['how']}" for broken in laws.broken]
    lines += [f"{laws.part}: {laws.held} laws hold on {cases}."] if not laws.broken else [f"{laws.held} others hold."]
    if laws.not_asked:
        words = "; ".join(f"{law}, because {reason}" for law, reason in laws.not_asked.items())
        lines.append(f"Not asked: {words}.")
    return lines


# Equality.


def equality_section(card: Card) -> Section:
    """Return the section about what the part is equal to."""
    section = Section(title="Equal to")
    for claim in card.claims or []:
        if claim.same:
            what = f"differ by at most {claim.largest:.1e}" if claim.largest else "are equal to the bit"
            within = f", and may by {claim.tolerance:.0e}, relative to the largest number" if claim.tolerance else ""
            section.lines.append(
                f"{claim.other}: one function. {compared(card.slot)} {what}{within} ({claim.cases} random cases)."
            )
        else:
            section.lines.append(f"Not {claim.other}: {claim.why}.")
    return section


COMPARED = {
    "optimizer": "Weights after 4 steps on equal gradients",
    "schedule": "Factors of all steps",
    "tokenizer": "Ids of pieces of the training text",
    "loss": "The objective and the gradients of a model of equal weights",
}


def compared(slot: str) -> str:
    """Return what is compared where parts of a slot may be one function."""
    return COMPARED.get(slot, "Logits and gradients of models of equal weights")


# Speed.


def speed_section(card: Card) -> Section:
    """Return the section about time and memory."""
    section = Section(title="Time and memory")
    if "speed" in card.left_out:
        section.lines = [f"Not measured: {card.left_out['speed']}."]
        return section
    speeds = card.speeds or []
    measured = [speed for speed in speeds if speed.ratio is not None]
    memory = any(speed.memory is not None for speed in measured)
    section.lines = [f"{card.setting[:1].upper()}{card.setting[1:]}; both parts in turns."]
    if measured:
        header = ["text" if card.slot == "tokenizer" else "size", "pass", "ms", "against", "ratio", "95% interval"]
        section.table = [header + ["MB", "against"] * memory, *(speed_row(speed, memory) for speed in measured)]
        section.notes.append(speed_note(card, measured, memory))
    section.notes += dict.fromkeys(f"Not measured at {speed.size}: {speed.why}" for speed in speeds if speed.why)
    if measured and not memory:
        section.notes.append(f"Memory is not measured: {card.left_out.get('memory', 'the device does not count it')}.")
    return section


def speed_row(speed: Speed, memory: bool) -> list[str]:
    """Return the row of a measurement."""
    low_high = "-" if speed.interval is None else f"{speed.interval[0]:.2f} to {speed.interval[1]:.2f}"
    times = [three_digits(speed.ms), three_digits(speed.against_ms), f"{speed.ratio:.2f}", low_high]
    sizes = [megabytes(speed.memory), megabytes(speed.against_memory)] if memory else []
    return [speed.size, shown_pass(speed.what), *times, *sizes]


def speed_note(card: Card, measured: Sequence[Speed], memory: bool) -> str:
    """Return what the columns mean."""
    rounds = sorted({speed.rounds for speed in measured})
    many = f"{rounds[0]} to {rounds[-1]}" if len(rounds) > 1 else f"{rounds[0]}"
    many += f" round{'s' * (rounds[-1] != 1)}"
    words = f"against: the same of {card.against}. ratio: the time by that of {card.against}, median over {many}"
    words += ". training: forward and backward" if any(speed.what == BOTH for speed in measured) else ""
    words += ". MB: the peak of what the pass allocates" if memory else ""
    words += "" if card.slot == "tokenizer" else ". size: batch x time x width"
    return f"{words}."


def shown_pass(what: str) -> str:
    """Return the name of a pass as it is shown."""
    return {BOTH: "training", FORWARD: "forward"}.get(what, what)


def three_digits(value: float | None) -> str:
    """Return a number with three digits that count."""
    if not value:
        return "-" if value is None else "0"
    decimals = max(0, 2 - math.floor(math.log10(float(f"{value:.2e}"))))
    return f"{value:,.{decimals}f}"


def megabytes(size: int | None) -> str:
    """Return bytes in millions."""
    return "-" if size is None else three_digits(size / 1e6)


# Learning.


def learning_section(card: Card) -> Section:
    """Return the section about the comparison of runs."""
    section = Section(title="Does it help?")
    if card.learning is None:
        section.lines = [f"Not compared: {card.left_out.get('learning', 'not yet')}."]
        return section
    result, seeds = card.learning, card.learning["seeds"]
    base, arm = result["arms"]
    section.lines = [
        f"{arm['verdict'][:1].upper()}{arm['verdict'][1:]}.",
        f"{card.recipe}, {base['costs']['steps']:,} steps, equal {result['equal']}, {len(seeds)} "
        f"seed{'s' * (len(seeds) != 1)} ({span(seeds)}), judged on the last {result['held_out']:.0%} of "
        "the training text.",
    ]
    unit = "nats" if result["unit"] == "nats" else "bits/byte"
    header = ["", unit, "difference", "95% interval", "p", "weights", "ms/step"]
    section.table = [header, learning_row(card.against, base), learning_row(card.name, arm)]
    if result["pairing_gain"]:
        section.notes.append(f"Pairing by seed divides the variance of the difference by {result['pairing_gain']:.3g}.")
    section.notes += warned([card.against, card.name], [some["costs"].get("warnings", ()) for some in (base, arm)])
    section.notes += result["notes"]
    return section


def learning_row(name: str, arm: dict[str, Any]) -> list[str]:
    """Return the row of an arm."""
    losses = [loss for loss in arm["losses"] if loss is not None]
    costs, interval = arm["costs"], arm.get("interval")
    difference = arm.get("difference")
    p = arm.get("p") if interval else None
    time = costs["seconds_per_step"]
    return [
        name,
        number(sum(losses) / len(losses) if losses else None),
        "" if difference is None else f"{difference:+.4f}",
        "" if not interval else f"{interval[0]:+.4f} to {interval[1]:+.4f}",
        "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}",
        f"{costs['parameters']:,}",
        "-" if time is None else f"{1000 * time:.3g}",
    ]


def machine_words(card: Card) -> str:
    """Return the machine and the versions."""
    machine = card.machine
    return (
        f"{machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('system')}; nanotx {machine.get('nanotx')}, "
        f"torch {machine.get('torch')}, Python {machine.get('python')}."
    )


# The terminal.


def text(card: Card) -> str:
    """Return the card as a page of at most 80 columns."""
    blocks = [title(card), folded(summary(card), "")]
    for section in sections(card):
        lines = [section.title.upper(), *(folded(line, "  ") for line in section.lines)]
        if section.table:
            lines.append(aligned(section.table))
        lines += [folded(line, "  ") for line in section.notes]
        lines += [section.code] if section.code else []
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def aligned(table: Table) -> str:
    """Return a table as columns, the first left-aligned."""
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]))]
    rows = (
        [cell.ljust(width) if not index else cell.rjust(width)
         for index, (cell, width) in enumerate(zip(row, widths, strict=True))]
        for row in table
    )  # fmt: skip
    return "\n".join("  ".join(row).rstrip() for row in rows)
