"""What the demo asks: questions about the files of a corpus, in threads as people ask them.

The questions are made from what the folder holds (names of classes, headings, paths, keys); their answers are not
looked up here.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from langchain_tokopt.demo.corpus import Corpus, File
from langchain_tokopt.demo.python_index import Definition, PythonIndex
from langchain_tokopt.demo.tools.markdown import headings

# How many questions each thread has, over and over. Every second thread opens with a question that another thread
# opened with before, in other words.
_SIZES = (4, 3, 4, 2)
# What the threads are about, over and over: people ask most about code and documents.
_TURNS = ("code", "text", "code", "code", "other", "text", "tests")


@dataclass(frozen=True)
class Question:
    """One question in two wordings."""

    wording: str
    rewording: str


@dataclass(frozen=True)
class Asked:
    """A question as it is asked. `repeats`: the number of the thread that asked it first, `None` if it is new."""

    text: str
    repeats: int | None = None


@dataclass(frozen=True)
class Thread:
    """One conversation."""

    id: str
    questions: tuple[Asked, ...]


def make_threads(corpus: Corpus, count: int, seed: int = 0, index: PythonIndex | None = None) -> tuple[Thread, ...]:
    """Threads with `count` questions in all, the same for the same folder, count and seed.

    The questions of one thread are about one file. Gives fewer questions only when the folder has too little to ask
    about.
    """
    rng = random.Random(seed)  # noqa: S311 - the same questions every time, no secret
    subjects = _subjects(corpus, index or PythonIndex(corpus), rng)
    threads: list[Thread] = []
    openings: list[tuple[int, Question]] = []
    left = count
    sizes = cycle(_SIZES)
    while left > 0 and (subjects or openings):
        size = min(next(sizes), left)
        asked: list[Asked] = []
        if openings and (len(threads) % 2 == 1 or not subjects):
            first, question = openings.pop(0)
            asked.append(Asked(question.rewording, first))
        if subjects and len(asked) < size:
            subject = subjects.pop(0)
            mine, rest = subject[: size - len(asked)], subject[size - len(asked) :]
            if rest:
                subjects.append(rest)
            if not asked:
                openings.append((len(threads), mine[0]))
            asked += [Asked(question.wording) for question in mine]
        if asked:
            threads.append(Thread(f"thread-{len(threads) + 1}", tuple(asked)))
            left -= len(asked)
    return tuple(threads)


def _subjects(corpus: Corpus, index: PythonIndex, rng: random.Random) -> list[list[Question]]:
    """Questions by file; files of different kinds take turns, each kind in random order."""
    definitions: dict[str, list[Definition]] = defaultdict(list)
    for definition in index.definitions:
        definitions[definition.path].append(definition)
    files = [file for file in corpus.texts if file.size > 200]
    rng.shuffle(files)
    by_kind: dict[str, list[list[Question]]] = defaultdict(list)
    for file in files:
        questions = list(_about(corpus, index, file, definitions[file.path], files, rng))
        if len(questions) > 1:
            by_kind[_kind(file)].append(questions)
    mixed: list[list[Question]] = []
    while any(by_kind.values()):
        for kind in _TURNS:
            if by_kind[kind]:
                mixed.append(by_kind[kind].pop(0))
    return mixed


def _kind(file: File) -> str:
    path = Path(file.path)
    if path.name.startswith("test_") or path.name == "conftest.py" or {"test", "tests"} & set(path.parts[:-1]):
        return "tests"
    return {".py": "code", ".md": "text", ".markdown": "text", ".txt": "text", ".rst": "text"}.get(file.suffix, "other")


def _about(
    corpus: Corpus,
    index: PythonIndex,
    file: File,
    definitions: Sequence[Definition],
    files: Sequence[File],
    rng: random.Random,
) -> Iterator[Question]:
    """Questions about one file, in the order in which they are asked."""
    found: list[Question] = []
    found += _code_questions(index, definitions, rng)
    if file.suffix in (".md", ".markdown"):
        found += _markdown_questions(corpus, file, rng)
    elif file.suffix in (".toml", ".json"):
        found += _data_questions(corpus, file, rng)
    if file.suffix == ".py":
        found.append(Question(f"Which modules does `{file.path}` import?", f"What are the imports of `{file.path}`?"))
    found.append(Question(f"How many lines has `{file.path}`?", f"What is the number of lines of `{file.path}`?"))
    others = [other for other in files if other.suffix == file.suffix and other.path != file.path]
    if others:
        other = rng.choice(others).path
        found.append(
            Question(
                f"Which file is longer, `{file.path}` or `{other}`, and by how many lines?",
                f"By how many lines do `{file.path}` and `{other}` differ in length, and which one is longer?",
            )
        )
    folder = Path(file.path).parent.as_posix()
    where = "the whole folder" if folder == "." else f"the folder `{folder}`"
    found.append(Question(f"What is the largest file in {where}?", f"Which file in {where} is the largest?"))
    yield from found


def _code_questions(index: PythonIndex, definitions: Sequence[Definition], rng: random.Random) -> Iterator[Question]:
    public = [
        d
        for d in definitions
        if d.is_public and not d.name.lower().startswith("test") and len(index.named(d.name.rsplit(".", 1)[-1])) == 1
    ]
    described = [d for d in public if d.docstring]
    tops = [d for d in described if "." not in d.name] or described
    if tops:
        name = rng.choice(tops).name
        what = "class" if name[:1].isupper() else "function"
        yield Question(f"What does the {what} `{name}` do?", f"What is the purpose of the {what} `{name}`?")
        yield Question(f"Which files use `{name}`?", f"In which files is `{name}` used?")
    functions = [d for d in public if d.kind != "class" and "." not in d.name]
    if functions:
        name = rng.choice(functions).name
        yield Question(f"Which parameters does `{name}` take?", f"What are the parameters of `{name}`?")
    classes = [d for d in public if d.kind == "class"]
    if classes:
        name = rng.choice(classes).name
        yield Question(f"Where is the class `{name}` defined?", f"In which file is the class `{name}` defined?")
        yield Question(f"Which methods does the class `{name}` have?", f"What are the methods of the class `{name}`?")


def _markdown_questions(corpus: Corpus, file: File, rng: random.Random) -> Iterator[Question]:
    titles = [h.title for h in headings(corpus.lines(file.path)) if "`" not in h.title]
    unique = [title for title in titles if titles.count(title) == 1]
    for title in rng.sample(unique, min(2, len(unique))):
        yield Question(
            f'What does the section "{title}" of `{file.path}` say?',
            f'What is written in the section "{title}" of `{file.path}`?',
        )
    if len(titles) > 2:
        yield Question(f"Which sections does `{file.path}` have?", f"What are the sections of `{file.path}`?")
    words = [word for title in unique for word in title.split() if len(word) > 5 and word.isalpha()]
    if words:
        word = rng.choice(words).lower()
        yield Question(
            f'How often does the word "{word}" occur in `{file.path}`?',
            f'How many times is the word "{word}" found in `{file.path}`?',
        )


def _data_questions(corpus: Corpus, file: File, rng: random.Random) -> Iterator[Question]:
    keys = list(dict.fromkeys(_keys(corpus, file)))
    for key in rng.sample(keys, min(2, len(keys))):
        yield Question(f"What is the value of `{key}` in `{file.path}`?", f"To what is `{key}` set in `{file.path}`?")


def _keys(corpus: Corpus, file: File) -> Iterator[str]:
    """Keys that a reader could see in a TOML or JSON file: "section.key" with a plain value on the same line."""
    section = ""
    for line in corpus.lines(file.path):
        text = line.strip()
        if file.suffix == ".toml":
            if text.startswith("[") and not text.startswith("[["):
                section = text.strip("[] ") + "."
            elif text.startswith("[["):
                return
            elif " = " in text and not text.startswith("#") and '"' not in text.split(" = ")[0] + section:
                yield section + text.split(" = ")[0].strip()
        elif line.startswith('  "') and not line.startswith("   ") and not text.endswith(("{", "[")):
            yield text.split('"')[1]
