"""The page as a file: whole in itself, and closed to what is in its data."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files

import pytest

from langchain_tokopt.telemetry.dashboard import dashboard_data, page
from langchain_tokopt.telemetry.dashboard.page import _SCRIPTS, json_block
from tests.telemetry.dashboard.happenings import HOSTILE, NOW, alert, day, hostile, report, store_of

STATIC = files("langchain_tokopt.telemetry.dashboard") / "static"


@pytest.fixture(scope="module")
def html() -> str:
    events = [*day(), *(event for n, text in enumerate(HOSTILE) for event in hostile(text, n))]
    data = dashboard_data(store_of(events), now=NOW, alerts=[alert(text) for text in HOSTILE], report=report(*HOSTILE))
    return page(data)


def test_data_cannot_end_its_block(html: str) -> None:
    block = html.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(block)
    assert "owned" in block
    assert json.loads(block)["findings"][0] == HOSTILE[0]


def test_there_are_three_scripts_and_one_style(html: str) -> None:
    assert [html.count(tag) for tag in ("<script", "</script", "<style", "</style")] == [2, 2, 1, 1]


def test_the_policy_allows_just_this_script_and_this_style(html: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    for tag in ("script", "style"):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert text is not None
        digest = base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy[1]
    assert policy[1].startswith("default-src 'none'; ")
    assert "connect-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]


def test_nothing_is_fetched_from_anywhere(html: str) -> None:
    shell = html.partition('<script type="application/json"')[0] + html.rpartition("</script>")[2]
    assert re.findall(r'(?:src|href)="(?!#|data:)', shell) == []
    assert re.findall(r"@import|url\(", shell) == []


def test_a_served_page_may_ask_its_server_and_nobody_else() -> None:
    html = page(dashboard_data(store_of([]), now=NOW), refresh="data.json", tag='"1"')
    assert "connect-src 'self';" in html
    assert json.loads(html.partition('id="data">')[2].partition("</script>")[0])["refresh"] == "data.json"


def test_json_of_any_text_is_the_same_text_again() -> None:
    for text in HOSTILE[:-1]:
        assert json.loads(json_block({text: [text]})) == {text: [text]}


@pytest.mark.parametrize("name", _SCRIPTS)
def test_no_script_of_ours_makes_markup(name: str) -> None:
    script = (STATIC / name).read_text()
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script) == []


def test_the_chart_library_is_the_one_that_is_named() -> None:
    origin = (STATIC / "uplot" / "ORIGIN.md").read_text()
    listed = re.findall(r"\| `(\S+)` \| `([0-9a-f]{64})` \|", origin)
    assert len(listed) == 3
    for name, digest in listed:
        assert hashlib.sha256((STATIC / "uplot" / name).read_bytes()).hexdigest() == digest
    assert "MIT License" in page(dashboard_data(store_of([]), now=NOW))
