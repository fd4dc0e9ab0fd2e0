import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.util.List;
import kafka.admin.ConfigCommand;
import org.apache.kafka.common.utils.Exit;
import org.apache.kafka.tools.ConsoleProducer;
import org.apache.kafka.tools.ConsumerPerformance;
import org.apache.kafka.tools.ProducerPerformance;
import org.apache.kafka.tools.TopicCommand;
import org.apache.kafka.tools.consumer.ConsoleConsumer;
import org.apache.kafka.tools.consumer.group.ConsumerGroupCommand;

/** Kafka's command line tools, each of them called as its script does. */
public final class Tools implements Door.Case {
    /** A tool has ended the program; some catch this, and end it once more. */
    private static final class Exited extends RuntimeException {}

    /** The number that the tool ended with first. */
    private static Integer code;

    private interface Main {
        void main(String[] args) throws Exception;
    }

    @Override
    public void run(Door door) throws Exception {
        Exit.setExitProcedure(
                (number, why) -> {
                    code = code == null ? Integer.valueOf(number) : code;
                    throw new Exited();
                });
        console(door);
        topics(door);
        configs(door);
        groups(door);
        consumerGroups(door);
        measures(door);
    }

    /** What a tool prints, which must end well. */
    private static String told(Door door, Main tool, String... args) throws Exception {
        var all = new String[args.length + 2];
        all[0] = "--bootstrap-server";
        all[1] = door.address;
        System.arraycopy(args, 0, all, 2, args.length);
        return toldPlainly(tool, all);
    }

    private static String toldPlainly(Main tool, String... args) throws Exception {
        var out = System.out;
        var told = new ByteArrayOutputStream();
        System.setOut(new PrintStream(told, true));
        code = null;
        try {
            tool.main(args);
        } catch (Exited exited) {
            Door.check(code == 0, "exit " + code + "\n" + told);
        } finally {
            System.setOut(out);
        }
        return told.toString();
    }

    private static void has(String told, String... wanted) {
        for (var one : wanted) {
            Door.check(told.contains(one), "no " + one + " in:\n" + told);
        }
    }

    private static void console(Door door) throws Exception {
        var in = System.in;
        System.setIn(new ByteArrayInputStream(Door.bytes("a:one\nb:two\na:three\n")));
        told(door, ConsoleProducer::main, "--topic", "typed", "--compression-codec", "zstd",
                "--property", "parse.key=true", "--property", "key.separator=:");
        System.setIn(in);
        var told = told(door, ConsoleConsumer::main, "--topic", "typed", "--from-beginning",
                "--max-messages", "3", "--timeout-ms", "30000", "--group", "typists",
                "--property", "print.key=true", "--property", "print.offset=true");
        Door.same("Offset:0\ta\tone\nOffset:1\tb\ttwo\nOffset:2\ta\tthree\n", told);
        Door.holds("the console's consumer prints what its producer was typed");
    }

    private static void topics(Door door) throws Exception {
        told(door, TopicCommand::main, "--create", "--topic", "tooled", "--partitions", "2",
                "--config", "cleanup.policy=compact");
        told(door, TopicCommand::main, "--alter", "--topic", "tooled", "--partitions", "3");
        has(told(door, TopicCommand::main, "--list"), "tooled\n", "typed\n");
        has(told(door, TopicCommand::main, "--describe", "--topic", "tooled"),
                "PartitionCount: 3", "ReplicationFactor: 1", "cleanup.policy=compact",
                "Partition: 2\tLeader: 1\tReplicas: 1\tIsr: 1");
        told(door, TopicCommand::main, "--delete", "--topic", "tooled");
        var left = told(door, TopicCommand::main, "--list");
        Door.check(!left.contains("tooled"), left);
        Door.holds("kafka-topics makes, alters, lists, describes and deletes");
    }

