"""What the package as a whole promises: importing it is cheap, and its public names exist."""

from __future__ import annotations

import subprocess
import sys

import langchain_tokopt

# Run in a fresh interpreter, since this one has long loaded everything.
CHEAP = """
import sys
import langchain_tokopt
heavy = {"torch", "sentence_transformers", "transformers", "faiss", "langchain", "langgraph", "sqlalchemy"}
print(sorted(heavy & set(sys.modules)))
"""
LIGHT = """
import sys
import langchain_tokopt
for name in langchain_tokopt.__all__:
    getattr(langchain_tokopt, name)
optimizer = langchain_tokopt.TokenOptimizer.preset("standard")
optimizer.close()
print(sorted({"torch", "sentence_transformers", "transformers", "faiss"} & set(sys.modules)))
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert run(CHEAP) == "[]"


def test_every_public_name_exists_and_an_optimiser_is_built_without_a_model_or_an_index() -> None:
    assert run(LIGHT) == "[]"


def test_public_names_are_listed_once_and_sorted_where_they_are_shown() -> None:
    assert len(set(langchain_tokopt.__all__)) == len(langchain_tokopt.__all__)
    assert set(langchain_tokopt.__all__) <= set(dir(langchain_tokopt))


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(langchain_tokopt, "Advanced")
