"""A tool that tells the weather, a model that asks it about two cities, and the form of an answer."""

from __future__ import annotations

from langchain_core.tools import tool
from pydantic import BaseModel

from tests.providers.replies import Asked, Reply, ToolCall


@tool
def weather(city: str) -> str:
    """Today's weather in a city."""
    return f"{city}: 21 c"


class Answer(BaseModel):
    """The final answer."""

    city: str
    degrees: int


def look_up(asked: Asked) -> Reply:
    """Two calls at once, then an answer made of their results."""
    if not asked.turn_results:
        calls = (ToolCall(name="weather", args={"city": "Rome"}), ToolCall(name="weather", args={"city": "Oslo"}))
        return Reply(thinking="Two cities.", text="One moment.", tool_calls=calls)
    return Reply(thinking="Good.", text=f"It is {' and '.join(asked.turn_results)}.")
