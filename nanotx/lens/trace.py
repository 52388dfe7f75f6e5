"""Trace a text's way through a model: every einops call with its source line, pattern and real sizes.

The steps are seen by Python's profiler hook (`sys.setprofile`) and by a `TorchFunctionMode`, both of this thread and
only while the pass runs. Nothing is patched: neither einops, nor the modules that imported its functions by name, nor
the model. Einops calls of parts that come by `--load` are seen in the same way.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import CodeType, FrameType
from typing import Any, Literal, no_type_check

import einops
import torch
from einops.layers.torch import EinMix, Rearrange, Reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nanotx.errors import ConfigError
from nanotx.lens.axes import axis_sizes, split_axes, with_ellipsis
from nanotx.lens.capture import capture, eager_evaluation
from nanotx.lens.source import Statement, statement_at
from nanotx.nn.shapes import AXES, Logits, Tokens
from nanotx.nn.transformer import Transformer
from nanotx.runs.load import LoadedRun

PASSES = 5
"""Passes, after one that warms up, over which milliseconds are the median."""

LIBRARIES = (*(str(Path(module.__file__ or "").parent) for module in (torch, einops)), __file__)
"""Paths of frames that are no source lines of the model."""

FUNCTIONS: dict[CodeType, str] = {
    function.__code__: function.__name__
    for function in (einops.rearrange, einops.reduce, einops.repeat, einops.einsum, einops.pack, einops.unpack)
} | {layer.forward.__code__: layer.__name__ for layer in (Rearrange, Reduce, EinMix)}
"""The code of einops' functions and of its layers, by which the profiler hook recognises them."""

MODULE_CALL: CodeType = nn.Module._call_impl.__code__
"""The code through which every module is called."""

SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "truediv": "/", "matmul": "@", "pow": "**", "invert": "~"}
SYMBOLS |= {
    "getitem": "[]",
    "unbind": "unpack",
    "bitwise_not": "~",
    "ge": ">=",
    "gt": ">",
    "le": "<=",
    "lt": "<",
    "neg": "-",
    "rsub": "-",
}
"""Operators by the names under which PyTorch reports them."""

Kind = Literal["einops", "torch", "linear"]


