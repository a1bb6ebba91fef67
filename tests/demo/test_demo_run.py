"""The whole demo on a tiny folder: bare and optimised, figures, table and page."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest
from langchain_core.messages.ai import UsageMetadata
from rich.console import Console

from langchain_tokopt.demo import outcome as outcomes
from langchain_tokopt.demo.figures import Totals, percentile, same
from langchain_tokopt.demo.outcome import Outcome, play
from langchain_tokopt.demo.page import STYLE, page
from langchain_tokopt.demo.prices import PriceTable, live_table, price_tables
from langchain_tokopt.demo.questions import Asked
from langchain_tokopt.demo.run import Answer, LiveModelError, live_model
from langchain_tokopt.demo.show import notes, show
from langchain_tokopt.errors import ConfigurationError, MissingDependencyError
from langchain_tokopt.events import ModelCall
from tests.demo.folders import make_folder
from tests.fakes import ScriptedModel, TableEmbeddings, ai


class OneMeaning(TableEmbeddings):
    """To this embedder every text means the same, so only the cache's other checks tell questions apart."""

    def embed_query(self, text: str) -> list[float]:
        return [1.0] + [0.0] * (self.dim - 1)


def two_tables() -> Sequence[PriceTable]:
    tables = price_tables()
    return tables[0], tables[2]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    root = make_folder(tmp_path_factory.mktemp("folder") / "shop & <b>more")
    return play(path=root, questions=6, seed=1, embeddings=OneMeaning(), tables=two_tables)


def test_the_optimised_run_gives_the_same_answers_for_less(outcome: Outcome) -> None:
    assert [pair.key for pair in outcome.pairs] == ["openai", "uncached"]
    for pair in outcome.pairs:
        assert len(pair.both) == 6
        assert pair.equal == 6
        assert [one.text for one, _ in pair.both if "could not" in one.text] == []
        assert pair.bare.cost_usd is not None
        assert pair.optimised.cost_usd is not None
        assert 0 < pair.optimised.cost_usd < pair.bare.cost_usd
        assert pair.difference is not None
        assert pair.difference < 0
        assert pair.bare.estimated_calls == pair.optimised.estimated_calls == 0
        assert pair.aside == ()


def test_a_question_asked_in_other_words_is_answered_from_the_cache(outcome: Outcome) -> None:
    pair = outcome.pairs[0]
    again = [two for _, two in pair.both if two.asked.repeats is not None]
    assert len(again) == pair.cache_hits == 1
    assert again[0].prompt == ()
    assert pair.optimised.calls < pair.bare.calls


def test_the_figures_are_those_of_the_event_log(outcome: Outcome) -> None:
    for pair in outcome.pairs:
        for run, totals in ((pair.bare_run, pair.bare), (pair.optimised_run, pair.optimised)):
            calls = [event for event in run.events if isinstance(event, ModelCall)]
            assert totals.calls == len(calls)
            assert totals.input_tokens == sum(call.usage["input_tokens"] for call in calls if call.usage)
            assert totals.cost_usd == sum(call.cost_usd for call in calls if call.cost_usd is not None)


def test_the_rows_are_tidy(outcome: Outcome) -> None:
    told = outcome.as_json()
    keys = [(row["prices"], row["run"], row["figure"]) for row in told["figures"]]
    assert len(set(keys)) == len(keys)
    assert {tuple(row) for row in told["figures"]} == {("prices", "run", "figure", "value", "unit", "source")}
    found = {key: row["value"] for key, row in zip(keys, told["figures"], strict=True)}
    pair = outcome.pairs[0]
    assert found["openai", "bare", "cost"] == str(pair.bare.cost_usd)
    assert found["openai", "difference", "answers_equal"] == 6
    assert [row["source"] for row in told["figures"] if row["figure"].startswith("saved_by")] == ["estimate"] * 6
    assert len(told["answers"]) == 12


def test_the_table_is_plain_text_in_a_pipe(outcome: Outcome) -> None:
    stream = io.StringIO()
    show(outcome, Console(file=stream, width=80))
    text = stream.getvalue()
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"answers equal +6/6 +6/6", text)
    assert "scripted policy" in text
    assert "<b>more" in " ".join(text.split())


