"""The short form of a block: whole sentences that say most, chosen once, without knowing what will be asked."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_tokopt.context.lossless.size import Size, text_size
from langchain_tokopt.context.memory.blocks import Block
from langchain_tokopt.context.memory.names import identifiers
from langchain_tokopt.context.memory.render import MARK, Line, ends_of, rendered
from langchain_tokopt.context.memory.salience import QUESTION_MARKS, Frequencies, distinct_terms, salience
from langchain_tokopt.context.ranking.sentences import sentences
from langchain_tokopt.errors import ConfigurationError

RATIO: Final = 0.2
_SHORT_ANSWER: Final = 8  # terms
_LONG: Final = 60  # tokens; what is longer has to be worth its place
_LABEL: Final = 4  # tokens of a speaker's name and a line end
_HEAD: Final = 160  # characters of a tool's result
_ARGUMENTS: Final = 160
_VALUE: Final = 60
_READ: Final = 200  # identifiers
# Characters that are read of what somebody says, and of a tool's result.
_LONGEST: Final = 200_000
LONGEST_RESULT: Final = 60_000
_NAMED: Final = 12  # identifiers of a tool's result


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a block.

    Attributes:
        line: The place of its line in `block.lines`.
        number: Its place in the line, from 0.
        text: The sentence, with the space behind it; of a call or a result all that a digest would show.
        words: Its terms.
        size: About how many tokens it has.
    """

    line: int
    number: int
    text: str
    words: frozenset[str]
    size: int


@dataclass(frozen=True)
class Digest:
    """A block in short.

    Attributes:
        block: The block.
        text: What is shown instead of it.
        shown: Of which sentences of a line, by the line's place in `block.lines`, the text consists; of a tool's result
            it has no more than the beginning.
        kind: Whether its sentences are the block's own, or a summary's.
        sentences: All sentences of the block.
    """

    block: Block
    text: str
    shown: Mapping[int, frozenset[int]] = field(default_factory=dict)
    kind: Literal["digest", "summary"] = "digest"
    sentences: tuple[Sentence, ...] = field(default=(), repr=False)

    def messages(self, *, retrievable: bool = True) -> list[BaseMessage]:
        """What the model is shown instead of the block: the digest, and the messages that no text can stand for.

        `retrievable`: whether the model can ask for the original.
        """
        more = f'; retrieve_original("{self.block.handle}") has all of it' if retrievable else ""
        done = "summarized" if self.kind == "summary" else "shortened"
        text = f"[Earlier conversation, {done}{more}]\n{self.text}".rstrip()
        return [HumanMessage(text, additional_kwargs={MARK: self.kind}), *self.block.kept]


def digests(
    blocks: Sequence[Block],
    *,
    ratio: float | Sequence[float] = RATIO,
    known: Sequence[Digest] = (),
    size: Size = text_size,
) -> Iterator[Digest]:
    """Each block in short. What a block's digest is depends on that block and on those before it.

    Args:
        blocks: The blocks of a thread, from its first on.
        ratio: Which part of a block's tokens its digest may have; a sequence has one for each block.
        known: Digests of the first blocks, at any ratio. Only those of the blocks after them are made.
        size: Says how many tokens a text has.

    Raises:
        ConfigurationError: A ratio is not between 0 and 1.
    """
    ratios = [ratio] * len(blocks) if isinstance(ratio, (int, float)) else list(ratio)
    for one in ratios:
        if not 0 <= one <= 1:
            raise ConfigurationError("ratio", one, "use a share of the tokens between 0 and 1")
    frequencies = Frequencies()
    for digest in known:
        frequencies.add(sentence.words for sentence in digest.sentences)
    for block, share in list(zip(blocks, ratios, strict=True))[len(known) :]:
        found = tuple(_sentences(block, size))
        frequencies.add(sentence.words for sentence in found)
        yield _digest(block, found, frequencies, share)


