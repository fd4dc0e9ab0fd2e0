// What the scripts share: Chromium, lines to and from the test, and waiting.
"use strict";

const { execFileSync } = require("node:child_process");
const readline = require("node:readline");
const puppeteer = require("puppeteer-core");

/** No condition takes longer to come true. */
const PATIENCE_MS = 30000;

async function open() {
  const executablePath = execFileSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).trim();
  // Without a sandbox of its own, which containers and root do not let it have.
  const args = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"];
  return puppeteer.launch({ executablePath, args, protocolTimeout: 120000 });
}

const input = readline.createInterface({ input: process.stdin });
const lines = input[Symbol.asyncIterator]();

/** Says a line to the test, and waits for its answer. */
async function ask(line) {
  console.log(line);
  const { value, done } = await lines.next();
  if (done) throw new Error(`nobody answers to ${line}`);
  return value;
}

const holds = (what) => console.log(`holds: ${what}`);

function check(good, what) {
  if (!good) throw new Error(`it does not hold: ${what}`);
}

/** Waits until `condition` is true in the page. */
async function until(page, what, condition, ...values) {
  try {
    await page.waitForFunction(condition, { timeout: PATIENCE_MS, polling: 50 }, ...values);
  } catch (error) {
    const shown = await page.evaluate(() => document.body.innerText.slice(0, 4000)).catch(() => "");
    throw new Error(`${what}: ${error.message}\n${shown}`);
  }
}

/** Runs a script, and ends the process with what became of it. */
async function run(script) {
  const browser = await open();
  try {
    await script(browser);
    console.log("done");
  } catch (error) {
    console.log(`failed: ${error.stack}`.replaceAll("\n", "\\n"));
    process.exitCode = 1;
  } finally {
    await browser.close();
    input.close();
  }
}

module.exports = { ask, check, holds, run, until };
