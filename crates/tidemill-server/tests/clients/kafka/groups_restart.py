"""A member that reads for ever with confluent-kafka: `groups_restart.py HOST:PORT TOPIC`.

Prints each value when everything up to it is committed."""

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
    try:
        member.commit(message=message, asynchronous=False)
    except KafkaException:
        # The server is away, or the members share anew: it comes again.
        continue
    print(message.value().decode(), flush=True)
