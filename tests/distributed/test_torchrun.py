"""torchrun itself, with an agent for each machine: one that is gone for good, one that has to leave, one that comes.

The rendezvous of PyTorch's agents takes seconds, so these tests are slow.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT
from ranks_helper import free_port
from test_whole_runs import contents, flags

from nanotx.cli.main import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="agents are told apart by process numbers, in order"),
]

STEPS = 40

# What happens before a step to the process of an agent whose environment says so. A slow one takes its steps alone so
# slowly that another agent can come before the run has ended.
DISTURBED = """
import atexit, os, signal, time
from nanotx.training.trainer import Trainer

take = Trainer.train_step
act, at = os.environ.get("DISTURBANCE", "none 0").split()

def train_step(self, keep_gradients=False):
    if self.progress.step == int(at) and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
        if act in ("leave", "stop"):
            os.kill(os.getppid() if act == "leave" else os.getpid(), signal.SIGTERM)
        elif act == "kill":
            os.kill(os.getppid(), signal.SIGKILL)
        if act in ("kill", "fail"):
            os.kill(os.getpid(), signal.SIGKILL)
    if self.ranks.size == 1 and "SLOW" in os.environ:
        time.sleep(0.3)
    return take(self, keep_gradients)

Trainer.train_step = train_step
if os.environ.get("RANK") == "0":
    atexit.register(print, "rank 0 has left as a logger wants it")
"""

QUICK = "last_call_timeout=2,keep_alive_interval=1,keep_alive_max_attempt=8"
"""The times of PyTorch's rendezvous, which are up to half a minute otherwise."""


def agent(folder: Path, port: int, *words: str, nodes: str, host: bool, **environment: str) -> subprocess.Popen[bytes]:
    """An agent that starts one process, as on a machine of its own; the one that is `host` has the rendezvous."""
    conf = f"{QUICK},is_host={str(host).lower()}"
    options = ["--nnodes", nodes, "--nproc-per-node", "1", "--max-restarts", "3", "--rdzv-backend", "c10d"]
    options += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "mine", "--local-addr", "127.0.0.1"]
    number = len(list(folder.glob("*.agent")))
    with (folder / f"{number}.agent").open("wb") as output:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                *options,
                "--rdzv-conf",
                conf,
                "-m",
                "nanotx",
                "--",
                *words,
            ],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def ended(folder: Path, *agents: subprocess.Popen[bytes], seconds: float = 120.0) -> list[int]:
    """The exit codes of agents, which are killed when they take too long."""
    end = time.monotonic() + seconds
    try:
        return [each.wait(max(0.1, end - time.monotonic())) for each in agents]
    except subprocess.TimeoutExpired:
        pytest.fail(f"an agent does not end: {printed(folder)}")
    finally:
        for each in agents:
            if each.poll() is None:
                each.send_signal(signal.SIGTERM)
                each.wait(40)


def printed(folder: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.agent")))


@pytest.fixture
def words(tmp_path):
    """The command of a run that is disturbed, and resumed; its undisturbed sibling is in `alone`."""
    (tmp_path / "disturbed.py").write_text(DISTURBED, encoding="utf-8")

    def command(run_folder):
        common = flags(run_folder, train_steps=STEPS, train_checkpoint_every=4, train_eval_every=STEPS)
        return ["train", "macbook", *common, "--load", str(tmp_path / "disturbed.py")]

    assert run(command(tmp_path / "alone")) == 0
    return [*command(tmp_path / "run"), "--resume", "--rank-timeout", "60"]


@pytest.mark.parametrize("act", ["kill", "leave"])
@pytest.mark.parametrize("rank", [0, 1])  # of the agent that goes; the other one has the rendezvous
def test_agent_takes_the_run_up_alone_when_the_other_one_is_gone_for_good(tmp_path, words, rank, act):
    port, agents = free_port(), dict[int, subprocess.Popen[bytes]]()
    for number in (0, 1):  # the rank is that of the process number, where addresses are equal
        mine = {"DISTURBANCE": f"{act} 6"} if number == rank else {}
        agents[number] = agent(tmp_path, port, *words, nodes="1:2", host=number != rank, **mine)
    gone, left = ended(tmp_path, agents[rank], agents[1 - rank])
    assert (left, gone) == (0, -signal.SIGKILL if act == "kill" else 1), printed(tmp_path)
    assert "continues from step" in printed(tmp_path)
    assert contents(tmp_path / "run", STEPS) == contents(tmp_path / "alone", STEPS)


def test_agent_that_comes_after_a_failure_shares_the_run(tmp_path, words, monkeypatch):
    # PyTorch 2.13 waits for an address that nobody tells, where agents share one store over all restarts.
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    port, saved = free_port(), tmp_path / "run" / "checkpoints"
    first = agent(tmp_path, port, *words, nodes="1:2", host=True, SLOW="1", DISTURBANCE="fail 6")
    end = time.monotonic() + 60
    while not (saved / "step-8").exists() and time.monotonic() < end:
        time.sleep(0.1)
    second = agent(tmp_path, port, *words, nodes="1:2", host=False, SLOW="1")
    assert ended(tmp_path, first, second) == [0, 0], printed(tmp_path)
    assert printed(tmp_path).count("continues from step") == 2
    assert contents(tmp_path / "run", STEPS) == contents(tmp_path / "alone", STEPS)


@pytest.mark.parametrize("rank", [0, 1])
def test_all_agents_start_again_when_a_signal_has_ended_one_rank(tmp_path, words, rank):
    port = free_port()
    agents = [
        agent(tmp_path, port, *words, nodes="2", host=number == 0, DISTURBANCE="stop 6" if number == rank else "none 0")
        for number in (0, 1)
    ]
    assert ended(tmp_path, *agents) == [0, 0], printed(tmp_path)
    assert printed(tmp_path).count("continues from step") == 1
    assert printed(tmp_path).count("rank 0 has left as a logger wants it") == 2
    assert contents(tmp_path / "run", STEPS) == contents(tmp_path / "alone", STEPS)
