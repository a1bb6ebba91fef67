"""How the server counts tokens, and what its prompt cache makes of a request.

The rule for tokens is simple on purpose: a token is 4 characters of the rendered prompt, rounded up. The prompt is
rendered in the order in which the provider reads it: tools, (response format or) system, messages; each item as JSON
with sorted keys, so that only its content counts.

OpenAI caches by itself: the longest prefix that an earlier prompt of the same model had, from 1,024 tokens on, in
steps of 128 (https://platform.openai.com/docs/guides/prompt-caching). Anthropic caches up to each block that carries
`cache_control`, from 1,024 tokens on; a lookup checks at most 20 blocks, the marked one included
(https://docs.claude.com/en/docs/build-with-claude/prompt-caching).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.providers.replies import compact

CHARS_PER_TOKEN = 4
MIN_CACHED = 1024
STEP = 128
LOOKBACK = 20
TTL_SECONDS = {"5m": 300.0, "1h": 3600.0}
_CACHED = ("cache_read", "cache_write", "cache_write_1h")


def tokens(chars: int) -> int:
    """Tokens of that many characters."""
    return -(-chars // CHARS_PER_TOKEN)


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What one call costs, in tokens. `input` counts everything that was read, cached or not."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output

    def counted(self, tokens: int) -> Bill:
        """The same bill for a prompt that has so many tokens by another count; what is cached keeps its share."""
        parts = {name: getattr(self, name) * tokens // max(1, self.input) for name in _CACHED}
        return replace(self, input=tokens, **parts)

    def __add__(self, other: Bill) -> Bill:
        return Bill(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})


class OpenAICache:
    """Prefixes that earlier prompts had. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._prompts: dict[tuple[str, str], float] = {}

    def read(self, body: Mapping[str, Any]) -> Bill:
        """The input side of the bill, and the prompt is remembered."""
        prompt = "\n".join(openai_prompt(body))
        now = self._clock()
        longest = 0
        with self._lock:
            for (model, earlier), until in self._prompts.items():
                if model == body["model"] and until > now:
                    longest = max(longest, _shared(earlier, prompt))
            self._prompts[body["model"], prompt] = now + TTL_SECONDS["5m"]
        cached = longest // CHARS_PER_TOKEN // STEP * STEP
        return Bill(input=tokens(len(prompt)), cache_read=cached if cached >= MIN_CACHED else 0)


def _shared(one: str, other: str) -> int:
    """Length of the prefix that both have; halving, for prompts are long."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if one[least:middle] == other[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def openai_prompt(body: Mapping[str, Any]) -> Iterator[str]:
    """The prompt of either of OpenAI's APIs, in the order in which it is read."""
    yield from (compact(tool) for tool in body.get("tools") or [])
    for name in ("response_format", "text", "instructions"):
        if body.get(name):
            yield compact(body[name])
    yield from (compact(message) for message in body.get("messages") or body["input"])


@dataclass(frozen=True)
class _Block:
    text: str
    ttl: str | None
    hidden: str = ""


class AnthropicCache:
    """Prefixes that earlier requests asked to keep. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[bytes, float] = {}

    def read(self, body: Mapping[str, Any]) -> Bill:
        """The input side of the bill, and prefixes that end at a breakpoint are remembered."""
        blocks = list(anthropic_prompt(body))
        digest = hashlib.sha256(str(body["model"]).encode())
        chars, keys, sizes = 0, [], []
        for block in blocks:
            chars += len(block.text)
            digest.update(compact([block.text, block.hidden]).encode())
            keys.append(digest.digest())
            sizes.append(tokens(chars))
        marks = [n for n, block in enumerate(blocks) if block.ttl and sizes[n] >= MIN_CACHED]
        now = self._clock()
        hit = -1
        with self._lock:
            for mark in marks:
                for n in range(mark, max(mark - LOOKBACK, -1), -1):
                    if self._kept.get(keys[n], 0.0) > now:
                        hit = max(hit, n)
                        break
            read = sizes[hit] if hit >= 0 else 0
            written = max(sizes[marks[-1]] - read, 0) if marks else 0
            long_marks = [n for n in marks if blocks[n].ttl == "1h"]
            written_long = max(sizes[long_marks[-1]] - read, 0) if long_marks else 0
            for n in marks:
                self._kept[keys[n]] = now + TTL_SECONDS[blocks[n].ttl or "5m"]
        return Bill(input=tokens(chars), cache_read=read, cache_write=written, cache_write_1h=written_long)


def anthropic_prompt(body: Mapping[str, Any]) -> Iterator[_Block]:
    """The prompt as blocks, in the order in which Anthropic reads it: tools, system, messages."""
    blocks = list(_blocks(body))
    automatic = body.get("cache_control")
    for n, block in enumerate(blocks):
        if automatic and n == len(blocks) - 1 and block.ttl is None:
            yield _Block(block.text, automatic.get("ttl", "5m"), block.hidden)
        else:
            yield block


def anthropic_prefix(body: Mapping[str, Any], at: int) -> str:
    """All that comes before the message at that position, as one text: tools, system, messages."""
    return "\n".join(block.text for block in _blocks({**body, "messages": body["messages"][:at]}))


def _blocks(body: Mapping[str, Any]) -> Iterator[_Block]:
    tools = body.get("tools") or []
    # A first tool that is defined in a message changes the start of a prompt that has none there.
    start = "" if any(not tool.get("defer_loading") for tool in tools) else compact(_defines(body))
    for tool in tools:
        yield _block("", tool, start)
    system = body.get("system")
    for block in [{"type": "text", "text": system}] if isinstance(system, str) else system or []:
        yield _block("system:", block, start)
    # A change of these invalidates the cached messages, not the tools and the system prompt before them.
    hidden = compact([start, body.get("tool_choice"), body.get("thinking")])
    for message in body["messages"]:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            yield _block(f"{message['role']}:", block, hidden)
            hidden = ""


def _block(before: str, block: Mapping[str, Any], hidden: str = "") -> _Block:
    added = block.get("tool", {}).get("definition", {}) if block.get("type") == "tool_addition" else {}
    mark = block.get("cache_control") or added.get("cache_control")
    bare = {key: value for key, value in block.items() if key != "cache_control"}
    if added:
        bare["tool"] = {**block["tool"], "definition": {k: v for k, v in added.items() if k != "cache_control"}}
    return _Block(before + compact(bare), mark.get("ttl", "5m") if mark else None, hidden)


def _defines(body: Mapping[str, Any]) -> bool:
    """Whether a message defines a tool."""
    contents = [message["content"] for message in body["messages"] if message["role"] == "system"]
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    return any(block.get("type") == "tool_addition" and "definition" in block["tool"] for block in blocks)
