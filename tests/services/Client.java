import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.utils.Utils;

/**
 * What tests ask of Kafka's own client, one command a line, one line of answer each, which begins with `ok` or `error`:
 *
 * <pre>
 * connect BOOTSTRAP
 * create TOPIC PARTITIONS [NAME=VALUE...]   a topic, with settings
 * grow TOPIC PARTITIONS                     more partitions
 * delete TOPIC
 * truncate TOPIC PARTITION OFFSET           deletes the records before an offset
 * committed GROUP                           what a group has committed: TOPIC[PARTITION]=OFFSET...
 * members GROUP                             how many members a group has
 * murmur2 PARTITIONS HEX...                 where Kafka's partitioner puts keys, given in hexadecimal digits
 * </pre>
 */
public class Client {
    private static Admin admin;

    public static void main(String[] arguments) throws Exception {
        // What goes wrong is answered; Kafka's logging says only that there is none.
        System.setErr(new PrintStream(OutputStream.nullOutputStream()));
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = commands.readLine()) != null; ) {
            try {
                System.out.println(("ok " + answer(line.split(" "))).strip());
            } catch (Exception error) {
                System.out.println("error " + String.valueOf(error).replace('\n', ' '));
            }
            System.out.flush();
        }
        // Closing the client would wait for its broker.
        Runtime.getRuntime().halt(0);
    }

    private static String answer(String[] words) throws Exception {
        switch (words[0]) {
            case "connect":
                admin = Admin.create(Map.of("bootstrap.servers", words[1]));
                return "";
            case "create":
                Map<String, String> settings = new HashMap<>();
                for (int at = 3; at < words.length; at++) {
                    String[] setting = words[at].split("=", 2);
                    settings.put(setting[0], setting[1]);
                }
                NewTopic topic = new NewTopic(words[1], Integer.parseInt(words[2]), (short) 1).configs(settings);
                admin.createTopics(List.of(topic)).all().get();
                return "";
            case "grow":
                admin.createPartitions(Map.of(words[1], NewPartitions.increaseTo(Integer.parseInt(words[2])))).all().get();
                return "";
            case "delete":
                admin.deleteTopics(List.of(words[1])).all().get();
                return "";
            case "truncate":
                TopicPartition partition = new TopicPartition(words[1], Integer.parseInt(words[2]));
                admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(Long.parseLong(words[3])))).all().get();
                return "";
            case "committed":
                TreeMap<String, Long> offsets = new TreeMap<>();
                admin.listConsumerGroupOffsets(words[1]).partitionsToOffsetAndMetadata().get().forEach(
                    (of, offset) -> offsets.put(of.topic() + "[" + of.partition() + "]", offset.offset()));
                List<String> told = new ArrayList<>();
                offsets.forEach((of, offset) -> told.add(of + "=" + offset));
                return String.join(" ", told);
            case "members":
                return "" + admin.describeConsumerGroups(List.of(words[1])).all().get().get(words[1]).members().size();
            case "murmur2":
                int partitions = Integer.parseInt(words[1]);
                List<String> numbers = new ArrayList<>();
                for (int at = 2; at < words.length; at++) {
                    byte[] key = new byte[words[at].length() / 2];
                    for (int byteAt = 0; byteAt < key.length; byteAt++) {
                        key[byteAt] = (byte) Integer.parseInt(words[at].substring(2 * byteAt, 2 * byteAt + 2), 16);
                    }
                    numbers.add("" + Utils.toPositive(Utils.murmur2(key)) % partitions);
                }
                return String.join(" ", numbers);
            default:
                throw new IllegalArgumentException("no such command: " + words[0]);
        }
    }
}
