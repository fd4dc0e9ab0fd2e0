import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.FencedInstanceIdException;

/** Groups whose members come and go, eager and cooperative ones, and static members. */
public final class Groups implements Door.Case {
    private static final int PARTITIONS = 4;
    private static final int EACH = 200;

    @Override
    public void run(Door door) throws Exception {
        door.create("shared", PARTITIONS);
        var sent = new ArrayList<String>();
        try (var producer = door.producer()) {
            for (var number = 0; number < EACH; number++) {
                var value = "m" + number;
                sent.add(value);
                producer.send(new ProducerRecord<>("shared", number % PARTITIONS, null, value));
            }
        }
        comeAndGo(door, RangeAssignor.class, PARTITIONS, sent);
        comeAndGo(door, CooperativeStickyAssignor.class, PARTITIONS / 2, sent);
        staticMembers(door);
    }

    private static Door.Member member(Door door, String group, String... more) {
        var pairs = new ArrayList<>(List.of("group.id", group, "heartbeat.interval.ms", "100"));
        pairs.addAll(List.of(more));
        return new Door.Member(door.consumer(pairs.toArray(String[]::new)), "shared");
    }

    private static void comeAndGo(Door door, Class<?> assignor, int taken, List<String> sent)
            throws Exception {
        var group = assignor.getSimpleName();
        String[] how = {"partition.assignment.strategy", assignor.getName()};
        var first = member(door, group, how);
        Door.until(() -> first.has.size() == PARTITIONS, List.of(first));
        Door.until(() -> first.read.size() == EACH, List.of(first));
        var second = member(door, group, how);
        var both = List.of(first, second);
        Door.until(() -> first.has.size() == 2 && second.has.size() == 2, both);
        var all = new HashSet<>(first.has);
        all.addAll(second.has);
        Door.same(PARTITIONS, all.size());
        Door.same(taken, first.revoked);
        // It commits as it leaves, and so do both of what they had to give back.
        second.consumer.close();
        Door.until(() -> first.has.size() == PARTITIONS, List.of(first));
        first.consumer.commitSync();
        Door.same(List.of(), second.read);
        Door.same(Set.copyOf(sent), Set.copyOf(first.read));
        Door.same(EACH, first.read.size());
        var offsets = door.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata();
        var committed = offsets.get().values().stream().mapToLong(one -> one.offset()).sum();
        Door.same((long) EACH, committed);
        first.consumer.close();
        Door.holds("members of " + group + " come and go, and each record is read once");
    }

    private static void staticMembers(Door door) throws Exception {
        var one = member(door, "static", "group.instance.id", "one");
        var two = member(door, "static", "group.instance.id", "two");
        Door.until(() -> one.has.size() == 2 && two.has.size() == 2, List.of(one, two));
        var had = Set.copyOf(two.has);
        var rounds = one.rounds;
        two.consumer.close();
        var again = member(door, "static", "group.instance.id", "two");
        Door.until(() -> again.has.size() == 2, List.of(one, again));
        Door.same(had, Set.copyOf(again.has));
        Door.same(rounds, one.rounds);
        Door.holds("a static member comes back to its partitions without a rebalance");

        var usurper = member(door, "static", "group.instance.id", "two");
        Door.until(() -> again.failed != null, List.of(one, usurper, again));
        Door.check(again.failed instanceof FencedInstanceIdException, again);
        Door.until(() -> usurper.has.equals(had), List.of(one, usurper));
        again.consumer.close();
        usurper.consumer.close();
        one.consumer.close();
        Door.holds("of two static members with one name the older one is fenced");
    }
}
