from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.memo import Memo


def test_what_was_put_is_found() -> None:
    memo: Memo[int] = Memo(limit=10)
    memo.put("a", 0)
    assert memo.get("a") == 0
    assert memo.get("b") is None


def test_what_is_used_stays_and_what_is_not_goes() -> None:
    memo: Memo[int] = Memo(limit=4)
    memo.put("kept", 1)
    for n in range(10):
        memo.put(n, n)
        assert memo.get("kept") == 1
    assert memo.get(0) is None


@given(st.integers(1, 20), st.lists(st.integers(0, 30)))
def test_never_more_than_the_limit_and_never_a_wrong_value(limit: int, keys: list[int]) -> None:
    memo: Memo[str] = Memo(limit=limit)
    for key in keys:
        assert memo.get(key) in (None, str(key))
        memo.put(key, str(key))
        assert memo.get(key) == str(key)
        assert len(memo) <= max(2, limit)


def test_threads_share_it() -> None:
    memo: Memo[int] = Memo(limit=50)

    def work(start: int) -> bool:
        for n in range(2000):
            key = (start + n) % 97
            if memo.get(key) not in (None, key):
                return False
            memo.put(key, key)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
