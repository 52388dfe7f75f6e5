"""A trace as a lesson: its steps by the module that makes them; what layers and heads repeat is shown once."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from nanotx.errors import ConfigError
from nanotx.lens.sites import span
from nanotx.lens.trace import Step, Trace
from nanotx.nn.transformer import Transformer

PLACE = re.compile(r"(.*?(?:attention|ffn|norm)\w*)(?:\.|$)")
"""The name of a module, up to its first component that is an attention, a ffn, or a norm."""

NUMBERED = re.compile(r"(.*?)\.(\d+)(?:\.|$)")
"""The name of a module in a list, such as heads.1 or experts.0.to_hidden: that of the list, and its number."""

NAME_WIDTH = 12
"""Most characters of the names of several operations; of longer ones their number is shown."""


@dataclass(kw_only=True)
class Line:
    """What a statement does: a call of einops, a linear map, or operations of PyTorch in a row."""

    steps: list[Step]

    @property
    def last(self) -> Step:
        """The step whose result is shown."""
        return self.steps[-1]

    @property
    def ms(self) -> float:
        """Milliseconds of the steps together."""
        return sum(step.ms for step in self.steps)

    def name(self, place: str) -> str:
        """Return the name of the function, or of the linear map relative to a module."""
        if len(self.steps) == 1:
            return self.last.name.removeprefix(f"{place}.")
        names = " ".join(step.name for step in self.steps)
        return names if len(names) <= NAME_WIDTH else f"{len(self.steps)} operations"


@dataclass(kw_only=True)
class Section:
    """Steps of one module in a row, or a note about layers that are not shown."""

    module: str  # such as blocks.0.attention; empty for the model itself
    kind: str  # name of the module's class; empty where no steps are shown
    lines: list[Line] = field(default_factory=list)
    note: str = ""  # about what is not shown


def lesson(traced: Trace, model: Transformer, layer: int | None = None, everything: bool = False) -> list[Section]:
    """Return the sections of a trace, in order.

    Args:
        traced: the trace.
        model: the model that was traced.
        layer: show this layer and no other; None for each kind of layer once.
        everything: show each layer and each head.

    Raises:
        ConfigError: there is no such layer.
    """
    layers = model.config.layers
    if layer is not None and layer >= layers:
        raise ConfigError(f"--layer: {layer}, and the model has layers 0 to {layers - 1}.")
    alike = layers_alike(traced)
    shown = set(range(layers)) if everything else set(alike) if layer is None else {layer}
    sections: list[Section] = []
    for visible, steps in groupby(traced.steps, key=lambda step: step.layer is None or step.layer in shown):
        if visible:
            for module, group in groupby(steps, key=lambda step: place_of(step.module)):
                kind = type(model.get_submodule(module)).__name__
                lines, note = section_lines(list(group), module, everything)
                sections.append(Section(module=module, kind=kind, lines=lines, note=note))
        else:
            omitted = sorted({step.layer for step in steps if step.layer is not None})
            sections.append(Section(module="", kind="", note=omission(omitted, alike)))
    return sections


def layers_alike(traced: Trace) -> dict[int, list[int]]:
    """Return the first layer of each kind, with all that take the same steps."""
    kinds: dict[tuple[object, ...], list[int]] = {}
    for layer, steps in groupby(traced.steps, key=lambda step: step.layer):
        if layer is not None:
            signature = tuple((step.module.split(".")[2:], step.signature) for step in steps)
            kinds.setdefault(tuple(map(repr, signature)), []).append(layer)
    return {layers[0]: layers for layers in kinds.values()}


def omission(omitted: list[int], alike: dict[int, list[int]]) -> str:
    """Return a sentence about layers that are not shown."""
    like = sorted({first for first, layers in alike.items() if set(layers) & set(omitted)})
    several = len(omitted) > 1
    some = f"Layer{'s' if several else ''} {span(list(map(str, omitted)))}"
    if set(like) & set(omitted):
        return f"{some}: not shown."
    others = f"layer{'s' if len(like) > 1 else ''} {span(list(map(str, like)))}"
    verb, own = ("take", "their") if several else ("takes", "its")
    return f"{some} {verb} the steps of {others} with {own} own weights."


def place_of(module: str) -> str:
    """Return the module under which a step is shown: the attention, ffn or norm around it, or the module itself."""
    match = PLACE.match(module)
    return match[1] if match else module


def section_lines(steps: list[Step], place: str, everything: bool) -> tuple[list[Line], str]:
    """Return the lines of a section, and a note about modules of a list that repeat the one before."""
    lines, omitted = list[Line](), list[str]()
    before: tuple[str, list[tuple[object, ...]]] = ("", [])
    for name, group in groupby(steps, key=lambda step: listed(step.module.removeprefix(place))):
        run = list(group)
        now = (NUMBERED.sub(r"\1", name), [step.signature for step in run])
        if name and now == before and not everything:
            omitted.append(name.removeprefix("."))
        else:
            lines += as_lines(run)
        before = now
    if not omitted:
        return lines, ""
    some = omitted[0] if len(omitted) == 1 else f"{omitted[0]} to {omitted[-1]}"
    return lines, f"{some}: the same steps with {'its' if len(omitted) == 1 else 'their'} own weights."


def listed(module: str) -> str:
    """Return the part of a name up to the number in a list; empty where there is none."""
    match = NUMBERED.match(module)
    return f"{match[1]}.{match[2]}" if match else ""


def as_lines(steps: list[Step]) -> list[Line]:
    """Return steps as lines: operations of PyTorch that follow one another in a statement are one."""
    lines: list[Line] = []
    for step in steps:
        before = lines[-1].last if lines else None
        together = (
            before is not None
            and (before.kind, step.kind) == ("torch", "torch")
            and (before.statement, before.module) == (step.statement, step.module)
            and before.offset < step.offset
        )
        if together:
            lines[-1].steps.append(step)
        else:
            lines.append(Line(steps=[step]))
    return lines


def by_statement(lines: list[Line]) -> Iterator[tuple[Line, list[Line]]]:
    """Yield lines by the statement that they belong to, with the first of them."""
    for _, group in groupby(lines, key=lambda line: line.last.statement):
        rows = list(group)
        yield rows[0], rows


def last_values(tensor: Tensor, count: int) -> list[float]:
    """Return the first numbers along the last axis of a tensor: of the first text, and of the last token and head."""
    row = tensor
    while row.ndim > 1:
        row = row[0] if row is tensor and row.ndim > 2 else row[-1]
    values: list[float] = (row if row.ndim else row.reshape(1))[:count].to(torch.float64).tolist()
    return values


def number(value: float) -> str:
    """Return a number with three digits."""
    return f"{value:.0f}" if abs(value) < 1e6 and value == int(value) else f"{value:.3g}"


def sizes_text(step: Step) -> str:
    """Return the sizes of a step's axes: b=1 t=5."""
    return " ".join(f"{axis}={size}" for axis, size in step.sizes.items())
