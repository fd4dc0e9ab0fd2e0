import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;

/** Transactions: what is aborted or open is not seen, offsets go with records, old ones are fenced. */
public final class Transactions implements Door.Case {
    @Override
    public void run(Door door) throws Exception {
        door.create("bank", 1);
        door.create("orders", 1);
        seen(door);
        offsets(door);
        fenced(door);
    }

    private static void seen(Door door) {
        try (var producer = door.producer("transactional.id", "teller")) {
            producer.initTransactions();
            producer.beginTransaction();
            Door.send(producer, "bank", Door.numbered("kept-", 3));
            producer.commitTransaction();
            producer.beginTransaction();
            Door.send(producer, "bank", Door.numbered("dropped-", 3));
            producer.abortTransaction();
            producer.beginTransaction();
            Door.send(producer, "bank", List.of("open"));
            try (var other = door.producer()) {
                Door.send(other, "bank", List.of("behind"));
            }
            var kept = List.of("kept-0", "kept-1", "kept-2");
            Door.same(kept, door.read("bank", "read_committed"));
            Door.same(8, door.read("bank", "read_uncommitted").size());
            Door.holds("who reads what is committed stops before an open transaction");
            producer.commitTransaction();
            var all = List.of("kept-0", "kept-1", "kept-2", "open", "behind");
            Door.same(all, door.read("bank", "read_committed"));
            Door.holds("what was aborted is passed over, what is committed is read");
        }
    }

    private static void offsets(Door door) throws Exception {
        var partition = new TopicPartition("orders", 0);
        try (var producer = door.producer()) {
            Door.send(producer, "orders", Door.numbered("order-", 10));
        }
        try (var producer = door.producer("transactional.id", "copier");
                var consumer = door.consumer("group.id", "copiers", "enable.auto.commit", "false")) {
            producer.initTransactions();
            var member = new Door.Member(consumer, "orders");
            Door.until(() -> member.read.size() == 10, List.of(member));
            var to = Map.of(partition, new OffsetAndMetadata(4, "four"));
            producer.beginTransaction();
            producer.send(new ProducerRecord<>("bank", "a"));
            producer.sendOffsetsToTransaction(to, consumer.groupMetadata());
            producer.abortTransaction();
            Door.check(committed(door) == null, "what was aborted is not committed");
            producer.beginTransaction();
            producer.send(new ProducerRecord<>("bank", "b"));
            producer.sendOffsetsToTransaction(to, consumer.groupMetadata());
            producer.commitTransaction();
            Door.same(4L, committed(door).offset());
            Door.same("four", committed(door).metadata());
            var values = door.read("bank", "read_committed");
            Door.same("b", values.get(values.size() - 1));
            Door.check(!values.contains("a"), values);
            Door.holds("offsets are committed with the records of their transaction, or not at all");
            producer.beginTransaction();
            var old = new ConsumerGroupMetadata("copiers", 0, "nobody", java.util.Optional.empty());
            Door.fails(
                    org.apache.kafka.common.KafkaException.class,
                    () -> {
                        producer.sendOffsetsToTransaction(to, old);
                        producer.commitTransaction();
                    });
            producer.abortTransaction();
            Door.holds("offsets of one who is no member fail their transaction");
        }
    }

    private static OffsetAndMetadata committed(Door door) throws Exception {
        var offsets = door.admin.listConsumerGroupOffsets("copiers");
        return offsets.partitionsToOffsetAndMetadata().get().get(new TopicPartition("orders", 0));
    }

    private static void fenced(Door door) {
        try (var old = door.producer("transactional.id", "one");
                var young = door.producer("transactional.id", "one")) {
            old.initTransactions();
            old.beginTransaction();
            Door.send(old, "bank", List.of("of the old one"));
            young.initTransactions();
            Door.fails(ProducerFencedException.class, old::commitTransaction);
            young.beginTransaction();
            Door.send(young, "bank", List.of("of the young one"));
            young.commitTransaction();
        }
        var values = door.read("bank", "read_committed");
        Door.same("of the young one", values.get(values.size() - 1));
        Door.check(!values.contains("of the old one"), values);
        Door.holds("a second producer with one transactional id fences the first");
    }
}
