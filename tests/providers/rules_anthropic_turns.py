"""What Anthropic asks of the turns of a conversation: every call answered at once, every thought as it was given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.providers.billing import anthropic_prefix
from tests.providers.rules import anthropic_error

THINKING = ("thinking", "redacted_thinking")
# Models whose thinking is valid only after what it was thought after.
# https://platform.claude.com/docs/en/build-with-claude/thinking ("Preserved in conversation")
BOUND = re.compile(r"claude-(opus-5-5|fable-5-1|sonnet-5-5)")
OTHER_CONVERSATION = (
    "The block is bound to a different conversation. Remove the block, or set "
    '`thinking.block_binding.prefix_mismatch_behavior` to "drop_block".'
)


@dataclass(frozen=True)
class Signer:
    """How the server checks its own thinking: a signature for a text, and the blocks it gave with each tool call."""

    sign: Callable[[str], str]
    given: Mapping[str, tuple[dict[str, Any], ...]]

    def bound(self, text: str, body: Mapping[str, Any], at: int) -> str:
        """The signature of a thought in the message at that position; with some models it holds for what is before."""
        if not BOUND.match(body["model"]):
            return self.sign(text)
        return f"{self.sign(text)}.{self.sign(anthropic_prefix(body, at))}"


@dataclass(frozen=True)
class Turn:
    """Consecutive messages of one role, which the API merges; blocks with their paths."""

    role: str
    at: int
    blocks: tuple[tuple[str, dict[str, Any]], ...]

    def of(self, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
        return [(path, block) for path, block in self.blocks if block.get("type") in kinds]


def check_pairs(turns: list[Turn]) -> None:
    """Tool calls and their results: each call answered once, at the start of the very next user turn."""
    seen: set[str] = set()
    for n, turn in enumerate(turns):
        calls = turn.of("tool_use")
        for path, block in calls:
            if block["id"] in seen:
                raise anthropic_error(f"{path}: `tool_use` ids must be unique")
            seen.add(block["id"])
        before = turns[n - 1] if n else None
        wanted = {block["id"] for _, block in before.of("tool_use")} if before else set()
        answered: set[str] = set()
        for path, block in turn.of("tool_result"):
            call_id = block["tool_use_id"]
            if call_id not in wanted:
                raise anthropic_error(
                    f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. Each `tool_result` "
                    "block must have a corresponding `tool_use` block in the previous message."
                )
            if call_id in answered:
                raise anthropic_error(
                    f"{path}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: "
                    f"{call_id}"
                )
            answered.add(call_id)
        if not calls:
            continue
        following = turns[n + 1] if n + 1 < len(turns) else None
        open_calls = [block["id"] for _, block in calls]
        for _, block in following.blocks if following and following.role == "user" else ():
            if block["type"] != "tool_result":
                break  # results come first in the content, text after them
            if block["tool_use_id"] in open_calls:
                open_calls.remove(block["tool_use_id"])
        if open_calls:
            raise anthropic_error(
                f"messages.{turn.at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(open_calls)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )


def check_thinking_settings(body: Mapping[str, Any]) -> None:
    thinking = body.get("thinking") or {"type": "disabled"}
    if thinking["type"] not in ("enabled", "disabled", "adaptive"):
        raise anthropic_error(
            f"thinking: Input tag '{thinking['type']}' found using 'type' does not match any of the expected tags: "
            "'disabled', 'enabled', 'adaptive'"
        )
    if thinking["type"] == "disabled":
        return
    if thinking["type"] == "enabled":
        size = thinking.get("budget_tokens")
        if size is None:
            raise anthropic_error("thinking.enabled.budget_tokens: Field required")
        if size < 1024:
            raise anthropic_error("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if body["max_tokens"] <= size:
            raise anthropic_error("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if body.get("temperature") not in (None, 1, 1.0):
        raise anthropic_error("`temperature` may only be set to 1 when thinking is enabled.")
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        raise anthropic_error("Thinking may not be enabled when tool_choice forces tool use.")


def check_thinking(turns: list[Turn], body: Mapping[str, Any], signer: Signer) -> None:
    """Signatures hold everywhere; in an open tool loop the newest assistant turn has its thinking, unchanged."""
    for turn in turns:
        for path, block in turn.of("thinking"):
            if block["signature"].partition(".")[0] != signer.sign(block["thinking"]):
                raise anthropic_error(f"{path}: Invalid `signature` in `thinking` block")
            if block["signature"] != signer.bound(block["thinking"], body, _message(path)):
                raise anthropic_error(f"{path}: Invalid `signature` in `thinking` block. {OTHER_CONVERSATION}")
        for path, block in turn.of("redacted_thinking"):
            text, _, signature = str(block["data"]).partition(".")
            if signature.partition(".")[0] != signer.sign(text):
                raise anthropic_error(f"{path}: Invalid `data` in `redacted_thinking` block")
            if signature != signer.bound(text, body, _message(path)):
                raise anthropic_error(f"{path}: Invalid `data` in `redacted_thinking` block. {OTHER_CONVERSATION}")
    loop = next((turn for turn in reversed(turns) if turn.role == "assistant"), None)
    if loop is None or not loop.of("tool_use") or (body.get("thinking") or {}).get("type") in (None, "disabled"):
        return
    call_ids = [block["id"] for _, block in loop.of("tool_use")]
    known = [signer.given[call_id] for call_id in call_ids if call_id in signer.given]
    given = known[0] if known else None
    path, first = loop.blocks[0]
    must_think = bool(given) if given is not None else body["thinking"]["type"] == "enabled"
    if must_think and first["type"] not in THINKING:
        raise anthropic_error(
            f"{path}.type: Expected `thinking` or `redacted_thinking`, but found `{first['type']}`. When `thinking` is "
            "enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of "
            "`tool_use` and `tool_result` blocks). We recommend you include thinking blocks from previous turns. To "
            "avoid this requirement, disable `thinking`."
        )
    if given is not None and tuple(block for _, block in loop.of(*THINKING)) != given:
        raise anthropic_error(
            f"{path}: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. "
            "These blocks must remain as they were in the original response."
        )


def _message(path: str) -> int:
    """The position in `messages` that a path names."""
    return int(path.split(".")[1])


def check_last(turn: Turn) -> None:
    if turn.role == "assistant" and turn.blocks:
        _, block = turn.blocks[-1]
        if block["type"] == "text" and block["text"] != block["text"].rstrip():
            raise anthropic_error("messages: final assistant content cannot end with trailing whitespace")
