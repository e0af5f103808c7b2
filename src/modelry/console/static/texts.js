// Completion, embedding and rerank: what goes in is text, and comes out as text or numbers.
import {
  element, lines, number, secondsSince, shortened, table, written,
} from "./forms.js";
import { values } from "./inference.js";
import { writing } from "./settings.js";
import { t } from "./words.js";

const COMPARED_MOST = 256;
const MATRIX_MOST = 20;
const PAIRS_SHOWN = 20;
const SHOWN_CHARACTERS = 100;
const SHADES = 6;

export const completion = {
  asked: (form) => ({ prompt: form.elements.prompt.value }),

  request: ({ prompt }, settings) => ({
    path: "completions", body: { prompt, ...writing(settings), stream: true },
  }),

  async run({ service, output }, asked, settings, signal) {
    const answer = element("p", asked.prompt, { className: "said card" });
    output.replaceChildren(answer);
    const { path, body } = completion.request(asked, settings);
    await service.ensureKey(signal);
    const took = { usage: null, started: performance.now(), firstAt: null, finish: null };
    const response = await service.call(
      path, { ...body, stream_options: { include_usage: true } }, signal,
    );
    for await (const chunk of values(response)) {
      took.usage = chunk.usage ?? took.usage;
      took.finish = chunk.choices?.[0]?.finish_reason ?? took.finish;
      const text = chunk.choices?.[0]?.text ?? "";
      if (text) took.firstAt ??= performance.now();
      answer.append(text);
    }
    return written(took);
  },
};

export const embedding = {
  asked: (form) => ({ input: lines(form.elements.input.value) }),

  request: ({ input }) => ({ path: "embeddings", body: { input } }),

  async run({ service, output }, asked, _settings, signal) {
    const { input } = asked;
    if (input.length > COMPARED_MOST) {
      throw new Error(t("playground_js.too_many_texts", {
        count: input.length, most: COMPARED_MOST,
      }));
    }
    const { path, body } = embedding.request(asked);
    const response = await service.call(path, body, signal);
    const vectors = (await response.json()).data.map((each) => each.embedding);
    const units = vectors.map(unit);
    const made = element("div", null, { className: "card flush" });
    made.append(input.length > MATRIX_MOST ? nearest(input, units) : matrix(input, units));
    output.replaceChildren(made);
    const numbers = number(vectors[0].length);
    return t("playground_js.vectors", { count: vectors.length, numbers });
  },
};

function unit(vector) {
  const length = Math.hypot(...vector) || 1;
  return vector.map((value) => value / length);
}

function similarity(one, other) {
  return one.reduce((sum, value, at) => sum + value * other[at], 0);
}

function named(texts, at) {
  return shortened(`${at + 1}. ${texts[at]}`, SHOWN_CHARACTERS);
}

/** Mark a cell by how alike two texts are: what is not alike at all has the first shade. */
function heat(cell, value) {
  const shade = Math.floor(value * SHADES);
  cell.classList.add("heat", `heat-${Math.max(0, Math.min(SHADES - 1, shade))}`);
}

function matrix(texts, units) {
  const rows = units.map((one) => units.map((other) => similarity(one, other)));
  const made = table(
    [t("playground_js.similarity"), ...texts.map((_, at) => String(at + 1))],
    rows.map((row, at) => [named(texts, at), ...row.map((value) => value.toFixed(3))]),
  );
  [...made.tBodies[0].rows].forEach((row, at) => {
    [...row.cells].slice(1).forEach((cell, of) => heat(cell, rows[at][of]));
  });
  return made;
}

function nearest(texts, units) {
  const pairs = units.flatMap((one, at) => (
    units.slice(at + 1).map((other, more) => [similarity(one, other), at, at + 1 + more])));
  pairs.sort((one, other) => other[0] - one[0]);
  const shown = pairs.slice(0, PAIRS_SHOWN);
  const made = table(
    [t("playground_js.similarity"), t("playground_js.text"), t("playground_js.text")],
    shown.map(([value, one, other]) => [
      value.toFixed(3), named(texts, one), named(texts, other),
    ]),
  );
  [...made.tBodies[0].rows].forEach((row, at) => heat(row.cells[0], shown[at][0]));
  made.createCaption().textContent = t("playground_js.nearest", {
    shown: PAIRS_SHOWN, all: number(pairs.length),
  });
  return made;
}

export const rerank = {
  asked: (form) => ({
    query: form.elements.query.value, documents: lines(form.elements.documents.value),
  }),

  request: (asked) => ({ path: "rerank", body: asked }),

  async run({ service, output }, asked, _settings, signal) {
    const started = performance.now();
    const { path, body } = rerank.request(asked);
    const response = await service.call(path, body, signal);
    const { results } = await response.json();
    const made = element("div", null, { className: "card flush" });
    made.append(table(
      [t("playground_js.relevance"), t("playground_js.document")],
      results.map((each) => [
        each.relevance_score.toFixed(4), element("span", asked.documents[each.index]),
      ]),
    ));
    output.replaceChildren(made);
    return t("playground_js.ranked", {
      count: asked.documents.length, time: secondsSince(started),
    });
  },
};
