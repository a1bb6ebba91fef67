from __future__ import annotations

from langchain_tokopt.weighted_memo import WeightedMemo


def test_what_was_used_longest_ago_goes_first() -> None:
    memo: WeightedMemo[str] = WeightedMemo(weight_limit=10)
    memo.put("a", "A", 4)
    memo.put("b", "B", 4)
    assert memo.get("a") == "A"
    memo.put("c", "C", 4)
    assert [memo.get(key) for key in "abc"] == ["A", None, "C"]


def test_a_value_heavier_than_the_limit_is_not_kept_and_takes_its_forerunner_with_it() -> None:
    memo: WeightedMemo[str] = WeightedMemo(weight_limit=10)
    memo.put("a", "A", 4)
    memo.put("a", "AAA", 11)
    assert memo.get("a") is None
    memo.put("b", "B", 10)
    assert (memo.get("b"), len(memo)) == ("B", 1)


def test_replacing_a_value_counts_its_weight_once() -> None:
    memo: WeightedMemo[int] = WeightedMemo(weight_limit=2)
    for number in range(5):
        memo.put("a", number)
    memo.put("b", 9)
    assert (memo.get("a"), memo.get("b")) == (4, 9)
    memo.clear()
    assert len(memo) == 0


def test_what_is_taken_is_gone_and_weighs_nothing() -> None:
    memo: WeightedMemo[str] = WeightedMemo(weight_limit=10)
    memo.put("a", "A", 4)
    assert (memo.take("a"), memo.take("a"), memo.get("a"), memo.weight) == ("A", None, None, 0)


def test_without_room_nothing_is_kept() -> None:
    memo: WeightedMemo[str] = WeightedMemo(weight_limit=0)
    memo.put("a", "A", 1)
    assert (memo.get("a"), len(memo), memo.weight) == (None, 0, 0)
