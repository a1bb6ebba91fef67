"""Which requests may be answered from the cache, and what must be equal for that.

A key has two halves. The *scope* is a digest of everything that must be equal: tenant, model and parameters, system
prompt, tools, response format, earlier turns, and what of the last user message is not text. Only the text of that
message is compared by meaning, and only inside one scope.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata, add_usage

from langchain_tokopt.cache.fingerprint import (
    IncomparableError,
    content_of,
    conversation,
    digest,
    model_digest,
    response_format_of,
    setting,
    tools_digest,
)
from langchain_tokopt.cache.guard import needs_context
from langchain_tokopt.caller import active_config, call_who, caller_is_known
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.flow import is_internal
from langchain_tokopt.identity import ModelIdentity, model_identity

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest

_VERSION = 2  # of what goes into a scope: entries of another version are never found
_NOBODY = "who is calling cannot be seen here (async agents before Python 3.11): name user_id or tenant in the context"
_BYTES_PER_TOKEN = 3.5  # UTF-8 bytes per WordPiece token, on the low side
_OF_THE_OWNER = 32  # digits of a place; as many are of the rest
_RECALLED = 2  # earlier messages that are compared by meaning together with the question
# Bytes of them, and at most so many times those of the question: under a longer context all questions look alike, which
# is how serialised prompts come to be 1.000 similar.
_RECALLED_BYTES = 150
_RECALLED_SHARE = 2


@dataclass(frozen=True, slots=True)
class Bypass:
    """A request that the cache leaves alone, and why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKey:
    """What a request must have in common with an earlier one to be given its answer.

    Attributes:
        scope: Digest of all that must be equal.
        owner: Digest of the tenant alone, so that a tenant's entries can be removed.
        text: What is compared by meaning: the last user text, stripped, after the latest earlier turns if those are
            to be compared, too.
        exact: Digest of the last user text, and of the earlier turns where these are compared by meaning.
        place: Digest of the tenant and of what stands before any conversation: what `scope` is without the messages.
        exact_only: Why similar texts must not count, `None` if they may.
        serve: Whether an answer may be served; after a tool call an answer is only stored.
        tools: The tools that the turn has used, all declared cacheable.
        spent: What the turn's earlier model calls used.
        identity: The model, for the price of what a hit saves.
        agent: The agent's name, given to the answer.
        response_format: Rebuilds the structured response; its digest is part of `scope`.
    """

    scope: str
    owner: str
    text: str
    exact: str
    place: str = ""
    exact_only: str | None = None
    serve: bool = True
    tools: tuple[str, ...] = ()
    spent: UsageMetadata | None = field(default=None, compare=False)
    identity: ModelIdentity = field(default=ModelIdentity(None, None), compare=False)
    agent: str | None = field(default=None, compare=False)
    response_format: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class KeyRules:
    """The user's choices about keys; see `SemanticCache`."""

    tenant: Callable[[ModelRequest[Any]], str | None] | None = None
    cache_sampled: bool = False
    cacheable_tools: frozenset[str] = frozenset()
    semantic_max_tokens: int = 256
    own_result: Callable[[ToolMessage], bool] | None = None
    history: Literal["exact", "ignore", "semantic"] = "exact"

    def __post_init__(self) -> None:
        if self.history not in ("exact", "ignore", "semantic"):
            raise ConfigurationError("history", self.history, 'use "exact", "ignore" or "semantic"')
        most = self.semantic_max_tokens
        if isinstance(most, bool) or not isinstance(most, int) or most < 0:
            remedy = "use a whole number of tokens, such as the 256 that MiniLM reads; 0 for exact matches only"
            raise ConfigurationError("semantic_max_tokens", most, remedy)

    def examine(self, request: ModelRequest[Any]) -> CacheKey | Bypass:
        """The key of a request, or why it has none."""
        refused = self._refused(request)
        if refused is not None:
            return Bypass(refused)
        turn = last_turn(request.messages)
        if isinstance(turn, Bypass):
            return turn
        results = [message for message in turn.after if isinstance(message, ToolMessage)]
        own = {message.tool_call_id for message in results if self.own_result is not None and self.own_result(message)}
        tools = tools_used(turn.after, leaving_out=own)
        if turn.after and not (results and self.cacheable_tools.issuperset(tools)):
            return Bypass("after a tool call")
        owner = self._owner(request)
        if owner is None:
            return Bypass(_NOBODY if self.tenant is None else "the tenant function named no tenant")
        asked = Asked.of(turn, self.history, self.semantic_max_tokens)
        try:
            place = place_of(owner) + digest(_standing(request))[:_OF_THE_OWNER]
            scope = _scope(place, conversation(asked.equal), turn.parts)
            exact = asked.exact()
        except IncomparableError as error:
            return Bypass(f"a setting cannot be compared: {error}")
        metadata = (active_config() or {}).get("metadata") or {}
        return CacheKey(
            scope=scope,
            owner=_owner_digest(owner),
            place=place,
            text=asked.text,
            exact=exact,
            exact_only=asked.exact_only,
            serve=not turn.after,
            tools=tuple(sorted(tools)),
            spent=_spent(turn.after),
            identity=model_identity(request.model, request.model_settings),
            agent=metadata.get("lc_agent_name"),
            response_format=request.response_format,
        )

    def _refused(self, request: ModelRequest[Any]) -> str | None:
        """What rules the cache out whatever the messages say."""
        if is_internal(request):
            return "internal call"
        if not isinstance(request.model, BaseChatModel):
            return "the model is chosen at run time"
        settings = request.model_settings
        sampled = refused_sampling(setting(request.model, settings, "temperature"), allowed=self.cache_sampled)
        if sampled:
            return sampled
        count = setting(request.model, settings, "n")
        if isinstance(count, int) and count > 1:
            return f"n={count}: several answers were asked for"
        for choice in (request.tool_choice, settings.get("tool_choice")):
            if _forced(choice):
                return "forced tool_choice"
        for name in ("previous_response_id", "conversation"):
            if settings.get(name):
                return f"{name}: the provider holds the earlier turns"
        return None

    def _owner(self, request: ModelRequest[Any]) -> str | None:
        if self.tenant is not None:
            named = self.tenant(request)
            if named is not None and not isinstance(named, str):
                msg = f"tenant= must return a string or None, and returned {type(named).__name__}"
                raise TypeError(msg)
            return None if named is None else f"tenant:{named}"
        who = call_who(request)
        if not (who.tenant or who.user or caller_is_known(request)):
            return None
        return owner_of(tenant=who.tenant, user=who.user)


