import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Kafka's own Java clients against the door: {@code Door HOST:PORT CASE...}. Prints
 * {@code holds: ...} for each behaviour that it saw, and ends with 1 at the first that it did not
 * see. A case is a class with the method {@code run(Door)}.
 */
public final class Door {
    static final Duration PATIENCE = Duration.ofSeconds(60);
    private static final Duration POLL = Duration.ofMillis(100);

    final String address;
    final Admin admin;

    private Door(String address) {
        this.address = address;
        this.admin = Admin.create(settings());
    }

    interface Case {
        void run(Door door) throws Exception;
    }

    public static void main(String[] args) throws Exception {
        var door = new Door(args[0]);
        try {
            for (var name : Arrays.copyOfRange(args, 1, args.length)) {
                var start = System.nanoTime();
                var one = (Case) Class.forName(name).getDeclaredConstructor().newInstance();
                one.run(door);
                System.err.printf("%s: %d ms%n", name, (System.nanoTime() - start) / 1_000_000);
            }
        } catch (Throwable wrong) {
            wrong.printStackTrace();
            System.err.flush();
            Runtime.getRuntime().halt(1);
        }
        door.admin.close();
    }

    static void holds(String what) {
        System.out.println("holds: " + what);
        System.out.flush();
    }

    static void check(boolean right, Object told) {
        if (!right) {
            throw new AssertionError(told);
        }
    }

    static void same(Object wanted, Object seen) {
        check(wanted.equals(seen), "wanted " + wanted + ", seen " + seen);
    }

    /** Runs what has to fail, also within an execution, and answers how. */
    static <E extends Throwable> E fails(Class<E> how, Runs what) {
        try {
            what.run();
        } catch (Throwable wrong) {
            for (var one = wrong; one != null; one = one.getCause()) {
                if (how.isInstance(one)) {
                    return how.cast(one);
                }
            }
            throw new AssertionError("wanted " + how + ", seen " + wrong, wrong);
        }
        throw new AssertionError("wanted " + how + ", nothing failed");
    }

    interface Runs {
        void run() throws Exception;
    }

    /** Polls these consumers until it is so. */
    static void until(BooleanSupplier so, List<Member> members) {
        var end = System.nanoTime() + PATIENCE.toNanos();
        while (!so.getAsBoolean()) {
            check(System.nanoTime() < end, "it did not come to be: " + members);
            members.forEach(Member::poll);
        }
    }

    Properties settings(String... pairs) {
        var settings = new Properties();
        settings.put("bootstrap.servers", address);
        for (var at = 0; at < pairs.length; at += 2) {
            settings.put(pairs[at], pairs[at + 1]);
        }
        return settings;
    }

    /** A producer with Kafka's defaults: idempotent, all acknowledgements. */
    Producer<String, String> producer(String... pairs) {
        return new KafkaProducer<>(
                settings(pairs), new StringSerializer(), new StringSerializer());
    }

    Consumer<String, String> consumer(String... pairs) {
        var settings = settings(pairs);
        settings.putIfAbsent("auto.offset.reset", "earliest");
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    void create(String topic, int partitions) throws Exception {
        admin.createTopics(Set.of(new NewTopic(topic, partitions, (short) 1))).all().get();
    }

    static List<TopicPartition> partitions(String topic, int count) {
        var all = new ArrayList<TopicPartition>();
        for (var number = 0; number < count; number++) {
            all.add(new TopicPartition(topic, number));
        }
        return all;
    }

    /** Everything of a topic up to the end as this consumer sees it, partition by partition. */
    static Map<Integer, List<ConsumerRecord<String, String>>> all(
            Consumer<String, String> consumer, List<TopicPartition> partitions) {
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        var ends = consumer.endOffsets(partitions);
        var seen = new TreeMap<Integer, List<ConsumerRecord<String, String>>>();
        partitions.forEach(one -> seen.put(one.partition(), new ArrayList<>()));
        var end = System.nanoTime() + PATIENCE.toNanos();
        while (partitions.stream().anyMatch(one -> consumer.position(one) < ends.get(one))) {
            check(System.nanoTime() < end, "the end of " + partitions + " does not come");
            for (var record : consumer.poll(POLL)) {
                seen.get(record.partition()).add(record);
            }
        }
        return seen;
    }

    static List<String> values(List<ConsumerRecord<String, String>> records) {
        return records.stream().map(ConsumerRecord::value).toList();
    }

    /** The values of one partition that this isolation shows. */
    List<String> read(String topic, String isolation) {
        try (var consumer = consumer("isolation.level", isolation)) {
            return values(all(consumer, partitions(topic, 1)).get(0));
        }
    }

    static List<String> numbered(String word, int count) {
        var all = new ArrayList<String>();
        for (var number = 0; number < count; number++) {
            all.add(word + number);
        }
        return all;
    }

    static void send(Producer<String, String> producer, String topic, List<String> values) {
        values.forEach(value -> producer.send(new ProducerRecord<>(topic, 0, null, value)));
        producer.flush();
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** A member of a group that keeps what it was given, what was taken, and what it read. */
    static final class Member implements org.apache.kafka.clients.consumer.ConsumerRebalanceListener {
        final Consumer<String, String> consumer;
        final Set<Integer> has = new TreeSet<>();
        final List<String> read = new ArrayList<>();
        int revoked;
        int rounds;
        int lost;
        RuntimeException failed;

        Member(Consumer<String, String> consumer, String topic) {
            this.consumer = consumer;
            consumer.subscribe(List.of(topic), this);
        }

        /** One that was subscribed by somebody else, who looks at what it has. */
        Member(Consumer<String, String> consumer) {
            this.consumer = consumer;
        }

        void poll() {
            try {
                consumer.poll(POLL).forEach(record -> read.add(record.value()));
            } catch (RuntimeException wrong) {
                failed = wrong;
            }
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> given) {
            rounds++;
            given.forEach(one -> has.add(one.partition()));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> taken) {
            revoked += taken.size();
            taken.forEach(one -> has.remove(one.partition()));
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> taken) {
            lost++;
            taken.forEach(one -> has.remove(one.partition()));
        }

        @Override
        public String toString() {
            return has + " after " + rounds + " rounds, " + revoked + " revoked, read "
                    + read.size() + ", " + failed;
        }
    }
}
