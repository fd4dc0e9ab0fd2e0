"""Stock confluent-kafka (librdkafka) against a running server.

Usage: door_confluent.py BOOTSTRAP HTTP_URL

Prints a line for each behaviour that holds; the first that does not ends with an error.
"""

import json
import sys
import urllib.request

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

SERVERS, HTTP = sys.argv[1:3]
WAIT_SECONDS = 60
COUNT = 500


def holds(what):
    print(f"holds: {what}", flush=True)


def produce(topic, values, **settings):
    errors = []
    producer = Producer({"bootstrap.servers": SERVERS, **settings})
    for n, value in enumerate(values):
        deliver = lambda error, _: error and errors.append(error)
        producer.produce(topic, value, key=f"k{n}", partition=0, on_delivery=deliver)
    assert producer.flush(WAIT_SECONDS) == 0
    return errors


def read(topic, count, **settings):
    group = {"group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    consumer = Consumer({"bootstrap.servers": SERVERS, **group, **settings})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = []
    while len(messages) < count:
        message = consumer.poll(WAIT_SECONDS)
        assert message is not None, f"{len(messages)} of {count} came"
        assert message.error() is None, message.error()
        messages.append(message)
    consumer.close()
    return messages


def codecs():
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        values = [f"{codec} {n} ".encode() * 20 for n in range(COUNT)]
        settings = {"compression.type": codec, "enable.idempotence": codec != "none"}
        assert produce(f"codec-{codec}", values, **settings) == []
        messages = read(f"codec-{codec}", COUNT)
        assert [message.value() for message in messages] == values
        assert [message.offset() for message in messages] == list(range(COUNT))
    holds("what is produced with any codec is consumed as it was, in its order")


def get(path):
    with urllib.request.urlopen(HTTP + path, timeout=WAIT_SECONDS) as answer:
        return json.load(answer)


def one_world():
    assert produce("worlds", [b'{"n":1}']) == []
    event = get("/v1/topics/worlds/events")["events"][0]["event"]
    assert event["type"] == "worlds", event
    body = json.dumps({"specversion": "1.0", "id": "7", "source": "/shop", "type": "order_paid",
                       "data": {"n": 2}}).encode()
    headers = {"content-type": "application/cloudevents+json"}
    request = urllib.request.Request(f"{HTTP}/v1/topics/worlds/events", body, headers)
    urllib.request.urlopen(request, timeout=WAIT_SECONDS).close()
    message = read("worlds", 2)[1]
    assert json.loads(message.value()) == {"n": 2}
    assert dict(message.headers())["ce_type"] == b"order_paid", message.headers()
    holds("what Kafka's clients produce HTTP reads, and what HTTP publishes they read")


def refusals():
    errors = produce("codec-none", [b"x" * 3_000_000], **{"message.max.bytes": 4_000_000})
    assert [error.code() for error in errors] == [KafkaError.MSG_SIZE_TOO_LARGE], errors
    holds("a batch that is too large is refused and told so")


def times():
    consumer = Consumer({"bootstrap.servers": SERVERS, "group.id": "unused"})
    message = read("codec-none", 10)[9]
    at = TopicPartition("codec-none", 0, message.timestamp()[1])
    found = consumer.offsets_for_times([at], timeout=WAIT_SECONDS)[0].offset
    assert 0 <= found <= 9, found
    late = TopicPartition("codec-none", 0, message.timestamp()[1] + 3_600_000)
    assert consumer.offsets_for_times([late], timeout=WAIT_SECONDS)[0].offset == -1
    low, high = consumer.get_watermark_offsets(TopicPartition("codec-none", 0), WAIT_SECONDS)
    assert (low, high) == (0, COUNT), (low, high)
    consumer.close()
    holds("offsets are found by their times")


def done(futures):
    return [future.result(WAIT_SECONDS) for future in futures.values()]


def admin():
    client = AdminClient({"bootstrap.servers": SERVERS})
    done(client.create_topics([NewTopic("made", 3, 1, config={"retention.ms": "60000"})]))
    (error,) = [future.exception(WAIT_SECONDS)
                for future in client.create_topics([NewTopic("made", 3, 1)]).values()]
    assert error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, error
    topic = ConfigResource(ResourceType.TOPIC, "made")
    (configs,) = done(client.describe_configs([topic]))
    assert configs["retention.ms"].value == "60000"
    assert configs["min.insync.replicas"].value == "1"
    compact = ConfigEntry("cleanup.policy", "compact",
                          incremental_operation=AlterConfigOpType.SET)
    done(client.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, "made",
                                                          incremental_configs=[compact])]))
    (configs,) = done(client.describe_configs([topic]))
    assert configs["cleanup.policy"].value == "compact,delete", configs["cleanup.policy"]
    done(client.create_partitions([NewPartitions("made", 5)]))
    listed = client.list_topics("made", WAIT_SECONDS).topics["made"]
    assert len(listed.partitions) == 5
    producer = Producer({"bootstrap.servers": SERVERS})
    errors = []
    producer.produce("made", b"no key", on_delivery=lambda error, _: errors.append(error))
    producer.flush(WAIT_SECONDS)
    assert errors[0].code() == KafkaError.INVALID_RECORD, errors
    done(client.delete_records([TopicPartition("codec-gzip", 0, 100)]))
    assert read("codec-gzip", 1)[0].offset() == 100
    cluster = client.describe_cluster().result(WAIT_SECONDS)
    assert len(cluster.nodes) == 1 and len(cluster.cluster_id) == 22
    done(client.delete_topics(["made"]))
    assert "made" not in client.list_topics(timeout=WAIT_SECONDS).topics
    holds("topics are made, described, changed, grown, trimmed and deleted")



