// Speech and transcription: what comes out or goes in is a sound.
import { element, made, number, numbers, secondsSince, texts } from "./forms.js";
import { values } from "./inference.js";
import { copy } from "./shell.js";
import { t } from "./words.js";

const TYPES = { wav: "audio/wav", mp3: "audio/mpeg", flac: "audio/flac", opus: "audio/ogg" };

export const speech = {
  asked: (form) => ({ input: form.elements.input.value }),

  request: ({ input }, settings) => ({
    path: "audio/speech",
    body: {
      input, ...texts(settings, "voice"), ...numbers(settings, "speed"),
      response_format: settings.response_format,
    },
  }),

  async run({ service, output }, asked, settings, signal) {
    const started = performance.now();
    const { path, body } = speech.request(asked, settings);
    const response = await service.call(path, body, signal);
    const format = settings.response_format;
    const href = URL.createObjectURL(
      new Blob([await response.arrayBuffer()], { type: TYPES[format] }));
    const took = secondsSince(started);
    const player = element("audio", null, { controls: true });
    const length = new Promise((done) => {
      player.addEventListener("loadedmetadata", () => done(player.duration));
      player.addEventListener("error", () => done(NaN));
    });
    player.src = href;
    const link = made("download");
    link.href = href;
    link.download = `speech.${format}`;
    const earlier = output.querySelector("audio")?.src;
    const shown = element("div", null, { className: "card stack" });
    shown.append(element("p", asked.input, { className: "said" }), player, link);
    output.replaceChildren(shown);
    if (earlier) URL.revokeObjectURL(earlier);
    player.play().catch(() => null); // A browser may want a click first.
    const seconds = await length;
    return Number.isFinite(seconds)
      ? t("playground_js.spoken", { length: number(seconds, 1), time: took })
      : t("playground_js.made_in", { time: took });
  },
};

export const transcription = {
  asked: (form) => ({ file: form.recording ?? form.elements.file.files[0] ?? null }),

  request: ({ file }, settings) => ({
    path: "audio/transcriptions",
    files: { file: file ?? new File([], "recording.wav") },
    body: {
      ...texts(settings, "language"),
      ...(settings.times
        ? { response_format: "verbose_json", "timestamp_granularities[]": settings.times }
        : { response_format: "json", stream: true }),
    },
  }),

  async run({ service, output }, asked, settings, signal) {
    if (asked.file === null) throw new Error(t("playground_js.no_recording"));
    const { path, body, files } = transcription.request(asked, settings);
    const form = new FormData();
    for (const [name, file] of Object.entries(files)) form.set(name, file, file.name);
    for (const [name, value] of Object.entries(body)) form.set(name, String(value));
    const answer = element("p", "", { className: "said" });
    const shown = element("div", null, { className: "card stack" });
    shown.append(answer);
    output.replaceChildren(shown);
    const started = performance.now();
    const response = await service.call(path, form, signal);
    let segments = [];
    for await (const value of values(response)) {
      if (value.delta) answer.append(value.delta);
      else if (value.text !== undefined) answer.textContent = value.text;
      segments = value.segments ?? segments;
    }
    const text = answer.textContent;
    if (text === "") return t("playground_js.nothing_said");
    if (segments.length > 0) answer.replaceWith(timed(segments));
    const button = made("copy");
    button.addEventListener("click", () => copy(text));
    shown.append(element("div", null, { className: "actions" }));
    shown.lastElementChild.append(button);
    return t("playground_js.made_in", { time: secondsSince(started) });
  },
};

function clock(seconds) {
  const whole = Math.floor(seconds);
  const two = (value) => String(value).padStart(2, "0");
  return `${two(Math.floor(whole / 60))}:${two(whole % 60)}.${Math.floor((seconds % 1) * 10)}`;
}

function timed(segments) {
  const list = element("dl", null, { className: "facts timed" });
  for (const { start, end, text } of segments) {
    list.append(
      element("dt", `${clock(start)} – ${clock(end)}`, { className: "number" }),
      element("dd", text.trim()),
    );
  }
  return list;
}
