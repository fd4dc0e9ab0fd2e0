"""Stock python-socketio against a running server.

Usage: client.py URL polling|websocket

Prints a line for each behaviour that holds; the first that does not ends with an error.
"""

import json
import queue
import sys

import requests
import socketio

URL, TRANSPORT = sys.argv[1], sys.argv[2]
WAIT_SECONDS = 60
LONG = 12345678901234567890123


class Client:
    """A connected client that keeps the events it gets in their order."""

    def __init__(self):
        self.events = queue.Queue()
        self.sio = socketio.Client(reconnection=False)
        self.sio.on("event", self.events.put)
        self.sio.connect(URL, transports=[TRANSPORT])

    def next(self):
        return self.events.get(timeout=WAIT_SECONDS)

    def call(self, event, *arguments):
        data = arguments if len(arguments) > 1 else arguments[0]
        return self.sio.call(event, data, timeout=WAIT_SECONDS)

    def subscribe(self, room):
        message = {"room": room, "n": LONG}
        answer = self.call("subscribe", message)
        assert answer == {"status": "success", "room": room}, answer
        assert self.next() == message

    def close(self):
        self.sio.disconnect()


def publish(value):
    headers = {"content-type": "application/json"}
    body = json.dumps(value)
    answer = requests.post(f"{URL}/event", body, headers=headers, timeout=WAIT_SECONDS)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "success"


def settle(clients):
    """What was published before has arrived everywhere once two more events have."""
    for mark in (1, 2):
        publish({"mark": mark})
        for client in clients:
            assert client.next() == {"mark": mark}


def holds(what):
    print(f"holds: {what} ({TRANSPORT})", flush=True)


def broadcast(a, b):
    for value in ({"n": LONG, "x": 1.5}, [LONG], "text", None, LONG):
        publish(value)
        for client in (a, b):
            assert client.next() == value
    settle((a, b))
    holds("an event without a room reaches everyone exactly once, every digit of it")


def rooms(a, b):
    a.subscribe("orders")
    a.subscribe("order_paid")
    a.subscribe("order_*")
    event = {"topic": "orders", "type": "order_paid", "n": LONG}
    publish(event)
    assert a.next() == event
    settle((a, b))
    holds("several matching rooms still mean one event, other clients get none")

    publish({"topic": "elsewhere", "type": "order_paid.v2"})
    b.subscribe("order_**")
    event = {"room": "elsewhere", "type": "order_paid.v2"}
    publish(event)
    assert b.next() == event
    settle((a, b))
    holds("one star stops at a dot, two do not; room is another word for topic")

    for room in ("orders", "order_paid", "order_*"):
        message = {"room": room}
        answer = a.call("unsubscribe", message)
        assert answer == {"status": "success", "room": room}, answer
        assert a.next() == message
    publish({"topic": "orders", "type": "order_paid"})
    assert b.next() == {"topic": "orders", "type": "order_paid"}
    settle((a, b))
    holds("after unsubscribe nothing of the room comes any more")


def messages(a):
    answer = a.call("subscribe", "anything", {"room": "second"})
    assert answer == {"status": "success", "room": "second"}, answer
    assert a.next() == {"room": "second"}
    for wrong in ("orders", {"room": 7}, {}, [1], {"room": ""}, {"room": "a***"}, b"bytes"):
        answer = a.call("subscribe", wrong)
        assert answer["status"] == "error" and answer["message"], answer
    settle((a,))
    holds("the message may be the second argument, a wrong one is answered with an error")


def at_once():
    for _ in range(50):
        client = Client()
        client.subscribe("at-once")
        client.close()
    holds("a message sent right after connecting is never lost")


def main():
    a, b = Client(), Client()
    broadcast(a, b)
    rooms(a, b)
    b.close()
    messages(a)
    a.close()
    at_once()


main()
