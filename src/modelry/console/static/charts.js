// Charts of values over time, on uPlot. A figure made by the macro `chart` has a place for the
// drawing, its legend, and the same data as a table. Colours are those of the legend's marks, so
// the theme's; `null` is a gap: nothing was measured.
import uPlot from "./vendor/uplot/uplot.js";
import { language, t } from "./words.js";

const DAY_S = 86400;
// Steps of an axis of things that are counted: no half of a request.
const WHOLE_STEPS = powers(0, 16);
// Of an axis of durations, in seconds: parts of a second, of a minute, of an hour, days.
const TIME_STEPS = [
  ...powers(-6, 0), 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200,
  ...powers(0, 6).map((days) => days * DAY_S),
];
const STEPS = { whole: WHOLE_STEPS, time: TIME_STEPS, any: undefined };

const drawn = new Set();
const redraw = () => drawn.forEach((chart) => chart.redraw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });

export class Chart {
  #figure;
  #place;
  #message;
  #series;
  #options;
  #values;
  #clock = null;
  #data = null;
  #plot = null;

  /**
   * `series`: for each `{ label, tone }`, a tone of the stylesheet's `.tone-…`.
   * `format`: a value as text, in the narrow place of an axis; `exact`: elsewhere. `rest`: what the legend tells of a series' values while no moment is
   * pointed at. `bars`, `stacked`: how it is drawn. `steps` of its axis: `whole`
   * where nothing lies between 1 and 2, `time` for seconds, or `any`.
   * `together`: charts of the same name point at the same moment.
   */
  constructor(figure, series, { format, exact = format, rest = null, bars = false, stacked = false, steps = "any", together = null }) {
    this.#figure = figure;
    this.#series = series;
    this.#options = { format, exact, rest, bars, stacked, steps, together };
    this.#place = figure.querySelector("[data-plot]");
    this.#message = figure.querySelector("[data-message]");
    const legend = figure.querySelector("[data-legend]");
    this.#values = series.map(({ label, tone }) => {
      const entry = legend.appendChild(document.createElement("li"));
      entry.append(made("span", "", `mark tone-${tone}`), made("span", label), made("b", "", "number"));
      return entry.lastChild;
    });
    this.#clock = legend.appendChild(made("li", "", "chart-clock"));
    figure.querySelector("details").addEventListener("toggle", () => this.#tabulate());
    new ResizeObserver(() => this.#resize()).observe(this.#place);
    this.#say(t("charts_js.loading"), "loading");
  }

  /**
   * `times`: starts of even steps, in Unix seconds; `values`: a list for each series; `from`, `to`:
   * the ends of the axis; `step`: in seconds; `utc`: the steps are days of UTC.
   */
  show({ times, values, from, to, step, utc = false }) {
    const before = this.#data;
    this.#data = { times, values, from, to, step, utc };
    this.#tabulate();
    if (!values.some((each) => each.some((value) => value))) {
      this.#clear();
      this.#point(null);
      this.#say(t("charts_js.empty"), "empty");
      return;
    }
    this.#say("", "shown");
    if (this.#plot !== null && before.utc === utc && before.step === step) {
      this.#plot.setData(this.#heights());
    } else {
      this.#clear();
      this.#draw();
    }
    this.#point(this.#plot.cursor.idx ?? null);
  }

  /** Say why there is nothing to see. What was shown before stays where there is something. */
  fail(reason) {
    if (this.#plot === null) this.#say(t("charts_js.failed", { reason }), "failed");
  }

  redraw() {
    this.#plot?.redraw(false);
  }

  #say(text, state) {
    this.#figure.dataset.state = state;
    this.#figure.setAttribute("aria-busy", String(state === "loading"));
    this.#message.textContent = text;
  }

  #clear() {
    this.#plot?.destroy();
    this.#plot = null;
    drawn.delete(this);
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.#place;
    if (width && height) this.#plot?.setSize({ width, height });
  }

  /**
   * What is drawn, the last series first: of a stack, each stands before those above it. A step's
   * value stands in its middle, so that whoever points at it is told of it.
   */
  #heights() {
    const { times, values, step } = this.#data;
    const middles = times.map((at) => at + step / 2);
    if (!this.#options.stacked) return [middles, ...values.toReversed()];
    let below = times.map(() => 0);
    const sums = values.map((each) => (below = each.map((value, at) => below[at] + (value ?? 0))));
    return [middles, ...sums.toReversed()];
  }

  #draw() {
    const { bars, format, steps, together } = this.#options;
    const { utc } = this.#data;
    const look = getComputedStyle(this.#place);
    const font = `12px ${look.fontFamily}`;
    const text = () => getComputedStyle(this.#place).color;
    const line = () => getComputedStyle(this.#place).borderTopColor;
    const tones = [...this.#figure.querySelectorAll(".mark")].toReversed();
    const paths = bars ? uPlot.paths.bars({ size: [0.8, 48], align: 0, radius: 0.1 }) : undefined;
    this.#plot = new uPlot(
      {
        width: this.#place.clientWidth,
        height: this.#place.clientHeight,
        padding: [8, 22, 0, 0],
        legend: { show: false },
        cursor: {
          y: false,
          drag: { x: false, y: false },
          points: { show: !bars },
          sync: together ? { key: together } : undefined,
        },
        tzDate: utc ? (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC") : (at) => new Date(at * 1000),
        scales: {
          x: { time: true, range: () => [this.#data.from, this.#data.to] },
          y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] },
        },
        axes: [
          {
            stroke: text, font, space: 84, size: 30, grid: { show: false }, ticks: { stroke: line, width: 1, size: 4 },
            values: (_, at, __, ___, apart) => at.map((each) => this.#short(each, apart)),
          },
          {
            stroke: text, font, size: widthOf, space: 36, grid: { stroke: line, width: 1 }, ticks: { show: false },
            incrs: STEPS[steps],
            values: (_, at) => at.map(format),
          },
        ],
        series: [
          {},
          ...tones.map((mark) => {
            const tone = () => getComputedStyle(mark).color;
            return bars
              ? { fill: tone, width: 0, paths, points: { show: false } }
              : { stroke: tone, width: 2, points: { show: true, size: 5, fill: tone, filter: alone } };
          }),
        ],
        hooks: { setCursor: [(plot) => this.#point(plot.cursor.idx ?? null)] },
      },
      this.#heights(),
      this.#place,
    );
    drawn.add(this);
  }

  /** Tell each series' value at a step, or of the whole time where none is pointed at. */
  #point(at) {
    const { exact, rest } = this.#options;
    this.#clock.textContent = at === null ? "" : this.#long(this.#data.times[at]);
    this.#data.values.forEach((values, index) => {
      if (at === null) this.#values[index].textContent = rest === null ? "" : told(rest(values), exact);
      else this.#values[index].textContent = told(values[at], exact);
    });
  }

  #tabulate() {
    const details = this.#figure.querySelector("details");
    const body = details.querySelector("tbody");
    if (!details.open || this.#data === null) {
      body.replaceChildren();
      return;
    }
    const { times, values } = this.#data;
    const head = made("tr", "");
    for (const label of [t("charts_js.time"), ...this.#series.map((each) => each.label)]) {
      head.append(made("th", label));
      head.lastChild.scope = "col";
    }
    details.querySelector("thead").replaceChildren(head);
    body.replaceChildren(...times.map((at, index) => {
      const row = made("tr", "");
      row.append(made("th", this.#long(at)));
      row.firstChild.scope = "row";
      row.append(...values.map((each) => made("td", told(each[index], this.#options.exact), "number")));
      return row;
    }));
  }

  #short(at, apart) {
    const moment = new Date(at * 1000);
    const { utc } = this.#data;
    const midnight = utc ? at % DAY_S === 0 : moment.getHours() === 0 && moment.getMinutes() === 0;
    const shown = midnight || apart >= DAY_S
      ? { month: "short", day: "numeric" }
      : { hour: "numeric", minute: "2-digit" };
    return moment.toLocaleString(language, { ...shown, timeZone: utc ? "UTC" : undefined });
  }

  #long(at) {
    const { step, utc } = this.#data;
    const shown = step >= DAY_S ? { dateStyle: "medium" } : { dateStyle: "medium", timeStyle: "short" };
    return new Date(at * 1000).toLocaleString(language, { ...shown, timeZone: utc ? "UTC" : undefined });
  }
}

const told = (value, format) => (value === null || value === undefined ? "–" : format(value));

/** Of an axis, by its longest label. */
const widthOf = (_, labels) => 14 + 7 * Math.max(2, ...(labels ?? []).map((label) => label.length));

/** Which points have no neighbour to draw a line to. */
function alone(plot, series) {
  const values = plot.data[series];
  const there = (at) => values[at] !== null && values[at] !== undefined;
  return values.map((_, at) => at).filter((at) => there(at) && !there(at - 1) && !there(at + 1));
}

function powers(from, to) {
  return Array.from({ length: to - from }, (_, at) => [1, 2, 5].map((one) => one * 10 ** (from + at))).flat();
}

function made(tag, text, style = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (style) element.className = style;
  return element;
}