    private static void configs(Door door) throws Exception {
        var of = List.of("--entity-type", "topics", "--entity-name", "typed");
        configs(door, of, "--alter", "--add-config", "retention.ms=86400000");
        has(configs(door, of, "--describe"), "retention.ms=86400000");
        configs(door, of, "--alter", "--delete-config", "retention.ms");
        var left = configs(door, of, "--describe");
        Door.check(!left.contains("retention.ms"), left);
        has(configs(door, of, "--describe", "--all"), "retention.ms=", "segment.bytes=");
        var node = List.of("--entity-type", "brokers", "--entity-name", "1");
        has(configs(door, node, "--describe", "--all"), "node.id=1");
        Door.holds("kafka-configs describes, sets and takes back");
    }

    private static String configs(Door door, List<String> of, String... args) throws Exception {
        var all = new java.util.ArrayList<>(of);
        all.addAll(List.of(args));
        return told(door, ConfigCommand::main, all.toArray(String[]::new));
    }

    private static void groups(Door door) throws Exception {
        has(told(door, ConsumerGroupCommand::main, "--list"), "typists");
        var described = told(door, ConsumerGroupCommand::main, "--describe", "--group", "typists");
        has(described.replaceAll(" +", " "), "typists typed 0 3 3 0 - - -");
        told(door, ConsumerGroupCommand::main, "--reset-offsets", "--group", "typists",
                "--topic", "typed", "--to-offset", "1", "--execute");
        described = told(door, ConsumerGroupCommand::main, "--describe", "--group", "typists");
        has(described.replaceAll(" +", " "), "typists typed 0 1 3 2 - - -");
        has(told(door, ConsumerGroupCommand::main, "--describe", "--state", "--group", "typists"),
                "Empty");
        told(door, ConsumerGroupCommand::main, "--delete", "--group", "typists");
        var left = told(door, ConsumerGroupCommand::main, "--list");
        Door.check(!left.contains("typists"), left);
        Door.holds("kafka-consumer-groups lists, describes, resets and deletes");
    }

    private static void consumerGroups(Door door) throws Exception {
        var member = new Door.Member(
                door.consumer("group.id", "newer", "group.protocol", "consumer"), "typed");
        Door.until(() -> member.has.size() == 1 && member.read.size() == 3, List.of(member));
        member.consumer.commitSync();
        has(told(door, ConsumerGroupCommand::main, "--list", "--type"), "newer");
        has(told(door, ConsumerGroupCommand::main, "--list", "--type", "consumer"), "newer");
        has(toldEvenly(door, "--describe", "--group", "newer"), "newer typed 0 3 3 0 ");
        has(toldEvenly(door, "--describe", "--state", "--group", "newer"), "uniform Stable 1");
        has(toldEvenly(door, "--describe", "--members", "--verbose", "--group", "newer"),
                "typed:0");
        member.consumer.close();
        told(door, ConsumerGroupCommand::main, "--reset-offsets", "--group", "newer",
                "--topic", "typed", "--to-offset", "1", "--execute");
        has(toldEvenly(door, "--describe", "--group", "newer"), "newer typed 0 1 3 2 - - -");
        told(door, ConsumerGroupCommand::main, "--delete", "--group", "newer");
        var left = told(door, ConsumerGroupCommand::main, "--list");
        Door.check(!left.contains("newer"), left);
        Door.holds("kafka-consumer-groups describes, resets and deletes a consumer group");
    }

    private static String toldEvenly(Door door, String... args) throws Exception {
        return told(door, ConsumerGroupCommand::main, args).replaceAll(" +", " ");
    }

    private static void measures(Door door) throws Exception {
        var told = toldPlainly(ProducerPerformance::main, "--topic", "measured",
                "--num-records", "5000", "--record-size", "100", "--throughput", "-1",
                "--producer-props", "bootstrap.servers=" + door.address, "compression.type=lz4");
        has(told, "5000 records sent");
        told = told(door, ConsumerPerformance::main, "--topic", "measured",
                "--messages", "5000", "--timeout", "30000");
        Door.same("5000", told.trim().split("\n")[1].split(", ")[4]);
        Door.holds("the tools that measure produce and consume 5000 records");
    }
}
