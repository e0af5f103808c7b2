// The programs of a call: of those in several languages, whole or streaming, one is shown, with what
// is answered beside it. What was chosen last counts for every call, and on the next page too.
const KEPT = { tab: "modelry-program", mode: "modelry-program-mode" };

const calls = [...document.querySelectorAll("[data-call]")];

function kept(choice) {
  try {
    return localStorage.getItem(KEPT[choice]);
  } catch {
    return null; // A browser that keeps nothing.
  }
}

function keep(choice, value) {
  try {
    localStorage.setItem(KEPT[choice], value);
  } catch {
    // Then it counts for this page.
  }
}

const chosen = { tab: kept("tab"), mode: kept("mode") };

/** What a group of buttons has of the choice; its first where it has nothing of it. */
function within(group) {
  const buttons = [...group.querySelectorAll("button")];
  const found = buttons.find((button) => button.value === chosen[group.dataset.choice]);
  return (found ?? buttons[0]).value;
}

function show(call) {
  const shown = { tab: "", mode: "whole" };
  for (const group of call.querySelectorAll("[data-choice]")) {
    const value = within(group);
    shown[group.dataset.choice] = value;
    for (const button of group.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.value === value));
    }
  }
  for (const program of call.querySelectorAll("[data-program]")) {
    program.hidden = program.dataset.tab !== shown.tab || program.dataset.mode !== shown.mode;
  }
}

for (const call of calls) {
  call.querySelector("[data-choices]").hidden = false;
  call.addEventListener("click", (event) => {
    const button = event.target.closest("[data-choice] button");
    if (!button) return;
    const { choice } = button.closest("[data-choice]").dataset;
    chosen[choice] = button.value;
    keep(choice, button.value);
    calls.forEach(show);
  });
  show(call);
}
