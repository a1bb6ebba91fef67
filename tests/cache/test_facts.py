"""What is known of many entries, by id."""

from __future__ import annotations

import json
import math
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.cache.facts import Fact, Facts, until


def fact(key: int, text: str = "q", **fields: float) -> Fact:
    return Fact(key, text, **{"revision": 1, "expires_at": math.inf, "answer": key, **fields})  # type: ignore[arg-type]


def test_a_fact_is_what_was_noted_last() -> None:
    facts = Facts()
    facts.put(fact(7, "old"))
    facts.put(fact(7, "new", revision=3, expires_at=9.5, answer=2))
    assert facts.get(7) == Fact(id=7, text="new", revision=3, expires_at=9.5, answer=2)
    assert len(facts) == 1
    assert facts.get(8) is None


def test_room_of_the_forgotten_is_used_again() -> None:
    facts = Facts()
    for key in range(10):
        facts.put(fact(key))
    facts.drop([3, 4, 99])
    facts.put(fact(20))
    facts.put(fact(21))
    assert sorted(facts.ids()) == [0, 1, 2, 5, 6, 7, 8, 9, 20, 21]
    assert len(facts._texts) == 10


def test_a_fact_that_is_replaced_is_there_at_every_moment() -> None:
    facts = Facts()
    for key in range(3):
        facts.put(fact(key, "0", revision=0))
    done = threading.Event()

    def write() -> None:
        for n in range(20_000):
            facts.put(fact(n % 3, str(n), revision=n))
        done.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    writer = threading.Thread(target=write)
    writer.start()
    wrong = []
    while not done.is_set():
        found = facts.get(1)
        if found is None or found.text != str(found.revision):
            wrong.append(found)
    writer.join()
    sys.setswitchinterval(interval)
    assert wrong == []


def test_an_expiry_that_is_not_set_never_comes() -> None:
    assert (until(None), until(3.5)) == (math.inf, 3.5)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.text(max_size=3))))
def test_it_behaves_like_a_dictionary(steps: list[tuple[bool, int, str]]) -> None:
    facts, model = Facts(), dict[int, Fact]()
    for keep, key, text in steps:
        if keep:
            facts.put(fact(key, text))
            model[key] = fact(key, text)
        else:
            facts.drop([key])
            model.pop(key, None)
        assert len(facts) == len(model)
    assert {key: facts.get(key) for key in facts.ids()} == model
    again = Facts.of(json.loads(json.dumps(facts.columns())))
    assert {key: again.get(key) for key in again.ids()} == model


@pytest.mark.parametrize(
    "broken",
    [{"texts": []}, {"ids": ""}, {"revisions": "AAAA"}, {"answers": "not base 64!"}, {"expiries": "AAAAAAAAAAA="}],
)
def test_columns_that_do_not_fit_together_are_refused(broken: dict[str, Any]) -> None:
    facts = Facts()
    facts.put(fact(1))
    facts.put(fact(2))
    with pytest.raises(ValueError, match=r"."):
        Facts.of({**facts.columns(), **broken})
