"""Redis for tests: a prefix of one's own on the server that is given, servers of one's own, and wires that break."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from langchain_tokopt.budget.ledgers.redis_ledger import RedisLedger
from tests.databases import redis_url


@contextmanager
def own_prefix() -> Iterator[str]:
    """A prefix that nobody else uses; whatever has it in its name is removed afterwards."""
    url = redis_url()
    import redis

    prefix = f"tokopt-test-{uuid.uuid4().hex}"
    try:
        yield prefix
    finally:
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(match=f"*{prefix}*", count=1000):
                client.unlink(key)


@contextmanager
def redis_ledgers(prefix: str) -> Iterator[Callable[..., RedisLedger]]:
    """Opens ledgers on the server that is given, all with the prefix; they are closed afterwards."""
    opened: list[RedisLedger] = []

    def connect(budget: str = "default") -> RedisLedger:
        ledger = RedisLedger(redis_url(), budget=budget, prefix=prefix)
        opened.append(ledger)
        return ledger

    try:
        yield connect
    finally:
        for ledger in opened:
            ledger.close()


@contextmanager
def own_server(folder: Path, *options: str, port: int | None = None) -> Iterator[int]:
    """The port of a server that was started with the options, on any port unless one is asked for.

    Skips the test where there is no `redis-server`.
    """
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("this test starts a server of its own: install redis-server")
    port = port or free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield port
    finally:
        server.kill()
        server.wait()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(1000):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"PING\r\n")
            # Any answer will do, also that a password is wanted; but not that it is still loading.
            if not connection.recv(100).startswith(b"-LOADING"):
                return
        time.sleep(0.02)
    pytest.fail(f"the server on port {port} does not answer")


class Wire:
    """A wire to the server that is given: `url` leads through it. It can lose answers, and carry none at all.

    Attributes:
        lost: How many of the next answers are lost, and the connection with each.
        silent: Whether nothing is answered any more.
    """

    def __init__(self) -> None:
        place = urlsplit(redis_url())
        self._server = (place.hostname or "127.0.0.1", place.port or 6379)
        self._listener = socket.create_server(("127.0.0.1", 0))
        credentials, at, _ = place.netloc.rpartition("@")
        self.url = f"redis://{credentials}{at}127.0.0.1:{self._listener.getsockname()[1]}{place.path}"
        self.lost = 0
        self.silent = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here = self._listener.accept()[0]
                there = socket.create_connection(self._server)
                threading.Thread(target=self._ask, args=(here, there), daemon=True).start()
                threading.Thread(target=self._answer, args=(here, there), daemon=True).start()

    def _ask(self, here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while asked := here.recv(65536):
                there.sendall(asked)
        with suppress(OSError):
            there.shutdown(socket.SHUT_RDWR)

    def _answer(self, here: socket.socket, there: socket.socket) -> None:
        with here, there, suppress(OSError):
            while answer := there.recv(65536):
                if self.lost > 0:
                    self.lost -= 1
                    here.shutdown(socket.SHUT_RDWR)
                    return
                if not self.silent:
                    here.sendall(answer)

    def close(self) -> None:
        self._listener.close()
