import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Produced;

/**
 * Kafka Streams counts words: {@code WordCount HOST:PORT FOLDER GUARANTEE}. It is closed in the
 * middle and started again without its local state, which it then has to restore.
 */
public final class WordCount {
    private static final int LINES = 300;
    private static final Duration PATIENCE = Duration.ofSeconds(120);

    public static void main(String[] args) throws Exception {
        var address = args[0];
        var guarantee = args[2];
        var lines = "lines-" + guarantee;
        var counts = "counts-" + guarantee;
        var common = Map.<String, Object>of("bootstrap.servers", address);
        try (var admin = Admin.create(common)) {
            var topics = List.of(new NewTopic(lines, 2, (short) 1), new NewTopic(counts, 2, (short) 1));
            admin.createTopics(topics).all().get();
        }
        for (var half = 1; half <= 2; half++) {
            var state = Path.of(args[1], guarantee + half).toString();
            try (var streams = new KafkaStreams(
                    topology(lines, counts).build(), settings(address, guarantee, state))) {
                streams.setUncaughtExceptionHandler(
                        wrong -> {
                            wrong.printStackTrace();
                            Runtime.getRuntime().halt(1);
                            return null;
                        });
                streams.start();
                produce(common, lines);
                compare(address, counts, half);
            }
        }
        System.out.println("holds: words are counted with " + guarantee + ", over a restart too");
    }

    private static StreamsBuilder topology(String lines, String counts) {
        var builder = new StreamsBuilder();
        KTable<String, Long> table = builder.<String, String>stream(lines)
                .flatMapValues(line -> List.of(line.split(" ")))
                .groupBy((key, word) -> word)
                .count();
        table.toStream().to(counts, Produced.with(Serdes.String(), Serdes.Long()));
        return builder;
    }

    private static Properties settings(String address, String guarantee, String state) {
        var settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "words-" + guarantee);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, address);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, guarantee);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, state);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put("auto.offset.reset", "earliest");
        return settings;
    }

    private static void produce(Map<String, Object> common, String lines) {
        try (var producer =
                new KafkaProducer<>(common, new StringSerializer(), new StringSerializer())) {
            for (var number = 0; number < LINES; number++) {
                var line = "every line number" + number % 10 + " word";
                producer.send(new ProducerRecord<>(lines, number % 2, null, line));
            }
        }
    }

    /** Waits for the counts, and wants no other ones. */
    private static void compare(String address, String counts, int half) {
        var wanted = new TreeMap<String, Long>();
        for (var word : List.of("every", "line", "word")) {
            wanted.put(word, (long) LINES * half);
        }
        for (var number = 0; number < 10; number++) {
            wanted.put("number" + number, (long) LINES / 10 * half);
        }
        var seen = new TreeMap<String, Long>();
        var settings = Map.<String, Object>of(
                "bootstrap.servers", address, "group.id", counts + half,
                "auto.offset.reset", "earliest", "isolation.level", "read_committed");
        try (var consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), new LongDeserializer())) {
            consumer.subscribe(Set.of(counts));
            var end = System.nanoTime() + PATIENCE.toNanos();
            while (!seen.equals(wanted)) {
                if (System.nanoTime() > end) {
                    throw new AssertionError("wanted " + wanted + ", seen " + seen);
                }
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    var before = seen.put(record.key(), record.value());
                    if (before != null && before > record.value()) {
                        throw new AssertionError(record.key() + " went back from " + before
                                + " to " + record.value());
                    }
                }
            }
        }
    }
}
