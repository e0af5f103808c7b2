// Prints what Anthropic's library makes of answers, streams and refusals, each as a line of JSON.
const Anthropic = require("@anthropic-ai/sdk").default;

const baseURL = process.env.BASE_URL;
const apiKey = process.env.MODELRY_API_KEY;
const model = process.env.MODEL;
const messages = [{ role: "user", content: "Say hi" }];
const asked = { model, messages, max_tokens: 8, system: "Be brief.", temperature: 0 };

const print = (name, value) => console.log(JSON.stringify({ name, value }));

async function refusal(name, apiKey, body) {
  const anthropic = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
  try {
    await anthropic.messages.create(body);
    print(name, { status: 200 });
  } catch (error) {
    if (!(error instanceof Anthropic.APIError)) throw error;
    print(name, { kind: error.constructor.name, status: error.status, type: error.error.error.type });
  }
}

async function main() {
  const anthropic = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
  print("whole", await anthropic.messages.create(asked));
  const stream = anthropic.messages.stream(asked);
  const texts = [];
  stream.on("text", (text) => texts.push(text));
  print("streamed", await stream.finalMessage());
  print("texts", texts);
  const tools = [
    {
      name: "weather",
      input_schema: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
      },
    },
  ];
  const using = { ...asked, max_tokens: 64, tools, tool_choice: { type: "any" } };
  print("used", await anthropic.messages.create(using));
  const named = { type: "tool", name: "weather" };
  const streaming = anthropic.messages.stream({ ...using, tool_choice: named });
  print("used in a stream", await streaming.finalMessage());
  const { max_tokens, temperature, ...prompt } = asked;
  print("counted", await anthropic.messages.countTokens(prompt));
  await refusal("wrong key", "sk-wrong", asked);
  await refusal("unknown model", apiKey, { ...asked, model: "no-such-model" });
  await refusal("no max_tokens", apiKey, { model, messages });
  await refusal("nothing said", apiKey, { ...asked, messages: [] });
}

main();
