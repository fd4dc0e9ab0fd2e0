// The page for people in Chromium, on a server with traffic that the test has made:
// page.js URL FOLDER_OF_SCREENSHOTS FILE_OF_MERMAID
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { ask, check, holds, run, until } = require("./common.js");

const [, , url, shots, mermaid] = process.argv;
const HOSTILE = '<img src="/x" onerror="window.owned = 1">';

const requests = [];
const errors = [];

async function shown(page, selector) {
  return page.$eval(selector, (node) => node.textContent);
}

async function tables(page) {
  await until(page, "the topics are shown", () => document.querySelector('#topics-rows [data-key="orders"]'));
  const cells = (key) => page.$$eval(key, (found) => found.map((cell) => cell.textContent));
  const orders = await cells('#topics-rows [data-key="orders"] .n');
  check(orders[0] === "2" && orders[1] === "7", `orders has 2 partitions and 7 events: ${orders}`);
  await until(page, "the groups are shown", () => document.querySelector('#groups-rows [data-key="billing"]'));
  const billing = await cells('#groups-rows [data-key="billing"] .n');
  check(billing.join() === "1,2,7", `billing has a member, 2 in flight and a lag of 7: ${billing}`);
  await until(page, "the queues are shown", () => document.querySelector('#queues-rows [data-key="jobs"]'));
  const jobs = await cells('#queues-rows [data-key="jobs"] .n');
  check(jobs.join() === "0,3", `jobs has 3 messages: ${jobs}`);
  await until(page, "the tiles are shown", () => document.getElementById("t-queued").textContent === "3");
  check((await shown(page, "#health-word")) === "ready", "it is ready");
  holds("topics, groups with their lag, and queues are shown");
}

async function live(page) {
  await page.click('#topics-rows [data-key="orders"] button');
  await until(page, "it follows", () => document.getElementById("live-state").textContent.startsWith("following orders"));
  const fill = async (name, value) => {
    await page.$eval(`#pub-${name}`, (field) => { field.value = ""; });
    await page.type(`#pub-${name}`, value);
  };
  await fill("topic", "orders");
  await fill("type", "order_paid");
  await fill("key", "7");
  await fill("data", '{"total": }');
  await page.click("#pub-send");
  await until(page, "wrong JSON is told", () => document.getElementById("pub-said").textContent.includes("not JSON"));
  const wrong = await page.evaluate(() => [document.activeElement.id, document.getElementById("pub-data").ariaInvalid]);
  check(wrong.join() === "pub-data,true", `the wrong field has the focus: ${wrong}`);
  await fill("data", '{"total": 12}');
  await page.click("#pub-send");
  await until(page, "it is kept", () => document.getElementById("pub-said").textContent.startsWith("kept in orders"));
  await until(page, "it comes live", () => document.querySelector("#live-log .type")?.textContent === "order_paid");
  check((await shown(page, "#live-log .data")).includes('{"total":12}'), "its data is shown");
  await page.click("#live-log summary");
  await until(page, "all of it is shown", () => document.querySelector("#live-log pre")?.textContent.includes('"partitionkey": "7"'));
  holds("what the form publishes comes live");
}

async function hostile(page) {
  await page.click("#live-pause");
  check((await page.$eval("#live-pause", (button) => button.ariaPressed)) === "true", "it is paused");
  check((await ask("publish the hostile event")) === "published", "it is published");
  await until(page, "it is held back", () => document.getElementById("live-state").textContent.includes("1 held back"));
  await page.click("#live-pause");
  await until(page, "it is shown as text", (text) => document.querySelector("#live-log .type")?.textContent === text, HOSTILE);
  await page.click("#live-log summary");
  await until(page, "and whole", () => document.querySelector("#live-log details[open] pre")?.textContent.includes("<script>"));
  const made = await page.evaluate(() => [document.images.length, document.querySelectorAll("script:not([src])").length, String(window.owned)]);
  check(made.join() === "0,0,undefined", `nothing of it became part of the page: ${made}`);
  holds("a hostile event is a text");
}

