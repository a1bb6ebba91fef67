"""A long conversation about many offices, each with a word of its own, and a model that answers by what it is shown."""

from __future__ import annotations

import json
import re
from typing import Any

from langchain_core.messages import HumanMessage

from tests.providers.long_runs import OURS, thread
from tests.providers.replies import Asked, Reply, ToolCall
from tests.providers.server import Record

_CITIES = """
    Lisbon Oslo Vienna Prague Athens Dublin Madrid Warsaw Zagreb Tallinn Riga Vilnius Sofia Bucharest Budapest Berne
    Brussels Paris Berlin Rome Helsinki Stockholm Copenhagen Reykjavik Valletta Nicosia Ljubljana Bratislava Skopje
    Tirana Belgrade Sarajevo
"""
CITIES = _CITIES.split()
ASIDES = (
    "the lift there was slow again and the people on the stairs were friendly about it",
    "somebody has watered the plants at last and moved the old chairs to the cellar",
    "the coffee was cold but the view over the river made up for it in the evening",
    "the post came late because of the rain and nobody minded it very much",
)


def word(city: str) -> str:
    """The word that opens the door of an office."""
    return f"{city[::-1].lower()}-{len(city) * 137 + ord(city[1])}"


def told(city: str, at: int) -> str:
    """What the user says about an office."""
    talk = " ".join(f"In {city} {ASIDES[(at + n) % 4]}, as I said on day {n + 1} of the trip." for n in range(6))
    return f"{talk} The password of the {city} office is {word(city)}. {talk} What do you make of it?"


def question(city: str) -> str:
    return f"What is the password of the {city} office?"


class Listener:
    """A policy: makes small talk, and answers questions about offices by what it is shown.

    `looks` is the city that it wants to see the original talk of.
    """

    def __init__(self, looks: str = "") -> None:
        self.looks = looks

    def __call__(self, asked: Asked) -> Reply:
        newest, shown = asked.last_user, all_text(asked)
        found = re.search(r"What is the password of the (\w+) office\?$", newest)
        if found is None:
            city = next(city for city in CITIES if city in newest)
            return Reply(text=f"Thank you for telling me about {city}. " + f"I see that {ASIDES[len(city) % 4]}. " * 12)
        if found[1] == self.looks and not asked.turn_results:
            marks = re.findall(rf'{OURS}\("(\w+)"\)', shown)
            assert OURS in asked.offered
            return Reply(
                tool_calls=(ToolCall(name=OURS, args={"id": marks[0], "query": f"password {found[1]} office"}),)
            )
        if self.looks:
            shown = "\n".join(asked.turn_results)
        answer = re.search(rf"password of the {found[1]} office is ([\w-]+)", shown)
        return Reply(text=f"It is {answer[1]}." if answer else "I do not know.")


def all_text(asked: Asked) -> str:
    items = asked.body.get("messages") or asked.body["input"]
    return "\n".join(strings(items))


def strings(value: Any) -> list[str]:
    """All strings in it, in their order."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in strings(each)]


def talk(agent: Any, name: str, turns: int = len(CITIES)) -> None:
    """Tell of so many offices."""
    for at, city in enumerate(CITIES[:turns]):
        agent.invoke({"messages": [HumanMessage(told(city, at))]}, thread(name))


def user_texts(record: Record) -> list[str]:
    """All that stands for a user in a request, one text for each message or block."""
    items = record.body.get("messages") or record.body["input"]
    found: list[str] = []
    for item in items:
        if item.get("role") == "user":
            content = item["content"]
            blocks = [content] if isinstance(content, str) else content
            found += [block if isinstance(block, str) else block.get("text", json.dumps(block)) for block in blocks]
    return found
