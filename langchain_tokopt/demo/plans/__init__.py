"""How the scripted model goes about a question: which tools it wants next, and what it answers from their results.

A plan is a generator. It yields the tool calls that it wants next (several at once are parallel calls), gets their
results, and returns its answer. It knows nothing but the question and what the results in the prompt say.
"""

from __future__ import annotations

import re

from langchain_tokopt.demo.plans import code, documents, numbers
from langchain_tokopt.demo.plans.steps import Plan, Want

__all__ = ["Plan", "Want", "plan_for"]


def plan_for(question: str) -> Plan:
    """The plan for a question, chosen by its words."""
    quoted = re.findall(r"`([^`]+)`", question)
    in_quotes = re.findall(r'"([^"]+)"', question)
    text = re.sub(r"`[^`]*`|\"[^\"]*\"", " ", question).lower()

    def says(*words: str) -> bool:
        return any(word in text for word in words)

    if len(quoted) > 1 and says("longer", "shorter", "differ in length"):
        return numbers.longer(quoted[0], quoted[1])
    if says("largest", "biggest"):
        return numbers.largest(quoted[0] if quoted else ".")
    if in_quotes and quoted and says("section"):
        return documents.section(quoted[-1], in_quotes[0])
    if in_quotes and quoted and says("how often", "how many times"):
        return documents.occurrences(quoted[-1], in_quotes[0])
    if len(quoted) > 1 and says("value", " set "):
        return documents.value(quoted[-1], quoted[0])
    if quoted and says("sections", "headings"):
        return documents.sections(quoted[-1])
    if quoted and says("import"):
        return code.imports(quoted[-1])
    if quoted and says("lines"):
        return numbers.lines(quoted[-1])
    if quoted and says("parameter", "argument", "signature"):
        return code.parameters(quoted[0])
    if quoted and says("methods"):
        return code.methods(quoted[0])
    if quoted and says("which files use", "files is"):
        return code.users(quoted[0])
    if quoted and says("defined", "definition"):
        return code.defined(quoted[0])
    if quoted:
        return code.purpose(quoted[0])
    return documents.topic(question)
