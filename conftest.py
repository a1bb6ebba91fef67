"""Runs the Python examples of README.md and docs/, each page from top to bottom in a namespace and a folder of its own.

The examples are written for a live model; here a scripted one answers in its place, so that they run anywhere.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any
from unittest.mock import patch

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from tests.fakes import ScriptedModel, ai


def _scripted(*_: Any, **__: Any) -> ScriptedModel:
    return ScriptedModel(responses=[ai("Oslo", input_tokens=40, output_tokens=2)], model_name="gpt-5-mini")


def _set_up(namespace: dict[str, Any]) -> None:
    folder = tempfile.TemporaryDirectory()
    before = os.getcwd()  # noqa: PTH109 - chdir has no pathlib form
    os.chdir(folder.name)
    patches = [
        patch("langchain.chat_models.init_chat_model", _scripted),
        patch("langchain.agents.factory.init_chat_model", _scripted),
    ]
    for each in patches:
        each.start()
    namespace["_undo"] = [*(each.stop for each in patches), lambda: os.chdir(before), folder.cleanup]


def _tear_down(namespace: dict[str, Any]) -> None:
    for name, value in list(namespace.items()):
        if name == "tokopt":
            value.close()
    for undo in namespace["_undo"]:
        undo()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=_set_up,
    teardown=_tear_down,
).pytest()
