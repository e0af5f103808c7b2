// The playground of a service's page: a form for each task, whose answer appears below it.
import { chat, restore, startAnew } from "/static/chat.js";
import { requireWords } from "/static/forms.js";
import { Service } from "/static/inference.js";
import { image, speech, transcription } from "/static/media.js";
import { recorder } from "/static/recorder.js";
import { told } from "/static/refusals.js";
import { completion, embedding, rerank } from "/static/texts.js";

const section = document.getElementById("playground");
const service = new Service(section.dataset.key, section.dataset.csrf, section.dataset.model);

// Each sends a form and shows the answer in `output`, and may return a remark.
const TASKS = { chat, completion, image, embedding, rerank, speech, transcription };

for (const form of section.querySelectorAll("form[data-task]")) {
  const send = form.querySelector("[data-send]");
  const cancel = form.querySelector("[data-cancel]");
  const clear = form.querySelector("[data-clear]");
  const enterSends = form.querySelector("[data-enter-sends]");
  const record = form.querySelector("[data-record]");
  const alertLine = form.querySelector("[role=alert]");
  const status = form.querySelector("[role=status]");
  const page = { service, form, output: form.querySelector("[data-output]") };
  let running = null; // The aborter of what is under way.

  function begin() {
    running = new AbortController();
    alertLine.hidden = true;
    status.textContent = "…";
    // A button that is disabled would lose the focus.
    send.setAttribute("aria-disabled", "true");
    cancel.hidden = false;
    return running;
  }

  function end(remark, problem) {
    running = null;
    status.textContent = remark;
    alertLine.textContent = problem;
    alertLine.hidden = problem === "";
    send.removeAttribute("aria-disabled");
    if (document.activeElement === cancel) (enterSends ?? send).focus();
    cancel.hidden = true;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running !== null) return;
    const mine = begin();
    let remark = "";
    let problem = "";
    try {
      requireWords(form);
      remark = await TASKS[form.dataset.task](page, mine.signal) ?? "";
    } catch (error) {
      if (error.name === "AbortError") remark = "cancelled";
      else problem = told(error, clear !== null);
    }
    // Started anew meanwhile, it has nothing to say any more.
    if (running === mine) end(remark, problem);
  });
  cancel.addEventListener("click", () => running?.abort());

  clear?.addEventListener("click", () => {
    running?.abort();
    startAnew(page);
    end("", "");
  });
  enterSends?.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  if (record) recorder(form, record, status);
  if (form.dataset.task === "chat") restore(page);
}
