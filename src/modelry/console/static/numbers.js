// Numbers as charts and tables of scripts show them: as `formats.py` writes them on the server.
import { language } from "./words.js";

const SIZES = [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]];
const COUNTS = [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]];
const SPANS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

const thousands = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const threeDigits = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 });

/** `1,234,567` */
export const whole = (count) => thousands.format(count);

/** Bytes: `98.3 MB` */
export const size = (bytes) => stepped(bytes, SIZES) ?? `${whole(bytes)} B`;

/** In a narrow place: `135 k`, `0.4` */
export const short = (count) => stepped(count, COUNTS) ?? threeDigits.format(count);

/** `85 ms`, `2.4 s`, `3 min 5 s` */
export function seconds(duration) {
  if (duration < 1) return duration === 0 ? "0 s" : `${threeDigits.format(duration * 1000)} ms`;
  if (duration < 60) return `${threeDigits.format(duration)} s`;
  let rest = Math.round(duration);
  const shown = [];
  for (const [step, unit] of SPANS) {
    const count = Math.floor(rest / step);
    rest %= step;
    if (count) shown.push(`${count} ${unit}`);
    if (shown.length === 2) break;
  }
  return shown.join(" ");
}

function stepped(count, steps) {
  const found = steps.find(([, step]) => Math.abs(count) >= step * 0.9995);
  if (found === undefined) return null;
  const [unit, step] = found;
  const scaled = count / step;
  return `${Math.abs(scaled) < 999.5 ? threeDigits.format(scaled) : whole(scaled)} ${unit}`;
}
