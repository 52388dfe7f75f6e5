"""Laws of an optimizer whose step is divided among processes: by parameters (`separable`), or by their rows.

`--parallel owner` and `--parallel fsdp` believe a part that claims either, and nothing but a slightly worse curve would
show that it is wrong.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from nanotx.errors import LawBroken
from nanotx.laws.learning import Gradients, Parameters, copies, step
from nanotx.optim import Optimizer
from nanotx.optim.matrices import Function, Matrices, MatrixOptimizer, by_shape

NEAR = 1e-4
"""How far the rows of a step may be from the step of the rows, of numbers about 1."""

RATE = 0.1
"""The least learning rate at which rows are compared: the steps of a smaller one could be anything within `NEAR`."""


def steps_apart(config: Optimizer, parameters: Parameters, gradients: Gradients, owned: set[str]) -> None:
    """Raise LawBroken unless a process that steps some parameters alone has the bits of one that steps all.

    Args:
        config: the optimizer's.
        parameters: by name; they are not changed.
        gradients: of some steps.
        owned: the names of those that are stepped alone.

    Raises:
        LawBroken: a parameter or its state differs, or the state is more than tensors; the message says which.
    """
    whole, some = copies(parameters), copies(parameters)
    together, alone = config.build_grouped(whole.items()), config.build_grouped(some.items())
    for count, gradient in enumerate(gradients):
        step(together, whole, gradient, count)
        step(alone, some, {name: gradient[name] for name in owned & gradient.keys()}, count)
        for name in sorted(owned):
            if not torch.equal(whole[name], some[name]):
                raise LawBroken(f"steps_apart: {name} moves otherwise in step {count + 1} when others do not move.")
    for name in sorted(owned):
        states = [optimizer.state.get(named[name], {}) for optimizer, named in ((together, whole), (alone, some))]
        for key, value in states[0].items():
            if not isinstance(value, Tensor):
                raise LawBroken(f"steps_apart: {name}: the state {key!r} is {value!r:.60}; expected a tensor.")
            if key not in states[1] or not torch.equal(value, states[1][key]):
                raise LawBroken(f"steps_apart: {name}: the state {key!r} is another when others do not move.")


def steps_rows(config: Optimizer, parameters: Parameters, gradients: Gradients, cut: int) -> None:
    """Raise LawBroken unless the steps of some rows are these rows of the steps.

    What is computed from whole matrices is taken from an optimizer that has them.

    Args:
        config: the optimizer's.
        parameters: by name, each with rows; they are not changed.
        gradients: of some steps.
        cut: the rows before this one are one slice, and the others another one.

    Raises:
        LawBroken: a row or its state differs, or a function of whole matrices is none of each matrix alone; the message
            says which.
    """
    whole = copies(parameters)
    optimizer, recorded = config.build_grouped(whole.items()), list[Seen]()
    if isinstance(optimizer, MatrixOptimizer):
        optimizer.matrices = Recording({id(param): name for name, param in whole.items()}, recorded)
    slices = [Slice(config, parameters, rows, recorded) for rows in (slice(0, cut), slice(cut, None))]
    highest = max((group["base_lr"] for group in optimizer.param_groups), default=0.0)
    rate = max(1.0, RATE / highest) if highest else 1.0
    for count, gradient in enumerate(gradients):
        recorded.clear()
        step(optimizer, whole, gradient, count, rate)
        for part in slices:
            part.step(gradient, count, rate)
            part.compare(whole, count)
    for part in slices:
        part.compare_state(optimizer, whole)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a function has made of a whole matrix in this step."""

    name: str
    matrix: Tensor
    result: Tensor


