// The playground of a service's page: a form for each task, whose answer appears below it.
import { Service, values } from "/static/inference.js";
import { recorder } from "/static/recorder.js";

const section = document.getElementById("playground");
const service = new Service(section.dataset.key, section.dataset.csrf, section.dataset.model);

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  return Object.assign(made, attributes);
}

/** What a form's fields say, by name: without those left empty, with numbers as numbers. */
function asked(form, names) {
  const said = {};
  for (const name of names) {
    const field = form.elements[name];
    const value = field.value.trim();
    if (value !== "") said[name] = field.type === "number" ? field.valueAsNumber : value;
  }
  return said;
}

function lines(text) {
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}

function table(head, rows) {
  const made = element("table", null);
  const first = made.createTHead().insertRow();
  for (const each of head) first.append(element("th", each, { scope: "col" }));
  const body = made.createTBody();
  for (const row of rows) {
    const cells = body.insertRow();
    for (const cell of row) cells.insertCell().textContent = cell;
  }
  return made;
}

function dataUrl(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => done(reader.result));
    reader.addEventListener("error", () => failed(new Error(`${file.name} cannot be read`)));
    reader.readAsDataURL(file);
  });
}

/** The address of some bytes for this page, in place of an earlier one. */
function show(media, bytes, type) {
  if (media.src) URL.revokeObjectURL(media.src);
  media.src = URL.createObjectURL(new Blob([bytes], { type }));
  return media.src;
}

function tokens(usage, started) {
  if (!usage) return null;
  const seconds = (performance.now() - started) / 1000;
  const cached = usage.prompt_tokens_details?.cached_tokens;
  const read = `${usage.prompt_tokens} tokens read${cached ? ` (${cached} of them known)` : ""}`;
  return `${read}, ${usage.completion_tokens} written in ${seconds.toFixed(1)} s`;
}

// -- the tasks: each sends a form and shows the answer in `output`, and may return a remark ------

const conversation = [];

async function chat(form, output, signal) {
  const options = asked(form, ["max_tokens", "temperature", "seed"]);
  const text = form.elements.prompt.value;
  const images = [...form.elements.images.files];
  const content = images.length === 0 ? text : [
    { type: "text", text },
    ...await Promise.all(images.map(async (file) => (
      { type: "image_url", image_url: { url: await dataUrl(file) } }))),
  ];
  const system = form.elements.system.value.trim();
  const message = { role: "user", content };
  const shown = [
    element("p", text, { className: "said by-you" }),
    element("p", "", { className: "said" }),
  ];
  output.append(...shown);
  const answer = shown[1];
  let thought = null;
  const said = { role: "assistant", content: "" };
  const started = performance.now();
  let usage = null;
  let kept = false;
  try {
    const response = await service.call("chat/completions", {
      messages: [...(system ? [{ role: "system", content: system }] : []), ...conversation, message],
      ...options, stream: true, stream_options: { include_usage: true },
    }, signal);
    for await (const chunk of values(response)) {
      usage = chunk.usage ?? usage;
      const delta = chunk.choices?.[0]?.delta ?? chunk.choices?.[0]?.message ?? {};
      if (delta.reasoning_content) {
        if (thought === null) {
          thought = element("p", "", { className: "said quiet" });
          answer.before(thought);
        }
        thought.append(delta.reasoning_content);
      }
      if (delta.content) {
        said.content += delta.content;
        answer.append(delta.content);
      }
    }
    kept = true;
  } finally {
    // A turn that brought nothing is no part of the conversation, and can be sent again.
    if (kept || said.content) conversation.push(message, said);
    else for (const each of [...shown, thought]) each?.remove();
  }
  form.elements.prompt.value = "";
  form.elements.images.value = "";
  return tokens(usage, started);
}

async function completion(form, output, signal) {
  const answer = element("p", form.elements.prompt.value, { className: "said" });
  output.replaceChildren(answer);
  const started = performance.now();
  let usage = null;
  const response = await service.call("completions", {
    prompt: form.elements.prompt.value, ...asked(form, ["max_tokens", "temperature", "seed"]),
    stream: true, stream_options: { include_usage: true },
  }, signal);
  for await (const chunk of values(response)) {
    usage = chunk.usage ?? usage;
    answer.append(chunk.choices?.[0]?.text ?? "");
  }
  return tokens(usage, started);
}

