import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.BooleanSupplier;
import java.util.function.Function;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidRecordStateException;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Share groups (KIP-932): single records are taken, settled, released, rejected, and outlive the server. */
public final class Shares implements Door.Case {
    private static final Duration POLL = Duration.ofMillis(100);
    /** Longer than a busy machine keeps a member from polling. */
    private static final int LOCK = 6000;

    /** A member, with what it read and how often that was given out. */
    static final class Member {
        final KafkaShareConsumer<String, String> consumer;
        final List<String> read = new ArrayList<>();
        final Map<String, Integer> deliveries = new HashMap<>();
        /** What is said of each record; null says nothing. */
        Function<ConsumerRecord<String, String>, AcknowledgeType> verdict = record -> null;

        Member(Door door, String group, String mode, String topic, String... more) {
            var settings = door.settings(more);
            settings.put("group.id", group);
            settings.put("share.acknowledgement.mode", mode);
            consumer = new KafkaShareConsumer<>(
                    settings, new StringDeserializer(), new StringDeserializer());
            consumer.subscribe(List.of(topic));
        }

        List<ConsumerRecord<String, String>> poll() {
            var all = new ArrayList<ConsumerRecord<String, String>>();
            for (var record : consumer.poll(POLL)) {
                all.add(record);
                read.add(record.value());
                deliveries.put(record.value(), (int) record.deliveryCount().get());
                var verdict = this.verdict.apply(record);
                if (verdict != null) {
                    consumer.acknowledge(record, verdict);
                }
            }
            return all;
        }

        /** Settles what was said, and wants that it was kept. */
        void commit() {
            consumer.commitSync().forEach((part, wrong) -> Door.check(wrong.isEmpty(), wrong));
        }

        @Override
        public String toString() {
            return deliveries.toString();
        }
    }

    static void until(BooleanSupplier so, Member... members) {
        var end = System.nanoTime() + Door.PATIENCE.toNanos();
        while (!so.getAsBoolean()) {
            Door.check(System.nanoTime() < end, "it did not come to be: " + List.of(members));
            for (var member : members) {
                member.poll();
            }
        }
    }

    /** Nothing more comes. */
    private static void silent(Member member) {
        var had = member.read.size();
        var end = System.nanoTime() + Duration.ofMillis(LOCK + 1500).toNanos();
        while (System.nanoTime() < end) {
            member.poll();
        }
        Door.same(had, member.read.size());
    }

