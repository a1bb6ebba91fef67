"""Turns public data sets, in their original files, into the neutral formats that the benchmarks read.

    python -m benchmarks.convert SOURCE --out PATH [--kind KIND]

What SOURCE is gets recognised from what it holds; `--kind` says it where that fails. Every row of the result is one
JSON object on a line. See README.md in this folder for the formats and for where the sets come from.
"""

from __future__ import annotations

import argparse
import ast
import csv
import gzip
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Files = dict[str, Iterable[Row]]  # file name -> rows; "" is the output file itself


def main(argv: list[str] | None = None) -> int:
    """Convert and say what was written. Exit code 2: SOURCE cannot be read or recognised."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convert", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a file or folder of the original set")
    parser.add_argument("--out", type=Path, required=True, help="the file to write; a folder for sets of tools")
    parser.add_argument("--kind", choices=sorted(KINDS), help="what SOURCE is, when it is not recognised")
    args = parser.parse_args(argv)
    try:
        kind = args.kind or recognise(args.source)
        files = KINDS[kind](args.source)
    except (OSError, ValueError, KeyError) as error:
        print(f"{args.source}: {error}", file=sys.stderr)
        return 2
    for name, rows in files.items():
        target = args.out / name if name else args.out
        count = write_jsonl(target, rows)
        print(f"{target}: {count} rows ({kind})")
    return 0


def recognise(source: Path) -> str:
    """The kind of a set, from its file names and first row."""
    if source.is_dir():
        if (source / "all_clean_data.csv").exists():
            return "metatool"
        if (source / "multi_turn_func_doc").is_dir():
            return "bfcl"
        msg = "no known set in this folder (MetaTool and BFCL are folders); say --kind"
        raise ValueError(msg)
    name = source.name.removesuffix(".gz")
    if name.endswith(".csv"):
        with source.open(newline="", encoding="utf-8") as lines:
            if next(csv.reader(lines), []) == ["text", "category"]:
                return "banking77"
    elif name.endswith(".jsonl"):
        first = next(read_jsonl(source), {})
        if "instance_id" in first and "messages" in first:
            return "coding_runs"
    elif name.endswith(".json"):
        data = read_json(source)
        if isinstance(data, dict) and "oos_test" in data:
            return "clinc150"
        first = data[0] if isinstance(data, list) and data else {}
        for kind, keys in _FIRST_KEYS.items():
            if keys <= set(first):
                return kind
    msg = "not a set that is known here; say --kind"
    raise ValueError(msg)


_FIRST_KEYS = {
    "question_pairs": {"origin", "similar"},
    "locomo": {"qa", "conversation"},
    "tau_bench": {"traj", "task_id"},
    "hotpotqa": {"supporting_facts", "context"},
    "musique": {"paragraphs", "question_decomposition"},
}


# --- questions for the cache: {"text", "label"} and {"a", "b", "same"} ----------------------------------------------


def banking77(source: Path) -> Files:
    """Banking77 (github.com/PolyAI-LDN/task-specific-datasets): one CSV of questions with their intent."""
    with source.open(newline="", encoding="utf-8") as lines:
        return {"": [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(lines)]}


def clinc150(source: Path) -> Files:
    """CLINC150 (github.com/clinc/oos-eval), all splits; an out-of-scope question has no equal: its label is its own."""
    rows: list[Row] = []
    for split, pairs in sorted(read_json(source).items()):
        for number, (text, label) in enumerate(pairs):
            rows.append({"text": text, "label": f"{split}-{number}" if label == "oos" else label})
    return {"": rows}


def question_pairs(source: Path) -> Files:
    """Pairs of the same question (GPTCache's benchmark data).

    Unequal pairs are made of what is there: each question with that rewording of another one which shares most words
    with it, so that telling them apart is not trivial.
    """
    pairs = [(row["origin"], row["similar"]) for row in read_json(source)]
    words = [set(re.findall(r"\w+", similar.lower())) for _, similar in pairs]

    def rows() -> Iterator[Row]:
        for index, (a, b) in enumerate(pairs):
            yield {"a": a, "b": b, "same": True}
            own = set(re.findall(r"\w+", a.lower()))
            best, score = -1, -1.0
            for other, theirs in enumerate(words):
                overlap = len(own & theirs) / max(1, len(own | theirs))
                if other != index and overlap > score and pairs[other][0] != a:
                    best, score = other, overlap
            if best >= 0:
                yield {"a": a, "b": pairs[best][1], "same": False}

    return {"": rows()}


# --- tools: a registry and queries ----------------------------------------------------------------------------------


def metatool(source: Path) -> Files:
    """MetaTool (github.com/HowieHwong/MetaTool), its folder `dataset`: queries for one tool and for two."""
    described = {**read_json(source / "plugin_des.json"), **read_json(source / "big_tool_des.json")}
    with (source / "all_clean_data.csv").open(newline="", encoding="utf-8") as lines:
        single = [{"query": row["Query"], "tools": [row["Tool"]]} for row in csv.DictReader(lines)]
    double = [
        {"query": row["query"], "tools": row["tool"]} for row in read_json(source / "multi_tool_query_golden.json")
    ]
    registry = [
        {"name": name, "description": text, "parameters": {"type": "object", "properties": {}}}
        for name, text in described.items()
    ]
    known = {row["name"] for row in registry}
    return {
        "registry.jsonl": registry,
        "single.jsonl": [row for row in single if set(row["tools"]) <= known],
        "double.jsonl": [row for row in double if set(row["tools"]) <= known],
    }


def bfcl(source: Path) -> Files:
    """Berkeley Function Calling Leaderboard (github.com/ShishirPatil/gorilla), its folder `bfcl_eval/data`."""
    registry: dict[str, Row] = {}
    queries: list[Row] = []
    for path in sorted(source.glob("BFCL_*.json")):
        if "multi_turn" in path.name:
            continue
        gold = _bfcl_gold(source / "possible_answer" / path.name)
        for row in read_jsonl(path):
            for function in row.get("function") or []:
                registry.setdefault(function["name"], _bfcl_tool(function))
            wanted = gold.get(row.get("id", ""))
            if wanted:
                text = " ".join(turn["content"] for turn in row["question"][0] if turn["role"] == "user")
                queries.append({"query": text, "tools": wanted})
    dialog_registry: dict[str, Row] = {}
    for path in sorted((source / "multi_turn_func_doc").glob("*.json")):
        for function in read_jsonl(path):
            dialog_registry.setdefault(function["name"], _bfcl_tool(function))
    dialogs: list[Row] = []
    base = "BFCL_v4_multi_turn_base.json"
    answers = {row["id"]: row["ground_truth"] for row in read_jsonl(source / "possible_answer" / base)}
    for row in read_jsonl(source / base):
        for number, (turn, calls) in enumerate(zip(row["question"], answers[row["id"]], strict=True)):
            text = " ".join(message["content"] for message in turn if message["role"] == "user")
            wanted = list(dict.fromkeys(call.split("(", 1)[0] for call in calls))
            if text and wanted:
                dialogs.append({"query": text, "tools": wanted, "dialog": row["id"], "turn": number})
    return {
        "registry.jsonl": registry.values(),
        "single.jsonl": queries,
        "dialog_registry.jsonl": dialog_registry.values(),
        "dialogs.jsonl": dialogs,
    }


def _bfcl_gold(path: Path) -> dict[str, list[str]]:
    if not path.exists():
        return {}
    gold: dict[str, list[str]] = {}
    for row in read_jsonl(path):
        names = [name for call in row["ground_truth"] if isinstance(call, dict) for name in call]
        gold[row["id"]] = list(dict.fromkeys(names))
    return gold


def _bfcl_tool(function: Row) -> Row:
    parameters = _json_schema(function.get("parameters") or {"type": "dict", "properties": {}})
    return {"name": function["name"], "description": function.get("description", ""), "parameters": parameters}


_JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array", "hashmap": "object", "arraylist": "array"}
_JSON_TYPES |= {"bool": "boolean", "long": "integer", "double": "number", "char": "string", "short": "integer"}
_KNOWN_TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}


def _json_schema(value: Any) -> Any:
    """BFCL's type names (Python's, Java's) as those of JSON Schema; "any" and unknown ones are left out."""
    if isinstance(value, list):
        return [_json_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    result: Row = {}
    for key, item in value.items():
        if key == "type" and isinstance(item, str):
            name = _JSON_TYPES.get(item.lower(), item.lower())
            if name in _KNOWN_TYPES:
                result[key] = name
        else:
            result[key] = _json_schema(item)
    return result


# --- conversations, documents, agent runs ---------------------------------------------------------------------------


def locomo(source: Path) -> Files:
    """LoCoMo (github.com/snap-research/locomo): long conversations with questions.

    Category 5 asks for what was never said and is left out.
    """

    def rows() -> Iterator[Row]:
        for number, item in enumerate(read_json(source)):
            talk = item["conversation"]
            sessions = sorted((key for key in talk if re.fullmatch(r"session_\d+", key)), key=lambda k: int(k[8:]))
            first = talk[sessions[0]][0]["speaker"]
            messages = [
                {
                    "id": turn["dia_id"],
                    "role": "user" if turn["speaker"] == first else "assistant",
                    "name": turn["speaker"],
                    "content": turn["text"]
                    + (f" [shares photo: {turn['blip_caption']}]" if turn.get("blip_caption") else ""),
                }
                for session in sessions
                for turn in talk[session]
            ]
            known = {message["id"] for message in messages}
            questions = [
                {"question": q["question"], "answer": str(q["answer"]), "evidence": _dialog_ids(q["evidence"])}
                for q in item["qa"]
                if q.get("category") != 5 and q.get("answer") is not None
            ]
            for question in questions:
                question["evidence"] = [turn for turn in question["evidence"] if turn in known]
            yield {
                "id": item.get("sample_id", f"conversation-{number}"),
                "messages": messages,
                "questions": [question for question in questions if question["evidence"]],
            }

    return {"": rows()}


def _dialog_ids(evidence: list[str]) -> list[str]:
    """Some rows hold several ids in one string ("D8:6; D9:17")."""
    found = [f"D{a}:{int(b)}" for text in evidence for a, b in re.findall(r"D:?(\d+):(\d+)", text)]
    return sorted(set(found))


def hotpotqa(source: Path) -> Files:
    """HotpotQA (hotpotqa.github.io), distractor setting."""
    return {
        "": [
            {
                "question": row["question"],
                "answer": row["answer"],
                "paragraphs": [{"title": title, "sentences": sentences} for title, sentences in row["context"]],
                "support": row["supporting_facts"],
            }
            for row in read_json(source)
        ]
    }


def musique(source: Path) -> Files:
    """MuSiQue (github.com/StonyBrookNLP/musique).

    It marks paragraphs: a sentence supports when it holds the answer of the hop that its paragraph is for, the first
    one when none does.
    """

    def rows() -> Iterator[Row]:
        for row in read_json(source):
            hops = {hop["paragraph_support_idx"]: hop["answer"] for hop in row["question_decomposition"]}
            paragraphs, support = [], []
            for paragraph in row["paragraphs"]:
                sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])", paragraph["paragraph_text"])
                paragraphs.append({"title": paragraph["title"], "sentences": sentences})
                if paragraph["is_supporting"]:
                    answer = str(hops.get(paragraph["idx"], "")).lower()
                    holding = [n for n, sentence in enumerate(sentences) if answer and answer in sentence.lower()]
                    support.extend([paragraph["title"], n] for n in holding or [0])
            yield {"question": row["question"], "answer": row["answer"], "paragraphs": paragraphs, "support": support}

    return {"": rows()}


