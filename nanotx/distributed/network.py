"""The network between the machines of a run: the interface to the others, and connections that notice a loss.

A machine that loses its network or its power closes no connection. A rank that only waits for it, as the others wait
for rank 0's next order, would wait for ever. So the kernel probes each connection while it is silent, and what is sent
has to be acknowledged in time. A process that is slow, or stopped, is not lost: its machine answers.

Source: RFC 1122, section 4.2.3.6, and RFC 5482; tcp(7) of Linux
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OPEN_FILES = ("/proc/self/fd", "/dev/fd")
"""Folders in which systems list the open files of a process."""

ANSWERS = 0.75
"""Share of the time that a rank may take within which its machine has to answer, so that its loss is told in time."""

LONGEST = 32_767
"""Seconds that a kernel can wait between two probes."""

PROBES = 4
"""Probes without an answer after which a connection is lost."""

SIOCGIFADDR = 0x8915
"""The request of Linux for the address of an interface, see netdevice(7)."""


@contextmanager
def probed_connections(seconds: float) -> Iterator[None]:
    """Context whose new TCP connections are lost when the other machine has not answered for some seconds.

    Systems without such probes, or without a list of open files, keep their own limits, which are hours.
    """
    before = open_sockets()
    yield
    for number, _ in open_sockets() - before:
        with suppress(OSError):  # closed meanwhile, or the system has no such option
            probe(number, seconds)


def open_sockets() -> set[tuple[int, int]]:
    """Return the descriptors and inodes of the open sockets of this process; empty where they are not listed."""
    folder = next((folder for folder in OPEN_FILES if Path(folder).is_dir()), None)
    sockets = set[tuple[int, int]]()
    for number in [int(path.name) for path in Path(folder).iterdir()] if folder else ():
        with suppress(OSError):  # the descriptor of the list itself is closed by now
            status = os.fstat(number)
            if stat.S_ISSOCK(status.st_mode):
                sockets.add((number, status.st_ino))
    return sockets


def probe(number: int, seconds: float) -> None:
    """Let the kernel probe a connection.

    Args:
        number: descriptor of a socket; one that is no TCP connection is left alone.
        seconds: without an answer, after which the connection is lost.
    """
    with socket.socket(fileno=os.dup(number)) as connection:
        if connection.type != socket.SOCK_STREAM or connection.family not in (socket.AF_INET, socket.AF_INET6):
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        options = {
            "TCP_KEEPIDLE": within(seconds / 2),  # seconds of silence before the first probe
            "TCP_KEEPINTVL": within(seconds / 2 / PROBES),
            "TCP_KEEPCNT": PROBES,
            "TCP_USER_TIMEOUT": max(1, int(min(seconds, 1e6) * 1000)),  # milliseconds until data is acknowledged
        }
        for name, value in options.items():
            if (option := getattr(socket, name, None)) is not None:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)


def within(seconds: float) -> int:
    """Return a whole number of seconds that a kernel takes."""
    return min(max(1, int(seconds)), LONGEST)


def interface_to(address: str, port: int) -> str | None:
    """Return the name of the network interface that leads to an address which other machines have or reach.

    None for an address that only this machine reaches, and where the system does not tell.

    The gloo backend takes that of the host's own name, which Debian gives to the loopback interface, so that no other
    machine could answer.
    """
    own = own_address_to(address, port)
    with suppress(OSError, ImportError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe_socket:
        import fcntl  # Windows has none

        for _, name in socket.if_nameindex() if own else ():
            with suppress(OSError):  # an interface without an address
                request = fcntl.ioctl(probe_socket.fileno(), SIOCGIFADDR, name.encode()[:15].ljust(256, b"\0"))
                if socket.inet_ntoa(request[20:24]) == own:
                    return name
    return None


def own_address_to(address: str, port: int) -> str:
    """Return this machine's address on the way to another one; empty where only this machine reaches that."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe_socket:
        probe_socket.connect((address, port))  # sends nothing
        own = str(probe_socket.getsockname()[0])
        return "" if own.startswith("127.") else own
    return ""
