// Node frameworks through arbstr: the Vercel AI SDK with both of its OpenAI providers, and LangChain. What each makes of the provider
// directly is what it must make of arbstr.

import assert from "node:assert/strict";
import { generateText, streamText, jsonSchema, tool } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { ChatOpenAI } from "@langchain/openai";

const [through, direct] = [process.env.ARBSTR_URL, process.env.PROVIDER_URL];
const apiKey = "sk-of-client";
const makers = {
  "@ai-sdk/openai": (baseURL) => { const openai = createOpenAI({ baseURL, apiKey }); return (name) => openai.chat(name); },
  "@ai-sdk/openai-compatible": (baseURL) => createOpenAICompatible({ name: "arbstr", baseURL, apiKey, includeUsage: true }),
};
const weather = tool({ description: "The weather", inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } } }) });

async function streamed(model, more = {}) {
  const errors = [];
  const run = streamText({ model, prompt: "Say hello.", maxRetries: 0, onError: ({ error }) => errors.push(error), ...more });
  const parts = [];
  for await (const part of run.textStream) parts.push(part);
  if (errors.length) throw errors[0];
  return { parts, usage: (await run.usage).totalTokens, reason: await run.finishReason, calls: (await run.toolCalls).map((call) => [call.toolName, call.input]) };
}

async function seenByAiSdk(make, url) {
  const model = make(url);
  const { text, usage, finishReason } = await generateText({ model: model("plain"), prompt: "Say hello.", maxRetries: 0 });
  return [text, usage.totalTokens, finishReason, await streamed(model("plain")), await streamed(model("tools"), { tools: { weather } })];
}

for (const [name, make] of Object.entries(makers)) {
  const seen = await seenByAiSdk(make, through);
  assert.deepEqual(seen, await seenByAiSdk(make, direct));
  assert.equal(seen[3].usage, 1500);
  assert.deepEqual(seen[4].calls, [["weather", { city: "Bern" }]]);
  await assert.rejects(generateText({ model: make(through)("bad-request"), prompt: "x", maxRetries: 0 }), /too hot/);
  await assert.rejects(streamed(make(through)("cut")), (error) => Boolean(error));
  console.log(`node ${name}: ok`);
}

const langchain = (baseURL, model, more = {}) => new ChatOpenAI({ model, apiKey, maxRetries: 0, configuration: { baseURL }, ...more });
async function seenByLangchain(url) {
  const answer = await langchain(url, "plain").invoke("Say hello.");
  const parts = [];
  for await (const part of await langchain(url, "plain", { streamUsage: true }).stream("Say hello.")) parts.push([part.content, part.usage_metadata?.total_tokens ?? null]);
  return [answer.content, answer.usage_metadata.total_tokens, parts];
}
assert.deepEqual(await seenByLangchain(through), await seenByLangchain(direct));
await assert.rejects(langchain(through, "bad-request").invoke("x"), /too hot/);
await assert.rejects(async () => { for await (const _ of await langchain(through, "cut").stream("x")); });
console.log("node @langchain/openai: ok");
