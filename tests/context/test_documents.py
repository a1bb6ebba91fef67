from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from langchain_tokopt.context.documents import compress_documents, title
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.errors import ConfigurationError

RIVER = Document(
    id="d1",
    page_content="Celle is a town in Germany. It has a castle. The river Aller runs through it. Horses are bred there.",
    metadata={"title": "Celle", "page": 3},
)
BREAD = Document(page_content="Bread is made of flour. Some like it dark. Others like it white.", metadata={})
PORTO = Document(
    page_content="A city in Portugal. It is known for its wine.\n\nThe harbour lies at the sea.",
    metadata={"source": "/data/pages/Porto_harbour.html"},
)


def words(text: str) -> int:
    return len(text.split())


def test_needed_sentences_are_kept_whole_in_their_order() -> None:
    query = "Which river runs through Celle in Germany?"
    (kept,) = compress_documents(query, [RIVER, BREAD], max_tokens=13, size=words)
    assert kept.page_content == "Celle is a town in Germany.\nThe river Aller runs through it."
    assert (kept.id, kept.metadata) == ("d1", {"title": "Celle", "page": 3})
    (marked,) = compress_documents(query, [RIVER, BREAD], max_tokens=13, size=words, gap="\u2026")
    assert marked.page_content == "Celle is a town in Germany. \u2026 The river Aller runs through it."


def test_documents_themselves_stay_as_they_are() -> None:
    before = RIVER.model_copy(deep=True)
    (kept,) = compress_documents("river", [RIVER], max_tokens=8, size=words)
    assert kept.metadata is not RIVER.metadata
    assert before == RIVER


def test_what_fits_comes_back_unchanged() -> None:
    kept = compress_documents("bread", [RIVER, BREAD], max_tokens=10_000)
    assert kept[0] is RIVER
    assert kept[1] is BREAD
    assert compress_documents("bread", [BREAD], ratio=1.0) == [BREAD]
    assert compress_documents("bread", [], ratio=0.5) == []


def test_the_name_of_the_source_helps_to_find_a_document() -> None:
    kept = compress_documents("Where is the Porto harbour?", [RIVER, BREAD, PORTO], max_tokens=6, size=words)
    assert [document.metadata.get("source") for document in kept] == [PORTO.metadata["source"]]


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"title": "A", "source": "b"}, "A"),
        ({"title": " ", "source": "https://example.org/a/b.html"}, "b"),
        ({"title": 3, "source": "C:\\files\\notes.txt"}, "notes"),
        ({"source": "folder/"}, "folder"),
        ({"source": None}, "Old Bridge of Porto"),
        ({}, "Old Bridge of Porto"),
    ],
)
def test_titles(metadata: dict[str, Any], found: str) -> None:
    assert title(Document("The Old Bridge of Porto is closed.", metadata=metadata)) == found


def test_a_text_that_opens_with_no_name_has_no_title() -> None:
    assert [title(Document(text)) for text in ("", "it is closed.", "42 bridges", "(...)")] == [""] * 4


def test_a_mark_between_lines_stands_on_its_own_line() -> None:
    page = Document("Tools:\n- a red hammer\n- a saw\n- a long ladder\n")
    (kept,) = compress_documents("hammer ladder", [page], max_tokens=9, size=words, gap="[...]")
    assert kept.page_content == "- a red hammer\n[...]\n- a long ladder"


def test_the_smaller_of_two_bounds_counts() -> None:
    (kept,) = compress_documents("castle", [RIVER], max_tokens=4, ratio=0.9, size=words)
    assert kept.page_content == "It has a castle."
    (kept,) = compress_documents("castle", [RIVER], max_tokens=500, ratio=0.2, size=words)
    assert kept.page_content == "It has a castle."


def test_no_document_is_left_where_no_sentence_fits() -> None:
    assert compress_documents("castle", [RIVER], max_tokens=1, size=words) == []


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"ratio": 0}, "ratio"),
        ({"ratio": 1.5}, "ratio"),
        ({"ratio": float("nan")}, "ratio"),
        ({"ratio": "half"}, "ratio"),
        ({"max_tokens": 5, "query": None}, "query"),
        ({"max_tokens": 5, "documents": ["text"]}, "documents"),
        ({"max_tokens": 5, "documents": "text"}, "documents"),
    ],
)
def test_what_cannot_be_used_is_named(arguments: dict[str, Any], argument: str) -> None:
    given = {"query": "castle", "documents": [RIVER], **arguments}
    with pytest.raises(ConfigurationError) as error:
        compress_documents(given.pop("query"), given.pop("documents"), **given)
    assert error.value.argument == argument


@given(
    st.text(max_size=20),
    st.lists(st.text(alphabet="aB .!\n\u3002\ud800\x00", max_size=60), max_size=4),
    st.integers(1, 30),
)
def test_any_documents_fit_the_bound_with_stretches_of_their_own(query: str, texts: list[str], bound: int) -> None:
    documents = [Document.model_construct(page_content=text, metadata={"n": n}) for n, text in enumerate(texts)]
    kept = compress_documents(query, documents, max_tokens=bound, gap="@")
    assert sum(text_size(document.page_content) for document in kept) <= bound
    assert [document.metadata["n"] for document in kept] == sorted(document.metadata["n"] for document in kept)
    for document in kept:
        own, at = texts[document.metadata["n"]], 0
        for stretch in document.page_content.split("@"):
            at = own.index(stretch.strip(), at) + len(stretch.strip())
