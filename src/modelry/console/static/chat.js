// A conversation. Only turns that came to their end are part of it; it outlasts the page in this
// tab, without its images, until it is started anew or somebody signs out.
import { follower } from "/static/follow.js";
import { asked, element, written } from "/static/forms.js";
import { values } from "/static/inference.js";
import { signedOut } from "/static/sign_out.js";

const MIB = 2 ** 20;
const IMAGE_MIB = 20; // As the gateway has it.
const IMAGES_MIB = 40; // In base64 they still fit the body of a request.
const KEPT_CHARACTERS = 1_000_000;
const OF_IMAGES = ["unsupported_content", "invalid_image_url"];

const turns = []; // {text, images: data URLs, lost: how many the page had before, answer}
let generation = 0; // What was begun in an earlier one is no part of this conversation.

function asMessages({ text, images, answer }) {
  const content = images.length === 0 ? text : [
    { type: "text", text },
    ...images.map((url) => ({ type: "image_url", image_url: { url } })),
  ];
  return [{ role: "user", content }, { role: "assistant", content: answer }];
}

function requireBounds(files) {
  const large = files.find((file) => file.size > IMAGE_MIB * MIB);
  if (large) throw new Error(`${large.name} is larger than ${IMAGE_MIB} MiB; choose a smaller image`);
  let bytes = files.reduce((sum, file) => sum + file.size, 0);
  for (const { images } of turns) for (const url of images) bytes += url.length * 3 / 4;
  if (bytes > IMAGES_MIB * MIB) {
    throw new Error(`the images of a conversation are larger than ${IMAGES_MIB} MiB together; ` +
      "choose fewer or smaller ones, or start anew");
  }
}

function dataUrl(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => done(reader.result));
    reader.addEventListener("error", () => failed(new Error(`${file.name} cannot be read`)));
    reader.readAsDataURL(file);
  });
}

function show(output, turn, imageCount) {
  const shown = element("div", null, { className: "turn" });
  shown.append(element("p", turn.text, { className: "said by-you" }));
  if (imageCount > 0) {
    const images = `${imageCount} ${imageCount === 1 ? "image" : "images"}`;
    shown.append(element("p", turn.lost ? `${images}, gone with the reload` : images,
      { className: "quiet" }));
  }
  const answer = shown.appendChild(element("p", turn.answer, { className: "said" }));
  output.append(shown);
  return { shown, answer };
}

export async function chat({ service, form, output }, signal) {
  const { prompt, images, system } = form.elements;
  const files = [...images.files];
  requireBounds(files);
  const mine = generation;
  const turn = { text: prompt.value, images: [], lost: 0, answer: "" };
  const instruction = system.value.trim();
  // From here on the fields hold what is written while the answer comes.
  prompt.value = "";
  images.value = "";
  const { shown, answer } = show(output, turn, files.length);
  const follow = follower(form);
  follow();
  let thought = null;
  const started = performance.now();
  let usage = null;
  let finish = null;
  try {
    turn.images = await Promise.all(files.map(dataUrl));
    signal.throwIfAborted();
    const response = await service.call("chat/completions", {
      messages: [
        ...(instruction ? [{ role: "system", content: instruction }] : []),
        ...turns.flatMap(asMessages), asMessages(turn)[0],
      ],
      ...asked(form, ["max_tokens", "temperature", "seed"]),
      stream: true, stream_options: { include_usage: true },
    }, signal);
    for await (const chunk of values(response)) {
      usage = chunk.usage ?? usage;
      const choice = chunk.choices?.[0];
      finish = choice?.finish_reason ?? finish;
      const delta = choice?.delta ?? choice?.message ?? {};
      if (delta.reasoning_content) {
        if (thought === null) {
          thought = element("p", "", { className: "said quiet" });
          answer.before(thought);
        }
        thought.append(delta.reasoning_content);
      }
      if (delta.content) {
        turn.answer += delta.content;
        answer.append(delta.content);
      }
      follow();
    }
    signal.throwIfAborted();
  } catch (error) {
    if (mine === generation) breakOff(error);
    throw error;
  }
  turns.push(turn);
  keep(service, form);
  follow();
  return written(usage, started, finish, form);

  function breakOff(error) {
    if (turn.answer || thought) {
      shown.append(element("p", "broken off; no part of the conversation", { className: "quiet" }));
    } else {
      shown.remove();
    }
    if (prompt.value === "") prompt.value = turn.text;
    if (files.length > 0 && OF_IMAGES.includes(error.code)) {
      error.message += " The images are taken out of the form.";
    } else if (images.files.length === 0) {
      const put = new DataTransfer();
      for (const file of files) put.items.add(file);
      images.files = put.files;
    }
    keep(service, form);
  }
}

export function startAnew({ service, form, output }) {
  generation += 1;
  turns.length = 0;
  output.replaceChildren();
  form.elements.prompt.value = "";
  form.elements.images.value = "";
  sessionStorage.removeItem(place(service));
}

// -- what a reload leaves ------------------------------------------------------------------------

function place(service) {
  return `modelry-chat:${service.model}`; // An access path has its owner in it.
}

function keep(service, form) {
  if (signedOut) return;
  const texts = turns.map(({ text, images, lost, answer }) => (
    { text, answer, lost: images.length + lost }));
  const { prompt, system } = form.elements;
  const kept = () => JSON.stringify({ draft: prompt.value, system: system.value, turns: texts });
  while (texts.length > 0 && kept().length > KEPT_CHARACTERS) texts.shift();
  try {
    sessionStorage.setItem(place(service), kept());
  } catch {
    sessionStorage.removeItem(place(service)); // It is full: better none than an old one.
  }
}

export function restore({ service, form, output }) {
  const kept = JSON.parse(sessionStorage.getItem(place(service)) ?? "null");
  if (kept === null) return;
  form.elements.prompt.value = kept.draft;
  form.elements.system.value = kept.system;
  for (const { text, answer, lost } of kept.turns) {
    const turn = { text, images: [], lost, answer };
    turns.push(turn);
    show(output, turn, lost);
  }
}
