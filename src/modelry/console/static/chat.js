// Chat: one message goes to every column, and each goes on with its own conversation.
import { dataUrl, requireBounds } from "./attachments.js";
import { anyId, part } from "./forms.js";
import { chatting } from "./settings.js";
import { Talk } from "./talk.js";

export function requestOf(talk, settings, next) {
  return {
    path: "chat/completions",
    body: {
      messages: talk.messages((settings.system ?? "").trim(), next), ...chatting(settings),
      stream: true,
    },
  };
}

export class Chat {
  #columns;
  #settings;
  #attachments;
  #box;
  #changed;
  #reading = false; // Images are read before anything is under way.

  /** `changed()` is called when something has been said. */
  constructor(columns, settings, attachments, box, changed) {
    this.#columns = columns;
    this.#settings = settings;
    this.#attachments = attachments;
    this.#box = box;
    this.#changed = changed;
  }

  get isBlank() {
    return this.#columns.list.every(({ talk }) => talk.exchanges.length === 0);
  }

  join(column) {
    // What an answer says of itself stands under it; beside that it is for who hears it.
    part(column.root, "status").classList.add("visually-hidden");
    column.talk = new Talk(column, {
      call: (talk) => this.#answer(column, talk),
      edit: (exchange, text) => this.#edit(exchange, text),
      suggest: (text) => this.suggest(text),
    });
  }

  suggest(text) {
    this.#box.value = text;
    this.#box.focus();
  }

  /** Send what is in the box to all columns. Raises what is wrong with it. */
  async send() {
    if (this.#reading) return;
    const text = this.#box.value;
    const { files } = this.#attachments;
    for (const { talk } of this.#columns.list) requireBounds(files, talk.imageBytes);
    this.#reading = true;
    let images;
    try {
      images = await Promise.all(
        files.map(async (file) => ({ file, url: await dataUrl(file) })),
      );
    } finally {
      this.#reading = false;
    }
    // From here on the box holds what is written while the answers come.
    this.#box.value = "";
    this.#box.dispatchEvent(new Event("input"));
    this.#attachments.put([]);
    await this.#ask({ id: anyId(), text, images });
  }

  async #ask(question, columns = this.#columns.list) {
    await Promise.all(columns.map((column) => {
      column.talk.ask(question);
      return this.#answer(column, column.talk);
    }));
  }

  async #answer(column, talk) {
    const settings = this.#settings.of(column);
    await column.run((signal) => talk.answer(() => requestOf(talk, settings), signal));
    this.#changed();
  }

  /** Ask something else in place of a question, wherever it was asked. */
  async #edit({ id, images }, text) {
    for (const column of this.#columns.list) column.stop();
    const asked = this.#columns.list.filter(({ talk }) => talk.cut(id));
    await this.#ask({ id: anyId(), text, images }, asked);
  }

  clear() {
    for (const column of this.#columns.list) {
      column.forget();
      column.talk.clear();
    }
  }

  /** Each column's conversation, as texts. */
  saved() {
    return this.#columns.list.map((column) => ({
      service: column.name,
      own: column.own,
      exchanges: column.talk.exchanges.filter(({ steps }) => steps.length > 0)
        .map(({ id, text, images, lost, steps }) => (
          { id, text, lost: lost + images.length, steps })),
    }));
  }

  restore(column, exchanges) {
    for (const { id, text, lost, steps } of exchanges) {
      column.talk.ask({ id, text, images: [], lost, steps });
    }
  }
}
