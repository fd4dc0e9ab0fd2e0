// The catalogue of handlers, by group. Schemas are asked for when somebody looks.

import { get, part } from "./api.js";
import { ago, count, el, id, keyed, plural, text } from "./dom.js";

const SCHEMA_MAX_CHARS = 20000;

function way(handler) {
  const out = handler.outputs.map((output) =>
    output.kind === "reply" ? "an answer" : `${output.topic}/${output.type}`);
  return { takes: `${handler.topic}/${handler.type}`, gives: [...new Set(out)].join(", ") };
}

function fact(list, name, value) {
  list.append(el("dt", {}, name), el("dd", {}, value));
}

async function details(node, handler) {
  if (!node.open || node.querySelector(".facts")) return;
  const facts = el("dl", { class: "facts" });
  node.append(facts);
  if (handler.name) fact(facts, "Name", handler.name);
  if (handler.source) fact(facts, "Source", handler.source);
  if (handler.needs) fact(facts, "Order", handler.needs.replaceAll("_", " "));
  if (handler.retry) {
    const { retries, first_ms: first, max_ms: most } = handler.retry;
    const times = retries >= 2 ** 32 - 1 ? "without end" : count(retries);
    fact(facts, "Retries", `${times}, after ${count(first)} ms up to ${count(most)} ms`);
  }
  if (handler.timeout_ms) fact(facts, "Timeout", `${count(handler.timeout_ms)} ms`);
  const served = handler.served_by.map((by) => `${by.name} (member ${by.member}, for ${ago(by.since)})`);
  fact(facts, "Served by", served.join(", "));
  try {
    const asked = `/v1/handlers?group=${part(handler.group)}&id=${part(handler.id)}`;
    const { handlers: found } = await get(asked);
    const whole = found.find((other) => other.version === handler.version) ?? found[0];
    if (!whole) return;
    const schemas = [[`takes ${whole.input.type ?? "any data"}`, whole.input.schema]];
    for (const out of whole.outputs) schemas.push([out.kind === "reply" ? "answers" : `publishes ${out.type}`, out.schema]);
    for (const [what, schema] of schemas) {
      if (schema === undefined || schema === null) continue;
      const shown = JSON.stringify(schema, null, 2).slice(0, SCHEMA_MAX_CHARS);
      node.append(el("pre", { class: "schema", tabindex: "0", "aria-label": `schema: ${what}` }, `// ${what}\n${shown}`));
    }
  } catch (error) {
    fact(facts, "Schemas", error.message);
  }
}

function entry(handler) {
  const node = el("details", {}, el("summary", {},
    el("span", { class: "id" }, handler.id, " ", el("small", {}, handler.version ? `v${handler.version}` : "")),
    el("span", { class: "way" }, el("b", {}), el("span", {}), el("i", {}))));
  node.addEventListener("toggle", () => details(node, handler));
  return node;
}

function update(node, handler) {
  const { takes, gives } = way(handler);
  text(node.querySelector(".way b"), takes);
  text(node.querySelector(".way span"), gives ? " → " : "");
  text(node.querySelector(".way i"), gives);
}

const key = (handler) => JSON.stringify([handler.id, handler.version, handler.topic, handler.type]);

export function showHandlers({ handlers }) {
  const groups = new Map();
  for (const handler of handlers) {
    if (!groups.has(handler.group)) groups.set(handler.group, []);
    groups.get(handler.group).push(handler);
  }
  text(id("handlers-n"), handlers.length ? `${plural(handlers.length, "handler")} in ${plural(groups.size, "group")}` : "");
  id("handlers-none").hidden = handlers.length > 0;
  text(id("handlers-empty"), "No program that is connected says what it handles.");
  const make = ([group]) => el("div", { class: "card service" },
    el("h3", {}, group), el("p", { class: "who" }), el("div", { class: "list" }));
  keyed(id("handler-groups"), groups, ([group]) => group, make, (node, [, list]) => {
    const members = new Set(list.flatMap((handler) => handler.served_by.map((by) => by.member)));
    const since = list.flatMap((handler) => handler.served_by.map((by) => by.since)).sort()[0];
    text(node.querySelector(".who"), `${plural(members.size, "member")}, the first for ${ago(since)}`);
    keyed(node.querySelector(".list"), list, key, entry, update);
  });
}
