"""Python frameworks through arbstr: LangChain, LiteLLM as a client, Pydantic AI and Instructor, each with JSON, a stream, a tool
call, usage, an error and a cut. What each makes of the provider directly is what it must make of arbstr. Run with the package's name."""

import asyncio
import importlib.metadata
import os
import sys

THROUGH, DIRECT = os.environ["ARBSTR_URL"], os.environ["PROVIDER_URL"]


def langchain():
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    @tool
    def weather(city: str) -> str:
        """The weather of a city."""
        return city

    def model(url, name, **more):
        return ChatOpenAI(base_url=url, api_key="sk-of-client", model=name, max_retries=0, **more)

    def seen(url):
        answer = model(url, "plain").invoke("Say hello.")
        parts = list(model(url, "plain", stream_usage=True).stream("Say hello."))
        whole = parts[0]
        for part in parts[1:]:
            whole += part
        call = model(url, "tools").bind_tools([weather]).invoke("Bern?").tool_calls[0]
        return [answer.content, answer.usage_metadata, [part.content for part in parts], whole.usage_metadata, call["name"], call["args"]]

    through = seen(THROUGH)
    assert through == seen(DIRECT), through
    assert through[3]["total_tokens"] == 1500, through
    check_faults(lambda name: model(THROUGH, name).invoke("x"), lambda name: list(model(THROUGH, name).stream("x")))


def litellm():
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no network but what is tested
    import litellm

    litellm.suppress_debug_info = True

    def ask(url, name, **more):
        ask = [{"role": "user", "content": "Say hello."}]
        return litellm.completion(model=f"openai/{name}", api_base=url, api_key="sk-of-client", messages=ask, num_retries=0, **more)

    def seen(url):
        answer = ask(url, "plain")
        parts = list(ask(url, "plain", stream=True))
        counted = list(ask(url, "plain", stream=True, stream_options={"include_usage": True}))
        call = ask(url, "tools").choices[0].message.tool_calls[0].function
        text = [part.choices[0].delta.content for part in parts]
        return [answer.choices[0].message.content, answer.usage.total_tokens, text, counted[-1].usage.total_tokens, call.name, call.arguments]

    through = seen(THROUGH)
    assert through == seen(DIRECT) and through[3] == 1500, through
    check_faults(lambda name: ask(THROUGH, name), lambda name: list(ask(THROUGH, name, stream=True)))


def pydantic_ai():
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    def agent(url, name):
        return Agent(OpenAIChatModel(name, provider=OpenAIProvider(base_url=url, api_key="sk-of-client")), retries=0)

    async def streamed(url, name):
        async with agent(url, name).run_stream("Say hello.") as run:
            parts = [part async for part in run.stream_text(delta=True, debounce_by=None)]
            return parts, run.usage.total_tokens

    def seen(url):
        return [agent(url, "plain").run_sync("Say hello.").output, asyncio.run(streamed(url, "plain"))]

    through = seen(THROUGH)
    assert through == seen(DIRECT), through
    check_faults(lambda name: agent(THROUGH, name).run_sync("x"), lambda name: asyncio.run(streamed(THROUGH, name)))


def instructor():
    import instructor
    import openai
    import pydantic

    class weather(pydantic.BaseModel):
        city: str

    def seen(url):
        client = instructor.from_openai(openai.OpenAI(base_url=url, api_key="sk-of-client", max_retries=0))
        ask = [{"role": "user", "content": "Bern?"}]
        return client.chat.completions.create(model="tools", response_model=weather, messages=ask, max_retries=0).city

    assert seen(THROUGH) == seen(DIRECT) == "Bern"


def check_faults(whole, stream):
    """A refused request and a cut stream must both be an exception: a cut that looks like an end loses text unseen."""
    for call in [lambda: whole("bad-request"), lambda: stream("cut")]:
        try:
            call()
        except Exception as error:
            assert "too hot" in str(error) or "connection" in str(error).lower() or "interrupted" in str(error).lower() or "provider" in str(error), repr(error)
        else:
            raise AssertionError("no exception")


CHECKS = {"langchain-openai": langchain, "litellm": litellm, "pydantic-ai-slim": pydantic_ai, "instructor": instructor}
package = sys.argv[1]
CHECKS[package]()
print(f"python {package} {importlib.metadata.version(package)}: ok", flush=True)
