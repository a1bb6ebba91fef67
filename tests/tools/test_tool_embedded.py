from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.tools.embedded import embedded, texts_of
from langchain_tokopt.tools.schema import ToolSpec
from tests.fakes import TableEmbeddings

MAIL = ToolSpec("send_mail", "Send a letter", {"type": "object", "properties": {"to": {"type": "string"}}})
PING = ToolSpec("ping")


class Keeper:
    """Keeps vectors in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, bytes], Any] = {}

    def vectors(self, embedder: str, digests: Sequence[bytes]) -> Mapping[bytes, Any]:
        return {digest: self.kept[embedder, digest] for digest in digests if (embedder, digest) in self.kept}

    def keep_vectors(self, embedder: str, vectors: Mapping[bytes, Any]) -> None:
        self.kept.update({(embedder, digest): vector for digest, vector in vectors.items()})


def test_a_tool_is_embedded_as_a_whole_by_its_description_and_by_its_name() -> None:
    assert texts_of(MAIL) == ("send mail: Send a letter Parameters: to", "Send a letter", "send mail")
    assert texts_of(PING) == ("ping: ", "ping", "ping")


def test_a_vector_is_the_weighted_mean_of_the_three() -> None:
    table = dict(zip(texts_of(MAIL), np.eye(3), strict=True))
    rows = embedded([MAIL], MemoEmbeddings(TableEmbeddings(table, dim=3)))
    assert rows.dtype == np.float32
    assert rows[0].tolist() == pytest.approx((np.array([1, 0.5, 0.5]) / np.sqrt(1.5)).tolist())


def test_only_vectors_that_are_not_kept_are_made() -> None:
    keeper, first, second = Keeper(), TableEmbeddings(), TableEmbeddings()
    before = embedded([MAIL], MemoEmbeddings(first), keeper=keeper)
    after = embedded([PING, MAIL], MemoEmbeddings(second), keeper=keeper)
    assert [text for text in second.asked if text != "dimension"] == ["ping: ", "ping"]
    assert after[1].tolist() == before[0].tolist()


def test_a_change_of_the_tool_or_of_the_embedder_makes_a_new_vector() -> None:
    keeper = Keeper()
    embedded([MAIL], MemoEmbeddings(TableEmbeddings()), keeper=keeper)
    embedded(
        [ToolSpec("send_mail", "Send an email", MAIL.parameters)], MemoEmbeddings(TableEmbeddings()), keeper=keeper
    )
    embedded([MAIL], MemoEmbeddings(TableEmbeddings(dim=9)), keeper=keeper)
    assert sorted(embedder for embedder, _ in keeper.kept) == [
        "TableEmbeddings/8",
        "TableEmbeddings/8",
        "TableEmbeddings/9",
    ]
    assert len({digest for _, digest in keeper.kept}) == 2


def test_what_a_batch_made_is_kept_when_the_next_one_fails() -> None:
    class Breaks(TableEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            if len(self.asked) > 128:
                raise OSError("gone")
            return super().embed_documents(texts)

    keeper = Keeper()
    specs = [ToolSpec(f"tool_{number}") for number in range(100)]
    with pytest.raises(OSError, match="gone"):
        embedded(specs, MemoEmbeddings(Breaks()), keeper=keeper)
    assert len(keeper.kept) == 64


def test_it_may_be_stopped_between_batches() -> None:
    calls: list[int] = []

    def proceed() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedError

    keeper = Keeper()
    specs = [ToolSpec(f"tool_{number}") for number in range(100)]
    with pytest.raises(InterruptedError):
        embedded(specs, MemoEmbeddings(TableEmbeddings()), keeper=keeper, proceed=proceed)
    assert len(keeper.kept) == 64
