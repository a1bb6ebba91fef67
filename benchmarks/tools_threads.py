"""Threads of an agent whose model knows which tools it needs, to count what each way of binding tools costs.

A thread is a few turns of a user. Each turn is three model calls: two that call tools, one that answers. What the user
says and which tools that takes is data; the rest is text without meaning, of the sizes below. A tool that the model was
not shown is searched for first, if there is something to search with. Nothing here knows how tools are chosen: a way of
binding is a function around the model call, as a middleware is.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool

from langchain_tokopt.flow import plain
from langchain_tokopt.lexical import words
from langchain_tokopt.tools.schema import ToolSpec, spec_of, tool_name
from langchain_tokopt.tools.search import NAMES as SEARCHERS

TURNS = 6
CALLS_PER_TURN = 3
SYSTEM_TOKENS = 800
RESULT_TOKENS = 450
ANSWER_TOKENS = 120
CALL_TOKENS = 30  # of an answer's tokens: about those of the call in it
SEARCH_TOKENS = 60
SEARCHES_PER_TOOL = 2  # with the tool's summary, then with its name; after that the model calls the tool blindly

_CALLER = "call_tool"
# Words of one token each, so that a number of words is a number of tokens.
_WORDS = """
the of and to in for on with as at by from this that which are was were has have not but all more other some time year
way day thing man world life hand part place case week company system program question work number point home water
""".split()  # noqa: SIM905 - one word a list entry would fill the screen

Handler: TypeAlias = "Callable[[ModelRequest[Any]], ModelResponse[Any]]"
Wrap: TypeAlias = "Callable[[ModelRequest[Any], Handler], Any]"


@dataclass(frozen=True)
class Turn:
    """What a user says, and the tools that it takes to answer. `before`: those of the dialog's earlier turns."""

    text: str
    tools: tuple[str, ...]
    dialog: str | None = None
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sent:
    """One model call. `kind`: "step" of the agent, "search" for a step that only searched for tools, or "selector"."""

    kind: str
    request: ModelRequest[Any]
    answer: AIMessage


@dataclass
class Conversation:
    """One thread, from its first message to its last.

    Attributes:
        name: Tells its texts from those of other threads.
        tools: All tools of the agent.
        specs: The same tools by name.
        model: The chat model that requests are for; it is never called.
        settings: The model settings of each request.
        sent: Every model call, in order.
        needed: How many tools were needed, each once in each turn.
        reached: How many of these the model could call, having been shown how.
    """

    name: str
    turns: Sequence[Turn]
    tools: Sequence[BaseTool]
    specs: Mapping[str, ToolSpec]
    model: BaseChatModel
    settings: Mapping[str, Any]
    sent: list[Sent] = field(default_factory=list)
    needed: int = 0
    reached: int = 0
    _messages: list[AnyMessage] = field(default_factory=list)
    _turn: Turn = Turn("", ())
    _wanted: Sequence[str] = ()
    _said: str = ""
    _searched: dict[str, int] = field(default_factory=dict)

    @property
    def turn(self) -> Turn:
        """The turn that is being answered."""
        return self._turn

    def run(self, wrap: Wrap) -> None:
        """Play the thread with `wrap` around each model call."""
        for number, turn in enumerate(self.turns):
            self._turn = turn
            self._searched = {}
            met: set[str] = set()
            self._messages.append(HumanMessage(turn.text, id=f"{self.name}/{number}"))
            for step, wanted in enumerate(steps(turn.tools)):
                self._said = f"{self.name}/{number}/{step}"
                self._wanted = wanted
                new = set(wanted) - met
                met |= new
                self.needed += len(new)
                before = len(self.sent)
                response = plain(wrap(self.request(self._messages, self.tools), self._answer))
                if new:
                    shown = self.sent[-1].request if len(self.sent) > before else None
                    self.reached += sum(shown is not None and can_call(shown, name, self.specs) for name in new)
                self._messages += response.result
                self._messages += self._results(response.result)

    def request(
        self, messages: Iterable[BaseMessage], tools: Iterable[Any], system: SystemMessage | None = None
    ) -> ModelRequest[Any]:
        """A request of this thread, with the agent's system prompt unless another is given."""
        listed: list[Any] = list(messages)
        return ModelRequest(
            model=self.model,
            messages=listed,
            system_message=system or SystemMessage(filler(SYSTEM_TOKENS, "system")),
            tools=list(tools),
            state={"messages": list(listed)},
            model_settings=dict(self.settings),
        )

    def record(self, kind: str, request: ModelRequest[Any], answer: AIMessage) -> None:
        """Put a model call on record."""
        self.sent.append(Sent(kind, request, answer))

    def _answer(self, request: ModelRequest[Any]) -> ModelResponse[Any]:
        """What the model answers to what it was really sent."""
        searcher = next((name for name in bound(request) if name in SEARCHERS and name not in self.specs), None)
        lacking = [name for name in self._wanted if not can_call(request, name, self.specs)]
        looked_for = [name for name in lacking if self._searched.get(name, 0) < SEARCHES_PER_TOOL]
        if searcher is not None and looked_for:
            calls = [(searcher, {"query": self._search(name)}) for name in looked_for]
            kind, text = "search", filler(SEARCH_TOKENS - CALL_TOKENS, self._said, "search", len(self.sent))
        else:
            calls = [self._call(request, name) for name in self._wanted]
            tokens = ANSWER_TOKENS - (CALL_TOKENS if calls else 0)
            kind, text = "step", filler(tokens, self._said, "answer")
        at = len(self.sent)
        answer = AIMessage(
            text,
            id=f"{self._said}/{at}",
            tool_calls=[
                {"name": name, "args": arguments, "id": f"call_{at}_{number}", "type": "tool_call"}
                for number, (name, arguments) in enumerate(calls)
            ],
        )
        self.record(kind, request, answer)
        return ModelResponse(result=[answer])

    def _search(self, name: str) -> str:
        tries = self._searched[name] = self._searched.get(name, 0) + 1
        return (self.specs[name].summary if tries == 1 else "") or words(name)

    def _call(self, request: ModelRequest[Any], name: str) -> tuple[str, dict[str, Any]]:
        required = self.specs[name].parameters.get("required") or ()
        arguments = {parameter: filler(4, self._said, parameter) for parameter in list(required)[:4]}
        names = bound(request)
        if name not in names and name not in added(request) and _CALLER in names and _CALLER not in self.specs:
            return _CALLER, {"name": name, "arguments": arguments}
        return name, arguments

    def _results(self, result: Sequence[BaseMessage]) -> list[AnyMessage]:
        answered = {message.tool_call_id for message in result if isinstance(message, ToolMessage)}
        calls = [call for message in result if isinstance(message, AIMessage) for call in message.tool_calls]
        return [
            ToolMessage(
                filler(RESULT_TOKENS, self._said, number),
                tool_call_id=call["id"],
                name=call["name"],
                id=f"{self._said}/result {number}",
            )
            for number, call in enumerate(calls)
            if call["id"] not in answered
        ]


