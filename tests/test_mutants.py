"""Each law is there for something: a wrong part that every law before it lets pass, and that it catches.

The mutants are parts like any other (tests/mutants), tried as `nanotx laws` tries them, with as many cases.
"""

import runpy
from pathlib import Path

import pytest
import torch

from nanotx import laws
from nanotx.errors import LawBroken
from nanotx.laws.book import part_of
from nanotx.laws.trial import attempt

MUTANTS = Path(__file__).resolve().parent / "mutants"
CATCHES = {
    name: law for file in sorted(MUTANTS.glob("*.py")) for name, law in runpy.run_path(str(file))["CATCHES"].items()
}


def asked(name):
    """The laws that `nanotx laws` asks of a part, in its order."""
    slot, part = part_of(name)
    return [law for law in laws.LAWS[slot] if law.fits(part) and not law.on_request], part


@pytest.mark.parametrize(("name", "law"), CATCHES.items())
def test_a_mutant_breaks_its_law_and_none_before_it(name, law):
    wanted, part = asked(name)
    for one in wanted:
        verdict = attempt(one, part)
        if verdict.broken:
            break
    assert (one.name, bool(verdict.broken)) == (law, True), f"{one.name}: {verdict.broken or 'all hold'}"
    with pytest.raises((LawBroken, Exception)):
        one.check(one.case.of(part, verdict.case))


def test_every_law_has_a_mutant_of_its_own():
    """Laws that several slots share are shown once, on one of the slots."""
    table = {}
    for name, law in CATCHES.items():
        table.setdefault(law, []).append(name)
    width = max(map(len, table))
    print("\n" + "\n".join(f"{law:{width}}  {', '.join(names)}" for law, names in table.items()))  # noqa: T201
    known = {law.name for some in laws.LAWS.values() for law in some if not law.on_request}
    assert known - set(table) == set()
    assert set(table) - known == set()
    assert len(CATCHES) >= 15


def test_the_law_of_compilation_catches_what_changes_when_compiled():
    class Cheats(torch.nn.Module):
        def forward(self, x):
            return x * (2.0 if torch.compiler.is_compiling() else 1.0)

    laws.compile_agrees(torch.nn.Linear(4, 4), torch.randn(1, 3, 4))
    with pytest.raises(LawBroken, match="compile_agrees: outputs"):
        laws.compile_agrees(Cheats(), torch.randn(1, 3, 4))
