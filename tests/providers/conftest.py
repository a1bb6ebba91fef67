"""The provider server for every test here, and clients that talk to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.providers.server import ProviderServer


@pytest.fixture(autouse=True)
def no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves the machine: no tracing, no proxy in front of loopback, no settings from the developer's shell."""
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2", "OPENAI_PROXY", "OPENAI_API_BASE", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def provider() -> Iterator[ProviderServer]:
    """A running server. Any refusal that is left in its `records`, or a policy that raises, fails the test."""
    with ProviderServer() as server:
        yield server
    assert server.rejected == []
    assert server.broken == []
