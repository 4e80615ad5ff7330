"""The `openai` Python SDK through arbstr: no exception, and no chunk that the provider itself would not have given."""

import os
import sqlite3
import time

import openai

ASK = [{"role": "user", "content": "Say hello."}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]
through = openai.OpenAI(base_url=os.environ["ARBSTR_URL"], api_key="sk-of-client", max_retries=0)
direct = openai.OpenAI(base_url=os.environ["PROVIDER_URL"], api_key="sk-of-client", max_retries=0)
mock = openai.OpenAI(base_url=os.environ["MOCK_URL"], api_key="unused", max_retries=0)


def row(request_id):
    columns = "success, provider, input_tokens, output_tokens, cost_nanosats, error_message, stream_duration_ms"
    for _ in range(100):
        with sqlite3.connect(f"file:{os.environ['ARBSTR_DB']}?mode=ro", uri=True) as database:
            found = database.execute(f"SELECT {columns} FROM requests WHERE correlation_id = ?", [request_id]).fetchone()
        if found and found[5] != "in_progress":
            return dict(zip(columns.split(", "), found))
        time.sleep(0.02)
    raise AssertionError(f"no finished row {request_id}: {found}")


def chunks(client, **request):
    with client.chat.completions.with_streaming_response.create(messages=ASK, stream=True, **request) as response:
        stream = response.parse()
        return [part.model_dump() for part in stream], response.headers.get("x-arbstr-request-id")


def check_json():
    raw = through.chat.completions.with_raw_response.create(model="plain", messages=ASK)
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello" and answer.usage.total_tokens == 1500
    assert raw.headers["x-arbstr-cost-sats"] == "2", raw.headers
    kept = row(raw.headers["x-arbstr-request-id"])
    assert kept["success"] == 1 and kept["cost_nanosats"] == 2_000_000_000, kept


def check_streams():
    for model, more in [("plain", {}), ("tools", {"tools": TOOLS}), ("two", {"n": 2})]:
        unasked, request_id = chunks(through, model=model, **more)
        assert unasked == chunks(direct, model=model, **more)[0], unasked
        assert all(part["choices"] for part in unasked), "every reader of choices[0] is safe"
        kept = row(request_id)
        assert kept["success"] == 1 and kept["cost_nanosats"] == 2_000_000_000 and kept["stream_duration_ms"] is not None, kept
        options = {"stream_options": {"include_usage": True}} | more
        asked, _ = chunks(through, model=model, **options)
        assert asked == chunks(direct, model=model, **options)[0], asked
        assert asked[-1]["usage"]["total_tokens"] == 1500


def check_tools_helper():
    with through.chat.completions.stream(model="tools", messages=ASK, tools=TOOLS) as stream:
        for _ in stream:
            pass
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Bern"}'), call


def check_errors():
    try:
        through.chat.completions.create(model="bad-request", messages=ASK)
        raise AssertionError("no error")
    except openai.BadRequestError as error:
        assert "too hot" in error.message and error.code == "bad_value" and error.param == "temperature", error
    try:
        through.chat.completions.create(model="nobody-has-it", messages=ASK)
        raise AssertionError("no error")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
    parts = []
    try:
        for part in through.chat.completions.create(model="cut", messages=ASK, stream=True):
            parts.append(part)
        raise AssertionError("a cut stream ended like a whole one")
    except openai.APIError as error:
        assert getattr(error, "code", None) == "upstream_stream_interrupted", repr(error)
    assert parts[1].choices[0].delta.content == "Hel"


def check_mock():
    model = mock.models.list().data[0].id
    answer = mock.chat.completions.create(model=model, messages=ASK)
    assert answer.choices[0].message.content and answer.usage.completion_tokens > 0
    text = "".join(part.choices[0].delta.content or "" for part in mock.chat.completions.create(model=model, messages=ASK, stream=True))
    assert text


for check in [check_json, check_streams, check_tools_helper, check_errors, check_mock]:
    check()
    print(f"python openai {openai.__version__}: {check.__name__} ok", flush=True)
