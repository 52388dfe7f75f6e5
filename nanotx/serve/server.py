"""Start the server: a free port of 127.0.0.1, time limits for slow clients, and an end at once on Ctrl-C."""

import asyncio
import errno
import socket
import sys
from collections.abc import Callable
from types import FrameType

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from nanotx.errors import ConfigError, RunError

ADDRESS = "127.0.0.1"

TRIED = 20
"""Ports that are tried, one after the other."""

HEADER_SECONDS = 10.0
"""Longest time that the head of a request may take to arrive."""

MOST_CONNECTIONS = 200
"""Most open connections; a further one is answered with 503."""

LONGEST_HEAD = 1 << 15
"""Most bytes of the head of a request."""


def open_socket(port: int) -> socket.socket:
    """Return a socket that listens on a port of 127.0.0.1, or on the next free one; 0 is any free one.

    Raises:
        ConfigError: none of the ports that were tried is free.
        RunError: the system allows no socket.
    """
    last = min(port + TRIED - 1, 65535) if port else 0
    for number in range(port, last + 1):
        try:
            return bound(number)
        except OSError as error:
            if port and error.errno not in IN_USE:
                raise RunError(f"--port {number}: cannot be used: {error.strerror}; try --port 0.") from None
    raise ConfigError(f"--port {port}: in use, and so are all up to {last}; try --port 0 for any free one.")


IN_USE = {errno.EADDRINUSE, errno.EACCES}
"""Errors after which the next port is tried; the second is what Windows says of some ports that are in use."""


def bound(port: int) -> socket.socket:
    """Return a socket that is bound to a port and listens."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there, it would share a port that another program listens on
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS, port))
        listener.listen(MOST_CONNECTIONS)
    except OSError:
        listener.close()
        raise
    return listener


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose next request does not arrive in time."""

    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()

    def _await_head(self) -> None:
        """Start the clock where the head of a request is awaited; stop it where none is."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._stop_waiting()
        elif self.deadline is None:
            self.deadline = self.loop.call_later(HEADER_SECONDS, self._close)

    def _stop_waiting(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def _close(self) -> None:
        self.deadline = None
        if not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """A server that calls a function when it is asked to end, before it waits for its connections."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self.on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.force_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.on_exit()
        await super().shutdown(sockets)


def serve(app: ASGIApp, listener: socket.socket, on_exit: Callable[[], None]) -> None:
    """Serve an application until a signal ends it; uvicorn then raises the signal again.

    Args:
        app: the application.
        listener: the socket.
        on_exit: is called before the connections are closed.
    """
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        loop="asyncio",  # its transports are asyncio's, whatever other loop is installed
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=LONGEST_HEAD,
        timeout_graceful_shutdown=1,
    )
    Server(config, on_exit).run(sockets=[listener])
