"""Stock kafka-python, an old or a new one, against a running server.

Usage: door_kafka_python.py BOOTSTRAP

Prints a line for each behaviour that holds; the first that does not ends with an error.
"""

import sys

import kafka
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

SERVERS = sys.argv[1]
WAIT_MS = 60_000
COUNT = 200


def holds(what):
    print(f"holds: {what} (kafka-python {kafka.__version__})", flush=True)


def values(topic, count, **settings):
    consumer = KafkaConsumer(bootstrap_servers=SERVERS, consumer_timeout_ms=WAIT_MS, **settings)
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek_to_beginning(place)
    got = []
    for message in consumer:
        got.append(message.value)
        if len(got) == count:
            break
    ends = consumer.end_offsets([place])[place], consumer.beginning_offsets([place])[place]
    time = message.timestamp
    found = consumer.offsets_for_times({place: time})[place]
    late = consumer.offsets_for_times({place: time + 3_600_000})[place]
    consumer.close()
    assert found.offset < count and found.timestamp == time, found
    assert late is None, late
    return got, ends


def round_trips():
    for codec in (None, "gzip"):
        topic = f"python-{codec}-{kafka.__version__}"
        sent = [f"{codec} {n}".encode() for n in range(COUNT)]
        producer = KafkaProducer(bootstrap_servers=SERVERS, compression_type=codec, acks="all")
        futures = [producer.send(topic, value, key=b"k", partition=0) for value in sent]
        assert [future.get(60).offset for future in futures] == list(range(COUNT))
        producer.close()
        assert values(topic, COUNT) == (sent, (COUNT, 0))
    holds("what is produced is consumed, and found by its time")


def empty_fetches():
    topic = f"python-later-{kafka.__version__}"
    consumer = KafkaConsumer(bootstrap_servers=SERVERS, consumer_timeout_ms=WAIT_MS)
    producer = KafkaProducer(bootstrap_servers=SERVERS)
    producer.send(topic, b"before").get(60)
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek_to_end(place)
    assert consumer.poll(timeout_ms=300) == {}
    # The first fetch names everything, those that follow what has changed.
    for value in (b"after", b"again", b"last"):
        producer.send(topic, value).get(60)
        assert next(consumer).value == value
    consumer.close()
    producer.close()
    holds("a fetch waits for what comes")


round_trips()
empty_fetches()
