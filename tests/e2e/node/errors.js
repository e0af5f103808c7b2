// Prints status, code and message of the errors that the OpenAI library raises.
const OpenAI = require("openai");

const baseURL = process.env.BASE_URL;
const apiKey = process.env.MODELRY_API_KEY;
const model = process.env.MODEL;
const messages = [{ role: "user", content: "hello!" }];

async function show(name, apiKey, body) {
  const openai = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
  try {
    await openai.chat.completions.create(body);
    console.log(JSON.stringify({ name, status: 200 }));
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    const { status, code, message } = error;
    const kind = error.constructor.name;
    console.log(JSON.stringify({ name, kind, status, code, message }));
  }
}

async function main() {
  await show("wrong key", "sk-wrong", { model, messages });
  await show("unknown model", apiKey, { model: "no-such-model", messages });
  await show("missing messages", apiKey, { model });
}

main();
