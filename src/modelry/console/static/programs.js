// The call that the playground makes, as a program: in curl, Python and JavaScript.
//
// A request is `{path, body, files}`: the body's fields beside `model`, and the files of a form.

const SECRET_IMAGE = /^data:(image\/[\w.+-]+);base64,.*$/s;

/** Without what is only of the page: a stream's usage, and the bytes of images. */
function plain(value) {
  if (typeof value === "string") return value.replace(SECRET_IMAGE, "data:$1;base64,...");
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  const fields = Object.entries(value);
  return Object.fromEntries(fields.map(([name, each]) => [name, plain(each)]));
}

/** A request as a program makes it: pictures as one answer, chats with functions as one too. */
function asProgram({ path, body, files }) {
  const said = plain(body);
  if (path.startsWith("images/") || path === "audio/transcriptions" || said.tools) {
    delete said.stream;
    delete said.partial_images;
  }
  return { path, body: said, files };
}

// -- curl ------------------------------------------------------------------------------------------

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

const SAVED = { "audio/speech": "speech", "images/generations": "image", "images/edits": "image" };

function curl({ base, model, key }, { path, body, files }) {
  const ending = path === "audio/speech" ? body.response_format : "json";
  const flags = SAVED[path] ? `-sS -o ${SAVED[path]}.${ending}` : `-sS${body.stream ? "N" : ""}`;
  const rest = files
    ? [
      ["model", model], ...Object.entries(body),
    ].map(([name, value]) => `--form-string ${quoted(`${name}=${value}`)}`).concat(
      Object.entries(files).map(([name, file]) => (
        `-F ${quoted(`${name}=@"${file.name.replace(/["\\]/g, "\\$&")}"`)}`)),
    )
    : [
      '-H "Content-Type: application/json"',
      `-d ${quoted(JSON.stringify({ model, ...body }, null, 2))}`,
    ];
  return [
    `curl ${flags} ${quoted(`${base}/${path}`)}`, `-H "Authorization: Bearer $${key}"`, ...rest,
  ].join(" \\\n  ");
}

// -- Python ----------------------------------------------------------------------------------------

function python(value, indent = "") {
  const deeper = `${indent}    `;
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]";
    return `[\n${value.map((each) => `${deeper}${python(each, deeper)},\n`).join("")}${indent}]`;
  }
  if (typeof value === "object") {
    const fields = Object.entries(value);
    if (fields.length === 0) return "{}";
    return `{\n${fields.map(([name, each]) => (
      `${deeper}${JSON.stringify(name)}: ${python(each, deeper)},\n`)).join("")}${indent}}`;
  }
  return JSON.stringify(value); // Texts and numbers are written the same.
}

// What OpenAI's library knows of each call; other fields go along beside.
const CALLS = {
  "chat/completions": {
    python: "chat.completions.create", node: "chat.completions.create",
    known: [
      "messages", "temperature", "top_p", "max_tokens", "seed", "stop", "tools", "response_format",
      "stream",
    ],
  },
  completions: {
    python: "completions.create", node: "completions.create",
    known: ["prompt", "temperature", "top_p", "max_tokens", "seed", "stop", "stream"],
  },
  embeddings: { python: "embeddings.create", node: "embeddings.create", known: ["input"] },
  "images/generations": {
    python: "images.generate", node: "images.generate",
    known: ["prompt", "n", "size", "response_format"],
  },
  "images/edits": {
    python: "images.edit", node: "images.edit", known: ["prompt", "n", "size", "response_format"],
  },
  "audio/speech": {
    python: "audio.speech.create", node: "audio.speech.create",
    known: ["input", "voice", "speed", "response_format"],
  },
  "audio/transcriptions": {
    python: "audio.transcriptions.create", node: "audio.transcriptions.create",
    known: ["language", "response_format", "timestamp_granularities", "stream"],
  },
};

/** The fields that a library is called with: lists have no brackets in their names there. */
function fieldsOf({ path, body }) {
  const known = {};
  const more = {};
  for (const [name, value] of Object.entries(body)) {
    const bare = name.replace("[]", "");
    const place = CALLS[path].known.includes(bare) ? known : more;
    place[bare] = bare === name ? value : [value];
  }
  return { known, more };
}

const PYTHON_ENDS = {
  "chat/completions": (body) => (body.stream ? `for chunk in response:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
` : `print(response.choices[0].message)
`),
  completions: () => `for chunk in response:
    if chunk.choices:
        print(chunk.choices[0].text, end="", flush=True)
print()
`,
  embeddings: () => `for each in response.data:
    print(each.index, len(each.embedding), each.embedding[:3])
`,
  "images/generations": () => `for at, image in enumerate(response.data):
    with open(f"image-{at}.png", "wb") as file:
        file.write(base64.b64decode(image.b64_json))
`,
  "audio/speech": (body) => `with open("speech.${body.response_format}", "wb") as file:
    file.write(response.content)
`,
  "audio/transcriptions": (body) => (body.response_format === "verbose_json"
    ? `for segment in response.segments:
    print(segment.start, segment.end, segment.text)
` : `print(response.text)
`),
};
PYTHON_ENDS["images/edits"] = PYTHON_ENDS["images/generations"];

