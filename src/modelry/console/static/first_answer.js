// A service's first answer: asked for once it serves, as a page's user would, and how long it took.
import { Service, values } from "./inference.js";
import { t } from "./words.js";

const TOKENS = 24;
const LONGEST_MS = 120_000;

const REQUESTS = {
  chat: (text) => ["chat/completions", { messages: [{ role: "user", content: text }] }],
  completion: (text) => ["completions", { prompt: text }],
};

/** What a piece of a stream says. */
function said(value) {
  const choice = value.choices?.[0];
  const { delta } = choice ?? {};
  return delta?.content || delta?.reasoning_content || choice?.text || "";
}

/** Asks the service that the step names; `told` hears of the first token and of each next one. */
async function ask(step, told) {
  const { asks, key, model } = step.dataset;
  const csrf = document.querySelector("meta[name=csrf]").content;
  const service = new Service(key, csrf, model);
  const [path, body] = REQUESTS[asks](t("progress_js.question"));
  const began = performance.now();
  const signal = AbortSignal.timeout(LONGEST_MS);
  const response = await service.call(path, { ...body, max_tokens: TOKENS, stream: true }, signal);
  let text = "";
  let took = null;
  for await (const value of values(response)) {
    const piece = said(value);
    if (!piece) continue;
    took ??= performance.now() - began;
    text += piece;
    told({ took, text });
  }
  // Some answer with nothing, which is an answer too.
  if (took === null) told({ took: performance.now() - began, text: "" });
}

function shown(step, seen) {
  const failed = seen.problem !== undefined;
  step.dataset.standing = failed ? "failed" : seen.took === undefined ? "moving" : "done";
  step.querySelector("[data-took]").textContent = seen.took === undefined ? "" : duration(seen.took);
  const line = step.querySelector("[data-said]");
  if (failed) line.textContent = t("progress_js.no_answer", { reason: seen.problem });
  else line.textContent = seen.took === undefined ? t("progress_js.asking") : seen.text;
}

function duration(ms) {
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toPrecision(3)} s`;
}

/** Watches for the step to be reached, then asks once; `done` is called when there was an answer. */
export function watchForAnswer(done = () => {}) {
  let seen = null;

  const show = () => {
    const step = document.querySelector("[data-step=answer]");
    if (step && seen) shown(step, seen);
  };
  const look = async () => {
    const step = document.querySelector("[data-step=answer][data-asks]");
    if (seen === null && step) {
      seen = {};
      show();
      try {
        await ask(step, (heard) => {
          seen = heard;
          show();
        });
        done();
      } catch (error) {
        seen = { problem: error instanceof TypeError ? t("shell_js.server_away") : error.message };
      }
    }
    // The page is as the server has it after each look, which knows nothing of this call.
    show();
  };
  document.addEventListener("modelry:refreshed", look);
  look();
}
