// What chats can be asked for, each whole and streamed: a line of JSON for every answer.
const OpenAI = require("openai");

const { BASE_URL: baseURL, MODELRY_API_KEY: apiKey, MODEL: model } = process.env;
const openai = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const parameters = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [
  { type: "function", function: { name: "weather", description: "The weather.", parameters } },
  { type: "function", function: { name: "time", description: "The time.", parameters } },
];
const call = (id, city) => ({
  id,
  type: "function",
  function: { name: "weather", arguments: JSON.stringify({ city }) },
});
const question = [{ role: "user", content: "What is the weather in Paris?" }];
const calledBefore = [
  { role: "user", content: "What is the weather in Oslo and in Rome?" },
  { role: "assistant", tool_calls: [call("call_1", "Oslo"), call("call_2", "Rome")] },
  { role: "tool", tool_call_id: "call_1", content: "Rain." },
  { role: "tool", tool_call_id: "call_2", content: "Sun." },
  { role: "user", content: "What is the weather in Paris and in Berlin?" },
];
const person = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
};
const roomForSeveral = 600; // tokens with which there is sure to be room for a list of calls
const HELLO = 19556; // the token of SmolLM2

const asked = {
  required: { messages: question, tools, tool_choice: "required" },
  named: { messages: question, tools, tool_choice: { type: "function", function: { name: "time" } } },
  auto: { messages: calledBefore, tools, tool_choice: "auto", max_tokens: roomForSeveral },
  none: { messages: calledBefore, tools, tool_choice: "none" },
  parallel: { messages: calledBefore, tools, tool_choice: "required", max_tokens: roomForSeveral },
  single: { messages: calledBefore, tools, tool_choice: "required", parallel_tool_calls: false },
  object: {
    messages: [
      { role: "user", content: 'What is the capital of France? Answer as JSON: {"capital": "…"}' },
    ],
    response_format: { type: "json_object" },
    max_tokens: 200,
  },
  schema: {
    messages: [{ role: "user", content: "Ada is 36 years old." }],
    response_format: {
      type: "json_schema",
      json_schema: { name: "person", schema: person, strict: true },
    },
  },
  logprobs: { logprobs: true, top_logprobs: 2, max_tokens: 4 },
  several: { n: 2, temperature: 1, max_tokens: 8 },
  stop: { logit_bias: { [HELLO]: 3 }, stop: ["!"] },
  seed: { seed: 7, temperature: 1, max_tokens: 8 },
  "seed again": { seed: 7, temperature: 1, max_tokens: 8 },
  bias: { logit_bias: { [HELLO]: 100 }, max_tokens: 4 },
};

async function answer(body, streams) {
  if (!streams) return await openai.chat.completions.create(body);
  return await openai.chat.completions.stream(body).finalChatCompletion();
}

async function main() {
  for (const [name, more] of Object.entries(asked)) {
    const messages = [{ role: "user", content: "Say hi" }];
    const body = { model, messages, temperature: 0, max_tokens: 64, ...more };
    for (const streams of [false, true]) {
      const { choices } = await answer(body, streams);
      console.log(JSON.stringify({ name, streams, choices }));
    }
  }
}

main();
