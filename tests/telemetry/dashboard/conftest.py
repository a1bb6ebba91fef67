"""One browser for all tests of a process, and pages in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.telemetry.dashboard import page
from tests.browser import Browser, Page

Show = Callable[..., Page]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Skips the test, with the reason, where there is no Chromium."""
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def blank(browser: Browser) -> Iterator[Page]:
    with browser.page() as page:
        yield page


@pytest.fixture
def show(blank: Page, tmp_path: Path) -> Show:
    """Opens data as a file, in a page that has asked for nothing else and has nothing to complain of."""

    def show(data: dict[str, Any]) -> Page:
        file = tmp_path / "dashboard.html"
        file.write_text(page(data), encoding="utf-8")
        blank.open(file.as_uri())
        assert blank.problems() == []
        assert blank.requested() == [file.as_uri()]
        return blank

    return show
