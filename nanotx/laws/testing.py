"""Laws as tests, which the author of a part writes in two lines.

from nanotx.laws.testing import laws_of
test_mine = laws_of("attention/mine", load=["mine.py"])
"""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import settings

from nanotx.config.registry import load_file
from nanotx.laws.all_laws import laws_on, part_names, part_of
from nanotx.laws.law import Law
from nanotx.laws.runner import attempt


def laws_of(*names: str, load: Sequence[str] = ()) -> Callable[..., None]:
    """Return a test that checks every law on each of the parts, with the number of cases of hypothesis' profile.

    Args:
        names: slots, or slot/part; an installed part needs only its name.
        load: Python files that register parts.

    Raises:
        ConfigError: there is no such part; raised at import, so that no test passes because its part is missing.
    """
    for file in load:
        load_file(file)

    pairs = [(name, law) for word in names for name in part_names(word) for law in laws_on(name)]

    @pytest.mark.parametrize(("name", "law"), pairs, ids=[f"{name}-{law.name}" for name, law in pairs])
    def obeys(name: str, law: Law) -> None:
        verdict = attempt(law, part_of(name), settings().max_examples)
        if verdict.skipped:
            pytest.skip(verdict.skipped)
        assert not verdict.broken, f"{verdict.broken}\n{verdict.replay(load)}"

    return obeys
