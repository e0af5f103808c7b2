// What a person at a page is told where a program would read an error's fields.

// Where in a request's body a thing stands, of which a page's user has seen nothing.
const PLACES = [
  [/^(?:messages|prompt)(?:\[\d+\]|\.\w+)*: /, () => ""],
  [/^input\[(\d+)\]: /, (_, at) => `text ${Number(at) + 1}: `],
  [/^documents\[(\d+)\]: /, (_, at) => `document ${Number(at) + 1}: `],
];

/** An error in the page's words. `goesOn`: what was sent is part of something longer. */
export function told(error, goesOn) {
  if (error instanceof TypeError) return "the connection broke off";
  const message = PLACES.reduce((text, [place, word]) => text.replace(place, word), error.message);
  if (error.code !== "context_length_exceeded") return message;
  return `${message.replace(/\.?$/, ".")} ${goesOn ? "Start anew, or ask for less." : "Give it less."}`;
}