@dataclass(kw_only=True, eq=False)
class Step:
    """One call on the way: of einops, of PyTorch, or of a linear map."""

    kind: Kind
    name: str  # rearrange, softmax, blocks.0.attention.to_qkv
    module: str  # name of the module that made the call, such as blocks.0.attention; empty for the model itself
    layer: int | None  # number of the layer; None before the first one and after the last one
    statement: Statement
    offset: int  # of the call in the code of the statement's function: larger for a later call
    pattern: str  # of einops; otherwise empty
    axes_in: str  # names of the axes of the first tensor that goes in; empty where they are unknown
    axes_out: str  # names of the axes of the result; empty where they are unknown
    sizes: dict[str, int]  # of the axes that are shown
    inputs: tuple[tuple[int, ...], ...]  # shapes of the tensors that go in
    result: Tensor
    ms: float  # median over the passes

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        return tuple(self.result.shape)

    @property
    def shown(self) -> str:
        """The pattern, or the axes in and out; shapes where the names of axes are unknown."""
        if self.pattern or (self.axes_out and self.kind == "torch"):
            return self.pattern or self.axes_out
        if self.axes_in and self.axes_out:
            return f"{self.axes_in} -> {self.axes_out}"
        shapes = ["x".join(map(str, shape)) or "1" for shape in (*self.inputs, self.shape)]
        return f"{', '.join(shapes[:-1])} -> {shapes[-1]}" if self.inputs else shapes[-1]

    @property
    def signature(self) -> tuple[object, ...]:
        """The key of a call: layers, or heads, that do the same have equal keys."""
        return (self.kind, self.name.rpartition(".")[2], self.statement, self.shown, self.inputs, self.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """All steps of a pass over a text."""

    ids: tuple[int, ...]
    steps: tuple[Step, ...]
    logits: Float[Tensor, "t v"]
    pass_ms: float  # of a pass that nothing traces, median
    notes: tuple[str, ...]

    @property
    def einops(self) -> tuple[Step, ...]:
        """The calls of einops."""
        return tuple(step for step in self.steps if step.kind == "einops")

    def axes(self) -> dict[str, str]:
        """Return what each named axis of the pass means; those of a part of the user's own come last."""
        named = dict.fromkeys(axis for step in self.steps for axis in step.sizes)
        own = {axis: "an axis that its statement names" for axis in named if axis not in AXES}
        return {axis: about for axis, about in AXES.items() if axis in named} | own


def trace(run: LoadedRun | Transformer, ids: str | Sequence[int] | Tensor, passes: int = PASSES) -> Trace:
    """Return the steps of one forward pass, in evaluation mode, without gradients, and eager.

    Args:
        run: a run from `nanotx.load`, or a model.
        ids: a text, which needs a run with its tokenizer; the ids of one text; or a tensor of them.
        passes: milliseconds are the median over as many passes, at least 1.

    Raises:
        ConfigError: as for `nanotx.lens.capture`; or there are several texts.
        TextError: the tokenizer cannot encode the text.
    """
    captured = capture(run, ids)
    model, tokens = captured.model, captured.ids
    if len(tokens) > 1:
        raise ConfigError(f"trace: expected the ids of one text, got {len(tokens)}; trace them one after the other.")
    with eager_evaluation(model, bool(captured.notes)):
        model(tokens)
    compiles = "torch._dynamo" in sys.modules  # a part may have imported PyTorch's compiler, as flex does
    with eager_evaluation(model, compiles):
        plain = [timed_pass(model, tokens) for _ in range(passes)]
        traced = [traced_pass(model, tokens) for _ in range(passes)]
    steps, logits = traced[0]
    for step, *others in zip(*(steps for steps, _ in traced), strict=False):
        step.ms = median([step.ms, *(other.ms for other in others)])
    return Trace(
        ids=tuple(tokens[0].tolist()),
        steps=tuple(steps),
        logits=logits[0].float().cpu(),
        pass_ms=median(plain),
        notes=tuple(note.replace("looked at", "traced") for note in captured.notes),
    )


def timed_pass(model: Transformer, ids: Tokens) -> float:
    """Return the milliseconds of a pass."""
    start = time.perf_counter()
    model(ids)
    return 1000 * (time.perf_counter() - start)


def traced_pass(model: Transformer, ids: Tokens) -> tuple[list[Step], Logits]:
    """Return the steps of a pass, and its logits."""
    with watched(model) as watch:
        watch.axes[id(ids)] = "b t"
        logits = model(ids)
    return watch.steps, logits


@contextmanager
def watched(model: Transformer) -> Iterator["Watch"]:
    """Context in which the steps of this thread are noted; nothing of it is left at its end.

    Raises:
        ConfigError: another profiler watches this thread, and there can only be one.
    """
    if sys.getprofile() is not None:
        raise ConfigError("trace: another profiler watches this thread; stop it, or trace in a process of its own.")
    watch = Watch(model)
    with FunctionMode(watch):
        sys.setprofile(watch.profile)
        try:
            yield watch
        finally:
            sys.setprofile(None)


class FunctionMode(TorchFunctionMode):
    """Hands each call of PyTorch to a watch; what is computed is the same."""

    def __init__(self, watch: "Watch") -> None:
        super().__init__()
        self.watch = watch

    @no_type_check
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        watch, kwargs = self.watch, kwargs or {}
        if watch.open is not None or func.__name__ == "__get__":
            return func(*args, **kwargs)
        start = time.perf_counter()
        result = func(*args, **kwargs)
        ms = 1000 * (time.perf_counter() - start)
        if not any(result is given for given in args):
            name = func.__name__.strip("_")
            call = Call(frame=sys._getframe(), kind="torch", name=SYMBOLS.get(name, name), inputs=(args, kwargs))
            watch.add(call, result, ms)
        return result


@dataclass(kw_only=True, eq=False)
class Call:
    """A call that has begun: of einops or of a linear map."""

    frame: FrameType
    kind: Kind
    name: str  # of the function, or of the linear map
    inputs: tuple[Any, ...]
    pattern: str = ""
    lengths: dict[str, int] = field(default_factory=dict)  # sizes of axes that the call states
    start: float = 0.0


class Watch:
    """Notes the steps of a model's pass."""

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.module_names = {id(module): name for name, module in model.named_modules()}
        self.blocks = {id(block) for block in model.blocks}
        self.layers_begun = 0
        self.layer: int | None = None
        self.layer_frame: FrameType | None = None
        self.open: Call | None = None
        self.steps: list[Step] = []
        self.alive: list[Tensor] = []  # what the steps read and made, so that each has an id of its own
        self.axes: dict[int, str] = {}  # names of the axes of tensors, by their ids
        self.made: dict[int, Step] = {}  # steps by the id of what they made

    @no_type_check  # Python calls it at each call and return, where a check of its arguments would be slow
    def profile(self, frame: FrameType, event: str, result: Any) -> None:
        """Note calls of einops and of modules; for `sys.setprofile`."""
        if event == "return":
            if self.open is not None and self.open.frame is frame:
                self.close(self.open, result)
            elif self.layer_frame is frame:
                self.layer = self.layer_frame = None
        elif event == "call" and self.open is None:
            if frame.f_code in FUNCTIONS:
                self.begin(einops_call(frame, FUNCTIONS[frame.f_code]))
            elif frame.f_code is MODULE_CALL:
                self.module_call(frame, frame.f_locals["self"])

    def module_call(self, frame: FrameType, module: nn.Module) -> None:
        """Note the beginning of a layer, or of a linear map."""
        if id(module) in self.blocks:
            self.layer, self.layer_frame = self.layers_begun, frame
            self.layers_begun += 1
        elif isinstance(module, nn.Linear):
            name = self.module_names.get(id(module), type(module).__name__)
            self.begin(Call(frame=frame, kind="linear", name=name, inputs=frame.f_locals["args"]))

    def begin(self, call: Call) -> None:
        """Start the clock of a call; what is called inside of it is no step."""
        self.open = call
        call.start = time.perf_counter()

    def close(self, call: Call, result: Any) -> None:
        """Note the call that has ended; None is the result of one that raised."""
        ms = 1000 * (time.perf_counter() - call.start)
        try:
            self.add(call, result, ms)
        finally:
            self.open = None

    def add(self, call: Call, result: Any, ms: float) -> None:
        """Note a step, if its result is a tensor, or several of which the first is shown."""
        results = tensors_of(result)
        if not results:
            return
        step = self.as_step(call, results[0], ms)
        self.steps.append(step)
        self.alive += [*results, *tensors_of(call.inputs)]
        self.made[id(results[0])] = step
        if call.pattern:
            self.name_by_pattern(call, step, results)
        else:
            self.name_axes(step, results, self.result_axes(call, results[0]))

    def as_step(self, call: Call, result: Tensor, ms: float) -> Step:
        """Return a call as a step; its result is copied, because a later call may change it in place."""
        statement, offset, module = self.place(call)
        tensors = tensors_of(call.inputs)
        return Step(
            kind=call.kind,
            name=call.name,
            module=module,
            layer=self.layer,
            statement=statement,
            offset=offset,
            pattern=" ".join(call.pattern.split()),
            axes_in=self.axes.get(id(tensors[0]), "") if tensors else "",
            axes_out="",
            sizes={},
            inputs=tuple(tuple(tensor.shape) for tensor in tensors),
            result=result.clone(),
            ms=ms,
        )

    def place(self, call: Call) -> tuple[Statement, int, str]:
        """Return the statement of the model that made a call, the call's place in it, and the name of the module."""
        frame: FrameType | None = call.frame
        while frame is not None and frame.f_code.co_filename.startswith(LIBRARIES):
            frame = frame.f_back
        assert frame is not None
        inside = call.frame.f_back if call.kind == "linear" else call.frame  # the frame of a linear map is its own
        while inside is not None and inside.f_code is not MODULE_CALL:
            inside = inside.f_back
        module = self.module_names.get(id(inside.f_locals["self"]), "") if inside is not None else ""
        return statement_at(frame.f_code.co_filename, frame.f_lineno), frame.f_lasti, module

    def name_axes(
        self, step: Step, results: Sequence[Tensor], axes: list[str], sizes: Mapping[str, int] | None = None
    ) -> None:
        """Name the axes of a step's result, if there are as many as it has, and none is unknown."""
        if len(axes) != step.result.ndim or "" in axes or "..." in axes:
            return
        step.axes_out = " ".join(axes)
        self.axes |= {id(result): step.axes_out for result in results}
        before = [(step.axes_in, step.inputs[0])] if step.kind == "linear" else []
        step.sizes = axis_sizes([*before, (step.axes_out, step.shape)], sizes or {})

    def name_by_pattern(self, call: Call, step: Step, results: Sequence[Tensor]) -> None:
        """Name the axes of what a call of einops returns, and of what it reads where they have no names, or guesses."""
        left, _, right = call.pattern.partition("->")
        sides = list(zip(left.split(","), call.inputs, strict=False))
        if len(sides) == 1:
            right = with_ellipsis(left, right, self.axes_of(call.inputs[0]))
        shapes = [(axes, shape_of(tensor)) for axes, tensor in sides]
        sizes = axis_sizes([*shapes, (right, step.shape)], call.lengths)
        self.name_axes(step, results, split_axes(right), sizes)
        step.sizes = sizes
        for axes, tensor in sides:
            before = self.made.get(id(tensor))
            if before is not None and (not before.axes_out or before.kind == "linear"):
                self.name_axes(before, [tensor], split_axes(axes), sizes)

    def axes_of(self, tensor: Any) -> list[str]:
        """Return the names of a tensor's axes; none where they are unknown."""
        return split_axes(self.axes.get(id(tensor), ""))

    def result_axes(self, call: Call, result: Tensor) -> list[str]:
        """Return the names of a result's axes where they follow from those of what went in; otherwise none."""
        for tensor in tensors_of(call.inputs):
            known = self.axes_of(tensor)
            if known and call.kind == "linear":
                return [*known[:-1], self.width_axis(call.name, result.shape[-1])]
            if known and call.name == "embedding":
                return [*known, "d"]
            if known and call.name == SYMBOLS["unbind"]:
                return known[1:]
            if known and tensor.shape == result.shape:
                return known
        return []

    def width_axis(self, name: str, size: int) -> str:
        """Return the name of the axis that a linear map makes; empty where its size does not tell."""
        if name == "head":
            return "v"
        return "d" if size == self.model.config.dim else "f" if ".ffn" in name else ""


def einops_call(frame: FrameType, function: str) -> Call:
    """Return the call of einops that a frame is about to run."""
    given = frame.f_locals
    if function == "einsum":
        *inputs, pattern = given["tensors_and_pattern"]
        return Call(frame=frame, kind="einops", name=function, inputs=tuple(inputs), pattern=str(pattern))
    layer = given.get("self")
    pattern, lengths = (given["pattern"], given) if layer is None else (layer.pattern, vars(layer))
    operation = lengths.get("reduction", "")
    return Call(
        frame=frame,
        kind="einops",
        name=f"{function} {operation}" if isinstance(operation, str) and operation else function,
        inputs=(next(given[name] for name in ("tensor", "tensors", "input") if name in given),),
        pattern=str(pattern),
        lengths=dict(lengths.get("axes_lengths", {})),
    )


def shape_of(given: Any) -> tuple[int, ...]:
    """Return the shape of a tensor, or of a list of them as einops stacks it."""
    return (len(given), *given[0].shape) if isinstance(given, tuple | list) else tuple(given.shape)


def tensors_of(values: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts, in order."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = tuple(values.values())
    return [tensor for value in values for tensor in tensors_of(value)] if isinstance(values, tuple | list) else []
