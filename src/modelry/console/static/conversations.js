// Conversations that this browser keeps for who has signed in, without their images, until they
// are deleted or somebody signs out. The oldest go where there are many.
import { signedOut } from "./sign_out.js";

const PREFIX = "modelry-chat:"; // What sign_out.js forgets.
const KEPT_MOST = 50;
const CHARACTERS_MOST = 2_000_000; // Browsers keep some five millions of one site.
const CHARACTERS_OF_ONE = 1_000_000;

function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export class Conversations {
  #place;
  #tab;

  /** `where`: the page, whose reload in the same tab shows the same conversation. */
  constructor(owner, where) {
    this.#place = `${PREFIX}${owner}:`;
    this.#tab = `${PREFIX}tab:${owner}:${where}`;
    // What somebody else left on this computer is not for who uses it now.
    for (const name of Object.keys(localStorage)) {
      if (name.startsWith(PREFIX) && !name.startsWith(this.#place)) localStorage.removeItem(name);
    }
  }

  /** All of them, the newest first. */
  list() {
    return Object.keys(localStorage)
      .filter((name) => name.startsWith(this.#place))
      .map((name) => read(localStorage.getItem(name)))
      .filter((each) => Array.isArray(each?.columns))
      .sort((one, other) => other.at - one.at);
  }

  get(id) {
    return this.list().find((each) => each.id === id) ?? null;
  }

  /** The id of the one that this tab shows. */
  get current() {
    return sessionStorage.getItem(this.#tab);
  }

  set current(id) {
    if (signedOut) return;
    if (id === null) sessionStorage.removeItem(this.#tab);
    else sessionStorage.setItem(this.#tab, id);
  }

  save(conversation) {
    if (signedOut) return;
    const columns = conversation.columns.map((each) => (
      { ...each, exchanges: [...each.exchanges] }));
    const text = () => JSON.stringify({ ...conversation, columns });
    let kept = text();
    while (kept.length > CHARACTERS_OF_ONE && columns.some((each) => each.exchanges.length > 0)) {
      for (const each of columns) each.exchanges.shift();
      kept = text();
    }
    this.#makeRoom(conversation.id, kept.length);
    try {
      localStorage.setItem(this.#place + conversation.id, kept);
    } catch {
      this.delete(conversation.id); // It is full: better none than an old one.
    }
  }

  delete(id) {
    localStorage.removeItem(this.#place + id);
  }

  #makeRoom(id, characters) {
    let sum = characters;
    let count = 1;
    for (const each of this.list()) {
      if (each.id === id) continue;
      count += 1;
      sum += localStorage.getItem(this.#place + each.id).length;
      if (count > KEPT_MOST || sum > CHARACTERS_MOST) this.delete(each.id);
    }
  }
}
