"""How much time the whole standard stack adds to a model call that it cannot answer itself (a cache miss).

    python -m benchmarks.overhead [--calls N] [--json OUT]

Each call is a turn of a conversation that has a given number of tokens behind it, with a given number of tools, and
asks something new. The model answers at once and the embedder is a table, so what remains is the optimiser's own
time: the difference to the same call without it. Figures are milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, StructuredTool

from benchmarks.rows import Measure, publish
from langchain_tokopt import TokenCounter, TokenOptimizer

HISTORIES = (1_000, 10_000, 100_000)
TOOLS = (10, 30, 100, 1_000)
WARM_UP = 3


class AtOnce(BaseChatModel):
    """A model that is never really called: the benchmark's handler answers in its place."""

    model_name: str = "gpt-5-mini"

    @property
    def _llm_type(self) -> str:
        return "at-once"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop=stop, **kwargs), "ls_provider": "openai"}

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("ok"))])


class HashEmbeddings(Embeddings):
    """A direction of its own for each text, at next to no cost: the embedder's time is not what is measured."""

    def embed_query(self, text: str) -> list[float]:
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        vector = [0.0] * 384
        for shift in range(0, 48, 12):
            vector[(seed >> shift) % 384] += 1.0
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def words(rng: random.Random, count: int) -> str:
    """Text of about `count` tokens: words of an ordinary length distribution."""
    letters = "etaoinshrdlucmfwypvbgk"
    return " ".join("".join(rng.choices(letters, k=rng.randint(2, 8))) for _ in range(count))


def history(rng: random.Random, counter: TokenCounter, tokens: int) -> list[AnyMessage]:
    """A conversation of about `tokens` tokens: questions, tool calls with their results, answers."""
    messages: list[AnyMessage] = []
    total = 0
    while total < tokens:
        call = f"call_{len(messages)}"
        turn: list[AnyMessage] = [
            HumanMessage(words(rng, 30), id=f"h{len(messages)}"),
            AIMessage(
                "",
                tool_calls=[{"name": "tool_0", "args": {"query": words(rng, 4)}, "id": call}],
                id=f"c{len(messages)}",
            ),
            ToolMessage(
                "\n".join(words(rng, 12) for _ in range(20)), tool_call_id=call, name="tool_0", id=f"t{len(messages)}"
            ),
            AIMessage(words(rng, 60), id=f"a{len(messages)}"),
        ]
        messages.extend(turn)
        total += counter.messages(turn)
    return messages


def tools(rng: random.Random, count: int) -> list[BaseTool]:
    """Tools with a description and two described parameters each."""
    made: list[BaseTool] = []
    for number in range(count):
        schema = {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": words(rng, 8)},
                "limit": {"type": "integer", "description": words(rng, 8)},
            },
            "required": ["query"],
        }
        made.append(
            StructuredTool.from_function(
                lambda **kwargs: str(kwargs), name=f"tool_{number}", description=words(rng, 25), args_schema=schema
            )
        )
    return made


def answer(_: ModelRequest[Any]) -> ModelResponse[Any]:
    """What the model would say, with usage, as a provider reports it."""
    usage = UsageMetadata(input_tokens=1000, output_tokens=10, total_tokens=1010)
    return ModelResponse(
        result=[AIMessage("done", usage_metadata=usage, response_metadata={"model_name": "gpt-5-mini"})]
    )


async def aanswer(request: ModelRequest[Any]) -> ModelResponse[Any]:
    """The same, async."""
    return answer(request)


def chained(optimizer: TokenOptimizer) -> Callable[[ModelRequest[Any]], Any]:
    """The middleware around `answer`, as `create_agent` nests them."""
    handler: Callable[[ModelRequest[Any]], Any] = answer
    for middleware in reversed(optimizer.middleware):
        handler = _around(middleware.wrap_model_call, handler)
    return handler


def achained(optimizer: TokenOptimizer) -> Callable[[ModelRequest[Any]], Any]:
    """The same, async."""
    handler: Callable[[ModelRequest[Any]], Any] = aanswer
    for middleware in reversed(optimizer.middleware):
        handler = _around(middleware.awrap_model_call, handler)
    return handler


def _around(wrap: Callable[..., Any], inner: Callable[..., Any]) -> Callable[[ModelRequest[Any]], Any]:
    return lambda request: wrap(request, inner)


def requests(counter: TokenCounter, tokens: int, count: int, calls: int, seed: int) -> list[ModelRequest[Any]]:
    """Turns of a conversation of that length; each asks something new, so the cache cannot answer."""
    rng = random.Random(seed)
    past, bound, model = history(rng, counter, tokens), tools(rng, count), AtOnce()
    system = SystemMessage(words(rng, 200))
    made: list[ModelRequest[Any]] = []
    for number in range(calls):
        question = HumanMessage(f"{words(rng, 12)} {number}", id=f"q{number}")
        made.append(ModelRequest(model=model, messages=[*past, question], system_message=system, tools=list(bound)))
    return made


def measured(run: Callable[[ModelRequest[Any]], Any], turns: list[ModelRequest[Any]]) -> list[float]:
    """Milliseconds of each call after the warm-up."""
    times: list[float] = []
    for turn in turns:
        started = time.perf_counter()
        run(turn)
        times.append((time.perf_counter() - started) * 1000)
    return times[WARM_UP:]


def _blocking(loop: asyncio.AbstractEventLoop, run: Callable[..., Any]) -> Callable[[ModelRequest[Any]], Any]:
    return lambda turn: loop.run_until_complete(run(turn))


def percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def compare(tokens: int, count: int, calls: int, seed: int) -> list[Measure]:
    """Added time of the whole stack at one size, sync and async."""
    at = f"{tokens}/{count}"
    rows: list[Measure] = []
    counter = TokenCounter()
    for method in ("sync", "async"):
        turns = requests(counter, tokens, count, calls + WARM_UP, seed)
        with TokenOptimizer.preset("standard", embeddings=HashEmbeddings()) as optimizer:
            if method == "sync":
                bare = statistics.median(measured(answer, turns))
                times = measured(chained(optimizer), turns)
            else:
                with closing(asyncio.new_event_loop()) as loop:
                    bare = statistics.median(measured(_blocking(loop, aanswer), turns))
                    times = measured(_blocking(loop, achained(optimizer)), turns)
        rows.append(Measure(method, "added_p50_ms", at, max(0.0, statistics.median(times) - bare)))
        rows.append(Measure(method, "added_p95_ms", at, max(0.0, percentile(times, 0.95) - bare)))
    return rows


def main(argv: list[str] | None = None) -> int:
    """Measure every size and publish the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="not used: this benchmark makes its own data")
    parser.add_argument("--calls", type=int, default=100, help="calls measured at each size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", nargs="*", metavar="TOKENS/TOOLS", help="only these, such as 10000/30")
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    sizes = [tuple(map(int, size.split("/"))) for size in args.sizes or []]
    rows: list[Measure] = []
    for tokens, count in sizes or [(tokens, count) for tokens in HISTORIES for count in TOOLS]:
        rows.extend(compare(tokens, count, args.calls, args.seed))
    publish("overhead", "made here", rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
