"""The network between ranks: connections that notice the loss of a machine, and the words for it."""

import os
import socket
import sys
import threading
from datetime import timedelta

import pytest
from torch.distributed import HashStore

from nanotx.cli.commands import resume
from nanotx.distributed.agreement import Agreement
from nanotx.distributed.join import choose_interface, shared_store
from nanotx.distributed.network import LONGEST, PROBES, interface_to, open_sockets, own_address_to, probed_connections
from nanotx.errors import ConfigError, RunError

linux = pytest.mark.skipif(sys.platform != "linux", reason="lists its sockets elsewhere, or has other options")


def connection():
    """Both ends of a TCP connection of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


def options(end):
    """What is set of a connection: whether it is probed, after what silence, how often, and how long data may wait."""
    tcp = (socket.TCP_KEEPIDLE, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    return bool(end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)), *(
        end.getsockopt(socket.IPPROTO_TCP, option) for option in tcp
    )


@linux
def test_only_connections_that_are_made_within_are_probed():
    earlier, held = connection()
    with probed_connections(60.0):
        ends, pair = connection(), socket.socketpair()
    assert [options(end) for end in ends] == [(True, 30, PROBES, 60_000)] * 2
    assert not options(earlier)[0] and not any(end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for end in pair)
    for end in (earlier, held, *ends, *pair):
        end.close()


@linux
@pytest.mark.parametrize(("seconds", "idle"), [(0.2, 1), (30.0 * 86400, LONGEST)])
def test_any_time_that_a_rank_may_take_can_be_set(seconds, idle):
    with probed_connections(seconds):
        ends = connection()
    assert options(ends[0])[:2] == (True, idle)
    for end in ends:
        end.close()


@linux
def test_open_sockets_are_those_of_this_process():
    with socket.socket() as one:
        assert one.fileno() in {number for number, _ in open_sockets()}
        number = one.fileno()
    assert number not in {number for number, _ in open_sockets()}


def test_interface_is_chosen_for_other_machines_alone(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "")  # so that it is gone again after the test
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    assert interface_to("127.0.0.1", 1) is interface_to("no such host.invalid", 1) is None
    choose_interface("127.0.0.1", 1)
    monkeypatch.setattr("nanotx.distributed.join.interface_to", lambda *_: "eth7")
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    choose_interface("10.0.0.1", 1)
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    choose_interface("10.0.0.1", 1)
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine"


def test_address_that_only_this_machine_reaches_is_told_to_none():
    assert own_address_to("127.0.0.1", 1) == own_address_to("no such host.invalid", 1) == own_address_to("", 1) == ""


def test_all_ranks_hear_an_address_of_another_machine_than_that_of_rank_0():
    store, results = HashStore(), dict[int, str]()

    def start(rank, address):
        results[rank] = shared_store(store, rank, 3, timedelta(seconds=20), address)[1]

    for addresses in (["", "", ""], ["", "", "10.0.0.3"], ["10.0.0.1", "10.0.0.2", "10.0.0.3"]):
        results.clear()
        threads = [threading.Thread(target=start, args=pair) for pair in enumerate(addresses)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == dict.fromkeys(range(3), next(filter(None, addresses[1:]), ""))


class Cut(HashStore):
    """A store on a machine that is out of reach."""

    def get(self, key):
        raise RuntimeError("recvValue failed: Connection timed out")


def loss(store, rank, size, error, arrived=()):
    """The error of a rank that lost another; some others have come to the same meeting."""
    agreement = Agreement(rank, size, store, timedelta(seconds=9))
    for other in range(size):
        store.set(f"at/{other}", "1" if other in arrived else "0")
    agreement.number = 1
    return agreement.describe_loss(RuntimeError(error))


def test_the_other_of_two_ranks_is_named_even_if_both_had_come():
    lost = loss(HashStore(), 0, 2, "Timed out waiting 9000ms", arrived=(0, 1))
    assert "rank 1 did not answer within 9 s, while rank 0 waited" in str(lost) and lost.reporter == 0


@pytest.mark.parametrize(("here", "named"), [((1, 2), "another rank"), ((2,), "rank 1"), ((), "ranks 1, 2")])
def test_rank_that_does_not_answer_is_named_where_all_had_come(here, named):
    store = HashStore()
    for rank in here:
        store.set(f"here/{rank}", "")
    lost = loss(store, 0, 3, "Connection closed by peer", arrived=(0, 1, 2))
    assert str(lost).startswith(f"{named} closed the connection, while rank 0 waited")


@pytest.mark.parametrize("reason", ["Connection timed out", "No route to host", "Network is unreachable"])
def test_rank_that_is_cut_off_from_rank_0_reports_it_itself(reason):
    lost = loss(Cut(), 2, 3, f"Read error [10.0.0.1]:2: {reason}")
    assert "rank 0, or the network to its machine, did not answer within 9 s, while rank 2 waited" in str(lost)
    assert lost.reporter == 2


def test_rank_0_that_closed_its_connections_is_reported_once():
    reporters = {loss(Cut(), rank, 3, "Connection closed by peer").reporter for rank in (1, 2)}
    assert reporters == {1}


class Meeting(Agreement):
    """A rank whose meetings need no others."""

    def meet(self, error, kinds=()):
        return None


def compared(runs):
    """Compare ranks that find these runs on their machines; rank 0 comes last, and finds what the others have said."""
    store, ranks = HashStore(), range(len(runs))
    agreements = [Meeting(rank, len(runs), store, timedelta(seconds=9)) for rank in ranks]
    for rank in reversed(ranks):
        agreements[rank].compare({"--run": "runs/mine"}, runs[rank])


def test_run_that_only_another_machine_has_is_not_begun_anew():
    for fine in (["", ""], ["runs/mine", ""], ["runs/mine", "runs/mine"]):
        compared(fine)
    with pytest.raises(
        ConfigError, match=r"--run runs/mine: rank 2 finds a run there, and rank 0, .* does not.*--node-"
    ):
        compared(["", "", "runs/mine"])


def test_only_the_rank_that_has_the_folder_looks_for_the_run(monkeypatch, tmp_path):
    begun = []
    monkeypatch.setattr(resume, "run_recipe", lambda recipe, argv, name, prog: begun.append(argv) or 0)
    folder = str(tmp_path / "nowhere")
    with pytest.raises(RunError, match="expected a run's folder"):
        resume.run([folder])
    for name, value in {"WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert resume.run([folder]) == 0 and begun == [[f"--run={folder}", "--resume"]]
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(RunError, match="expected a run's folder"):
        resume.run([folder])
