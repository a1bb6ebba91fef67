"""How many tokens a request has for its provider, told from what went over the wire.

It shares nothing with the counter that budgets use: other code renders other text. OpenAI's prompts are rendered as
https://developers.openai.com/cookbook/articles/openai-harmony has them, tools as
https://developers.openai.com/cookbook/examples/how_to_count_tokens_with_tiktoken counts them. Anthropic's tokenizer is
not public: `ctok` (https://github.com/sanderland/ctok), which agrees with Anthropic's own counts of texts, counts the
texts if it is installed, else cl100k times `CLAUDE_RATIO`. How Claude is shown calls and results is not public, either:
they are taken to be written out as XML, which is the longest of the forms that are known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from langchain_tokopt.encodings import encoding_of, load
from tests.providers.replies import Asked, compact

# By what ctok counts more than cl100k in the results of coding agents, before Opus 4.7 and since.
CLAUDE_RATIO = {"3.0": 1.25, "4.8": 1.6}
_CLAUDE_MESSAGE, _CLAUDE_START = 4, 8
# https://platform.claude.com/docs/en/about-claude/pricing: what is added to a prompt that has tools.
_CLAUDE_TOOLS = 346

Tokens = Callable[[str], int]


def provider_count(asked: Asked) -> int:
    """Input tokens of a request."""
    model = str(asked.body["model"])
    if asked.provider == "anthropic":
        return _claude(asked.body, claude_tokens(claude_family(model)))
    return _openai(asked.body, openai_tokens(encoding_of(model)))


# --- tokenizers ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def openai_tokens(encoding: str) -> Tokens:
    """Counts with tiktoken; with cl100k where the file of o200k is not on this machine.

    Raises:
        LookupError: Not even that is.
    """
    encoder = load("o200k_base", download=False) if encoding == "o200k_base" else None
    encoder = encoder or load("cl100k_base", download=False)
    if encoder is None:
        msg = "tiktoken's file of cl100k_base is not in TIKTOKEN_CACHE_DIR"
        raise LookupError(msg)
    return lru_cache(maxsize=100_000)(lambda text: len(encoder.encode_ordinary(text)))


def claude_family(model: str) -> str:
    """The first version of Claude with the tokenizer of this one."""
    older = ("claude-3", "opus-4-0", "opus-4-1", "opus-4-5", "opus-4-6", "sonnet-4", "haiku-4")
    return "3.0" if any(part in model for part in older) else "4.8"


def exact_claude() -> bool:
    """Whether Claude's tokens are counted, and not taken to be a multiple of cl100k's."""
    try:
        import ctok  # noqa: F401
    except ImportError:
        return False
    return True


@lru_cache(maxsize=8)
def claude_tokens(family: str) -> Tokens:
    """Counts as Claude does, without what is around a message."""
    if not exact_claude():
        plain = openai_tokens("cl100k_base")
        return lambda text: -(-plain(text) * int(100 * CLAUDE_RATIO[family]) // 100)
    import ctok

    around = ctok.token_count("a", family) - 1
    return lru_cache(maxsize=100_000)(lambda text: ctok.token_count(text, family) - around if text else 0)


# --- OpenAI ----------------------------------------------------------------------------------------------------------


def _openai(body: Mapping[str, Any], tokens: Tokens) -> int:
    total = tokens("assistant") + 2 + _openai_tools(body.get("tools") or [], tokens)
    for name in ("response_format", "text"):
        if body.get(name):
            total += tokens(compact(body[name]))
    if body.get("instructions"):
        total += 3 + tokens("system") + tokens(body["instructions"])
    return total + sum(_openai_item(item, tokens) for item in body.get("messages") or body["input"])


def _openai_item(item: Mapping[str, Any], tokens: Tokens) -> int:
    """A message, or an item of the Responses API. `<|start|>`, `<|message|>` and the like are one token each."""
    kind = item.get("type", "message")
    if kind == "function_call":
        return _harmony_call(item["name"], item["arguments"], tokens)
    if kind == "function_call_output":
        return _harmony_result(item["output"], tokens)
    if kind == "reasoning":
        return sum(tokens(part["text"]) for part in item.get("summary") or [])
    if item["role"] == "tool":
        return _harmony_result(item["content"], tokens)
    name = 1 + tokens(item["name"]) if item.get("name") else 0
    calls = [call["function"] for call in item.get("tool_calls") or []]
    total = sum(_harmony_call(call["name"], call["arguments"], tokens) for call in calls)
    if calls and not item.get("content"):
        return total
    return total + 3 + tokens(item["role"]) + name + _texts(item.get("content") or "", tokens)


def _harmony_call(name: str, arguments: str, tokens: Tokens) -> int:
    """`<|start|>assistant to=functions.NAME<|channel|>commentary json<|message|>ARGUMENTS<|call|>`."""
    return 4 + tokens(f"assistant to=functions.{name}") + tokens("commentary json") + tokens(arguments)


def _harmony_result(content: Any, tokens: Tokens) -> int:
    """`<|start|>functions.NAME to=assistant<|channel|>commentary<|message|>CONTENT<|end|>`; the name is some tokens."""
    return 4 + tokens("functions.some_name to=assistant") + tokens("commentary") + _texts(content, tokens)


def _texts(content: Any, tokens: Tokens) -> int:
    if isinstance(content, str):
        return tokens(content)
    return sum(tokens(block["text"]) for block in content if isinstance(block.get("text"), str))


def _openai_tools(tools: Iterable[Mapping[str, Any]], tokens: Tokens) -> int:
    """The constants are those of the cookbook for gpt-4o; what is nested deeper counts as JSON."""
    functions = [tool.get("function", tool) for tool in tools]
    total = 12 if functions else 0
    for function in functions:
        total += 7 + tokens(f"{function['name']}:{function.get('description', '').rstrip('.')}")
        parameters = (function.get("parameters") or {}).get("properties") or {}
        total += 3 if parameters else 0
        for key, value in parameters.items():
            said = f"{key}:{value.get('type', '')}:{value.get('description', '').rstrip('.')}"
            total += 3 + tokens(said) + sum(3 + tokens(str(one)) for one in value.get("enum") or [])
            total += sum(
                tokens(compact(value[deeper])) for deeper in ("properties", "items", "anyOf") if deeper in value
            )
    return total


# --- Anthropic -------------------------------------------------------------------------------------------------------


def _claude(body: Mapping[str, Any], tokens: Tokens) -> int:
    total = _CLAUDE_START
    tools = body.get("tools") or []
    if tools:
        total += _CLAUDE_TOOLS
    for tool in tools:
        shown = {
            "description": tool.get("description", ""),
            "name": tool["name"],
            "parameters": tool.get("input_schema", {}),
        }
        total += tokens(f"<function>{json.dumps(shown, ensure_ascii=False)}</function>\n")
    total += sum(_claude_block(block, tokens) for block in _blocks(body.get("system")))
    for message in body["messages"]:
        total += _CLAUDE_MESSAGE + sum(_claude_block(block, tokens) for block in _blocks(message["content"]))
    return total


def _blocks(content: Any) -> list[Mapping[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return list(content or [])


def _claude_block(block: Mapping[str, Any], tokens: Tokens) -> int:
    if block["type"] == "text":
        return tokens(block["text"])
    if block["type"] == "thinking":
        return tokens(block["thinking"])
    if block["type"] == "tool_use":
        given = "".join(
            f'<parameter name="{key}">{value if isinstance(value, str) else compact(value)}</parameter>\n'
            for key, value in block["input"].items()
        )
        return tokens(f'<function_calls>\n<invoke name="{block["name"]}">\n{given}</invoke>\n</function_calls>')
    if block["type"] == "tool_result":
        inner = sum(_claude_block(part, tokens) for part in _blocks(block.get("content")))
        return inner + tokens("<function_results>\n<result>\n<output></output>\n</result>\n</function_results>")
    return 0
