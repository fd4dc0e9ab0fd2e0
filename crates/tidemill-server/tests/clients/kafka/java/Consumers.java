import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;
import org.apache.kafka.common.errors.UnsupportedAssignorException;

/** Consumer groups of the newer protocol (KIP-848): members come, go, and outlive the server. */
public final class Consumers implements Door.Case {
    private static final int PARTITIONS = 6;
    private static final int EACH = 300;
    private static final int KILLS = 2;

    @Override
    public void run(Door door) throws Exception {
        door.create("handed", PARTITIONS);
        var sent = send(door, "handed", PARTITIONS, 0);
        comeAndGo(door, "uniform", sent);
        comeAndGo(door, "range", sent);
        staticMembers(door);
        patterns(door);
        refused(door);
        restarts(door);
    }

    private static List<String> send(Door door, String topic, int partitions, int from) {
        var sent = new ArrayList<String>();
        try (var producer = door.producer()) {
            for (var number = from; number < from + EACH; number++) {
                sent.add("m" + number);
                producer.send(new ProducerRecord<>(topic, number % partitions, null, "m" + number));
            }
        }
        return sent;
    }

    private static Door.Member member(Door door, String topic, String group, String... more) {
        var pairs = new ArrayList<>(List.of("group.id", group, "group.protocol", "consumer"));
        pairs.addAll(List.of(more));
        return new Door.Member(door.consumer(pairs.toArray(String[]::new)), topic);
    }

    /** Whether they have so many partitions each, and no partition ever is two members'. */
    private static boolean share(List<Door.Member> members, int each) {
        var all = new HashSet<Integer>();
        for (var one : members) {
            for (var partition : one.has) {
                Door.check(all.add(partition), "two have " + partition + ": " + members);
            }
        }
        return members.stream().allMatch(one -> one.has.size() == each);
    }

    private static void comeAndGo(Door door, String assignor, List<String> sent) throws Exception {
        var group = "newer-" + assignor;
        String[] how = {"group.remote.assignor", assignor};
        var first = member(door, "handed", group, how);
        Door.until(() -> share(List.of(first), 6), List.of(first));
        Door.until(() -> first.read.size() == EACH, List.of(first));
        var second = member(door, "handed", group, how);
        var two = List.of(first, second);
        Door.until(() -> share(two, 3), two);
        var third = member(door, "handed", group, how);
        var three = List.of(first, second, third);
        Door.until(() -> share(three, 2), three);
        if (assignor.equals("uniform")) {
            Door.same(4, first.revoked);
            Door.same(1, second.revoked);
        }
        var told = door.admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        Door.same(GroupType.CONSUMER, told.type());
        Door.same(GroupState.STABLE, told.groupState());
        Door.same(assignor, told.partitionAssignor());
        Door.same(3, told.members().size());
        second.consumer.close();
        third.consumer.close();
        Door.until(() -> share(List.of(first), 6), List.of(first));
        first.consumer.commitSync();
        var read = new ArrayList<>(first.read);
        read.addAll(second.read);
        read.addAll(third.read);
        Door.same(EACH, read.size());
        Door.same(Set.copyOf(sent), Set.copyOf(read));
        var offsets = door.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata();
        var committed = offsets.get().values().stream().mapToLong(one -> one.offset()).sum();
        Door.same((long) EACH, committed);
        first.consumer.close();
        Door.holds("three members of " + group + " come and go, and each record is read once");
    }

    private static void staticMembers(Door door) throws Exception {
        var one = member(door, "handed", "newer-static", "group.instance.id", "one");
        var two = member(door, "handed", "newer-static", "group.instance.id", "two");
        Door.until(() -> share(List.of(one, two), 3), List.of(one, two));
        var usurper = member(door, "handed", "newer-static", "group.instance.id", "two");
        Door.until(() -> usurper.failed != null, List.of(one, two, usurper));
        Door.check(usurper.failed instanceof UnreleasedInstanceIdException, usurper);
        usurper.consumer.close();
        var had = Set.copyOf(two.has);
        var rounds = one.rounds;
        two.consumer.close();
        var again = member(door, "handed", "newer-static", "group.instance.id", "two");
        Door.until(() -> share(List.of(one, again), 3), List.of(one, again));
        Door.same(had, Set.copyOf(again.has));
        Door.same(rounds, one.rounds);
        again.consumer.close();
        one.consumer.close();
        Door.holds("an instance comes back to its partitions, and while it lives nobody has its name");
    }

