"""Looking after stored answers: found, shown, counted and removed, on every database."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, Generation

from langchain_tokopt.cache.answers import written
from langchain_tokopt.cache.catalog import Catalog, Totals, answer_text
from langchain_tokopt.cache.entries import Entries, NewEntry
from langchain_tokopt.cache.fingerprint import digest
from langchain_tokopt.cache.key import owner_of, text_digest
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from tests.fakes import FakeClock

SCOPES = {name: digest(name) for name in "abc"}


@pytest.fixture
def catalog(database: Database, clock: FakeClock) -> Catalog:
    return Catalog(database, clock=clock)


def put(
    database: Database, clock: FakeClock, question: str, scope: str = "a", *, kind: str = "agent", **fields: Any
) -> int:
    given = {
        "owner": digest(owner_of(tenant="acme")),
        "payload": written([AIMessage(f"to {question}")]),
        "spent": json.dumps({"usage": None, "provider": "openai", "name": "gpt-5-mini"}),
        **fields,
    }
    new = NewEntry(scope=SCOPES[scope], exact=text_digest(question), question=question, **given)
    return Entries(database, kind=kind).put(new, clock.now)


def questions(found: list[Any]) -> list[str]:
    return [answer.question for answer in found]


# --- looking ---------------------------------------------------------------------------------------------------------


def test_an_answer_is_shown_with_all_that_is_known_of_it(
    database: Database, clock: FakeClock, catalog: Catalog
) -> None:
    key = put(
        database,
        clock,
        "how do I pay",
        tags=("tool:weather", "tool:maps"),
        value_nano_usd=2_500_000,
        expires_at=clock.now + 60,
        vector=b"\0\0\x80?",
        embedder="mini",
    )
    put(database, clock, "how to pay", payload=written([AIMessage("to how do I pay")]), answer=key, source="audit")
    Entries(database, kind="agent").touch({key: (clock.now + 5, 3)})
    shown = catalog.get(key)
    assert shown is not None
    told = shown.as_json()
    assert told.pop("bytes") == len("how do I pay") + len(written([AIMessage("to how do I pay")])) + 4
    assert json.loads(json.dumps(told)) == {
        "id": key,
        "kind": "agent",
        "scope": SCOPES["a"],
        "owner": digest("tenant:acme"),
        "question": "how do I pay",
        "answer": "to how do I pay",
        "model": "gpt-5-mini",
        "provider": "openai",
        "source": "model",
        "tags": ["tool:weather", "tool:maps"],
        "created_at": clock.now,
        "used_at": clock.now + 5,
        "expires_at": clock.now + 60,
        "hits": 3,
        "value_usd": "0.002500000",
        "saved_usd": "0.007500000",
        "embedder": "mini",
        "group": key,
    }
    alias = catalog.get(key + 1)
    assert alias is not None
    assert (alias.group, alias.source, alias.value_usd, alias.saved_usd) == (key, "audit", None, None)
    assert catalog.get(key + 2) is None
    clock.advance(60)
    assert catalog.get(key) is None


def test_answers_are_found_by_all_that_is_given_together(
    database: Database, clock: FakeClock, catalog: Catalog
) -> None:
    put(database, clock, "How do I pay?", tags=("tool:pay",))
    put(database, clock, "How do I pay 100%?", "b")
    put(database, clock, "What is under_score?", "b", tags=("tool:pay", "x"))
    put(database, clock, "Hello", "c", kind="llm", owner=digest(owner_of(user="u")))
    assert questions(catalog.find(query="HOW DO")) == ["How do I pay?", "How do I pay 100%?"]
    assert questions(catalog.find(query="0%?")) == ["How do I pay 100%?"]
    assert questions(catalog.find(query="r_s")) == ["What is under_score?"]
    assert questions(catalog.find(query="_o")) == []
    assert questions(catalog.find(query="\x00 \ud800")) == []
    assert questions(catalog.find(tag="tool:pay")) == ["How do I pay?", "What is under_score?"]
    assert questions(catalog.find(tag="tool:p")) == []
    assert questions(catalog.find(tag="tool:pay", scope=SCOPES["b"])) == ["What is under_score?"]
    assert questions(catalog.find(scope=SCOPES["c"][:8])) == ["Hello"]
    assert questions(catalog.find(tenant="acme", kind="agent", query="hello")) == []
    assert questions(catalog.find(user="u")) == ["Hello"]
    assert questions(catalog.find(kind="llm")) == ["Hello"]
    assert len(catalog.find()) == 4
    assert len(catalog.find(limit=3)) == 3
    assert len(catalog.find(limit=None)) == 4


def test_orders(database: Database, clock: FakeClock, catalog: Catalog) -> None:
    ids = []
    for name, size, value, expires in (("a", 5, 10, None), ("b", 9, 1, 50.0), ("c", 7, None, 40.0)):
        payload = written([AIMessage("x" * size)])
        ids.append(
            put(
                database,
                clock,
                name,
                payload=payload,
                value_nano_usd=value,
                expires_at=None if expires is None else clock.now + expires,
            )
        )
        clock.advance(1)
    Entries(database, kind="agent").touch({ids[0]: (clock.now + 9, 2), ids[1]: (clock.now, 5)})
    expected = {"used": "abc", "created": "cba", "hits": "bac", "saved": "abc", "size": "bca", "expires": "cba"}
    for order, names in expected.items():
        assert "".join(questions(catalog.find(order=order))) == names, order  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"order": "random"}, "use one of used"), ({"limit": 0}, "at least 1"), ({"limit": True}, "at least 1")],
)
def test_what_cannot_be_looked_for_is_refused(settings: Any, reason: str) -> None:
    database = Database()
    with pytest.raises(ConfigurationError, match=reason):
        Catalog(database).find(**settings)
    database.close()


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (written([AIMessage("plain")]), "plain"),
        (written([AIMessage([{"type": "text", "text": "in a block"}])]), "in a block"),
        (dumps([AIMessage("as LangChain writes it")]), "as LangChain writes it"),
        (dumps([Generation(text="one"), Generation(text="two")]), "one\ntwo"),
        (dumps([ChatGeneration(message=AIMessage("chat"))]), "chat"),
        (
            written(
                [
                    AIMessage("", tool_calls=[{"name": "Verdict", "args": {"good": True}, "id": "1"}]),
                    ToolMessage("ok", tool_call_id="1"),
                ]
            ),
            '{"good": true}',
        ),
        ("{}", None),
        ("[]", None),
        ("nothing", None),
    ],
)
def test_what_an_answer_says(payload: str, said: str | None) -> None:
    assert answer_text(payload) == said


def test_totals(database: Database, clock: FakeClock, catalog: Catalog) -> None:
    assert catalog.totals() == []
    first = put(database, clock, "one", value_nano_usd=1_000)
    put(database, clock, "two", "b", expires_at=clock.now + 10)
    gone = put(database, clock, "gone")
    put(database, clock, "old", "c", kind="llm", expires_at=clock.now + 10)
    Entries(database, kind="agent").touch({first: (clock.now + 3, 4)})
    catalog.delete([gone])
    size = catalog.find(query="one")[0].bytes
    clock.advance(10)
    agent, llm = catalog.totals()
    assert agent == Totals(
        kind="agent",
        entries=1,
        scopes=1,
        bytes=size,
        hits=4,
        used=1,
        saved_usd=Decimal("0.000004"),
        oldest=clock.now - 10,
        last_used=clock.now - 7,
        expired=1,
        tombstones=1,
    )
    assert (llm.kind, llm.entries, llm.expired, llm.oldest) == ("llm", 0, 1, None)
    assert json.loads(json.dumps(agent.as_json()))["saved_usd"] == "0.000004000"


# --- removing --------------------------------------------------------------------------------------------------------


def test_answers_are_deleted_by_id(database: Database, clock: FakeClock, catalog: Catalog) -> None:
    ids = [put(database, clock, str(n)) for n in range(3)]
    assert catalog.delete([ids[0], ids[0], 999]) == 1
    assert catalog.delete([ids[0]]) == 0
    assert questions(catalog.find()) == ["1", "2"]
    assert Entries(database, kind="agent").find(SCOPES["a"], text_digest("0"), clock.now)[1] is None


def test_answers_are_invalidated_by_all_that_is_given_together(
    database: Database, clock: FakeClock, catalog: Catalog
) -> None:
    for name, scope, tags in (("1", "a", ("t",)), ("2", "b", ("t",)), ("3", "b", ()), ("4", "c", ("t", "u"))):
        put(database, clock, name, scope, tags=tags, owner=digest(owner_of(tenant=scope)))
        clock.advance(100)
    assert catalog.invalidate(tag="t", tenant="b") == 1
    assert questions(catalog.find(order="created")) == ["4", "3", "1"]
    assert catalog.invalidate(tag="t", older_than=timedelta(seconds=250)) == 1
    assert questions(catalog.find(order="created")) == ["4", "3"]
    assert catalog.invalidate(older_than=200.0) == 0
    assert catalog.invalidate(older_than=199.9) == 1
    assert catalog.invalidate(scope=SCOPES["c"][:10], query="4") == 1
    assert catalog.find() == []


def test_many_are_invalidated_in_portions(database: Database, clock: FakeClock, catalog: Catalog) -> None:
    news = [
        NewEntry(scope=SCOPES["a"], owner="o", exact=f"{n}", question="", payload="x", tags=("t",)) for n in range(1200)
    ]
    Entries(database, kind="agent").put_all(news, clock.now)
    assert catalog.invalidate(tag="t") == 1200


def test_invalidating_nothing_in_particular_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ConfigurationError, match="say which answers"):
        catalog.invalidate()
    with pytest.raises(ConfigurationError, match="number of seconds"):
        catalog.invalidate(older_than=-1)
