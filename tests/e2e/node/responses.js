// What the OpenAI library makes of the Responses API: a line of JSON for each step.
const OpenAI = require("openai");

const { BASE_URL: baseURL, MODELRY_API_KEY: apiKey, MODEL: model } = process.env;
const openai = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const asked = { model, temperature: 0, max_output_tokens: 200 };
const schema = {
  type: "object",
  properties: { name: { type: "string", maxLength: 20 }, people: { type: "integer" } },
  required: ["name", "people"],
  additionalProperties: false,
};

function show(name, saw) {
  console.log(JSON.stringify({ name, ...saw }));
}

async function refused(name, call) {
  try {
    await call();
    show(name, { kind: null });
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    const { status, code, param } = error;
    show(name, { kind: error.constructor.name, status, code, param });
  }
}

async function main() {
  const whole = await openai.responses.create({ ...asked, input: "Say hi" });
  show("whole", { text: whole.output_text, status: whole.status, model: whole.model });

  const pieces = [];
  const stream = openai.responses.stream({ ...asked, input: "Say hi" });
  stream.on("response.output_text.delta", (event) => pieces.push(event.delta));
  const streamed = await stream.finalResponse();
  show("stream", { text: streamed.output_text, pieces: pieces.length, joined: pieces.join("") });

  const next = await openai.responses.create({
    ...asked,
    input: "And now in French?",
    previous_response_id: whole.id,
  });
  const items = [];
  for await (const item of openai.responses.inputItems.list(next.id, { order: "asc", limit: 1 })) {
    items.push(item.role);
  }
  show("next", { items, status: (await openai.responses.retrieve(next.id)).status });
  await openai.responses.delete(next.id);
  await refused("deleted", () => openai.responses.retrieve(next.id));

  const format = { type: "json_schema", name: "city", schema, strict: true };
  const city = await openai.responses.parse({
    ...asked,
    input: "Paris has 2 million people.",
    text: { format },
  });
  show("structured", { fields: Object.keys(city.output_parsed).sort() });

  const tool = { type: "function", name: "weather", parameters: schema, strict: false };
  const tools = await openai.responses.create({
    ...asked,
    input: "Say hi",
    tools: [tool],
    tool_choice: "none",
  });
  show("tools", { output: tools.output.map((item) => item.type) });

  const calling = { ...asked, input: "Paris has 2 million people.", tools: [tool] };
  const called = await openai.responses.create({ ...calling, tool_choice: "required" });
  const named = { type: "function", name: "weather" };
  const calls = openai.responses.stream({ ...calling, tool_choice: named });
  for (const { output } of [called, await calls.finalResponse()]) {
    const made = output.map((item) => [item.type, item.name, Object.keys(JSON.parse(item.arguments))]);
    show(output === called.output ? "called" : "called in a stream", { made });
  }

  await refused("background", () =>
    openai.responses.create({ ...asked, input: "hi", background: true }),
  );
  await refused("too long", () =>
    openai.responses.create({ ...asked, input: "word ".repeat(50000), stream: true }),
  );
}

main();
