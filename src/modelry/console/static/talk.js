// A conversation with one service, as a column shows it.
//
// It is a list of exchanges: what was asked, and the steps of the answer, of which there are more
// where functions were called and their results given. An exchange whose last step went wrong is
// no part of the conversation until it is tried again.
import { Answer } from "./answer.js";
import { thumb } from "./attachments.js";
import { follower } from "./follow.js";
import { made, part, written } from "./forms.js";
import { values } from "./inference.js";
import { told } from "./refusals.js";
import { copy } from "./shell.js";
import { t } from "./words.js";

const CALLS_MOST = 128; // As many as OpenAI's API lets a model call at a time.

function asMessages({ text, images, steps }) {
  const content = images.length === 0 ? text : [
    ...(text ? [{ type: "text", text }] : []),
    ...images.map(({ url }) => ({ type: "image_url", image_url: { url } })),
  ];
  const messages = [{ role: "user", content }];
  for (const step of steps) {
    const calls = step.calls.map((call) => ({
      id: call.id, type: "function", function: { name: call.name, arguments: call.arguments },
    }));
    messages.push({
      role: "assistant", content: step.content,
      ...(calls.length > 0 ? { tool_calls: calls } : {}),
    });
    for (const call of step.calls) {
      messages.push({ role: "tool", tool_call_id: call.id, content: call.result });
    }
  }
  return messages;
}

function isPart({ steps }) {
  return steps.length > 0 && steps.at(-1).problem === "";
}

export class Talk {
  exchanges = []; // {id, text, images: [{file, url}], lost: how many it had before a reload, steps}
  #column;
  #on;
  #follow;

  /** `on.call(talk, exchange)` asks for the next step; `on.edit(id, text)` changes a question. */
  constructor(column, on) {
    this.#column = column;
    this.#on = on;
    this.#follow = follower(column.output);
    this.#greet();
  }

  get imageBytes() {
    return this.exchanges.flatMap(({ images }) => images)
      .reduce((sum, { file }) => sum + file.size, 0);
  }

  /** What is sent to get the answer of the last exchange, or of one that is not begun yet. */
  messages(system, next = this.exchanges.at(-1)) {
    const before = this.exchanges.filter((each) => each !== next && isPart(each));
    return [
      ...(system ? [{ role: "system", content: system }] : []),
      ...before.flatMap(asMessages), ...(next ? asMessages(next) : []),
    ];
  }

  ask({ id, text, images, lost = 0, steps = [] }) {
    const exchange = { id, text, images, lost, steps: [], shown: made("turn"), answers: [] };
    if (this.exchanges.length === 0) this.#column.output.replaceChildren();
    this.#settle();
    this.exchanges.push(exchange);
    this.#showQuestion(exchange);
    this.#column.output.append(exchange.shown);
    steps.forEach((step, at) => {
      exchange.steps.push(step);
      this.#answer(exchange, step).end(at === steps.length - 1);
    });
    this.#follow.again();
    return exchange;
  }

  clear() {
    this.exchanges.length = 0;
    this.#greet();
  }

  /** Leave out the question of this id, and what came after it. */
  cut(id) {
    const at = this.exchanges.findIndex((each) => each.id === id);
    if (at < 0) return false;
    for (const { shown } of this.exchanges.splice(at)) shown.remove();
    return true;
  }

  /** Have the last answer once more. */
  again() {
    const exchange = this.exchanges.at(-1);
    exchange.steps.pop();
    exchange.answers.pop().root.remove();
    return this.#on.call(this, exchange);
  }

