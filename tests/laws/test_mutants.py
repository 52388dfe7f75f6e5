"""Each law is there for something: a wrong part that every law before it lets pass, and that it catches.

The mutants are parts like any other (tests/mutants), tried as `nanotx laws` tries them, with as many cases.
"""

import pytest
import torch
from planted import MUTANTS, brought, planted

from nanotx import laws
from nanotx.errors import LawBroken
from nanotx.laws.all_laws import laws_on, part_of
from nanotx.laws.runner import EXAMPLES, attempt

FILES = {file.stem: brought(file.stem)[0] for file in sorted(MUTANTS.glob("*.py"))}
CATCHES = {name: law for module in FILES.values() for name, law in module.CATCHES.items()}
FEW = 12
"""Cases of the laws that a mutant is to pass."""
SINGLE = FILES["learning"].DATA | FILES["models"].SINGLE
"""Mutants that are no parts of a slot."""


@pytest.mark.slow  # that laws catch bugs is shown by .ci/full; that the code obeys them, by both
@pytest.mark.parametrize(("name", "law"), CATCHES.items())
def test_mutant_breaks_its_law_and_none_before_it(name, law):
    with planted(next(stem for stem, module in FILES.items() if name in module.CATCHES)):
        part = SINGLE.get(name) or part_of(name)
        wanted = laws_on(name.partition("/")[0] if name in SINGLE else name)
        for item in wanted:
            verdict = attempt(item, part, EXAMPLES if item.name == law else FEW)
            if verdict.broken:
                break
    assert (item.name, bool(verdict.broken)) == (law, True), f"{item.name}: {verdict.broken or 'all hold'}"


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


def test_law_of_compilation_catches_what_changes_when_compiled():
    class Cheats(torch.nn.Module):
        def forward(self, x):
            return x * (2.0 if torch.compiler.is_compiling() else 1.0)

    laws.compile_agrees(torch.nn.Linear(4, 4), torch.randn(1, 3, 4))
    with pytest.raises(LawBroken, match="compile_agrees: outputs"):
        laws.compile_agrees(Cheats(), torch.randn(1, 3, 4))
