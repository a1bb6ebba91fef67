from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool

from langchain_tokopt.demo.corpus import Corpus
from langchain_tokopt.demo.tools import corpus_tools
from tests.demo.folders import GUIDE, make_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "folder")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseTool]:
    """The tools of a folder that has links which lead out of it."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.txt").write_text("secret")
    root = make_folder(outside / "folder")
    (root / "way_out").symlink_to(outside / "secret.txt")
    (root / "way_up").symlink_to(outside)
    return tools_of(root)


def tools_of(root: Path) -> dict[str, BaseTool]:
    return {tool.name: tool for tool in corpus_tools(Corpus(root))}


def said(tools: dict[str, BaseTool], name: str, args: dict[str, Any]) -> str:
    """What the model is told when it calls the tool, as in an agent."""
    message = tools[name].invoke({"type": "tool_call", "id": "1", "name": name, "args": args})
    assert isinstance(message.content, str)
    return message.content


# Each tool with its arguments and all that it says; JSON stands for the value that it says.
CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("list_files", {"folder": "docs"}, "docs/copy.txt  52\ndocs/guide.md  296\ndocs/notes.txt  52"),
    ("list_files", {}, "data/  3 files\ndocs/  3 files\nshop/  3 files\nbroken.py  13\nsettings.toml  35"),
    ("find_files", {"pattern": "*.toml"}, "settings.toml"),
    ("find_files", {"pattern": "docs/*.txt"}, "docs/copy.txt\ndocs/notes.txt"),
    ("find_files", {"pattern": "*.rs"}, "no file matches '*.rs'"),
    ("tree", {"folder": "shop"}, "shop/\n  __init__.py\n  items.py\n  prices.py"),
    (
        "tree",
        {"depth": 1},
        "./\n  broken.py\n  data/\n  docs/\n  settings.toml\n  shop/",
    ),
    ("largest_files", {"count": 1}, [{"path": "shop/items.py", "bytes": 592}]),
    (
        "recent_files",
        {"folder": "shop", "count": 1},
        [{"path": "shop/__init__.py", "modified": "2026-01-01 12:00 UTC"}],
    ),
    ("files_changed_since", {"date": "2026-01-02"}, "no file was changed since 2026-01-02"),
    (
        "files_changed_since",
        {"date": "2025-01-02", "folder": "docs"},
        (
            "docs/copy.txt  2026-01-01 12:00 UTC\n"
            "docs/guide.md  2026-01-01 12:00 UTC\ndocs/notes.txt  2026-01-01 12:00 UTC"
        ),
    ),
    (
        "folder_summary",
        {"folder": "docs"},
        [{"suffix": ".txt", "files": 2, "bytes": 104}, {"suffix": ".md", "files": 1, "bytes": 296}],
    ),
    ("duplicate_files", {}, "docs/copy.txt = docs/notes.txt"),
    ("read_file", {"path": "docs/notes.txt", "start": 2}, "docs/notes.txt, lines 2-2 of 2\n    2| Buy bread."),
    (
        "file_head",
        {"path": "docs/notes.txt", "lines": 1},
        "docs/notes.txt, lines 1-1 of 2\n    1| Nine o'clock is early. The shop is open.",
    ),
    ("file_tail", {"path": "docs/notes.txt", "lines": 1}, "docs/notes.txt, lines 2-2 of 2\n    2| Buy bread."),
    (
        "diff_files",
        {"first": "docs/copy.txt", "second": "docs/notes.txt"},
        "docs/copy.txt and docs/notes.txt are the same",
    ),
    (
        "search_text",
        {"pattern": "^The SHOP", "glob": "*.md"},
        (
            "docs/guide.md:7: The shop opens at nine and closes at five. On Sundays it stays closed. "
            "See [prices](prices.md)."
        ),
    ),
    (
        "search_text",
        {"pattern": "cents", "limit": 1},
        "docs/guide.md:19: Every price is in cents. The API is not used.\n... and 1 more",
    ),
    ("files_with_match", {"pattern": "nine"}, "docs/copy.txt: 1\ndocs/guide.md: 2\ndocs/notes.txt: 1"),
    ("count_matches", {"pattern": "price", "path": "docs/guide.md"}, "docs/guide.md: 5 matches of 'price' on 4 lines"),
    (
        "lines_around",
        {"pattern": "limit", "path": "shop/items.py", "context": 0},
        "   10| LIMIT = 10\n   20|         if count > LIMIT:",
    ),
    ("todo_comments", {}, "shop/items.py:26: return json.dumps(self.name)  # TODO: escape it"),
    (
        "longest_lines",
        {"path": "docs/notes.txt", "count": 1},
        "1: 40 characters: Nine o'clock is early. The shop is open.",
    ),
    (
        "find_definition",
        {"name": "Item.total"},
        "shop/items.py:18: def total(self, count: int, *, rebate: Decimal = Decimal(0)) -> Decimal:",
    ),
    ("find_references", {"name": "Item"}, "shop/items.py:13: class Item:\nshop/items.py:29: class Book(Item):"),
    (
        "symbols",
        {"path": "shop/prices.py"},
        [
            {"name": "price_of", "kind": "function", "line": 4, "end": 6},
            {"name": "unused", "kind": "function", "line": 9, "end": 10},
        ],
    ),
    ("docstring_of", {"name": "price_of"}, "The price of an item in cents."),
    ("docstring_of", {"path": "shop/items.py", "name": ""}, "What a shop sells."),
    ("docstring_of", {"name": "Book"}, "Book (shop/items.py:29) has no docstring"),
    (
        "signature_of",
        {"name": "total"},
        "shop/items.py:18: def total(self, count: int, *, rebate: Decimal=Decimal(0)) -> Decimal",
    ),
    ("signature_of", {"name": "Item"}, "shop/items.py:13: class Item\n    name: str"),
    (
        "class_members",
        {"name": "Item"},
        [
            {"name": "name", "kind": "field", "line": 16},
            {"name": "total", "kind": "method", "line": 18},
            {"name": "label", "kind": "property", "line": 25},
        ],
    ),
    ("subclasses_of", {"name": "Item"}, "shop/items.py:29: class Book(Item)"),
    ("source_of", {"name": "Book"}, "shop/items.py, lines 29-30\n   29| class Book(Item):\n   30|     pass"),
    (
        "undocumented",
        {"folder": "shop"},
        "shop/items.py:25: Item.label\nshop/items.py:29: Book\nshop/prices.py:9: unused",
    ),
    ("list_imports", {"path": "shop/items.py"}, "__future__\ndecimal\njson\nshop"),
    (
        "import_graph",
        {"folder": "shop"},
        {"shop/__init__.py": [], "shop/items.py": ["shop/__init__.py"], "shop/prices.py": []},
    ),
    ("importers_of", {"module": "shop.prices"}, "shop/items.py:8: from shop import prices"),
    ("function_calls", {"name": "total"}, "Decimal: 1\nValueError: 1\nprices.price_of: 1"),
    ("exceptions_raised", {"path": "shop/items.py"}, "shop/items.py:21: raise ValueError('too many')"),
    ("constants_of", {"path": "shop/items.py"}, "10: LIMIT = 10"),
    ("decorated", {"decorator": "property"}, "shop/items.py:25: def label(self) -> str"),
    ("longest_functions", {"count": 1}, [{"name": "Item.total", "path": "shop/items.py", "line": 18, "lines": 5}]),
    (
        "outline",
        {"path": "docs/guide.md"},
        "docs/guide.md:1: # Guide\ndocs/guide.md:5: ## Opening hours\ndocs/guide.md:13: ## Prices",
    ),
    ("table_of_contents", {"path": "docs/guide.md", "depth": 2}, "- Guide\n  - Opening hours\n  - Prices"),
    (
        "section",
        {"path": "docs/guide.md", "heading": "prices"},
        "docs/guide.md, lines 13-19\n"
        + "\n".join(f"{n:>5}| {line}" for n, line in enumerate(GUIDE.splitlines(), 1) if n >= 13),
    ),
    ("find_headings", {"text": "hours"}, "docs/guide.md:5: ## Opening hours"),
    ("markdown_links", {"path": "docs/guide.md"}, [{"line": 7, "text": "prices", "target": "prices.md"}]),
    ("markdown_links", {"path": "docs/notes.txt"}, "docs/notes.txt has no links"),
    ("code_blocks", {"path": "docs/guide.md", "language": "python"}, 'line 9: python\n    print("open")'),
    (
        "markdown_tables",
        {"path": "docs/guide.md"},
        "table at line 15:\n| item | price |\n| --- | --- |\n| book | 400 |",
    ),
    ("json_query", {"path": "data/stock.json", "query": "items[1].count"}, 5),
    ("json_keys", {"path": "data/stock.json"}, "items: list"),
    ("json_keys", {"path": "data/stock.json", "query": "items"}, "a list of 2 items"),
    ("csv_head", {"path": "data/sales.csv", "rows": 1}, [{"day": "Mon", "sold": "3"}]),
    (
        "csv_column",
        {"path": "data/sales.csv", "column": "sold"},
        {"rows": 3, "different": 3, "min": 3.0, "max": 5.0, "sum": 8.0, "mean": 4.0},
    ),
    ("csv_column", {"path": "data/sales.csv", "column": "day"}, {"rows": 3, "different": 3}),
    ("count_words", {"path": "docs/notes.txt"}, "docs/notes.txt: 10 words"),
    ("count_lines", {"path": "docs/guide.md"}, "docs/guide.md: 19 lines, 12 not blank"),
    (
        "compare_word_counts",
        {"first": "docs/notes.txt", "second": "settings.toml"},
        {"first": 10, "second": 7, "difference": 3},
    ),
    (
        "top_words",
        {"path": "docs/guide.md", "count": 2},
        [{"word": "prices", "count": 3}, {"word": "nine", "count": 2}],
    ),
    (
        "text_statistics",
        {"path": "docs/notes.txt"},
        {"characters": 52, "words": 10, "lines": 2, "sentences": 3, "paragraphs": 1, "mean_word_length": 4.2},
    ),
    ("shared_words", {"first": "docs/guide.md", "second": "docs/notes.txt", "count": 2}, "nine: 1\nopen: 1"),
    ("sentences_with", {"words": "sundays closed"}, "docs/guide.md: On Sundays it stays closed."),
    ("acronyms", {"path": "docs/guide.md"}, "API: 1"),
    ("git_log", {}, "Error: this folder is not in a git checkout; there is no history to ask"),
    ("git_show_stat", {}, "Error: this folder is not in a git checkout; there is no history to ask"),
    (
        "git_blame_lines",
        {"path": "broken.py", "start": 1, "end": 1},
        "Error: this folder is not in a git checkout; there is no history to ask",
    ),
    (
        "git_changed_files",
        {"since": "HEAD~1"},
        "Error: this folder is not in a git checkout; there is no history to ask",
    ),
    ("calculator", {"expression": "(1200 - 950) / 950 * 100"}, "(1200 - 950) / 950 * 100 = 26.315789"),
    ("calculator", {"expression": "max(2, sqrt(16)) // 3"}, "max(2, sqrt(16)) // 3 = 1"),
    ("percent_change", {"before": 8, "after": 6}, "-25.00 %"),
    (
        "date_difference",
        {"first": "2026-01-01", "second": "2026-03-01"},
        "59 days, from Thursday 2026-01-01 to Sunday 2026-03-01",
    ),
    ("spell_out_number", {"number": -1_204_017}, "minus one million two hundred four thousand seventeen"),
    ("convert_bytes", {"size": 1536, "unit": "KiB"}, "1536 bytes = 1.50 KiB"),
]


@pytest.mark.parametrize(("name", "args", "expected"), CASES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)])
def test_what_a_tool_says(tools: dict[str, BaseTool], name: str, args: dict[str, Any], expected: Any) -> None:
    text = said(tools, name, args)
    assert (text if isinstance(expected, str) else json.loads(text)) == expected


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python reads TOML from 3.11 on")
def test_what_toml_query_says(tools: dict[str, BaseTool]) -> None:
    assert said(tools, "toml_query", {"path": "settings.toml", "query": "shop.name"}) == '"Corner"'
    assert said(tools, "toml_query", {"path": "settings.toml"}) == '{"shop": {"name": "Corner", "open": true}}'
    assert "is not TOML" in said(tools, "toml_query", {"path": "docs/guide.md"})


def test_what_file_info_says(tools: dict[str, BaseTool]) -> None:
    import hashlib

    info = json.loads(said(tools, "file_info", {"path": "docs/notes.txt"}))
    digest = hashlib.sha256(b"Nine o'clock is early. The shop is open.\nBuy bread.\n").hexdigest()
    assert info == {
        "path": "docs/notes.txt",
        "bytes": 52,
        "modified": "2026-01-01 12:00 UTC",
        "kind": ".txt, text",
        "lines": 2,
        "words": 10,
        "sha256": digest,
    }
    assert "lines" not in json.loads(said(tools, "file_info", {"path": "data/picture.bin"}))


def test_every_tool_is_tested_and_described(tools: dict[str, BaseTool]) -> None:
    assert set(tools) == {case[0] for case in CASES} | {"file_info", "toml_query"}
    assert len(tools) >= 40
    for tool in tools.values():
        assert tool.description
        for parameter in tool.args.values():
            assert parameter["description"]


# --- refusals --------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("read_file", {"path": "../secret.txt"}, "outside the folder"),
    ("read_file", {"path": "/etc/passwd"}, "outside the folder"),
    ("read_file", {"path": "docs/../../secret.txt"}, "outside the folder"),
    ("read_file", {"path": "way_out"}, "outside the folder"),
    ("read_file", {"path": "way_up/secret.txt"}, "outside the folder"),
    ("list_files", {"folder": "way_up"}, "outside the folder"),
    ("read_file", {"path": "a\0b"}, "NUL"),
    ("read_file", {"path": "guide.md"}, "did you mean docs/guide.md?"),
    ("read_file", {"path": "docs"}, "is a folder; use list_files"),
    ("read_file", {"path": "data/picture.bin"}, "is a binary file"),
    ("read_file", {"path": "docs/notes.txt", "start": 9}, "behind the end"),
    ("read_file", {"path": "docs/notes.txt", "start": 0}, "lines count from 1"),
    ("read_file", {"path": "docs/notes.txt", "start": "first"}, "the arguments do not fit: start"),
    ("list_files", {"folder": "docs/guide.md"}, "is a file"),
    ("list_files", {"folder": "nowhere"}, "no such folder"),
    ("files_changed_since", {"date": "soon"}, "is not a date"),
    ("files_changed_since", {"date": "9999-01-01"}, "is in the future"),
    ("search_text", {"pattern": "("}, "is not a regular expression"),
    ("search_text", {"pattern": ""}, "between 1 and 300"),
    ("search_text", {"pattern": "(a+)+$"}, "write it flat"),
    ("search_text", {"pattern": "(a|aa)*$"}, "write it flat"),
    ("find_definition", {"name": "nothing"}, "is not defined"),
    ("docstring_of", {"name": "", "path": ""}, "both empty"),
    ("docstring_of", {"name": "total", "path": "shop/prices.py"}, "is not defined in shop/prices.py"),
    ("class_members", {"name": "price_of"}, "is not a class"),
    ("symbols", {"path": "broken.py"}, "cannot be parsed"),
    ("symbols", {"path": "docs/guide.md"}, "is not a Python file"),
    ("section", {"path": "docs/guide.md", "heading": "Nope"}, "use outline"),
    ("json_query", {"path": "data/stock.json", "query": "items[9]"}, "nothing at '9'"),
    ("json_query", {"path": "data/stock.json", "query": "things"}, "there is items"),
    ("json_query", {"path": "docs/guide.md"}, "is not JSON"),
    ("toml_query", {"path": "docs/guide.md"}, "TOML"),
    ("csv_column", {"path": "data/sales.csv", "column": "x"}, "it has day, sold"),
    ("sentences_with", {"words": " "}, "words is empty"),
    ("git_show_stat", {"revision": "--output=x"}, "is not a commit"),
    ("git_changed_files", {"since": "a..b"}, "is not a commit"),
    ("git_blame_lines", {"path": "broken.py", "start": 2, "end": 1}, "end must not be before start"),
    ("calculator", {"expression": "__import__('os').getcwd()"}, "is not arithmetic"),
    ("calculator", {"expression": "9**9**9"}, "has no value"),
    ("calculator", {"expression": "1/0"}, "has no value"),
    ("calculator", {"expression": "True + 1"}, "is not arithmetic"),
    ("percent_change", {"before": 0, "after": 1}, "has no percentage"),
    ("date_difference", {"first": "yesterday", "second": "2026-01-01"}, "is not a date"),
    ("spell_out_number", {"number": 10**12}, "too large"),
    ("convert_bytes", {"size": 1, "unit": "stone"}, "is not known"),
]


@pytest.mark.parametrize(("name", "args", "reason"), REFUSED, ids=[f"{c[0]}-{n}" for n, c in enumerate(REFUSED)])
def test_a_refusal_is_a_clear_error_for_the_model(
    tools: dict[str, BaseTool], name: str, args: dict[str, Any], reason: str
) -> None:
    message = tools[name].invoke({"type": "tool_call", "id": "1", "name": name, "args": args})
    assert message.content.startswith("Error: ")
    assert reason in message.content
    assert message.status == "error"


def test_links_that_lead_out_are_not_listed_and_those_inside_are(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the secret word")
    (root / "way_out").symlink_to(tmp_path / "secret.txt")
    (root / "way_up").symlink_to(tmp_path)
    (root / "again.md").symlink_to(root / "docs" / "guide.md")
    corpus = Corpus(root)
    paths = [file.path for file in corpus.files]
    assert "again.md" in paths
    assert not [path for path in paths if path.startswith("way")]
    tools = {tool.name: tool for tool in corpus_tools(corpus)}
    assert said(tools, "search_text", {"pattern": "secret"}) == "no line matches 'secret'"
    assert said(tools, "count_lines", {"path": "again.md"}) == "again.md: 19 lines, 12 not blank"


def test_a_file_that_was_swapped_for_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the secret word")
    tools = tools_of(root)
    (root / "docs" / "notes.txt").unlink()
    (root / "docs" / "notes.txt").symlink_to(tmp_path / "secret.txt")
    assert "outside the folder" in said(tools, "read_file", {"path": "docs/notes.txt"})


def test_a_range_of_a_huge_file_is_read_and_the_rest_is_refused(root: Path) -> None:
    with (root / "huge.txt").open("w") as stream:
        stream.writelines(f"line {number}\n" for number in range(1, 300_001))
    tools = tools_of(root)
    text = said(tools, "read_file", {"path": "huge.txt", "start": 200_000, "end": 200_001})
    assert text == "huge.txt, lines 200000-200001\n200000| line 200000\n200001| line 200001"
    assert "too large to be read whole" in said(tools, "count_lines", {"path": "huge.txt"})
    assert said(tools, "search_text", {"pattern": "line 200000"}) == "no line matches 'line 200000'"


def test_diff_shows_what_differs(tools: dict[str, BaseTool]) -> None:
    text = said(tools, "diff_files", {"first": "docs/notes.txt", "second": "settings.toml"})
    assert text.splitlines()[:3] == ["--- docs/notes.txt", "+++ settings.toml", "@@ -1,2 +1,3 @@"]


def test_git_tools_ask_the_history(root: Path) -> None:
    def git(*args: str) -> None:
        author = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
        names = {f"GIT_{who}_{what}": "ada" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environment = {"PATH": os.environ["PATH"], "HOME": str(root), **author, **names}
        subprocess.run(["git", "-C", str(root), *args], check=True, capture_output=True, env=environment)

    git("init", "-q")
    git("add", "docs")
    git("commit", "-q", "-m", "first")
    git("add", "shop")
    git("commit", "-q", "-m", "second")
    tools = tools_of(root)
    log = said(tools, "git_log", {}).splitlines()
    assert [line.split(" ", 1)[1] for line in log] == ["2026-01-01 ada: second", "2026-01-01 ada: first"]
    assert [line.split(" ", 1)[1] for line in said(tools, "git_log", {"path": "docs"}).splitlines()] == [
        "2026-01-01 ada: first"
    ]
    assert "3 files changed" in said(tools, "git_show_stat", {"revision": "HEAD"})
    assert said(tools, "git_changed_files", {"since": "HEAD~1"}).splitlines()[0] == "A\tshop/__init__.py"
    blame = said(tools, "git_blame_lines", {"path": "docs/notes.txt", "start": 2, "end": 2})
    assert blame.endswith("2) Buy bread.")
    assert "Error: git: " in said(tools, "git_show_stat", {"revision": "nothing"})
