// The texts of a page's scripts, in the page's language: the server puts them into the page.

const texts = JSON.parse(document.getElementById("words").textContent);

/** A text with its values put in; one that depends on a number goes by the value `count`. */
export function t(key, values = {}) {
  let text = texts[key];
  if (text === undefined) throw new Error(`there is no text ${key}`);
  if (typeof text === "object") text = values.count === 1 ? text.one : text.other;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

export const language = document.documentElement.lang;
