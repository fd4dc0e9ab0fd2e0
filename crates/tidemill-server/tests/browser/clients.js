// Who is connected, on the page for people, in Chromium: clients.js URL. The test is the client,
// whose name would like to be more than a text.
"use strict";

const { ask, check, holds, run, until } = require("./common.js");

const [, , url] = process.argv;
const HOSTILE = '<img src="/x" onerror="window.owned = 1">';

run(async (browser) => {
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  await page.goto(url, { waitUntil: "load" });
  await until(page, "nobody is there", () => document.getElementById("clients-empty").textContent.startsWith("No client"));
  await ask("connect");
  await until(page, "a client is shown", () => document.querySelector("#clients-rows tr"));
  const row = await page.$eval("#clients-rows tr", (node) => [...node.children].map((cell) => cell.textContent));
  check(row[0].startsWith(HOSTILE), `its name is a text: ${row}`);
  check(row[0].includes("a-program 1.2, 127.0.0.1:"), `its program and its place are shown: ${row}`);
  check(row.at(-1).startsWith("ApiVersions, "), `its last request is shown: ${row}`);
  check((await page.$eval("#clients-n", (node) => node.textContent)) === "1 client", "they are counted");
  holds("who is connected is shown");
  await ask("leave");
  await until(page, "it is gone", () => !document.querySelector("#clients-rows tr"));
  const owned = await page.evaluate(() => [String(window.owned), document.images.length]);
  check(owned.join() === "undefined,0" && errors.length === 0, `nothing else: ${owned} ${errors}`);
  holds("who is gone is not, and a hostile name does nothing");
});