  /** Ask for the next step of the last exchange, and show it as it comes. */
  async answer(request, signal) {
    const exchange = this.exchanges.at(-1);
    const step = { content: "", reasoning: "", calls: [], remark: "", problem: "", stopped: false };
    this.#settle();
    const shown = this.#answer(exchange, step);
    this.#follow.again();
    const took = { usage: null, started: 0, firstAt: null, finish: null };
    try {
      const { path, body } = request();
      await this.#column.service.ensureKey(signal);
      took.started = performance.now();
      const response = await this.#column.service.call(path, {
        ...body, stream_options: { include_usage: true },
      }, signal);
      for await (const chunk of values(response)) {
        this.#take(chunk, step, shown, took);
      }
      signal.throwIfAborted();
      step.remark = written(took);
      if (step.content === "" && step.reasoning === "" && step.calls.length === 0) {
        step.remark = [t("playground_js.said_nothing"), step.remark].filter(Boolean).join(" · ");
      }
      return step.remark;
    } catch (error) {
      if (error.name !== "AbortError") {
        step.problem = told(error, true);
      } else if (step.content) {
        // What came of it is what the conversation goes on from.
        step.calls = [];
        step.stopped = true;
        step.remark = t("playground_js.stopped");
      } else {
        step.problem = t("playground_js.stopped");
      }
      return step.remark || step.problem;
    } finally {
      exchange.steps.push(step);
      shown.end(true);
      this.#follow();
    }
  }

  #take(chunk, step, shown, took) {
    took.usage = chunk.usage ?? took.usage;
    const choice = chunk.choices?.[0];
    took.finish = choice?.finish_reason ?? took.finish;
    const delta = choice?.delta ?? choice?.message ?? {};
    const calls = delta.tool_calls ?? [];
    if (delta.reasoning_content || delta.content || calls.length > 0) {
      took.firstAt ??= performance.now();
    }
    if (delta.reasoning_content) {
      step.reasoning += delta.reasoning_content;
      shown.reason(delta.reasoning_content);
      this.#follow();
    }
    if (delta.content) {
      step.content += delta.content;
      shown.say(delta.content);
    }
    if (calls.length === 0) return;
    calls.forEach((each, at) => {
      const place = each.index ?? at;
      if (place >= CALLS_MOST) return;
      while (step.calls.length <= place) {
        step.calls.push({ id: "", name: "", arguments: "", result: "" });
      }
      const call = step.calls[place];
      call.id ||= each.id ?? "";
      call.name += each.function?.name ?? "";
      call.arguments += each.function?.arguments ?? "";
    });
    shown.showCalls();
    this.#follow();
  }

  #greet() {
    const hello = made("hello");
    for (const suggestion of hello.querySelectorAll("[data-suggestion]")) {
      suggestion.addEventListener("click", () => this.#on.suggest(suggestion.textContent));
    }
    this.#column.output.replaceChildren(hello);
  }

  /** Only the last answer is one to try again. */
  #settle() {
    const answers = this.exchanges.flatMap((each) => each.answers);
    answers.forEach((each) => { each.isLast = false; });
  }

  #answer(exchange, step) {
    const shown = new Answer(step, {
      again: () => this.again(),
      goOn: () => this.#on.call(this, exchange),
      shown: this.#follow,
    });
    exchange.answers.push(shown);
    part(exchange.shown, "steps").append(shown.root);
    return shown;
  }

  #showQuestion(exchange) {
    const { shown, text, images, lost } = exchange;
    part(shown, "text").textContent = text;
    part(shown, "text").hidden = text === "";
    part(shown, "images").hidden = images.length === 0;
    part(shown, "images").append(...images.map(({ file }) => {
      const small = thumb(file);
      part(small, "drop").remove();
      return small;
    }));
    part(shown, "lost").hidden = lost === 0;
    if (lost > 0) part(shown, "lost").textContent = t("playground_js.images_lost", { count: lost });
    part(shown, "copy-asked").addEventListener("click", () => copy(text));
    const editing = part(shown, "editing");
    const bubble = shown.querySelector(".bubble");
    const leave = (done) => {
      editing.hidden = done;
      bubble.hidden = !done;
      part(shown, "tools").hidden = !done;
    };
    const field = part(shown, "edited");
    part(shown, "edit").addEventListener("click", () => {
      field.value = text;
      leave(false);
      field.focus();
    });
    part(shown, "leave").addEventListener("click", () => leave(true));
    editing.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim() !== "") this.#on.edit(exchange, field.value);
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        leave(true);
        part(shown, "edit").focus();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        editing.requestSubmit();
      }
    });
  }
}
