import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.RecordTooLargeException;

/** What is produced with each codec comes back as it was sent. */
public final class Records implements Door.Case {
    private static final int EACH = 300;

    @Override
    public void run(Door door) throws Exception {
        for (var codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            var topic = "records-" + codec;
            door.create(topic, 2);
            produce(door, topic, codec);
            compare(door, topic);
            Door.holds("records of " + codec + " come back as they were sent");
        }
        tooLarge(door);
        keyless(door);
    }

    /** The record without a key is blamed, not those that came in a batch with it. */
    private static void keyless(Door door) throws Exception {
        var topic = new NewTopic("compacted", 1, (short) 1);
        topic.configs(Map.of("cleanup.policy", "compact"));
        door.admin.createTopics(List.of(topic)).all().get();
        try (var producer = door.producer("linger.ms", "1000")) {
            var sent = new ArrayList<Future<RecordMetadata>>();
            for (var key : new String[] {"a", null, "b"}) {
                sent.add(producer.send(new ProducerRecord<>("compacted", key, "value")));
            }
            producer.flush();
            var blamed = new ArrayList<Boolean>();
            for (var one : sent) {
                var why = Door.fails(KafkaException.class, one::get);
                blamed.add(why instanceof InvalidRecordException);
            }
            Door.same(List.of(false, true, false), blamed);
        }
        Door.holds("of a batch for a compacted topic the record without a key is blamed");
    }

    private static void produce(Door door, String topic, String codec) throws Exception {
        try (var producer = door.producer("compression.type", codec, "linger.ms", "2")) {
            var sent = new ArrayList<Future<RecordMetadata>>();
            for (var number = 0; number < EACH; number++) {
                var key = number % 3 == 0 ? null : "key-" + number;
                var value = number % 7 == 0 ? null : "value-" + number + "-" + "x".repeat(number);
                var record =
                        new ProducerRecord<>(topic, number % 2, 1000L + number, key, value);
                record.headers().add("h", Door.bytes("first")).add("h", Door.bytes("" + number));
                record.headers().add("none", null);
                sent.add(producer.send(record));
            }
            for (var number = 0; number < EACH; number++) {
                Door.same((long) number / 2, sent.get(number).get().offset());
            }
        }
    }

    private static void compare(Door door, String topic) {
        try (var consumer = door.consumer()) {
            var seen = Door.all(consumer, Door.partitions(topic, 2));
            for (var number = 0; number < EACH; number++) {
                var record = seen.get(number % 2).get(number / 2);
                Door.same((long) number / 2, record.offset());
                Door.same(1000L + number, record.timestamp());
                Door.check((number % 3 == 0) == (record.key() == null), record);
                Door.check((number % 7 == 0) == (record.value() == null), record);
                if (number % 7 != 0) {
                    Door.same("value-" + number + "-" + "x".repeat(number), record.value());
                }
                var headers = record.headers().toArray();
                Door.same(3, headers.length);
                Door.same("first", new String(headers[0].value()));
                Door.same("" + number, new String(headers[1].value()));
                Door.check(headers[2].value() == null, record);
            }
        }
    }

    private static void tooLarge(Door door) {
        try (var producer = door.producer("max.request.size", "3000000")) {
            var record = new ProducerRecord<String, String>("records-none", 0, null, "y".repeat(2_000_000));
            Door.fails(RecordTooLargeException.class, () -> producer.send(record).get());
            Door.check(
                    producer.send(new ProducerRecord<>("records-none", "small")) != null, "sent");
        }
        Door.holds("a record that is too large is refused");
    }
}
