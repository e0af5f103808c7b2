// The charts of the usage page: the sums by hour or day of the management API, whose empty steps
// are left out there and are zero here.
import { Chart } from "./charts.js";
import { seconds, short, whole } from "./numbers.js";
import { refusalOf } from "./refusal.js";
import { t } from "./words.js";

const STEP_S = { hour: 3600, day: 86400 };
const sum = (values) => values.reduce((all, value) => all + value, 0);

const place = document.querySelector("[data-usage]");
const from = Number(place.dataset.from);
const to = Number(place.dataset.to);
const step = STEP_S[place.dataset.by];
const times = Array.from({ length: Math.round((to - from) / step) }, (_, at) => from + at * step);

// Chart → the fields that it shows, each as its series.
const SHOWN = {
  requests: [["succeeded", "1"], ["failed", "bad"]],
  tokens: [["prompt_tokens", "2"], ["completion_tokens", "1"]],
  images: [["images", "4"]],
  audio_s: [["audio_s", "3"]],
  characters: [["characters", "3"]],
};
const charts = Object.entries(SHOWN)
  .map(([name, series]) => [document.getElementById(name), name, series])
  .filter(([figure]) => figure !== null)
  .map(([figure, name, series]) => {
    const named = series.map(([field, tone]) => ({ label: t(`usage_js.${field}`), tone }));
    const format = name === "audio_s" ? seconds : short;
    const options = { format, exact: name === "audio_s" ? seconds : whole, rest: sum, bars: true, stacked: true };
    return [new Chart(figure, named, { ...options, steps: name === "audio_s" ? "time" : "whole" }), series.map(([field]) => field)];
  });

/** All rows, page by page. */
async function rows() {
  const found = [];
  let cursor = null;
  do {
    const url = place.dataset.usage + (cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`);
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(await refusalOf(answer));
    const page = await answer.json();
    found.push(...page.data);
    cursor = page.next;
  } while (cursor !== null);
  return found;
}

async function show() {
  try {
    const byStart = new Map((await rows()).map((row) => [Date.parse(row.from) / 1000, row]));
    for (const row of byStart.values()) {
      row.failed = row.errors;
      row.succeeded = row.requests - row.errors;
    }
    for (const [chart, fields] of charts) {
      const values = fields.map((field) => times.map((at) => byStart.get(at)?.[field] ?? 0));
      chart.show({ times, values, from, to, step, utc: step === STEP_S.day });
    }
  } catch (error) {
    for (const [chart] of charts) chart.fail(error.message);
  }
}

show();
document.addEventListener("modelry:refreshed", show);
