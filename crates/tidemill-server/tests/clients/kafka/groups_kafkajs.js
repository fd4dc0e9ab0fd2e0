// Consumer groups with kafkajs: `groups_kafkajs.js HOST:PORT TOPIC`.
//
// The topic has four partitions with 25 records each. Prints a line for each behaviour that holds.
const { Kafka, logLevel } = require("kafkajs");

const [address, topic] = process.argv.slice(2);
const kafka = new Kafka({ clientId: "js", brokers: [address], logLevel: logLevel.ERROR });
const ALL = 100;

function consumer(parts) {
  const one = kafka.consumer({ groupId: "js", sessionTimeout: 10000, heartbeatInterval: 300 });
  one.on(one.events.GROUP_JOIN, ({ payload }) => {
    parts.length = 0;
    parts.push(...(payload.memberAssignment[topic] || []));
  });
  return one;
}

async function until(what) {
  const end = Date.now() + 40000;
  while (!what()) {
    if (Date.now() > end) throw new Error("it never came about");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function begin(one, seen) {
  await one.connect();
  await one.subscribe({ topic, fromBeginning: true });
  await one.run({ eachMessage: async ({ message }) => seen.add(message.value.toString()) });
}

async function main() {
  const seen = new Set();
  const [first, second] = [[], []];
  const one = consumer(first);
  await begin(one, seen);
  await until(() => seen.size === ALL);
  console.log("holds: a member reads everything");
  const two = consumer(second);
  await begin(two, seen);
  await until(() => first.length === 2 && second.length === 2);
  if (new Set([...first, ...second]).size !== 4) throw new Error(`${first} and ${second}`);
  console.log("holds: two members share the partitions");
  await one.disconnect();
  await until(() => second.length === 4);
  await two.disconnect();
  const admin = kafka.admin();
  await admin.connect();
  const [{ partitions }] = await admin.fetchOffsets({ groupId: "js", topics: [topic] });
  if (partitions.some(({ offset }) => offset !== "25")) throw new Error(JSON.stringify(partitions));
  await admin.resetOffsets({ groupId: "js", topic, earliest: true });
  const { groups } = await admin.describeGroups(["js"]);
  if (groups[0].state !== "Empty") throw new Error(JSON.stringify(groups));
  await admin.deleteGroups(["js"]);
  const listed = await admin.listGroups();
  if (listed.groups.some(({ groupId }) => groupId === "js")) throw new Error("it is still there");
  await admin.disconnect();
  console.log("holds: the group is described, moved and deleted");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
