"""The checks of annotations while the tests run: types, shapes, and letters that keep one length within a call."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor
from type_checks import check_types, checked, names_axes

from nanotx.config.schema import check_min
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.norm.rmsnorm import RmsNorm
from nanotx.nn.shapes import Stream


def decorated(item):
    return checked(item, check_types)


def test_package_is_checked_as_it_is_called():
    with pytest.raises(TypeCheckError):
        check_min(Sdpa(), "0", "heads")
    with pytest.raises(TypeCheckError):
        Sdpa(heads="2")
    with pytest.raises(TypeCheckError):
        RmsNorm().build(8)(torch.zeros(8, dtype=torch.int64))


@pytest.mark.parametrize(("value", "right"), [(1, True), ("1", False), (None, False), (1.0, False)])
def test_argument_and_result_of_another_type_are_refused(value, right):
    def take(x: int) -> None:
        pass

    def give(x) -> int:
        return x

    for function in map(decorated, (take, give)):
        if right:
            function(value)
        else:
            with pytest.raises(TypeCheckError):
                function(value)


def test_letter_stands_for_one_length_in_the_arguments_and_the_result_of_a_call():
    @decorated
    def add(x: Float[Tensor, "b t"], y: Float[Tensor, "b t"]) -> Float[Tensor, " t"]:
        return (x + y)[:, : 2 if len(x) == 3 else None].sum(0)

    x = torch.zeros(2, 5)
    assert add(x, x).shape == (5,) and add(x[:, :3], x[:, :3]).shape == (3,)
    for first, other in ((x, x[:1]), (x[0], x[0]), (x.long(), x.long()), (torch.zeros(3, 5), torch.zeros(3, 5))):
        with pytest.raises(TypeCheckError):
            add(first, other)


def test_letters_of_a_call_do_not_bind_those_of_the_calls_inside():
    @decorated
    def inner(x: Float[Tensor, "b t"]) -> Float[Tensor, "t b"]:
        return x.mT

    @decorated
    def outer(x: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        return inner(inner(x))

    assert outer(torch.zeros(2, 5)).shape == (2, 5)


def test_fields_of_a_dataclass_are_checked_and_those_of_its_heirs():
    @decorated
    @dataclass(frozen=True)
    class Base:
        size: int
        x: Stream | None = None

    @decorated
    @dataclass(frozen=True)
    class Heir(Base):
        name: str = ""

    Heir(3, torch.zeros(1, 2, 3), "n")
    for values in ((3.5,), (3, torch.zeros(2)), (3, None, 5)):
        with pytest.raises(TypeCheckError):
            Heir(*values)


def test_generator_of_tensors_is_checked_and_leaves_the_shapes_of_others_checked():
    @decorated
    def give(x: Stream, other: Stream) -> Iterator[Stream]:
        yield x + other

    x = torch.zeros(1, 2, 3)
    assert len(list(give(x, x))) == 1
    for first, second in ((x[0], x[0]), (x, x[..., :1])):
        with pytest.raises(TypeCheckError):
            list(give(first, second))
    assert not isinstance(torch.zeros(3), Stream)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [(int, False), (list[str], False), (Stream, True), (Stream | None, True), (dict[str, tuple[Stream, int]], True),
     ("Stream", True), (Tensor, False)],
)  # fmt: skip
def test_axes_are_seen_anywhere_in_an_annotation(annotation, expected):
    assert names_axes(annotation) == expected