    private static void patterns(Door door) throws Exception {
        door.create("matched-1", 1);
        var consumer = door.consumer("group.id", "matching", "group.protocol", "consumer",
                "metadata.max.age.ms", "500");
        var has = new HashSet<TopicPartition>();
        consumer.subscribe(new SubscriptionPattern("matched-[0-9]"), new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> given) {
                has.addAll(given);
            }

            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> taken) {
                has.removeAll(taken);
            }
        });
        var polled = List.of(new Door.Member(consumer));
        Door.until(() -> has.size() == 1, polled);
        door.create("matched-2", 2);
        door.create("matched-none", 1);
        Door.until(() -> has.size() == 3, polled);
        var more = java.util.Map.of("matched-1", NewPartitions.increaseTo(2));
        door.admin.createPartitions(more).all().get();
        Door.until(() -> has.size() == 4, polled);
        door.admin.deleteTopics(List.of("matched-2")).all().get();
        Door.until(() -> has.size() == 2, polled);
        consumer.close();
        Door.holds("topics that match, come, grow and go are noticed");
    }

    private static void refused(Door door) throws Exception {
        var wrong = door.consumer("group.id", "refused", "group.protocol", "consumer");
        wrong.subscribe(new SubscriptionPattern("("));
        var pattern = new Door.Member(wrong);
        Door.until(() -> pattern.failed != null, List.of(pattern));
        Door.check(pattern.failed instanceof InvalidRegularExpression, pattern);
        wrong.close();
        var strange = member(door, "handed", "refused", "group.remote.assignor", "best");
        Door.until(() -> strange.failed != null, List.of(strange));
        Door.check(strange.failed instanceof UnsupportedAssignorException, strange);
        strange.consumer.close();
        // A group has one kind of members at a time, and the next kind when it is empty.
        var classic = new Door.Member(door.consumer("group.id", "kinds"), "handed");
        Door.until(() -> classic.read.size() == EACH, List.of(classic));
        var other = member(door, "handed", "kinds");
        Door.until(() -> other.failed != null, List.of(classic, other));
        other.consumer.close();
        classic.consumer.close();
        var later = member(door, "handed", "kinds");
        Door.until(() -> share(List.of(later), 6), List.of(later));
        var mixed = new Door.Member(door.consumer("group.id", "kinds"), "handed");
        Door.until(() -> mixed.failed != null, List.of(later, mixed));
        Door.same(List.of(), later.read);
        mixed.consumer.close();
        later.consumer.close();
        Door.holds("what is wrong is refused, and a group passes from kind to kind with its place");
    }

    private static void restarts(Door door) throws Exception {
        door.create("outlived", PARTITIONS);
        var sent = new HashSet<String>();
        var one = member(door, "outlived", "newer-lasting", "enable.auto.commit", "false");
        var two = member(door, "outlived", "newer-lasting", "enable.auto.commit", "false");
        var both = List.of(one, two);
        for (var kill = 0; kill <= KILLS; kill++) {
            var kills = kill;
            // Each has found out that it was nobody any longer, and is somebody again.
            Door.until(() -> one.lost == kills && two.lost == kills && share(both, 3), both);
            sent.addAll(send(door, "outlived", PARTITIONS, kill * EACH));
            Door.until(() -> read(both).containsAll(sent), both);
            both.forEach(member -> member.consumer.commitSync());
            if (kill < KILLS) {
                System.out.println("kill");
                System.out.flush();
                Door.check(System.in.read() == '\n', "a line comes when the server is back");
            }
        }
        Door.same(sent, read(both));
        // What was committed before a kill does not come again.
        Door.same((KILLS + 1) * EACH, one.read.size() + two.read.size());
        both.forEach(member -> member.consumer.close());
        Door.holds("members go on after kills of the server where they had committed");
    }

    private static Set<String> read(List<Door.Member> members) {
        var all = new HashSet<String>();
        members.forEach(member -> all.addAll(member.read));
        return all;
    }
}
