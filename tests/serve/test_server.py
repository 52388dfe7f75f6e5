"""The server on a real port: what clients break does not break it, and a port in use is not the end."""

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from served import loaded, served

from nanotx.errors import ConfigError
from nanotx.serve import server
from nanotx.serve.app import Service, build_app


@contextlib.contextmanager
def running(monkeypatch, *runs) -> Iterator[int]:
    """The port of a server in a thread of this process."""
    service = Service(served(monkeypatch, *(runs or [loaded()])))
    listener = server.open_socket(0)
    made = []
    monkeypatch.setattr(server.Server, "startup", keeping(made, server.Server.startup))
    thread = threading.Thread(target=server.serve, args=(build_app(service), listener, service.close))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        made[0].should_exit = True
        thread.join(5)
        assert not thread.is_alive()


def keeping(made, startup):
    async def kept(self, sockets=None):
        made.append(self)
        await startup(self, sockets)

    return kept


def completion(port, timeout=20):
    """The status of a completion."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    body = json.dumps({"model": "a", "prompt": "to be", "max_tokens": 4})
    connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
    with contextlib.closing(connection):
        return connection.getresponse().status


HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
JUNK = (
    b"",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the beginning of TLS
    b"GET / HTTP/1.1\r\n",  # and nothing more
    b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 100_000,
    b"\0" * 1000,
    b"BREW / HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
    HEAD + b"content-length: 5\r\n\r\n{",
    HEAD + b"content-length: 9999999\r\n\r\n{",
    HEAD + b"content-length: -1\r\n\r\n{}",
    HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    HEAD + b'content-length: 44\r\n\r\n{"model": "a", "prompt": "x", "stream": true}',
    HEAD + b'content-length: 62\r\n\r\n{"model":"a","prompt":"to be","max_tokens":9  ,"stream":true }',
    b"GET /" + b"a/" * 10_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n",
)


def junk(port, number):
    """Send a request that is none, and leave in one of four ways; return the socket if it stays."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    with contextlib.suppress(OSError):
        connection.sendall(JUNK[number % len(JUNK)])
        way = random.Random(number).randrange(4)
        if way == 0:
            connection.shutdown(socket.SHUT_WR)  # half closed
        elif way == 1:
            connection.settimeout(0.05)
            connection.recv(100)
        elif way == 2:
            connection.close()
    return connection


def test_junk_and_twenty_connections_leave_it_serving(monkeypatch):
    with running(monkeypatch) as port:
        statuses = []
        clients = [threading.Thread(target=lambda: statuses.append(completion(port))) for _ in range(20)]
        left = [junk(port, number) for number in range(100)]
        for client in clients:
            client.start()
        left += [junk(port, number) for number in range(100, 200)]
        for client in clients:
            client.join()
        assert set(statuses) <= {200, 429} and 200 in statuses, statuses
        assert completion(port) == 200
        for connection in left:
            connection.close()
        assert completion(port) == 200


def test_client_that_sends_no_request_is_closed(monkeypatch):
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.2)
    with running(monkeypatch) as port:
        silent = socket.create_connection(("127.0.0.1", port), timeout=5)
        slow = socket.create_connection(("127.0.0.1", port), timeout=5)
        slow.sendall(b"GET / HTTP/1.1\r\n")
        began = time.monotonic()
        assert silent.recv(10) == b"" and slow.recv(10) == b""
        assert time.monotonic() - began < 3
        dripping = socket.create_connection(("127.0.0.1", port), timeout=5)
        with contextlib.suppress(OSError):
            for _ in range(100):  # a byte at a time does not start the clock anew
                dripping.sendall(b"a")
                time.sleep(0.01)
            assert dripping.recv(10) == b""
        assert completion(port) == 200


def test_port_in_use_gives_the_next_one(monkeypatch):
    first = server.open_socket(0)
    port = first.getsockname()[1]
    with contextlib.closing(first), contextlib.closing(server.open_socket(port)) as second:
        assert second.getsockname()[0] == "127.0.0.1"
        assert port < second.getsockname()[1] < port + server.TRIED
        monkeypatch.setattr(server, "TRIED", 1)
        with pytest.raises(ConfigError, match=f"--port {port}: in use.*--port 0"):
            server.open_socket(port)
