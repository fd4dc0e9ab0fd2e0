"""Consumer groups with confluent-kafka (librdkafka): `groups_confluent.py HOST:PORT TOPIC`.

The topic has four partitions with 25 records each. Prints a line for each behaviour that holds."""

import sys
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

address, topic = sys.argv[1:]
ALL = 100


def consumer(group, **more):
    settings = {
        "bootstrap.servers": address,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 10000,
        "heartbeat.interval.ms": 300,
    }
    settings.update({key.replace("_", "."): value for key, value in more.items()})
    return Consumer(settings)


def holds(what):
    print(f"holds: {what}", flush=True)


def read(members, count, seconds=40):
    got = []
    end = time.time() + seconds
    while len(got) < count and time.time() < end:
        for member in members:
            message = member.poll(0.05)
            if message is not None:
                assert message.error() is None, message.error()
                got.append(message.value())
    assert len(got) == count, f"{len(got)} of {count}"
    return got


def until(members, what, seconds=40):
    end = time.time() + seconds
    while not what():
        assert time.time() < end, [member.assignment() for member in members]
        for member in members:
            message = member.poll(0.05)
            assert message is None or message.error() is None, message.error()


def parts(member):
    return {part.partition for part in member.assignment()}


def both(members):
    one, two = (parts(member) for member in members)
    return len(one) == 2 and len(two) == 2 and not one & two


for strategy in ["range", "cooperative-sticky"]:
    group = f"rd-{strategy}"
    revoked = []
    first = consumer(group, partition_assignment_strategy=strategy)
    first.subscribe([topic], on_revoke=lambda _, parts: revoked.append(len(parts)))
    assert len(set(read([first], ALL))) == ALL
    first.commit(asynchronous=False)
    second = consumer(group, partition_assignment_strategy=strategy)
    second.subscribe([topic])
    until([first, second], lambda: both([first, second]))
    assert sum(revoked) == (4 if strategy == "range" else 2), revoked
    holds(f"two members share the partitions ({strategy})")
    second.close()
    until([first], lambda: len(parts(first)) == 4)
    first.close()
holds("who stays gets the partitions of who leaves")

# Instances keep their partitions over a restart; nobody shares anew.
rebalances = []
first = consumer("rd-static", group_instance_id="one")
first.subscribe([topic], on_assign=lambda _, parts: rebalances.append(len(parts)))
second = consumer("rd-static", group_instance_id="two")
second.subscribe([topic])
until([first, second], lambda: both([first, second]))
had, seen = parts(second), len(rebalances)
second.close()
again = consumer("rd-static", group_instance_id="two")
again.subscribe([topic])
until([first, again], lambda: len(parts(again)) == 2)
assert parts(again) == had and len(rebalances) == seen, rebalances
holds("an instance comes back to its partitions, and the other never notices")
thief = consumer("rd-static", group_instance_id="two")
thief.subscribe([topic])
end = time.time() + 20
fenced = False
while not fenced:
    assert time.time() < end, "it was not fenced"
    thief.poll(0.05)
    message = again.poll(0.05)
    fenced = message is not None and message.error() is not None and \
        message.error().code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)
holds("an instance that another process takes over is fenced")
for member in (first, again, thief):
    member.close()

commits = consumer("rd-meta")
place = TopicPartition(topic, 2, 11, "eleven, für später")
assert commits.commit(offsets=[place], asynchronous=False)[0].error is None
back = commits.committed([TopicPartition(topic, 2), TopicPartition(topic, 3)])
assert (back[0].offset, back[0].metadata, back[1].offset) == (11, "eleven, für später", -1001), back
long = TopicPartition(topic, 2, 12, "x" * 5000)
try:
    commits.commit(offsets=[long], asynchronous=False)
    raise AssertionError("it was kept")
except Exception as error:
    assert error.args[0].code() == KafkaError.OFFSET_METADATA_TOO_LARGE, error
commits.close()
holds("offsets are committed and read without members, with what is kept beside them")

admin = AdminClient({"bootstrap.servers": address})
listed = admin.list_consumer_groups().result(20).valid
assert {"rd-meta", "rd-range"} <= {group.group_id for group in listed}, listed
reads = consumer("rd-range")
reads.subscribe([topic])
until([reads], lambda: len(parts(reads)) == 4)
described = admin.describe_consumer_groups(["rd-range"])["rd-range"].result(20)
assert described.state.name == "STABLE" and len(described.members) == 1, described
assert len(described.members[0].assignment.topic_partitions) == 4
try:
    admin.delete_consumer_groups(["rd-range"])["rd-range"].result(20)
    raise AssertionError("it was deleted")
except Exception as error:
    assert error.args[0].code() == KafkaError.NON_EMPTY_GROUP, error
reads.close()
asked = [ConsumerGroupTopicPartitions("rd-range", [TopicPartition(topic, 1)])]
found = admin.list_consumer_group_offsets(asked)["rd-range"].result(20)
assert found.topic_partitions[0].offset == 25, found.topic_partitions
moved = [ConsumerGroupTopicPartitions("rd-range", [TopicPartition(topic, 1, 3)])]
admin.alter_consumer_group_offsets(moved)["rd-range"].result(20)
found = admin.list_consumer_group_offsets(asked)["rd-range"].result(20)
assert found.topic_partitions[0].offset == 3, found.topic_partitions
admin.delete_consumer_groups(["rd-range"])["rd-range"].result(20)
listed = admin.list_consumer_groups().result(20).valid
assert "rd-range" not in {group.group_id for group in listed}
holds("groups are listed, described, moved and deleted")
