// The conversations that are kept, as the playground of chats opens, lists and saves them.
import { Conversations } from "./conversations.js";
import { anyId, made, part } from "./forms.js";
import { language } from "./words.js";

const TITLE_CHARACTERS = 80;
const WHEN = { dateStyle: "medium", timeStyle: "short" };

/** `save()` keeps the one that is shown, `restore()` shows what this tab had before a reload. */
export function keeping({ page, columns, settings, chat, form, complain }) {
  const conversations = new Conversations(page.owner, page.alone ? page.chosen[0] : "");
  const dialog = document.getElementById("conversations");
  const box = form.elements.prompt;
  let current = null; // {id, at, title: what its owner calls it, or null}

  function begin() {
    current = null;
    conversations.current = null;
  }

  /** `at`: when something was said in it last. */
  function save(at = Date.now()) {
    if (chat.isBlank) return;
    current = { id: anyId(), title: null, ...current, at };
    const [first] = columns.list.find(({ talk }) => talk.exchanges.length > 0).talk.exchanges;
    conversations.current = current.id;
    conversations.save({
      ...current,
      first: first.text.slice(0, TITLE_CHARACTERS),
      draft: box.value,
      settings: settings.shared,
      columns: chat.saved(),
    });
  }

  function open(conversation) {
    chat.clear();
    const known = conversation.columns.filter(({ service }) => (
      page.services.some((each) => each.name === service)));
    if (!page.alone) {
      for (const each of [...columns.list].slice(1)) columns.remove(each);
      known.forEach(({ service }, at) => {
        const column = columns.list[at] ?? columns.add(service);
        if (column.name === service) return;
        column.select.value = service;
        column.select.dispatchEvent(new Event("change"));
      });
    }
    known.slice(0, columns.list.length).forEach(({ own, exchanges }, at) => {
      columns.list[at].own = own;
      chat.restore(columns.list[at], exchanges);
    });
    settings.load(conversation.settings);
    current = { id: conversation.id, title: conversation.title, at: conversation.at };
    conversations.current = current.id;
    box.value = conversation.draft;
  }

  function shown(conversation) {
    const row = made("kept");
    const title = conversation.title ?? conversation.first;
    part(row, "title").textContent = title;
    part(row, "title").title = title;
    part(row, "about").textContent = [
      new Date(conversation.at).toLocaleString(language, WHEN),
      conversation.columns.map((each) => each.service).join(", "),
    ].join(" · ");
    part(row, "open").addEventListener("click", () => {
      open(conversation);
      dialog.close();
      box.focus();
    });
    const renaming = part(row, "renaming");
    const name = part(row, "name");
    part(row, "rename").addEventListener("click", () => {
      renaming.hidden = !renaming.hidden;
      part(row, "open").hidden = !renaming.hidden;
      name.value = title;
      if (!renaming.hidden) name.select();
    });
    renaming.addEventListener("submit", (event) => {
      event.preventDefault();
      const renamed = { ...conversation, title: name.value.trim() || null };
      conversations.save(renamed);
      if (current?.id === renamed.id) current.title = renamed.title;
      list();
    });
    part(row, "delete").addEventListener("click", () => {
      conversations.delete(conversation.id);
      if (current?.id === conversation.id) {
        chat.clear();
        begin();
      }
      list();
    });
    return row;
  }

  function list() {
    const found = conversations.list().filter(({ columns: of }) => (
      !page.alone || of.some((each) => each.service === page.chosen[0])));
    document.getElementById("kept").replaceChildren(...found.map(shown));
    document.getElementById("none-kept").hidden = found.length > 0;
  }

  document.getElementById("new").addEventListener("click", () => {
    chat.clear();
    begin();
    box.value = "";
    complain("");
    box.focus();
  });
  document.getElementById("open-conversations").addEventListener("click", () => {
    list();
    dialog.showModal();
  });
  addEventListener("pagehide", () => {
    // Another tab may have gone on with it, or deleted it.
    if (current !== null && conversations.get(current.id)?.at !== current.at) return;
    save(current?.at);
  });

  return {
    save: () => save(),
    begin,
    restore() {
      const id = conversations.current;
      const conversation = id === null ? null : conversations.get(id);
      if (conversation !== null) open(conversation);
    },
  };
}
