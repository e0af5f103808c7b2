// <local-time datetime data-style>: a moment in the reader's own zone and language. What the server
// wrote stays inside, for who has no script; `data-style` is `date`, `moment`, `ago` or `clock`.
import { language } from "./words.js";

const FORMATS = {
  date: { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" },
  moment: { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" },
  clock: { hour: "2-digit", minute: "2-digit", second: "2-digit" },
};
const STEPS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 30], ["month", 12], ["year", Infinity]];
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });

export function ago(at) {
  let amount = Math.min(0, (at - Date.now()) / 1000);
  for (const [unit, next] of STEPS) {
    if (Math.abs(amount) < next) return relative.format(Math.round(amount), unit);
    amount /= next;
  }
  return "";
}

class LocalTime extends HTMLElement {
  static observedAttributes = ["datetime"];

  connectedCallback() {
    if (!this.shadowRoot) this.attachShadow({ mode: "open" });
    this.#show();
    if (this.dataset.style === "ago") this.timer = setInterval(() => this.#show(), 30_000);
  }

  disconnectedCallback() {
    clearInterval(this.timer);
  }

  attributeChangedCallback() {
    if (this.shadowRoot) this.#show();
  }

  #show() {
    const at = new Date(this.getAttribute("datetime"));
    const style = this.dataset.style;
    const whole = at.toLocaleString(language, { dateStyle: "full", timeStyle: "long" });
    this.title = whole;
    this.shadowRoot.textContent =
      style === "ago" ? ago(at) : at.toLocaleString(language, FORMATS[style]);
  }
}

customElements.define("local-time", LocalTime);
