// The list of API keys: found while one types. The address says what is looked for, so that what
// refreshes the page finds the same.
import { refresh } from "./live.js";

const TYPED_MS = 150;

const form = document.getElementById("key-search");
let waiting = null;

function look() {
  clearTimeout(waiting);
  const address = new URL(location.href);
  const text = form.elements.q.value.trim();
  if (text === "") address.searchParams.delete("q");
  else address.searchParams.set("q", text);
  address.searchParams.delete("page");
  history.replaceState(null, "", address);
  refresh();
}

form.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(look, TYPED_MS);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  look();
});
