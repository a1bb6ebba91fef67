"""Answers to a file and back: nothing is lost, nothing doubled, and each bad line is named."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage
from sqlalchemy import text

from langchain_tokopt.cache.answers import written
from langchain_tokopt.cache.catalog import Catalog
from langchain_tokopt.cache.decision import Threshold
from langchain_tokopt.cache.entries import Entries, NewEntry
from langchain_tokopt.cache.fingerprint import digest
from langchain_tokopt.cache.key import text_digest
from langchain_tokopt.cache.store import AnswerStore
from langchain_tokopt.cache.transfer import BadRow, Imported, export, import_
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError, StoreError
from tests.fakes import FakeClock, TableEmbeddings

TABLE = {"how do I pay": [1.0, 0.0], "how can I pay": [1.0, 0.1], "paying, how": [1.0, 0.2]}
SCOPE, OWNER = digest("scope"), digest("owner")
Row = dict[str, Any]


class OtherEmbeddings(TableEmbeddings):
    """Another embedder, by its name."""


@pytest.fixture
def source(clock: FakeClock) -> Iterator[Database]:
    """A cache with two phrasings of one answer, one that is found exactly only, and one of LangChain's hook."""
    database = Database()
    vectors = {name: np.array([*xy, *[0] * 6], dtype="<f4") for name, xy in TABLE.items()}
    entries = Entries(database, kind="agent")

    def new(question: str, **fields: Any) -> NewEntry:
        given = {"scope": SCOPE, "owner": OWNER, "payload": written([AIMessage(f"to {question}")]), **fields}
        return NewEntry(exact=text_digest(question), question=question, **given)

    def embedded(question: str) -> Row:
        vector = vectors[question] / np.linalg.norm(vectors[question])
        return {"vector": vector.astype("<f4").tobytes(), "embedder": MemoEmbeddings(TableEmbeddings()).name}

    first = entries.put(new("how do I pay", **embedded("how do I pay"), tags=("t", "u"), value_nano_usd=7), clock.now)
    clock.advance(1)
    payload = written([AIMessage("to how do I pay")])
    entries.put(new("how can I pay", **embedded("how can I pay"), payload=payload, answer=first), clock.now)
    entries.put(new("caf\u00e9 \U0001f600", expires_at=clock.now + 100, spent="{}"), clock.now)
    Entries(database, kind="llm").put(new("hello", scope=digest("other")), clock.now)
    entries.touch({first: (clock.now + 5, 3)})
    yield database
    database.close()


def rows_of(database: Database) -> list[tuple[Any, ...]]:
    """All that must survive, but for ids."""
    columns = """e.kind, s.scope, s.owner, e.exact, e.question, e.payload, e.spent, e.tags, e.created_at, e.used_at,
        e.expires_at, e.hits, e.value, e.embedder, e.vector"""
    with database.read() as connection:
        found = connection.execute(
            text(
                f"SELECT {columns} FROM tokopt_cache_entries e JOIN tokopt_cache_scopes s ON s.id = e.scope_id "
                "WHERE e.alive = 1 ORDER BY e.question"
            )
        ).all()
    return [(*row[:-1], None if row[-1] is None else bytes(row[-1])) for row in found]


def exported(database: Database, clock: FakeClock, **settings: Any) -> str:
    stream = io.StringIO()
    export(database, stream, clock=clock, **settings)
    return stream.getvalue()


def lines_of(text: str) -> list[Row]:
    return [json.loads(line) for line in text.splitlines()]


def as_text(lines: list[Any]) -> str:
    return "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)


def open_store(database: Database, clock: FakeClock, embeddings: TableEmbeddings) -> AnswerStore:
    return AnswerStore(
        database,
        MemoEmbeddings(embeddings),
        kind="agent",
        decider=Threshold(0.97),
        max_entries=100,
        max_scopes=10,
        clock=clock,
    )


def asked(store: AnswerStore, question: str) -> tuple[str, str | None]:
    found = store.find(SCOPE, text_digest(question), question, exact_only=None)
    return found.how, found.entry.payload if found.entry else None


# --- there and back --------------------------------------------------------------------------------------------------


