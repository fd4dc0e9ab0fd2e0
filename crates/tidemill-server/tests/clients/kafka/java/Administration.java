import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** What the Admin client asks for. */
public final class Administration implements Door.Case {
    @Override
    public void run(Door door) throws Exception {
        topics(door);
        configs(door);
        records(door);
        groups(door);
    }

    private static void topics(Door door) throws Exception {
        var admin = door.admin;
        Door.same(1, admin.describeCluster().nodes().get().size());
        Door.check(admin.describeCluster().clusterId().get() != null, "a cluster has an id");
        var made = admin.createTopics(Set.of(new NewTopic("made", 3, (short) 1)));
        made.all().get();
        Door.same(3, made.numPartitions("made").get());
        Door.fails(TopicExistsException.class, () -> door.create("made", 1));
        Door.fails(InvalidTopicException.class, () -> door.create("no topic", 1));
        Door.fails(InvalidPartitionsException.class, () -> door.create("none", 0));
        Door.check(admin.listTopics().names().get().contains("made"), "it is listed");
        admin.createPartitions(Map.of("made", NewPartitions.increaseTo(5))).all().get();
        var fewer = Map.of("made", NewPartitions.increaseTo(2));
        Door.fails(
                InvalidPartitionsException.class, () -> admin.createPartitions(fewer).all().get());
        var told = admin.describeTopics(List.of("made")).allTopicNames().get().get("made");
        Door.same(5, told.partitions().size());
        Door.same(1, told.partitions().get(4).isr().size());
        var id = told.topicId();
        var by = org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(id));
        Door.same("made", admin.describeTopics(by).allTopicIds().get().get(id).name());
        admin.deleteTopics(Set.of("made")).all().get();
        Door.fails(
                UnknownTopicOrPartitionException.class,
                () -> admin.describeTopics(List.of("made")).allTopicNames().get());
        Door.holds("topics are made, widened, described and deleted");
    }

    private static void configs(Door door) throws Exception {
        door.create("kept", 1);
        var topic = new ConfigResource(ConfigResource.Type.TOPIC, "kept");
        change(door, topic, "retention.ms", "86400000", AlterConfigOp.OpType.SET);
        Door.same("86400000", config(door, topic, "retention.ms").value());
        Door.check(!config(door, topic, "retention.ms").isDefault(), "it is the topic's own");
        change(door, topic, "retention.ms", "", AlterConfigOp.OpType.DELETE);
        Door.check(config(door, topic, "retention.ms").isDefault(), "it is no longer");
        Door.fails(
                InvalidConfigurationException.class,
                () -> change(door, topic, "no.such", "1", AlterConfigOp.OpType.SET));
        var node = new ConfigResource(ConfigResource.Type.BROKER, "1");
        Door.same("1", config(door, node, "node.id").value());
        change(door, node, "background.threads", "9", AlterConfigOp.OpType.SET);
        change(door, node, "background.threads", "", AlterConfigOp.OpType.DELETE);
        Door.holds("configurations are told, set and taken back");
    }

    private static void change(
            Door door, ConfigResource of, String name, String value, AlterConfigOp.OpType how)
            throws Exception {
        var change = new AlterConfigOp(new ConfigEntry(name, value), how);
        door.admin.incrementalAlterConfigs(Map.of(of, List.of(change))).all().get();
    }

    private static ConfigEntry config(Door door, ConfigResource of, String name)
            throws Exception {
        return door.admin.describeConfigs(List.of(of)).all().get().get(of).get(name);
    }

    private static void records(Door door) throws Exception {
        door.create("timed", 1);
        var partition = new TopicPartition("timed", 0);
        try (var producer = door.producer("batch.size", "0")) {
            for (var number = 0; number < 10; number++) {
                var time = 5000L + 100 * (number == 4 ? 40 : number);
                producer.send(new ProducerRecord<>("timed", 0, time, null, "t" + number)).get();
            }
        }
        Door.same(0L, offset(door, partition, OffsetSpec.earliest()));
        Door.same(10L, offset(door, partition, OffsetSpec.latest()));
        Door.same(3L, offset(door, partition, OffsetSpec.forTimestamp(5300)));
        Door.same(4L, offset(door, partition, OffsetSpec.forTimestamp(5301)));
        Door.same(4L, offset(door, partition, OffsetSpec.maxTimestamp()));
        Door.same(-1L, offset(door, partition, OffsetSpec.forTimestamp(99_999)));
        Door.holds("offsets are found by time");
        var until = Map.of(partition, RecordsToDelete.beforeOffset(6));
        var low = door.admin.deleteRecords(until).lowWatermarks().get(partition);
        Door.same(6L, low.get().lowWatermark());
        Door.same(6L, offset(door, partition, OffsetSpec.earliest()));
        Door.same(List.of("t6", "t7", "t8", "t9"), door.read("timed", "read_uncommitted"));
        Door.holds("records are deleted up to an offset");
    }

    private static long offset(Door door, TopicPartition of, OffsetSpec which) throws Exception {
        return door.admin.listOffsets(Map.of(of, which)).partitionResult(of).get().offset();
    }

    private static void groups(Door door) throws Exception {
        var admin = door.admin;
        var partition = new TopicPartition("timed", 0);
        var member = new Door.Member(door.consumer("group.id", "watched"), "timed");
        Door.until(() -> member.read.size() == 4, List.of(member));
        var told = admin.describeConsumerGroups(List.of("watched")).all().get().get("watched");
        Door.same(1, told.members().size());
        Door.same("range", told.partitionAssignor());
        var its = told.members().iterator().next();
        Door.same(Set.of(partition), its.assignment().topicPartitions());
        var listed = admin.listConsumerGroups().all().get();
        Door.check(
                listed.stream().anyMatch(one -> one.groupId().equals("watched")), listed);
        Door.fails(
                GroupNotEmptyException.class,
                () -> admin.deleteConsumerGroups(List.of("watched")).all().get());
        member.consumer.close();
        var to = new HashMap<TopicPartition, OffsetAndMetadata>();
        to.put(partition, new OffsetAndMetadata(8));
        admin.alterConsumerGroupOffsets("watched", to).all().get();
        var offsets = admin.listConsumerGroupOffsets("watched").partitionsToOffsetAndMetadata();
        Door.same(8L, offsets.get().get(partition).offset());
        var from = new Door.Member(door.consumer("group.id", "watched"), "timed");
        Door.until(() -> from.read.size() == 2, List.of(from));
        Door.same(List.of("t8", "t9"), from.read);
        from.consumer.close();
        admin.deleteConsumerGroupOffsets("watched", Set.of(partition)).all().get();
        offsets = admin.listConsumerGroupOffsets("watched").partitionsToOffsetAndMetadata();
        Door.check(offsets.get().get(partition) == null, "it is deleted");
        admin.deleteConsumerGroups(List.of("watched")).all().get();
        listed = admin.listConsumerGroups().all().get();
        Door.check(
                listed.stream().noneMatch(one -> one.groupId().equals("watched")), listed);
        Door.holds("groups are listed, described, moved and deleted");
    }
}