class Recording(Matrices):
    """Whole matrices, of which it is put down what is computed from them."""

    def __init__(self, names: dict[int, str], recorded: list[Seen]) -> None:
        self.names, self.recorded = names, recorded

    def apply(self, function: Function, parameters: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
        """Return what a function makes of whole matrices."""
        before, results = [tensor.clone() for tensor in tensors], function(tensors)
        for param, matrix, result in zip(parameters, before, results, strict=True):
            name = self.names[id(param)]
            [alone] = function([matrix.clone()])
            if not torch.allclose(alone, result, rtol=NEAR, atol=NEAR):
                raise LawBroken(f"steps_rows: what is computed from the matrix {name} depends on other matrices too.")
            if matrix.ndim > 2:
                self.check_stack(function, name, matrix, result)
            self.recorded.append(Seen(name=name, matrix=matrix, result=result.clone()))
        return results

    def check_stack(self, function: Function, name: str, stack: Tensor, result: Tensor) -> None:
        """Raise LawBroken unless each matrix of a stack is computed from by itself: a rank has only some of them."""
        parts = [function([stack[index : index + 1].clone()])[0] for index in range(len(stack))]
        if not torch.allclose(torch.cat(parts), result, rtol=NEAR, atol=NEAR):
            raise LawBroken(
                f"steps_rows: what is computed from one matrix of the stack {name} depends on its other matrices."
            )


class Slice(Matrices):
    """Some rows of all parameters, and the optimizer that steps them."""

    def __init__(self, config: Optimizer, parameters: Parameters, rows: slice, recorded: list[Seen]) -> None:
        self.rows, self.recorded = rows, recorded
        self.shapes = {name: param.shape for name, param in parameters.items()}
        self.parameters = copies({name: sliced(param, rows) for name, param in parameters.items()})
        self.names = {id(param): name for name, param in self.parameters.items()}
        self.optimizer = config.build_grouped(self.parameters.items())
        if isinstance(self.optimizer, MatrixOptimizer):
            self.optimizer.matrices = self
        self.asked = Counter[str]()

    def step(self, gradient: dict[str, Tensor], count: int, rate: float) -> None:
        """Take a step of these rows, with a factor on the learning rate."""
        self.asked.clear()
        own = {name: rows_of(part, self.rows) for name, part in gradient.items()}
        step(self.optimizer, self.parameters, own, count, rate)

    def compare(self, whole: Parameters, count: int) -> None:
        """Raise LawBroken unless these are rows of whole parameters."""
        for name, sliced_parameter in self.parameters.items():
            param, expected = sliced_parameter.detach(), whole[name].detach()[self.rows]
            if not torch.allclose(param, expected, rtol=NEAR, atol=NEAR):
                far = float((param - expected).abs().max())
                raise LawBroken(
                    f"steps_rows: {self.rows_text(len(whole[name]))} of {name}, stepped by themselves, are {far:.3g} "
                    f"from those of the whole step {count + 1}."
                )

    def compare_state(self, optimizer: torch.optim.Optimizer, whole: Parameters) -> None:
        """Raise LawBroken unless the state is rows of that of whole parameters, or the same as theirs."""
        for name, own in self.parameters.items():
            param = whole[name]
            for key, value in self.optimizer.state.get(own, {}).items():
                expected = optimizer.state.get(param, {}).get(key)
                if isinstance(expected, Tensor) and expected.shape == param.shape:
                    expected = expected[self.rows]
                if not alike(value, expected):
                    raise LawBroken(
                        f"steps_rows: {name}: the state {key!r} of {self.rows_text(len(param))} is {described(value)}, "
                        f"and that of the whole has {described(expected)} there, or other numbers; expected a tensor "
                        "shaped like the parameter, or a value that is the same for all rows."
                    )

    def rows_text(self, length: int) -> str:
        """Return which rows these are of a parameter of some length."""
        first, end, _ = self.rows.indices(length)
        return f"rows {first} to {end - 1}" if first < end else "no rows"

    def shape(self, parameter: Tensor) -> torch.Size:
        """Return the shape of the whole of a parameter."""
        return self.shapes[self.names[id(parameter)]]

    def groups(self, parameters: Iterable[Tensor]) -> list[list[Tensor]]:
        """Return parameters by the shape of the whole."""
        return by_shape(parameters, self.shape)

    def apply(self, function: Function, parameters: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
        """Return rows of what the same function has made of whole matrices."""
        results = []
        for param, tensor in zip(parameters, tensors, strict=True):
            name = self.names[id(param)]
            seen = [item for item in self.recorded if item.name == name]
            if self.asked[name] >= len(seen):
                raise LawBroken(f"steps_rows: of rows of {name} more is computed from the whole than of all rows.")
            item = seen[self.asked[name]]
            self.asked[name] += 1
            if not torch.allclose(tensor, item.matrix[self.rows], rtol=NEAR, atol=NEAR):
                raise LawBroken(f"steps_rows: the rows of {name} from which the whole is made are no rows of it.")
            results.append(item.result[self.rows].clone())
        return results


def alike(value: object, expected: object) -> bool:
    """Return whether two values of a state are as near as rounding."""
    if isinstance(value, Tensor) and isinstance(expected, Tensor):
        if value.shape != expected.shape or value.dtype != expected.dtype:
            return False
        exact = not value.is_floating_point()
        return torch.equal(value, expected) if exact else torch.allclose(value, expected, rtol=NEAR, atol=NEAR)
    return not isinstance(value, Tensor) and not isinstance(expected, Tensor) and value == expected


def described(value: object) -> str:
    """Return a value of a state for a message: the shape of a tensor, with its number if there is one."""
    if not isinstance(value, Tensor):
        return f"{value!r:.60}"
    return f"{value.item():.6g}" if not value.ndim else f"a tensor of shape {tuple(value.shape)}"


def sliced(parameter: torch.nn.Parameter, rows: slice) -> torch.nn.Parameter:
    """Return rows of a parameter as one."""
    return torch.nn.Parameter(parameter.detach()[rows].clone(), parameter.requires_grad)


def rows_of(gradient: Tensor, rows: slice) -> Tensor:
    """Return rows of a gradient, sparse if it is."""
    if not gradient.is_sparse:
        return gradient[rows]
    gradient = gradient.coalesce()
    first, end, _ = rows.indices(len(gradient))
    numbers = gradient.indices()[0]
    inside = (numbers >= first) & (numbers < end)
    shape = (end - first, *gradient.shape[1:])
    places = rearrange(numbers[inside] - first, "n -> 1 n")
    return torch.sparse_coo_tensor(places, gradient.values()[inside], shape, check_invariants=True)
