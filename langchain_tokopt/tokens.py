"""How many tokens a text, a message, a tool or a request has.

What a provider reports is the truth, and afterwards. Before a call there is tiktoken, if its file is on this machine,
and else an estimate; `TokenCounter.source` says which. Counts are remembered by content, so that a long history
counted again costs next to nothing.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_tokopt.correction import Corrections
from langchain_tokopt.encodings import encoding_of, is_openai, load
from langchain_tokopt.estimate import Encoding, estimate
from langchain_tokopt.identity import model_identity
from langchain_tokopt.media import is_base64, is_media, media_tokens, opaque_tokens
from langchain_tokopt.memo import Memo
from langchain_tokopt.tool_schemas import CACHE_MARKS, Tool, ToolSchema, ToolSchemas, compact_json
from langchain_tokopt.wire import digest, message_digest

if TYPE_CHECKING:
    import tiktoken
    from langchain.agents.middleware.types import ModelRequest

# Three tokens around a message and one for its role; three that begin the answer.
# https://developers.openai.com/cookbook/examples/how_to_count_tokens_with_tiktoken
PER_MESSAGE: Final = 4
PER_REPLY: Final = 3
# Channel, recipient and constraint around a tool call, and the recipient on its result.
# https://developers.openai.com/cookbook/articles/openai-harmony
PER_TOOL_CALL: Final = 8
PER_TOOL_RESULT: Final = 4

_NAMESPACE: Final = "# Tools\n\n## functions\n\nnamespace functions {\n\n} // namespace functions"

# Tokens of the prompt that Anthropic adds when there are tools: for a free choice, and for a forced one.
# https://platform.claude.com/docs/en/about-claude/pricing ("Tool use pricing")
_CLAUDE_TOOL_PROMPT: Final = (346, 313)
_CLAUDE_TOOL_PROMPTS: Final = (
    (re.compile(r"claude-3-opus"), (530, 281)),
    (re.compile(r"claude-3-sonnet"), (159, 235)),
    (re.compile(r"claude-3-haiku|claude-3-5-haiku"), (264, 340)),
)
# Tools whose schema Anthropic keeps itself. Same page.
_CLAUDE_OWN_TOOLS: Final = {"bash_": 245, "text_editor_": 700, "computer_": 735}

_CHUNK: Final = 16_384  # tiktoken's time grows faster than a long run of one kind of character
_SHORT: Final = 256
_MOST_REMEMBERED: Final = 65_536

_TOOL_CALL_BLOCKS: Final = frozenset(
    {"tool_use", "tool_call", "tool_call_chunk", "function_call", "custom_tool_call", "input_json_delta"}
)


def sent_tools(request: ModelRequest[Any]) -> list[Tool]:
    """The tools that a request sends: its own, then the schema of its response format."""
    wanted = request.response_format
    if wanted is None:
        return list(request.tools)
    if isinstance(wanted, (type, dict)):
        return [*request.tools, wanted]
    # A strategy holds one schema, or several alternatives.
    specs = getattr(wanted, "schema_specs", None)
    schemas: list[Any] = [spec.schema for spec in specs] if specs else [wanted.schema]
    return [*request.tools, *schemas]


@dataclass(frozen=True)
class RequestTokens:
    """A request's input tokens by part.

    Attributes:
        system: The system message.
        tools: All tools and what the provider adds for them.
        messages: Each message, in order.
        reply: What begins the answer.
    """

    system: int
    tools: int
    messages: tuple[int, ...]
    reply: int = PER_REPLY

    @property
    def total(self) -> int:
        """All input tokens of the request."""
        return self.system + self.tools + sum(self.messages) + self.reply


class _Weighed(NamedTuple):
    """What a message was found to be, beside what it was then."""

    message: weakref.ref[BaseMessage]
    content: str
    named: tuple[Any, ...]
    digest: bytes
    tokens: int


class TokenCounter:
    """Counts tokens. Safe to share between threads; never raises on odd text.

    Counts are pure: the same content has the same count as long as the counter lives. Only where `corrected=True` is
    asked for, what was learned from the provider's reports (`observe`) is applied.

    Args:
        download: Let tiktoken fetch its file (1.7 to 3.6 MB, once) when it is not on this machine.
    """

    def __init__(self, *, download: bool = False) -> None:
        self._download = download
        self._encoders: dict[Encoding, tiktoken.Encoding | None] = {}
        self._texts: Memo[int] = Memo(limit=_MOST_REMEMBERED)
        self._messages: Memo[int] = Memo(limit=_MOST_REMEMBERED)
        self._weighed: dict[tuple[int, str | None], _Weighed] = {}
        self._schemas = ToolSchemas()
        self._corrections = Corrections()

    # --- counting ----------------------------------------------------------------------------------------------------

    def source(self, model: str | None = None) -> Literal["tiktoken", "estimate"]:
        """What the counts for `model` come from."""
        return "estimate" if self._encoder(encoding_of(model)) is None else "tiktoken"

    def text(self, text: str, model: str | None = None) -> int:
        """Tokens of a text."""
        return self._text(text, encoding_of(model))

    def message(self, message: BaseMessage, model: str | None = None, *, known_digest: bytes | None = None) -> int:
        """Tokens of a message: content of any kind, tool calls, name, and what the provider puts around it.

        `known_digest` saves time where `wire.message_digest(message)` was worked out already.
        """
        key = (known_digest or message_digest(message), model)
        known = self._messages.get(key)
        if known is None:
            encoding = encoding_of(model)
            known = self._around(message, encoding) + self._content(message, encoding, model)
            self._messages.put(key, known)
        return known

    def weighed(self, message: BaseMessage, model: str | None = None) -> tuple[bytes, int]:
        """Digest (`wire.message_digest`) and tokens of a message.

        For a message of plain text and without tool calls both are remembered with the object, as long as what the
        provider sees of it stays what it was: a long history then costs next to nothing from call to call.
        """
        parts = message.__dict__
        content = parts["content"]
        if not isinstance(content, str) or parts.get("tool_calls") or parts.get("invalid_tool_calls"):
            digest = message_digest(message)
            return digest, self.message(message, model, known_digest=digest)
        named = (parts.get("name"), parts.get("tool_call_id"), parts.get("status"), parts.get("role"))
        known = self._weighed.get((id(message), model))
        if known is not None and known.message() is message and known.content is content and known.named == named:
            return known.digest, known.tokens
        digest = message_digest(message)
        tokens = self.message(message, model, known_digest=digest)
        if len(self._weighed) >= _MOST_REMEMBERED:
            self._weighed = {}
        self._weighed[id(message), model] = _Weighed(weakref.ref(message), content, named, digest, tokens)
        return digest, tokens

    def messages(self, messages: Sequence[BaseMessage], model: str | None = None, *, corrected: bool = False) -> int:
        """Tokens of several messages."""
        total = sum(self.message(message, model) for message in messages)
        return self._corrected(total, model) if corrected else total

    def tool(self, tool: Tool, model: str | None = None) -> int:
        """Tokens of one tool's schema as the provider renders it: TypeScript for OpenAI, JSON for others."""
        schema = self._schemas(tool)
        if schema.function is None and isinstance(tool, dict):
            own = next((n for kind, n in _CLAUDE_OWN_TOOLS.items() if str(tool.get("type")).startswith(kind)), None)
            if own is not None:
                return own
        return self._text(schema.typescript if is_openai(model) else schema.inner_json, encoding_of(model))

    def tools(
        self,
        tools: Sequence[Tool],
        model: str | None = None,
        *,
        tool_choice: Any = None,
        corrected: bool = False,
    ) -> int:
        """Tokens of the tools and of what the provider adds for them; 0 without tools."""
        if not tools:
            return 0
        total = self.tool_prompt(model, tool_choice=tool_choice) + sum(self.tool(tool, model) for tool in tools)
        return self._corrected(total, model) if corrected else total

    def tool_prompt(self, model: str | None = None, *, tool_choice: Any = None) -> int:
        """Tokens that the provider adds to a request because it has tools at all."""
        if is_openai(model):
            return self._text(_NAMESPACE, encoding_of(model))
        if model is None or "claude" not in model.lower():
            return 0
        name = model.lower()
        free, forced = next(
            (tokens for pattern, tokens in _CLAUDE_TOOL_PROMPTS if pattern.search(name)), _CLAUDE_TOOL_PROMPT
        )
        return free if tool_choice in (None, "auto", "none", {"type": "auto"}, {"type": "none"}) else forced

    def request(self, request: ModelRequest[Any], *, corrected: bool = False) -> RequestTokens:
        """Tokens of a whole request, by part."""
        model = model_identity(request.model, request.model_settings).name
        system = self.message(request.system_message, model) if request.system_message is not None else 0
        tools = self.tools(sent_tools(request), model, tool_choice=request.tool_choice)
        messages = tuple(self.message(message, model) for message in request.messages)
        if not corrected:
            return RequestTokens(system, tools, messages)
        return RequestTokens(
            self._corrected(system, model),
            self._corrected(tools, model),
            tuple(self._corrected(count, model) for count in messages),
        )

    def schema(self, tool: Tool) -> ToolSchema:
        """The tool as the provider sees it; worked out once per tool."""
        return self._schemas(tool)

    # --- learning ----------------------------------------------------------------------------------------------------

    def observe(self, model: str | None, counted: int, reported: int) -> None:
        """Learn from the input tokens that a provider reported for a request that was `counted` here, uncorrected."""
        self._corrections.observe(model, counted, reported)

    def correction(self, model: str | None = None) -> float:
        """What a count has to be multiplied with to come near to what the provider reports, 0.5 to 2."""
        return self._corrections.of(model)

    def _corrected(self, count: int, model: str | None) -> int:
        return math.ceil(count * self.correction(model))

    # --- parts -------------------------------------------------------------------------------------------------------

    def _text(self, text: str, encoding: Encoding) -> int:
        if not text:
            return 0
        # A long text is remembered by its digest, so that the memo keeps no documents alive.
        key: Hashable = (encoding, text if len(text) <= _SHORT else digest(text))
        known = self._texts.get(key)
        if known is None:
            encoder = self._encoder(encoding)
            known = estimate(text, encoding) if encoder is None else _encoded(text, encoder, encoding)
            self._texts.put(key, known)
        return known

    def _encoder(self, encoding: Encoding) -> tiktoken.Encoding | None:
        if encoding not in self._encoders:
            self._encoders[encoding] = load(encoding, download=self._download)
        return self._encoders[encoding]

    def _around(self, message: BaseMessage, encoding: Encoding) -> int:
        name = self._text(message.name, encoding) + 1 if message.name else 0
        return PER_MESSAGE + name + (PER_TOOL_RESULT if isinstance(message, ToolMessage) else 0)

    def _content(self, message: BaseMessage, encoding: Encoding, model: str | None) -> int:
        calls = [*message.tool_calls, *message.invalid_tool_calls] if isinstance(message, AIMessage) else []
        total = sum(self._call(call.get("name"), call.get("args"), encoding) for call in calls)
        if isinstance(message.content, str):
            return total + self._text(message.content, encoding)
        for block in message.content or ():
            # Anthropic's and OpenAI's content repeats the calls that `tool_calls` has.
            if not (calls and isinstance(block, dict) and _is_call(block)):
                total += self._block(block, encoding, model)
        return total

    def _call(self, name: Any, arguments: Any, encoding: Encoding) -> int:
        written = arguments if isinstance(arguments, str) else compact_json(arguments)
        return PER_TOOL_CALL + self._text(str(name or ""), encoding) + self._text(written, encoding)

    def _block(self, block: Any, encoding: Encoding, model: str | None) -> int:
        if isinstance(block, str):
            return self._text(block, encoding)
        if not isinstance(block, Mapping):
            return self._json(block, encoding, model)
        for key in ("text", "thinking", "reasoning"):
            if isinstance(block.get(key), str):
                return self._text(block[key], encoding)  # without signatures, ids, citations
        if tools := _added_tools(block):
            return sum(self.tool(tool, model) for tool in tools)
        if _is_call(block):
            return self._call(block.get("name"), block.get("args", block.get("input")), encoding)
        if is_media(block):
            inner = _inner_content(block)
            if inner is None:
                return media_tokens(block, model)
            return sum(self._block(part, encoding, model) for part in inner)
        return self._json({key: value for key, value in block.items() if key not in CACHE_MARKS}, encoding, model)

    def _json(self, value: Any, encoding: Encoding, model: str | None) -> int:
        """Tokens of a value written as JSON; what is base64 in it counts by its size."""
        hidden: list[int] = []
        visible = _without_base64(value, hidden)
        return (self._text(compact_json(visible), encoding) if visible else 0) + sum(map(opaque_tokens, hidden))