async function catalogue(page) {
  const entry = '#handler-groups [data-key="billing"] [data-key*="charge"]';
  await until(page, "the handlers are shown", (at) => document.querySelector(at), entry);
  const way = await shown(page, `${entry} .way`);
  check(way === "orders/order_created → invoices/invoiced, an answer", way);
  await page.click(`${entry} summary`);
  await until(page, "the schemas are shown", (at) => document.querySelector(`${at} .schema`)?.textContent.includes('"order_id"'), entry);
  const names = await page.$$eval("#handler-groups .id", (found) => found.map((node) => node.textContent));
  check(names.some((name) => name.startsWith(HOSTILE)), `a hostile name is a text: ${names}`);
  check((await page.evaluate(() => document.images.length)) === 0, "and no picture");
  holds("the catalogue of handlers is shown with its schemas");
}

async function graph(page) {
  await until(page, "the graph is drawn", () => document.querySelectorAll("#graph .node").length >= 5);
  const edges = await page.$$eval("#graph .edge", (found) => found.map((edge) => `${edge.dataset.from} ${edge.dataset.to} ${edge.getAttribute("class")}`));
  for (const wanted of [
    "source:/page topic:orders edge publishes",
    "topic:orders group:billing edge delivers",
    "group:billing topic:invoices edge publishes declared",
  ]) check(edges.includes(wanted), `${wanted}: ${edges.join("; ")}`);
  await page.$eval('#graph [data-id="group:billing"]', (node) => node.focus());
  const lit = await page.$$eval("#graph .dim .edge.on", (found) => found.length);
  check(lit === 2, `its two edges are lit: ${lit}`);
  await page.$eval("#flow-list-d", (list) => { list.open = true; });
  const list = await shown(page, "#flow-list");
  check(list.includes("billing publishes to invoices: invoiced (said by a handler, not seen yet)"), list);
  holds("the flow graph is drawn, and is there as a list");
}

async function calm(page) {
  await page.evaluate(() => {
    window.scrollTo({ top: 500, behavior: "instant" });
    window.kept = document.querySelector('#topics-rows [data-key="orders"]');
    window.asked = performance.getEntriesByType("resource").length;
    document.querySelector("#live-log").scrollTop = 0;
  });
  await page.focus("#pub-type");
  const at = await page.evaluate(() => window.scrollY);
  await until(page, "it is asked again", () => {
    const asked = performance.getEntriesByType("resource").slice(window.asked).map((entry) => entry.name);
    return asked.filter((name) => name.endsWith("/v1/topics")).length >= 2 && asked.some((name) => name.endsWith("/v1/graph"));
  });
  const same = await page.evaluate((top) => [
    window.kept === document.querySelector('#topics-rows [data-key="orders"]') && window.kept.isConnected,
    window.scrollY === top,
    document.activeElement.id === "pub-type",
  ], at);
  check(same.every(Boolean), `elements, scrolling and focus stay: ${same}`);
  await page.$eval(".skip", (link) => link.focus());
  await page.keyboard.press("Enter");
  await until(page, "a key leads past the head", () => document.activeElement.id === "main");
  await page.keyboard.press("Tab");
  const first = await page.evaluate(() => document.activeElement.closest("main") !== null);
  check(first, "and on from there");
  const unnamed = await page.$$eval("input, select, textarea, button", (found) =>
    found.filter((node) => !(node.ariaLabel || node.labels?.length || node.textContent.trim())).map((node) => node.outerHTML));
  check(unnamed.length === 0, `every control has a name: ${unnamed}`);
  holds("nothing jumps while it refreshes, and keys and names are there");
}

