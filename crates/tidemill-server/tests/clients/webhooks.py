"""Receives what a server's webhook sends, and has the stock verifier of Standard Webhooks check it:
with the secret, with both secrets after a rotation, and not with another one. The first argument is
the server's address."""

import json
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from standardwebhooks import Webhook, WebhookVerificationError

BASE = sys.argv[1]
got = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        got.put((dict(self.headers.items()), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()


def post(path, body=None):
    answer = requests.post(BASE + path, json=body, timeout=10)
    answer.raise_for_status()
    return answer.json()


def published(number):
    """What is sent of it; what came before may be sent once more."""
    post("/event", {"topic": "orders", "type": "order_paid", "number": number})
    while True:
        headers, body = got.get(timeout=30)
        if json.loads(body)["data"]["number"] == number:
            return {name.lower(): value for name, value in headers.items()}, body


url = f"http://127.0.0.1:{receiver.server_port}/hook"
first = post("/v1/webhooks", {"name": "shop", "url": url, "topics": ["orders"]})["secret"]
headers, body = published(1)
assert Webhook(first).verify(body, headers)["data"]["number"] == 1
print("holds: the stock verifier takes what is sent")

for changed in ({**headers, "webhook-id": "msg_other"}, {**headers, "webhook-timestamp": "1"}):
    try:
        Webhook(first).verify(body, changed)
    except WebhookVerificationError:
        continue
    sys.exit("it takes what is not signed")
print("holds: it refuses another id and another time")

second = post("/v1/webhooks/shop/rotate")["secret"]
headers, body = published(2)
for secret in (first, second):
    assert Webhook(secret).verify(body, headers)["data"]["number"] == 2
print("holds: after a rotation both secrets verify")
