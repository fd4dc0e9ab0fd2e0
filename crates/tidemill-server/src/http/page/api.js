// Asking the server, over its public HTTP API alone.

/** The server said no; `problem` is its problem document. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the server answered with ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

/** There was no answer. */
export class Gone extends Error {}

const PATIENCE_MS = 8000;

async function ask(path, options = {}) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), PATIENCE_MS);
  let response;
  let body;
  try {
    response = await fetch(path, { ...options, signal: stop.signal, cache: "no-store" });
    body = await response.text();
  } catch {
    throw new Gone("the server does not answer");
  } finally {
    clearTimeout(timer);
  }
  let value = null;
  try {
    value = JSON.parse(body);
  } catch {
    if (response.ok) throw new Gone("something else than Tidemill answers here");
  }
  if (!response.ok) throw new Refused(response.status, value || {});
  return value;
}

export const get = (path) => ask(path);

export const post = (path, type, value) =>
  ask(path, { method: "POST", headers: { "content-type": type }, body: JSON.stringify(value) });

/** A part of a path. */
export const part = encodeURIComponent;

/** Random enough for an event's id, also where the page is not a secure context. */
export function uuid() {
  const raw = crypto.getRandomValues(new Uint8Array(16));
  raw[6] = (raw[6] & 15) | 64;
  raw[8] = (raw[8] & 63) | 128;
  const hex = Array.from(raw, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
