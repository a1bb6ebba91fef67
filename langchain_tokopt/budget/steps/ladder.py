"""The ladder: which steps a call that does not fit goes through, and in what order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from langchain_core.language_models import BaseChatModel

from langchain_tokopt.errors import ConfigurationError

Step = Literal["compress", "fallback", "clamp", "ask", "end", "raise"]

STEPS: Final[tuple[Step, ...]] = get_args(Step)

# What the words for whole ladders stand for.
_WORDS: Final[dict[str, tuple[Step, ...]]] = {
    "raise": ("clamp", "raise"),
    "end": ("clamp", "end"),
    "ask": ("clamp", "ask", "raise"),
}
_LAST: Final = ("end", "raise")
_FORMS = (
    'use "raise", "end" or "ask", or a sequence of steps such as ("compress", "fallback", "clamp", "ask", "end"), each '
    "at most once"
)


@dataclass(frozen=True, slots=True)
class Ladder:
    """The steps, in the order in which they are tried on top of each other.

    Attributes:
        steps: The last one is "end" or "raise", and no other is.
        fallback_model: The cheaper model of the step "fallback"; `None` where there is no such step.
    """

    steps: tuple[Step, ...] = ("clamp", "raise")
    fallback_model: BaseChatModel | None = None

    @classmethod
    def read(cls, on_exceeded: object, fallback_model: object = None) -> Ladder:
        """The ladder that the user asked for: a word for a whole one, or its steps in a sequence.

        A sequence is taken as it is; "raise" is added to one that ends with neither "end" nor "raise".

        Raises:
            ConfigurationError: There is no such step, a step comes twice or after the last one, or the model and the
                step "fallback" do not go together.
        """
        steps = _steps(on_exceeded)
        if fallback_model is None and "fallback" in steps:
            raise ConfigurationError(
                "fallback_model", None, 'on_exceeded has "fallback": give a cheaper chat model, or its name'
            )
        if fallback_model is not None and "fallback" not in steps:
            raise ConfigurationError(
                "fallback_model",
                fallback_model,
                'on_exceeded has no "fallback": use a sequence of steps, such as ("fallback", "clamp", "raise")',
            )
        return cls(steps, None if fallback_model is None else _model(fallback_model))

    def __contains__(self, step: object) -> bool:
        return step in self.steps


def _steps(given: object) -> tuple[Step, ...]:
    if isinstance(given, str):
        if given not in _WORDS:
            raise ConfigurationError("on_exceeded", given, _FORMS)
        return _WORDS[given]
    if not isinstance(given, Sequence) or not given or any(step not in STEPS for step in given):
        raise ConfigurationError("on_exceeded", given, _FORMS)
    steps = tuple(cast("Sequence[Step]", given))
    if len(set(steps)) < len(steps):
        raise ConfigurationError("on_exceeded", given, _FORMS)
    if any(step in _LAST for step in steps[:-1]):
        raise ConfigurationError("on_exceeded", given, 'nothing can come after "end" or "raise"')
    return steps if steps[-1] in _LAST else (*steps, "raise")


def _model(given: object) -> BaseChatModel:
    """The model itself, without the flows that an optimiser has put around it: the call has been through them."""
    if isinstance(given, str):
        from langchain.chat_models import init_chat_model

        try:
            made: Any = init_chat_model(given)
        except Exception as error:
            remedy = f"it cannot be made ({type(error).__name__}: {error}); give a chat model, or a name that works"
            raise ConfigurationError("fallback_model", given, remedy) from error
        given = made
    while isinstance(given, BaseChatModel) and given.__dict__.get("tokopt_owner") is not None:
        given = given.__dict__["inner"]
    if not isinstance(given, BaseChatModel):
        remedy = 'give a chat model, or a name for init_chat_model such as "openai:gpt-5-mini"'
        raise ConfigurationError("fallback_model", given, remedy)
    return given
