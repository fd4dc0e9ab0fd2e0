"""Consumer groups of the newer protocol (KIP-848) with confluent-kafka (librdkafka):
`consumer_groups_confluent.py HOST:PORT TOPIC`, and with a third word GROUP a member that prints
what it reads until it is killed.

The topic has four partitions with 25 records each. Prints a line for each behaviour that holds."""

import subprocess
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

address, topic = sys.argv[1:3]
ALL = 100


def consumer(group, **more):
    settings = {
        "bootstrap.servers": address,
        "group.id": group,
        "group.protocol": "consumer",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "topic.metadata.refresh.interval.ms": 1000,
    }
    settings.update({key.replace("_", "."): value for key, value in more.items()})
    return Consumer(settings)


if len(sys.argv) > 3:
    member = consumer(sys.argv[3])
    member.subscribe([topic], on_assign=lambda _, parts: print("has", len(parts), flush=True))
    while True:
        member.poll(0.1)


def holds(what):
    print(f"holds: {what}", flush=True)


def poll(members, each):
    for member in members:
        message = member.poll(0.05)
        if message is not None:
            assert message.error() is None, message.error()
            each(message)


def parts(member):
    return {part.partition for part in member.assignment()}


def shared(members, sizes):
    had = [parts(member) for member in members]
    assert sum(map(len, had)) == len(set().union(*had)), f"two have one: {had}"
    return sorted(map(len, had)) == sizes


def until(members, what, each=lambda _: None, seconds=40):
    end = time.time() + seconds
    while not what():
        assert time.time() < end, [member.assignment() for member in members]
        poll(members, each)


for assignor in ["uniform", "range"]:
    group, read = f"new-{assignor}", []

    def keep(message):
        read.append(message.value())

    def store(consumer, parts):
        """Commits what is given back, so that nobody reads it again."""
        if read:
            try:
                consumer.commit(asynchronous=False)
            except KafkaException as error:
                assert error.args[0].code() == KafkaError._NO_OFFSET, error

    first = consumer(group, group_remote_assignor=assignor)
    first.subscribe([topic], on_revoke=store)
    until([first], lambda: len(read) == ALL, keep)
    assert len(set(read)) == ALL
    second = consumer(group, group_remote_assignor=assignor)
    second.subscribe([topic], on_revoke=store)
    until([first, second], lambda: shared([first, second], [2, 2]), keep)
    third = consumer(group, group_remote_assignor=assignor)
    third.subscribe([topic], on_revoke=store)
    all_three = [first, second, third]
    until(all_three, lambda: shared(all_three, [1, 1, 2]), keep)
    assert len(read) == ALL, "what was committed came again"
    holds(f"members share the partitions, and no partition is two members' ({assignor})")
    third.close()
    second.close()
    until([first], lambda: len(parts(first)) == 4, keep)
    first.close()
holds("who stays gets the partitions of who leaves")

other = subprocess.Popen([sys.executable, "-u", *sys.argv, "new-killed"], stdout=subprocess.PIPE)
assert other.stdout.readline() == b"has 4\n"
stays = consumer("new-killed")
stays.subscribe([topic])
until([stays], lambda: len(parts(stays)) == 2)
other.kill()
other.wait()
until([stays], lambda: len(parts(stays)) == 4)
stays.close()
holds("who stays gets the partitions of who is killed")

rebalances = []
one = consumer("new-static", group_instance_id="one")
one.subscribe([topic], on_assign=lambda _, parts: rebalances.append(len(parts)))
two = consumer("new-static", group_instance_id="two")
two.subscribe([topic])
until([one, two], lambda: shared([one, two], [2, 2]))
had, seen = parts(two), len(rebalances)
two.close()
again = consumer("new-static", group_instance_id="two")
again.subscribe([topic])
until([one, again], lambda: len(parts(again)) == 2)
assert parts(again) == had and len(rebalances) == seen, rebalances
holds("an instance comes back to its partitions, and the other never notices")
one.close()
again.close()

matching = consumer("new-regex")
matching.subscribe([f"^{topic[0]}.*{topic[-1]}$"])
until([matching], lambda: len(parts(matching)) == 4)
holds("topics that match an expression are read")

admin = AdminClient({"bootstrap.servers": address})
listed = {group.group_id for group in admin.list_consumer_groups().result(20).valid}
assert {"new-regex", "new-uniform"} <= listed, listed
try:
    admin.delete_consumer_groups(["new-regex"])["new-regex"].result(20)
    raise AssertionError("it was deleted")
except KafkaException as error:
    assert error.args[0].code() == KafkaError.NON_EMPTY_GROUP, error
matching.close()
end = time.time() + 20
while True:
    try:
        admin.delete_consumer_groups(["new-regex"])["new-regex"].result(20)
        break
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.NON_EMPTY_GROUP and time.time() < end, error
holds("groups are listed, and deleted when they are empty")
