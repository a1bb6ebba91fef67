"""The most that a call can take: its input with a margin, and the longest answer that the model may give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages.ai import InputTokenDetails, UsageMetadata

from langchain_tokopt.budget.amounts import MAX_AMOUNT, Amount
from langchain_tokopt.encodings import is_openai
from langchain_tokopt.pricing import Rates, model_identity, to_nano

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest
    from langchain_core.language_models import BaseChatModel

    from langchain_tokopt.tokens import TokenCounter

# What an answer is taken to have at most when nothing says how long it may get.
DEFAULT_OUTPUT_TOKENS = 4096

# Part of the input that is added to a count. For OpenAI's models: to tiktoken's for what differs between encodings, to
# an estimate for its error (95 % of estimates are within 8.4 %). For the models of others, whose tokenizers are not
# public: 99 % of the prompts of coding agents have for Claude at most 10 % more tokens than tiktoken and 18 % more than
# the estimate say (`benchmarks/budget_reserved.py`).
_MARGIN_PERCENT = {"tiktoken": 5, "estimate": 15}
_MARGIN_PERCENT_OF_OTHERS = {"tiktoken": 15, "estimate": 20}
_MARGIN_TOKENS = 32

_OUTPUT_SETTINGS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict")

# How a request says what its answer may have at most, by LangChain's names of the providers. langchain-openai and its
# Azure class turn `max_tokens` set on the model into `max_completion_tokens`, and both at once are an error there.
_SETTING_OF_PROVIDER = {
    "anthropic": "max_tokens",
    "azure": "max_completion_tokens",
    "deepseek": "max_tokens",
    "fireworks": "max_tokens",
    "groq": "max_tokens",
    "mistral": "max_tokens",
    "mistralai": "max_tokens",
    "openai": "max_completion_tokens",
    "together": "max_tokens",
    "xai": "max_tokens",
}


@dataclass(frozen=True, slots=True)
class WorstCase:
    """What one call may take at most.

    Attributes:
        model: The model's name, `None` when it cannot be known.
        provider: The provider's name, `None` when it cannot be known.
        counted_tokens: The input as counted.
        input_tokens: The input with the margin.
        output_tokens: All answers together at their longest.
        settings: The model settings that bound the answer; empty when this model's are not known.
        bounded: Whether the model has to be told that the answer may not be longer.
        answers: How many answers the call asks for.
        thinking_tokens: What the model is told to think at most; its answer may not be bounded to less.
        long_cache: Whether what it writes to the provider's cache is kept for an hour, at that price.
        nano: What it costs at most in nano-USD, where that is known without any tokens.
    """

    model: str | None
    provider: str | None
    counted_tokens: int
    input_tokens: int
    output_tokens: int
    settings: tuple[str, ...] = ()
    bounded: bool = False
    answers: int = 1
    thinking_tokens: int = 0
    long_cache: bool = False
    nano: int | None = None

    def amount(self, rates: Rates | None) -> Amount:
        """One call, its tokens and their price, without any discount."""
        priced = cost(rates, self.input_tokens, self.output_tokens, long_cache=self.long_cache)
        return Amount(priced.nano if self.nano is None else self.nano, priced.tokens, 1)

    def clamped(self, output_tokens: int) -> WorstCase:
        """The same call with shorter answers, all of them together at most `output_tokens`."""
        return replace(self, output_tokens=output_tokens // self.answers * self.answers, bounded=True)

    def as_asked(self, usage: UsageMetadata) -> UsageMetadata:
        """Usage of this call in which all that was written to the provider's cache has the lifetime that was asked for.

        For a stream neither Anthropic nor langchain-anthropic say whether it is kept for five minutes or for an hour.
        """
        details = usage.get("input_token_details") or {}
        written = details.get("cache_creation") or 0
        if not self.long_cache or not written or "ephemeral_1h_input_tokens" in details:
            return usage
        kept = {**details, "cache_creation": 0, "ephemeral_1h_input_tokens": written}
        return cast("UsageMetadata", {**usage, "input_token_details": kept})

    def bind(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        """The request as it may be sent: with its answers bounded, if they have to be, to what was reserved."""
        if not self.bounded:
            return request
        bound = dict.fromkeys(self.settings, self.output_tokens // self.answers)
        return request.override(model_settings={**request.model_settings, **bound})


def worst_case(request: ModelRequest[Any], counter: TokenCounter, *, max_output_tokens: int | None) -> WorstCase:
    """What the request may take at most: no discount for cached input, the answer at its longest.

    The longest answer is, first hit wins: the request's own setting, the model's, `model.profile`'s
    `max_output_tokens`, `DEFAULT_OUTPUT_TOKENS`; and never more than `max_output_tokens`, where that can be enforced or
    nothing else is known.
    """
    identity = model_identity(request.model, request.model_settings)
    counted = counter.request(request, corrected=True).total
    percent = _MARGIN_PERCENT if is_openai(identity.name) else _MARGIN_PERCENT_OF_OTHERS
    margin = percent[counter.source(identity.name)]
    settings = _settings(request.model_settings, identity.provider)
    longest = _longest_answer(request.model, request.model_settings)
    too_long = max_output_tokens is not None and (longest is None or longest > max_output_tokens)
    if too_long and (settings or longest is None):
        longest = max_output_tokens
    answers = _positive(request.model_settings.get("n")) or _positive(getattr(request.model, "n", None)) or 1
    return WorstCase(
        model=identity.name,
        provider=identity.provider,
        counted_tokens=counted,
        input_tokens=counted + -(-counted * margin // 100) + _MARGIN_TOKENS,
        output_tokens=(longest or DEFAULT_OUTPUT_TOKENS) * answers,
        settings=settings,
        bounded=too_long and bool(settings),
        answers=answers,
        thinking_tokens=_thinking_tokens(request.model, request.model_settings),
        long_cache=_keeps_for_an_hour(request),
    )


def cost(rates: Rates | None, input_tokens: int, output_tokens: int, *, long_cache: bool = False) -> Amount:
    """Tokens and their price without any discount; what an explicit cache charges for writing counts."""
    written = InputTokenDetails()
    if rates is not None and rates.caching == "explicit" and rates.cache_write > rates.input:
        key = "ephemeral_1h_input_tokens" if long_cache else "cache_creation"
        written = cast("InputTokenDetails", {key: input_tokens})
    usage = plain_usage(input_tokens, output_tokens)
    usage["input_token_details"] = written
    return Amount(0 if rates is None else to_nano(rates.cost(usage)), input_tokens + output_tokens)


def plain_usage(input_tokens: int, output_tokens: int) -> UsageMetadata:
    """Usage without details."""
    return UsageMetadata(
        input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=input_tokens + output_tokens
    )


def total_tokens(usage: UsageMetadata) -> int:
    """Input and output; their details are parts of them. `total_tokens` is not trusted: not every provider adds up."""
    return int(usage["input_tokens"] or 0) + int(usage["output_tokens"] or 0)


def affordable_output(case: WorstCase, rates: Rates | None, left: Amount) -> int:
    """How many output tokens fit into `left` beside the call's input; negative when not even that does.

    `MAX_AMOUNT` in `left` stands for no limit.
    """
    fits = left.tokens - case.input_tokens
    if rates is None or left.nano >= MAX_AMOUNT:
        return fits
    rates = rates.for_prompt(case.input_tokens)
    rest = left.nano - cost(rates, case.input_tokens, 0, long_cache=case.long_cache).nano
    if rest < 0:
        return -1
    nano_per_token = rates.output * 1000
    return min(fits, int(rest // nano_per_token)) if nano_per_token else fits


def _longest_answer(model: BaseChatModel, settings: Mapping[str, Any]) -> int | None:
    for name in _OUTPUT_SETTINGS:
        if tokens := _positive(settings.get(name)):
            return tokens
    for name in _OUTPUT_SETTINGS:
        if tokens := _positive(getattr(model, name, None)):
            return tokens
    return _positive((getattr(model, "profile", None) or {}).get("max_output_tokens"))


def _thinking_tokens(model: BaseChatModel, settings: Mapping[str, Any]) -> int:
    """Anthropic rejects a `max_tokens` that is not above its `thinking` budget."""
    thinking = settings.get("thinking", getattr(model, "thinking", None))
    return (_positive(thinking.get("budget_tokens")) or 0) if isinstance(thinking, Mapping) else 0


def _settings(settings: Mapping[str, Any], provider: str | None) -> tuple[str, ...]:
    """The settings that bound the answer: those that the request sets already, else the provider's own."""
    given = tuple(name for name in _OUTPUT_SETTINGS if _positive(settings.get(name)))
    if given:
        return given
    return (_SETTING_OF_PROVIDER[provider],) if provider in _SETTING_OF_PROVIDER else ()


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _keeps_for_an_hour(request: ModelRequest[Any]) -> bool:
    """Whether anything of the request is to be kept in Anthropic's cache for an hour."""
    messages = [*([request.system_message] if request.system_message is not None else []), *request.messages]
    blocks = [block for message in messages if isinstance(message.content, list) for block in message.content]
    tools = [tool if isinstance(tool, dict) else getattr(tool, "extras", None) for tool in request.tools]
    marked = [request.model_settings, getattr(request.model, "model_kwargs", None), *tools, *blocks]
    controls = [one.get("cache_control") for one in marked if isinstance(one, Mapping)]
    return any(isinstance(control, Mapping) and control.get("ttl") == "1h" for control in controls)
