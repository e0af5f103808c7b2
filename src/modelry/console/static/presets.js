// What a playground is set to, as a link. Who opens one has not written it: what it says is text,
// within bounds, for the fields of the form; nothing is sent by itself.
import { t } from "./words.js";

const CHARACTERS_MOST = 200_000;
const VALUE_MOST = 50_000;
const SETTINGS_MOST = 20;
const COLUMNS_MOST = 4;
const EXCHANGES_MOST = 100;
const MARK = "#preset=";

/** A link to `path` that sets it so. */
export function linkTo(path, preset) {
  try {
    checked(preset);
  } catch {
    throw new Error(t("playground_js.preset_large")); // It could not be opened.
  }
  const bytes = new TextEncoder().encode(JSON.stringify(preset));
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  const hash = btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  if (hash.length > CHARACTERS_MOST) throw new Error(t("playground_js.preset_large"));
  return `${location.origin}${path}${MARK}${hash}`;
}

function isText(value, most = VALUE_MOST) {
  return typeof value === "string" && value.length <= most;
}

function settingsOf(value) {
  const fields = Object.entries(value ?? {});
  if (typeof value !== "object" || fields.length > SETTINGS_MOST) throw new TypeError();
  if (!fields.every(([name, text]) => /^[a-z_]{1,40}$/.test(name) && isText(text))) {
    throw new TypeError();
  }
  return Object.fromEntries(fields);
}

function exchangesOf(value) {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > EXCHANGES_MOST) throw new TypeError();
  return value.map(({ text, answer }) => {
    if (!isText(text) || !isText(answer)) throw new TypeError();
    return { text, answer };
  });
}

function columnOf({ service, own, exchanges }) {
  if (!isText(service, 80)) throw new TypeError();
  return {
    service,
    own: own === undefined || own === null ? null : settingsOf(own),
    exchanges: exchangesOf(exchanges),
  };
}

function checked({ task, settings, columns, prompt }) {
  if (!isText(task, 20) || !/^[a-z]+$/.test(task)) throw new TypeError();
  if (!Array.isArray(columns) || columns.length === 0 || columns.length > COLUMNS_MOST) {
    throw new TypeError();
  }
  return {
    task, settings: settingsOf(settings), columns: columns.map(columnOf),
    prompt: prompt !== undefined && isText(prompt) ? prompt : "",
  };
}

/** What the page's address says, or null; an `Error` where that is no preset. */
export function presetOf(hash) {
  if (!hash.startsWith(MARK)) return null;
  try {
    if (hash.length > CHARACTERS_MOST + MARK.length) throw new RangeError();
    const text = atob(hash.slice(MARK.length).replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(text, (each) => each.charCodeAt(0));
    return checked(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
  } catch {
    throw new Error(t("playground_js.no_preset"));
  }
}
