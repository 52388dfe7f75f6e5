"""Laws as tests: what the author of a part writes, in two lines.

from nanotx.laws.testing import laws_of
test_mine = laws_of("attention/mine", load=["mine.py"])
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import settings

from nanotx.laws.book import LAWS, part_of, parts
from nanotx.laws.law import Law
from nanotx.laws.trial import Verdict, attempt
from nanotx.registry import load_file


def laws_of(*names: str, load: Sequence[str] = ()) -> Callable[..., None]:
    """A test that tries every law on every one of the parts, as many cases each as hypothesis' profile says.

    Args:
        names: slots, or slot/part; a part that is installed needs no more than its name.
        load: Python files that register parts.

    Raises:
        ConfigError: there is no such part; at once, so that no test passes for want of one.
    """
    for file in load:
        load_file(file)

    @pytest.mark.parametrize(
        ("name", "law"), [pytest.param(*one, id=f"{one[0]}-{one[1].name}") for one in every(names)]
    )
    def obeys(name: str, law: Law) -> None:
        verdict = verdict_of(name, law)
        if verdict.skipped:
            pytest.skip(verdict.skipped)
        assert not verdict.broken, f"{verdict.broken}\n{verdict.replay(load)}"

    return obeys


def every(names: Sequence[str]) -> list[tuple[str, Law]]:
    """Each part with each law that is asked of it."""
    found = []
    for word in names:
        slot, named = part_of(word)
        for name in [word] if named is not None else parts(slot):
            part = part_of(name)[1]
            found += [(name, law) for law in LAWS[slot] if law.fits(part) and not law.on_request]
    return found


def verdict_of(name: str, law: Law) -> Verdict:
    """A law tried on one part."""
    part: Any = part_of(name)[1]
    return attempt(law, part, settings.default.max_examples if settings.default else 100)