def steps(names: Sequence[str]) -> list[Sequence[str]]:
    """The tools that each model call of a turn uses; none in the last, which answers."""
    calling = CALLS_PER_TURN - 1
    return [*(names[at::calling] or names[-1:] for at in range(calling)), ()]


def bound(request: ModelRequest[Any]) -> list[str]:
    """The names of the tools in the request's tool list."""
    return [name for tool in request.tools if (name := tool_name(tool)) is not None]


def added(request: ModelRequest[Any]) -> set[str]:
    """The names of the tools that system messages in the conversation define."""
    contents = [message.content for message in request.messages if isinstance(message, SystemMessage)]
    return {
        name
        for content in contents
        if isinstance(content, list)
        for name in _NAMED.findall(json.dumps(content, ensure_ascii=False))
    }


_NAMED = re.compile(r'"name": "([^"]+)"')


def can_call(request: ModelRequest[Any], name: str, specs: Mapping[str, ToolSpec]) -> bool:
    """Whether the model was shown how to call this tool.

    It is in the tool list, or defined in the conversation; or a line of a message says how it is called, and there is a
    tool that calls others.
    """
    names = bound(request)
    if name in names or name in added(request):
        return True
    if _CALLER not in names or _CALLER in specs:
        return False
    line = re.compile(rf"^- {re.escape(name)}(?=[:(]|$)", re.MULTILINE)
    return any(line.search(message.text) for message in request.messages)


def filler(tokens: int, *key: object) -> str:
    """Text of about that many tokens, the same for the same key."""
    return " ".join(random.Random(repr(key)).choices(_WORDS, k=tokens))


def as_tools(rows: Sequence[Mapping[str, Any]]) -> list[BaseTool]:
    """Tools for an agent from the rows of a registry."""
    return [
        StructuredTool.from_function(
            lambda **_: "",
            name=row["name"],
            description=row["description"] or row["name"],
            args_schema=row["parameters"],
        )
        for row in rows
    ]


def specs_of(tools: Sequence[BaseTool]) -> dict[str, ToolSpec]:
    """What is known of each tool, by name."""
    return {spec.name: spec for tool in tools if (spec := spec_of(tool)) is not None}


def drawn(
    turns: Sequence[Turn], names: Sequence[str], count: int, size: int, seed: int
) -> tuple[set[str], list[list[Turn]]]:
    """`size` of the tools `names`, and `count` threads that need no others.

    Turns of a dialog stay together and in order; a dialog that is shorter than a thread is followed by another one.
    Returns no threads when no turn can do with so few tools.
    """
    rng = random.Random(f"{seed}/{size}")
    dialogs: dict[str, list[Turn]] = {}
    for number, turn in enumerate(turns):
        dialogs.setdefault(turn.dialog or f" {number}", []).append(turn)
    order = list(dialogs.values())
    rng.shuffle(order)
    chosen: set[str] = set()
    for dialog in order:
        more = chosen.union(*(turn.tools for turn in dialog))
        if len(more) <= size:
            chosen = more
    rest = [name for name in names if name not in chosen]
    chosen |= set(rng.sample(rest, min(len(rest), size - len(chosen))))
    fitting = [turn for dialog in order for turn in dialog if chosen.issuperset(turn.tools)]
    if not fitting:
        return chosen, []
    # Where few turns fit they are said again, by another thread or later in the same.
    return chosen, [[fitting[(at * TURNS + turn) % len(fitting)] for turn in range(TURNS)] for at in range(count)]
