"""A plain HTTP client for the rule tests: no provider's client between the test and the rule."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any

from tests.providers.server import ProviderServer

OPENAI_HEADERS = {"authorization": "Bearer test"}
ANTHROPIC_HEADERS = {"x-api-key": "test", "anthropic-version": "2023-06-01"}


def post(
    server: ProviderServer, path: str, body: Any, headers: Mapping[str, str]
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    """Status, JSON body and headers of the answer. `body`: JSON value, or text that is sent as it is."""
    status, raw, answered = post_raw(server, path, body, headers)
    return status, json.loads(raw), answered


def post_raw(
    server: ProviderServer, path: str, body: Any, headers: Mapping[str, str]
) -> tuple[int, bytes, Mapping[str, str]]:
    connection = HTTPConnection("127.0.0.1", int(server.root.rpartition(":")[2]), timeout=10)
    try:
        data = body if isinstance(body, str) else json.dumps(body)
        connection.request("POST", path, data.encode(), {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def openai(
    server: ProviderServer, body: Any, headers: Mapping[str, str] = OPENAI_HEADERS
) -> tuple[int, dict[str, Any]]:
    return post(server, "/v1/chat/completions", body, headers)[:2]


def responses(
    server: ProviderServer, body: Any, headers: Mapping[str, str] = OPENAI_HEADERS
) -> tuple[int, dict[str, Any]]:
    return post(server, "/v1/responses", body, headers)[:2]


def anthropic(
    server: ProviderServer, body: Any, headers: Mapping[str, str] = ANTHROPIC_HEADERS
) -> tuple[int, dict[str, Any]]:
    return post(server, "/v1/messages", body, headers)[:2]
