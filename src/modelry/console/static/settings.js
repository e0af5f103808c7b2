// What is asked with: the fields of the settings, for every column or for one alone; and what they
// are in a request's body.
import { element, lines, numbers, part, requireValid } from "./forms.js";
import { t } from "./words.js";

const EXAMPLES = {
  tools: () => [{
    type: "function",
    function: {
      name: "get_weather",
      description: t("playground_js.example_tool"),
      parameters: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
        additionalProperties: false,
      },
    },
  }],
  schema: () => ({
    type: "object",
    properties: { city: { type: "string" }, country: { type: "string" } },
    required: ["city", "country"],
    additionalProperties: false,
  }),
};

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(t("playground_js.no_json", { reason: error.message }));
  }
}

const READERS = {
  tools(text) {
    const tools = parsed(text);
    const isTool = (each) => each?.type === "function" && typeof each.function?.name === "string";
    if (!Array.isArray(tools) || tools.length === 0 || !tools.every(isTool)) {
      throw new Error(t("playground_js.no_tools"));
    }
    return tools;
  },
  schema(text) {
    const schema = parsed(text);
    if (schema === null || typeof schema !== "object" || Array.isArray(schema)) {
      throw new Error(t("playground_js.no_schema"));
    }
    return schema;
  },
};

/** The fields of a body that say how a text is to be written. */
export function writing(values) {
  const stop = lines(values.stop ?? "");
  return {
    ...numbers(values, "temperature", "top_p", "max_tokens", "seed"),
    ...(stop.length > 0 ? { stop } : {}),
  };
}

/** The same of a chat, which may have functions to call and a form for its answer. */
export function chatting(values) {
  const said = writing(values);
  if (values.tools?.trim()) said.tools = READERS.tools(values.tools);
  if (values.schema?.trim()) {
    const schema = READERS.schema(values.schema);
    said.response_format = {
      type: "json_schema", json_schema: { name: "answer", strict: true, schema },
    };
  }
  return said;
}

export class Settings {
  #form = document.getElementById("settings");
  #scope = document.getElementById("scope");
  #panel = document.getElementById("settings-panel");
  #toggle = document.getElementById("toggle-settings");
  #columns;
  #shared = {};
  #initial = {};
  #alone = null; // The column that the fields are of.

  constructor(columns) {
    this.#columns = columns;
    if (this.#form === null) return;
    this.#initial = this.#shared = this.#read();
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#form.addEventListener("input", (event) => {
      if (event.target === this.#scope) return;
      this.#check(event.target.name);
      this.#keep();
    });
    this.#form.addEventListener("click", (event) => {
      const { example } = event.target.closest("[data-example]")?.dataset ?? {};
      if (example !== undefined) {
        this.set({ [example]: JSON.stringify(EXAMPLES[example](), null, 2) });
      }
      if (event.target.closest("#draw-seed")) {
        this.set({ seed: String(crypto.getRandomValues(new Uint32Array(1))[0] >>> 1) });
      }
    });
    this.#scope?.addEventListener("change", () => {
      this.choose(columns.list[this.#scope.value] ?? null);
    });
    document.getElementById("share-again")?.addEventListener("click", () => {
      this.#alone.own = null;
      this.choose(null);
    });
    this.#toggle.addEventListener("click", () => this.show(!this.shown));
    document.getElementById("close-settings").addEventListener("click", () => {
      this.show(false);
      this.#toggle.focus();
    });
  }

  /** Beside the answers, where the window has room for both. */
  showWhereWide() {
    if (this.#form === null) return;
    const wide = this.#columns.list.length > 1 ? "(min-width: 110rem)" : "(min-width: 75rem)";
    this.show(matchMedia(wide).matches);
  }

  get shown() {
    return !this.#panel.hidden;
  }

  show(shown) {
    this.#panel.hidden = !shown;
    this.#toggle.ariaExpanded = String(shown);
  }

  get shared() {
    return this.#shared;
  }

  /** What a column is asked with, as its fields say it. */
  of(column) {
    return column.own ?? this.#shared;
  }

  /** Refuse values that a field does not take. */
  requireValid() {
    if (this.#form === null) return;
    if (!this.#form.checkValidity()) this.show(true);
    requireValid(this.#form);
  }

  /** Show the settings of a column, which are its own from now on, or of all that have none. */
  choose(column) {
    this.#alone = column;
    if (column !== null) column.own ??= { ...this.#shared };
    this.#write(this.of(column ?? {}));
    this.arrange();
  }

  /** Put values in place of some of those that are shown. */
  set(values) {
    this.#write({ ...this.#read(), ...values });
    this.#keep();
  }

  /** Begin with these values for all. */
  load(values) {
    this.#alone = null;
    this.#shared = { ...this.#initial, ...values };
    if (this.#form !== null) this.#write(this.#shared);
    this.arrange();
  }

  /** Say whose settings there are, after the columns have changed. */
  arrange() {
    const { list } = this.#columns;
    for (const each of list) {
      const mark = part(each.root, "own");
      mark.hidden = each.own === null;
      mark.onclick = () => {
        this.show(true);
        this.choose(each);
      };
    }
    if (!this.#scope) return;
    if (!list.includes(this.#alone) && this.#alone !== null) this.choose(null);
    this.#scope.replaceChildren(
      element("option", t("playground_js.all_columns"), { value: "all" }),
      ...list.map((each, at) => element("option", `${at + 1} · ${each.name}`, { value: at })),
    );
    this.#scope.value = this.#alone === null ? "all" : String(list.indexOf(this.#alone));
    document.getElementById("scope-field").hidden = list.length < 2 && this.#alone === null;
    document.getElementById("share-again").hidden = this.#alone === null;
  }

  #fields() {
    return [...this.#form.elements].filter((field) => field.name);
  }

  #read() {
    return Object.fromEntries(this.#fields().map((field) => [field.name, field.value]));
  }

  #write(values) {
    for (const field of this.#fields()) {
      field.value = values[field.name] ?? "";
      this.#check(field.name);
    }
  }

  #keep() {
    if (this.#alone === null) this.#shared = this.#read();
    else this.#alone.own = this.#read();
  }

  #check(name) {
    const read = READERS[name];
    if (read === undefined) return;
    const field = this.#form.elements[name];
    const complaint = this.#form.querySelector(`[data-complaint="${name}"]`);
    let problem = "";
    try {
      if (field.value.trim() !== "") read(field.value);
    } catch (error) {
      problem = error.message;
    }
    field.setCustomValidity(problem);
    field.ariaInvalid = problem === "" ? null : "true";
    complaint.textContent = problem;
    complaint.hidden = problem === "";
  }
}
