// A socket.io server with one door: what is posted to it goes to the clients of a room.
//
// usage: node socketio_server.js PORT

const http = require("http");
const { Server } = require("socket.io");

const server = http.createServer((request, response) => {
  let body = "";
  request.on("data", (part) => (body += part));
  request.on("end", () => {
    const value = JSON.parse(body);
    io.to(value.room).emit("event", value);
    response.end("{}");
  });
});
const io = new Server(server);
io.on("connection", (socket) => {
  socket.on("subscribe", (message, answer) => {
    socket.join(message.room);
    answer({ status: "success" });
  });
});
server.listen(Number(process.argv[2]), "127.0.0.1");
