"""Checks the OpenAPI document of a server with stock validators: that it is one, and that what the
server answers is what the document says. The first argument is the server's address."""

import sys

import requests
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

BASE = sys.argv[1]
JSON = "application/json"
EVENT = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

document = requests.get(BASE + "/openapi.json", timeout=10).json()
validate(document)
print("holds: the document is OpenAPI 3.1")

spoken = set()


def schema_validator(schema):
    whole = dict(schema)
    whole["components"] = document["components"]
    return Draft202012Validator(whole)


def matches(template, path):
    parts, asked = template.split("/"), path.split("/")
    same = (t == a or t.startswith("{") for t, a in zip(parts, asked))
    return len(parts) == len(asked) and all(same)


def described(path):
    """The template of a path: one without names counts more."""
    fitting = [template for template in document["paths"] if matches(template, path)]
    return min(fitting, key=lambda template: template.count("{"))


def resolved(answer):
    if "$ref" in answer:
        return document["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
    return answer


def call(method, path, body=None, kind=JSON, expect=200, headers=None):
    """Calls a door, and checks both the body sent (where it is to be right) and the answer."""
    template = described(path.split("?")[0])
    operation = document["paths"][template][method.lower()]
    given = dict(headers or {})
    if body is not None:
        given["content-type"] = kind
    if isinstance(body, (dict, list)) and expect < 400 and kind in operation["requestBody"]["content"]:
        schema_validator(operation["requestBody"]["content"][kind]["schema"]).validate(body)
    send = {"data": body} if isinstance(body, (bytes, str)) else {"json": body}
    answer = requests.request(method, BASE + path, headers=given, timeout=10, **send)
    assert answer.status_code == expect, (method, path, answer.status_code, answer.text)
    responses = operation["responses"]
    if str(expect) in responses:
        said = resolved(responses[str(expect)])
    else:
        assert expect >= 400, (method, path, expect, "is not in the document")
        said = resolved(responses["default"])
    if "content" not in said:
        assert answer.content == b"", (method, path)
    else:
        media = answer.headers["content-type"].split(";")[0]
        types = {name.split(";")[0]: one for name, one in said["content"].items()}
        assert media in types, (method, path, media)
        if media.endswith("json"):
            schema_validator(types[media]["schema"]).validate(answer.json())
            answer = answer.json()
    spoken.add((method, template, expect))
    return answer


def event(number, key=None):
    made = {"specversion": "1.0", "id": str(number), "source": "/t", "type": "made", "data": {"n": number}}
    return {**made, "partitionkey": key} if key else made


def topics():
    call("GET", "/v1/topics")
    call("POST", "/v1/topics", {"name": "orders", "partitions": 2, "compression": "lz4"}, expect=201)
    call("POST", "/v1/topics", {"name": "orders"}, expect=409)
    call("POST", "/v1/topics", {"nam": "x"}, expect=422)
    call("POST", "/v1/topics", "{", expect=400)
    call("POST", "/event", {"topic": "orders", "type": "seen"})
    call("POST", "/event", {"topic": "a b"}, expect=422)
    call("POST", "/v1/topics/orders/events", event(1, "7"), EVENT)
    call("POST", "/v1/topics/orders/events", [event(2), event(3)], BATCH)
    call("POST", "/v1/topics/orders/events", {"id": "1"}, EVENT, expect=422)
    call("POST", "/v1/topics/orders/events", "x", "text/plain", expect=415)
    read = call("GET", "/v1/topics/orders/events?max=2&wait_ms=10")
    assert len(read["events"]) == 2, read
    call("GET", "/v1/topics/orders/events?offset=99", expect=416)
    call("GET", "/v1/topics/none/events", expect=404)
    call("GET", "/v1/topics/orders")
    call("GET", "/v1/topics/none", expect=404)
    call("PATCH", "/v1/topics/orders", {"retention_ms": 60000, "partitions": 3})
    call("PATCH", "/v1/topics/orders", {"retentions": 1}, expect=422)
    call("POST", "/v1/topics/orders/request?timeout_ms=1", {"type": "asked"}, expect=504)
    call("DELETE", "/v1/topics/orders/events?partition=0&before=1")
    call("DELETE", "/v1/topics/orders/events?partition=0", expect=400)
    call("DELETE", "/v1/topics/orders", expect=204)
    call("DELETE", "/v1/topics/orders", expect=404)


def groups():
    call("GET", "/v1/groups")
    call("GET", "/v1/groups/none", expect=404)
    call("DELETE", "/v1/groups/none", expect=404)


def pulled():
    taken = call("POST", "/v1/groups/work/pull?topic=jobs&max=1&wait_ms=1000")["deliveries"]
    return taken[0]["token"]


def members():
    call("POST", "/v1/topics", {"name": "jobs"}, expect=201)
    call("POST", "/v1/topics/jobs/events", [event(number) for number in range(5)], BATCH)
    call("POST", "/v1/groups/work/pull", expect=400)
    first = pulled()
    bill = {"topic": "bills", "event": event(9)}
    call("POST", "/v1/groups/work/settle", [{"token": first, "events": [bill]}])
    call("POST", "/v1/groups/work/settle", [{"token": first}], expect=409)
    call("POST", "/v1/groups/work/settle", [{"token": "x", "outcome": "odd"}], expect=422)
    call("POST", "/v1/groups/work/settle", [{"token": pulled(), "outcome": "retry", "after_ms": 60000}])
    for _ in range(2):
        given_up = {"token": pulled(), "outcome": "dead_letter", "error": "no such job"}
        call("POST", "/v1/groups/work/settle", [given_up])
    call("GET", "/v1/deadletters")
    letters = call("GET", "/v1/deadletters/work?max=1")["letters"]
    one = "/v1/deadletters/work/letters/" + letters[0]["letter"]
    call("GET", one)
    call("DELETE", one, expect=204)
    call("GET", one, expect=404)
    call("POST", "/v1/deadletters/work/redrive")
    call("GET", "/v1/groups/work")
    call("POST", "/v1/groups/work/seek", {"topic": "jobs", "to": "beginning"})
    call("POST", "/v1/groups/work/seek", {"topic": "jobs"}, expect=422)
    call("DELETE", "/v1/groups/work", expect=204)


def queues():
    call("POST", "/v1/queues", {"name": "mails", "lease_ms": 5000, "max_deliveries": 3}, expect=201)
    call("POST", "/v1/queues", {"name": "mails"}, expect=409)
    call("POST", "/v1/queues/mails/enqueue", {"to": "a"})
    call("POST", "/v1/queues/mails/enqueue", event(1), EVENT)
    call("POST", "/v1/queues/mails/enqueue", [event(2), event(3)], BATCH)
    call("GET", "/v1/queues")
    call("GET", "/v1/queues/mails")
    call("GET", "/v1/queues/mails/length")
    call("GET", "/v1/queues/mails/peek?max=2")
    taken = call("POST", "/v1/queues/mails/dequeue?max=2")["messages"]
    leases = [message["lease"] for message in taken]
    call("POST", "/v1/queues/mails/ack", {"leases": leases[:1]})
    call("POST", "/v1/queues/mails/requeue", {"leases": leases[1:]})
    call("POST", "/v1/queues/mails/ack", {"leases": leases}, expect=409)
    call("POST", "/v1/queues/mails/dequeue?lease_ms=0")
    call("POST", "/v1/queues/none/dequeue", expect=404)
    call("DELETE", "/v1/queues/mails", expect=204)
    call("GET", "/v1/queues/mails", expect=404)


def webhooks():
    made = {"name": "shop", "url": "http://127.0.0.1:1/", "topics": ["orders"], "types": ["order.*"]}
    call("GET", "/v1/webhooks")
    secret = call("POST", "/v1/webhooks", made, expect=201)["secret"]
    call("POST", "/v1/webhooks", made, expect=409)
    call("POST", "/v1/webhooks", {**made, "url": "ftp://a/"}, expect=422)
    assert secret not in str(call("GET", "/v1/webhooks"))
    one = "/v1/webhooks/shop"
    call("PATCH", one, {"attempts": 3, "headers": {"x-from": "tidemill"}})
    call("PATCH", one, {"attempts": 0}, expect=422)
    tested = call("POST", one + "/test")
    assert not tested["delivered"] and "cannot be reached" in tested["error"], tested
    assert call("POST", one + "/rotate", {"overlap_ms": 1000})["secret"] != secret
    call("POST", one + "/pause")
    assert call("GET", one)["paused"]["reason"] == "somebody paused it"
    call("POST", one + "/resume")
    call("DELETE", one, expect=204)
    call("GET", one, expect=404)


def server():
    call("GET", "/health/live")
    call("GET", "/health/ready")
    call("GET", "/metrics")
    call("GET", "/")
    call("GET", "/openapi.json")
    call("GET", "/v1/ws", expect=426)
    call("GET", "/v1/clients")
    call("GET", "/v1/clients?max=1&after=7")
    call("GET", "/v1/clients?max=0", expect=400)
    call("GET", "/v1/handlers")
    call("GET", "/v1/graph")
    call("GET", "/v1/throughput")
    call("GET", "/v1/backups", expect=501)
    call("GET", "/v1/backups/b", expect=501)
    call("POST", "/v1/backups", {"name": "b"}, expect=501)


for part in (topics, groups, members, queues, webhooks, server):
    part()
    print(f"holds: what the doors of {part.__name__} answer is what the document says")

# Answers without an end, and those that a later part of this script does not reach.
UNHEARD = {("GET", "/v1/topics/{topic}/stream")}
heard = {(method, template) for method, template, _ in spoken} | UNHEARD
there = {(m.upper(), path) for path, item in document["paths"].items() for m in item}
assert there <= heard, f"not called: {sorted(there - heard)}"
print("holds: every door was called")
