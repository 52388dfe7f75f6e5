"""nanotx selftest: a few of its cases, and that it sees a promise broken."""

import random

import pytest

from nanotx.cli.commands import selftest
from nanotx.runs import checkpoint
from nanotx.selftest import Broken, damage, faults, kills, saves, small

NAMES = [case.name for case in faults.cases(0)]


def tried(case, folder):
    folder.mkdir()
    return case.run(folder)


@pytest.mark.parametrize("number", range(5))
def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_bits(tmp_path, number):
    tried(kills.cases(1, 5)[number], tmp_path / "case")


def test_a_disk_that_fails_anywhere_loses_nothing_that_was_saved(tmp_path):
    for number, case in enumerate(saves.cases(2, 4)):
        tried(case, tmp_path / str(number))


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_leaves_the_previous_good_state(tmp_path, name):
    (case,) = (one for one in faults.cases(0) if one.name == name)
    tried(case, tmp_path / "case")


def test_damage_is_found_named_and_passed_over(tmp_path):
    cases = damage.cases(0)
    harms = [case for case in cases if "of the newest checkpoint" in case.name]
    others = [case for case in cases if case not in harms]
    for number, case in enumerate([*random.Random(3).sample(harms, 4), *others]):
        tried(case, tmp_path / str(number))


def test_a_broken_promise_is_seen(tmp_path):
    """Where a row, a text or a tensor is another than it would have been, it says so, and where."""
    folder = tmp_path / "case"
    folder.mkdir()
    assert small.begin(small.KIND, folder).finish().code == 0
    small.same(small.KIND, folder / "run")
    for name, old, new, says in (
        ("metrics.jsonl", '"step": 3, "loss": ', '"step": 3, "loss": 1', r"rows differs .*: \[2\]: loss: "),
        ("samples.txt", "\n", "\n\n", "texts differs from that of the run that was never disturbed"),
    ):
        file = folder / "run" / name
        sound = file.read_text(encoding="utf-8")
        assert old in sound
        file.write_text(sound.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(Broken, match=says):
            small.same(small.KIND, folder / "run")
        file.write_text(sound, encoding="utf-8")
    with pytest.raises(Broken, match="of the run that was never disturbed"):
        small.same(list(small.OTHERS)[1], folder / "run")


def test_every_operation_of_a_save_is_among_the_cases():
    names = saves.operations()
    assert [name for name in names if name.startswith("write ")] and "write MANIFEST.json" in names
    for needed in ("rename step-4", "sync checkpoints", "sync model.safetensors", "remove .step-"):
        assert any(name.startswith(needed) for name in names), (needed, names)
    assert len(saves.cases(0, None)) == 4 * len(names)


def test_the_verb_prints_a_table_and_writes_it(tmp_path, capsys):
    code = selftest.run(["--only", "damage", "--case", "torn", "--json", str(tmp_path / "found.json")])
    out = capsys.readouterr().out
    assert code == 0 and "kept" in out and "damage/a last line of metrics.jsonl that was torn" in out
    assert (tmp_path / "found.json").exists()


def test_steps_are_read_from_names_alone(tmp_path):
    for name in ("step-4", "step-²", "step-x", "step-10"):
        (tmp_path / name).mkdir()
    assert list(checkpoint.steps(tmp_path)) == [10, 4]
