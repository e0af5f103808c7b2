"""The programs in JavaScript for Node.js: for OpenAI's library and, where that has no such call,
for nothing but Node.js.
"""

import json
from string import Template

# Call → what is imported beside the library, and the statements.
_PROGRAMS = {
    ("chat", False): (
        "",
        """\
const chatCompletion = await openai.chat.completions.create({
  model: $model,
  messages: [
    { role: "user", content: "hello!" },
    { role: "user", content: "how are you?" },
  ],
  max_tokens: 64,
});
console.log(chatCompletion.choices[0].message.content);
""",
    ),
    ("chat", True): (
        "",
        """\
const stream = await openai.chat.completions.create({
  model: $model,
  messages: [
    { role: "user", content: "hello!" },
    { role: "user", content: "how are you?" },
  ],
  max_tokens: 64,
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}
console.log();
""",
    ),
    ("completion", False): (
        "",
        """\
const completion = await openai.completions.create({
  model: $model,
  prompt: "Once upon a time",
  max_tokens: 64,
});
console.log(completion.choices[0].text);
""",
    ),
    ("completion", True): (
        "",
        """\
const stream = await openai.completions.create({
  model: $model,
  prompt: "Once upon a time",
  max_tokens: 64,
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.text ?? "");
}
console.log();
""",
    ),
    ("embedding", False): (
        "",
        """\
const response = await openai.embeddings.create({
  model: $model,
  input: ["Say this is a test!", "And this is another."],
});
for (const each of response.data) {
  console.log(each.index, each.embedding.length, each.embedding.slice(0, 3));
}
""",
    ),
    ("image", False): (
        'const fs = require("fs");\n',
        """\
const response = await openai.images.generate({
  model: $model,
  prompt: "A gull above the sea",
  response_format: "b64_json",
});
fs.writeFileSync("gull.png", Buffer.from(response.data[0].b64_json, "base64"));
console.log("gull.png");
""",
    ),
    ("image", True): (
        'const fs = require("fs");\n',
        """\
const stream = await openai.images.generate({
  model: $model,
  prompt: "A gull above the sea",
  response_format: "b64_json",
  stream: true,
  partial_images: 2,
});
for await (const event of stream) {
  let name = "gull.png";
  if (event.type === "image_generation.partial_image") {
    name = "gull-" + event.partial_image_index + ".png";
  } else if (event.type !== "image_generation.completed") {
    continue;
  }
  fs.writeFileSync(name, Buffer.from(event.b64_json, "base64"));
  console.log(name);
}
""",
    ),
    ("edit", False): (
        'const fs = require("fs");\n',
        """\
const response = await openai.images.edit({
  model: $model,
  image: await OpenAI.toFile(fs.readFileSync("gull.png"), "gull.png", { type: "image/png" }),
  prompt: "The same gull at night",
  response_format: "b64_json",
});
fs.writeFileSync("gull-at-night.png", Buffer.from(response.data[0].b64_json, "base64"));
console.log("gull-at-night.png");
""",
    ),
    ("speech", False): (
        'const fs = require("fs");\n',
        """\
const response = await openai.audio.speech.create({
  model: $model,
  input: "Say this is a test!",
  voice: "alloy",
  response_format: "wav",
});
fs.writeFileSync("speech.wav", Buffer.from(await response.arrayBuffer()));
console.log("speech.wav");
""",
    ),
    ("speech", True): (
        'const fs = require("fs");\n',
        """\
const response = await openai.audio.speech.create({
  model: $model,
  input: "Say this is a test!",
  voice: "alloy",
  response_format: "wav",
});
// What has been spoken is written while the rest is still being spoken.
const file = fs.openSync("speech.wav", "w");
for await (const chunk of response.body) {
  fs.writeSync(file, chunk);
}
fs.closeSync(file);
console.log("speech.wav");
""",
    ),
    ("transcription", False): (
        'const fs = require("fs");\n',
        """\
const response = await openai.audio.transcriptions.create({
  model: $model,
  file: fs.createReadStream("speech.wav"),
});
console.log(response.text);
""",
    ),
    ("transcription", True): (
        'const fs = require("fs");\n',
        """\
const stream = await openai.audio.transcriptions.create({
  model: $model,
  file: fs.createReadStream("speech.wav"),
  stream: true,
});
for await (const event of stream) {
  if (event.type === "transcript.text.delta") {
    process.stdout.write(event.delta);
  }
}
console.log();
""",
    ),
}

_AROUND = """\
${imports}const OpenAI = require("openai");

const openai = new OpenAI({
  baseURL: $base,
  apiKey: process.env.MODELRY_API_KEY,
});

async function main() {
  try {
$statements  } catch (error) {
    if (error instanceof OpenAI.APIError) {
      console.error("API Error:", error.status, error.message);
      console.error("Error details:", error.error);
    } else {
      console.error("Unexpected error:", error);
    }
    process.exitCode = 1;
  }
}

main();
"""

_RERANK = """\
const documents = ["A gull glides.", "A car drives."];

async function main() {
  const response = await fetch($base + "/rerank", {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Authorization: "Bearer " + process.env.MODELRY_API_KEY,
    },
    body: JSON.stringify({ model: $model, query: "a sea bird", documents }),
  });
  const answer = await response.json();
  if (!response.ok) {
    console.error("API Error:", response.status, answer.error);
    process.exitCode = 1;
    return;
  }
  for (const each of answer.results) {
    console.log(each.relevance_score, documents[each.index]);
  }
}

main();
"""


def write(name: str, streaming: bool, base_url: str, access_path: str) -> tuple[str, str | None]:
    """The text of a call, and the command that brings what it needs, if anything."""
    values = {"base": json.dumps(base_url), "model": json.dumps(access_path)}
    if name == "rerank":
        return Template(_RERANK).substitute(values), None
    imports, statements = _PROGRAMS[name, streaming]
    body = "".join(f"    {line}\n" for line in statements.splitlines())
    program = Template(_AROUND).safe_substitute(imports=imports, statements=body)
    return Template(program).substitute(values), "npm install openai"
