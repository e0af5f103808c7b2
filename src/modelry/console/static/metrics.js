// The charts of a service's metrics: points at even steps, from the management API.
import { Chart } from "./charts.js";
import { seconds, short, size, whole } from "./numbers.js";
import { refusalOf } from "./refusal.js";
import { t } from "./words.js";

// The page looks again whenever it is refreshed, which may be often: no sooner than this.
const APART_MS = 10_000;

const sum = (values) => values.reduce((all, value) => all + (value ?? 0), 0);
const succeeded = (point) => Math.max(0, point.requests - point.errors - point.cancelled);
const counted = { format: short, exact: whole, rest: sum, bars: true, stacked: true, steps: "whole" };
const most = (values) => values.reduce((so, value) => (value === null ? so : Math.max(so ?? 0, value)), null);
const perSecond = (value) => t("metrics_js.per_second", { count: short(value) });

// Chart → how it is drawn, and its series: a name, a tone, and what it takes of a point.
const SHOWN = {
  requests: [counted, ["succeeded", "1", succeeded], ["cancelled", "3", (point) => point.cancelled], ["errors", "bad", (point) => point.errors]],
  ttft: [{ format: seconds, steps: "time" }, ["p50", "1", (point) => point.ttft_p50_s], ["p95", "3", (point) => point.ttft_p95_s]],
  speed: [{ format: short, exact: perSecond }, ["speed", "2", (point) => point.tokens_per_s]],
  tokens: [counted, ["prompt_tokens", "2", (point) => point.prompt_tokens], ["completion_tokens", "1", (point) => point.completion_tokens]],
  load: [{ format: whole, rest: most, steps: "whole" }, ["inflight", "1", (point) => point.inflight], ["waiting", "3", (point) => point.waiting]],
  queue: [{ format: seconds, steps: "time" }, ["queue", "4", (point) => point.queue_mean_s]],
  memory: [{ format: size, rest: most }, ["memory", "2", (point) => point.memory_bytes]],
  replicas: [{ format: whole, rest: most, steps: "whole" }, ["replicas", "1", (point) => point.replicas]],
};
const FIGURES = {
  requests: short, errors: short, ttft_p50_s: seconds, ttft_p95_s: seconds, tokens_per_s: short, queue_mean_s: seconds, memory_bytes: size,
};

const place = document.getElementById("metrics");
const charts = Object.entries(SHOWN)
  .filter(([id]) => document.getElementById(id) !== null)
  .map(([id, [options, ...series]]) => {
    const named = series.map(([name, tone]) => ({ label: t(`metrics_js.${name}`), tone }));
    return [new Chart(document.getElementById(id), named, { ...options, together: "metrics" }), series.map(([, , take]) => take)];
  });

function figures(totals) {
  for (const [name, format] of Object.entries(FIGURES)) {
    const shown = document.querySelector(`[data-figure="${name}"]`);
    if (shown) shown.textContent = totals[name] === null ? "–" : format(totals[name]);
  }
  const { errors, requests } = totals;
  document.querySelector('[data-hint="errors"]').textContent =
    errors ? `${((100 * errors) / requests).toFixed(1)} %` : "";
}

let askedAt = 0;

async function show() {
  if (Date.now() - askedAt < APART_MS) return;
  askedAt = Date.now();
  try {
    const answer = await fetch(place.dataset.metrics);
    if (!answer.ok) throw new Error(await refusalOf(answer));
    const { points, totals, step_s: step, ...ends } = await answer.json();
    const unix = (moment) => Date.parse(moment) / 1000;
    const span = { times: points.map((point) => unix(point.from)), from: unix(ends.from), to: unix(ends.to), step };
    for (const [chart, takes] of charts) {
      chart.show({ ...span, values: takes.map((take) => points.map(take)) });
    }
    figures(totals);
    document.getElementById("metrics-step").textContent = t("metrics_js.step", { step: seconds(step) });
  } catch (error) {
    for (const [chart] of charts) chart.fail(error.message);
  }
}

show();
document.addEventListener("modelry:refreshed", show);
