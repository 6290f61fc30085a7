// AWS's SDK with the client that deploy/clients.md gives, as standard input. Prints a JSON object: the text of a whole
// reply, the texts of streamed ones that run at the same time, and the version of HTTP of each reply.

import { BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand } from "@aws-sdk/client-bedrock-runtime";
import { readFileSync } from "node:fs";

const code = readFileSync(0, "utf8").replace(/^import .*$/gm, "");
const client = new Function("BedrockRuntimeClient", `${code}; return client;`)(BedrockRuntimeClient);
const input = { modelId: process.argv.at(-1), messages: [{ role: "user", content: [{ text: "Hi" }] }] };

const whole = async () => (await client.send(new ConverseCommand(input))).output.message.content[0].text;
const streamed = async () => {
  let text = "";
  for await (const event of (await client.send(new ConverseStreamCommand(input))).stream)
    text += event.contentBlockDelta?.delta.text ?? "";
  return text;
};
const result = {
  handler: client.config.requestHandler.constructor.name,
  whole: await whole(),
  streamed: await Promise.all(Array.from({ length: 10 }, streamed)),
};
client.destroy();
console.log(JSON.stringify(result));
