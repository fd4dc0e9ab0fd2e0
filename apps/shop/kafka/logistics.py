"""A carrier over Kafka: `logistics.py HOST:PORT COUNT` takes COUNT shipments that the shop reports
to be ready on `order-topic`, ships them and delivers them by messages on `logistics-topic`."""

import json
import sys

from kafka import KafkaConsumer, KafkaProducer

address, count = sys.argv[1], int(sys.argv[2])
producer = KafkaProducer(
    bootstrap_servers=address,
    key_serializer=str.encode,
    value_serializer=lambda value: json.dumps(value).encode(),
)
consumer = KafkaConsumer(
    "order-topic",
    bootstrap_servers=address,
    group_id="carrier",
    auto_offset_reset="earliest",
    consumer_timeout_ms=60_000,
    value_deserializer=json.loads,
)
delivered = 0
for record in consumer:
    data = record.value.get("data", {})
    if record.value["type"] != "logistics-update":
        continue
    following = {"created": "shipped", "shipped": "delivered"}.get(data["status"])
    if following:
        message = {"logistics_id": data["logistics_id"], "status": following}
        message = {"type": "logistics-update", "data": message}
        producer.send("logistics-topic", key=str(data["order_id"]), value=message).get(timeout=20)
    delivered += data["status"] == "delivered"
    if delivered == count:
        break
consumer.close()
producer.close()
print(f"delivered {delivered} orders")
sys.exit(count - delivered)
