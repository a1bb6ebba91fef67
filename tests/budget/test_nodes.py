"""Paths of calls, and the patterns that limits are written for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.budget.nodes import Path, Pattern
from langchain_tokopt.errors import ConfigurationError

SHOP = Path.read("project=shop/task=t1/agent=writer/user=ann")


def test_the_nodes_of_a_path_go_from_the_root_down() -> None:
    assert Path.read("acme/team-a").nodes == ("", "acme", "acme/team-a")
    assert Path.read("global").nodes == Path.read("").nodes == ("",)
    assert str(Path.read(["acme", "team-a"])) == "acme/team-a"


def test_a_level_without_a_value_is_left_out() -> None:
    path = Path.of([("project", "shop"), ("task", None), ("agent", "writer"), ("user", "")])
    assert str(path) == "project=shop/agent=writer"


@pytest.mark.parametrize(
    ("value", "segment"),
    [
        ("a/b", "user=a%2Fb"),
        ("*", "user=%2A"),
        ("50%", "user=50%25"),
        ("tab\there", "user=tab%09here"),
        ("a=b", "user=a=b"),
        ("Zoë 猫", "user=Zoë 猫"),
    ],
)
def test_what_a_caller_is_called_cannot_make_another_path(value: str, segment: str) -> None:
    assert Path.of([("user", value)]).segments == (segment,)


def test_very_long_names_are_shortened_and_stay_apart() -> None:
    one, other = (str(Path.of([("user", "u" * 500 + end)])) for end in "ab")
    assert one != other
    assert len(one) < 128


@given(st.lists(st.tuples(st.sampled_from(["project", "agent", "user"]), st.text(min_size=1)), max_size=3))
def test_any_name_gives_a_path_that_can_be_read_back(values: list[tuple[str, str]]) -> None:
    path = Path.of(values)
    named = [segment for segment in path.segments if segment.split("=", 1)[1].strip()]
    if len(named) == len(path.segments):
        assert Path.read(str(path)) == path
    assert len(path.nodes) == len(values) + 1


@pytest.mark.parametrize(
    ("pattern", "node"),
    [
        ("global", ""),
        ("project=shop", "project=shop"),
        ("project=shop/agent=writer", "project=shop/agent=writer"),
        ("user=*", "user=ann"),
        ("project=*/user=*", "project=shop/user=ann"),
        ("project=other", None),
        ("user=ann/agent=writer", None),
        ("acme", None),
        ("*", "project=shop"),
    ],
)
def test_named_segments_are_found_wherever_they_stand(pattern: str, node: str | None) -> None:
    assert Pattern.read(pattern).node_on(SHOP) == node


@pytest.mark.parametrize(
    ("pattern", "node"),
    [
        ("acme", "acme"),
        ("acme/*", "acme/team-a"),
        ("*/team-a", "acme/team-a"),
        ("team-a", None),
        ("acme/team-a/user=*", "acme/team-a/user=ann"),
        ("acme/user=*", None),
        ("user=*", "user=ann"),
        ("acme/team-a/user=ann/more", None),
    ],
)
def test_free_names_stand_from_the_root(pattern: str, node: str | None) -> None:
    assert Pattern.read(pattern).node_on(Path.read("acme/team-a/user=ann")) == node


@pytest.mark.parametrize("path", ["a//b", "/a", "a/", " ", "a/\n", "a/*", "x" * 129, "/".join("a" * 17), 7, None, [1]])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="path="):
        Path.read(path)


@pytest.mark.parametrize("node", ["a//b", "user=a*", "a*", "user=ann/free", 7])
def test_what_is_no_node_is_refused(node: Any) -> None:
    with pytest.raises(ConfigurationError, match="limits="):
        Pattern.read(node)
