"""The short form of a block: whole sentences that say most, chosen once, without knowing what will be asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_tokopt.context.lossless.size import Size, text_size
from langchain_tokopt.context.memory.blocks import Block
from langchain_tokopt.context.memory.names import identifiers
from langchain_tokopt.context.memory.render import MARK, Line, rendered
from langchain_tokopt.context.memory.salience import QUESTION_MARKS, Frequencies, distinct_terms, salience
from langchain_tokopt.context.ranking.sentences import sentences
from langchain_tokopt.errors import ConfigurationError

RATIO: Final = 0.2
_SHORT_ANSWER: Final = 8  # terms
_LONG: Final = 60  # tokens; what is longer has to be worth its place
_LABEL: Final = 4  # tokens of a speaker's name and a line end
_HEAD: Final = 160  # characters of a tool's result
_ARGUMENTS: Final = 160
_NAMED: Final = 12  # identifiers of a tool's result


@dataclass(frozen=True)
class Digest:
    """A block in short.

    Attributes:
        block: The block.
        text: What is shown instead of it.
        shown: Of which sentences of a line, by the line's place in `block.lines`, the text consists.
        kind: Whether its sentences are the block's own, or a summary's.
    """

    block: Block
    text: str
    shown: Mapping[int, frozenset[int]] = field(default_factory=dict)
    kind: Literal["digest", "summary"] = "digest"

    def messages(self, *, retrievable: bool = True) -> list[BaseMessage]:
        """What the model is shown instead of the block: the digest, and the messages that no text can stand for.

        `retrievable`: whether the model can ask for the original.
        """
        more = f'; retrieve_original("{self.block.handle}") has all of it' if retrievable else ""
        done = "summarized" if self.kind == "summary" else "shortened"
        text = f"[Earlier conversation, {done}{more}]\n{self.text}".rstrip()
        return [HumanMessage(text, additional_kwargs={MARK: self.kind}), *self.block.kept]


@dataclass(frozen=True)
class _Sentence:
    line: int
    number: int
    text: str
    words: frozenset[str]
    size: int


def digests(
    blocks: Sequence[Block], *, ratio: float | Sequence[float] = RATIO, size: Size = text_size
) -> Iterator[Digest]:
    """Each block in short. What a block's digest is depends on that block and on those before it.

    Args:
        blocks: The blocks of a thread, from its first on.
        ratio: Which part of a block's tokens its digest may have; a sequence has one for each block.
        size: Says how many tokens a text has.

    Raises:
        ConfigurationError: A ratio is not between 0 and 1.
    """
    ratios = [ratio] * len(blocks) if isinstance(ratio, (int, float)) else list(ratio)
    for one in ratios:
        if not 0 <= one <= 1:
            raise ConfigurationError("ratio", one, "use a share of the tokens between 0 and 1")
    frequencies = Frequencies()
    for block, share in zip(blocks, ratios, strict=True):
        found = list(_sentences(block, size))
        frequencies.add(sentence.words for sentence in found)
        yield _digest(block, found, frequencies, share)


def _sentences(block: Block, size: Size) -> Iterator[_Sentence]:
    for place, line in enumerate(block.lines):
        texts = sentences(line.text) if line.kind == "said" else [tool_line(line)]
        for number, text in enumerate(texts):
            stripped = text.strip()
            if stripped:
                yield _Sentence(place, number, stripped, distinct_terms(stripped), size(stripped) + 1)


def tool_line(line: Line) -> str:
    """A call as its most important arguments, a result as its beginning and the identifiers in it; one line."""
    flat = " ".join(line.text.split())
    if line.kind == "call":
        return _clipped(flat, _ARGUMENTS)
    head = _clipped(flat, _HEAD)
    named = [name for name in identifiers(flat[len(head) - 1 :] if flat != head else "") if name not in head]
    return f"{head} [{', '.join(named[:_NAMED])}]" if named else head


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _digest(block: Block, found: Sequence[_Sentence], frequencies: Frequencies, ratio: float) -> Digest:
    left = round(ratio * block.size)
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
    lines = [
        Line(line.index, line.kind, line.speaker, " ".join(texts[place, n] for n in sorted(shown[place])), line.date)
        for place, line in enumerate(block.lines)
        if place in shown
    ]
    return Digest(block, rendered(lines), {place: frozenset(numbers) for place, numbers in shown.items()})


def _units(
    block: Block, found: Sequence[_Sentence], frequencies: Frequencies
) -> Iterator[tuple[float, tuple[_Sentence, ...]]]:
    """What is kept as a whole or not at all, with its worth: a sentence, or a question with its short answer."""
    at = 0
    while at < len(found):
        sentence = found[at]
        worth = salience(sentence.text, sentence.words, frequencies) * min(1.0, _LONG / sentence.size)
        following = found[at + 1] if at + 1 < len(found) else None
        if following is not None and _answers(block, sentence, following):
            both = sentence.words | following.words
            joined = f"{sentence.text.rstrip(''.join(QUESTION_MARKS))} {following.text}"
            yield max(worth, salience(joined, both, frequencies)), (sentence, following)
            at += 2
            continue
        yield worth, (sentence,)
        at += 1


def _answers(block: Block, question: _Sentence, answer: _Sentence) -> bool:
    """Whether `answer` is the short answer of another speaker to a question."""
    asked, said = block.lines[question.line], block.lines[answer.line]
    return (
        asked.kind == said.kind == "said"
        and asked.speaker != said.speaker
        and question.text.endswith(QUESTION_MARKS)
        and len(answer.words) <= _SHORT_ANSWER
    )
