// Markdown that a model writes, shown while it comes.
//
// What a model says is somebody else's text: it is sanitised before it is part of the page, links
// leave the page without telling where from, and nothing is loaded from elsewhere: of a picture
// there is a link. Blocks that
// have come to their end are made once; only the last is made anew, once a picture at most, and
// less often the longer that takes.
import DOMPurify from "./vendor/dompurify/purify.js";
import { Marked } from "./vendor/marked/marked.js";
import { element, made, part } from "./forms.js";
import { copy } from "./shell.js";

const REST = 4; // For each moment of making there are so many for the rest of the page.
const PICTURE_MS = 16;
const LANGUAGE = /^language-[\w+#.-]{1,30}$/;

// HTML that stands for itself; all other that a model writes is shown as the text that it is.
const PLAIN_TAGS = "b|br|del|details|em|i|kbd|li|mark|ol|p|s|strong|sub|summary|sup|u|ul";
const PLAIN_TAG = new RegExp(`^</?(?:${PLAIN_TAGS})\\s*/?>$`, "i");

function escaped(text) {
  return text.replace(/[&<>"']/g, (each) => `&#${each.codePointAt(0)};`);
}

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // The page has headings of its own above these.
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    image({ href, text }) {
      return `<a href="${escaped(href)}">${escaped(text || href)}</a>`;
    },
    html({ text }) {
      const shown = (each) => (PLAIN_TAG.test(each) ? each : escaped(each));
      return text.replace(/<[^<>]*>|[<>]/g, shown);
    },
    checkbox({ checked }) {
      return checked ? "☑ " : "☐ ";
    },
  },
});

const RULES = {
  ALLOWED_TAGS: [
    "a", "b", "blockquote", "br", "code", "del", "details", "em", "h3", "h4", "h5", "h6", "hr", "i",
    "kbd", "li", "mark", "ol", "p", "pre", "s", "span", "strong", "sub", "summary", "sup", "table",
    "tbody", "td", "th", "thead", "tr", "u", "ul",
  ],
  ALLOWED_ATTR: ["href", "title", "start", "align", "class"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ADD_URI_SAFE_ATTR: ["start", "align"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** What a text in HTML, whoever's it is, may put into the page. */
function harmless(html) {
  const fragment = DOMPurify.sanitize(html, RULES);
  for (const link of fragment.querySelectorAll("a[href]")) {
    link.target = "_blank";
    link.relList.add("noopener", "noreferrer", "nofollow");
  }
  for (const nowhere of fragment.querySelectorAll("a:not([href])")) {
    nowhere.replaceWith(...nowhere.childNodes);
  }
  for (const named of fragment.querySelectorAll("[class]")) {
    if (named.nodeName !== "CODE" || !LANGUAGE.test(named.className)) {
      named.removeAttribute("class");
    }
  }
  for (const code of fragment.querySelectorAll("pre > code")) {
    const block = made("code");
    part(block, "language").textContent = code.className.slice("language-".length);
    block.querySelector("code").textContent = code.textContent;
    const text = code.textContent.replace(/\n$/, "");
    part(block, "copy-code").addEventListener("click", () => copy(text));
    code.parentElement.replaceWith(block);
  }
  for (const table of fragment.querySelectorAll("table")) {
    const scroller = element("div", null, { className: "scroll", tabIndex: 0 });
    table.replaceWith(scroller);
    scroller.append(table);
  }
  return fragment;
}

export class Markdown {
  source = "";
  #settled = 0; // So many characters of it are in blocks that will not change.
  #element;
  #live = element("div", null, { className: "md-live" });
  #timer = null;
  #tookMs = 0;
  #shown;

  /** `shown` is called when more of it can be seen. */
  constructor(element, shown = () => {}) {
    this.#element = element;
    this.#shown = shown;
    element.replaceChildren(this.#live);
  }

  append(text) {
    // So that the lengths of blocks are those of what stands here.
    this.source += text.replaceAll("\r", "");
    if (this.#timer !== null) return;
    const wait = Math.max(0, this.#tookMs * REST - PICTURE_MS);
    this.#timer = setTimeout(() => requestAnimationFrame(() => {
      if (this.#timer !== null) this.#show(false);
    }), wait);
  }

  end() {
    clearTimeout(this.#timer);
    this.#show(true);
  }

  #show(whole) {
    const started = performance.now();
    this.#timer = null;
    const rest = this.source.slice(this.#settled);
    const tokens = marked.lexer(rest);
    const last = tokens.findLastIndex((each) => each.type !== "space");
    const done = whole ? tokens.length : Math.max(last, 0);
    const settled = tokens.slice(0, done);
    if (settled.length > 0) {
      this.#live.before(harmless(marked.parser(settled)));
      this.#settled += settled.reduce((sum, each) => sum + each.raw.length, 0);
    }
    this.#live.replaceChildren(...(done < tokens.length
      ? [harmless(marked.parser(tokens.slice(done)))] : []));
    this.#tookMs = performance.now() - started;
    this.#shown();
  }
}
