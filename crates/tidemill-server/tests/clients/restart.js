// Stock socket.io-client across a restart of the server.
//
// Usage: node restart.js URL
//
// Prints `connected N` for each connection and `event TEXT` for each event; ends when it gets the
// event {"end":true}.

const { io } = require("socket.io-client");

const socket = io(process.argv[2], { reconnectionDelay: 20, reconnectionDelayMax: 100 });
let connections = 0;
socket.on("connect", () => {
  connections += 1;
  console.log(`connected ${connections}`);
});
socket.on("event", (value) => {
  console.log(`event ${JSON.stringify(value)}`);
  if (value.end) {
    socket.close();
    process.exit(0);
  }
});
