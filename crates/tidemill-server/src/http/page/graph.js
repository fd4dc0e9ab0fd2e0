// The flow graph as SVG: sources on the left, topics and queues in the middle, groups on the
// right. What is delivered goes to the right, what handlers publish comes back.

import { el, id, svg, text } from "./dom.js";

const WIDTH = 1040;
const BOX = { source: [0, 210], topic: [400, 240], group: [830, 210] };
const TALL = 40;
const GAP = 14;
const HEAD = 26;
const LETTERS = { source: 27, topic: 31, group: 27 };

let drawn = "";

const column = (node) => (node.kind === "queue" ? "topic" : node.kind);
const short = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);

/** Orders a column by where its neighbours stand, so that fewer lines cross. */
function sorted(nodes, place, edges) {
  const weight = new Map();
  for (const node of nodes) {
    const others = edges.flatMap((edge) => (edge.from === node.id ? [edge.to] : edge.to === node.id ? [edge.from] : []));
    const places = others.map((other) => place.get(other)).filter((at) => at !== undefined);
    weight.set(node.id, places.length ? places.reduce((a, b) => a + b) / places.length : place.get(node.id));
  }
  return [...nodes].sort((a, b) => weight.get(a.id) - weight.get(b.id) || (a.name < b.name ? -1 : 1));
}

function layout({ nodes, edges }) {
  const columns = { source: [], topic: [], group: [] };
  for (const node of nodes) columns[column(node)].push(node);
  const place = new Map();
  const note = (list) => list.forEach((node, n) => place.set(node.id, (n + 0.5) / list.length));
  Object.values(columns).forEach(note);
  for (let round = 0; round < 6; round += 1) {
    for (const name of ["topic", "group", "source"]) {
      columns[name] = sorted(columns[name], place, edges);
      note(columns[name]);
    }
  }
  const rows = Math.max(...Object.values(columns).map((list) => list.length), 1);
  const height = HEAD + rows * (TALL + GAP);
  const boxes = new Map();
  for (const [name, list] of Object.entries(columns)) {
    const top = HEAD + (height - HEAD - list.length * (TALL + GAP)) / 2;
    list.forEach((node, n) => {
      const [x, width] = BOX[name];
      boxes.set(node.id, { node, x, y: top + n * (TALL + GAP), width });
    });
  }
  return { columns, boxes, height };
}

/** From the one box's side to the other's; a handler's events leave and come in a little lower. */
function path(from, to, back) {
  const [x1, x2] = back ? [from.x, to.x + to.width + 7] : [from.x + from.width, to.x - 7];
  const shift = back ? TALL * 0.72 : TALL * 0.36;
  const [y1, y2] = [from.y + shift, to.y + shift];
  const bend = Math.max(60, Math.abs(x2 - x1) * 0.45) * (back ? -1 : 1);
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}

function words(edge, names) {
  const types = edge.types.length ? `: ${edge.types.join(", ")}` : "";
  const how = edge.kind === "delivers" ? "is delivered to" : "publishes to";
  const said = edge.seen ? "" : " (said by a handler, not seen yet)";
  return `${names.get(edge.from)} ${how} ${names.get(edge.to)}${types}${said}`;
}

function small(node) {
  if (node.kind === "group") return `${node.members === 1 ? "1 member" : `${node.members} members`}`;
  return node.kind === "queue" ? "queue" : "";
}

function box({ node, x, y, width }, about) {
  const name = column(node);
  const more = small(node);
  const title = svg("text", { x: x + 12, y: y + (more ? 17 : 25) }, short(node.name, LETTERS[name]));
  const made = svg("g", { class: `node ${node.kind}`, tabindex: "0", role: "img", "data-id": node.id });
  made.append(svg("title", {}, about), svg("rect", { x, y, width, height: TALL, rx: 9 }), title);
  if (more) made.append(svg("text", { class: "small", x: x + 12, y: y + 32 }, more));
  return made;
}

function light(root, edges, name) {
  root.classList.toggle("dim", name !== null);
  const near = new Set([name]);
  for (const edge of edges) {
    if (edge.from === name) near.add(edge.to);
    if (edge.to === name) near.add(edge.from);
  }
  for (const node of root.querySelectorAll(".node")) node.classList.toggle("on", near.has(node.dataset.id));
  for (const line of root.querySelectorAll(".edge")) {
    line.classList.toggle("on", line.dataset.from === name || line.dataset.to === name);
  }
}

function marker(kind) {
  return svg("marker", { id: `${kind}-arrow`, viewBox: "0 0 8 8", refX: 1, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" },
    svg("path", { class: `${kind}-head`, d: "M0 0L8 4L0 8Z" }));
}

function draw(graph) {
  const names = new Map(graph.nodes.map((node) => [node.id, node.name]));
  const { columns, boxes, height } = layout(graph);
  const root = svg("svg", { viewBox: `-2 0 ${WIDTH + 4} ${height}`, role: "group", "aria-label": "Flow graph" });
  root.append(svg("defs", {}, marker("delivers"), marker("publishes")));
  for (const [name, word] of [["source", "Sources"], ["topic", "Topics and queues"], ["group", "Groups"]]) {
    if (columns[name].length) root.append(svg("text", { class: "column", x: BOX[name][0] + 2, y: 14 }, word));
  }
  for (const edge of graph.edges) {
    const [from, to] = [boxes.get(edge.from), boxes.get(edge.to)];
    const kind = `edge ${edge.kind}${edge.seen ? "" : " declared"}`;
    const line = svg("path", { class: kind, d: path(from, to, from.x > to.x), "marker-end": `url(#${edge.kind}-arrow)`, "data-from": edge.from, "data-to": edge.to });
    line.append(svg("title", {}, words(edge, names)));
    root.append(line);
  }
  for (const placed of boxes.values()) {
    const mine = graph.edges.filter((edge) => edge.from === placed.node.id || edge.to === placed.node.id);
    const about = [`${placed.node.kind} ${placed.node.name}`, ...mine.map((edge) => words(edge, names))];
    const node = box(placed, about.join("\n"));
    for (const begin of ["pointerenter", "focus"]) node.addEventListener(begin, () => light(root, graph.edges, placed.node.id));
    for (const end of ["pointerleave", "blur"]) node.addEventListener(end, () => light(root, graph.edges, null));
    root.append(node);
  }
  const list = graph.edges.map((edge) => el("li", {}, words(edge, names)));
  id("flow-list").replaceChildren(...list);
  id("graph").replaceChildren(root);
}

/** Draws the graph, where it is another one than before. */
export function showGraph(graph) {
  const some = graph.edges.length > 0;
  text(id("flow-empty"), "Nothing has been published yet, and no program says what it handles.");
  id("flow-empty").hidden = some;
  for (const name of ["graph", "flow-legend", "flow-list-d"]) id(name).hidden = !some;
  const shape = JSON.stringify([
    graph.nodes.map(({ id: name, members }) => [name, members]),
    graph.edges.map(({ from, to, types, seen }) => [from, to, types, seen]),
  ]);
  if (!some || shape === drawn) return;
  drawn = shape;
  const focused = document.activeElement?.dataset?.id;
  draw(graph);
  if (focused) id("graph").querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}
