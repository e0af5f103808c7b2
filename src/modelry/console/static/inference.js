// Calls of the inference API from a page, with a key that this session has for one service.
import { t } from "./words.js";

const SPARE_MS = 60_000; // A key is asked for anew when it ends sooner than this.

/** An error that the server told of, before an answer or in the middle of a stream. */
export class Refused extends Error {
  constructor(error, status) {
    super(error?.message ?? t("shell_js.answered", { status }));
    this.code = error?.code ?? null;
    this.status = status;
  }
}

export class Service {
  #key = null;
  #keyUrl;
  #csrf;

  constructor(keyUrl, csrf, model) {
    this.#keyUrl = keyUrl;
    this.#csrf = csrf;
    this.model = model;
  }

  /** A 2xx answer to a call, whose body is not read yet. `body`: an object, or a form with files. */
  async call(path, body, signal) {
    let headers = {};
    if (body instanceof FormData) {
      body.set("model", this.model);
    } else {
      headers = { "content-type": "application/json" };
      body = JSON.stringify({ model: this.model, ...body });
    }
    const send = async () =>
      fetch(`/v1/${path}`, {
        method: "POST", body, signal, credentials: "omit",
        headers: { ...headers, authorization: `Bearer ${await this.ensureKey(signal)}` },
      });
    let response = await send();
    if (response.status === 401) {
      // Revoked while the page was open: the page asks once more.
      this.#key = null;
      response = await send();
    }
    if (!response.ok) {
      const answer = await response.json().catch(() => null);
      throw new Refused(answer?.error, response.status);
    }
    return response;
  }

  /** The key to call with, asked for where there is none that lasts. */
  async ensureKey(signal) {
    if (this.#key === null || this.#key.endsAt - Date.now() < SPARE_MS) {
      const response = await fetch(this.#keyUrl, {
        method: "POST", signal, redirect: "manual", headers: { "x-csrf-token": this.#csrf },
      });
      if (response.type === "opaqueredirect") {
        throw new Refused({ message: t("shell_js.signed_out") }, 401);
      }
      if (response.status === 403) {
        throw new Refused({ message: t("shell_js.signed_in_anew") }, 403);
      }
      const answer = await response.json().catch(() => null);
      if (!response.ok) throw new Refused(answer?.error, response.status);
      // By this browser's clock, whatever the server's says.
      this.#key = { secret: answer.key, endsAt: Date.now() + answer.expires_in_s * 1000 };
    }
    return this.#key.secret;
  }
}

/** The values of an answer's event stream, or its one value where it came whole. */
export async function* values(response) {
  if (!(response.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
    yield await response.json();
    return;
  }
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const value = JSON.parse(data);
    if (value.error) throw new Refused(value.error, response.status);
    yield value;
  }
}

/** The data of each event of a stream: https://html.spec.whatwg.org/multipage/server-sent-events.html */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      // An end of line in two pieces is looked at when it is whole.
      const lines = (rest + value).split(/\r\n|\n|\r(?=[^\n])/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        } else if (line === "" && data.length > 0) {
          yield data.join("\n");
          data = [];
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => null);
  }
}
