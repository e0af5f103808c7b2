// The deploy forms: what is told of a name and of the memory it takes is asked of the server as
// one types, at the address that says what is typed.
import { refresh } from "./live.js";

const TYPING_MS = 200;
const form = document.querySelector("[data-deploy]");
let waiting = null;

function ask() {
  const given = new URLSearchParams();
  for (const field of form.querySelectorAll("[data-told]")) {
    if (field.value) given.set(field.name, field.value);
  }
  history.replaceState(null, "", `${form.dataset.deploy}?${given}`);
  refresh();
}

form.addEventListener("input", (event) => {
  // What was complained of is being mended.
  const wrong = document.getElementById(`${event.target.id}-wrong`);
  if (wrong) {
    wrong.remove();
    event.target.removeAttribute("aria-invalid");
  }
  if (!event.target.matches("[data-told]")) return;
  clearTimeout(waiting);
  waiting = setTimeout(ask, TYPING_MS);
});

document.addEventListener("modelry:refreshed", () => {
  if (!form.elements.name) return; // It has one already.
  const { said } = document.getElementById("name-said").dataset;
  if (said === "taken" || said === "against_rule") form.elements.name.setAttribute("aria-invalid", "true");
  else if (!document.getElementById("name-wrong")) form.elements.name.removeAttribute("aria-invalid");
});

form.addEventListener("click", (event) => {
  const offered = event.target.closest("[data-use-name]");
  if (!offered) return;
  form.elements.name.value = offered.dataset.useName;
  form.elements.name.dispatchEvent(new Event("input", { bubbles: true }));
  form.elements.name.focus();
});

// What was refused is told of as it is typed, not as it was before.
if (form.querySelector("[aria-invalid=true]")) ask();

// -- several endpoints ---------------------------------------------------------

const endpoints = form.querySelector("[data-endpoints]");
const add = form.querySelector("[data-add]");

/** Each row's number, in its words and its names for labels. */
function number() {
  const rows = [...endpoints.querySelectorAll("[data-endpoint]")];
  rows.forEach((row, at) => {
    for (const shown of row.querySelectorAll("[data-number]")) shown.textContent = String(at + 1);
    for (const name of ["id", "for", "aria-describedby"]) {
      for (const each of row.querySelectorAll(`[${name}]`)) {
        each.setAttribute(name, each.getAttribute(name).replaceAll(/endpoint-\d+-/g, `endpoint-${at}-`));
      }
    }
    row.querySelector("[data-remove]").hidden = rows.length === 1;
  });
  add.hidden = rows.length >= Number(endpoints.dataset.most);
}

if (endpoints) {
  add.addEventListener("click", () => {
    const row = endpoints.querySelector("[data-endpoint]").cloneNode(true);
    for (const wrong of row.querySelectorAll(".complaint")) wrong.remove();
    for (const field of row.querySelectorAll("input")) {
      field.value = "";
      if (field.matches(".secret")) field.placeholder = "";
      field.removeAttribute("aria-invalid");
    }
    endpoints.append(row);
    number();
    row.querySelector("input:not([type=hidden])").focus();
  });
  endpoints.addEventListener("click", (event) => {
    const remove = event.target.closest("[data-remove]");
    if (!remove) return;
    remove.closest("[data-endpoint]").remove();
    number();
    add.focus();
  });
  number();
}
