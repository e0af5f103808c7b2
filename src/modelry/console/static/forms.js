// What the tasks of the playground share: reading fields, and making what is shown.
import { language, t } from "./words.js";

export function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  return Object.assign(made, attributes);
}

/** A copy of the page's template of that name. */
export function made(name) {
  return document.getElementById(`${name}-template`).content.firstElementChild.cloneNode(true);
}

/** The element in `root` that is marked so: `data-…`. */
export function part(root, name) {
  return root.querySelector(`[data-${name}]`);
}

/** A name that nothing else has. Browsers have no UUIDs where a page comes over plain HTTP. */
export function anyId() {
  return [...crypto.getRandomValues(new Uint32Array(3))].map((each) => each.toString(36)).join("");
}

/** What is said of these names: without those left empty. */
export function texts(values, ...names) {
  const said = {};
  for (const name of names) {
    const value = (values[name] ?? "").trim();
    if (value !== "") said[name] = value;
  }
  return said;
}

/** The same, as numbers. */
export function numbers(values, ...names) {
  const said = texts(values, ...names);
  for (const [name, value] of Object.entries(said)) said[name] = Number(value);
  return said;
}

/** The lines of a text that are not blank. */
export function lines(text) {
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}

function labelOf(field) {
  return field.labels[0]?.textContent.trim() || field.ariaLabel;
}

/** Refuse a form whose fields have blanks alone where something is needed. */
export function requireWords(form) {
  for (const field of form.elements) {
    if (field.required && field.value.trim() === "") {
      field.focus();
      throw new Error(t("playground_js.write_something", { field: labelOf(field) }));
    }
  }
}

/** Refuse a form with a value that a field does not take. */
export function requireValid(form) {
  for (const field of form.elements) {
    if (field.validity && !field.validity.valid && !field.validity.valueMissing) {
      field.focus();
      throw new Error(`${labelOf(field)}: ${field.validationMessage}`);
    }
  }
}

/** A text of at most `most` characters that shows all of it when it is pointed at. */
export function shortened(text, most) {
  if (text.length <= most) return element("span", text);
  return element("span", `${text.slice(0, most - 1)}…`, { title: text });
}

/** Cells are elements, or numbers as texts: each column has the one or the other. */
export function table(head, rows) {
  const made = element("table", null);
  const first = made.createTHead().insertRow();
  head.forEach((each, at) => first.append(element("th", each, {
    scope: "col", className: rows[0]?.[at] instanceof Element ? "text" : "number",
  })));
  const body = made.createTBody();
  for (const row of rows) {
    const cells = body.insertRow();
    for (const cell of row) {
      const made = cells.insertCell();
      made.className = cell instanceof Element ? "text" : "number";
      made.append(cell);
    }
  }
  return made;
}

export function number(value, digits = 0) {
  return value.toLocaleString(language, { maximumFractionDigits: digits });
}

export function secondsSince(started, until = performance.now()) {
  const seconds = (until - started) / 1000;
  return `${number(seconds, seconds < 1 ? 2 : 1)} s`;
}

const MEASURED_MS = 50; // What comes sooner, came in one piece.

/** What a written answer took. `firstAt`: when its first piece came; `finish`: why it ended. */
export function written({ usage, started, firstAt, finish }) {
  const said = [];
  if (usage) {
    const endedAt = performance.now();
    const count = usage.completion_tokens ?? 0;
    said.push(t("playground_js.written", { count }));
    if (firstAt !== null) {
      said.push(t("playground_js.first_after", { time: secondsSince(started, firstAt) }));
      // The first came with `firstAt`: the others are what the rest of the time was for.
      const rate = (count - 1) / ((endedAt - firstAt) / 1000);
      if (count > 1 && endedAt - firstAt > MEASURED_MS) {
        said.push(t("playground_js.rate", { rate: number(rate, rate < 10 ? 1 : 0) }));
      }
    }
    const known = usage.prompt_tokens_details?.cached_tokens;
    const read = number(usage.prompt_tokens ?? 0);
    said.push(known ? t("playground_js.read_known", { read, known: number(known) })
      : t("playground_js.read", { read }));
  }
  if (finish === "length") said.push(t("playground_js.cut"));
  return said.join(" · ");
}
