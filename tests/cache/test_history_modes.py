"""What the earlier turns of a conversation must be for a hit: the same, anything, or alike."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokopt.cache import Bypass, CacheKey, SemanticCache, SemanticCacheMiddleware
from langchain_tokopt.cache.key import Asked, last_turn
from langchain_tokopt.errors import ConfigurationError
from tests.fakes import ScriptedModel

MODES = ["exact", "ignore", "semantic"]
QUESTION, ALIKE, OTHER = "How do I pay for a ticket?", "How can I pay for a ticket?", "Where do ships leave?"
FOLLOW_UP = "and how much is it?"
NORWAY = [HumanMessage("We travel to Norway in summer"), AIMessage("How nice, a country of fjords.")]
NORWAY_TOO = [HumanMessage("Our summer trip goes to Norway"), AIMessage("Fine, there are many fjords.")]
LAPTOP = [HumanMessage("My laptop is broken"), AIMessage("Hold the power button for ten seconds.")]
IMAGE = {"type": "image", "base64": "aGk=", "mime_type": "image/png"}
MEANINGS = {
    "Norway": [1.0, 0.0, 0.0, 0.0],
    "fjords": [1.0, 0.1, 0.0, 0.0],
    "laptop": [0.0, 1.0, 0.0, 0.0],
    "power button": [0.0, 1.0, 0.1, 0.0],
    "pay for": [0.0, 0.0, 1.5, 0.0],
    "ships": [0.0, 0.0, 0.0, 1.5],
}


class Meanings(Embeddings):
    """The sum of what is spoken of."""

    def embed_query(self, text: str) -> list[float]:
        vector = [1e-3] * 4
        for words, meaning in MEANINGS.items():
            if words in text:
                vector = [a + b for a, b in zip(vector, meaning, strict=True)]
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


class Talk:
    """An agent that says something else each time, so that an answer given again is known."""

    def __init__(self, history: Any, **settings: Any) -> None:
        self.cache = SemanticCache(embeddings=Meanings(), threshold=0.9, history=history, **settings)
        self.model = ScriptedModel(responses=[f"answer {number}" for number in range(20)])
        self.agent = create_agent(self.model, middleware=[SemanticCacheMiddleware(self.cache)])

    def how(self, *messages: Any, tenant: str | None = None) -> str | None:
        """How the last message was answered: "exact" or "semantic", `None` by the model."""
        given = [HumanMessage(message) if isinstance(message, (str, list)) else message for message in messages]
        state = self.agent.invoke({"messages": given}, {"configurable": {"tenant": tenant} if tenant else {}})
        note = state["messages"][-1].response_metadata.get("tokopt")
        return None if note is None else str(note["cache"])


# --- the three modes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        # the same, alike in the same talk, the same and alike in a similar talk, in another talk, without one
        ("exact", ["exact", "semantic", None, None, None, None]),
        ("ignore", ["exact", "semantic", "exact", "semantic", "exact", "exact"]),
        ("semantic", ["exact", "semantic", "semantic", "semantic", None, None]),
    ],
)
def test_what_hits_by_what_was_said_before(history: str, expected: list[str | None]) -> None:
    asked = [
        (*NORWAY, QUESTION),
        (*NORWAY, ALIKE),
        (*NORWAY_TOO, QUESTION),
        (*NORWAY_TOO, ALIKE),
        (*LAPTOP, QUESTION),
        (QUESTION,),
    ]
    found = []
    for messages in asked:
        talk = Talk(history)
        assert talk.how(*NORWAY, QUESTION) is None
        found.append(talk.how(*messages))
    assert found == expected


@pytest.mark.parametrize("history", MODES)
def test_another_question_in_the_same_talk_is_never_a_hit(history: str) -> None:
    talk = Talk(history)
    assert talk.how(*NORWAY, QUESTION) is None
    assert talk.how(*NORWAY, OTHER) is None


@pytest.mark.parametrize("history", MODES)
def test_a_follow_up_needs_the_very_same_talk_and_text(history: str) -> None:
    talk = Talk(history)
    assert talk.how(*NORWAY, FOLLOW_UP) is None
    assert talk.how(*NORWAY, FOLLOW_UP) == "exact"
    assert talk.how(*NORWAY, "and how much was it?") is None
    assert talk.how(*NORWAY_TOO, FOLLOW_UP) is None
    assert talk.how(*LAPTOP, FOLLOW_UP) is None
    assert talk.how(FOLLOW_UP) is None


@pytest.mark.parametrize("history", MODES)
def test_system_messages_in_the_talk_must_always_be_equal(history: str) -> None:
    talk = Talk(history)
    assert talk.how(SystemMessage("Be brief."), *NORWAY, QUESTION) is None
    assert talk.how(SystemMessage("Be long."), *NORWAY, QUESTION) is None
    assert talk.how(SystemMessage("Be brief."), *NORWAY, QUESTION) == "exact"


@pytest.mark.parametrize("history", MODES)
def test_tenants_share_no_talk(history: str) -> None:
    talk = Talk(history)
    assert talk.how(*NORWAY, QUESTION, tenant="a") is None
    assert talk.how(*NORWAY, QUESTION, tenant="b") is None
    assert talk.how(*NORWAY, ALIKE, tenant="a") == "semantic"


@pytest.mark.parametrize("history", MODES)
def test_a_thread_is_answered_as_its_own_turns_have_it(history: str) -> None:
    talk = Talk(history)
    agent = create_agent(
        talk.model, middleware=[SemanticCacheMiddleware(talk.cache)], checkpointer=InMemorySaver(), name="clerk"
    )

    def said(thread: str, question: str) -> str:
        state = agent.invoke({"messages": [HumanMessage(question)]}, {"configurable": {"thread_id": thread}})
        return str(state["messages"][-1].text)

    first = [said(thread, f"Tell me about {topic} in short") for thread, topic in (("a", "fjords"), ("b", "laptop"))]
    then = [said(thread, FOLLOW_UP) for thread in "ab"]
    assert len({*first, *then}) == 4


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", MODES)
def test_a_picture_in_the_question_must_be_the_same(history: str) -> None:
    talk = Talk(history)
    other = {**IMAGE, "base64": "aG8="}
    assert talk.how([{"type": "text", "text": QUESTION}, IMAGE]) is None
    assert talk.how([{"type": "text", "text": QUESTION}, other]) is None
    assert talk.how(QUESTION) is None
    assert talk.how([{"type": "text", "text": QUESTION}, IMAGE]) == "exact"
    assert talk.how([{"type": "text", "text": ALIKE}, IMAGE]) == "semantic"


def test_earlier_turns_with_a_picture_are_not_compared_by_meaning() -> None:
    talk = Talk("semantic")
    picture: list[Any] = [{"type": "text", "text": "We travel to Norway in summer"}, IMAGE]
    assert talk.how(HumanMessage(picture), NORWAY[1], QUESTION) is None
    assert talk.how(*NORWAY, QUESTION) is None
    assert talk.how(HumanMessage(picture), NORWAY_TOO[1], QUESTION) is None
    assert talk.how(HumanMessage(picture), NORWAY[1], QUESTION) == "exact"
    assert talk.how(HumanMessage(picture), NORWAY[1], ALIKE) == "semantic"


def test_earlier_turns_in_blocks_of_text_are_compared_by_meaning_whatever_was_thought() -> None:
    talk = Talk("semantic")
    said: list[Any] = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": NORWAY_TOO[1].text}]
    assert talk.how(*NORWAY, QUESTION) is None
    assert talk.how(NORWAY_TOO[0], AIMessage(said), QUESTION) == "semantic"


# --- what is compared ------------------------------------------------------------------------------------------------


def asked(messages: list[BaseMessage], max_tokens: int = 256) -> Asked:
    turn = last_turn(messages)
    assert not isinstance(turn, Bypass)
    return Asked.of(turn, "semantic", max_tokens)


def test_the_latest_turns_stand_before_the_question_and_never_outweigh_it() -> None:
    # Under a long context all questions look alike.
    long = [HumanMessage("x" * 900), AIMessage(f"{'y' * 900}the end")]
    found = asked([*long, HumanMessage(QUESTION)])
    assert found.text == f"{'y' * 143}the end\n{QUESTION}"
    question = f"{QUESTION} {'z' * 100}"
    assert asked([*long, HumanMessage(question)]).text == f"{'y' * (2 * len(question) - 7)}the end\n{question}"
    assert asked([*NORWAY, HumanMessage(QUESTION)]).text == "\n".join([*(m.text for m in NORWAY), QUESTION])


def test_turns_before_the_latest_two_messages_count_for_the_very_same_question_only() -> None:
    one, other = (asked([*talk, *NORWAY, HumanMessage(QUESTION)]) for talk in (LAPTOP, []))
    assert one.text == other.text
    assert one.exact() != other.exact()


def test_where_the_embedder_would_read_too_little_of_them_the_earlier_turns_must_be_equal() -> None:
    question = "Please say whether the harbour is closed " + "to ships of all kinds " * 20
    talk = [HumanMessage("x" * 600), AIMessage("y" * 600)]
    size = len(question.strip())
    messages = [*talk, HumanMessage(question)]
    assert asked(messages, max_tokens=1_000).text == f"{'x' * (2 * size - 601)}\n{'y' * 600}\n{question.strip()}"
    both = size * 2 + 1
    found = asked(messages, max_tokens=-(-both * 2 // 7))
    assert (found.equal, found.recalled) == ([], talk)
    assert found.text.endswith(f"y\n{question.strip()}")
    assert size * 2 <= len(found.text) <= both + 3
    found = asked(messages, max_tokens=both * 2 // 7 - 1)
    assert (found.equal, found.recalled, found.text) == (talk, (), question.strip())
    assert found.exact_only is None  # similar questions count, in the very same talk
    assert asked(messages, max_tokens=100).exact_only == "longer than the embedder reads"


def test_text_that_is_cut_inside_of_a_character_is_still_text() -> None:
    found = asked([HumanMessage("x"), AIMessage("\u00e5" * 400), HumanMessage(QUESTION + "!")])
    assert set(found.text.partition("\n")[0]) == {"\u00e5"}
    lone = asked([HumanMessage("\ud800"), AIMessage("\ud800"), HumanMessage(QUESTION)])
    assert lone.text.endswith(QUESTION)
    assert len(lone.exact()) == 64


@pytest.mark.parametrize("history", ["none", None, True, [], 3])
def test_another_mode_is_refused(history: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        SemanticCache(history=history)
    assert raised.value.argument == "history"


def test_the_key_says_what_is_compared() -> None:
    from langchain.agents.middleware.types import ModelRequest

    request: Any = ModelRequest(model=ScriptedModel(), messages=[*NORWAY, HumanMessage(QUESTION)])
    keys = {}
    for mode in MODES:
        key = SemanticCache(history=mode).key(request)  # type: ignore[arg-type]
        assert isinstance(key, CacheKey)
        keys[mode] = key
    assert keys["exact"].text == keys["ignore"].text == QUESTION
    assert keys["semantic"].text.endswith(QUESTION)
    assert keys["ignore"].scope == keys["semantic"].scope != keys["exact"].scope
