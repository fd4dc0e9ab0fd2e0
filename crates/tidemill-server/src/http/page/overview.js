// The figures on top, and the throughput of the last minutes.

import { bytes, compact, id, rate, svg, text } from "./dom.js";

const WIDTH = 1000;
const HEIGHT = 170;
const BOTTOM = 20;

const figures = {};

/** Shows what is known by now of the figures. */
export function showTiles(known) {
  Object.assign(figures, known);
  const put = (name, value, show) => value !== undefined && text(id(name), show(value));
  put("t-published", figures.published, rate);
  put("t-settled", figures.settled, rate);
  put("t-waiting", figures.waiting, compact);
  put("t-queued", figures.queued, compact);
  if (figures.memory) {
    text(id("t-memory"), bytes(figures.memory.used_bytes));
    text(id("t-memory-of"), `on its way, of ${bytes(figures.memory.limit_bytes)}`);
  }
}

/** Events a second between each two samples. */
function rates(samples, name) {
  const found = [];
  for (let n = 1; n < samples.length; n += 1) {
    const seconds = (samples[n].at_ms - samples[n - 1].at_ms) / 1000;
    if (seconds > 0) found.push(Math.max(0, samples[n][name] - samples[n - 1][name]) / seconds);
  }
  return found;
}

/** A round number at or above `most`. */
function top(most) {
  const size = 10 ** Math.floor(Math.log10(Math.max(most, 1)));
  return [1, 2, 5, 10].map((n) => n * size).find((n) => n >= most) ?? 10 * size;
}

let shape;

function frame() {
  const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const title = svg("title");
  const grid = [0, 0.5, 1].map((part) => {
    const y = (HEIGHT - BOTTOM) * (1 - part) + 6;
    return svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y, "vector-effect": "non-scaling-stroke" });
  });
  const area = svg("path", { class: "area" });
  const published = svg("path", { class: "line published" });
  const settled = svg("path", { class: "line settled" });
  root.append(title, ...grid, area, published, settled);
  const scale = ["chart-top", "chart-half", "chart-from", "chart-to"].map((name) => {
    const node = document.createElement("span");
    node.className = name;
    return node;
  });
  id("chart").append(root, ...scale);
  return { title, area, published, settled, scale };
}

/** Draws the rates of the samples, and shows the last of them. */
export function drawChart({ samples, every_ms: every, kept }) {
  shape ??= frame();
  const lines = { published: rates(samples, "published"), settled: rates(samples, "settled") };
  const last = (values) => values.at(-1) ?? 0;
  showTiles({ published: last(lines.published), settled: last(lines.settled) });
  const most = top(Math.max(1, ...lines.published, ...lines.settled));
  const slots = Math.max(kept - 2, 1);
  const y = (value) => (HEIGHT - BOTTOM) * (1 - value / most) + 6;
  const path = (values) => {
    const first = slots - values.length + 1;
    const points = values.map((value, n) => `${(((first + n) / slots) * WIDTH).toFixed(1)} ${y(value).toFixed(1)}`);
    return points.length > 1 ? `M${points.join("L")}` : "";
  };
  const set = (node, d) => node.getAttribute("d") !== d && node.setAttribute("d", d);
  const drawn = path(lines.published);
  set(shape.published, drawn);
  set(shape.settled, path(lines.settled));
  const begin = (((slots - lines.published.length + 1) / slots) * WIDTH).toFixed(1);
  set(shape.area, drawn && `${drawn}L${WIDTH} ${y(0)}L${begin} ${y(0)}Z`);
  const [high, half, from, to] = shape.scale;
  text(high, compact(most));
  text(half, compact(most / 2));
  text(from, `${Math.round((slots * every) / 60000)} min ago`);
  text(to, "now");
  text(shape.title, `published ${rate(last(lines.published))}, settled ${rate(last(lines.settled))} events a second`);
}
