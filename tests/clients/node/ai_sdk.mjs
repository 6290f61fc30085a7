// Conversations of Vercel's AI SDK, as a program of a user's would have them. For each line of standard input it prints a
// line: a JSON list with an object for each conversation (the texts and thoughts of its steps, what the tools were asked,
// the tokens in all), or a JSON string with the error. The lines of standard input are settings as JSON:
//   provider  the expression that deploy/clients.md gives, such as createOpenAI({ ... })
//   always    what the page gives for every call, such as providerOptions: { ... }; "" for nothing
//   method    of the provider, by which it names a model; "" for its default
//   streamed  a boolean for each conversation
//   model, prompt, options (providerOptions), image (base64 of a PNG), shape (answer by a schema instead of tools)

import { createAmazonBedrock } from "@ai-sdk/amazon-bedrock";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { createInterface } from "node:readline";
import { z } from "zod";

// only results go to standard output
console.log = console.info = console.error;

const makers = { createAmazonBedrock, createAnthropic, createOpenAI, createOpenAICompatible };
const city = z.object({ city: z.string() });

// tools that note what they are asked
const tools = (asked) => {
  const about = (name, description, result) =>
    tool({ description, inputSchema: city, execute: (input) => (asked.push([name, input]), result) });
  return {
    get_weather: about("get_weather", "The weather of a city.", "Sunny, 21 °C"),
    get_time: about("get_time", "The local time of a city.", "09:41"),
  };
};

const talk = async (given, streamed) => {
  const provider = new Function(...Object.keys(makers), `return ${given.provider}`)(...Object.values(makers));
  const always = new Function(`return { ${given.always} }`)();
  const content = [{ type: "text", text: given.prompt }];
  if (given.image) content.push({ type: "image", image: given.image, mediaType: "image/png" });
  const asked = [];
  const failures = [];
  const settings = {
    model: given.method ? provider[given.method](given.model) : provider(given.model),
    messages: [{ role: "user", content }],
    maxRetries: 0,
    ...always,
    ...(given.options && { providerOptions: given.options }),
    ...(given.shape ? { output: Output.object({ schema: city }) } : { tools: tools(asked), stopWhen: stepCountIs(3) }),
  };
  // an error in a stream is told to a callback, and the stream ends quietly
  const onError = ({ error }) => failures.push(error);
  const result = streamed ? streamText({ ...settings, onError }) : await generateText(settings);
  const steps = await result.steps;
  const usage = await result.totalUsage;
  if (failures.length) throw failures[0];
  return {
    texts: steps.map((step) => step.text),
    thoughts: steps.map((step) => step.reasoningText ?? ""),
    finished: steps.map((step) => step.finishReason),
    asked,
    tokens: { input: usage.inputTokens, output: usage.outputTokens },
    output: given.shape ? await result.output : null,
  };
};

const talks = async (given) => {
  const results = [];
  for (const streamed of given.streamed) results.push(await talk(given, streamed));
  return results;
};

for await (const line of createInterface({ input: process.stdin })) {
  const result = await talks(JSON.parse(line)).catch((error) => `${error.stack}`);
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
