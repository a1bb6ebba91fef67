"""Flows around a chat model: what `TokenOptimizer.wrap` puts in the place of a model."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseRunManager, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.uuid import uuid7
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation

from langchain_tokopt.call import BoundTools, Call, StreamedAnswer, amodel_chunks, model_chunks, told
from langchain_tokopt.caller import ModelRun, active_run, handlers_of, using_config, using_run
from langchain_tokopt.events import request_scope
from langchain_tokopt.flow import (
    BACKGROUND_TAG,
    INTERNAL_TAG,
    FlowFunction,
    Held,
    Later,
    Pause,
    aattend,
    adrive,
    advance,
    attend,
    drive,
    in_thread,
    is_internal,
    let_it_know,
    must_end,
    request_of,
)

if TYPE_CHECKING:
    import builtins


_opened: ContextVar[list[AsyncGenerator[ChatGenerationChunk, None]] | None] = ContextVar(
    "tokopt_opened_streams", default=None
)


class OptimizedChatModel(BaseChatModel):
    """A chat model with flows around it. It does what the model inside can do, and looks like it from outside.

    Callbacks, rate limiter and LangChain's cache are those of the model inside and act once, out here: the model
    inside is called below them, so usage is counted once. Attributes that this class does not have are read from
    the model inside.
    """

    inner: SkipValidation[BaseChatModel]
    flow: SkipValidation[Callable[[ModelRequest[Any]], Any]] = Field(exclude=True, repr=False)

    tokopt_owner: str | None = Field(default=None, exclude=True, repr=False)

    _bound: BoundTools | None = PrivateAttr(default=None)

    model_config = ConfigDict(arbitrary_types_allowed=True)

    _SHARED: ClassVar[tuple[str, ...]] = (
        "cache",
        "verbose",
        "callbacks",
        "tags",
        "metadata",
        "custom_get_token_ids",
        "rate_limiter",
        "disable_streaming",
        "output_version",
        "profile",
    )

    @classmethod
    def around(cls, inner: BaseChatModel, flow: FlowFunction, *, owner: str | None = None) -> OptimizedChatModel:
        """`inner` with `flow` around it; what LangChain keeps on a model (callbacks, tags, cache ...) is taken over.

        `owner` names the optimiser that the flow is from, so that its middleware does not do the same again.
        """
        shared = {name: getattr(inner, name) for name in cls._SHARED if hasattr(inner, name)}
        return cls(inner=inner, flow=flow, tokopt_owner=owner, name=inner.name or type(inner).__name__, **shared)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)  # type: ignore[misc]
        except AttributeError:
            inner = self.__dict__.get("inner")
            if inner is None or name.startswith("_"):
                raise
            return getattr(inner, name)

    # --- what the model inside knows best ---

    @property
    def _llm_type(self) -> str:
        return self.inner._llm_type

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return self.inner._identifying_params

    @cached_property
    def _serialized(self) -> builtins.dict[str, Any]:
        return self.inner._serialized

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return self.inner._get_llm_string(stop=stop, **kwargs)

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> builtins.dict[str, Any]:
        return self.inner._get_invocation_params(stop=stop, **kwargs)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return self.inner._get_ls_params(stop=stop, **kwargs)

    def _combine_llm_outputs(self, _llm_outputs: list[builtins.dict[str, Any] | None], /) -> builtins.dict[str, Any]:
        return self.inner._combine_llm_outputs(_llm_outputs)

    def _should_stream(
        self,
        *,
        async_api: bool,
        run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> bool:
        return self.inner._should_stream(async_api=async_api, run_manager=run_manager, **kwargs)

    def _should_use_protocol_streaming(
        self,
        *,
        async_api: bool,
        run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> bool:
        return self.inner._should_use_protocol_streaming(async_api=async_api, run_manager=run_manager, **kwargs)

    def get_token_ids(self, text: str) -> list[int]:
        return self.inner.get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        return self.inner.get_num_tokens(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        return self.inner.get_num_tokens_from_messages(messages, tools)

    # --- binding ---

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        options = dict(kwargs) if tool_choice is None else {**kwargs, "tool_choice": tool_choice}
        binding = self.inner.bind_tools(tools, **options)
        # A model that was wrapped before binds a copy of itself, which knows the tools.
        nested = isinstance(binding, RunnableBinding) and isinstance(binding.bound, OptimizedChatModel)
        if not isinstance(binding, RunnableBinding) or not (binding.bound is self.inner or nested):
            from langchain_tokopt.chain import replace_models

            return replace_models(binding, {id(self.inner): self})
        formatted = binding.kwargs.get("tools") or []
        bound = self.model_copy(update={"inner": binding.bound})
        bound._bound = BoundTools(
            tools=tuple(_usable(tool, shown) for tool, shown in zip(tools, formatted, strict=False)),
            tool_choice=tool_choice,
            options=kwargs,
            formatted=formatted,
        )
        if len(bound._bound.tools) != len(formatted):
            bound._bound = None  # the provider's class rearranged them: only what it made of them is known
        return RunnableBinding(bound=bound, kwargs=dict(binding.kwargs), config=binding.config)

    def with_structured_output(
        self, schema: Any, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        from langchain_tokopt.chain import replace_models

        chain = self.inner.with_structured_output(schema, include_raw=include_raw, **kwargs)
        return replace_models(chain, {id(self.inner): self})

    # --- the config of the call, which BaseChatModel does not hand to `_generate` and `_stream` ---

    def _seen(self, config: RunnableConfig | None) -> tuple[RunnableConfig, ModelRun, RunnableConfig]:
        """The config as flows see it, this call's run, and the config by which LangChain gives the run that id.

        LangChain tells `_stream` nothing of the run.
        """
        seen = ensure_config(config)
        run_id = seen.get("run_id") or uuid7()
        run = ModelRun(run_id, (*handlers_of(seen.get("callbacks")), *handlers_of(self.callbacks)))
        return seen, run, {**seen, "run_id": run_id}

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        seen, run, own = self._seen(config)
        with using_config(seen, run):
            return super().invoke(input, own, stop=stop, **kwargs)

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        seen, run, own = self._seen(config)
        with using_config(seen, run):
            return await super().ainvoke(input, own, stop=stop, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        seen, run, own = self._seen(config)
        chunks = super().stream(input, own, stop=stop, **kwargs)
        try:
            while True:
                with using_config(seen, run):  # not across the `yield`: a generator shares its caller's context
                    chunk = next(chunks, None)
                if chunk is None:
                    return
                yield chunk
        finally:
            with using_config(seen, run):
                chunks.close()  # type: ignore[attr-defined]

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        seen, run, own = self._seen(config)
        chunks = super().astream(input, own, stop=stop, **kwargs)
        opened: list[AsyncGenerator[ChatGenerationChunk, None]] = []
        try:
            while True:
                token = _opened.set(opened)
                try:
                    with using_config(seen, run):
                        chunk = await anext(chunks, None)
                finally:
                    _opened.reset(token)
                if chunk is None:
                    return
                yield chunk
        finally:
            with using_config(seen, run):
                await chunks.aclose()  # type: ignore[attr-defined]
                for stream in opened:  # closed here and now, not when the garbage collector finds it
                    await stream.aclose()

    # --- running ---

    def _called(self) -> BaseChatModel:
        """The model inside; marked as this one is, where an optimiser further out has made the call its own."""
        own = {INTERNAL_TAG, BACKGROUND_TAG}.intersection(self.tags or ())
        if not own:
            return self.inner
        update: builtins.dict[str, Any] = {"tags": self.tags, "metadata": self.metadata}
        if BACKGROUND_TAG in own:
            update.update(cache=self.cache, callbacks=self.callbacks)
        return self.inner.model_copy(update=update)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = Call(self._called(), self._bound, messages, stop, kwargs)

        def handler(request: ModelRequest[Any]) -> ModelResponse[Any]:
            if is_internal(request):
                return call.answer_internally(request, run_manager)
            sent, options = call.outgoing(request)
            if _takes_run_manager(type(request.model)):
                options["run_manager"] = run_manager
            return call.received(request.model._generate(sent, **options), run_manager)

        with using_run(_run_of(run_manager)):
            return call.result(drive(self.flow, call.request, handler, beside=call.answer_internally))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = Call(self._called(), self._bound, messages, stop, kwargs)

        async def handler(request: ModelRequest[Any]) -> ModelResponse[Any]:
            if is_internal(request):
                return await call.aanswer_internally(request, run_manager)
            sent, options = call.outgoing(request)
            if _takes_run_manager(type(request.model), "_agenerate"):
                options["run_manager"] = run_manager
            return call.received(await request.model._agenerate(sent, **options), run_manager)

        with using_run(_run_of(run_manager)):
            return call.result(await adrive(self.flow, call.request, handler, beside=call.aanswer_internally))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call = Call(self._called(), self._bound, messages, stop, kwargs)
        with request_scope() as scope:
            pass
        steps = self.flow(call.request)
        answer = StreamedAnswer(call)
        try:
            with request_scope(scope):
                done, value = advance(steps)
            while not done:
                if isinstance(value, (Later, Pause)):
                    with request_scope(scope):
                        attend(value, call.answer_internally)
                        done, value = advance(steps)
                    continue
                request = request_of(value)
                try:
                    if is_internal(request):
                        response = call.answer_internally(request, run_manager)
                    else:
                        answer.begin(held=isinstance(value, Held))
                        sent, options = call.outgoing(request)
                        for chunk in model_chunks(request.model, sent, options):
                            yield from answer.take(chunk)
                        response = answer.response()
                except BaseException as error:
                    with request_scope(scope):
                        if must_end(error) or answer.sent:
                            let_it_know(steps, told(error, answer.said))
                            raise  # what has been streamed cannot be taken back, so nothing else may follow it
                        done, value = advance(steps, error=told(error, answer.broke_off()))
                else:
                    with request_scope(scope):
                        done, value = advance(steps, response=response)
            yield from answer.rest(value)
        finally:
            with request_scope(scope):
                steps.close()

    def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        stream = self._astream_through_flow(messages, stop, run_manager, kwargs)
        opened = _opened.get()
        if opened is not None:
            opened.append(stream)
        return stream

    async def _astream_through_flow(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        run_manager: AsyncCallbackManagerForLLMRun | None,
        kwargs: dict[str, Any],
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        call = Call(self._called(), self._bound, messages, stop, kwargs)
        with request_scope() as scope:
            pass

        async def step(function: Any, *args: Any) -> Any:
            with request_scope(scope):
                return await in_thread(function, *args)

        steps = self.flow(call.request)
        answer = StreamedAnswer(call)
        try:
            done, value = await step(advance, steps)
            while not done:
                if isinstance(value, (Later, Pause)):
                    with request_scope(scope):
                        await aattend(value, call.aanswer_internally)
                    done, value = await step(advance, steps)
                    continue
                request = request_of(value)
                try:
                    if is_internal(request):
                        response = await call.aanswer_internally(request, run_manager)
                    else:
                        answer.begin(held=isinstance(value, Held))
                        sent, options = call.outgoing(request)
                        async for chunk in amodel_chunks(request.model, sent, options):
                            for ready in answer.take(chunk):
                                yield ready
                        response = answer.response()
                except BaseException as error:
                    if must_end(error) or answer.sent:
                        await step(let_it_know, steps, told(error, answer.said))
                        raise
                    done, value = await step(advance, steps, None, told(error, answer.broke_off()))
                else:
                    done, value = await step(advance, steps, response)
            for chunk in answer.rest(value):
                yield chunk
        except asyncio.CancelledError as error:
            if inspect.getgeneratorstate(steps) == inspect.GEN_SUSPENDED:
                await step(let_it_know, steps, error)
            raise
        finally:
            if inspect.getgeneratorstate(steps) == inspect.GEN_SUSPENDED:
                await step(steps.close)


def _run_of(run_manager: BaseRunManager | None) -> ModelRun | None:
    return active_run() if run_manager is None else ModelRun(run_manager.run_id, tuple(run_manager.handlers))


def _usable(tool: Any, shown: Any) -> BaseTool | dict[str, Any]:
    """The tool itself where a flow can read it, else what the provider's class made of it."""
    return tool if isinstance(tool, (BaseTool, dict)) else shown


@lru_cache(maxsize=256)
def _takes_run_manager(kind: type[BaseChatModel], method: str = "_generate") -> bool:
    return "run_manager" in inspect.signature(getattr(kind, method)).parameters
