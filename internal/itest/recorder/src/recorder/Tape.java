package recorder;

import com.fasterxml.jackson.core.util.DefaultIndenter;
import com.fasterxml.jackson.core.util.DefaultPrettyPrinter;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Makes topics, publishes what will fail, and writes what became of it to a fixture, byte for byte. */
final class Tape implements AutoCloseable {
    /** Where and when every original is. */
    private static final int PARTITION = 2;
    private static final int OFFSET = 7;
    private static final long TIME = 1767780000123L;
    private static final int PARTITIONS = 3;
    private static final Duration PATIENCE = Duration.ofMinutes(3);

    final String brokers;
    /** The version of the clients, Connect and Streams. */
    final String version;
    private final String broker;
    private final Path folder;
    private final Admin admin;
    private final KafkaProducer<byte[], byte[]> producer;

    Tape(String brokers, String broker, Path folder) throws IOException {
        this.brokers = brokers;
        this.broker = broker;
        version = version();
        this.folder = folder;
        admin = Admin.create(Map.of("bootstrap.servers", brokers));
        producer = new KafkaProducer<>(Map.of("bootstrap.servers", brokers), new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static String version() throws IOException {
        Properties properties = new Properties();
        try (var in = KafkaProducer.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            properties.load(in);
        }
        return properties.getProperty("version");
    }

    Admin admin() {
        return admin;
    }

    /** topic makes one that keeps what is old. */
    void topic(String name, Map<String, String> more) throws Exception {
        Map<String, String> configs = new LinkedHashMap<>(more);
        configs.put("retention.ms", "-1");
        admin.createTopics(List.of(new NewTopic(name, PARTITIONS, (short) 1).configs(configs))).all().get();
    }

    /** original makes a topic and publishes a record that is at OFFSET of PARTITION; nothing is before it. */
    void original(String topic, String key, String value) throws Exception {
        topic(topic, Map.of());
        TopicPartition partition = new TopicPartition(topic, PARTITION);
        for (int i = 0; i < OFFSET; i++) {
            producer.send(new ProducerRecord<>(topic, PARTITION, TIME, null, bytes("deleted"))).get();
        }
        admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(OFFSET))).all().get();
        List<Header> headers = List.of(
            new RecordHeader("traceparent", bytes("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
            new RecordHeader("odd", new byte[] {(byte) 0xff, 0}),
            new RecordHeader("odd", bytes("twice")),
            new RecordHeader("none", (byte[]) null),
            new RecordHeader("empty", new byte[0]));
        producer.send(new ProducerRecord<>(topic, PARTITION, TIME, bytes(key), bytes(value), headers)).get();
    }

    /** write waits for the only record of a dead-letter topic and writes it beside its original. */
    void write(String fixture, String by, String topic, String deadLetters) throws Exception {
        Map<String, Object> json = new LinkedHashMap<>();
        json.put("recordedBy", by + ", Kafka client " + version + ", broker " + broker);
        json.put("original", json(await(topic)));
        json.put("letter", json(await(deadLetters)));
        DefaultPrettyPrinter printer = new DefaultPrettyPrinter();
        printer.indentArraysWith(DefaultIndenter.SYSTEM_LINEFEED_INSTANCE);
        Files.writeString(folder.resolve(fixture + ".json"), new ObjectMapper().writer(printer).writeValueAsString(json) + "\n");
        System.out.println("recorded " + fixture);
    }

    /** await returns the first record of a topic. */
    ConsumerRecord<byte[], byte[]> await(String topic) {
        Map<String, Object> config = Map.of("bootstrap.servers", brokers, "allow.auto.create.topics", false);
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> all = new ArrayList<>();
            for (int p = 0; p < PARTITIONS; p++) {
                all.add(new TopicPartition(topic, p));
            }
            consumer.assign(all);
            consumer.seekToBeginning(all);
            while (System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    return record;
                }
            }
        }
        throw new IllegalStateException("no record in " + topic + " after " + PATIENCE);
    }

    private static Map<String, Object> json(ConsumerRecord<byte[], byte[]> r) {
        Map<String, Object> json = new LinkedHashMap<>();
        json.put("topic", r.topic());
        json.put("partition", r.partition());
        json.put("offset", r.offset());
        json.put("timestamp", r.timestamp());
        json.put("timestampType", r.timestampType().toString());
        json.put("key", json(r.key()));
        json.put("value", json(r.value()));
        List<Object> headers = new ArrayList<>();
        for (Header h : r.headers()) {
            Map<String, Object> header = new LinkedHashMap<>();
            header.put("key", h.key());
            header.put("value", json(h.value()));
            headers.add(header);
        }
        json.put("headers", headers);
        return json;
    }

    /** json shows bytes as text where that loses nothing; numbers are mostly no text, because they have zeros. */
    private static Map<String, String> json(byte[] bytes) {
        if (bytes == null) {
            return null;
        }
        try {
            String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
            if (text.indexOf(0) < 0) {
                return Map.of("text", text);
            }
        } catch (CharacterCodingException e) {
            // not text
        }
        return Map.of("base64", Base64.getEncoder().encodeToString(bytes));
    }

    static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    @Override
    public void close() {
        producer.close();
        admin.close();
    }
}