def _sentences(block: Block, size: Size) -> Iterator[Sentence]:
    calls = {line.call_id: line.text for line in block.lines if line.kind == "call"}
    answered = {line.call_id for line in block.lines if line.kind == "result"}
    for place, line in enumerate(block.lines):
        if line.kind == "call" and line.call_id in answered:
            continue  # its result says it
        whole = ends_of(line.text, _LONGEST) if line.kind == "said" else tool_line(line, calls.get(line.call_id, ""))
        # A line is measured as a whole, and each sentence has its share: it is cheaper, and adds up.
        per_character = size(whole) / max(1, len(whole))
        for number, text in enumerate(sentences(whole) if line.kind == "said" else [whole]):
            if text.strip():
                tokens = math.ceil(len(text) * per_character)
                yield Sentence(place, number, text, distinct_terms(text), tokens)


def tool_line(line: Line, arguments: str = "") -> str:
    """A call as its arguments, a result as its beginning and the identifiers in it; one line."""
    if line.kind == "call":
        return f"({_short_arguments(line.text)})"
    flat = " ".join(ends_of(line.text, LONGEST_RESULT).split())
    head = _clipped(flat, _HEAD)
    named = [name for name in identifiers(flat[len(head) - 1 :])[:_READ] if name not in head] if flat != head else []
    more = f" [{', '.join(named[:_NAMED])}]" if named else ""
    return f"({_short_arguments(arguments)}) -> {head}{more}"


def _short_arguments(text: str) -> str:
    """Arguments without their braces, each value that is long cut off."""
    try:
        read = json.loads(text)
    except ValueError:
        return _clipped(text, _ARGUMENTS)
    if not isinstance(read, dict):
        return _clipped(text, _ARGUMENTS)
    parts = (f"{key}={_clipped(json.dumps(value, ensure_ascii=False), _VALUE)}" for key, value in read.items())
    return _clipped(", ".join(parts), _ARGUMENTS)


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _digest(block: Block, found: Sequence[Sentence], frequencies: Frequencies, ratio: float) -> Digest:
    left = ratio * block.size if ratio < 1 else math.inf
    shown: dict[int, set[int]] = {}
    units = list(_units(block, found, frequencies))
    for _, unit in sorted(units, key=lambda scored: -scored[0]):
        new_lines = {sentence.line for sentence in unit} - shown.keys()
        cost = sum(sentence.size for sentence in unit) + _LABEL * len(new_lines)
        if cost > left:
            continue
        left -= cost
        for sentence in unit:
            shown.setdefault(sentence.line, set()).add(sentence.number)
    texts = {(sentence.line, sentence.number): sentence.text for sentence in found}
    lines = []
    for place, line in enumerate(block.lines):
        if place in shown:
            text = "".join(texts[place, number] for number in sorted(shown[place])).strip()
            lines.append(replace(line, text=text, kind=line.kind if line.kind == "said" else "tool"))
    kept = {place: frozenset(numbers) for place, numbers in shown.items()}
    return Digest(block, rendered(lines), kept, sentences=tuple(found))


def _units(
    block: Block, found: Sequence[Sentence], frequencies: Frequencies
) -> Iterator[tuple[float, tuple[Sentence, ...]]]:
    """What is kept as a whole or not at all, with its worth: a sentence, or a question with its short answer."""
    at = 0
    while at < len(found):
        sentence = found[at]
        worth = salience(sentence.text, sentence.words, frequencies) * min(1.0, _LONG / sentence.size)
        following = found[at + 1] if at + 1 < len(found) else None
        if following is not None and _answers(block, sentence, following):
            both = sentence.words | following.words
            joined = f"{sentence.text.rstrip().rstrip(''.join(QUESTION_MARKS))} {following.text}"
            yield max(worth, salience(joined, both, frequencies)), (sentence, following)
            at += 2
            continue
        yield worth, (sentence,)
        at += 1


def _answers(block: Block, question: Sentence, answer: Sentence) -> bool:
    """Whether `answer` is the short answer of another speaker to a question."""
    asked, said = block.lines[question.line], block.lines[answer.line]
    return (
        asked.kind == said.kind == "said"
        and asked.speaker != said.speaker
        and question.text.rstrip().endswith(QUESTION_MARKS)
        and len(answer.words) <= _SHORT_ANSWER
    )