def owner_of(*, tenant: str | None = None, user: str | None = None) -> str:
    """Whose entries: the tenant's, else the user's, else everybody's."""
    if tenant is not None:
        return f"tenant:{tenant}"
    return f"user:{user}" if user is not None else ""


_owner_digest = functools.lru_cache(maxsize=1_024)(digest)


def place_of(owner: str) -> str:
    """What all places of a tenant begin with. `owner`: as `owner_of` gives it."""
    return _owner_digest(owner)[:_OF_THE_OWNER]


@functools.lru_cache(maxsize=1_024)
def opening_scope(place: str) -> str:
    """The scope, in this place, of questions in front of which nothing was said."""
    return _scope(place, [], None)


def _scope(place: str, earlier: list[Any], parts: Any) -> str:
    return digest([_VERSION, place, earlier, parts])


def _standing(request: ModelRequest[Any]) -> list[Any]:
    """What stands before the conversation: model, settings, system prompt, tools, response format."""
    system = request.system_message
    return [
        model_digest(request.model),
        {key: value for key, value in request.model_settings.items() if value is not None},
        content_of(system.content) if system is not None else None,
        tools_digest(request.tools),
        request.tool_choice,
        response_format_of(request.response_format),
    ]


def _forced(choice: Any) -> bool:
    if isinstance(choice, Mapping):
        choice = choice.get("type")
    return choice not in (None, False, "auto", "none")


def refused_sampling(temperature: Any, *, allowed: bool) -> str | None:
    """Why an explicit temperature rules the cache out; an answer that was drawn by lot is not *the* answer."""
    if allowed or not isinstance(temperature, (int, float)) or temperature <= 0:
        return None
    return f"temperature={temperature:g}: sampled answers are cached with cache_sampled=True only"


# --- the last turn ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """The last user message, what came before it, and what the agent has done since."""

    earlier: Sequence[BaseMessage]
    text: str
    parts: Any
    after: Sequence[BaseMessage]