async function image(form, output, signal) {
  const [picture] = form.elements.image.files;
  const said = {
    ...asked(form, [
      "prompt", "negative_prompt", "size", "num_inference_steps", "seed", "guidance_scale",
    ]),
    n: 1, response_format: "b64_json", stream: true, partial_images: 2,
  };
  let body = said;
  if (picture) {
    body = new FormData();
    for (const [name, value] of Object.entries(said)) body.set(name, String(value));
    body.set("image", picture);
  }
  const shown = element("img", null, { alt: said.prompt, className: "made" });
  const link = element("a", "Download", { hidden: true });
  output.replaceChildren(shown, link);
  const started = performance.now();
  const response = await service.call(picture ? "images/edits" : "images/generations", body, signal);
  for await (const value of values(response)) {
    const b64 = value.b64_json ?? value.data?.[0]?.b64_json;
    if (!b64) continue;
    const format = value.output_format ?? "png";
    link.href = show(shown, Uint8Array.from(atob(b64), (c) => c.charCodeAt(0)), `image/${format}`);
    link.download = `image.${format}`;
  }
  link.hidden = false;
  await shown.decode();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  return `${shown.naturalWidth}x${shown.naturalHeight} pixels in ${seconds} s`;
}

async function embedding(form, output, signal) {
  const texts = lines(form.elements.input.value);
  const response = await service.call("embeddings", { input: texts }, signal);
  const { data } = await response.json();
  const vectors = data.map((each) => each.embedding);
  const length = (vector) => Math.hypot(...vector);
  const cosine = (one, other) =>
    one.reduce((sum, value, at) => sum + value * other[at], 0) / (length(one) * length(other));
  output.replaceChildren(table(
    ["Similarity", ...texts.map((_, at) => String(at + 1))],
    vectors.map((one, at) => [
      `${at + 1}. ${texts[at]}`, ...vectors.map((other) => cosine(one, other).toFixed(3)),
    ]),
  ));
  return `${vectors.length} vectors of ${vectors[0].length} numbers`;
}

async function rerank(form, output, signal) {
  const documents = lines(form.elements.documents.value);
  const response = await service.call(
    "rerank", { query: form.elements.query.value, documents }, signal,
  );
  const { results } = await response.json();
  output.replaceChildren(table(
    ["Relevance", "Document"],
    results.map((each) => [each.relevance_score.toFixed(4), documents[each.index]]),
  ));
  return null;
}

async function speech(form, output, signal) {
  const response = await service.call("audio/speech", {
    ...asked(form, ["input", "voice", "speed"]), response_format: "wav",
  }, signal);
  const player = element("audio", null, { controls: true });
  const link = element("a", "Download", { download: "speech.wav" });
  link.href = show(player, await response.arrayBuffer(), "audio/wav");
  output.replaceChildren(player, link);
  await player.play().catch(() => null); // A browser may want a click first.
  return null;
}

async function transcription(form, output, signal) {
  const recording = form.recording ?? form.elements.file.files[0];
  if (!recording) throw new Error("choose a file, or record something");
  const body = new FormData();
  body.set("file", recording, recording.name ?? "recording.webm");
  const language = form.elements.language.value.trim();
  if (language) body.set("language", language);
  body.set("response_format", "json");
  body.set("stream", "true");
  const answer = element("p", "", { className: "said" });
  output.replaceChildren(answer);
  const response = await service.call("audio/transcriptions", body, signal);
  for await (const value of values(response)) {
    if (value.delta) answer.append(value.delta);
    else if (value.text !== undefined) answer.textContent = value.text;
  }
  return answer.textContent === "" ? "nothing was said in it" : null;
}

const TASKS = { chat, completion, image, embedding, rerank, speech, transcription };

// -- the forms -----------------------------------------------------------------------------------

for (const form of section.querySelectorAll("form[data-task]")) {
  const send = form.querySelector("[data-send]");
  const cancel = form.querySelector("[data-cancel]");
  const alertLine = form.querySelector("[role=alert]");
  const status = form.querySelector("[role=status]");
  const output = form.querySelector("[data-output]");
  let aborter = null;

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (aborter !== null) return;
    aborter = new AbortController();
    alertLine.hidden = true;
    status.textContent = "…";
    send.disabled = true;
    cancel.hidden = false;
    try {
      status.textContent = await TASKS[form.dataset.task](form, output, aborter.signal) ?? "";
    } catch (error) {
      status.textContent = error.name === "AbortError" ? "cancelled" : "";
      if (error.name !== "AbortError") {
        alertLine.textContent = error instanceof TypeError ? "the connection broke off" : error.message;
        alertLine.hidden = false;
      }
    }
    aborter = null;
    send.disabled = false;
    cancel.hidden = true;
  });
  cancel.addEventListener("click", () => aborter?.abort());

  form.querySelector("[data-clear]")?.addEventListener("click", () => {
    aborter?.abort();
    conversation.length = 0;
    output.replaceChildren();
    status.textContent = "";
    alertLine.hidden = true;
  });
  form.querySelector("[data-enter-sends]")?.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  const record = form.querySelector("[data-record]");
  if (record) recorder(form, record, status);
}
