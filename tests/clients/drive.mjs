// The `openai` package for Node through arbstr: no exception, and no chunk that the provider itself would not have given.

import assert from "node:assert/strict";
import OpenAI from "openai";

const messages = [{ role: "user", content: "Say hello." }];
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } } }];
const client = (baseURL) => new OpenAI({ baseURL, apiKey: "sk-of-client", maxRetries: 0 });
const through = client(process.env.ARBSTR_URL);
const direct = client(process.env.PROVIDER_URL);
const mock = client(process.env.MOCK_URL);

async function chunks(openai, request) {
  const parts = [];
  for await (const part of await openai.chat.completions.create({ messages, stream: true, ...request })) parts.push(part);
  return parts;
}

async function checkJson() {
  const { data, response } = await through.chat.completions.create({ model: "plain", messages }).withResponse();
  assert.equal(data.choices[0].message.content, "Hello");
  assert.equal(response.headers.get("x-arbstr-cost-sats"), "2");
}

async function checkStreams() {
  for (const request of [{ model: "plain" }, { model: "tools", tools }, { model: "two", n: 2 }]) {
    const unasked = await chunks(through, request);
    assert.deepEqual(unasked, await chunks(direct, request));
    assert.ok(unasked.every((part) => part.choices.length > 0));
    const asking = { ...request, stream_options: { include_usage: true } };
    const asked = await chunks(through, asking);
    assert.deepEqual(asked, await chunks(direct, asking));
    assert.equal(asked.at(-1).usage.total_tokens, 1500);
  }
}

async function checkErrors() {
  await assert.rejects(through.chat.completions.create({ model: "bad-request", messages }), (error) => error.status === 400 && error.code === "bad_value");
  await assert.rejects(through.chat.completions.create({ model: "nobody-has-it", messages }), (error) => error.status === 404 && error.code === "model_not_found");
  await assert.rejects(chunks(through, { model: "cut" }), (error) => error instanceof OpenAI.APIError && error.code === "upstream_stream_interrupted");
}

async function checkMock() {
  const model = (await mock.models.list()).data[0].id;
  const answer = await mock.chat.completions.create({ model, messages });
  assert.ok(answer.choices[0].message.content);
  const parts = await chunks(mock, { model });
  assert.ok(parts.map((part) => part.choices[0].delta.content ?? "").join(""));
}

for (const check of [checkJson, checkStreams, checkErrors, checkMock]) {
  await check();
  console.log(`node openai: ${check.name} ok`);
}
