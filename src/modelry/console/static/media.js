// Images, speech and transcription: what goes in or comes out is a picture or a sound.
import { asked, element, secondsSince } from "/static/forms.js";
import { values } from "/static/inference.js";

const ALT_CHARACTERS = 100;

/** Show a picture or a player in place of an earlier one, whose bytes the browser may forget. */
function replace(output, media, link) {
  const earlier = output.querySelector("img, audio")?.src;
  output.replaceChildren(media, link);
  if (earlier) URL.revokeObjectURL(earlier);
}

function addressOf(bytes, type) {
  return URL.createObjectURL(new Blob([bytes], { type }));
}

export async function image({ service, form, output }, signal) {
  const [picture] = form.elements.image.files;
  const said = {
    ...asked(form, [
      "prompt", "negative_prompt", "size", "num_inference_steps", "seed", "guidance_scale",
    ]),
    n: 1, response_format: "b64_json", stream: true, partial_images: 2,
  };
  let body = said;
  if (picture) {
    body = new FormData();
    for (const [name, value] of Object.entries(said)) body.set(name, String(value));
    body.set("image", picture);
  }
  const { prompt } = said;
  const alt = prompt.length > ALT_CHARACTERS ? `${prompt.slice(0, ALT_CHARACTERS - 1)}…` : prompt;
  let shown = null;
  let link = null;
  const started = performance.now();
  const response = await service.call(picture ? "images/edits" : "images/generations", body, signal);
  for await (const value of values(response)) {
    const b64 = value.b64_json ?? value.data?.[0]?.b64_json;
    if (!b64) continue;
    const format = value.output_format ?? "png";
    const href = addressOf(Uint8Array.from(atob(b64), (c) => c.charCodeAt(0)), `image/${format}`);
    shown = element("img", null, { alt, className: "made", src: href });
    link = element("a", "Download", { href, download: `image.${format}`, hidden: true });
    // An earlier picture stays until this one can be seen.
    await shown.decode().catch(() => { throw new Error("the picture that came cannot be shown"); });
    replace(output, shown, link);
  }
  if (shown === null) throw new Error("no picture came");
  link.hidden = false;
  return `${shown.naturalWidth}x${shown.naturalHeight} pixels in ${secondsSince(started)}`;
}

export async function speech({ service, form, output }, signal) {
  const started = performance.now();
  const response = await service.call("audio/speech", {
    ...asked(form, ["input", "voice", "speed"]), response_format: "wav",
  }, signal);
  const href = addressOf(await response.arrayBuffer(), "audio/wav");
  const took = secondsSince(started);
  const player = element("audio", null, { controls: true });
  const length = new Promise((done) => {
    player.addEventListener("loadedmetadata", () => done(player.duration));
    player.addEventListener("error", () => done(NaN));
  });
  player.src = href;
  replace(output, player, element("a", "Download", { href, download: "speech.wav" }));
  player.play().catch(() => null); // A browser may want a click first.
  const seconds = await length;
  return Number.isFinite(seconds) ? `${seconds.toFixed(1)} s of sound in ${took}` : `made in ${took}`;
}

export async function transcription({ service, form, output }, signal) {
  const recording = form.recording ?? form.elements.file.files[0];
  if (!recording) throw new Error("choose a file, or record something");
  const body = new FormData();
  body.set("file", recording, recording.name ?? "recording.webm");
  const language = form.elements.language.value.trim();
  if (language) body.set("language", language);
  body.set("response_format", "json");
  body.set("stream", "true");
  const answer = element("p", "", { className: "said" });
  output.replaceChildren(answer);
  const response = await service.call("audio/transcriptions", body, signal);
  for await (const value of values(response)) {
    if (value.delta) answer.append(value.delta);
    else if (value.text !== undefined) answer.textContent = value.text;
  }
  return answer.textContent === "" ? "nothing was said in it" : null;
}
