"""The short form of a block: whole sentences that say most."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.memory.blocks import Block, Turn, cut
from langchain_tokopt.context.memory.extract import Digest, digests
from langchain_tokopt.context.memory.names import identifiers
from langchain_tokopt.context.memory.render import MARK
from langchain_tokopt.context.ranking.sentences import sentences
from langchain_tokopt.errors import ConfigurationError
from tests.context.memory.threads import FACTS, chat, with_tool
from tests.strategies import message_lists


def of(*messages: BaseMessage, ratio: float = 0.5) -> Digest:
    block = Block(0, (Turn(0, messages, sum(text_size(str(one.text)) + 4 for one in messages)),))
    return next(digests([block], ratio=ratio))


def test_facts_survive_and_small_talk_goes() -> None:
    blocks = cut(chat(40), block_tokens=1_000, keep_tokens=500).blocks
    shown = "\n".join(digest.text for digest in digests(blocks, ratio=0.2))
    assert [fact for fact in FACTS.values() if fact not in shown] == []
    assert shown.count("walked along the river") <= len(blocks)


def test_a_digest_keeps_to_its_ratio() -> None:
    blocks = cut(chat(40), block_tokens=1_000, keep_tokens=500).blocks
    for ratio in (0.1, 0.2, 0.5):
        for digest in digests(blocks, ratio=ratio):
            assert text_size(digest.text) <= 1.1 * ratio * digest.block.size + 5


def test_each_block_may_have_its_own_ratio() -> None:
    blocks = cut(chat(40), block_tokens=1_000, keep_tokens=500).blocks[:2]
    first, second = digests(blocks, ratio=(0.0, 0.3))
    assert first.text == ""
    assert second.text == list(digests(blocks, ratio=0.3))[1].text


def test_a_short_answer_stays_with_its_question() -> None:
    digest = of(
        HumanMessage("That was a long and quiet day for all of us here."),
        AIMessage("Which airport do you leave from?"),
        HumanMessage("From Porto."),
        AIMessage("It is good that it was quiet and long and not loud."),
        ratio=0.5,
    )
    assert "Which airport do you leave from?\nUser: From Porto." in digest.text


def test_a_call_and_its_result_are_one_line() -> None:
    digest = of(
        *with_tool("a", "TP-1180 leaves 07:40. " + "Nothing else of interest here. " * 40 + "ref QX77Z"), ratio=1
    )
    line = next(line for line in digest.text.splitlines() if line.startswith("[tool]"))
    assert line.startswith('[tool] find_flights(to="LIS", max_price=240) -> TP-1180 leaves 07:40.')
    assert line.endswith("[QX77Z]")


def test_the_digest_is_one_message_that_names_the_original() -> None:
    digest = of(*chat(5)[1:])
    message, *rest = digest.messages()
    assert rest == []
    assert isinstance(message, HumanMessage)
    assert message.additional_kwargs == {MARK: "digest"}
    assert message.text == (
        f'[Earlier conversation, shortened; retrieve_original("{digest.block.handle}") has all of it]\n{digest.text}'
    )
    assert digest.messages(retrievable=False)[0].text == f"[Earlier conversation, shortened]\n{digest.text}"


def test_what_stays_comes_after_the_digest() -> None:
    picture = HumanMessage([{"type": "image", "url": "https://example.com/a.png"}])
    assert of(HumanMessage("Hello there"), picture).messages()[1:] == [picture]


def test_lists_and_code_keep_their_lines() -> None:
    answer = "Steps:\n- install ripgrep 14.1\n- run rg --files\n- read README.md"
    assert of(AIMessage(answer), ratio=1).text == f"Assistant: {answer}"


def test_known_digests_are_not_made_again_and_change_nothing() -> None:
    blocks = cut(chat(40), block_tokens=1_000, keep_tokens=500).blocks
    everything = list(digests(blocks))
    assert list(digests(blocks, known=everything[:2])) == everything[2:]


def test_a_ratio_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="ratio"):
        list(digests([], ratio=(1.5,)))


@examples(deadline=None, max_examples=60)
@given(message_lists(), st.floats(0, 1))
def test_a_digest_has_whole_sentences_only_and_depends_on_nothing_later(
    messages: list[BaseMessage], ratio: float
) -> None:
    blocks = cut(messages, block_tokens=20, keep_tokens=0).blocks
    found = list(digests(blocks, ratio=ratio))
    for count, digest in enumerate(found, 1):
        assert list(digests(blocks[:count], ratio=ratio))[-1] == digest
        for place, numbers in digest.shown.items():
            line = digest.block.lines[place]
            whole = sentences(line.text) if line.kind == "said" else [""]
            assert numbers <= set(range(len(whole)))
            if line.kind == "said":
                assert all(whole[number].strip() in digest.text for number in numbers)


def test_every_process_makes_the_same_bytes() -> None:
    program = (
        "import hashlib\n"
        "from langchain_tokopt.context.memory import ChatMemory\n"
        "from langchain_core.messages import HumanMessage\n"
        "from tests.context.memory.threads import chat\n"
        "thread = [*chat(60), HumanMessage('What is my passport number, and which hotels may be booked?')]\n"
        "view = ChatMemory(block_tokens=900, keep_tokens=300).view(thread)\n"
        "print(len(view), hashlib.sha256(repr([m.text for m in view]).encode()).hexdigest())\n"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(seen) == 1


def test_identifiers_are_found_in_their_order_and_once() -> None:
    text = "See src/app.py:12, mail a.b@example.com; PO-7731 (PO-7731) costs $12.50 in the EU or UNESCO, getUser2 now."
    assert identifiers(text) == [
        "src/app.py:12",
        "a.b@example.com",
        "PO-7731",
        "12.50",
        "UNESCO",
        "getUser2",
    ]