def tau_bench(source: Path) -> Files:
    """tau-bench (github.com/sierra-research/tau-bench), historical trajectories: OpenAI chat format already."""
    return {
        "": [
            {
                "id": f"tau-{row['task_id']}-{row.get('trial', 0)}",
                "messages": [{k: v for k, v in message.items() if v is not None} for message in row["traj"]],
            }
            for row in read_json(source)
        ]
    }


def coding_runs(source: Path) -> Files:
    """Runs of mini-swe-agent (github.com/SWE-agent/mini-swe-agent).

    Its agent writes one shell command in a code block and gets the output as the next user message; here the command
    is a tool call and the output its result.
    """

    def rows() -> Iterator[Row]:
        for row in read_jsonl(source):
            messages: list[Row] = []
            calls = 0
            for message in row["messages"]:
                previous = messages[-1] if messages else {}
                if message["role"] == "assistant":
                    messages.append(_with_call(message["content"], calls + 1))
                    calls += "tool_calls" in messages[-1]
                elif message["role"] == "user" and previous.get("tool_calls"):
                    call = previous["tool_calls"][0]["id"]
                    messages.append({"role": "tool", "tool_call_id": call, "content": message["content"]})
                else:
                    messages.append({"role": message["role"], "content": message["content"]})
            if messages and messages[-1].get("tool_calls"):  # the run ended with this command: nothing answers it
                messages[-1] = {"role": "assistant", "content": row["messages"][-1]["content"]}
            yield {"id": row["instance_id"], "messages": messages}

    return {"": rows()}


