// The catalogue answers as one types: the page asks the server for itself, at the address that
// says what is looked for, and shows what changed.
import { refresh } from "./live.js";

const TYPING_MS = 120;
const FIELDS = ["q", "provider", "size"];
const form = document.getElementById("filters");
let waiting = null;

/** The address of what the fields say; what the links of the filters say is in the present one. */
function wanted() {
  const given = new URLSearchParams(location.search);
  for (const name of FIELDS) {
    const { value } = form.elements[name];
    if (value) given.set(name, value);
    else given.delete(name);
  }
  return given.size ? `/models?${given}` : "/models";
}

function go(address, replaces) {
  clearTimeout(waiting);
  if (replaces) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  refresh();
}

form.elements.q.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => go(wanted(), true), TYPING_MS);
});
form.addEventListener("change", (event) => {
  if (event.target.name !== "q") go(wanted(), false);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  go(wanted(), true);
});

document.getElementById("models").addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="/models?"], a[href="/models"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(link.getAttribute("href"), false);
  fill();
});

/** The fields as the address has them: it may have come from the browser's history. */
function fill() {
  const given = new URLSearchParams(location.search);
  for (const name of FIELDS) form.elements[name].value = given.get(name) ?? "";
}
addEventListener("popstate", () => {
  fill();
  refresh();
});
