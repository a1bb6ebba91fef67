"""The page: one HTML file that brings everything with it and asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

# In this order: each uses what stands before it.
_SCRIPTS: Final = (
    "words.js",
    "dom.js",
    "charts.js",
    "overview.js",
    "timeline.js",
    "tables.js",
    "budgets.js",
    "requests.js",
    "request.js",
    "live.js",
    "main.js",
)
_ESCAPES: Final = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def page(data: Mapping[str, Any], *, refresh: str | None = None, tag: str | None = None) -> str:
    """The HTML page that shows `data` (see `dashboard_data`).

    It needs no server and no network, and its content security policy allows it none. `refresh` is a path of the same
    server from which it may get newer data, `tag` the entity tag of what it has.
    """
    parts = {
        "policy": page_policy(refresh=refresh is not None),
        "style": _style(),
        "data": json_block({**data, "refresh": refresh, "tag": tag}),
        "script": _script(),
        "licence": _static("uplot/LICENSE").strip(),
    }
    head, *rest = _static("page.html").split("{{")
    return head + "".join(parts[name] + text for name, _, text in (each.partition("}}") for each in rest))


def json_block(data: Any) -> str:
    """Data as JSON that no HTML around it can be broken with: `<`, `>` and `&` are spelled out."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def page_policy(*, refresh: bool) -> str:
    """What the page may do: run its own script, use its own style sheet, ask its own server if told to."""
    connect = "'self'" if refresh else "'none'"
    return (
        f"default-src 'none'; script-src '{_hash(_script())}'; style-src '{_hash(_style())}'; img-src data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _static(name: str) -> str:
    return (files("langchain_tokopt.telemetry.dashboard") / "static" / name).read_text(encoding="utf-8")


@cache
def _style() -> str:
    return f"\n{_static('uplot/uPlot.min.css')}\n{_static('style.css')}"


@cache
def _script() -> str:
    """One script: the chart library, then ours in a function of its own."""
    ours = "\n".join(_static(name) for name in _SCRIPTS)
    return f'\n{_static("uplot/uPlot.iife.min.js")}\n(() => {{\n"use strict";\n{ours}\n}})();\n'
