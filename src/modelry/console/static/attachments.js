// The images that go along with a message: chosen, pasted or dropped.
import { made, part } from "./forms.js";
import { t } from "./words.js";

const MIB = 2 ** 20;
const IMAGE_MIB = 20; // As the gateway has it.
const IMAGES_MIB = 40; // In base64 they still fit the body of a request.

/** Refuse files that are too large, beside what a conversation has already, in bytes. */
export function requireBounds(files, already) {
  const large = files.find((file) => file.size > IMAGE_MIB * MIB);
  if (large) throw new Error(t("playground_js.image_large", { name: large.name, most: IMAGE_MIB }));
  const bytes = files.reduce((sum, file) => sum + file.size, already);
  if (bytes > IMAGES_MIB * MIB) {
    throw new Error(t("playground_js.images_large", { most: IMAGES_MIB }));
  }
}

export function dataUrl(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => done(reader.result));
    reader.addEventListener("error", () => failed(
      new Error(t("playground_js.unreadable", { name: file.name }))));
    reader.readAsDataURL(file);
  });
}

/** A small picture of a file. */
export function thumb(file) {
  const shown = made("thumb");
  const picture = shown.querySelector("img");
  picture.src = URL.createObjectURL(file);
  picture.alt = file.name;
  picture.title = file.name;
  // Shown, it does not need its address any more.
  for (const end of ["load", "error"]) {
    picture.addEventListener(end, () => URL.revokeObjectURL(picture.src), { once: true });
  }
  return shown;
}

export class Attachments {
  files = [];
  #list;

  constructor(form, list) {
    this.#list = list;
    const input = form.elements.images;
    input.addEventListener("change", () => {
      this.add([...input.files]);
      input.value = ""; // The same file may be chosen once more.
    });
    form.addEventListener("paste", (event) => {
      if (this.add([...event.clipboardData.files])) event.preventDefault();
    });
    form.addEventListener("dragover", (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      form.classList.add("dropping");
    });
    for (const end of ["dragleave", "drop"]) {
      form.addEventListener(end, () => form.classList.remove("dropping"));
    }
    form.addEventListener("drop", (event) => {
      if (event.dataTransfer.files.length === 0) return;
      event.preventDefault();
      this.add([...event.dataTransfer.files]);
    });
  }

  /** Those of them that are images; whether there were any. */
  add(files) {
    const images = files.filter((file) => file.type.startsWith("image/"));
    this.put([...this.files, ...images]);
    return images.length > 0;
  }

  put(files) {
    this.files = files;
    this.#list.hidden = files.length === 0;
    this.#list.replaceChildren(...files.map((file) => {
      const shown = thumb(file);
      part(shown, "drop").addEventListener("click", () => {
        this.put(this.files.filter((each) => each !== file));
      });
      return shown;
    }));
  }
}
