import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * The server is killed and comes back while clients are at work. Prints {@code kill}, and goes on
 * when a line comes.
 */
public final class Restart implements Door.Case {
    private static final int PARTITIONS = 3;
    private static final int KILLS = 3;

    @Override
    public void run(Door door) throws Exception {
        door.create("lasting", PARTITIONS);
        var stop = new AtomicBoolean();
        var wrong = new AtomicReference<Throwable>();
        var sent = new ArrayList<Integer>(List.of(0, 0, 0));
        var sending = worker(wrong, () -> produce(door, stop, sent));
        var settled = new ArrayList<String>();
        var dropped = new ArrayList<String>();
        var settling = worker(wrong, () -> settle(door, stop, settled, dropped));
        var member = new Door.Member(door.consumer("group.id", "lasting", "isolation.level", "read_committed"), "lasting");
        for (var kill = 1; kill <= KILLS; kill++) {
            var more = member.read.size() + 100;
            Door.until(() -> member.read.size() > more || wrong.get() != null, List.of(member));
            System.out.println("kill");
            System.out.flush();
            Door.check(System.in.read() == '\n', "a line comes when the server is back");
        }
        var more = member.read.size() + 100;
        Door.until(() -> member.read.size() > more || wrong.get() != null, List.of(member));
        stop.set(true);
        sending.join();
        settling.join();
        if (wrong.get() != null) {
            throw new AssertionError(wrong.get());
        }
        member.consumer.close();
        compare(door, sent, settled);
        for (var one : member.read) {
            Door.check(!dropped.contains(one), one);
        }
    }

    private static Thread worker(AtomicReference<Throwable> wrong, Door.Runs runs) {
        var thread = new Thread(() -> {
            try {
                runs.run();
            } catch (Throwable failed) {
                wrong.set(failed);
            }
        });
        thread.start();
        return thread;
    }

    /** Numbers each partition's records; all must be acknowledged in the end. */
    private static void produce(Door door, AtomicBoolean stop, List<Integer> sent)
            throws Exception {
        try (var producer = door.producer("retry.backoff.max.ms", "100")) {
            while (!stop.get()) {
                var acknowledged = new ArrayList<java.util.concurrent.Future<?>>();
                for (var number = 0; number < 20; number++) {
                    var partition = number % PARTITIONS;
                    var value = "n" + sent.get(partition);
                    sent.set(partition, sent.get(partition) + 1);
                    acknowledged.add(
                            producer.send(new ProducerRecord<>("lasting", partition, null, value)));
                }
                for (var one : acknowledged) {
                    one.get();
                }
            }
        }
    }

    /** Transactions of two records over two partitions, every third of them aborted. */
    private static void settle(
            Door door, AtomicBoolean stop, List<String> settled, List<String> dropped) {
        try (var producer =
                door.producer("transactional.id", "lasting", "retry.backoff.max.ms", "100")) {
            producer.initTransactions();
            for (var number = 0; !stop.get(); number++) {
                producer.beginTransaction();
                var value = "t" + number;
                producer.send(new ProducerRecord<>("lasting", 0, null, value));
                producer.send(new ProducerRecord<>("lasting", 1, null, value));
                if (number % 3 == 2) {
                    producer.abortTransaction();
                    dropped.add(value);
                } else {
                    producer.commitTransaction();
                    settled.add(value);
                }
            }
        }
    }

    private static void compare(Door door, List<Integer> sent, List<String> settled) {
        Map<Integer, List<ConsumerRecord<String, String>>> seen;
        try (var consumer = door.consumer("isolation.level", "read_committed")) {
            seen = Door.all(consumer, Door.partitions("lasting", PARTITIONS));
        }
        var values = new HashMap<Integer, List<String>>();
        seen.forEach((partition, records) -> values.put(partition, Door.values(records)));
        for (var partition = 0; partition < PARTITIONS; partition++) {
            var numbers = values.get(partition).stream().filter(one -> one.startsWith("n"));
            Door.same(Door.numbered("n", sent.get(partition)), numbers.toList());
        }
        Door.holds("what was acknowledged is there once and in order after " + KILLS + " kills");
        for (var partition : List.of(0, 1)) {
            var ours = values.get(partition).stream().filter(one -> one.startsWith("t"));
            Door.same(settled, ours.toList());
        }
        Door.holds("transactions are there whole or not at all after " + KILLS + " kills");
    }
}
