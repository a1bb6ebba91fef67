"""A text in pieces, and the text again."""

from __future__ import annotations

from hypothesis import given

from langchain_tokopt.context.trimming.pieces import LONG_LINE, PART, Piece, joined, pieces
from tests.strategies import odd_texts, tool_texts


def test_lines_are_pieces() -> None:
    assert pieces("one\n\ntwo") == [Piece("one", True), Piece("", True), Piece("two", True)]


def test_an_empty_text_is_one_empty_piece() -> None:
    assert pieces("") == [Piece("", True)]
    assert joined([]) == ""


def test_windows_line_breaks_stay_in_their_lines() -> None:
    assert [piece.text for piece in pieces("one\r\ntwo\r\n")] == ["one\r", "two\r", ""]


def test_a_long_line_is_cut_behind_what_ends_a_value() -> None:
    line = ",".join(f'"key_{n}":{n}' for n in range(200))
    parts = pieces(f"{line}\nnext")
    assert [piece.text[-1] for piece in parts[:-2]] == [","] * (len(parts) - 2)
    assert [piece.ends_line for piece in parts] == [False] * (len(parts) - 2) + [True, True]
    assert all(PART < len(piece.text) <= LONG_LINE for piece in parts[:-2])


def test_a_line_without_any_end_is_cut_all_the_same() -> None:
    parts = pieces("x" * 5_000_000)
    assert {len(piece.text) for piece in parts[:-1]} == {2 * PART}
    assert 0 < len(parts[-1].text) <= LONG_LINE


@given(tool_texts())
def test_the_pieces_make_the_text(text: str) -> None:
    for own in (text, text.replace("\n", ","), f"{text}\n", f"\n{text}"):
        found = pieces(own)
        assert joined(found) == own
        assert all(len(piece.text) <= LONG_LINE and "\n" not in piece.text for piece in found)


@given(odd_texts(2_000))
def test_any_text_comes_back(text: str) -> None:
    assert joined(pieces(text)) == text
