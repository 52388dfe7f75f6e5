"""What a run writes is flushed before it is published; what is read by its step is verified; a killed run is no end."""

import json
import shutil
import signal
from contextlib import contextmanager

import pytest
from helpers import text, tiny
from mutants.durability import BUGS

import nanotx
import nanotx.runs.checkpoint_writer
import nanotx.runs.session
import nanotx.runs.valid
from nanotx import laws
from nanotx.cli.main import run as command
from nanotx.errors import LawBroken, RunError


@pytest.fixture(scope="module", autouse=True)
def corpus(tmp_path_factory):
    """The text of all these runs."""
    WHERE["corpus"] = text(tmp_path_factory.mktemp("corpus") / "text.txt")


WHERE = {}


def words(place, name="run", **fields):
    """A run of three steps, a checkpoint at each."""
    flags = tiny(**{"train_steps": 3, "train_checkpoint_every": 1} | fields)
    corpus = ["--corpus", "file", "--corpus.path", str(WHERE["corpus"]), "--embedding", "tokens"]
    return ["train", "shakespeare_char", *corpus, "--run", str(place / name), *flags]


def recorded(place, *more, **fields):
    """The record of such a run."""
    with laws.disk_record(place / "run") as record:
        assert command([*words(place, **fields), *more]) == 0
    return record


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, and the record of it."""
    place = tmp_path_factory.mktemp("durability")
    WHERE["record"] = recorded(place)
    return place


@pytest.fixture
def copied(place, tmp_path):
    """A run of one's own to damage."""
    shutil.copytree(place / "run", tmp_path / "run")
    return tmp_path


def test_what_a_run_writes_is_flushed_before_it_is_published(place):
    assert laws.durable(WHERE["record"]) >= 8  # recipe, tokenizer, journal, samples, summary, and three checkpoints


def test_what_a_resumed_run_writes_is_flushed_before_it_is_published(copied):
    assert laws.durable(recorded(copied, "--resume", train_steps=5)) >= 4


def test_checkpoint_set_aside_is_kept_until_its_successor_is_flushed(copied):
    """The newest one is damaged, so that the run takes its step again and publishes over it."""
    flip(newest(copied / "run") / "model.safetensors")
    assert laws.durable(recorded(copied, "--resume")) >= 4


def test_restarted_run_sets_old_files_aside_and_writes_no_file_under_its_final_name(copied):
    assert laws.durable(recorded(copied, "--restart")) >= 8


