// The events of a topic as they come (server-sent events). What is in them is shown as text.

import { part } from "./api.js";
import { count, el, id, keyed, text } from "./dom.js";

const SHOWN_MAX = 200;
const PREVIEW_MAX = 400;
const SHOWN_MAX_CHARS = 20000;

let source = null;
let waiting = [];
let passed = 0;
let seen = 0;
let names = [];
let paused = false;
let frame = 0;

const say = (words) => text(id("live-state"), words);

/** The topics to choose from. */
export function showTopicNames(all) {
  names = all;
  const select = id("live-topic");
  const chosen = select.value;
  // One that is followed stays, also when it is gone.
  const listed = ["", ...new Set(chosen ? [...all, chosen] : all)];
  keyed(select, listed, (name) => name, (name) => el("option", { value: name }, name || "–"), () => {});
  keyed(id("topic-names"), all, (name) => name, (name) => el("option", { value: name }), () => {});
}

function stop() {
  source?.close();
  source = null;
}

/** Follows this topic from now on. */
export function follow(topic) {
  if (!names.includes(topic)) showTopicNames([...names, topic]);
  id("live-topic").value = topic;
  begin();
  id("live").scrollIntoView();
  id("live-log").focus({ preventScroll: true });
}

function begin() {
  stop();
  clear();
  const topic = id("live-topic").value;
  if (!topic) return say("choose a topic");
  const from = id("live-all").checked ? "beginning" : "end";
  const type = id("live-type").value.trim();
  const query = new URLSearchParams(type ? { from, type } : { from });
  const opened = new EventSource(`/v1/topics/${part(topic)}/stream?${query}`);
  source = opened;
  say(`connecting to ${topic} …`);
  opened.onopen = () => say(`following ${topic}`);
  opened.onmessage = ({ data, lastEventId }) => came(data, lastEventId);
  opened.onerror = (error) => {
    if (source !== opened) return;
    if (error.data) {
      stop();
      say(`ended: ${detail(error.data)}`);
    } else if (opened.readyState === EventSource.CLOSED) {
      say(`${topic} cannot be followed there; look at the topic's name and types`);
    } else {
      say("the stream broke; it goes on where it was");
    }
  };
  return undefined;
}

function detail(data) {
  try {
    return JSON.parse(data).detail;
  } catch {
    return data;
  }
}

/** The server was away: a stream that had ended for good begins anew. */
export function serverIsBack() {
  if (source && source.readyState === EventSource.CLOSED) begin();
}

function came(data, place) {
  seen += 1;
  waiting.push([data, place]);
  if (waiting.length > SHOWN_MAX) {
    waiting.shift();
    passed += 1;
  }
  if (!paused && !frame) frame = requestAnimationFrame(show);
  if (paused) state();
}

function state() {
  const topic = id("live-topic").value;
  const held = paused ? `, ${count(waiting.length)} held back` : "";
  const missed = passed ? `, ${count(passed)} not shown` : "";
  say(`following ${topic}: ${count(seen)} came${held}${missed}`);
}

function show() {
  frame = 0;
  const log = id("live-log");
  id("live-empty").hidden = true;
  const before = log.scrollHeight;
  const top = log.scrollTop;
  const fresh = waiting.map(([data, place]) => entry(data, place)).reverse();
  waiting = [];
  log.prepend(...fresh);
  const rows = log.querySelectorAll("details");
  for (let n = SHOWN_MAX; n < rows.length; n += 1) rows[n].remove();
  // Whoever reads further down keeps the place.
  if (top > 0 && log.scrollTop === top) log.scrollTop = top + (log.scrollHeight - before);
  state();
}

function preview(event) {
  if (event.data_base64 !== undefined) return `${event.data_base64.length} characters of base64`;
  const whole = typeof event.data === "string" ? event.data : JSON.stringify(event.data);
  return (whole ?? "no data").slice(0, PREVIEW_MAX);
}

function entry(data, place) {
  let event;
  try {
    event = JSON.parse(data);
  } catch {
    event = { type: "?", data };
  }
  const when = new Date(event.time ?? Date.now());
  const clock = Number.isNaN(when.getTime()) ? "" : when.toTimeString().slice(0, 8);
  const key = event.partitionkey === undefined ? "" : `${event.partitionkey}  `;
  const row = el("details", {}, el("summary", {},
    el("time", { title: event.time }, clock),
    el("span", { class: "type" }, String(event.type)),
    el("span", { class: "data" }, key + preview(event))));
  row.addEventListener("toggle", () => {
    if (!row.open || row.querySelector("pre")) return;
    const whole = JSON.stringify(event, null, 2);
    const cut = whole.length > SHOWN_MAX_CHARS ? `${whole.slice(0, SHOWN_MAX_CHARS)}\n…` : whole;
    row.append(el("pre", { title: `read on at ${place}` }, cut));
  });
  return row;
}

function clear() {
  waiting = [];
  [seen, passed] = [0, 0];
  for (const row of id("live-log").querySelectorAll("details")) row.remove();
  id("live-empty").hidden = false;
}

id("live-form").addEventListener("submit", (submitted) => submitted.preventDefault());
for (const name of ["live-topic", "live-type", "live-all"]) id(name).addEventListener("change", begin);
id("live-clear").addEventListener("click", () => {
  clear();
  if (source) state();
});
id("live-pause").addEventListener("click", ({ currentTarget }) => {
  paused = !paused;
  currentTarget.setAttribute("aria-pressed", String(paused));
  text(currentTarget, paused ? "Go on" : "Pause");
  if (!paused && waiting.length) show();
});
