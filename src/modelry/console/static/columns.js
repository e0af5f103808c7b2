// The columns of the playground: each has a service, what it answered, and a stop of its own.
import { element, made, part } from "./forms.js";
import { Service } from "./inference.js";
import { told } from "./refusals.js";
import { t } from "./words.js";

export class Column {
  own = null; // Settings that are this column's alone.
  talk = null; // Of a chat.
  #running = null; // The aborter of what is under way.
  #page;
  #changed;

  constructor(page, name, csrf, changed) {
    this.#page = page;
    this.#changed = changed;
    this.root = made("column");
    this.output = part(this.root, "output");
    this.select = part(this.root, "service");
    this.select.append(
      ...page.services.map((each) => element("option", each.name, { value: each.name })),
    );
    this.select.addEventListener("change", () => {
      this.#choose(csrf);
      changed("service", this);
    });
    this.select.value = name;
    this.#choose(csrf);
    part(this.root, "stop").addEventListener("click", () => this.stop());
  }

  #choose(csrf) {
    const chosen = this.#page.services.find((each) => each.name === this.select.value);
    this.name = chosen.name;
    this.service = new Service(chosen.key, csrf, chosen.model);
    part(this.root, "title").textContent = chosen.name;
    this.output.ariaLabel = t("playground_js.answers_of", { name: chosen.name });
    this.output.role = "region";
  }

  get running() {
    return this.#running !== null;
  }

  stop() {
    this.#running?.abort();
  }

  say(remark) {
    part(this.root, "status").textContent = remark;
  }

  complain(problem) {
    const line = part(this.root, "refusal");
    line.textContent = problem;
    line.hidden = problem === "";
  }

  /** Do `work(signal)`, which may return a remark, and show what comes of it. */
  async run(work) {
    const mine = this.#begin();
    let remark = "";
    let problem = "";
    try {
      remark = (await work(mine.signal)) ?? "";
    } catch (error) {
      if (error.name === "AbortError") remark = t("playground_js.stopped");
      else problem = told(error, false);
    }
    // Started anew meanwhile, it has nothing to say any more.
    if (this.#running === mine) this.#end(remark, problem);
  }

  #begin() {
    this.stop();
    this.#running = new AbortController();
    this.complain("");
    this.say(t("playground_js.working"));
    part(this.root, "stop").hidden = false;
    this.root.ariaBusy = "true";
    this.#changed("running", this);
    return this.#running;
  }

  #end(remark, problem) {
    this.#running = null;
    this.say(remark);
    this.complain(problem);
    part(this.root, "stop").hidden = true;
    this.root.ariaBusy = "false";
    this.#changed("running", this);
  }

  /** Give up what is under way, and say nothing of it. */
  forget() {
    this.stop();
    if (this.#running !== null) this.#end("", "");
  }
}

export class Columns {
  list = [];
  #root;
  #page;
  #csrf;
  #changed;

  /** `changed(what, column)`: a column was `added` or `removed`, has another `service`, or runs. */
  constructor(root, page, csrf, changed) {
    this.#root = root;
    this.#page = page;
    this.#csrf = csrf;
    this.#changed = changed;
  }

  get running() {
    return this.list.some((each) => each.running);
  }

  get full() {
    return this.list.length >= this.#page.most;
  }

  add(name) {
    const column = new Column(this.#page, name, this.#csrf, this.#changed);
    part(column.root, "remove").addEventListener("click", () => this.remove(column));
    this.list.push(column);
    this.#root.append(column.root);
    this.#arranged();
    this.#changed("added", column);
    return column;
  }

  remove(column) {
    column.forget();
    this.list.splice(this.list.indexOf(column), 1);
    column.root.remove();
    this.#arranged();
    this.#changed("removed", column);
  }

  #arranged() {
    this.#root.dataset.count = this.list.length;
    for (const { root } of this.list) part(root, "remove").hidden = this.list.length === 1;
  }
}