def transactions():
    settings = {"bootstrap.servers": SERVERS, "transactional.id": "mover"}
    source = Consumer({"bootstrap.servers": SERVERS, "group.id": "movers",
                       "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    source.subscribe(["codec-lz4"])
    first = source.poll(WAIT_SECONDS)
    assert first.error() is None and first.offset() == 0, first
    producer = Producer(settings)
    producer.init_transactions(WAIT_SECONDS)
    for number, end in enumerate((producer.abort_transaction, producer.commit_transaction)):
        producer.begin_transaction()
        for n in range(10):
            producer.produce("moved", f"{number}.{n}", partition=0)
        # An abort throws away what was not sent.
        producer.flush(WAIT_SECONDS)
        place = [TopicPartition("codec-lz4", 0, 100 + number)]
        metadata = source.consumer_group_metadata()
        producer.send_offsets_to_transaction(place, metadata, WAIT_SECONDS)
        end(WAIT_SECONDS)
    values = [message.value() for message in read("moved", 10)]
    assert values == [f"1.{n}".encode() for n in range(10)], values
    seen = read("moved", 20, **{"isolation.level": "read_uncommitted"})
    assert seen[0].value() == b"0.0"
    (place,) = source.committed([TopicPartition("codec-lz4", 0)], WAIT_SECONDS)
    assert place.offset == 101, place
    source.close()
    holds("a transaction's records and positions count when it is committed, and not before")

    # Who takes the id over shuts the one before out.
    producer.begin_transaction()
    producer.produce("moved", b"late", partition=0)
    producer.flush(WAIT_SECONDS)
    other = Producer(settings)
    other.init_transactions(WAIT_SECONDS)
    try:
        producer.commit_transaction(WAIT_SECONDS)
        raise AssertionError("a producer that was shut out commits")
    except KafkaException as error:
        assert error.args[0].fatal(), error
    assert [message.value() for message in read("moved", 10)] == values
    holds("a producer whose transactional id was taken over is shut out")


codecs()
one_world()
refusals()
times()
admin()
transactions()
