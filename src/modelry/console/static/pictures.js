// Pictures: from words, or from another picture; each is shown while it becomes clearer, and stays
// in the column's gallery with what it was made with.
import { made, numbers, part, secondsSince, texts } from "./forms.js";
import { values } from "./inference.js";
import { t } from "./words.js";

const ALT_CHARACTERS = 100;
const KEPT_MOST = 40;

function pictureOf(value, item) {
  const bytes = Uint8Array.from(atob(item.b64_json), (each) => each.charCodeAt(0));
  const format = value.output_format ?? "png";
  return { format, href: URL.createObjectURL(new Blob([bytes], { type: `image/${format}` })) };
}

class Figure {
  root = made("figure");
  done = false;
  #picture = part(this.root, "picture");

  constructor(prompt, facts, reuse) {
    this.#picture.alt = prompt.length > ALT_CHARACTERS
      ? `${prompt.slice(0, ALT_CHARACTERS - 1)}…` : prompt;
    part(this.root, "prompt").textContent = prompt;
    part(this.root, "facts").textContent = facts;
    this.facts = facts;
    part(this.root, "reuse").addEventListener("click", reuse);
  }

  async show({ href, format }, took) {
    const shown = this.#picture.cloneNode();
    shown.src = href;
    // An earlier state stays until this one can be seen.
    await shown.decode().catch(() => {
      URL.revokeObjectURL(href);
      throw new Error(t("playground_js.broken_picture"));
    });
    const earlier = this.#picture.src;
    this.#picture.replaceWith(shown);
    this.#picture = shown;
    if (earlier) URL.revokeObjectURL(earlier);
    if (took === null) return;
    this.done = true;
    const size = t("playground_js.pixels", {
      width: shown.naturalWidth, height: shown.naturalHeight, time: took,
    });
    part(this.root, "facts").textContent = [size, this.facts].filter(Boolean).join(" · ");
    const link = part(this.root, "download");
    link.href = href;
    link.download = `image.${format}`;
    link.hidden = false;
    part(this.root, "reuse").hidden = false;
  }

  remove() {
    if (this.#picture.src) URL.revokeObjectURL(this.#picture.src);
    this.root.remove();
  }
}

const galleries = new WeakMap(); // A column → its figures, the newest first.

/** The task; `reuse(prompt, settings)` puts what a picture was made with into the forms. */
export function pictures(reuse) {
  const task = {
    asked: (form) => ({
      prompt: form.elements.prompt.value, image: form.elements.image.files[0] ?? null,
    }),

    request: ({ prompt, image }, settings) => ({
      path: image ? "images/edits" : "images/generations",
      ...(image ? { files: { image } } : {}),
      body: {
        prompt: prompt.trim(),
        ...texts(settings, "negative_prompt", "size"),
        ...numbers(settings, "num_inference_steps", "guidance_scale", "seed"),
        n: 1, ...numbers(settings, "n"),
        response_format: "b64_json", stream: true, partial_images: 2,
      },
    }),

    async run(column, asked, settings, signal) {
      const { path, body, files } = task.request(asked, settings);
      let sent = body;
      if (files) {
        sent = new FormData();
        for (const [name, value] of Object.entries(body)) sent.set(name, String(value));
        for (const [name, file] of Object.entries(files)) sent.set(name, file);
      }
      const figures = galleries.get(column) ?? [];
      galleries.set(column, figures);
      const facts = [
        body.seed === undefined ? "" : t("playground_js.seed", { seed: String(body.seed) }),
        asked.image ? asked.image.name : "",
      ].filter(Boolean).join(" · ");
      let making = null;
      let count = 0;
      const started = performance.now();

      async function show(value, item) {
        const isPartial = value.type?.endsWith(".partial_image") ?? false;
        if (making === null) {
          making = new Figure(body.prompt, facts, () => reuse(body.prompt, settings));
          column.output.prepend(making.root);
        }
        const figure = making;
        await figure.show(pictureOf(value, item), isPartial ? null : secondsSince(started));
        if (isPartial) return;
        figures.unshift(figure);
        for (const old of figures.splice(KEPT_MOST)) old.remove();
        making = null;
        count += 1;
      }

      try {
        const response = await column.service.call(path, sent, signal);
        for await (const value of values(response)) {
          const items = value.b64_json ? [value] : value.data ?? [];
          for (const item of items) if (item.b64_json) await show(value, item);
        }
      } finally {
        making?.remove();
      }
      if (count === 0) throw new Error(t("playground_js.no_picture"));
      return t("playground_js.pictures", { count, time: secondsSince(started) });
    },
  };
  return task;
}
