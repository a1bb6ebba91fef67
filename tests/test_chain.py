"""Chat models are found wherever a chain can hold one."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.language_models import BaseChatModel, FakeListLLM
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    RouterRunnable,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.runnables.history import RunnableWithMessageHistory

from langchain_tokopt.chain import wrap_chain
from langchain_tokopt.errors import NoChatModelError
from tests.fakes import ScriptedModel

GLOBAL_MODEL = ScriptedModel(responses=["bare"])
PROMPT = ChatPromptTemplate.from_messages([("human", "{q}")])


def bare() -> ScriptedModel:
    return ScriptedModel(responses=["bare"])


def optimised(_: BaseChatModel) -> BaseChatModel:
    return ScriptedModel(responses=["optimised"])


def history(_: str) -> InMemoryChatMessageHistory:
    return InMemoryChatMessageHistory()


def _lambda_closure() -> Any:
    model = bare()
    chain = PROMPT | model
    return RunnableLambda(lambda x: chain.invoke(x)) | StrOutputParser()


def _lambda_async() -> Any:
    model = bare()

    def run(x: Any) -> Any:
        return model.invoke(x["q"])

    async def arun(x: Any) -> Any:
        return await model.ainvoke(x["q"])

    return RunnableLambda(run, afunc=arun) | StrOutputParser()


def _lambda_default() -> Any:
    def run(x: Any, model: Any = bare()) -> Any:  # noqa: B008
        return model.invoke(x["q"])

    return RunnableLambda(run) | StrOutputParser()


CHAINS: dict[str, Any] = {
    "sequence": lambda: PROMPT | bare() | StrOutputParser(),
    "parallel": lambda: PROMPT | RunnableParallel(a=bare() | StrOutputParser()) | (lambda x: x["a"]),
    "binding": lambda: PROMPT | bare().bind(stop=["x"]) | StrOutputParser(),
    "config": lambda: PROMPT | bare().with_config(tags=["t"]) | StrOutputParser(),
    "retry": lambda: PROMPT | bare().with_retry(stop_after_attempt=2) | StrOutputParser(),
    "fallback": lambda: (
        PROMPT | ScriptedModel(responses=[ValueError("x")]).with_fallbacks([bare()]) | StrOutputParser()
    ),
    "branch": lambda: RunnableBranch((lambda x: x["q"] == "no", PROMPT | bare()), PROMPT | bare()) | StrOutputParser(),
    "assign": lambda: RunnablePassthrough.assign(a=PROMPT | bare() | StrOutputParser()) | (lambda x: x["a"]),
    "router": lambda: (
        RunnableLambda(lambda x: {"key": "k", "input": x}) | RouterRunnable({"k": PROMPT | bare()}) | StrOutputParser()
    ),
    "each": lambda: RunnableLambda(lambda x: [x]) | (PROMPT | bare() | StrOutputParser()).map() | (lambda x: x[0]),
    "history": lambda: (
        RunnableWithMessageHistory(PROMPT | bare(), history, input_messages_key="q").with_config(
            configurable={"session_id": "s"}
        )
        | StrOutputParser()
    ),
    "alternatives": lambda: (
        PROMPT | bare().configurable_alternatives(ConfigurableField(id="m"), other=bare()) | StrOutputParser()
    ),
    "lambda closure": _lambda_closure,
    "lambda async": _lambda_async,
    "lambda default": _lambda_default,
    "lambda global": lambda: RunnableLambda(lambda x: GLOBAL_MODEL.invoke(x["q"])) | StrOutputParser(),
}


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("name", CHAINS)
async def test_every_chat_model_is_replaced_and_the_chain_itself_is_not_changed(name: str) -> None:
    chain = CHAINS[name]()
    assert chain.invoke({"q": "hi"}) == "bare"
    wrapped = wrap_chain(chain, optimised)
    assert wrapped.invoke({"q": "hi"}) == "optimised"
    assert await wrapped.ainvoke({"q": "hi"}) == "optimised"
    assert chain.invoke({"q": "hi"}) == "bare"
    assert GLOBAL_MODEL.invoke("hi").text == "bare"


def test_a_lambda_still_sees_its_module_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped = wrap_chain(RunnableLambda(lambda x: (GLOBAL_MODEL.invoke(x).text, bare().responses)), optimised)
    monkeypatch.setitem(globals(), "bare", lambda: ScriptedModel(responses=["changed"]))
    assert wrapped.invoke("hi") == ("optimised", ["changed"])


def test_one_model_used_twice_is_one_wrapper() -> None:
    made: list[BaseChatModel] = []

    def once(model: BaseChatModel) -> BaseChatModel:
        made.append(model)
        return model.model_copy()

    model = bare()
    wrap_chain(RunnableParallel(a=model, b=PROMPT | model), once)
    assert made == [model]


def test_names_of_steps_are_kept() -> None:
    chain = (PROMPT | bare()).with_config(run_name="mine")
    assert wrap_chain(chain, optimised).get_name() == chain.get_name()


@pytest.mark.parametrize(
    ("chain", "advice"),
    [
        (PROMPT | StrOutputParser(), r"no chat model is visible .*wrap\(model\)"),
        (RunnableLambda(lambda x: x), "no chat model is visible"),
        (FakeListLLM(responses=["x"]), "text-completion model.*llm_cache"),
        (create_agent(ScriptedModel()), "compiled graph.*middleware=tokopt.middleware"),
    ],
    ids=["parser", "lambda", "completion", "graph"],
)
def test_without_a_visible_chat_model_the_error_says_what_to_wrap(chain: Any, advice: str) -> None:
    with pytest.raises(NoChatModelError, match=advice):
        wrap_chain(chain, optimised)
