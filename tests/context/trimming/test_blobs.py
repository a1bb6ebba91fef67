from __future__ import annotations

import base64
import random

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_tokopt.context import HistoryCompression
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.retrieval import Originals
from langchain_tokopt.context.trimming import has_blob, trimmed
from langchain_tokopt.context.trimming.blobs import without_blobs

RANDOM = random.Random(7)
BYTES = bytes(RANDOM.randrange(256) for _ in range(6_000))
BASE64 = base64.b64encode(BYTES).decode()


def test_data_is_named_and_what_stands_around_it_stays() -> None:
    text = f'{{"name": "logo.png", "data": "data:image/png;base64,{BASE64}", "width": 120}}'
    assert without_blobs(text) == (
        '{"name": "logo.png", "data": "data:image/png;base64,[base64, 8,000 characters]", "width": 120}'
    )
    assert without_blobs(f"checksums {BYTES.hex()}.") == "checksums [hexadecimal, 12,000 characters]."


@pytest.mark.parametrize(
    "text",
    [
        "",
        BASE64[:500],  # too short to be worth it
        "a" * 5_000,
        "0123456789" * 200,
        "/usr/lib/python3/site-packages/" * 60,
        "SomeVeryLongNameOfAClassInJavaThatNobodyWouldWrite" * 20,
        "x = 1; " * 500,
        "\n".join(
            [BASE64[at : at + 76] for at in range(0, 2_000, 76)]
        ),  # in lines: `trimmed` leaves them out one by one
    ],
)
def test_what_is_only_long_is_no_data(text: str) -> None:
    assert not has_blob(text)
    assert without_blobs(text) == text


def test_a_small_output_with_data_is_shown_whole_but_for_it() -> None:
    text = f"line one\nBEGIN {BASE64} END\nline three"
    part = trimmed(text, 700)
    assert part is not None
    assert part.text.startswith("line one\nBEGIN [base64, 8,000 characters] END\nline three\n[shown in part; ")
    assert part.tokens == text_size(part.text) < 100


def test_an_agent_is_shown_no_data_and_can_get_it_back() -> None:
    content = f"saved\n{BASE64}"
    call = {"name": "screenshot", "args": {}, "id": "c", "type": "tool_call"}
    messages = [HumanMessage("go"), AIMessage("", tool_calls=[call]), ToolMessage(content, tool_call_id="c")]
    history = HistoryCompression()
    view = history.view(messages, policy=history.policy(None, tool="retrieve_original"))
    assert BASE64[:100] not in view[-1].text
    name = view[-1].text.rsplit('("', 1)[1].split('"', 1)[0]
    assert Originals(messages).find(name) == content


def test_names_that_count_on_are_shown_as_one() -> None:
    text = "\n".join(f"created the file part_{n}.csv at once, as was asked for" for n in range(200))
    part = trimmed(text, 200)
    assert part is not None
    assert any(f"part_{n}.csv.." in part.text for n in range(200))
    assert part.tokens < 300