def _with_call(content: str, number: int) -> Row:
    found = re.search(r"```bash\s*\n(.*?)```", content, re.DOTALL)
    if not found:
        return {"role": "assistant", "content": content}
    call = {"name": "bash", "arguments": json.dumps({"command": found.group(1)})}
    return {
        "role": "assistant",
        "content": content[: found.start()],
        "tool_calls": [{"id": f"call_{number}", "type": "function", "function": call}],
    }


# --- files ----------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """The file's JSON, gzip or not."""
    return json.loads(_text(path))


def read_jsonl(path: Path) -> Iterator[Row]:
    """The file's rows, gzip or not. Some sets hold Python literals instead of JSON."""
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            try:
                yield ast.literal_eval(line)
            except (ValueError, SyntaxError) as error:
                msg = f"line {number} of {path.name} is neither JSON nor a literal"
                raise ValueError(msg) from error


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")


def write_jsonl(path: Path, rows: Iterable[Row]) -> int:
    """Number of rows written, one JSON object on a line; gzip when the name ends so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    data = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return len(lines)


KINDS: dict[str, Callable[[Path], Files]] = {
    "banking77": banking77,
    "bfcl": bfcl,
    "clinc150": clinc150,
    "coding_runs": coding_runs,
    "hotpotqa": hotpotqa,
    "locomo": locomo,
    "metatool": metatool,
    "musique": musique,
    "question_pairs": question_pairs,
    "tau_bench": tau_bench,
}


if __name__ == "__main__":
    sys.exit(main())
