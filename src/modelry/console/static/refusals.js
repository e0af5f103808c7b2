// What a person at a page is told where a program would read an error's fields.
import { t } from "./words.js";

// Where in a request's body a thing stands, of which a page's user has seen nothing.
const PLACES = [
  [/^(?:messages|prompt)(?:\[\d+\]|\.\w+)*: /, () => ""],
  [/^input\[(\d+)\]: /, (_, at) => `${t("playground_js.text_at", { at: Number(at) + 1 })} `],
  [/^documents\[(\d+)\]: /, (_, at) => `${t("playground_js.document_at", { at: Number(at) + 1 })} `],
];

/** An error in the page's words. `goesOn`: what was sent is part of something longer. */
export function told(error, goesOn) {
  if (error instanceof TypeError) return t("playground_js.broke_off");
  const message = PLACES.reduce((text, [place, word]) => text.replace(place, word), error.message);
  if (error.code !== "context_length_exceeded") return message;
  const advice = goesOn ? t("playground_js.start_anew") : t("playground_js.give_less");
  return `${message.replace(/\.?$/, ".")} ${advice}`;
}
