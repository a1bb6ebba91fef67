"""Serves the page to one machine, and newer data as events arrive."""

from __future__ import annotations

import contextlib
import errno
import hmac
import ipaddress
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Final

from typing_extensions import Self

from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.telemetry.dashboard.latest import Latest
from langchain_tokopt.telemetry.dashboard.page import page, page_policy

log = logging.getLogger("langchain_tokopt")

_DATA: Final = "data.json"
_IDLE: Final = 10.0  # seconds that a connection may say nothing
_TOKEN_BYTES: Final = 24
_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Server:
    """The dashboard at a URL that nobody can guess, until it is closed.

    Only programs of this machine reach it, and only with the token that is part of the URL. A request that names
    another host is refused, so that no web page can get at it by a name that it makes point here (DNS rebinding).

    Args:
        data: What the page shows: `dashboard_data` of now. It is asked from other threads, one at a time.
        version: Something that changes when `data` would; without it `data` is asked every few seconds.
        host: Where to listen.
        port: The port; 0 for any that is free.
        anyone: Listen where other machines reach it, too. They need the URL, but what is sent is not encrypted.
        names: Host names by which it may be asked for beside "localhost" and any address.

    Raises:
        ConfigurationError: The port is in use, or `host` is one that other machines reach and `anyone` is not set.
    """

    def __init__(
        self,
        data: Callable[[], Mapping[str, Any]],
        *,
        version: Callable[[], object] | None = None,
        host: str = "127.0.0.1",
        port: int = 8765,
        anyone: bool = False,
        names: Collection[str] = (),
    ) -> None:
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            raise ConfigurationError("port", port, "give a port from 1 to 65535, or 0 for any that is free")
        if not isinstance(host, str) or not (anyone or _is_loopback(host)):
            remedy = 'other machines would reach it: use "127.0.0.1", or allow that (`anyone=True`)'
            raise ConfigurationError("host", host, remedy)
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._latest = Latest(data, version=version)
        self._http = _listen(host, port)
        self._http.answer = self._answer
        self._http.names = frozenset(name.lower() for name in (*names, "localhost"))
        self._host = host
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="tokopt-dashboard")
        self._thread.daemon = True
        self._thread.start()
        # Whoever opens the page need not wait until everything is read.
        self._ahead = threading.Thread(target=self._read_ahead, name="tokopt-dashboard-data", daemon=True)
        self._ahead.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """What to open; keep it to yourself."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self._host, self._host)  # noqa: S104 - to show
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port}/{self.token}/"

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is closed, at most so long; whether it is."""
        return self._closed.wait(seconds)

    def close(self) -> None:
        """Stop listening, end what is under way, and wait for that."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._http.hang_up()
        self._ahead.join(_IDLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_ahead(self) -> None:
        with contextlib.suppress(Exception):  # it fails again for whoever asks, and tells
            self._latest.get()

    def _answer(self, path: str, tag: str | None) -> _Answer:
        """What to answer a GET with."""
        _, token, what = [*path.partition("?")[0].split("/", 2), "/", "/"][:3]
        if not hmac.compare_digest(token.encode(), self.token.encode()) or what not in ("", _DATA):
            return _Answer.said(HTTPStatus.NOT_FOUND, "There is nothing here. Open the whole URL, with its token.")
        try:
            latest = self._latest.get()
        except StoreError as error:
            return _Answer.said(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except Exception as error:
            log.warning("The dashboard cannot read its data.", exc_info=True)
            return _Answer.said(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")
        if what == _DATA:
            if tag == latest.tag:
                return _Answer(HTTPStatus.NOT_MODIFIED, b"", {"ETag": latest.tag})
            return _Answer(HTTPStatus.OK, latest.body, {"Content-Type": "application/json", "ETag": latest.tag})
        policy = f"{page_policy(refresh=True)}; frame-ancestors 'none'"
        shown = page(latest.data, refresh=_DATA, tag=latest.tag).encode()
        return _Answer(
            HTTPStatus.OK, shown, {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}
        )


class _Answer:
    def __init__(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str]) -> None:
        self.status, self.body, self.headers = status, body, headers

    @classmethod
    def said(cls, status: HTTPStatus, text: str, **headers: str) -> _Answer:
        """Plain text: whatever is in it, no browser reads it as anything else."""
        headers["Content-Type"] = "text/plain; charset=utf-8"
        return cls(status, f"{text}\n".encode("utf-8", "replace"), headers)


class _Http(ThreadingHTTPServer):
    """Answers each connection in a thread of its own, and can hang up on all of them."""

    daemon_threads = True
    # Elsewhere this only lets a port be used again at once; on Windows it would let two programs have the same one.
    allow_reuse_address = os.name != "nt"
    answer: Callable[[str, str | None], _Answer]
    names: frozenset[str]

    def __init__(self, address: tuple[str, int], family: socket.AddressFamily) -> None:
        self.address_family = family
        self._open: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's own: that asks a name server what this machine is called.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = threading.current_thread()
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._open[request]

    def hang_up(self) -> None:
        """End the connections that are open, and wait for their threads."""
        with self._lock:
            left = list(self._open.items())
        for connection, thread in left:
            with contextlib.suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(_IDLE)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("A connection to the dashboard broke off: %r", sys.exc_info()[1])


class _Handler(BaseHTTPRequestHandler):
    timeout = _IDLE
    server: _Http

    def parse_request(self) -> bool:
        """Whether this is a GET that names a host by which this machine may be asked for."""
        if not super().parse_request():
            return False
        if self.command != "GET":
            self._send(_Answer.said(HTTPStatus.METHOD_NOT_ALLOWED, "This can only be read.", Allow="GET"))
            return False
        given = self.headers.get_all("Host") or []
        if len(given) != 1 or not _is_ours(given[0], self.server.names):
            self._send(_Answer.said(HTTPStatus.MISDIRECTED_REQUEST, "Ask for this by its address or as localhost."))
            return False
        return True

    def do_GET(self) -> None:
        self._send(self.server.answer(self.path, self.headers.get("If-None-Match")))

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        for name, value in {**_HEADERS, **answer.headers}.items():
            self.send_header(name, value)
        if answer.status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def version_string(self) -> str:
        return "tokopt"

    def log_message(self, *_: Any) -> None:
        """Nothing: the token is part of what would be logged."""


def _listen(host: str, port: int) -> _Http:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return _Http((host, port), family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError("port", port, "another program uses it: give another, or 0") from error
        if error.errno == errno.EACCES:
            raise ConfigurationError("port", port, "this user may not listen there: give one above 1023") from error
        raise ConfigurationError("host", host, f"one cannot listen there ({error}): give an address of here") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_ours(given: str, names: frozenset[str]) -> bool:
    """Whether a Host header has one of the names, or an address: no name server has a say in that. Any port will do,
    since a tunnel may have another."""
    host = given.strip().lower()
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if host.rstrip(".") in names:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
