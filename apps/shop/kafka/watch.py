"""What the shop tells: `watch.py HOST:PORT COUNT` prints COUNT messages of `logistics-topic`."""

import json
import sys

from kafka import KafkaConsumer

address, count = sys.argv[1], int(sys.argv[2])
consumer = KafkaConsumer(
    "logistics-topic",
    bootstrap_servers=address,
    group_id="watch",
    auto_offset_reset="earliest",
    consumer_timeout_ms=60_000,
    value_deserializer=json.loads,
)
for record in consumer:
    if record.value["type"].startswith("order-"):
        print(record.key.decode(), json.dumps(record.value), flush=True)
        count -= 1
    if count == 0:
        break
consumer.close()
sys.exit(count)