def _is_call(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    return isinstance(kind, str) and kind in _TOOL_CALL_BLOCKS


def _added_tools(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The definitions of the tools that a block adds in the middle of a conversation: Anthropic's form, or OpenAI's."""
    if block.get("type") == "non_standard" and isinstance(block.get("value"), Mapping):
        block = block["value"]  # LangChain's wrapping of what only one provider has
    found = block.get("tools") if block.get("type") == "additional_tools" else None
    if block.get("type") == "tool_addition" and isinstance(block.get("tool"), Mapping):
        found = [block["tool"].get("definition")]  # `None` where it only names a tool that the request has
    return [_as_bound(tool) for tool in found if isinstance(tool, dict)] if isinstance(found, list) else []


def _as_bound(tool: dict[str, Any]) -> dict[str, Any]:
    """A definition of Anthropic's form as LangChain writes one of a tool that is bound, so that both count alike."""
    if not isinstance(tool.get("input_schema"), Mapping):
        return tool
    shown = {"name": tool.get("name"), "description": tool.get("description"), "parameters": tool["input_schema"]}
    return {"type": "function", "function": {key: value for key, value in shown.items() if value is not None}}


def _inner_content(block: Mapping[str, Any]) -> list[Any] | None:
    """What a document holds as text or as blocks, `None` for one that is a file."""
    source = block.get("source")
    if isinstance(source, Mapping):
        if source.get("type") == "text" and isinstance(source.get("data"), str):
            return [source["data"]]
        if isinstance(source.get("content"), (list, str)):
            content = source["content"]
            return [content] if isinstance(content, str) else content
    return None


def _without_base64(value: Any, hidden: list[int]) -> Any:
    if isinstance(value, str) and is_base64(value):
        hidden.append(len(value))
        return ""
    if isinstance(value, (bytes, bytearray)):
        hidden.append(len(value) * 4 // 3)
        return ""
    if isinstance(value, Mapping):
        return {key: _without_base64(item, hidden) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_base64(item, hidden) for item in value]
    return value


def _encoded(text: str, encoder: tiktoken.Encoding, encoding: Encoding) -> int:
    try:
        # Never special tokens: a user's "<|endoftext|>" is text.
        return sum(len(encoder.encode_ordinary(text[start : start + _CHUNK])) for start in range(0, len(text), _CHUNK))
    except Exception:  # whatever tiktoken does not take is still counted
        return estimate(text, encoding)
