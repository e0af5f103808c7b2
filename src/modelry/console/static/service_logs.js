// A replica's log: followed while it grows, paused, and filtered. What it says is only ever text.
import { t } from "./words.js";

const LINES = 5000;
const AGAIN_MS = 2000;

const log = document.getElementById("log");
const said = document.getElementById("log-said");
const filter = document.getElementById("log-filter");
const pause = document.querySelector("[data-pause]");

let lines = log.textContent === "" ? [] : log.textContent.split("\n");
let waiting = []; // What came and is not shown yet.
let paused = false;
let drawing = false;
let connection = null;
let state = "";

function matches(line) {
  return line.toLowerCase().includes(filter.value.trim().toLowerCase());
}

function drawn(line) {
  const made = document.createElement("span");
  made.textContent = `${line}\n`;
  return made;
}

function tell() {
  const filtered = filter.value.trim() !== "";
  const count = filtered ? t("service_logs_js.matching", { count: log.childElementCount, all: lines.length }) : "";
  const now = paused ? t("service_logs_js.paused", { count: waiting.length }) : state;
  said.textContent = [now, count].filter(Boolean).join(" · ");
}

/** Show all lines anew. */
function redraw() {
  log.replaceChildren(...lines.filter(matches).map(drawn));
  log.scrollTop = log.scrollHeight;
  tell();
}

/** Show what came since; the end stays in view for who was reading there. */
function draw() {
  drawing = false;
  if (paused) {
    tell();
    return;
  }
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const came = waiting;
  waiting = [];
  lines = lines.concat(came).slice(-LINES);
  log.append(...came.filter(matches).map(drawn));
  while (log.childElementCount > LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
  tell();
}

function take(came) {
  for (const line of came) waiting.push(line);
  if (waiting.length > LINES) waiting = waiting.slice(-LINES);
  if (!drawing) requestAnimationFrame(draw);
  drawing = true;
}

/** Follow the replica until it ends, or this page is hidden. */
async function follow() {
  const mine = (connection = new AbortController());
  let ended = false;
  try {
    const answer = await fetch(`${log.dataset.follow}&follow=1&tail=${LINES}`, { signal: mine.signal });
    if (answer.status === 401) location.reload();
    if (answer.status === 404) ended = true;
    if (answer.ok) {
      // It begins with what was there before: that is shown once.
      lines = [];
      waiting = [];
      log.replaceChildren();
      state = t("service_logs_js.following");
      ended = (await read(answer)) === 0;
    }
  } catch {
    // Its end, or the network's; the next look tells.
  }
  if (mine !== connection) return;
  state = t(ended ? "service_logs_js.ended" : "service_logs_js.away");
  document.getElementById("log-newest").hidden = !ended;
  if (ended) pause.hidden = true;
  else setTimeout(() => { if (mine === connection) goOn(); }, AGAIN_MS);
  tell();
}

/** Follow once more, but not while what is shown is to stay: that begins anew. */
function goOn() {
  connection = null;
  if (!paused) follow();
}

/** Take every line of an answer; returns how many there were. */
async function read(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let count = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return count;
    const came = (rest + value).split("\n");
    rest = came.pop();
    count += came.length;
    take(came);
  }
}

filter.hidden = false;
filter.addEventListener("input", redraw);

if (log.dataset.follow) {
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.querySelector("span").textContent = t(paused ? "service_logs_js.go_on" : "service_logs_js.pause");
    draw();
    if (connection === null) goOn();
  });
  // A browser has few connections to a server: only a page that is looked at holds one.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      connection?.abort();
      connection = null;
    } else {
      goOn();
    }
  });
  if (!document.hidden) follow();
}
redraw();
