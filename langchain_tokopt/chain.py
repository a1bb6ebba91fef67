"""Replacing the chat models inside a chain."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.runnables import (
    Runnable,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase
from langchain_core.runnables.configurable import RunnableConfigurableAlternatives
from langchain_core.runnables.passthrough import RunnableAssign
from langchain_core.runnables.router import RouterRunnable
from langgraph.pregel import Pregel

from langchain_tokopt.errors import NoChatModelError


def wrap_chain(chain: Runnable[Any, Any], wrap_model: Callable[[BaseChatModel], BaseChatModel]) -> Runnable[Any, Any]:
    """`chain` with every chat model in it replaced by `wrap_model(model)`; `chain` itself is not changed.

    Looks into sequences, parallels, bindings (bound tools, retries, message history), branches, fallbacks, routers,
    assignments, configurable alternatives, and lambdas whose function refers to a model or a chain in its closure, its
    defaults or its module.

    Raises:
        NoChatModelError: There is no chat model that can be seen from here; the message says what to wrap instead.
    """
    replace = _Replace(wrap_model)
    result: Runnable[Any, Any] = replace(chain)
    if not replace.found:
        raise NoChatModelError(_advice(chain, replace.completions))
    return result


def replace_models(chain: Runnable[Any, Any], models: Mapping[int, BaseChatModel]) -> Runnable[Any, Any]:
    """`chain` with each chat model whose `id()` is a key of `models` replaced; others stay."""
    result: Runnable[Any, Any] = _Replace(lambda model: models.get(id(model), model))(chain)
    return result


def _advice(chain: object, completions: int) -> str:
    kind = type(chain).__name__
    if isinstance(chain, Pregel):
        return (
            f"wrap() was given a compiled graph ({kind}), whose nodes are plain functions: wrap the chat model that "
            "they call (`model = tokopt.wrap(model)`), or pass `middleware=tokopt.middleware` to create_agent"
        )
    if completions:
        return (
            f"{kind} holds a text-completion model but no chat model: use a chat model, or set `tokopt.llm_cache` as "
            "LangChain's cache (`set_llm_cache(tokopt.llm_cache)`)"
        )
    return (
        f"no chat model is visible in this {kind}: wrap the model before the chain is built "
        "(`prompt | tokopt.wrap(model) | parser`)"
    )


class _Replace:
    """One walk over a chain. The same object is replaced by the same object wherever it appears."""

    def __init__(self, wrap_model: Callable[[BaseChatModel], BaseChatModel]) -> None:
        self._wrap_model = wrap_model
        self._done: dict[int, tuple[Any, Any]] = {}  # the original is kept alive, so that its id stays its own
        self.found = 0
        self.completions = 0

    def __call__(self, part: Any) -> Any:
        if id(part) in self._done:
            return self._done[id(part)][1]
        self._done[id(part)] = (part, part)  # a cycle ends here
        result = self._replaced(part)
        self._done[id(part)] = (part, result)
        return result

    def _replaced(self, part: Any) -> Any:
        if isinstance(part, BaseChatModel):
            self.found += 1
            return self._wrap_model(part)
        if isinstance(part, BaseLLM):
            self.completions += 1
            return part
        if isinstance(part, RunnableSequence):
            steps = self._all(part.steps)
            return part if steps is None else RunnableSequence(*steps, name=getattr(part, "name", None))
        if isinstance(part, RunnableLambda):
            return self._lambda(part)
        for kind, fields in _PARTS.items():
            if isinstance(part, kind):
                return self._fields(part, fields)
        return part

    def _fields(self, part: Any, names: tuple[str, ...]) -> Any:
        changed: dict[str, Any] = {}
        for name in names:
            before = getattr(part, name)
            after = self._value(before)
            if after is not before:
                changed[name] = after
        return part.model_copy(update=changed) if changed else part

    def _value(self, value: Any) -> Any:
        """A field's value: a Runnable, or a mapping, list or tuple that holds some."""
        if isinstance(value, Runnable):
            return self(value)
        if isinstance(value, Mapping):
            items = self._all(value.values())
            return value if items is None else dict(zip(value.keys(), items, strict=True))
        if isinstance(value, (list, tuple)):
            items = self._all(value)
            return value if items is None else type(value)(items)
        return value

    def _all(self, values: Iterable[Any]) -> list[Any] | None:
        """The values with theirs replaced, `None` when nothing in them was."""
        before = list(values)
        after = [self._value(value) for value in before]
        return after if any(a is not b for a, b in zip(after, before, strict=True)) else None

    def _lambda(self, part: RunnableLambda[Any, Any]) -> Any:
        functions = {name: getattr(part, name) for name in ("func", "afunc") if hasattr(part, name)}
        after = {name: self._function(function) for name, function in functions.items()}
        if all(after[name] is functions[name] for name in functions):
            return part
        if "func" in after:
            return RunnableLambda(after["func"], afunc=after.get("afunc"), name=getattr(part, "name", None))
        return RunnableLambda(after["afunc"], name=getattr(part, "name", None))

    def _function(self, function: Any) -> Any:
        """The function, seeing the replaced models where it saw the models; the module that it is from is untouched."""
        if not isinstance(function, types.FunctionType):
            return function
        cells = tuple(self._cell(cell) for cell in function.__closure__ or ())
        defaults = self._value(function.__defaults__ or ())
        seen = {}
        for name in function.__code__.co_names:
            before = function.__globals__.get(name)
            after = self(before) if isinstance(before, Runnable) else before
            if after is not before:
                seen[name] = after
        unchanged = all(a is b for a, b in zip(cells, function.__closure__ or (), strict=True))
        if unchanged and not seen and defaults is (function.__defaults__ or ()):
            return function
        copy = types.FunctionType(
            function.__code__,
            _Overlay(seen, function.__globals__) if seen else function.__globals__,
            function.__name__,
            defaults or None,
            cells,
        )
        copy.__kwdefaults__ = self._value(function.__kwdefaults__) if function.__kwdefaults__ else None
        copy.__doc__, copy.__module__, copy.__qualname__ = function.__doc__, function.__module__, function.__qualname__
        copy.__annotations__ = function.__annotations__
        copy.__dict__.update(function.__dict__)
        return copy

    def _cell(self, cell: types.CellType) -> types.CellType:
        try:
            before = cell.cell_contents
        except ValueError:  # not bound yet
            return cell
        after = self._value(before) if isinstance(before, (Runnable, Mapping, list, tuple)) else before
        return cell if after is before else types.CellType(after)


class _Overlay(dict[str, Any]):
    """A function's globals with some names replaced; every other name is looked up in its module at call time."""

    def __init__(self, names: Mapping[str, Any], module: dict[str, Any]) -> None:
        super().__init__(names)
        self._module = module
        self["__builtins__"] = module.get("__builtins__", __builtins__)

    def __missing__(self, name: str) -> Any:
        return self._module[name]


_PARTS: dict[type, tuple[str, ...]] = {
    RunnableParallel: ("steps__",),
    RunnableBindingBase: ("bound",),
    RunnableEachBase: ("bound",),
    RunnableBranch: ("branches", "default"),
    RunnableWithFallbacks: ("runnable", "fallbacks"),
    RunnableAssign: ("mapper",),
    RouterRunnable: ("runnables",),
    RunnableConfigurableAlternatives: ("default", "alternatives"),
}