function inPython({ base, model, key }, request) {
  const { path, body, files = {} } = request;
  if (path === "rerank") {
    return `import os

import requests

response = requests.post(
    ${JSON.stringify(`${base}/rerank`)},
    headers={"Authorization": "Bearer " + os.environ["${key}"]},
    json=${python({ model, ...body }, "    ")},
    timeout=60,
)
response.raise_for_status()
for each in response.json()["results"]:
    print(each["relevance_score"], each["index"])
`;
  }
  const { known, more } = fieldsOf(request);
  const fields = [
    ...Object.entries({ model, ...known }).map(([name, value]) => `${name}=${python(value, "    ")}`),
    ...Object.entries(files).map(([name, file]) => `${name}=open(${JSON.stringify(file.name)}, "rb")`),
    ...(Object.keys(more).length > 0 ? [`extra_body=${python(more, "    ")}`] : []),
  ];
  return `${path.startsWith("images/") ? "import base64\n" : ""}import os

from openai import OpenAI

client = OpenAI(
    base_url=${JSON.stringify(base)},
    api_key=os.environ["${key}"],
)

response = client.${CALLS[path].python}(
${fields.map((each) => `    ${each},\n`).join("")})
${PYTHON_ENDS[path](body)}`;
}

// -- JavaScript ------------------------------------------------------------------------------------

// Put together, so that they are not taken for what this file imports itself.
const FROM_OPENAI = `from ${JSON.stringify("openai")}`;
const FROM_FS = `from ${JSON.stringify("node:fs")}`;

const NODE_ENDS = {
  "chat/completions": (body) => (body.stream ? `for await (const chunk of response) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}
console.log();
` : `console.log(response.choices[0].message);
`),
  completions: () => `for await (const chunk of response) {
  process.stdout.write(chunk.choices[0]?.text ?? "");
}
console.log();
`,
  embeddings: () => `for (const each of response.data) {
  console.log(each.index, each.embedding.length, each.embedding.slice(0, 3));
}
`,
  "images/generations": () => `response.data.forEach((image, at) => {
  fs.writeFileSync(\`image-\${at}.png\`, Buffer.from(image.b64_json, "base64"));
});
`,
  "audio/speech": (body) => `fs.writeFileSync(
  "speech.${body.response_format}", Buffer.from(await response.arrayBuffer()),
);
`,
  "audio/transcriptions": (body) => (body.response_format === "verbose_json"
    ? `for (const segment of response.segments) {
  console.log(segment.start, segment.end, segment.text);
}
` : `console.log(response.text);
`),
};
NODE_ENDS["images/edits"] = NODE_ENDS["images/generations"];

function field(name, value) {
  return `  ${name}: ${JSON.stringify(value, null, 2).replaceAll("\n", "\n  ")},\n`;
}

function inNode({ base, model, key }, request) {
  const { path, body, files = {} } = request;
  if (path === "rerank") {
    return `const response = await fetch(${JSON.stringify(`${base}/rerank`)}, {
  method: "POST",
  headers: {
    "Content-Type": "application/json",
    Authorization: "Bearer " + process.env.${key},
  },
  body: JSON.stringify(${JSON.stringify({ model, ...body }, null, 2).replaceAll("\n", "\n  ")}),
});
if (!response.ok) throw new Error(await response.text());
for (const each of (await response.json()).results) {
  console.log(each.relevance_score, each.index);
}
`;
  }
  const { known, more } = fieldsOf(request);
  const needsFiles = NODE_ENDS[path](body).includes("fs.") || Object.keys(files).length > 0;
  const fields = [
    ...Object.entries({ model, ...known, ...more }).map(([name, value]) => field(name, value)),
    ...Object.entries(files).map(([name, file]) => (
      `  ${name}: fs.createReadStream(${JSON.stringify(file.name)}),\n`)),
  ];
  return `${needsFiles ? `import fs ${FROM_FS};\n` : ""}import OpenAI ${FROM_OPENAI};

const openai = new OpenAI({
  baseURL: ${JSON.stringify(base)},
  apiKey: process.env.${key},
});

const response = await openai.${CALLS[path].node}({
${fields.join("")}});
${NODE_ENDS[path](body)}`;
}

const WRITERS = { curl, python: inPython, node: inNode };

/** `about`: `{base, model, key}`, the last the name of the variable that has the key. */
export function program(language, about, request) {
  return WRITERS[language](about, asProgram(request));
}
