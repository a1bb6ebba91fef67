"""Conversations for tests of chat memory."""

from __future__ import annotations

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

FACTS = {
    3: "My passport number is X4471293 and I fly to Lisbon on 14 March.",
    5: "We decided to use PostgreSQL for the billing service, because of row locks.",
    8: "Please never book hotels above 180 euros a night.",
}
FILLER = (
    "The weather was rather nice, and we walked along the river for a while.",
    "Dinner was good, the soup perhaps a little salty, but nobody minded.",
    "That sounds lovely, I am so glad to hear it.",
    "Some days are like that, and others are not.",
)


def small_talk(number: int) -> str:
    return " ".join(FILLER[(number + step) % len(FILLER)] for step in range(3))


def chat(turns: int = 30) -> list[BaseMessage]:
    """A thread of small talk in which a few turns say something that matters."""
    messages: list[BaseMessage] = [
        SystemMessage("You are a friendly assistant."),
        HumanMessage("Help me plan my year."),
    ]
    for number in range(turns):
        messages.append(AIMessage(f"Of course. {small_talk(number)}"))
        messages.append(HumanMessage(f"{FACTS.get(number, '')} {small_talk(number + 1)}".strip()))
    return messages


def with_tool(call_id: str, result: str) -> list[BaseMessage]:
    """A human message, a tool call, its result and an answer."""
    call = {"type": "tool_call", "id": call_id, "name": "find_flights", "args": {"to": "LIS", "max_price": 240}}
    return [
        HumanMessage("Find me a flight."),
        AIMessage("", tool_calls=[call]),
        ToolMessage(result, tool_call_id=call_id),
        AIMessage("I found one."),
    ]
