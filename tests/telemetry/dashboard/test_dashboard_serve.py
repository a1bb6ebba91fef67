"""Who is answered, and with what."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.telemetry.dashboard import Server, arrivals, dashboard_data
from langchain_tokopt.telemetry.dashboard.latest import Latest
from langchain_tokopt.telemetry.store import EventStore
from tests.telemetry.dashboard.happenings import ANN, NOW, call, day, store_of


@pytest.fixture
def store() -> EventStore:
    return store_of(day())


@pytest.fixture
def server(store: EventStore) -> Iterator[Server]:
    with Server(lambda: dashboard_data(store, now=NOW), version=lambda: arrivals(store), port=0) as server:
        yield server


class Reply:
    def __init__(self, port: int, path: str, *, method: str = "GET", **headers: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        self.status, self.headers, self.body = response.status, response.headers, response.read()
        connection.close()


def ask(server: Server, path: str = "", **given: Any) -> Reply:
    return Reply(server.port, f"/{server.token}/{path}", **given)


def test_the_page_and_its_data(server: Server) -> None:
    assert server.url == f"http://127.0.0.1:{server.port}/{server.token}/"
    shown = ask(server)
    assert (shown.status, shown.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"<title>Token costs - tokopt</title>" in shown.body
    data = ask(server, "data.json")
    assert data.headers["Content-Type"] == "application/json"
    assert json.loads(data.body)["windows"][-1]["totals"]["calls"]["requests"] == 4


def test_every_answer_says_that_nobody_else_may_use_it(server: Server) -> None:
    for reply in (ask(server), ask(server, "data.json"), Reply(server.port, "/"), ask(server, method="POST")):
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert reply.headers["Cache-Control"] == "no-store"
        assert [name for name in reply.headers if name.lower().startswith("access-control")] == []
        assert reply.headers["Server"] == "tokopt"
    policy = ask(server).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/data.json",
        "/favicon.ico",
        "/x/",
        "/{token}",
        "/{token}x/",
        "/{token}/other",
        "/{token}/../",
        "x",
        "*",
        "http://localhost/{token}/",
    ],
)
def test_without_the_whole_url_there_is_nothing(server: Server, path: str) -> None:
    reply = Reply(server.port, path.format(token=server.token))
    assert reply.status == 404
    assert server.token.encode() not in reply.body


def test_a_token_that_is_no_text_is_none(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /\xff\xfe/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 404 " in connection.recv(100)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
def test_it_can_only_be_read(server: Server, method: str) -> None:
    reply = ask(server, method=method)
    assert (reply.status, reply.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[evil]"])
def test_another_host_is_not_ours(server: Server, host: str) -> None:
    assert ask(server, Host=host).status == 421


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9000", "localhost.", "127.0.0.1:1", "[::1]:80", "192.168.1.7"]
)
def test_addresses_and_localhost_are_ours(server: Server, host: str) -> None:
    assert ask(server, Host=host).status == 200


def test_further_names_are_those_that_are_given(store: EventStore) -> None:
    with Server(lambda: dashboard_data(store, now=NOW), port=0, names=["Build.example"]) as server:
        assert ask(server, Host="build.example:80").status == 200
        assert ask(server, Host="other.example").status == 421


def test_what_has_not_changed_is_not_sent_again(server: Server, store: EventStore) -> None:
    first = ask(server, "data.json")
    again = ask(server, "data.json", If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert f'"tag":"\\"{first.headers["ETag"][1:-1]}\\""'.encode() in ask(server).body
    assert ask(server, "data.json", If_None_Match='"other"').status == 200


def test_a_new_event_gives_new_data() -> None:
    store, now = store_of(day()), [0.0]
    latest = Latest(lambda: dashboard_data(store, now=NOW), version=lambda: arrivals(store), clock=lambda: now[0])
    first = latest.get()
    assert latest.get() is first
    store.write([call(NOW - 1, ANN, 10, "0.5", request="new")])
    second = latest.get()
    assert second.tag != first.tag
    assert second.data["requests"]["rows"][0]["id"] == "new"


def test_nobody_waits_for_newer_data_where_there_is_some() -> None:
    now, reading, go_on = [0.0], threading.Event(), threading.Event()

    def data() -> dict[str, Any]:
        if now[0]:
            reading.set()
            assert go_on.wait(30)
        return {"at": now[0]}

    latest = Latest(data, clock=lambda: now[0])
    assert latest.get().data == {"at": 0.0}
    now[0] = 10.0
    other = threading.Thread(target=latest.get)
    other.start()
    assert reading.wait(30)
    assert latest.get().data == {"at": 0.0}
    go_on.set()
    other.join()
    assert latest.get().data == {"at": 10.0}


def test_data_is_left_alone_for_a_while_after_it_took_long_to_read() -> None:
    now, read = [0.0], list[float]()

    def slow() -> dict[str, Any]:
        read.append(now[0])
        now[0] += 2
        return {"read": len(read)}

    latest = Latest(slow, clock=lambda: now[0])
    assert latest.get().data == {"read": 1}
    now[0] = 9.9
    assert latest.get().data == {"read": 1}
    now[0] = 10.0
    assert latest.get().data == {"read": 2}


def test_data_is_read_again_after_a_minute_even_if_nothing_happened() -> None:
    now, read = [0.0], list[int]()
    latest = Latest(lambda: {"read": read.append(1) or len(read)}, version=lambda: 1, clock=lambda: now[0])
    assert latest.get().data == {"read": 1}
    now[0] = 59.0
    assert latest.get().data == {"read": 1}
    now[0] = 60.0
    assert latest.get().data == {"read": 2}


def test_a_database_that_fails_is_said_and_tried_again() -> None:
    broken = [True]

    def data() -> dict[str, Any]:
        if broken[0]:
            raise StoreError("the database is <locked>")
        return dashboard_data(store_of([]), now=NOW)

    with Server(data, port=0) as server:
        reply = ask(server)
        assert (reply.status, reply.body) == (503, b"the database is <locked>\n")
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
        broken[0] = False
        assert ask(server).status == 200


def test_a_mistake_in_reading_is_an_answer_too(caplog: pytest.LogCaptureFixture) -> None:
    with Server(lambda: {}["windows"], port=0) as server:
        assert ask(server, "data.json").status == 500
    assert "cannot read its data" in caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.com"])
def test_other_machines_are_let_in_only_if_told_so(host: str) -> None:
    with pytest.raises(ConfigurationError, match="anyone=True"):
        Server(dict, host=host, port=0)


def test_a_port_that_is_in_use_is_a_clear_error(server: Server) -> None:
    with pytest.raises(ConfigurationError, match="another program uses it"):
        Server(dict, port=server.port)


@pytest.mark.parametrize("port", [-1, 65536, True, "80", None])
def test_a_port_that_is_none_is_refused(port: Any) -> None:
    with pytest.raises(ConfigurationError, match="port"):
        Server(dict, port=port)


def test_an_address_of_another_machine_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="one cannot listen there"):
        Server(dict, host="192.0.2.1", port=0, anyone=True)


def test_closing_frees_the_port_and_ends_every_thread(store: EventStore) -> None:
    before = set(threading.enumerate())
    server = Server(lambda: dashboard_data(store, now=NOW), port=0)
    port = server.port
    assert not server.wait(0)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as idle:  # a browser keeps one ready
        idle.sendall(b"GET ")
        assert ask(server).status == 200
        server.close()
        server.close()
    assert server.wait(0)
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    Server(dict, port=port).close()
