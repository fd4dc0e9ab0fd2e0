// kafkajs that logs in: `sasl_kafkajs.js HOST:PORT USER PASSWORD [CA]`.
//
// With CA, a certificate in PEM, it speaks TLS. Prints a line for each behaviour that holds.
const fs = require("fs");
const { Kafka, logLevel } = require("kafkajs");

const [address, username, password, ca] = process.argv.slice(2);

function client(mechanism, word) {
  return new Kafka({
    clientId: "js",
    brokers: [address],
    logLevel: logLevel.NOTHING,
    retry: { retries: 2 },
    ssl: ca ? { ca: [fs.readFileSync(ca, "utf-8")] } : false,
    sasl: { mechanism, username, password: word },
  });
}

async function main() {
  for (const mechanism of ["plain", "scram-sha-256", "scram-sha-512"]) {
    const kafka = client(mechanism, password);
    const topic = `js-${mechanism}`;
    const producer = kafka.producer();
    await producer.connect();
    await producer.send({ topic, messages: [{ value: "hello" }] });
    await producer.disconnect();
    const consumer = kafka.consumer({ groupId: topic });
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    const value = await new Promise((resolve) => {
      consumer.run({ eachMessage: async ({ message }) => resolve(message.value.toString()) });
    });
    if (value !== "hello") throw new Error(value);
    await consumer.disconnect();
    console.log(`holds: kafkajs with ${mechanism}`);
    const wrong = client(mechanism, "wrong").producer();
    const told = await wrong.connect().then(() => null, (error) => error.name);
    if (!/SASL/.test(told)) throw new Error(`a wrong password is told as ${told}`);
  }
  console.log("holds: a wrong password is told as such");
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
