// The list of services: found while one types, and deleted after their name is written.
import { refresh } from "./live.js";
import { t } from "./words.js";

const TYPED_MS = 150;

const filter = document.getElementById("services-filter");
let waiting = null;

/** Show what the fields say, and have the address say it too. */
function look() {
  const address = new URL(location.href);
  for (const [name, value] of new FormData(filter)) {
    if (value.trim() === "") address.searchParams.delete(name);
    else address.searchParams.set(name, value.trim());
  }
  address.searchParams.delete("page");
  history.replaceState(null, "", address);
  refresh();
}

filter.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(look, TYPED_MS);
});
filter.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(waiting);
  look();
});

const dialog = document.getElementById("delete-dialog");
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-delete]");
  if (!opener || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const name = opener.dataset.delete;
  const form = dialog.querySelector("form");
  form.reset();
  form.action = `/services/${encodeURIComponent(name)}/delete`;
  form.elements.written.dataset.mustBe = name;
  form.querySelector("[data-when-written]").disabled = true;
  form.querySelector("[data-what]").textContent = t("services_js.delete_what", { name });
  form.querySelector("[data-write]").textContent = t("services_js.delete_write", { name });
  dialog.showModal();
  form.elements.written.focus();
});
