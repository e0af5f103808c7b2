// What the forms of the playground share: reading fields, and making what is shown.

export function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  return Object.assign(made, attributes);
}

/** What a form's fields say, by name: without those left empty, with numbers as numbers. */
export function asked(form, names) {
  const said = {};
  for (const name of names) {
    const field = form.elements[name];
    const value = field.value.trim();
    if (value !== "") said[name] = field.type === "number" ? field.valueAsNumber : value;
  }
  return said;
}

/** The lines of a field that are not blank. */
export function lines(field) {
  return field.value.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}

/** Refuse a form whose fields have blanks alone where something is needed. */
export function requireWords(form) {
  for (const field of form.elements) {
    if (field.required && field.value.trim() === "") {
      field.focus();
      throw new Error(`write something under “${field.labels[0].firstChild.textContent}”`);
    }
  }
}

/** A text of at most `most` characters that shows all of it when it is pointed at. */
export function shortened(text, most) {
  if (text.length <= most) return element("span", text);
  return element("span", `${text.slice(0, most - 1)}…`, { title: text });
}

/** Cells are elements, or numbers as texts. */
export function table(head, rows) {
  const made = element("table", null);
  const first = made.createTHead().insertRow();
  for (const each of head) first.append(element("th", each, { scope: "col" }));
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

export function secondsSince(started) {
  return `${((performance.now() - started) / 1000).toFixed(1)} s`;
}

/** What a written answer took: `finish` is the reason it ended for. */
export function written(usage, started, finish, form) {
  const cut = finish === "length";
  if (!usage) return cut ? `cut at ${form.elements.max_tokens.value || "the most"} tokens` : null;
  const cached = usage.prompt_tokens_details?.cached_tokens;
  const read = `${usage.prompt_tokens} tokens read${cached ? ` (${cached} of them known)` : ""}`;
  const wrote = `${usage.completion_tokens} written in ${secondsSince(started)}`;
  return `${read}, ${wrote}${cut ? `, cut at ${usage.completion_tokens} tokens` : ""}`;
}