def test_with_vectors_nothing_is_lost(source: Database, database: Database, clock: FakeClock, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    assert export(source, file, vectors=True, clock=clock) == 4
    assert import_(database, file, clock=clock) == Imported(stored=4)
    assert rows_of(database) == rows_of(source)
    groups = {answer.question: answer.group for answer in Catalog(database, clock=clock).find()}
    assert groups["how can I pay"] == groups["how do I pay"]
    assert len(set(groups.values())) == 3
    assert {answer.source for answer in Catalog(database, clock=clock).find()} == {"import"}
    assert asked(open_store(database, clock, TableEmbeddings(TABLE)), "paying, how") == (
        "semantic",
        written([AIMessage("to how do I pay")]),
    )


def test_importing_again_changes_nothing(source: Database, database: Database, clock: FakeClock) -> None:
    once = exported(source, clock, vectors=True)
    import_(database, io.StringIO(once), clock=clock)
    before = rows_of(database)
    assert import_(database, io.StringIO(once), clock=clock) == Imported(unchanged=4)
    assert rows_of(database) == before
    assert exported(database, clock, vectors=True).count("\n") == 5
    assert import_(source, io.StringIO(exported(database, clock)), clock=clock) == Imported(unchanged=4)


def test_without_vectors_questions_are_embedded_on_import(
    source: Database, database: Database, clock: FakeClock
) -> None:
    embeddings = OtherEmbeddings(TABLE)
    assert import_(
        database, io.StringIO(exported(source, clock)), embeddings=MemoEmbeddings(embeddings), clock=clock
    ) == Imported(stored=4)
    assert [question for question in embeddings.asked if question in TABLE] == ["how do I pay", "how can I pay"]
    assert asked(open_store(database, clock, embeddings), "paying, how")[0] == "semantic"


def test_vectors_of_another_embedder_are_replaced_on_import(
    source: Database, database: Database, clock: FakeClock
) -> None:
    embeddings = OtherEmbeddings(TABLE)
    import_(
        database,
        io.StringIO(exported(source, clock, vectors=True)),
        embeddings=MemoEmbeddings(embeddings),
        clock=clock,
    )
    assert {row[-2] for row in rows_of(database)} == {None, MemoEmbeddings(embeddings).name}


@pytest.mark.parametrize("vectors", [False, True])
def test_what_is_not_embedded_on_import_is_embedded_by_the_cache(
    source: Database, database: Database, clock: FakeClock, vectors: bool
) -> None:
    import_(database, io.StringIO(exported(source, clock, vectors=vectors)), clock=clock)
    store = open_store(database, clock, OtherEmbeddings(TABLE))
    assert asked(store, "how do I pay") == ("exact", written([AIMessage("to how do I pay")]))
    asked(store, "paying, how")
    assert store._chores.settle()
    assert asked(store, "paying, how")[0] == "semantic"
    store.close()


def test_an_answer_whose_leader_is_gone_still_shares(source: Database, database: Database, clock: FakeClock) -> None:
    lines = lines_of(exported(source, clock, vectors=True))
    lines[1]["group"] = lines[2]["group"] = 77
    import_(database, io.StringIO(as_text(lines)), clock=clock)
    found = {answer.question: answer for answer in Catalog(database, clock=clock).find()}
    assert found["how can I pay"].group == found["how do I pay"].group == found["how do I pay"].id


def test_the_later_answer_wins(source: Database, database: Database, clock: FakeClock) -> None:
    once = lines_of(exported(source, clock))
    import_(database, io.StringIO(as_text(once)), clock=clock)
    for delta, outcome, said in ((-10, Imported(older=1), "to hello"), (10, Imported(stored=1), "new")):
        line = {**once[4], "payload": written([AIMessage("new")]), "created_at": once[4]["created_at"] + delta}
        assert import_(database, io.StringIO(as_text([once[0], line])), clock=clock) == outcome
        assert Catalog(database, clock=clock).find(query="hello")[0].answer == said


def test_the_expired_are_neither_written_nor_read(source: Database, database: Database, clock: FakeClock) -> None:
    before = exported(source, clock)
    clock.advance(101)
    assert exported(source, clock).count("\n") == 4
    assert import_(database, io.StringIO(before), clock=clock) == Imported(stored=3, expired=1)


def test_an_empty_cache(database: Database, clock: FakeClock) -> None:
    nothing = exported(database, clock)
    assert lines_of(nothing) == [{"format": "langchain-tokopt cache", "version": 1, "exported_at": clock.now}]
    assert import_(database, io.BytesIO(nothing.encode()), clock=clock) == Imported()


def test_many_rows(database: Database, clock: FakeClock) -> None:
    many = Database()
    news = [
        NewEntry(
            scope=digest(str(n % 7)),
            owner=OWNER,
            exact=text_digest(str(n)),
            question="",
            payload=written([AIMessage(str(n))]),
        )
        for n in range(1_234)
    ]
    Entries(many, kind="agent").put_all(news, clock.now)
    assert import_(database, io.StringIO(exported(many, clock)), clock=clock) == Imported(stored=1_234)
    assert Entries(database, kind="agent").count() == 1_234
    many.close()


# --- bad files -------------------------------------------------------------------------------------------------------


def vector_of(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, dtype="<f4").tobytes()).decode()


