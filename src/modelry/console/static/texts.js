// Completion, embedding and rerank: what goes in is text, and comes out as text or numbers.
import {
  asked, element, lines, secondsSince, shortened, table, written,
} from "/static/forms.js";
import { values } from "/static/inference.js";

const COMPARED_MOST = 256;
const MATRIX_MOST = 20;
const PAIRS_SHOWN = 20;
const SHOWN_CHARACTERS = 100;

export async function completion({ service, form, output }, signal) {
  const answer = element("p", form.elements.prompt.value, { className: "said" });
  output.replaceChildren(answer);
  const started = performance.now();
  let usage = null;
  let finish = null;
  const response = await service.call("completions", {
    prompt: form.elements.prompt.value, ...asked(form, ["max_tokens", "temperature", "seed"]),
    stream: true, stream_options: { include_usage: true },
  }, signal);
  for await (const chunk of values(response)) {
    usage = chunk.usage ?? usage;
    finish = chunk.choices?.[0]?.finish_reason ?? finish;
    answer.append(chunk.choices?.[0]?.text ?? "");
  }
  return written(usage, started, finish, form);
}

export async function embedding({ service, form, output }, signal) {
  const texts = lines(form.elements.input);
  if (texts.length > COMPARED_MOST) {
    throw new Error(`these are ${texts.length} texts; ${COMPARED_MOST} at most are compared here`);
  }
  const response = await service.call("embeddings", { input: texts }, signal);
  const vectors = (await response.json()).data.map((each) => each.embedding);
  const units = vectors.map(unit);
  const made = texts.length > MATRIX_MOST ? nearest(texts, units) : matrix(texts, units);
  output.replaceChildren(made);
  return `${vectors.length} vectors of ${vectors[0].length} numbers`;
}

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

function matrix(texts, units) {
  return table(
    ["Similarity", ...texts.map((_, at) => String(at + 1))],
    units.map((one, at) => [
      named(texts, at), ...units.map((other) => similarity(one, other).toFixed(3)),
    ]),
  );
}

function nearest(texts, units) {
  const pairs = units.flatMap((one, at) => (
    units.slice(at + 1).map((other, more) => [similarity(one, other), at, at + 1 + more])));
  pairs.sort((one, other) => other[0] - one[0]);
  const made = table(
    ["Similarity", "Text", "Text"],
    pairs.slice(0, PAIRS_SHOWN).map(([value, one, other]) => [
      value.toFixed(3), named(texts, one), named(texts, other),
    ]),
  );
  made.createCaption().textContent = `The ${PAIRS_SHOWN} nearest of ${pairs.length} pairs`;
  return made;
}

export async function rerank({ service, form, output }, signal) {
  const documents = lines(form.elements.documents);
  const started = performance.now();
  const response = await service.call(
    "rerank", { query: form.elements.query.value, documents }, signal,
  );
  const { results } = await response.json();
  output.replaceChildren(table(
    ["Relevance", "Document"],
    results.map((each) => [
      each.relevance_score.toFixed(4), element("span", documents[each.index]),
    ]),
  ));
  const what = documents.length === 1 ? "document" : "documents";
  return `${documents.length} ${what} in ${secondsSince(started)}`;
}
