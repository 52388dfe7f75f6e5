"""Random damaged files are read or refused, and the fuzzer finds what is neither."""

import json
import multiprocessing
import os
import re
import signal
import time
from random import Random

import pytest
from reliability import fuzz
from reliability.damage import of_bytes, of_json, of_lines, of_tensors
from reliability.fuzzed_files import KINDS, Kind, write

from nanotx.config import schema
from nanotx.runs import valid
from nanotx.selftest import Broken
from nanotx.tokenizers import loading

COUNTS = {"recipes": 80, "runs": 70, "tokenizers": 100}
FORKS = "fork" in multiprocessing.get_all_start_methods() and hasattr(signal, "SIGALRM")


@pytest.mark.parametrize("kind", KINDS)
def test_files_at_random_are_read_or_refused(kind, tmp_path):
    ends = fuzz.batch(kind, 1, range(COUNTS[kind]), tmp_path)
    assert ends["read"] and any(name.endswith("Error") for name in ends)


@pytest.mark.parametrize("kind", KINDS)
def test_fuzzed_file_is_a_pure_function_of_seed_and_number(kind, tmp_path):
    written = []
    for home, seed, number in (("a", 1, 7), ("b", 1, 7), ("c", 2, 7), ("d", 1, 8)):
        folder = tmp_path / home
        write(kind, seed, number, folder, KINDS[kind].sound())
        written.append({file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()})
    assert written[0] == written[1] and written[0] != written[2] and written[0] != written[3]


PLANTED = {
    "recipes": (schema, "_scalar", lambda kind, item, where, default: item),
    "runs": (valid, "read_json", lambda file: json.loads(file.read_text(encoding="utf-8"))),
    "tokenizers": (loading, "_parse", lambda path: json.loads(path.read_text(encoding="utf-8"))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_planted_bug_is_found(kind, tmp_path, monkeypatch):
    where, name, bug = PLANTED[kind]
    sound = KINDS[kind].sound()
    monkeypatch.setattr(where, name, bug)
    assert any("broken" in fuzz.attempt(kind, 1, number, tmp_path / "one", sound) for number in range(100))


NUMBERS = {Random(f"1 planted {number}").random(): number for number in range(14)}


def note(folder, draw, sound):
    (folder / "number").write_text(str(NUMBERS[draw.random()]), encoding="ascii")


def evil(folder):
    """Do what a reader must never do, by the number of the file."""
    number = int((folder / "number").read_text(encoding="ascii"))
    if number == 2:
        raise KeyError("planted")
    while number == 3:
        pass
    while number == 4:
        time.sleep(0.01)
    if number == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 8:
        bytearray(8 << 30)
    if number == 10:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(600)
    if number == 12:
        raise SystemExit(1)


@pytest.mark.slow
@pytest.mark.skipif(not FORKS, reason="what is planted here is seen in a forked process alone")
def test_what_raises_hangs_dies_or_takes_memory_is_found_and_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "planted", Kind(name="planted", sound=dict, write=note, readings=(evil,)))
    monkeypatch.setattr(fuzz, "processes", multiprocessing.get_context("fork"))
    monkeypatch.setattr(fuzz, "SECONDS", 1.0)
    monkeypatch.setattr(fuzz, "PATIENCE", 2.0)
    with pytest.raises(Broken) as caught:
        fuzz.batch("planted", 1, range(14), tmp_path)
    message = str(caught.value)
    assert message.startswith(f"7 of 14 planted of seed 1, kept in {tmp_path}: ")
    for wanted in (
        r"2: evil: KeyError: 'planted' \(test_fuzz\.py:\d+, evil\)",
        r"3: evil: Late",
        r"4: evil: Late: more than 1 s of work, or 2 s of waiting",
        r"6: the process ended with -9",
        r"8: evil: MemoryError",
        r"replay\('planted', 1, 2\)",
    ):
        assert re.search(wanted, message), (wanted, message)
    kept = {path.name for path in tmp_path.glob("planted-1-*")}
    assert kept == {f"planted-1-{number}" for number in (2, 3, 4, 6, 8, 10, 12)}
    with pytest.raises(KeyError, match="planted"):
        fuzz.replay("planted", 1, 2, tmp_path)


@pytest.mark.parametrize("damage", [of_bytes, of_json, of_lines, of_tensors])
@pytest.mark.parametrize("data", [b"", b"{}", b"[1, {}]", b'{"a": {"shape": [2], "dtype": "F32"}}', b"a = 1\n[b]\n"])
def test_anything_can_be_damaged(damage, data):
    data = len(data).to_bytes(8, "little") + data if damage is of_tensors else data
    results = {damage(data, Random(f"{number}")) for number in range(200)}
    assert len(results) > 5 and any(result != data for result in results)
