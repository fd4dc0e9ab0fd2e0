// The scripts of a guide in a page of another program on this machine:
// guide.js URL GUIDE SOCKET_IO_CLIENT. Each block of JavaScript is run as a module, and what
// follows it as text is what it writes.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const { ask, check, holds, run, until } = require("./common.js");

const [, , url, guide, client] = process.argv;
const ADDRESS = "127.0.0.1:7575";

/** The blocks of a guide: what is run, and what is written. */
function blocks(text) {
  const found = [];
  for (const [, language, body] of text.matchAll(/```(\w+)\n([\s\S]*?)```/g)) {
    if (language === "js") found.push({ script: body, written: null });
    else if (language === "text") {
      check(found.at(-1)?.written === null, "a text follows its script");
      found.at(-1).written = body.trim().split("\n");
    }
  }
  return found;
}

async function play(page, { script, written }, address) {
  const lines = [];
  const hear = (message) => message.type() === "log" && lines.push(message.text());
  page.on("console", hear);
  page.on("pageerror", (error) => lines.push(`error: ${error.message}`));
  await page.addScriptTag({ content: script.replaceAll(ADDRESS, address), type: "module" });
  const begun = Date.now();
  while (lines.length < written.length && Date.now() - begun < 30000) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  page.off("console", hear);
  check(lines.join("\n") === written.join("\n"), `${script}\nwrites\n${written.join("\n")}\nand wrote\n${lines.join("\n")}`);
}

run(async (browser) => {
  const all = blocks(fs.readFileSync(guide, "utf8"));
  check(all.length >= 5 && all.every((block) => block.written), "every script says what it writes");
  // A page of somebody: another origin than the server's.
  const somebody = http.createServer((request, response) => {
    const script = request.url === "/socket.io.js";
    response.setHeader("content-type", script ? "text/javascript" : "text/html");
    response.end(script ? fs.readFileSync(client) : '<!doctype html><title>Somebody</title><script src="/socket.io.js"></script>');
  });
  await new Promise((resolve) => somebody.listen(0, "127.0.0.1", resolve));
  const here = `http://localhost:${somebody.address().port}/`;
  const address = new URL(url).host;
  const page = await browser.newPage();
  await page.goto(here);
  for (const block of all) {
    await page.goto(here);
    await play(page, block, address);
    holds(block.script.split("\n")[0].replace(/^\/\/ /, ""));
  }
  // A page that was closed goes on where it was: it got the first order before.
  const again = all.find((block) => block.script.includes("localStorage"));
  await page.goto(here);
  await play(page, { ...again, written: ["order_paid "] }, address);
  holds("a page that comes back gets what it has not got");
  // A stream that breaks goes on where it was, without anything twice.
  await page.goto(here);
  await page.evaluate((from) => {
    window.came = [];
    const source = new EventSource(`http://${from}/v1/topics/restarts/stream?from=beginning`);
    source.onmessage = ({ data }) => window.came.push(JSON.parse(data).id);
  }, address);
  await until(page, "it came", () => window.came.join() === "1,2");
  check((await ask("restart the server")) === "restarted", "it is restarted");
  await until(page, "it goes on", () => window.came.length >= 3);
  const came = await page.evaluate(() => window.came.join());
  check(came === "1,2,3", `each comes once: ${came}`);
  holds("a stream goes on over a restart, and nothing comes twice");
  somebody.closeAllConnections();
  somebody.close();
});
