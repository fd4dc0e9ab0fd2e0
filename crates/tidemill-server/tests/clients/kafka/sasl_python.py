"""Stock Python clients that log in: `sasl_python.py HOST:PORT USER PASSWORD [CA]`.

With CA, a certificate in PEM, they speak TLS. Prints a line for each behaviour that holds; the
first that does not ends with an error."""

import asyncio
import ssl
import sys

import aiokafka
import confluent_kafka
import kafka

address, user, password, *ca = sys.argv[1:]
ca = ca[0] if ca else None
PROTOCOL = "SASL_SSL" if ca else "SASL_PLAINTEXT"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def holds(what):
    print(f"holds: {what}", flush=True)


def of_kafka_python(mechanism):
    # It does not escape names for SCRAM by itself.
    escaped = user.replace("=", "=3D").replace(",", "=2C")
    name = user if mechanism == "PLAIN" else escaped
    return {
        "bootstrap_servers": address,
        "security_protocol": PROTOCOL,
        "sasl_mechanism": mechanism,
        "sasl_plain_username": name,
        "sasl_plain_password": password,
        "ssl_cafile": ca,
    }


def of_librdkafka(mechanism, word=password):
    settings = {
        "bootstrap.servers": address,
        "security.protocol": PROTOCOL,
        "sasl.mechanism": mechanism,
        "sasl.username": user,
        "sasl.password": word,
    }
    return settings | ({"ssl.ca.location": ca} if ca else {})


def kafka_python(mechanism):
    topic = f"kp-{mechanism}"
    producer = kafka.KafkaProducer(**of_kafka_python(mechanism))
    producer.send(topic, b"hello").get(30)
    producer.close()
    consumer = kafka.KafkaConsumer(
        topic,
        auto_offset_reset="earliest",
        consumer_timeout_ms=30_000,
        **of_kafka_python(mechanism),
    )
    assert next(consumer).value == b"hello"
    consumer.close()
    holds(f"kafka-python {kafka.__version__} with {mechanism}")


def librdkafka(mechanism):
    topic = f"rd-{mechanism}"
    producer = confluent_kafka.Producer(of_librdkafka(mechanism))
    failed = []
    producer.produce(topic, b"hello", on_delivery=lambda error, _: failed.append(error))
    assert producer.flush(30) == 0 and failed == [None], failed
    more = {"group.id": f"of-{mechanism}", "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer(of_librdkafka(mechanism) | more)
    consumer.subscribe([topic])
    message = consumer.poll(30)
    assert message is not None and message.error() is None, message
    assert message.value() == b"hello"
    consumer.close()
    holds(f"confluent-kafka with {mechanism}")


async def aio(mechanism):
    topic = f"aio-{mechanism}"
    settings = {
        "bootstrap_servers": address,
        "security_protocol": PROTOCOL,
        "sasl_mechanism": mechanism,
        "sasl_plain_username": user,
        "sasl_plain_password": password,
        "ssl_context": ssl.create_default_context(cafile=ca) if ca else None,
    }
    producer = aiokafka.AIOKafkaProducer(**settings)
    await producer.start()
    await producer.send_and_wait(topic, b"hello")
    await producer.stop()
    consumer = aiokafka.AIOKafkaConsumer(topic, auto_offset_reset="earliest", **settings)
    await consumer.start()
    assert (await consumer.getone()).value == b"hello"
    await consumer.stop()
    holds(f"aiokafka with {mechanism}")


def wrong():
    for mechanism in MECHANISMS:
        seen = []
        settings = of_librdkafka(mechanism, "wrong") | {"error_cb": seen.append}
        producer = confluent_kafka.Producer(settings)
        while not seen:
            producer.poll(1)
        code = seen[0].code()
        assert code == confluent_kafka.KafkaError._AUTHENTICATION, (mechanism, seen)
    holds("a wrong password is told as such")


def users():
    from confluent_kafka.admin import (
        AdminClient,
        ScramCredentialInfo,
        ScramMechanism,
        UserScramCredentialDeletion,
        UserScramCredentialUpsertion,
    )

    admin = AdminClient(of_librdkafka("SCRAM-SHA-512"))
    name, word = "eve, the=1st", "hers"
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    made = UserScramCredentialUpsertion(name, info, word.encode())
    for done in admin.alter_user_scram_credentials([made]).values():
        done.result(30)
    told = admin.describe_user_scram_credentials([name])[name].result(30)
    assert [one.iterations for one in told.scram_credential_infos] == [4096], told
    everybody = admin.describe_user_scram_credentials().result(30)
    assert {user, name} <= set(everybody), everybody
    hers = of_librdkafka("SCRAM-SHA-256") | {"sasl.username": name, "sasl.password": word}
    assert "rd-PLAIN" in AdminClient(hers).list_topics(timeout=30).topics
    gone = UserScramCredentialDeletion(name, ScramMechanism.SCRAM_SHA_256)
    for done in admin.alter_user_scram_credentials([gone]).values():
        done.result(30)
    assert name not in admin.describe_user_scram_credentials().result(30)
    few = UserScramCredentialUpsertion(
        "weak", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 10), b"x"
    )
    for done in admin.alter_user_scram_credentials([few]).values():
        assert done.exception(30) is not None
    holds("administrators make, list and delete users")


for mechanism in MECHANISMS:
    kafka_python(mechanism)
    librdkafka(mechanism)
    asyncio.run(asyncio.wait_for(aio(mechanism), 60))
wrong()
users()
