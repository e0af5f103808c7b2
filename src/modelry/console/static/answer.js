// One answer of a conversation as it is seen: what was thought, said and called for, and what it
// took.
import { made, part } from "./forms.js";
import { Markdown } from "./markdown.js";
import { copy } from "./shell.js";

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json; // It is not whole yet, or no JSON.
  }
}

export class Answer {
  #root = made("answer");
  #markdown;
  #thought = null;
  #calls = [];

  /** `step` is what it shows; `on` has what its buttons do: `again`, `goOn`, `shown`. */
  constructor(step, on) {
    this.step = step;
    this.on = on;
    this.root = this.#root;
    this.#markdown = new Markdown(this.#part("content"), on.shown);
    this.#part("copy-answer").addEventListener("click", () => copy(step.content));
    for (const name of ["again", "regenerate"]) {
      this.#part(name).addEventListener("click", on.again);
    }
    if (step.reasoning) this.reason(step.reasoning);
    if (step.content) this.say(step.content);
    this.showCalls();
  }

  #part(name) {
    return part(this.#root, name);
  }

  reason(text) {
    if (this.#thought === null) {
      this.#thought = this.#part("thought");
      this.#thought.hidden = false;
      this.#thought.open = this.step.content === "";
    }
    this.#part("waiting").hidden = true;
    this.#part("reasoning").append(text);
  }

  say(text) {
    // Once it speaks, what it thought is folded away.
    if (this.#thought?.open && this.#markdown.source === "") this.#thought.open = false;
    this.#part("waiting").hidden = true;
    this.#markdown.append(text);
  }

  showCalls() {
    for (const call of this.step.calls.slice(this.#calls.length)) {
      const shown = made("call");
      const result = part(shown, "result");
      result.value = call.result;
      result.addEventListener("input", () => { call.result = result.value; });
      this.#calls.push(shown);
      this.#part("calls").append(shown);
      this.#part("waiting").hidden = true;
    }
    this.step.calls.forEach((call, at) => {
      part(this.#calls[at], "name").textContent = call.name;
      part(this.#calls[at], "arguments").textContent = call.arguments;
    });
  }

  /** It has come to its end; `isLast`: something can still be done about it. */
  end(isLast) {
    const { step } = this;
    this.#markdown.end();
    this.#part("waiting").hidden = true;
    this.#part("remark").textContent = step.remark;
    this.#part("problem").hidden = step.problem === "";
    this.#part("why").textContent = step.problem;
    this.#part("copy-answer").hidden = step.content === "";
    step.calls.forEach((call, at) => {
      part(this.#calls[at], "arguments").textContent = pretty(call.arguments);
    });
    if (step.calls.length > 0 && step.problem === "") {
      const button = made("go-on");
      button.addEventListener("click", this.on.goOn);
      this.#part("calls").append(button);
      this.goOnButton = button;
    }
    this.isLast = isLast;
  }

  set isLast(isLast) {
    this.#part("tools").hidden = false;
    this.#part("regenerate").hidden = !isLast || this.step.problem !== "";
    this.#part("again").hidden = !isLast;
    if (this.goOnButton) this.goOnButton.hidden = !isLast;
    for (const shown of this.#calls) part(shown, "result").readOnly = !isLast;
  }
}
