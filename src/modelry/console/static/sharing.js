// Two ways to take along what the playground is set to: as a program, and as a link.
import { element } from "./forms.js";
import { linkTo, presetOf } from "./presets.js";
import { program } from "./programs.js";
import { copy } from "./shell.js";
import { t } from "./words.js";

export function sharing({ page, columns, settings, chat, form, requestNow, notice, kept }) {
  programs({ page, columns, requestNow });
  links({ page, columns, settings, chat, form });
  take({ page, columns, settings, chat, form, notice, kept });
}

// -- programs --------------------------------------------------------------------------------------

function programs({ page, columns, requestNow }) {
  const dialog = document.getElementById("code-dialog");
  const shown = document.getElementById("program");
  const choice = document.getElementById("code-column");
  const buttons = [...dialog.querySelectorAll("[data-program]")];
  let language = "curl";

  function show() {
    const column = columns.list[choice.value] ?? columns.list[0];
    const about = { base: page.base, model: column.service.model, key: page.key_variable };
    try {
      shown.textContent = program(language, about, requestNow(column));
    } catch (error) {
      shown.textContent = error.message;
    }
    document.getElementById("copy-program").dataset.copy = shown.textContent;
    for (const each of buttons) each.ariaPressed = String(each.dataset.program === language);
  }

  for (const button of buttons) {
    button.addEventListener("click", () => {
      language = button.dataset.program;
      show();
    });
  }
  choice.addEventListener("change", show);
  document.getElementById("open-code").addEventListener("click", () => {
    choice.replaceChildren(...columns.list.map((each, at) => (
      element("option", `${at + 1} · ${each.name}`, { value: at }))));
    document.getElementById("code-column-field").hidden = columns.list.length < 2;
    show();
    dialog.showModal();
  });
}

// -- links -----------------------------------------------------------------------------------------

function exchangesOf(talk) {
  return talk.exchanges.filter(({ steps }) => steps.length > 0 && steps.at(-1).problem === "")
    .map(({ text, steps }) => ({ text, answer: steps.at(-1).content }));
}

function links({ page, columns, settings, chat, form }) {
  const dialog = document.getElementById("share-dialog");
  const field = document.getElementById("share-link");
  const problem = document.getElementById("share-problem");
  const withConversation = document.getElementById("share-conversation");

  function show() {
    const isWhole = withConversation?.checked ?? false;
    const said = chat === null ? form.elements.prompt?.value : undefined;
    problem.hidden = true;
    try {
      field.value = linkTo("/playground", {
        task: page.task,
        settings: settings.shared,
        ...(said ? { prompt: said } : {}),
        columns: columns.list.map(({ name, own, talk }) => ({
          service: name,
          ...(own === null ? {} : { own }),
          ...(isWhole ? { exchanges: exchangesOf(talk) } : {}),
        })),
      });
    } catch (error) {
      field.value = "";
      problem.textContent = error.message;
      problem.hidden = false;
    }
  }

  withConversation?.addEventListener("change", show);
  document.getElementById("copy-link").addEventListener("click", () => copy(field.value));
  document.getElementById("open-share").addEventListener("click", () => {
    if (withConversation) withConversation.checked = false;
    show();
    dialog.showModal();
    field.select();
  });
}

/** Set the page as its address says, once: a reload is not to undo what was done since. */
function take({ page, columns, settings, chat, form, notice, kept }) {
  let preset;
  try {
    preset = presetOf(location.hash);
  } catch (error) {
    history.replaceState(null, "", location.pathname + location.search);
    notice(error.message);
    return;
  }
  // Another link into this page is no other page to the browser.
  addEventListener("hashchange", () => location.reload());
  if (preset === null || page.alone) return;
  const asked = new URLSearchParams(location.search).get("task");
  if (preset.task !== page.task && preset.task !== asked) {
    const models = preset.columns.map(({ service }) => service).join(",");
    const query = new URLSearchParams({ task: preset.task, models });
    location.replace(`${location.pathname}?${query}${location.hash}`);
    return;
  }
  history.replaceState(null, "", location.pathname + location.search);
  if (preset.task !== page.task) {
    notice(t("playground_js.passed_over", {
      names: preset.columns.map(({ service }) => service).join(", "),
    }));
    return;
  }
  kept?.begin();
  chat?.clear();
  const names = page.services.map((each) => each.name);
  const known = preset.columns.filter(({ service }) => names.includes(service));
  for (const each of [...columns.list].slice(1)) columns.remove(each);
  (known.length > 0 ? known : preset.columns.slice(0, 1)).forEach((wanted, at) => {
    const column = columns.list[at] ?? columns.add(wanted.service);
    if (names.includes(wanted.service) && column.name !== wanted.service) {
      column.select.value = wanted.service;
      column.select.dispatchEvent(new Event("change"));
    }
    column.own = wanted.own;
    chat?.restore(column, wanted.exchanges.map(({ text, answer }, id) => ({
      id: `preset-${id}`, text, lost: 0, steps: [{
        content: answer, reasoning: "", calls: [], remark: "", problem: "", stopped: false,
      }],
    })));
  });
  settings.load(preset.settings);
  if (form.elements.prompt && preset.prompt) form.elements.prompt.value = preset.prompt;
  const unknown = preset.columns.filter(({ service }) => !names.includes(service));
  notice([
    t("playground_js.from_link"),
    unknown.length === 0 ? "" : t("playground_js.passed_over", {
      names: unknown.map(({ service }) => service).join(", "),
    }),
  ].filter(Boolean).join(" "));
}
