"""A member that reads for ever with confluent-kafka: `groups_restart.py HOST:PORT TOPIC`.

Prints each value, commits it, and says so."""

import sys

from confluent_kafka import Consumer, KafkaException

address, topic = sys.argv[1:]
member = Consumer({
    "bootstrap.servers": address,
    "group.id": "restart",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "session.timeout.ms": 10000,
    "heartbeat.interval.ms": 300,
    "reconnect.backoff.max.ms": 500,
})
member.subscribe([topic])
while True:
    message = member.poll(1)
    if message is None or message.error() is not None:
        continue
    # Before the commit: one whose answer is lost may be kept, and never comes again.
    print(message.value().decode(), flush=True)
    try:
        member.commit(message=message, asynchronous=False)
    except KafkaException:
        # The server is away, or the members share anew: it comes again.
        continue
    print("committed", flush=True)
