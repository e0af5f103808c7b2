// The upload of a model: pieces of files, one after the other, each from where the last one
// ended. What breaks off goes on with the same button; what has come stays on the server.
import { t } from "./words.js";

const form = document.getElementById("upload");
const { files, folder, name, tasks } = form.elements;
const start = form.querySelector("[data-start]");
const cancel = form.querySelector("[data-cancel]");
const alertLine = form.querySelector("[role=alert]");
const progress = form.querySelector("[data-progress]");
const zone = form.querySelector("[data-drop]");
const pickedLine = form.querySelector("[data-picked]");
const csrf = document.querySelector("meta[name=csrf]").content;
const PIECE = 8 * 1024 * 1024;
const TRIES = 5;
// Refusals after which it goes on from where the server is.
const PASSING = ["upload_offset", "upload_busy", "upload_stalled", "unavailable"];

let upload = null; // as the server shows it, once it has begun
let dropped = new Map(); // what was dropped here, until something is chosen
let picked = new Map(); // name below the folder → File
let droppedName = ""; // of the folder that was dropped
let aborter = null; // while it runs

class Refused extends Error {
  constructor(error, status) {
    super(error.hint ? `${error.message} (${error.hint})` : error.message);
    this.code = error.code;
    this.status = status;
  }
}

async function call(method, path, body, json = true) {
  const headers = { "x-csrf-token": csrf };
  headers["content-type"] = json ? "application/json" : "application/octet-stream";
  const response = await fetch(`/api/v1${path}`, {
    method, headers, signal: aborter?.signal,
    body: body === undefined ? undefined : json ? JSON.stringify(body) : body,
  });
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Refused(answer.error ?? { message: t("models_js.answered", { status: response.status }) }, response.status);
  }
  return answer;
}

function chosen() {
  const found = new Map();
  for (const file of folder.files) {
    // Without the folder's own name; `.git` and its like are no part of a model.
    const path = file.webkitRelativePath.split("/").slice(1).join("/");
    if (!path.split("/").some((part) => part.startsWith("."))) found.set(path, file);
  }
  if (found.size === 0) for (const file of files.files) found.set(file.name, file);
  return found.size ? found : dropped;
}

function nameOf() {
  const first = folder.files[0];
  const last = first ? first.webkitRelativePath.split("/")[0] : droppedName || [...picked.keys()][0];
  const stem = last.replace(/\.(gguf|safetensors|onnx|bin)$/i, "").toLowerCase();
  return stem.replace(/[^a-z0-9.]+/g, "-").slice(0, 64).replace(/^[-.]+|[-.]+$/g, "") || "model";
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(1);
}

function show(words) {
  const total = upload.files.reduce((sum, file) => sum + file.size_bytes, 0);
  const here = upload.files.reduce((sum, file) => sum + file.received_bytes, 0);
  progress.hidden = false;
  progress.querySelector("progress").value = total ? here / total : 1;
  progress.querySelector("[role=status]").textContent =
    words ?? t("models_js.done_of", { done: megabytes(here), total: megabytes(total) });
}

function passes(error) {
  // `fetch` says a TypeError where the connection broke.
  return error instanceof TypeError || PASSING.includes(error.code);
}

async function pause(tries) {
  await new Promise((done) => setTimeout(done, 300 * 2 ** tries));
  if (aborter === null) throw new DOMException("cancelled", "AbortError");
}

async function sendFile(file) {
  let tries = 0;
  while (file.received_bytes < file.size_bytes) {
    const at = file.received_bytes;
    const piece = picked.get(file.name).slice(at, at + PIECE);
    const path = `/uploads/${upload.id}/files/${encodeURIComponent(file.name)}?offset=${at}`;
    try {
      file.received_bytes = (await call("PUT", path, piece, false)).received_bytes;
      tries = 0;
    } catch (error) {
      if (!passes(error) || ++tries >= TRIES) throw error;
      await pause(tries);
      const now = await call("GET", `/uploads/${upload.id}`).catch(() => null);
      const seen = now?.files.find((each) => each.name === file.name);
      if (seen) file.received_bytes = seen.received_bytes;
    }
    show();
  }
}

