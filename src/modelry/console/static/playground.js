// The playground: what is asked goes to every column's service, with the settings beside it.
import { Attachments } from "./attachments.js";
import { Chat, requestOf } from "./chat.js";
import { Columns } from "./columns.js";
import { keeping } from "./keeping.js";
import { part, requireWords } from "./forms.js";
import { speech, transcription } from "./media.js";
import { pictures } from "./pictures.js";
import { recorder } from "./recorder.js";
import { Settings } from "./settings.js";
import { sharing } from "./sharing.js";
import { completion, embedding, rerank } from "./texts.js";
import { t } from "./words.js";

const page = JSON.parse(document.getElementById("playground-page").textContent);
const csrf = document.querySelector("meta[name=csrf]").content;
const form = document.getElementById("ask");
const send = part(form, "send");
const cancel = part(form, "cancel");
const enterSends = part(form, "enter-sends");
const record = part(form, "record");
const add = document.getElementById("add-column");

// Each reads what is asked, makes the request of it, and shows the answer in a column; it may
// return a remark.
const TASKS = {
  completion, embedding, rerank, speech, transcription,
  image: pictures((prompt, values) => {
    form.elements.prompt.value = prompt;
    settings.choose(null);
    settings.set(values);
    form.elements.prompt.focus();
  }),
};

const columns = new Columns(document.getElementById("columns"), page, csrf, (what, column) => {
  if (what === "running") busy();
  else arranged(what, column);
});
const settings = new Settings(columns);
const attachments = page.task === "chat"
  ? new Attachments(form, document.getElementById("attached")) : null;
const chat = page.task === "chat"
  ? new Chat(columns, settings, attachments, form.elements.prompt, () => kept.save()) : null;
const kept = chat === null ? null : keeping({ page, columns, settings, chat, form, complain });

function complain(problem) {
  const line = part(form, "complaint-of-ask");
  line.textContent = problem;
  line.hidden = problem === "";
}

/** Say something about the page as a whole, until it is closed. */
function notice(text) {
  const line = document.getElementById("notice");
  part(line, "text").textContent = text;
  line.hidden = text === "";
}

function busy() {
  const isBusy = columns.running;
  // A button that is disabled would lose the focus.
  if (isBusy) send.setAttribute("aria-disabled", "true");
  else send.removeAttribute("aria-disabled");
  if (!isBusy && document.activeElement === cancel) (enterSends ?? send).focus();
  cancel.hidden = !isBusy;
}

function arranged(what, column) {
  if (what === "added") chat?.join(column);
  settings.arrange();
  if (page.alone) return;
  add.disabled = columns.full;
  if (what === "removed") add.focus();
  const address = new URL(location);
  address.searchParams.set("task", page.task);
  address.searchParams.set("models", columns.list.map((each) => each.name).join(","));
  history.replaceState(null, "", address);
  for (const link of document.querySelectorAll(".play-tasks a")) {
    link.search = new URLSearchParams({
      task: new URLSearchParams(link.search).get("task"),
      models: address.searchParams.get("models"),
    });
  }
}

/** What a column would be asked now, or is asked: for programs. Raises what is wrong with it. */
function requestNow(column) {
  const values = settings.of(column);
  if (chat === null) return TASKS[page.task].request(TASKS[page.task].asked(form), values);
  const text = form.elements.prompt.value;
  const images = attachments.files.map((file) => ({ file, url: `data:${file.type};base64,` }));
  const isNext = text.trim() !== "" || images.length > 0 || column.talk.exchanges.length === 0;
  const next = isNext ? { text: text || t("playground_js.hello"), images, steps: [] } : undefined;
  return requestOf(column.talk, values, next);
}

async function sent() {
  requireWords(form);
  settings.requireValid();
  if (chat !== null) {
    await chat.send();
    return;
  }
  const task = TASKS[page.task];
  const asked = task.asked(form);
  await Promise.all(columns.list.map((column) => (
    column.run((signal) => task.run(column, asked, settings.of(column), signal)))));
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (columns.running) return;
  complain("");
  try {
    await sent();
  } catch (error) {
    complain(error.message);
  }
});

function stopAll() {
  for (const column of columns.list) column.stop();
}

cancel.addEventListener("click", stopAll);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) stopAll();
});
enterSends?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
add?.addEventListener("click", () => {
  const names = page.services.map((each) => each.name);
  const unused = names.find((name) => columns.list.every((each) => each.name !== name));
  columns.add(unused ?? names[0]).select.focus();
});
document.getElementById("close-notice").addEventListener("click", () => notice(""));
if (record) recorder(form, record, complain);

for (const name of page.chosen) columns.add(name);
if (page.passed_over.length > 0) {
  notice(t("playground_js.passed_over", { names: page.passed_over.join(", ") }));
}
kept?.restore();
sharing({ page, columns, settings, chat, form, requestNow, notice, kept });
settings.showWhereWide();
if (chat !== null && matchMedia("(pointer: fine)").matches) form.elements.prompt.focus();