COMMANDS = {
    "sample": lambda run, out: ["sample", run, "--max-new-tokens", "2", "--json", f"{out}/x.json"],
    "show": lambda run, out: ["show", run, "--plot", f"{out}/x.svg"],
    "eval": lambda run, out: ["eval", run, "--json", f"{out}/x.json"],
    "tokenizer encode": lambda run, out: [
        *("tokenizer", "encode", f"{run}/tokenizer.json", str(WHERE["corpus"]), "--out", f"{out}/x.ids")
    ],
    "tokenizer train": lambda run, out: ["tokenizer", "train", "char", str(WHERE["corpus"]), "--out", f"{out}/x.json"],
    "tokenizer export": lambda run, out: [
        *("tokenizer", "export", f"{run}/tokenizer.json", "--to", "huggingface", f"{out}/x.json")
    ],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_writes_is_flushed_before_it_is_published(name, place, tmp_path):
    with laws.disk_record(tmp_path) as record:
        assert command(COMMANDS[name](str(place / "run"), tmp_path)) == 0
    assert laws.durable(record) == 1


# Bugs, planted where a run writes.

SAVE = nanotx.runs.checkpoint_writer.contents


@contextmanager
def planted(*changes):
    """Within, attributes are otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, value in changes:
            patch.setattr(owner, name, value)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_bug_planted_where_a_run_writes_breaks_the_law(name, tmp_path):
    says, *changes = BUGS[name]
    with planted(*changes):
        record = recorded(tmp_path, train_steps=2)
    with pytest.raises(LawBroken, match=says):
        laws.durable(record)


# A checkpoint that is asked for by its step.


def newest(run):
    """Its newest checkpoint."""
    return max((run / "checkpoints").iterdir(), key=lambda path: int(path.name.removeprefix("step-")))


def flip(file):
    """Change a bit in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def asked_for_by_its_step(copied):
    """No command uses a damaged checkpoint, in whichever file the damage is."""
    run, path = copied / "run", newest(copied / "run")
    step = int(path.name.removeprefix("step-"))
    for file in sorted(path.iterdir()):
        if file.name != "MANIFEST.json":
            sound = file.read_bytes()
            flip(file)
            with pytest.raises(RunError, match=f"{file.name}: the file is not the one that was saved"):
                nanotx.load(run, step)
            file.write_bytes(sound)
    assert nanotx.load(run, step).step == step
    flip(path / "model.safetensors")
    for words in (["sample", "--max-new-tokens", "1"], ["eval"]):
        with pytest.raises(RunError, match=r"model\.safetensors: the file is not the one that was saved"):
            command([words[0], str(run), "--step", str(step), *words[1:]])
    return run, step


def test_checkpoint_asked_for_by_its_step_is_verified(copied, capsys, place):
    run, step = asked_for_by_its_step(copied)
    assert command(["verify", str(run)]) != 0
    assert "the file is not the one that was saved" in capsys.readouterr().out
    assert command(["diff", str(place / "run"), str(run), "--step", str(step)]) == 0  # of what is sound, no bit differs
    result = copied / "replay.json"
    assert command(["replay", str(run), "--step", str(step), "--json", str(result)]) == 0
    assert json.loads(result.read_text(encoding="utf-8"))["from_step"] < step


def test_replay_begins_at_no_damaged_checkpoint(copied):
    run = copied / "run"
    flip(run / "checkpoints" / "step-2" / "model.safetensors")
    assert command(["replay", str(run), "--step", "3", "--json", str(copied / "replay.json")]) == 0
    assert json.loads((copied / "replay.json").read_text(encoding="utf-8"))["from_step"] != 2


def test_unverified_checkpoint_asked_for_by_its_step_is_caught(copied):
    unverified = planted((nanotx.runs.valid, "verify", lambda *rest: set()))
    with unverified, pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        asked_for_by_its_step(copied)


# A run that was killed before its summary.


class Killed(BaseException):
    """Stands for a process that is gone."""


def killed_before_its_summary(place):
    """Nothing calls such a run complete, and to resume it makes it so, with the figures of one that was not killed."""
    write_atomic = nanotx.runs.session.write_atomic

    def killing(path, content):
        if path.name == "summary.json":
            raise Killed
        write_atomic(path, content)

    with planted((nanotx.runs.session, "write_atomic", killing)), pytest.raises(Killed):
        command(words(place, "killed"))
    run = place / "killed"
    assert not (run / "summary.json").exists()
    assert not any(
        json.loads(line).get("complete") for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    )
    assert command([*words(place, "killed"), "--resume"]) == 0
    assert (run / "summary.json").exists()
    figures, undisturbed = (
        json.loads((item / "summary.json").read_text(encoding="utf-8")) for item in (run, place / "run")
    )
    assert figures["complete"] is True
    for name in ("steps", "val_loss", "train_loss", "best_step", "corpus_sha256"):
        assert figures[name] == undisturbed[name]
    assert json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])["event"] == "end"


def test_run_killed_before_its_summary_is_not_called_complete(place):
    killed_before_its_summary(place)


def test_run_killed_before_its_summary_and_called_complete_is_caught(place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    done = lambda self: {"steps": 3, "val_loss": 1.0, "bits_per_byte": 1.0}  # noqa: E731
    with planted((nanotx.runs.session.Session, "complete_figures", done)), pytest.raises(AssertionError):
        killed_before_its_summary(tmp_path)


def test_complete_run_that_gets_more_steps_is_complete_at_the_last_of_them(copied):
    assert command([*words(copied, train_steps=4), "--resume"]) == 0
    figures = json.loads((copied / "run" / "summary.json").read_text(encoding="utf-8"))
    assert (figures["steps"], figures["complete"]) == (4, True)


def test_run_that_a_signal_stopped_is_not_called_complete(tmp_path):
    def stopping(*rest, **named):
        signal.raise_signal(signal.SIGTERM)
        return SAVE(*rest, **named)

    with planted((nanotx.runs.checkpoint_writer, "contents", stopping)):
        assert command(words(tmp_path)) == 128 + signal.SIGTERM
    figures = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert (figures["steps"], figures["complete"]) == (1, False)
