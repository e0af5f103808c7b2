// The charts of the design page: each way to draw, and each state without a drawing.
import { Chart } from "./charts.js";
import { seconds, short } from "./numbers.js";
import { t } from "./words.js";

const STEP_S = 3600;
const from = Math.floor(Date.now() / 1000 / STEP_S) * STEP_S - 47 * STEP_S;
const times = Array.from({ length: 48 }, (_, at) => from + at * STEP_S);
const wave = (height, apart) => times.map((_, at) => height * (1 + Math.sin(at / apart)));
const span = { times, from, to: from + 48 * STEP_S, step: STEP_S };
const sum = (values) => values.reduce((all, value) => all + value, 0);

const made = (id, tones, options) => {
  const series = tones.map((tone, at) => ({ label: t("design_js.series", { number: at + 1 }), tone }));
  return new Chart(document.getElementById(id), series, options);
};

made("sample-bars", ["1", "bad"], { format: short, rest: sum, bars: true, stacked: true, steps: "whole" })
  .show({ ...span, values: [wave(400, 4).map(Math.round), wave(20, 3).map(Math.round)] });

// A gap stands where nothing was measured.
const gaps = wave(0.4, 5).map((value, at) => (at > 20 && at < 27 && at !== 24 ? null : value));
made("sample-lines", ["2", "3", "4"], { format: seconds, steps: "time" })
  .show({ ...span, values: [gaps, wave(0.9, 7), wave(0.2, 2)] });

made("sample-empty", ["1"], { format: short }).show({ ...span, values: [times.map(() => 0)] });
made("sample-failed", ["1"], { format: short }).fail(t("design_js.reason"));
