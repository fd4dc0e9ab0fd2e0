// Stock socket.io-client against a running server.
//
// Usage: node client.js URL polling|websocket|upgrade
//
// Prints a line for each behaviour that holds; the first that does not ends with an error.

const assert = require("node:assert");
const { io } = require("socket.io-client");

const [url, transport] = process.argv.slice(2);
const transports = transport === "upgrade" ? ["polling", "websocket"] : [transport];
const WAIT_MS = 60_000;
const CLIENTS = 200;

/** Fails after a while, so that a lost event is an error and not a hang. */
function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} in time`)), WAIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A connected client that keeps the events it gets in their order, with their raw text. */
class Client {
  constructor() {
    this.events = [];
    this.raw = [];
    this.waiting = null;
    this.socket = io(url, { transports, forceNew: true, reconnectionDelay: 10 });
    this.socket.on("event", (value) => {
      this.events.push(value);
      this.waiting?.();
    });
    this.socket.io.on("open", () => {
      this.socket.io.engine.on("packet", ({ type, data }) => {
        if (type === "message" && data.startsWith('2["event",')) this.raw.push(data);
      });
    });
  }

  async connected() {
    if (!this.socket.connected) {
      const connect = new Promise((resolve) => this.socket.once("connect", resolve));
      await within(connect, "connection");
    }
    return this;
  }

  async next() {
    while (this.events.length === 0) {
      const event = new Promise((resolve) => (this.waiting = resolve));
      await within(event, "event");
    }
    return this.events.shift();
  }

  async subscribe(room) {
    const answer = await this.socket.timeout(WAIT_MS).emitWithAck("subscribe", { room });
    assert.deepStrictEqual(answer, { status: "success", room });
    assert.deepStrictEqual(await this.next(), { room });
  }
}

async function publish(text) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${url}/event`, { method: "POST", headers, body: text });
  assert.strictEqual(answer.status, 200, await answer.clone().text());
}

/** What was published before has arrived everywhere once two more events have. */
async function settle(clients) {
  for (const mark of [1, 2]) {
    await publish(JSON.stringify({ mark }));
    for (const client of clients) assert.deepStrictEqual(await client.next(), { mark });
  }
}

function holds(what) {
  console.log(`holds: ${what} (${transport})`);
}

async function verbatim() {
  const client = await new Client().connected();
  const text = '{ "n": 12345678901234567890123, "x": 1.10, "k": "\\u00e9" }';
  await publish(text);
  await client.next();
  assert.deepStrictEqual(client.raw, [`2["event",${text}]`]);
  client.socket.close();
  holds("what was published arrives byte for byte");
}

async function many() {
  const clients = Array.from({ length: CLIENTS }, () => new Client());
  await Promise.all(clients.map((client) => client.connected()));
  await publish('{"to":"all"}');
  for (const client of clients) assert.deepStrictEqual(await client.next(), { to: "all" });
  await Promise.all(clients.map((client, n) => client.subscribe(`room-${n % 10}`)));
  await publish('{"topic":"room-3","to":"some"}');
  for (const client of clients.filter((_, n) => n % 10 === 3)) {
    assert.deepStrictEqual(await client.next(), { topic: "room-3", to: "some" });
  }
  await settle(clients);
  for (const client of clients) client.socket.close();
  holds(`${CLIENTS} clients each get what is theirs exactly once`);
}

async function broken() {
  const client = await new Client().connected();
  await client.subscribe("before");
  const again = new Promise((resolve) => client.socket.once("connect", resolve));
  client.socket.io.engine.close();
  await within(again, "second connection");
  await publish('{"topic":"before","lost":"the room was left with the connection"}');
  await client.subscribe("after");
  await publish('{"topic":"after"}');
  assert.deepStrictEqual(await client.next(), { topic: "after" });
  await settle([client]);
  client.socket.close();
  holds("a client whose connection broke connects again and goes on");
}

(async () => {
  await verbatim();
  await many();
  await broken();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
