// Asks the server again and again, and hands what it says to the parts of the page.

import { get, Gone, Refused } from "./api.js";
import { attribute, id, text } from "./dom.js";
import { drawChart, showTiles } from "./overview.js";
import { showGroups, showQueues, showTopics } from "./tables.js";
import { showTopicNames, serverIsBack } from "./live.js";
import { begin as beginPublish } from "./publish.js";
import { showHandlers } from "./handlers.js";
import { showGraph } from "./graph.js";
import { showClients } from "./clients.js";

const OFTEN_MS = 2000;
const SELDOM_EVERY = 3;

/** What is asked for, whether seldom, and who shows it. */
const parts = [
  { path: "/health/ready", show: showHealth, refused: showTrouble },
  { path: "/v1/topics", show: topics, empty: "topics-empty" },
  { path: "/v1/groups", show: showGroups, empty: "groups-empty" },
  { path: "/v1/queues", show: showQueues, empty: "queues-empty" },
  { path: "/v1/clients?max=100", show: showClients, empty: "clients-empty" },
  { path: "/v1/throughput", show: drawChart },
  { path: "/v1/handlers?schemas=false", show: showHandlers, empty: "handlers-empty", seldom: true },
  { path: "/v1/graph", show: showGraph, empty: "flow-empty", seldom: true },
];

let turn = 0;
let gone = false;
let timer = 0;
let asking = false;

function topics(answer, now) {
  showTopics(answer, now);
  showTopicNames(answer.topics.map((topic) => topic.name));
}

function state(name, word) {
  attribute(id("health"), "data-state", name);
  text(id("health-word"), word);
}

function banner(words, kind) {
  const node = id("banner");
  attribute(node, "data-kind", kind);
  text(node, words || "");
  node.hidden = !words;
}

function showHealth(health) {
  showTiles({ memory: health.memory });
  if (health.damaged) {
    state("degraded", "ready, with damage");
    const places = health.damaged === 1 ? "1 damaged place" : `${health.damaged} damaged places`;
    banner(`${places} in closed segments: what lies there cannot be read; events are taken all the same.`, "warm");
  } else {
    state("ready", "ready");
    banner("");
  }
}

function showTrouble(error) {
  state("down", "takes no events");
  banner(`The server takes no events: ${error.message}`);
}

async function one(part, now) {
  try {
    part.show(await get(part.path), now);
  } catch (error) {
    if (error instanceof Refused) {
      if (part.refused) part.refused(error);
      else if (part.empty) {
        text(id(part.empty), error.message);
        id(part.empty).hidden = false;
      }
      return;
    }
    throw error;
  }
}

async function refresh() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  const seldom = turn % SELDOM_EVERY === 0;
  turn += 1;
  const now = performance.now();
  const due = parts.filter((part) => seldom || !part.seldom);
  const ends = await Promise.allSettled(due.map((part) => one(part, now)));
  const failures = ends.filter((end) => end.status === "rejected").map((end) => end.reason);
  const lost = failures.find((error) => error instanceof Gone);
  if (lost) {
    gone = true;
    turn = 0;
    state("gone", "gone");
    banner(`${lost.message}; this page asks again until it does. What it shows is from before.`);
  } else if (gone) {
    gone = false;
    serverIsBack();
  }
  for (const error of failures) if (!(error instanceof Gone)) console.error(error);
  asking = false;
  if (!document.hidden) timer = setTimeout(refresh, OFTEN_MS);
}

document.addEventListener("visibilitychange", () => document.hidden || refresh());
text(id("host"), location.host);
for (const node of document.querySelectorAll(".origin")) text(node, location.origin);
beginPublish(refresh);
refresh();
