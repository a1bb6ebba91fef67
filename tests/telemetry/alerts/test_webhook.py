"""Alerts posted to a server of this machine: signed, tried again, and never in anybody's way."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.alerts import Alert, Notice, Webhook, signature
from langchain_tokopt.telemetry.alerts.words import Change

SECRET = "not to be seen"
PATH = "/services/T0K3N"


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted, and answers as it is told: with a status, headers, or not before `released`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.hangs = False
        self.asked = threading.Event()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{PATH}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.posts.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        server.asked.set()
        if server.hangs:
            server.released.wait(30)
            self.close_connection = True
            return
        status, headers = server.answers.pop(0) if server.answers else (204, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def server() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.released.set()
        server.shutdown()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def made(server: Receiver, pauses: list[float]) -> Iterator[Callable[..., Webhook]]:
    hooks = []

    def make(**settings: Any) -> Webhook:
        hook = Webhook(settings.pop("url", server.url), **{"pause": pauses.append, **settings})
        hooks.append(hook)
        return hook

    yield make
    server.released.set()
    for hook in hooks:
        hook.close()


def notice(n: int = 1, change: Change = "raised") -> Notice:
    return Notice(
        change,
        Alert(
            id=f"{n:032x}",
            rule="use",
            metric="budget.use",
            subject="default: global per day",
            severity="warning",
            title="Budget use (a\u202e\x1b[31mb): 90.0%, over 80.0%",
            detail="",
            value=0.9,
            threshold=0.8,
            peak=0.9,
            since=1.0,
            raised_at=1.0,
            seen_at=1.0,
        ),
    )


def test_a_notice_is_posted_as_json(server: Receiver, made: Callable[..., Webhook]) -> None:
    hook = made()
    hook.tell(notice())
    assert hook.flush()
    ((path, headers, body),) = server.posts
    assert path == PATH
    assert headers["content-type"] == "application/json"
    assert "x-tokopt-signature" not in headers
    told = json.loads(body)
    assert told["text"] == "warning: Budget use (a\\u202e\\x1b[31mb): 90.0%, over 80.0%"
    assert told["change"] == "raised"
    assert told["alert"] == notice().alert.as_json()
    assert hook.dropped == 0


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode()])
def test_a_post_is_signed_with_the_secret(server: Receiver, made: Callable[..., Webhook], secret: Any) -> None:
    hook = made(secret=secret, clock=lambda: 1_800_000_000.9)
    hook.tell(notice())
    assert hook.flush()
    ((_, headers, body),) = server.posts
    assert headers["x-tokopt-timestamp"] == "1800000000"
    expected = hmac.new(SECRET.encode(), b"1800000000." + body, hashlib.sha256).hexdigest()
    assert headers["x-tokopt-signature"] == f"sha256={expected}" == signature(secret, "1800000000", body)


def test_what_fails_is_tried_again_after_longer_and_longer(
    server: Receiver, made: Callable[..., Webhook], pauses: list[float]
) -> None:
    hook = made()
    server.answers = [(500, {}), (503, {"Retry-After": "7"}), (429, {"Retry-After": "86400"}), (200, {})]
    hook.tell(notice())
    assert hook.flush()
    assert pauses == [1.0, 7.0, 60.0]
    assert len({headers["x-tokopt-delivery"] for _, headers, _ in server.posts}) == 1
    assert (len(server.posts), hook.dropped) == (4, 0)


def test_what_always_fails_is_given_up_and_said_without_the_address(
    server: Receiver, made: Callable[..., Webhook], pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    hook = made(secret=SECRET)
    server.answers = [(500, {"Retry-After": "soon"})] * 4
    with caplog.at_level(logging.DEBUG):
        hook.tell(notice())
        assert hook.flush()
        hook.tell(notice(2))
        assert hook.flush()
    assert pauses == [1.0, 2.0, 4.0]
    assert (len(server.posts), hook.dropped) == (5, 1)
    assert "the webhook at 127.0.0.1 did not take alert 00000000: HTTP 500" in caplog.text
    seen = caplog.text + repr(hook)
    assert all(hidden not in seen for hidden in ("T0K3N", SECRET, server.posts[0][1]["x-tokopt-signature"]))


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410])
def test_what_will_not_be_taken_is_not_tried_again(
    server: Receiver, made: Callable[..., Webhook], pauses: list[float], status: int
) -> None:
    hook = made()
    server.answers = [(status, {"Location": server.url})]
    hook.tell(notice())
    assert hook.flush()
    assert (len(server.posts), pauses, hook.dropped) == (1, [], 1), "and no redirect is followed"


def test_a_post_goes_through_the_proxy(server: Receiver, made: Callable[..., Webhook]) -> None:
    hook = made(url="http://hooks.example.com/x", allow_http=True, proxy=f"http://127.0.0.1:{server.server_port}")
    hook.tell(notice())
    assert hook.flush()
    assert [path for path, _, _ in server.posts] == ["http://hooks.example.com/x"]


def test_a_server_that_is_not_there(
    made: Callable[..., Webhook], pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    hook = made(url="http://127.0.0.1:9/services/T0K3N", tries=2)
    hook.tell(notice())
    assert hook.flush()
    assert (pauses, hook.dropped) == ([1.0], 1)
    assert "ConnectError" in caplog.text
    assert "T0K3N" not in caplog.text


def test_a_server_that_hangs_keeps_nobody_waiting(
    server: Receiver, made: Callable[..., Webhook], caplog: pytest.LogCaptureFixture
) -> None:
    server.hangs = True
    hook = made(max_queue=3, tries=1, timeout_seconds=30)
    hook.tell(notice(0))
    assert server.asked.wait(30)
    for n in range(1, 10):
        hook.tell(notice(n))  # returns while the server has not answered
    assert not hook.flush(0.01)
    assert hook.dropped == 6
    assert caplog.text.count("too many wait: the oldest was dropped") == 1
    server.hangs = False
    server.released.set()
    assert hook.flush()
    assert [json.loads(body)["alert"]["id"] for _, _, body in server.posts] == [f"{n:032x}" for n in (0, 7, 8, 9)]


def test_a_server_that_hangs_is_left_after_the_timeout(server: Receiver, made: Callable[..., Webhook]) -> None:
    server.hangs = True
    hook = made(tries=2, timeout_seconds=0.05)
    hook.tell(notice())
    assert hook.flush(30)
    assert hook.dropped == 1


def test_what_is_queued_is_sent_when_it_is_closed(server: Receiver, made: Callable[..., Webhook]) -> None:
    hook = made()
    for n in range(5):
        hook.tell(notice(n))
    hook.close()
    assert len(server.posts) == 5
    hook.tell(notice(6))
    assert (len(server.posts), hook.dropped) == (5, 1)
    hook.close()


def test_closing_does_not_wait_for_the_next_try(server: Receiver, made: Callable[..., Webhook]) -> None:
    hook = made(pause=None, tries=100)
    server.answers = [(500, {})] * 100
    hook.tell(notice())
    assert server.asked.wait(30)
    hook.close()
    assert hook.flush(30)
    assert hook.dropped == 1


def _tell_in_child(hook: Webhook) -> None:
    hook.tell(notice(2))
    hook.flush()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_tells_its_own_only(server: Receiver, made: Callable[..., Webhook]) -> None:
    server.hangs = True
    hook = made(tries=1)
    hook.tell(notice(0))
    assert server.asked.wait(30)
    hook.tell(notice(1))
    server.hangs = False
    child = multiprocessing.get_context("fork").Process(target=_tell_in_child, args=(hook,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    server.released.set()
    assert hook.flush()
    assert sorted(json.loads(body)["alert"]["id"] for _, _, body in server.posts) == [f"{n:032x}" for n in range(3)]


# --- what is given ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/x",
        "http://localhost:80/x",
        "http://127.0.0.1/x",
        "http://127.9.9.9/x",
        "http://[::1]:8080/x",
    ],
)
def test_addresses_that_may_be_used(url: str) -> None:
    hook = Webhook(url)
    assert hook.host in url
    hook.close()


def test_another_machine_may_be_told_in_the_clear_if_that_is_said() -> None:
    hook = Webhook("http://hooks.example.com/x", allow_http=True)
    assert hook.host == "hooks.example.com"
    hook.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://hooks.example.com/T0K3N", "use https, or allow_http=True"),
        ("http://localhost.example.com/T0K3N", "use https"),
        ("http://127.0.0.1.example.com/T0K3N", "use https"),
        ("http://0.0.0.0/T0K3N", "use https"),
        ("ftp://hooks.example.com/T0K3N", "give an address such as"),
        ("file:///T0K3N", "give an address such as"),
        ("hooks.example.com/T0K3N", "give an address such as"),
        ("https:///T0K3N", "give an address such as"),
        ("https://user:T0K3N@hooks.example.com/", "leave out user and password"),
        ("https://hooks.example.com/\r\nX: T0K3N", "give an address such as"),
        ("https://hooks.example.com:T0K3N/", "it is not an address"),
        ("", "give an address such as"),
        (None, "give an address such as"),
    ],
)
def test_addresses_that_may_not_be_used(url: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Webhook(url)
    assert said in str(raised.value)
    assert "T0K3N" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"secret": ""}, "secret"),
        ({"secret": 3}, "secret"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds"),
        ({"timeout_seconds": "5"}, "timeout_seconds"),
        ({"tries": 0}, "tries"),
        ({"tries": 1.5}, "tries"),
        ({"max_queue": 0}, "max_queue"),
        ({"max_queue": True}, "max_queue"),
        ({"proxy": "ftp://user:pass@proxy"}, "proxy"),
        ({"proxy": 3}, "proxy"),
    ],
)
def test_settings_that_cannot_work(settings: Any, argument: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Webhook("https://hooks.example.com/x", **settings)
    assert raised.value.argument == argument
    assert "pass" not in str(raised.value)
