"""Orders over Kafka: `orders.py HOST:PORT [COUNT]` sends COUNT orders to `order-topic`, changes the
second, gives the third up and has the others paid and confirmed."""

import json
import sys

from kafka import KafkaProducer

address = sys.argv[1]
count = int(sys.argv[2]) if len(sys.argv) > 2 else 4
producer = KafkaProducer(
    bootstrap_servers=address,
    key_serializer=str.encode,
    value_serializer=lambda value: json.dumps(value).encode(),
)


def send(kind, order, **data):
    # The key keeps what is said of one order in turn.
    message = {"type": kind, "data": {"order_id": order, **data}}
    producer.send("order-topic", key=str(order), value=message).get(timeout=20)


for order in range(1, count + 1):
    send("order-create", order, user_id=7, products=[{"product_id": 1, "quantity": 2}])
    if order == 2:
        send("order-update", order, products=[{"product_id": 2, "quantity": 1}])
    if order == 3:
        send("order-delete", order)
    else:
        send("order-update", order, status="confirmed")
producer.close()
print(f"sent {count} orders")