async function pictures(page) {
  for (const [width, scheme] of [[360, "light"], [360, "dark"], [1280, "light"], [1280, "dark"]]) {
    await page.emulateMediaFeatures([
      { name: "prefers-color-scheme", value: scheme },
      { name: "prefers-reduced-motion", value: "reduce" },
    ]);
    await page.setViewport({ width, height: 900 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    check(wide <= width, `nothing is wider than ${width}: ${wide}`);
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = ground.match(/\d+/g).slice(0, 3).every((part) => Number(part) < 60);
    check(dark === (scheme === "dark"), `the ground is ${scheme}: ${ground}`);
    await page.screenshot({ path: path.join(shots, `${width}-${scheme}.png`), fullPage: true });
  }
  holds("it fits narrow and wide, light and dark");
}

async function troubles(page) {
  const answers = {
    damaged: [200, { status: "ready", memory: { used_bytes: 1, limit_bytes: 2 }, damaged: 2 }],
    full: [503, { title: "Unavailable", status: 503, detail: "the disk is full" }],
  };
  let answer = answers.damaged;
  const instead = (request) => {
    if (!request.url().endsWith("/health/ready")) return request.continue();
    return request.respond({ status: answer[0], contentType: "application/json", body: JSON.stringify(answer[1]) });
  };
  await page.setRequestInterception(true);
  page.on("request", instead);
  await until(page, "damage is told", () => document.getElementById("banner").textContent.startsWith("2 damaged places"));
  check((await page.$eval("#health", (node) => node.dataset.state)) === "degraded", "it is degraded");
  answer = answers.full;
  await until(page, "what is wrong is told", () => document.getElementById("banner").textContent.includes("the disk is full"));
  page.off("request", instead);
  await page.setRequestInterception(false);
  await until(page, "it is well again", () => document.getElementById("health").dataset.state === "ready");
  check((await page.$eval("#banner", (node) => node.hidden)) === true, "nothing is wrong any longer");
  holds("damage and a server that takes nothing are told");
}

async function restart(page) {
  const before = errors.length;
  check((await ask("stop the server")) === "stopped", "it is stopped");
  await until(page, "it is told that it is gone", () => document.getElementById("health").dataset.state === "gone");
  const banner = await shown(page, "#banner");
  check(banner.includes("does not answer"), banner);
  check((await page.$$("#topics-rows tr")).length > 0, "what was known stays");
  check((await ask("start the server")) === "started", "it is started");
  await until(page, "it is back", () => document.getElementById("health").dataset.state === "ready");
  await until(page, "the stream goes on", () => [...document.querySelectorAll("#live-log .type")].some((node) => node.textContent === "after_restart"));
  // What a browser says of requests that found nobody.
  errors.splice(before);
  holds("a server that is gone and back is told, and the stream goes on");
}

async function drawn(browser) {
  const page = await browser.newPage();
  await page.goto(`${url}/v1/graph?format=mermaid`);
  const text = await page.evaluate(() => document.body.innerText);
  await page.goto("about:blank");
  await page.evaluate(fs.readFileSync(mermaid, "utf8"));
  const made = await page.evaluate(async (graph) => {
    window.mermaid.initialize({ startOnLoad: false, securityLevel: "strict" });
    const parsed = await window.mermaid.parse(graph);
    const { svg } = await window.mermaid.render("flow", graph);
    const wrong = await window.mermaid.parse("flowchart LR\n n0[\"a\"] --> ", { suppressErrors: true });
    document.body.innerHTML = svg;
    const labels = [...document.querySelectorAll(".nodeLabel, .edgeLabel")].map((node) => node.textContent.trim());
    return { parsed, wrong, labels, images: document.images.length, owned: String(window.owned) };
  }, text);
  check(made.parsed.diagramType.startsWith("flowchart"), `it is parsed: ${JSON.stringify(made.parsed)}`);
  check(made.wrong === false, "the parser would refuse what is wrong");
  for (const label of ["orders", "billing", "jobs", "/page"]) check(made.labels.includes(label), `${label}: ${made.labels}`);
  check(made.labels.some((label) => label.includes(HOSTILE)), `hostile types are texts: ${made.labels}`);
  check(made.images === 0 && made.owned === "undefined", "and nothing else");
  await page.close();
  holds("Mermaid takes the graph and draws it");
}

run(async (browser) => {
  const page = await browser.newPage();
  page.on("request", (request) => requests.push(request.url()));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(error.message));
  await page.setViewport({ width: 1280, height: 900 });
  // So that scrolling has ended when it is looked at.
  await page.emulateMediaFeatures([{ name: "prefers-reduced-motion", value: "reduce" }]);
  await page.goto(url, { waitUntil: "load" });
  await tables(page);
  await live(page);
  await hostile(page);
  await catalogue(page);
  await graph(page);
  await drawn(browser);
  await calm(page);
  await pictures(page);
  check(errors.length === 0, `the browser has nothing to complain of: ${errors}`);
  await troubles(page);
  errors.length = 0;
  await restart(page);
  check(errors.length === 0, `nor afterwards: ${errors}`);
  const outside = requests.filter((asked) => !asked.startsWith(`${url}/`));
  check(outside.length === 0, `nothing is loaded from outside: ${outside}`);
  holds("nothing comes from outside, and no error is told");
});
