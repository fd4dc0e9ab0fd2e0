"""Consumer groups with aiokafka: `groups_aiokafka.py HOST:PORT TOPIC`.

The topic has four partitions with 25 records each. Prints a line for each behaviour that holds."""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, TopicPartition

address, topic = sys.argv[1:]
ALL = 100


def consumer():
    return AIOKafkaConsumer(
        topic,
        bootstrap_servers=address,
        group_id="aio",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=10000,
        heartbeat_interval_ms=300,
    )


async def shared(one, two):
    while not (len(one.assignment()) == 2 and len(two.assignment()) == 2):
        await asyncio.gather(one.getmany(timeout_ms=50), two.getmany(timeout_ms=50))


async def main():
    one = consumer()
    await one.start()
    got = set()
    while len(got) < ALL:
        got.add((await one.getone()).value)
    await one.commit({TopicPartition(topic, 0): (25, "as far as here")})
    print("holds: a member reads everything", flush=True)
    two = consumer()
    await two.start()
    await shared(one, two)
    assert not one.assignment() & two.assignment()
    print("holds: two members share the partitions", flush=True)
    await one.stop()
    while len(two.assignment()) != 4:
        await two.getmany(timeout_ms=50)
    assert await two.committed(TopicPartition(topic, 0)) == 25
    await two.stop()
    print("holds: who stays gets the partitions of who leaves", flush=True)


asyncio.run(asyncio.wait_for(main(), 60))
