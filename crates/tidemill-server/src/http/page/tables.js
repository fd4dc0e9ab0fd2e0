// Topics, groups and queues.

import { attribute, bytes, compact, count, el, id, keyed, plural, rate, text } from "./dom.js";
import { showTiles } from "./overview.js";
import { follow } from "./live.js";

/** A row whose first cell is a name, with so many cells for numbers. */
function row(name, cells) {
  const small = el("span", { class: "sub" });
  const parts = name.split(/(?<=[._/-])/).flatMap((part) => [part, el("wbr")]);
  const head = el("th", { scope: "row", class: "break" }, el("span", {}, ...parts), small);
  return el("tr", {}, head, ...cells.map((more) => el("td", { class: `n ${more}` })));
}

function number(cell, value, show = count) {
  text(cell, show(value));
  cell.classList.toggle("zero", value === 0);
}

function ended(name, what, items) {
  text(id(`${name}-n`), items.length ? plural(items.length, what) : "");
  const empty = id(`${name}-empty`);
  empty.hidden = items.length > 0;
  return empty;
}

/** Where each topic ended before, and when that was: for its rate. */
const before = new Map();

function topicRate(topic, end, now) {
  const known = before.get(topic.id ?? topic.name) ?? [];
  known.push({ end, now });
  while (known.length > 6) known.shift();
  before.set(topic.id ?? topic.name, known);
  const seconds = (now - known[0].now) / 1000;
  return seconds > 0 ? Math.max(0, end - known[0].end) / seconds : 0;
}

function topicRow(topic) {
  const made = row(topic.name, ["parts", "", "size", ""]);
  const button = el("button", { type: "button", "aria-label": `follow ${topic.name}` }, "Follow");
  button.addEventListener("click", () => follow(topic.name));
  made.append(el("td", { class: "act" }, button));
  return made;
}

export function showTopics({ topics }, now) {
  const empty = ended("topics", "topic", topics);
  text(empty, "No topic yet. The first event makes one.");
  for (const key of before.keys()) {
    if (!topics.some((topic) => (topic.id ?? topic.name) === key)) before.delete(key);
  }
  keyed(id("topics-rows"), topics, (topic) => topic.name, topicRow, (node, topic) => {
    const sum = (of) => topic.partitions.reduce((all, part) => all + of(part), 0);
    const end = sum((part) => part.end);
    const cells = node.querySelectorAll(".n");
    const keeps = [
      topic.compact && "compacted",
      topic.retention_ms && `kept ${Math.round(topic.retention_ms / 3600000)} h`,
      topic.retention_bytes && `kept ${bytes(topic.retention_bytes)} a partition`,
      topic.compression && topic.compression !== "none" && topic.compression,
    ];
    text(node.querySelector(".sub"), keeps.filter(Boolean).join(", "));
    number(cells[0], topic.partitions.length);
    number(cells[1], end - sum((part) => part.earliest));
    number(cells[2], sum((part) => part.size_bytes ?? 0), bytes);
    number(cells[3], topicRate(topic, end, now), rate);
  });
}

/** What of a group's partitions is held back or damaged. */
function troubles(group) {
  const found = group.partitions.flatMap((part) => {
    const at = `${part.topic}/${part.partition}`;
    const paused = part.paused && ["warning", `${at} is paused: ${part.paused}`];
    const damage = part.damage && ["wrong", `${at}: ${part.damage}`];
    return [damage, paused].filter(Boolean);
  });
  return found.sort(([a], [b]) => (a === b ? 0 : a === "wrong" ? -1 : 1));
}

export function showGroups({ groups }) {
  text(ended("groups", "group", groups), "No consumer group yet. A program's first subscription makes one.");
  showTiles({ waiting: groups.reduce((all, group) => all + group.lag, 0) });
  keyed(id("groups-rows"), groups, (group) => group.name, (group) => row(group.name, ["", "", ""]), (node, group) => {
    const cells = node.querySelectorAll(".n");
    const small = node.querySelector(".sub");
    const [trouble] = troubles(group);
    text(small, trouble ? trouble[1] : group.topics.join(", "));
    attribute(small, "class", `sub ${trouble ? trouble[0] : ""}`.trim());
    // Kafka's consumers are counted among themselves.
    number(cells[0], group.members.length + (group.classic?.members.length ?? 0));
    number(cells[1], group.members.reduce((all, member) => all + member.in_flight, 0));
    number(cells[2], group.lag, compact);
    cells[2].classList.toggle("lag", group.lag > 0);
  });
}

export function showQueues({ queues }) {
  text(ended("queues", "queue", queues), "No queue yet.");
  showTiles({ queued: queues.reduce((all, queue) => all + queue.length, 0) });
  keyed(id("queues-rows"), queues, (queue) => queue.name, (queue) => row(queue.name, ["", ""]), (node, queue) => {
    const cells = node.querySelectorAll(".n");
    text(node.querySelector(".sub"), queue.transient ? "in memory" : "on disk");
    number(cells[0], queue.in_flight);
    number(cells[1], queue.length, compact);
  });
}