BAD: list[tuple[Callable[[Row], Any], str]] = [
    (lambda row: '{"a": }', "it is not JSON (Expecting value at character 7)"),
    (lambda row: "[" * 100_000, "it is nested too deeply"),
    (lambda row: [row], "it is not a JSON object"),
    (lambda row: {**row, "kind": "x"}, "kind='x': use 'agent' or 'llm'"),
    (lambda row: {k: v for k, v in row.items() if k != "payload"}, "payload is missing"),
    (lambda row: {**row, "payload": "{}"}, "the payload is no stored answer"),
    (lambda row: {**row, "scope": "abc"}, "scope must be 64 hexadecimal digits"),
    (lambda row: {**row, "owner": 3}, "owner must be a text"),
    (lambda row: {**row, "exact": "G" * 64}, "exact must be 64 hexadecimal digits"),
    (lambda row: {**row, "question": "a\x00"}, "question holds a character that no database takes"),
    (lambda row: {**row, "question": "a\ud800"}, "question holds a character that no database takes"),
    (lambda row: {**row, "question": ""}, "a question that is compared by meaning must have a text"),
    (lambda row: {**row, "semantic": "yes"}, "semantic must be true or false"),
    (lambda row: {**row, "created_at": "now"}, "created_at must be a time in seconds"),
    (lambda row: {**row, "expires_at": float("nan")}, "expires_at must be a time in seconds"),
    (lambda row: {**row, "hits": -1}, "hits must be a whole number of at least 0"),
    (lambda row: {**row, "value_nano_usd": 0.5}, "value_nano_usd must be a whole number of at least 0"),
    (lambda row: {**row, "tags": ["a|b"]}, "tags must be a list of texts without bars"),
    (lambda row: {**row, "vector": "??"}, "the vector is not base64 of float32 numbers"),
    (lambda row: {**row, "vector": vector_of(3, 4)}, "the vector must have length 1"),
    (lambda row: {**row, "vector": vector_of(float("nan"), 1)}, "the vector must have length 1"),
    (lambda row: {**row, "vector": vector_of(0, 1), "embedder": None}, "embedder is missing"),
    (
        lambda row: {**row, "vector": vector_of(0, 1)},
        f"the vector has 2 numbers, and those of {MemoEmbeddings(TableEmbeddings()).name} have 8",
    ),
]


def test_each_bad_row_is_named_and_the_others_are_imported(
    source: Database, database: Database, clock: FakeClock
) -> None:
    header, first, *others = lines_of(exported(source, clock, vectors=True))
    bad = [spoil(first) for spoil, _ in BAD]
    lines = [header, first, "\n", *(row if isinstance(row, dict | list) else f"{row}\n" for row in bad), *others]
    done = import_(database, io.StringIO(as_text(lines)), clock=clock)
    assert done.failed == [BadRow(line, reason) for line, (_, reason) in enumerate(BAD, start=4)]
    assert (done.stored, len(rows_of(database))) == (4, 4)


def test_a_line_that_is_not_utf8_is_a_bad_row(source: Database, database: Database, clock: FakeClock) -> None:
    lines = exported(source, clock).encode().splitlines(keepends=True)
    done = import_(database, io.BytesIO(b"".join([*lines[:2], b'{"a": "\xff"}\n', *lines[2:]])), clock=clock)
    assert done == Imported(stored=4, failed=[BadRow(3, "it is not JSON in UTF-8")])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is no export of a cache"),
        ("question,answer\n", "it is no export of a cache"),
        ('{"format": "other"}\n', "it is no export of a cache"),
        ("[" * 100_000, "it is no export of a cache"),
        ('{"format": "langchain-tokopt cache", "version": 2}\n', "version 2, and this package reads version 1"),
    ],
)
def test_a_file_that_is_no_export_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "file").write_text(content)
    database = Database()
    with pytest.raises(ConfigurationError, match=reason):
        import_(database, tmp_path / "file")
    database.close()


def test_a_file_that_cannot_be_read_or_written(source: Database, clock: FakeClock, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing' cannot be read \(No such file"):
        import_(source, tmp_path / "missing")
    with pytest.raises(StoreError, match="could not be written"):
        export(source, tmp_path / "folder" / "file", clock=clock)
    (tmp_path / "taken").mkdir()
    with pytest.raises(StoreError, match="nothing was left behind"):
        export(source, tmp_path / "taken", clock=clock)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_file_is_replaced_as_a_whole_or_not_at_all(source: Database, clock: FakeClock, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text("old")
    closed = Database()
    closed.close()
    with pytest.raises(StoreError):
        export(closed, file, clock=clock)
    assert file.read_text() == "old"
    assert export(source, str(file), clock=clock) == 4
    assert lines_of(file.read_text())[0]["version"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"]
