"""Any message list that a provider would take, for property tests.

`message_lists()` gives valid histories: parallel tool calls with results in any order, content as a string or as
blocks (text, images, thinking, nothing), odd characters, ids or none. `tool_texts()` gives what tools answer: prose,
code, logs, JSON, terminal output, and texts that say again what others of the same history said.
`removals()` gives a history together with a state update that removes some of its messages.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage

NAMES = ("read_file", "bash", "search", "get_user", "odd name!")

# Characters that break naive code: NUL, escape, lone surrogates, separators that `str.splitlines` splits at, wide ones.
ODD = "\x00\x1b\x85\u2028\ud800\udfff\u200b\ufeff\U0001f600é漢 \t\r\x0b"


def odd_texts(max_size: int = 40) -> st.SearchStrategy[str]:
    """Short texts with anything in them."""
    return st.text(st.one_of(st.characters(codec=None), st.sampled_from(ODD)), max_size=max_size)


_LINES = st.one_of(
    st.sampled_from(
        [
            "",
            "   ",
            "def handler(request, response, settings=None):",
            "    return response.with_status(200).with_body(request.body)",
            "INFO 2024-05-20 12:00:01 worker 7 finished job 4711 in 12.5 s",
            "drwxr-xr-x 2 root root 4096 Oct 24 2024 site-packages",
            "the same long line of prose comes here again and again, it does not mean very much at all   ",
            "}",
            "10 %\r20 %\r100 %",
            "\x1b[31mred\x1b[0m and \x1b[1mbold\x1b[0m text with colours that nobody sees in a prompt",
            "--------------------------------------------------------------------------------",
            "x" * 400,
        ]
    ),
    st.integers(0, 12).map(lambda n: f"line {n} of a file that is read in pieces which overlap each other a lot"),
    odd_texts(),
)

_REFERENCES = st.sampled_from(
    [
        "[same as lines 1-3 of tool result 1]",
        "[same as lines 2-40 of tool result 1 (bash)]",
        "[same as line 1 of this result]",
        "[same as tool result 1]",
        "[line above repeats 9 more times]",
    ]
)


def json_values() -> st.SearchStrategy[Any]:
    """What an API may answer: objects, arrays of equal objects, anything that JSON can hold."""
    keys = st.one_of(st.sampled_from(["id", "name", "a.b", "columns", "rows", "items", "x y", ""]), odd_texts(6))
    texts = st.one_of(
        odd_texts(12), st.sampled_from(["true", "1", "1.0", "-", "a,b", "[x]", "{", '"', "a: b", " pad "])
    )
    scalars = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts
    )
    records = st.lists(keys, min_size=1, max_size=4, unique=True).flatmap(
        lambda names: st.lists(st.fixed_dictionaries(dict.fromkeys(names, scalars)), min_size=2, max_size=6)
    )
    return st.recursive(
        st.one_of(scalars, records),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
        max_leaves=20,
    )


_JSON = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only),
    json_values(),
    st.sampled_from([None, 2, 4]),
    st.booleans(),
)


def tool_texts() -> st.SearchStrategy[str]:
    """What a tool may answer."""
    lines = st.lists(_LINES, max_size=40)
    files = st.builds(
        lambda first, count: "\n".join(
            f"{n}: the file has a line like this one, and {n * 7919} is its number" for n in range(first, first + count)
        ),
        st.integers(0, 10),
        st.integers(1, 40),
    )
    repeated = st.builds(lambda line, count: "\n".join([line] * count), _LINES, st.integers(1, 60))
    again = st.builds(
        lambda block, between: "\n".join([*block, between, *block]), st.lists(_LINES, max_size=12), _LINES
    )
    echoes = st.lists(st.one_of(_LINES, _REFERENCES), max_size=12)
    return st.one_of(
        odd_texts(), lines.map("\n".join), lines.map("\r\n".join), files, repeated, again, echoes.map("\n".join), _JSON
    )


def _contents(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    image = st.just({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}})
    text = st.builds(lambda text: {"type": "text", "text": text}, texts)
    marked = st.builds(
        lambda text: {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}, "id": "b1"}, texts
    )
    return st.one_of(texts, texts, st.lists(st.one_of(text, marked, image, texts), max_size=3))


_THINKING = st.one_of(
    st.builds(
        lambda text: {"type": "thinking", "thinking": text, "signature": "c2lnbmF0dXJl"}, st.text("abc \n", max_size=20)
    ),
    st.just({"type": "redacted_thinking", "data": "ZGF0YQ=="}),
)


@st.composite
def message_lists(draw: st.DrawFn, *, max_turns: int = 8) -> list[BaseMessage]:
    """A valid history: every call answered once and directly, ids unique. It may end with any kind of message."""
    with_ids, unique_calls = draw(st.booleans()), draw(st.booleans())
    pool = draw(st.lists(tool_texts(), min_size=1, max_size=4))
    texts = st.one_of(st.sampled_from(pool), tool_texts())
    messages: list[BaseMessage] = []
    calls = 0

    def add(kind: type[BaseMessage], **fields: Any) -> None:
        messages.append(kind(id=f"m{len(messages)}" if with_ids else None, **fields))

    if draw(st.booleans()):
        add(SystemMessage, content=draw(odd_texts()))
    for _ in range(draw(st.integers(0, max_turns))):
        turn = draw(st.sampled_from(["human", "answer", "tools", "tools", "tools"]))
        if turn == "human":
            add(HumanMessage, content=draw(_contents(odd_texts())))
            continue
        if turn == "answer":
            add(AIMessage, content=draw(odd_texts()))
            continue
        made = [
            {
                "name": draw(st.sampled_from(NAMES)),
                "args": {"q": draw(odd_texts(8))},
                "id": f"call_{calls + n if unique_calls else n}",
                "type": "tool_call",
            }
            for n in range(draw(st.integers(1, 3)))
        ]
        calls += len(made)
        content = draw(st.one_of(st.just(""), odd_texts(), st.lists(_THINKING, min_size=1, max_size=2)))
        usage = {"input_tokens": 100, "output_tokens": 5, "total_tokens": 105}
        add(AIMessage, content=content, tool_calls=made, usage_metadata=usage, response_metadata={"model_name": "m"})
        for call in draw(st.permutations(made)):
            add(
                ToolMessage,
                content=draw(_contents(texts)),
                tool_call_id=call["id"],
                name=draw(st.sampled_from([None, call["name"]])),
                status=draw(st.sampled_from(["success", "success", "success", "error"])),
                artifact=draw(st.sampled_from([None, {"rows": [1, 2]}])),
                additional_kwargs=draw(st.sampled_from([{}, {"origin": "test"}])),
            )
    return messages


@st.composite
def removals(draw: st.DrawFn) -> tuple[list[BaseMessage], list[BaseMessage]]:
    """A valid history with ids, and a state update: some `RemoveMessage`s for it, then perhaps a new message."""
    messages = draw(message_lists())
    messages = [message.model_copy(update={"id": f"m{n}"}) for n, message in enumerate(messages)]
    gone = draw(st.sets(st.sampled_from([message.id for message in messages]))) if messages else set()
    update: list[BaseMessage] = [RemoveMessage(id=name) for name in sorted(filter(None, gone))]
    if draw(st.booleans()):
        update.append(HumanMessage("go on", id="new"))
    return messages, update