def last_turn(messages: Sequence[BaseMessage]) -> Turn | Bypass:
    """The turn that the next answer belongs to."""
    if not messages:
        return Bypass("no messages")
    if not isinstance(messages[-1], (HumanMessage, ToolMessage)):
        return Bypass(f"the last message is not the user's ({messages[-1].type})")
    start = len(messages) - 1
    while start >= 0 and not isinstance(messages[start], HumanMessage):
        start -= 1
    if start < 0:
        return Bypass("no user message")
    question = messages[start]
    text, rest = _split(question.content)
    if not text.strip():
        return Bypass("the user message holds no text")
    parts = [question.name, rest] if rest or question.name else None
    return Turn(messages[:start], text.strip(), parts, messages[start + 1 :])


def _split(content: Any) -> tuple[str, list[Any]]:
    """The text of a message, and its other blocks with their places."""
    if isinstance(content, str):
        return content, []
    texts, rest = [], []
    for place, block in enumerate(content):
        if isinstance(block, str):
            texts.append(block)
        elif block.get("type") == "text":
            texts.append(str(block.get("text", "")))
        else:
            rest.append([place, content_of([block])])
    return "\n".join(texts), rest


def tools_used(messages: Collection[BaseMessage], *, leaving_out: Collection[str] = ()) -> frozenset[str]:
    """Names of the tools whose results are in `messages`; "?" for a result without a name and for a failed call.

    `leaving_out` are ids of calls that say nothing about the world, such as a search for tools.
    """
    names = {call["id"]: call["name"] for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}
    used = set()
    for message in messages:
        if isinstance(message, ToolMessage) and message.tool_call_id not in leaving_out:
            name = names.get(message.tool_call_id) or message.name
            used.add(name if name and message.status != "error" else "?")
    return frozenset(used)


def _spent(messages: Collection[BaseMessage]) -> UsageMetadata | None:
    total: UsageMetadata | None = None
    for message in messages:
        if isinstance(message, AIMessage) and message.usage_metadata:
            total = add_usage(total, message.usage_metadata)
    return total


@dataclass(frozen=True, slots=True)
class Asked:
    """How a turn is compared with others.

    Attributes:
        text: What is compared by meaning.
        equal: Earlier messages that must be equal.
        recalled: Earlier messages that are compared by meaning.
        exact_only: Why only the very same question counts, `None` if similar ones do, too.
        question: The last user text.
    """

    text: str
    equal: Sequence[BaseMessage]
    recalled: Sequence[BaseMessage]
    exact_only: str | None
    question: str

    @classmethod
    def of(cls, turn: Turn, history: str, max_tokens: int) -> Asked:
        spoken = [message for message in turn.earlier if message.type != "system"]
        if _too_long(turn.text, max_tokens):
            return cls(turn.text, turn.earlier, (), "longer than the embedder reads", turn.text)
        if spoken and needs_context(turn.text):
            return cls(turn.text, turn.earlier, (), "a follow-up that needs its context", turn.text)
        if history == "exact" or not spoken:
            return cls(turn.text, turn.earlier, (), None, turn.text)
        standing = [message for message in turn.earlier if message.type == "system"]
        if history == "ignore":
            return cls(turn.text, standing, (), None, turn.text)
        if not all(_is_text(message.content) for message in spoken):
            return cls(turn.text, turn.earlier, (), None, turn.text)  # pictures and files are not compared by meaning
        before = "\n".join(message.text for message in spoken[-_RECALLED:]).encode("utf-8", "replace")
        size = len(turn.text.encode("utf-8", "replace"))
        room = int(max_tokens * _BYTES_PER_TOKEN) - size - 1
        if room < min(len(before), max(_RECALLED_BYTES, size)):
            return cls(turn.text, turn.earlier, (), None, turn.text)  # too little of it would be read
        recalled = before[-min(room, max(_RECALLED_BYTES, _RECALLED_SHARE * size)) :]  # what was said last matters most
        return cls(f"{recalled.decode('utf-8', 'ignore')}\n{turn.text}", standing, spoken, None, turn.text)

    def exact(self) -> str:
        """Digest of what the very same question has in common with this one."""
        if not self.recalled:
            return text_digest(self.question)
        return digest([self.question, conversation(self.recalled)])


def _is_text(content: Any) -> bool:
    seen = content_of(content)
    return isinstance(seen, str) or all(block.get("type") == "text" for block in seen)


def _too_long(text: str, max_tokens: int) -> bool:
    return len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN > max_tokens


def text_digest(text: str) -> str:
    """Digest of a text; lone surrogates are fine."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
