import java.time.Duration;
import java.util.List;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/**
 * A consumer of many partitions, which its fetch session has: what comes to one of them is read,
 * and so is what comes to partitions that it adds, but not to those that it left.
 */
public final class Sessions implements Door.Case {
    private static final int PARTITIONS = 50;
    private static final int EACH = 60;

    @Override
    public void run(Door door) throws Exception {
        door.create("many", PARTITIONS);
        var all = Door.partitions("many", PARTITIONS);
        try (var producer = door.producer();
                var consumer = door.consumer("fetch.max.wait.ms", "20")) {
            var expected = new TreeSet<String>();
            var seen = new TreeSet<String>();
            round(producer, consumer, all.subList(0, 40), "first", expected, seen);
            round(producer, consumer, all.subList(10, 50), "second", expected, seen);
            // What came to the new ones before is there, too.
            for (var number = 0; number < EACH; number++) {
                if (partition(number) >= 40) {
                    expected.add("first-" + number);
                }
            }
            read(consumer, expected, seen);
        }
        Door.holds("a session goes on while partitions are added and left");
    }

    private static int partition(int number) {
        return number * 7 % PARTITIONS;
    }

    private static void round(
            Producer<String, String> producer,
            Consumer<String, String> consumer,
            List<TopicPartition> assigned,
            String name,
            TreeSet<String> expected,
            TreeSet<String> seen)
            throws Exception {
        consumer.assign(assigned);
        for (var number = 0; number < EACH; number++) {
            var value = name + "-" + number;
            var to = partition(number);
            producer.send(new ProducerRecord<>("many", to, null, value)).get();
            if (assigned.contains(new TopicPartition("many", to))) {
                expected.add(value);
                read(consumer, new TreeSet<>(List.of(value)), seen);
            }
        }
    }

    private static void read(
            Consumer<String, String> consumer, TreeSet<String> expected, TreeSet<String> seen) {
        var end = System.nanoTime() + Door.PATIENCE.toNanos();
        while (!seen.containsAll(expected)) {
            Door.check(System.nanoTime() < end, "not read: " + expected + " of " + seen);
            for (var record : consumer.poll(Duration.ofMillis(100))) {
                Door.check(seen.add(record.value()), record.value() + " came twice");
                var there = consumer.assignment();
                var from = new TopicPartition(record.topic(), record.partition());
                Door.check(there.contains(from), from + " is not assigned");
            }
        }
    }
}
