// What works on every page: copy buttons, dialogs, menus, notices, the search key, the theme.
import "./live.js";
import "./local_time.js";
import "./sign_out.js";
import { t } from "./words.js";

const SHOWN_MS = 5000;

/** Say something for a few seconds, in a corner. `tone`: "bad" for what went wrong. */
export function toast(text, tone = "") {
  const made = document.createElement("div");
  made.className = `toast ${tone}`;
  made.textContent = text;
  document.getElementById("toasts").append(made);
  setTimeout(() => made.remove(), SHOWN_MS);
}
for (const shown of document.querySelectorAll("[data-toast]")) {
  setTimeout(() => shown.remove(), SHOWN_MS);
}

/** Copy a text, and say so. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(t("shell_js.copied"));
  } catch {
    toast(t("shell_js.copy_by_hand"), "bad");
  }
}

// Where tabs do not fit, the one that is shown is in sight.
const tabs = document.querySelector(".tabs");
const shown = tabs?.querySelector("[aria-current]");
if (shown) {
  const [around, it] = [tabs.getBoundingClientRect(), shown.getBoundingClientRect()];
  tabs.scrollLeft += it.left - around.left - (around.width - it.width) / 2;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button.dataset.copy);
  // `data-dialog` opens the dialog of that id; `data-close` closes the one it is in.
  const opener = event.target.closest("[data-dialog]");
  if (opener) document.getElementById(opener.dataset.dialog).showModal();
  if (event.target.closest("[data-close]")) event.target.closest("dialog").close();
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    const search = document.querySelector("[data-search]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
  if (event.key === "Escape") {
    const menu = event.target.closest("details.menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
});

// A dialog's button stays off until the name that it asks for is written: `data-must-be`.
document.addEventListener("input", (event) => {
  const { mustBe } = event.target.dataset;
  if (mustBe === undefined) return;
  event.target.form.querySelector("[data-when-written]").disabled = event.target.value !== mustBe;
});

document.addEventListener("change", (event) => {
  event.target.closest("[data-submit-on-change]")?.requestSubmit();
});

// A form that is sent twice is meant once.
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method !== "post") return;
  const button = event.submitter;
  if (button) setTimeout(() => { button.disabled = true; });
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
