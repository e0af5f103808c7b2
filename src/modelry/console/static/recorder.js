// A button that records from the microphone, once to start and once more to stop. The form then
// sends the recording in place of a file.
import { t } from "./words.js";

export function recorder(form, button, complain) {
  const label = button.querySelector("span");
  const idle = label.textContent;
  let running = null;
  let asking = false; // The browser asks whether it may listen.

  // A browser gives pages a microphone over HTTPS, or on this machine's own names.
  button.hidden = !navigator.mediaDevices || !globalThis.MediaRecorder;
  form.elements.file.addEventListener("change", () => { form.recording = null; });

  button.addEventListener("click", async () => {
    if (running !== null) {
      running.stop();
      return;
    }
    if (asking) return;
    asking = true;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch {
      complain(t("playground_js.no_microphone"));
      return;
    } finally {
      asking = false;
    }
    complain("");
    const pieces = [];
    running = new MediaRecorder(stream);
    running.addEventListener("dataavailable", (event) => pieces.push(event.data));
    running.addEventListener("stop", () => {
      const type = running.mimeType.split(";")[0];
      const ending = { "audio/mp4": "mp4", "audio/ogg": "ogg" }[type] ?? "webm";
      form.recording = new File(pieces, `recording.${ending}`, { type });
      form.elements.file.value = "";
      for (const track of stream.getTracks()) track.stop();
      running = null;
      label.textContent = idle;
      form.requestSubmit();
    });
    running.start();
    label.textContent = t("playground_js.stop_and_send");
  });
}