async function run() {
  if (upload === null) {
    picked = chosen();
    if (picked.size === 0) throw new Error(t("models_js.choose_first"));
    upload = await call("POST", "/uploads", {
      name: name.value.trim() || nameOf(),
      tasks: tasks.value.split(","),
      files: [...picked].map(([path, file]) => ({ name: path, size_bytes: file.size })),
    });
  } else {
    // Gone on with: what the server has may be more than we heard of.
    upload = await call("GET", `/uploads/${upload.id}`);
  }
  show();
  for (const file of upload.files) await sendFile(file);
  show(t("models_js.checking"));
  return call("POST", `/uploads/${upload.id}/complete`);
}

function busy(is) {
  start.disabled = is;
  for (const field of [files, folder, name, tasks]) field.disabled = is || upload !== null;
  start.textContent = upload === null ? t("models_js.upload") : t("models_js.go_on");
  cancel.hidden = !is && upload === null;
}

function keep(event) {
  event.preventDefault();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  aborter = new AbortController();
  alertLine.hidden = true;
  busy(true);
  addEventListener("beforeunload", keep);
  let made = null;
  try {
    made = await run();
  } catch (error) {
    if (error.code === "upload_not_found") upload = null;
    if (error.name !== "AbortError") {
      alertLine.textContent = error instanceof TypeError ? t("models_js.connection_broke") : error.message;
      alertLine.hidden = false;
    }
  }
  removeEventListener("beforeunload", keep);
  aborter = null;
  if (made) location.assign(`/models/${encodeURIComponent(made.name)}`);
  else busy(false);
});

cancel.addEventListener("click", async () => {
  const begun = upload;
  aborter?.abort();
  aborter = null;
  upload = null;
  progress.hidden = true;
  // An upload that the server had not yet told of shows on the page when it is loaded again.
  if (begun) await call("DELETE", `/uploads/${begun.id}`).catch(() => null);
  busy(false);
});

// -- what is dropped on the page ---------------------------------------------

/** The files of an entry and below, by their paths; what begins with a dot is no part of a model. */
async function below(entry, path, found) {
  if (entry.name.startsWith(".")) return;
  if (entry.isFile) {
    found.set(path, await new Promise((done, failed) => entry.file(done, failed)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // A browser gives a hundred at a time.
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (some.length === 0) return;
    for (const each of some) await below(each, path ? `${path}/${each.name}` : each.name, found);
  }
}

function tell() {
  const all = [...chosen().values()];
  const size = megabytes(all.reduce((sum, file) => sum + file.size, 0));
  pickedLine.textContent = all.length ? t("models_js.picked", { count: all.length, size }) : "";
}

for (const kind of ["dragover", "dragleave", "drop"]) {
  zone.addEventListener(kind, (event) => {
    event.preventDefault();
    zone.classList.toggle("over", kind === "dragover");
  });
}
zone.addEventListener("drop", async (event) => {
  if (upload !== null) return;
  // All are asked for at once: the event forgets them when it is over.
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const fallen = items.map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
  const alone = fallen.length === 1 && fallen[0][0]?.isDirectory ? fallen[0][0] : null;
  const found = new Map();
  for (const [entry, file] of fallen) {
    if (entry?.isDirectory) await below(entry, alone ? "" : entry.name, found);
    else if (file) found.set(file.name, file);
  }
  files.value = "";
  folder.value = "";
  dropped = found;
  droppedName = alone ? alone.name : "";
  tell();
});
for (const field of [files, folder]) {
  field.addEventListener("change", () => {
    dropped = new Map();
    droppedName = "";
    tell();
  });
}
