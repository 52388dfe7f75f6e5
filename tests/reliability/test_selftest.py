"""nanotx selftest: some of its cases, and that it catches a broken promise."""

import json
import random
import subprocess

import pytest

from nanotx.cli.commands import selftest
from nanotx.runs import checkpoint
from nanotx.selftest import Broken, damage, faults, kills, network, ranks, saves, tiny_runs

NAMES = [case.name for case in faults.cases(0)]


def run_case(case, folder):
    folder.mkdir()
    return case.run(folder)


@pytest.mark.parametrize("number", range(5))
def test_run_that_is_killed_at_any_moment_resumes_to_the_same_bits(tmp_path, number):
    run_case(kills.cases(1, 5)[number], tmp_path / "case")


@pytest.mark.slow
@pytest.mark.parametrize("case", ranks.cases(0, 20), ids=lambda case: case.name)
def test_rank_that_is_killed_or_delayed_at_any_moment_changes_no_bit(tmp_path, case):
    run_case(case, tmp_path / "case")


@pytest.mark.slow
@pytest.mark.parametrize("case", network.cases(), ids=lambda case: case.name)
def test_network_that_goes_down_is_named_on_both_hosts_and_changes_no_bit(tmp_path, case):
    finding = run_case(case, tmp_path / "case")
    if finding.skipped:
        pytest.skip(finding.happened)


def test_case_that_the_system_does_not_allow_is_skipped_with_the_reason(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(network.shutil, "which", lambda name: None)
    assert selftest.run(["--only", "network", "--case", "step", "--json", str(tmp_path / "x.json")]) == 0
    out = capsys.readouterr().out
    assert out.count("skipped") == 2 and "there is no program `ip` (Debian's package iproute2)" in out
    rows = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["rows"]
    assert all(row["skipped"] and row["kept"] for row in rows)
    monkeypatch.setattr(network.shutil, "which", lambda name: name)
    monkeypatch.setattr(network.subprocess, "run", refusing)
    for case in network.cases():
        finding = case.run(tmp_path)
        assert finding.skipped and "not permitted here: ip netns add" in finding.happened
        assert finding.happened.endswith("Operation not permitted")


def refusing(words, **_):
    return subprocess.CompletedProcess(words, 1, "", "Operation not permitted\n")


def test_disk_that_fails_anywhere_loses_nothing_that_was_saved(tmp_path):
    for number, case in enumerate(saves.cases(2, 4)):
        run_case(case, tmp_path / str(number))


@pytest.mark.parametrize("name", NAMES)
def test_fault_leaves_the_previous_good_state(tmp_path, name):
    (case,) = (case for case in faults.cases(0) if case.name == name)
    run_case(case, tmp_path / "case")


def test_damage_is_found_named_and_skipped(tmp_path):
    cases = damage.cases(0)
    harms = [case for case in cases if "of the newest checkpoint" in case.name]
    others = [case for case in cases if case not in harms]
    for number, case in enumerate([*random.Random(3).sample(harms, 4), *others]):
        run_case(case, tmp_path / str(number))


def test_differing_row_text_or_tensor_is_named(tmp_path):
    folder = tmp_path / "case"
    folder.mkdir()
    assert tiny_runs.begin(tiny_runs.KIND, folder).finish().code == 0
    tiny_runs.check_same(tiny_runs.KIND, folder / "run")
    for name, old, new, message in (
        ("metrics.jsonl", '"step": 3, "loss": ', '"step": 3, "loss": 1', r"rows differs .*: \[2\]: loss: "),
        ("samples.txt", "\n", "\n\n", "samples differs from the undisturbed run"),
    ):
        file = folder / "run" / name
        sound = file.read_text(encoding="utf-8")
        assert old in sound
        file.write_text(sound.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(Broken, match=message):
            tiny_runs.check_same(tiny_runs.KIND, folder / "run")
        file.write_text(sound, encoding="utf-8")
    with pytest.raises(Broken, match="differs from the undisturbed run"):
        tiny_runs.check_same(list(tiny_runs.KINDS)[1], folder / "run")


def test_every_operation_of_a_save_is_among_the_cases():
    places = saves.operations()
    steps, beside = ([name for place, name in places if place.beside is value] for value in (False, True))
    common = ("write MANIFEST.json", "sync checkpoints", "sync model.safetensors", "remove .step-")
    for names, first in ((steps, "rename step-1"), (beside, "rename step-4")):  # the first checkpoint is waited for
        for needed in (first, *common):
            assert any(name.startswith(needed) for name in names), (needed, names)
    for value, names in ((False, steps), (True, beside)):
        numbers = [place.number for place, _ in places if place.beside is value]
        assert numbers == [*range(1, len(names) + 1)]
    assert len(saves.cases(0, None)) == 4 * len(places)


def test_command_prints_a_table_and_writes_it(tmp_path, capsys):
    code = selftest.run(["--only", "damage", "--case", "torn", "--json", str(tmp_path / "results.json")])
    out = capsys.readouterr().out
    assert code == 0 and "kept" in out and "damage/a torn last line of metrics.jsonl" in out
    assert (tmp_path / "results.json").exists()


def test_steps_are_read_from_names_alone(tmp_path):
    for name in ("step-4", "step-²", "step-x", "step-10"):
        (tmp_path / name).mkdir()
    assert list(checkpoint.steps(tmp_path)) == [10, 4]