class Reader(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.said = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_data(self, data: str) -> None:
        self.said += data


def test_the_page_needs_nothing_but_itself(outcome: Outcome) -> None:
    html = page(outcome)
    reader = Reader()
    reader.feed(html)
    assert not {"script", "img", "link", "iframe", "a", "b", "form"} & set(reader.tags)
    assert not {"style", "src", "href", "onclick"} & reader.attributes.keys()
    assert "http://" not in html
    assert "https://" not in html
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in reader.attributes["content"][0]
    assert reader.attributes["content"][0].startswith("default-src 'none'; ")
    assert html.count(f"<style>{STYLE}</style>") == 1


def test_the_page_shows_figures_chart_and_both_transcripts(outcome: Outcome) -> None:
    html = page(outcome)
    reader = Reader()
    reader.feed(html)
    assert "shop & <b>more" in reader.said
    assert reader.tags.count("svg") == 1
    assert reader.tags.count("rect") == 4
    assert "answers equal" in reader.said
    assert re.search(r"Bare: \d+ tools, [\d,]+ characters", reader.said)
    assert re.search(r"Optimised: \d+ tools, [\d,]+ characters", reader.said)


def test_control_characters_and_half_characters_do_not_break_the_page() -> None:
    from langchain_tokopt.demo.page import text

    assert text('a\x00b\x1b<"\ud800>\n') == "a\ufffdb\ufffd&lt;&quot;\ufffd&gt;\n"


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("questions", [0, 501])
def test_a_senseless_number_of_questions_is_refused(tmp_path: Path, questions: int) -> None:
    with pytest.raises(ConfigurationError, match="ask between 1 and 500"):
        play(path=make_folder(tmp_path), questions=questions)


def test_a_folder_with_nothing_to_ask_about_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ConfigurationError, match="too short to be asked about"):
        play(path=tmp_path, embeddings=TableEmbeddings())


def test_without_embeddings_the_demo_goes_on_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import langchain_tokopt.embeddings

    def none(*_: object) -> object:
        raise MissingDependencyError("no embedder: install one")

    monkeypatch.setattr(langchain_tokopt.embeddings, "find_embeddings", none)
    outcome = play(path=make_folder(tmp_path), questions=2, tables=lambda: two_tables()[:1])
    assert outcome.pairs[0].equal == 2
    assert "No embeddings here, so only equal words match: no embedder: install one" in notes(outcome)


def test_the_price_tables_cache_in_three_ways() -> None:
    tables = price_tables()
    assert [each.rates.caching if each.rates else None for each in tables] == ["automatic", "explicit", "none"]
    for each in tables:
        assert each.pricing.rates(each.model, each.provider) == each.rates
    assert [bool(each.settings) for each in tables] == [False, True, False]


# --- a live model ----------------------------------------------------------------------------------------------------


def test_a_live_model_is_compared_by_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["It is here.", "it  is HERE.", "Elsewhere."]
    model = ScriptedModel(responses=[ai(text, input_tokens=100, output_tokens=5) for text in [*answers, "Elsewhere!"]])
    monkeypatch.setattr(outcomes, "live_model", lambda name: model)
    outcome = play(path=make_folder(tmp_path), questions=2, model="openai:gpt-4o-mini", embeddings=TableEmbeddings())
    (pair,) = outcome.pairs
    assert [one.text for one, _ in pair.both] == answers[:2]
    assert [two.text for _, two in pair.both] == ["Elsewhere.", "Elsewhere!"]
    assert pair.equal == 0
    assert pair.bare.calls == 2
    assert pair.bare.cost_usd == Decimal("0.000036")
    assert "live" in outcome.caveat
    assert "scripted" not in page(outcome)


def test_a_live_model_that_fails_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedModel(responses=[RuntimeError("no\ncredit")])
    monkeypatch.setattr(outcomes, "live_model", lambda name: model)
    with pytest.raises(LiveModelError, match="failed: no credit"):
        play(path=make_folder(tmp_path), questions=1, model="openai:gpt-4o-mini", embeddings=TableEmbeddings())


def test_a_live_model_without_its_key_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(LiveModelError, match=r"'openai:gpt-4o-mini' cannot be used: .*OPENAI_API_KEY"):
        live_model("openai:gpt-4o-mini")
    with pytest.raises(LiveModelError, match="cannot be used"):
        live_model("nowhere:nothing")


@pytest.mark.parametrize("name", ["gpt-4o", "openai:", ":gpt-4o"])
def test_a_live_model_is_named_with_its_provider(name: str) -> None:
    with pytest.raises(ConfigurationError, match="provider:name"):
        live_table(name)


# --- sums ------------------------------------------------------------------------------------------------------------


def call(usage: UsageMetadata | None, cost: str | None, error: str | None = None) -> ModelCall:
    usd = None if cost is None else Decimal(cost)
    return ModelCall(usage=usage, usage_source="provider" if usage else None, cost_usd=usd, error=error)


def test_totals_never_count_an_unknown_as_nothing() -> None:
    used = UsageMetadata(
        input_tokens=100,
        output_tokens=10,
        total_tokens=110,
        input_token_details={"cache_read": 60, "cache_creation": 30},
    )
    known = Totals.of([call(used, "0.5"), call(used, "0.25"), call(None, None, error="failed")])
    assert (known.calls, known.failed_calls, known.cost_usd) == (3, 1, Decimal("0.75"))
    assert (known.input_tokens, known.cache_read_tokens, known.cache_write_tokens) == (200, 120, 60)
    assert Totals.of([call(used, "0.5"), call(used, None)]).cost_usd is None


def test_percentiles() -> None:
    assert percentile([], 0.5) is None
    assert percentile([1.0], 0.95) == 1.0
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0.5, 0.95)] == [2.0, 4.0]


def test_answers_are_the_same_but_for_space_and_case() -> None:
    one = Answer("t", Asked("q"), "It is  here.\n")
    assert same(one, Answer("t", Asked("q"), "it is Here."))
    assert not same(one, Answer("t", Asked("q"), "It is there."))
