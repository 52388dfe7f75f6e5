"""Whole runs of several ranks: one folder, the checkpoints of one process, one message for one error."""

import os
from pathlib import Path

import pytest
from helpers import tiny
from mutated import mutated
from ranks_helper import forked, free_port, launched

from nanotx.cli.entry import run_and_exit
from nanotx.cli.main import run

FILES = ("model.safetensors", "optimizer.safetensors", "recipe.toml", "tokenizer.json")


def flags(folder: Path, **others: object) -> list[str]:
    """The flags of a run in four micro-batches."""
    words = tiny(train_batch_size=4, train_micro_batch_size=1, block_dropout=0.2, corpus_size=20000, **others)
    return [*words, "--corpus", "playhouse", "--schedule", "constant", "--run", str(folder)]


def train_together(folder: Path, size: int, words: list[str], own: dict[int, list[str]] | None = None) -> list[int]:
    """Train in several processes as torchrun would start them; return their exit codes.

    Args:
        folder: of what they print.
        size: the number of processes.
        words: of the command.
        own: words of some of them besides.
    """
    port = free_port()
    folder.mkdir(parents=True)

    def child(rank: int) -> None:
        launched(rank, size, port)
        run_and_exit(lambda: run([*words, *(own or {}).get(rank, [])]))

    return forked(folder, size, child)


def printed(folder: Path, size: int) -> list[str]:
    return [(folder / f"{rank}.err").read_text(encoding="utf-8") for rank in range(size)]


def contents(folder: Path, step: int) -> dict[str, bytes]:
    return {name: (folder / "checkpoints" / f"step-{step}" / name).read_bytes() for name in FILES}


def test_run_of_two_ranks_has_the_checkpoints_of_one(tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert run(["train", "macbook", *flags(alone, train_steps=4, train_eval_every=4)]) == 0
    words = ["train", "macbook", *flags(shared, train_steps=4, train_eval_every=4)]
    assert train_together(tmp_path / "out", 2, words) == [0, 0], printed(tmp_path / "out", 2)
    assert printed(tmp_path / "out", 2)[1] == ""
    assert not (tmp_path / "out" / "1.out").read_text(encoding="utf-8")
    assert contents(shared, 2) == contents(alone, 2)
    assert contents(shared, 4) == contents(alone, 4)


def test_run_that_divides_its_state_has_the_checkpoints_of_one_and_is_resumed_without(tmp_path):
    alone, shared, more = tmp_path / "alone", tmp_path / "shared", {"optimizer": "muon", "train_ema_decay": 0.9}
    assert run(["train", "macbook", *flags(alone, train_steps=4, **more)]) == 0
    words = ["train", "macbook", *flags(shared, train_steps=3, **more), "--parallel", "owner"]
    assert train_together(tmp_path / "out", 2, words) == [0, 0], printed(tmp_path / "out", 2)
    assert run(["resume", str(shared), "--train.steps", "4"]) == 0
    assert contents(shared, 4) == contents(alone, 4)


def test_rank_that_was_started_otherwise_is_refused_with_the_difference(tmp_path):
    words = ["train", "macbook", *flags(tmp_path / "run")]
    codes = train_together(tmp_path / "out", 2, words, {1: ["--optimizer.lr", "0.5"]})
    assert codes == [2, 2]
    message, other = printed(tmp_path / "out", 2)
    assert "rank 1 was not started as rank 0 was. --optimizer.lr: 0.5 on rank 1, and nothing on rank 0" in message
    assert other == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_run_goes_from_four_ranks_to_one_to_two_as_if_it_had_never_stopped(tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert run(["train", "macbook", *flags(alone, train_steps=9)]) == 0
    assert train_together(tmp_path / "4", 4, ["train", "macbook", *flags(shared, train_steps=3)]) == [0] * 4
    assert run(["resume", str(shared), "--train.steps", "6"]) == 0
    assert train_together(tmp_path / "2", 2, ["resume", str(shared), "--train.steps", "9"]) == [0] * 2
    assert contents(shared, 9) == contents(alone, 9)


@pytest.mark.slow
def test_resume_in_which_a_rank_begins_with_the_first_windows_again_changes_the_weights(tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert run(["train", "macbook", *flags(alone, train_steps=4)]) == 0
    assert train_together(tmp_path / "first", 2, ["train", "macbook", *flags(shared, train_steps=2)]) == [0] * 2
    words = ["resume", str(shared), "--train.steps", "4"]
    with mutated("nanotx.runs.followers:Follower.begin", 'Progress(**self.message["progress"])', "Progress()"):
        assert train_together(tmp_path / "then", 2, words) == [0] * 2
    assert contents(shared, 4)["model.safetensors"] != contents(alone, 4)["model.safetensors"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--ranks 3", r"3 processes cannot add in pairs.* the 4 micro-batches of a step, try --ranks 1, 2 or 4\."),
        ("--ranks 8", r"8 processes cannot share the 4 micro-batches of a step; try --ranks 1, 2 or 4, or a batch"),
        ("--rank-timeout -1", r"--rank-timeout: expected seconds above 0 and up to 30 days, got -1"),
        ("--rank-timeout nan", r"--rank-timeout: expected seconds above 0"),
        ("--ranks 0", r"ranks: expected a number of at least 1, got 0"),
        ("--ranks 3 --reduce fast", r"3 processes cannot share the 4 micro-batches of a step; try --ranks 1, 2 or 4"),
    ],
)
def test_number_of_ranks_that_cannot_share_a_step_is_refused_with_those_that_can(tmp_path, words, message):
    with pytest.raises(Exception, match=message):
        run(["train", "macbook", *flags(tmp_path / "run"), *words.split()])
    assert not os.path.lexists(tmp_path / "run")


@pytest.mark.parametrize("parallel", ["owner", "fsdp"])
def test_one_process_is_told_that_it_divides_nothing(parallel, tmp_path, capsys):
    words = ["train", "macbook", *flags(tmp_path / "run", train_steps=1), "--parallel", parallel, "--reduce", "fast"]
    assert run(words) == 0
    printed = capsys.readouterr()
    told = f"warning: --parallel {parallel}: one process divides nothing; add --ranks 2."
    assert told in printed.out + printed.err
