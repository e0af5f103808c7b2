// Keeps what is `data-live` on a page as the server has it, without a reload.
//
// A page that has `data-live-stream` listens to that event stream while somebody looks at it, and
// asks for itself again when something changed; `data-live-every` asks at least so often, in
// seconds. Where the stream is cut, the page asks every few seconds until it is back.
import htmx from "./vendor/htmx/htmx.js";

const WITHOUT_STREAM_MS = 3000;
const APART_MS = 250;

let morph;
htmx.registerExtension("live", { init: (api) => { morph = api.morph; } });

const source = document.querySelector("[data-live-stream]");
let stream = null;
let asking = false;
let again = false;
let polling = null;
let polledMs = null;

/** Ask for this page anew, and put what changed into the one that is shown. */
export async function refresh() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  try {
    const response = await fetch(location.href, { headers: { accept: "text/html", "x-refresh": "1" } });
    if (response.redirected) {
      location.reload(); // Signed out, or it is elsewhere now.
      return;
    }
    if (response.status >= 500) return; // The control plane begins anew: what is shown stays.
    const text = await response.text();
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const shown of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(shown.id);
      if (fresh === null) {
        location.reload(); // The page is another now: a service is gone, or has begun to run.
        return;
      }
      if (fresh.outerHTML === shown.dataset.liveHtml) continue;
      const html = fresh.outerHTML;
      // What somebody has unfolded or folded stays so, as far as it can be told again.
      for (const each of shown.querySelectorAll("details[id]")) {
        const same = fresh.querySelector(`#${CSS.escape(each.id)}`);
        if (same) same.open = each.open;
      }
      const holder = document.createDocumentFragment();
      holder.append(document.adoptNode(fresh));
      morph(shown, holder, false);
      document.getElementById(shown.id).dataset.liveHtml = html;
    }
    document.dispatchEvent(new Event("modelry:refreshed"));
  } catch {
    // The server is away; the next look finds it again.
  } finally {
    asking = false;
    if (again) {
      again = false;
      setTimeout(refresh, APART_MS);
    }
  }
}

function poll(everyMs) {
  if (everyMs === polledMs) return; // Begun anew with each failure, it would never come to ask.
  clearInterval(polling);
  polling = everyMs ? setInterval(refresh, everyMs) : null;
  polledMs = everyMs;
}

function usualMs() {
  const every = document.querySelector("[data-live-every]")?.dataset.liveEvery;
  return every ? Number(every) * 1000 : null;
}

function listen() {
  if (source === null || stream !== null) return;
  stream = new EventSource(source.dataset.liveStream);
  stream.addEventListener("open", () => poll(usualMs()));
  stream.addEventListener("change", refresh);
  stream.addEventListener("error", ({ target }) => {
    if (target !== stream) return;
    poll(WITHOUT_STREAM_MS);
    // A browser gives up on an answer that is no stream; then we ask again ourselves.
    if (target.readyState === EventSource.CLOSED) {
      stream = null;
      setTimeout(() => { if (!document.hidden) listen(); }, WITHOUT_STREAM_MS);
    }
  });
}

function silence() {
  stream?.close();
  stream = null;
  poll(null);
}

if (source !== null || usualMs() !== null) {
  // A browser has few connections to a server: only the page that is looked at holds one.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      silence();
    } else {
      refresh();
      poll(usualMs());
      listen();
    }
  });
  addEventListener("pagehide", silence);
  poll(usualMs());
  if (!document.hidden) listen();
}
