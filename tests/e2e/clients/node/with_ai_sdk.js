// Vercel's AI SDK on a service of Modelry, by each of two providers; prints a line of JSON a step.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { MODELRY_BASE_URL: baseURL, MODELRY_API_KEY: apiKey, MODELRY_MODEL: name } = process.env;
const compatible = createOpenAICompatible({
  name: "modelry",
  baseURL,
  apiKey,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const openai = createOpenAI({ baseURL, apiKey });
const City = z.object({ name: z.string(), population: z.number().int() });
const weather = tool({
  description: "The weather in a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `It is sunny in ${city}.`,
});

const show = (step, saw) => console.log(JSON.stringify({ step, ...saw }));
const tokens = (usage) => [usage.inputTokens, usage.outputTokens];
const calls = (made) => made.map((call) => [call.toolName, call.input]);
const onError = ({ error }) => {
  throw error;
};

async function run(kind, model) {
  const asked = { model, temperature: 0, maxOutputTokens: 64, maxRetries: 0 };

  const answer = await generateText({ ...asked, prompt: "Say hi." });
  show(`${kind}chat`, { text: answer.text, tokens: tokens(answer.usage) });

  const pieces = [];
  const stream = streamText({ ...asked, prompt: "Say hi.", onError });
  for await (const piece of stream.textStream) pieces.push(piece);
  const usage = tokens(await stream.usage);
  show(`${kind}stream`, { pieces: pieces.length, text: await stream.text, tokens: usage });

  // A call that is sure to come, its result, and an answer in words.
  const question = { ...asked, prompt: "What is the weather in Paris?", tools: { weather } };
  const agent = await generateText({
    ...question,
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
    stopWhen: stepCountIs(2),
  });
  const [first] = agent.steps;
  const results = first.toolResults.map((result) => result.output);
  show(`${kind}tool`, { calls: calls(first.toolCalls), results, text: agent.text });

  // The same by its name, in a stream.
  const toolChoice = { type: "tool", toolName: "weather" };
  const calling = streamText({ ...question, toolChoice, onError });
  show(`${kind}streamed tool`, { calls: calls(await calling.toolCalls) });

  const { output } = await generateText({
    ...asked,
    prompt: "Paris has two million people.",
    output: Output.object({ schema: City }),
  });
  show(`${kind}structured`, { city: output });
}

await run("", compatible(name));
await run("responses: ", openai(name));
await run("chat of openai: ", openai.chat(name));