    private static void set(Door door, String group, String... pairs) throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.GROUP, group);
        var all = new ArrayList<AlterConfigOp>();
        for (var at = 0; at < pairs.length; at += 2) {
            var entry = new ConfigEntry(pairs[at], pairs[at + 1]);
            all.add(new AlterConfigOp(entry, AlterConfigOp.OpType.SET));
        }
        door.admin.incrementalAlterConfigs(Map.of(resource, all)).all().get();
        var told = door.admin.describeConfigs(List.of(resource)).all().get().get(resource);
        for (var at = 0; at < pairs.length; at += 2) {
            Door.same(pairs[at + 1], told.get(pairs[at]).value());
        }
    }

    /** A topic of one partition, and a group that begins with its first record. */
    private static void make(Door door, String topic, String group) throws Exception {
        door.create(topic, 1);
        set(door, group, "share.auto.offset.reset", "earliest",
                "share.record.lock.duration.ms", Integer.toString(LOCK));
    }

    private static List<String> send(Door door, String topic, String word, int count, String... more) {
        var values = Door.numbered(word, count);
        try (var producer = door.producer(more)) {
            Door.send(producer, topic, values);
        }
        return values;
    }

    @Override
    public void run(Door door) throws Exception {
        implicit(door);
        explicit(door);
        two(door);
        killed(door);
        limit(door);
        transactions(door);
        groups(door);
        offsets(door);
        restart(door);
    }

    private static void implicit(Door door) throws Exception {
        make(door, "shared-implicit", "shares-implicit");
        for (var codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            send(door, "shared-implicit", codec, 40, "compression.type", codec, "linger.ms", "50");
        }
        var first = new Member(door, "shares-implicit", "implicit", "shared-implicit",
                "max.poll.records", "7");
        until(() -> first.read.size() >= 120, first);
        // What was polled last is settled by a commit, not by the end.
        first.commit();
        first.consumer.close();
        var second = new Member(door, "shares-implicit", "implicit", "shared-implicit");
        until(() -> first.read.size() + second.read.size() >= 200, second);
        silent(second);
        second.consumer.close();
        var read = new HashSet<>(first.read);
        read.addAll(second.read);
        Door.same(200, read.size());
        Door.same(200, first.read.size() + second.read.size());
        // From the end on, where nothing is set.
        var third = new Member(door, "shares-latest", "implicit", "shared-implicit");
        until(() -> door.admin.describeShareGroups(List.of("shares-latest")) != null
                && joined(door, "shares-latest", 1), third);
        send(door, "shared-implicit", "late", 3);
        until(() -> third.read.size() >= 3, third);
        Door.same(Door.numbered("late", 3), third.read);
        third.consumer.close();
        Door.holds("what is polled is settled with the next poll, of packed batches too");
    }

    private static boolean joined(Door door, String group, int count) {
        try {
            var told = door.admin.describeShareGroups(List.of(group)).all().get().get(group);
            var members = told.members().stream();
            return members.filter(one -> !one.assignment().topicPartitions().isEmpty()).count() == count;
        } catch (Exception notYet) {
            return false;
        }
    }

    private static void explicit(Door door) throws Exception {
        make(door, "shared-explicit", "shares-explicit");
        send(door, "shared-explicit", "x", 6);
        var member = new Member(door, "shares-explicit", "explicit", "shared-explicit");
        member.verdict = record -> switch (record.value()) {
            case "x1" -> record.deliveryCount().get() < 3
                    ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT;
            case "x2" -> AcknowledgeType.REJECT;
            default -> AcknowledgeType.ACCEPT;
        };
        until(() -> member.deliveries.getOrDefault("x1", 0) == 3 && member.deliveries.size() == 6, member);
        member.commit();
        silent(member);
        Door.same(Map.of("x0", 1, "x1", 3, "x2", 1, "x3", 1, "x4", 1, "x5", 1), member.deliveries);
        member.consumer.close();
        Door.same(List.of("x2"), door.read("shares-explicit.deadletter", "read_committed"));
        Door.holds("accepted records are done, released ones come again, rejected ones are dead letters");
    }

    private static void two(Door door) throws Exception {
        make(door, "shared-two", "shares-two");
        String[] few = {"max.poll.records", "5"};
        var one = new Member(door, "shares-two", "implicit", "shared-two", few);
        var two = new Member(door, "shares-two", "implicit", "shared-two", few);
        until(() -> joined(door, "shares-two", 2), one, two);
        // One batch each.
        try (var producer = door.producer("linger.ms", "0")) {
            for (var value : Door.numbered("t", 200)) {
                producer.send(new ProducerRecord<>("shared-two", 0, null, value)).get();
            }
        }
        until(() -> one.read.size() + two.read.size() >= 200, one, two);
        one.poll();
        two.poll();
        Door.check(!one.read.isEmpty() && !two.read.isEmpty(), one.read.size() + " " + two.read.size());
        var read = new HashSet<>(one.read);
        read.addAll(two.read);
        Door.same(200, read.size());
        Door.same(200, one.read.size() + two.read.size());
        one.consumer.close();
        two.consumer.close();
        Door.holds("two members share the records of one partition, each read once");
    }

    private static void killed(Door door) throws Exception {
        make(door, "shared-killed", "shares-killed");
        send(door, "shared-killed", "k", 5);
        var paths = System.getProperty("java.class.path");
        var victim = new ProcessBuilder("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", paths, "Door", door.address,
                "Victim");
        victim.redirectError(ProcessBuilder.Redirect.INHERIT);
        var process = victim.start();
        var lines = process.inputReader();
        Door.same("has", lines.readLine());
        process.destroyForcibly().waitFor();
        var other = new Member(door, "shares-killed", "explicit", "shared-killed");
        other.verdict = record -> AcknowledgeType.ACCEPT;
        until(() -> other.read.size() >= 5, other);
        other.commit();
        Door.same(Map.of("k0", 2, "k1", 2, "k2", 2, "k3", 2, "k4", 2), other.deliveries);
        // Too late: by now it is another's.
        other.verdict = record -> null;
        send(door, "shared-killed", "late", 1);
        until(() -> other.read.size() >= 6, other);
        var slow = new Member(door, "shares-killed", "explicit", "shared-killed");
        slow.verdict = record -> AcknowledgeType.ACCEPT;
        until(() -> slow.read.size() >= 1, slow);
        slow.commit();
        Door.same(Map.of("late0", 2), slow.deliveries);
        slow.consumer.close();
        other.consumer.close();
        Door.holds("what a member that was killed had comes to another, and is counted");
    }

    private static void limit(Door door) throws Exception {
        make(door, "shared-limit", "shares-limit");
        send(door, "shared-limit", "l", 2);
        var member = new Member(door, "shares-limit", "explicit", "shared-limit");
        member.verdict = record -> record.value().equals("l0")
                ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT;
        until(() -> member.deliveries.getOrDefault("l0", 0) == 5, member);
        member.commit();
        silent(member);
        Door.same(Map.of("l0", 5, "l1", 1), member.deliveries);
        member.consumer.close();
        Door.same(List.of("l0"), door.read("shares-limit.deadletter", "read_committed"));
        Door.holds("after five deliveries a record is a dead letter");
    }

    private static void transactions(Door door) throws Exception {
        make(door, "shared-transactions", "shares-all");
        set(door, "shares-committed", "share.auto.offset.reset", "earliest",
                "share.isolation.level", "read_committed");
        try (var producer = door.producer("transactional.id", "shares")) {
            producer.initTransactions();
            for (var word : List.of("aborted", "kept", "dropped", "more")) {
                producer.beginTransaction();
                Door.send(producer, "shared-transactions", Door.numbered(word, 2));
                if (word.equals("aborted") || word.equals("dropped")) {
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
            producer.beginTransaction();
            Door.send(producer, "shared-transactions", List.of("open"));
            var all = new Member(door, "shares-all", "implicit", "shared-transactions");
            until(() -> all.read.size() >= 9, all);
            Door.same(List.of("aborted0", "aborted1", "kept0", "kept1", "dropped0", "dropped1",
                    "more0", "more1", "open"), all.read);
            var committed = new Member(door, "shares-committed", "implicit", "shared-transactions");
            until(() -> committed.read.size() >= 4, committed);
            silent(committed);
            producer.commitTransaction();
            until(() -> committed.read.size() >= 5, committed);
            Door.same(List.of("kept0", "kept1", "more0", "more1", "open"), committed.read);
            all.consumer.close();
            committed.consumer.close();
        }
        Door.holds("records of transactions come as the group wants them");
    }

    private static void groups(Door door) throws Exception {
        make(door, "shared-groups", "shares-groups");
        var member = new Member(door, "shares-groups", "implicit", "shared-groups");
        until(() -> joined(door, "shares-groups", 1), member);
        var told = door.admin.describeShareGroups(List.of("shares-groups")).all().get().get("shares-groups");
        Door.same(GroupState.STABLE, told.groupState());
        Door.same(1, told.members().size());
        var types = ListGroupsOptions.forShareGroups();
        var listed = door.admin.listGroups(types).all().get();
        Door.check(listed.stream().anyMatch(one -> one.groupId().equals("shares-groups")), listed);
        Door.check(listed.stream().allMatch(one -> one.type().get() == GroupType.SHARE), listed);
        var classic = new Door.Member(door.consumer("group.id", "shares-groups"), "shared-groups");
        Door.until(() -> classic.failed != null, List.of(classic));
        classic.consumer.close();
        Door.fails(GroupNotEmptyException.class,
                () -> door.admin.deleteShareGroups(List.of("shares-groups")).all().get());
        member.consumer.close();
        door.admin.deleteShareGroups(List.of("shares-groups")).all().get();
        Door.fails(GroupIdNotFoundException.class,
                () -> door.admin.describeShareGroups(List.of("shares-groups")).all().get());
        Door.holds("share groups are listed, described, kept apart and deleted");
    }

    /** Where a group goes on in the one partition of its topic; null where it has no position. */
    private static Long position(Door door, String group, TopicPartition part) throws Exception {
        var asked = Map.of(group, new ListShareGroupOffsetsSpec().topicPartitions(List.of(part)));
        var told = door.admin.listShareGroupOffsets(asked);
        var at = told.partitionsToOffsetAndMetadata(group).get().get(part);
        return at == null ? null : at.offset();
    }

    private static void offsets(Door door) throws Exception {
        var group = "shares-offsets";
        make(door, "shared-offsets", group);
        var part = new TopicPartition("shared-offsets", 0);
        send(door, "shared-offsets", "o", 5);
        Door.check(position(door, group, part) == null, "it has a position");
        var first = new Member(door, group, "explicit", "shared-offsets");
        first.verdict = record -> AcknowledgeType.ACCEPT;
        until(() -> first.read.size() >= 5, first);
        first.commit();
        Door.same(5L, position(door, group, part));
        Door.fails(GroupNotEmptyException.class,
                () -> door.admin.alterShareGroupOffsets(group, Map.of(part, 3L)).all().get());
        Door.fails(GroupNotEmptyException.class,
                () -> door.admin.deleteShareGroupOffsets(group, Set.of("shared-offsets")).all().get());
        first.consumer.close();
        door.admin.alterShareGroupOffsets(group, Map.of(part, 3L)).all().get();
        Door.same(3L, position(door, group, part));
        var second = new Member(door, group, "explicit", "shared-offsets");
        until(() -> second.read.size() >= 2, second);
        Door.same(List.of("o3", "o4"), second.read);
        second.consumer.close();
        var spec = Map.of(group, new ListShareGroupOffsetsSpec());
        var all = door.admin.listShareGroupOffsets(spec).partitionsToOffsetAndMetadata(group).get();
        Door.same(Set.of(part), all.keySet());
        door.admin.deleteShareGroupOffsets(group, Set.of("shared-offsets")).all().get();
        Door.check(position(door, group, part) == null, "it has a position");
        Door.fails(GroupIdNotFoundException.class,
                () -> door.admin.listShareGroupOffsets(Map.of("no-such", new ListShareGroupOffsetsSpec()))
                        .all().get());
        Door.holds("offsets of share groups are listed, set and deleted");
    }

    private static void restart(Door door) throws Exception {
        make(door, "shared-lasting", "shares-lasting");
        send(door, "shared-lasting", "r", 100);
        var member = new Member(door, "shares-lasting", "explicit", "shared-lasting",
                "max.poll.records", "10");
        var done = new HashSet<String>();
        var even = (Function<ConsumerRecord<String, String>, AcknowledgeType>) record -> {
            var accepted = Integer.parseInt(record.value().substring(1)) % 2 == 0;
            if (accepted) {
                done.add(record.value());
            }
            return accepted ? AcknowledgeType.ACCEPT : AcknowledgeType.RELEASE;
        };
        member.verdict = even;
        until(() -> done.size() >= 20, member);
        member.commit();
        var before = new HashSet<>(done);
        System.out.println("kill");
        System.out.flush();
        Door.check(System.in.read() == '\n', "a line comes when the server is back");
        member.read.clear();
        member.verdict = record -> AcknowledgeType.ACCEPT;
        var seen = new HashSet<String>();
        until(() -> {
            seen.addAll(member.read);
            return seen.size() >= 100 - before.size();
        }, member);
        member.commit();
        silent(member);
        for (var value : before) {
            Door.check(!member.read.contains(value), value + " came again");
        }
        var all = new HashSet<>(before);
        all.addAll(member.read);
        Door.same(100, all.size());
        member.consumer.close();
        Door.holds("what was settled before the server was killed never comes again, all else does");
    }
}
