"""A python-socketio server with one door: what is posted to it goes to the clients of a room.

usage: socketio_server.py PORT
"""

import json
import sys

import socketio
import uvicorn

# Long enough that a server that is busy with 10,000 clients does not take them for gone.
sio = socketio.AsyncServer(async_mode="asgi", ping_interval=300, ping_timeout=300)


@sio.event
async def subscribe(sid, message):
    await sio.enter_room(sid, message["room"])
    return {"status": "success"}


async def publish(scope, receive, send):
    body = b""
    while True:
        part = await receive()
        body += part.get("body", b"")
        if not part.get("more_body"):
            break
    value = json.loads(body)
    await sio.emit("event", value, room=value["room"])
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


app = socketio.ASGIApp(sio, publish)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", ws_ping_interval=None)
