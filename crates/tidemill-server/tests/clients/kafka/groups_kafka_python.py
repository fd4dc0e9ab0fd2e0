"""Consumer groups with kafka-python, old and new: `groups_kafka_python.py HOST:PORT TOPIC`.

The topic has four partitions with 25 records each. Prints a line for each behaviour that holds."""

import sys
import threading
import time

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

address, topic = sys.argv[1:]
ALL = 100


def consumer(group, **more):
    return KafkaConsumer(
        topic,
        bootstrap_servers=address,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=10000,
        **more,
    )


def read(one, count, seconds=30):
    got = []
    end = time.time() + seconds
    while len(got) < count and time.time() < end:
        for records in one.poll(timeout_ms=200).values():
            got += [record.value for record in records]
    assert len(got) == count, f"{len(got)} of {count}"
    return got


def noted(offset, metadata):
    try:
        return OffsetAndMetadata(offset, metadata, -1)
    except TypeError:
        return OffsetAndMetadata(offset, metadata)


def holds(what):
    print(f"holds: {what}", flush=True)


def until(what, seconds=40):
    end = time.time() + seconds
    while not what():
        assert time.time() < end, "it never came about"
        time.sleep(0.05)


one = consumer("py")
assert len(set(read(one, ALL))) == ALL
holds("a member reads everything")
one.commit({TopicPartition(topic, 0): noted(25, "as far as here")})
one.commit()
one.commit({TopicPartition(topic, 1): noted(20, "five again, für später")})
one.close()
two = consumer("py")
got = read(two, 5)
assert two.committed(TopicPartition(topic, 0)) == 25
back = two.committed(TopicPartition(topic, 1), metadata=True)
assert (back.offset, back.metadata) == (20, "five again, für später"), back
holds("the next one goes on at the committed offsets, with what was kept beside them")

# The second member comes, and both read while they share anew.
members = [two, consumer("py")]
stop = threading.Event()


def poll(member):
    while not stop.is_set():
        member.poll(timeout_ms=100)


threads = [threading.Thread(target=poll, args=(member,)) for member in members]
for thread in threads:
    thread.start()
until(lambda: [len(member.assignment()) for member in members] == [2, 2])
assert not members[0].assignment() & members[1].assignment()
holds("two members share the partitions")

admin = KafkaAdminClient(bootstrap_servers=address)
names = [group["group_id"] if isinstance(group, dict) else group[0] for group in
         (admin.list_groups() if hasattr(admin, "list_groups") else admin.list_consumer_groups())]
assert "py" in names, names
described = admin.describe_groups(["py"]) if hasattr(admin, "describe_groups") else \
    admin.describe_consumer_groups(["py"])
text = str(described)
assert "Stable" in text and text.count("kafka-python") >= 2, text
holds("the group is listed and described")
stop.set()
for thread in threads:
    thread.join()
members[0].close()
read_on = members[1]
until(lambda: read_on.poll(timeout_ms=100) is not None and len(read_on.assignment()) == 4)
holds("who stays gets the partitions of who leaves")
read_on.close()
offsets = (admin.list_group_offsets("py") if hasattr(admin, "list_group_offsets")
           else admin.list_consumer_group_offsets("py"))
offsets = offsets.get("py", offsets)
assert offsets[TopicPartition(topic, 0)].offset == 25, offsets
deleted = (admin.delete_groups(["py"]) if hasattr(admin, "delete_groups")
           else admin.delete_consumer_groups(["py"]))
again = consumer("py")
assert again.committed(TopicPartition(topic, 0)) is None
again.close()
holds("an empty group is deleted with its offsets")
admin.close()
