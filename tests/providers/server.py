"""A local server that answers as OpenAI and Anthropic do, and refuses what they refuse.

It listens on loopback only and uses nothing but the standard library. A test gives it a script (a list of answers) or
a policy (a function of the request); it records every request, counts tokens by a documented rule (`billing.py`), and
simulates the providers' prompt caches. Requests are checked first: an invalid one gets the provider's own status code
and error, and uses up no step of the script.
"""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from typing_extensions import Self

from tests.providers.apis import Api, ChatCompletions, Messages, Responses, Sent
from tests.providers.billing import Bill
from tests.providers.replies import Answer, Asked, Failure, Provider, Reply, Step
from tests.providers.rules import RejectedError

GATE_SECONDS = 20.0
PATHS: dict[str, Provider] = {
    ChatCompletions.path: "openai",
    Responses.path: "responses",
    Messages.path: "anthropic",
}


@dataclass
class Record:
    """One request and what became of it.

    `read` is the request as the model read it: `body`, and what the provider kept of earlier turns. `bill` is `None`
    unless the provider charged for it.
    """

    provider: Provider
    raw: bytes
    headers: Mapping[str, str]
    body: dict[str, Any] = field(default_factory=dict)
    read: Mapping[str, Any] = field(default_factory=dict)
    status: int = 0
    bill: Bill | None = None
    error: str | None = None
    complete: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def wait_ended(self) -> bool:
        """Whether the server is done with it: everything is sent, or the client went away."""
        return self.ended.wait(GATE_SECONDS)

    @property
    def asked(self) -> Asked:
        return Asked(self.provider, self.read)


class ProviderServer:
    """Both providers, with all their APIs, on one ephemeral port. Use as a context manager.

    Args:
        script: Answers in the order in which they are given; a function gets the request. At its end the server
            answers 500 and says so.
        policy: A function of the request that gives every answer; instead of `script`.
        context_window: Largest prompt in tokens; `None` takes any.
        clock: Time for the prompt caches, in seconds.
        count: Tokens of a request, where they are not counted by the rule of `billing.py`.
    """

    def __init__(
        self,
        script: Iterable[Step] = (),
        *,
        policy: Callable[[Asked], Answer] | None = None,
        context_window: int | None = None,
        clock: Callable[[], float] = time.time,
        count: Callable[[Asked], int] | None = None,
    ) -> None:
        self.script: list[Step] = list(script)
        self.policy = policy
        self.context_window = context_window
        self.records: list[Record] = []
        self._clock = clock
        self._count = count
        self._apis = _new_apis(clock)
        self._lock = threading.Lock()
        self._http = _Listener(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.005,), daemon=True)

    # --- what a test reads ---

    @property
    def root(self) -> str:
        """The base URL for Anthropic's client."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's client."""
        return f"{self.root}/v1"

    @property
    def answered(self) -> list[Record]:
        """Requests that a model answered."""
        return [record for record in self.records if record.bill is not None]

    @property
    def rejected(self) -> list[str]:
        """Errors of requests that were invalid."""
        return [record.error or "" for record in self.records if record.status in range(400, 429) and record.error]

    @property
    def broken(self) -> list[str]:
        """Errors of the test's own policy or script."""
        return [record.error for record in self.records if record.status == 500 and record.error]

    @property
    def billed(self) -> Bill:
        """Everything that was charged."""
        return sum((record.bill for record in self.answered if record.bill), Bill())

    # --- life ---

    def renewed(
        self,
        policy: Callable[[Asked], Answer] | None = None,
        *,
        script: Iterable[Step] = (),
        context_window: int | None = None,
    ) -> Self:
        """As if it were new, at the same address: nothing is on record, cached or kept.

        The clients of a server at another address would have to be made anew, which takes longer than a test does.
        """
        for record in self.records:
            record.wait_ended()
        self.script, self.policy, self.context_window = list(script), policy, context_window
        self.records = []
        self._apis = _new_apis(self._clock)
        return self

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    # --- one request ---

    def answer(self, record: Record, request: _Request) -> None:
        """Check a request, take the next answer, and send it."""
        api = self._apis[record.provider]
        try:
            record.body = _parsed(record.raw, api)
            record.read = api.check(record.body, record.headers)
            bill = api.read(record.read)
            if self._count is not None:
                bill = bill.counted(self._count(record.asked))
            if self.context_window is not None and bill.input > self.context_window:
                raise api.too_long(bill.input, self.context_window)
        except RejectedError as rejected:
            record.status, record.error = rejected.status, str(rejected)
            request.send_json(rejected.status, rejected.body)
            record.complete = True
            return
        answer = self._next(record)
        if isinstance(answer, Failure):
            record.status = answer.status
            request.send_json(answer.status, api.error(answer), retry_after=answer.retry_after)
            record.complete = True
            return
        reply = Reply(text=answer) if isinstance(answer, str) else answer
        sent = api.answer(record.read, reply, bill, created=int(time.time()))
        record.status, record.bill = 200, sent.bill
        if record.body.get("stream"):
            request.send_events(_gated(sent))
        else:
            request.send_json(200, sent.whole)
        record.complete = True

    def _next(self, record: Record) -> Answer:
        with self._lock:
            ended = Failure(status=500, message="the test's script is at its end")
            step: Step = self.policy or (self.script.pop(0) if self.script else ended)
        try:
            return step(record.asked) if callable(step) else step
        except Exception as error:  # an assertion in a test's policy: the test is told, not only this thread
            record.error = f"the test's policy raised {error!r}"
            return Failure(status=500, message=record.error)


def _new_apis(clock: Callable[[], float]) -> dict[Provider, Api]:
    ids = itertools.count(1)
    return {
        "openai": ChatCompletions(clock, ids),
        "responses": Responses(clock, ids),
        "anthropic": Messages(clock, ids),
    }


def _parsed(raw: bytes, api: Api) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise api.unreadable()
    return body


def _gated(answer: Sent) -> Iterator[bytes]:
    sent, reply = 0, answer.reply
    for content, event in answer.events:
        if content:
            if reply.break_after is not None and sent == reply.break_after:
                yield answer.broken
                return
            if reply.gate is not None and sent == reply.pieces_before_gate:
                reply.gate.wait(GATE_SECONDS)
            sent += 1
        yield event


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def __init__(self, provider: ProviderServer) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.provider = provider

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the server's."""


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def setup(self) -> None:
        super().setup()
        # Nagle's algorithm with delayed acknowledgements would hold small events back for 40 ms each.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        provider = PATHS.get(self.path.partition("?")[0])
        if provider is None:
            self.send_json(404, {"error": {"message": f"Invalid URL (POST {self.path})"}})
            return
        record = Record(provider, raw, {name.lower(): value for name, value in self.headers.items()})
        self.server.provider.records.append(record)
        try:
            self.server.provider.answer(record, self)
        finally:
            record.ended.set()

    def send_json(self, status: int, body: Mapping[str, Any], *, retry_after: str | None = None) -> None:
        data = json.dumps(body).encode()
        self._head(status, "application/json")
        if retry_after is not None:
            self.send_header("retry-after", retry_after)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_events(self, events: Iterable[bytes]) -> None:
        self._head(200, "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("request-id", "req_test")
        # One connection a request: a client that keeps connections cannot leak one into the next test.
        self.send_header("connection", "close")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Tests read `records` instead."""
