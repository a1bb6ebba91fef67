"""The provider server for every test here, and clients that talk to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from langchain_tokopt.tools import additions
from tests.providers.server import ProviderServer


@pytest.fixture(autouse=True)
def no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves the machine: no tracing, no proxy in front of loopback, no settings from the developer's shell."""
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2", "OPENAI_PROXY", "OPENAI_API_BASE", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session")
def running() -> Iterator[ProviderServer]:
    """The one server of this process; renew it before you use it."""
    with ProviderServer() as server:
        yield server


@pytest.fixture
def provider(running: ProviderServer) -> Iterator[ProviderServer]:
    """A server as new. Any refusal that is left in its `records`, or a policy that raises, fails the test."""
    yield running.renewed()
    assert running.rejected == []
    assert running.broken == []


@pytest.fixture
def own_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server counts as the provider itself."""
    monkeypatch.setattr(additions, "_OWN_HOSTS", {"anthropic": "127.0.0.1", "openai": "127.0.0.1"})
