package recorder;

import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;

/** Kafka Connect: a standalone worker, a process of its own, with a sink for each way to fail. */
final class ConnectLetters {
    private static final String JSON = "org.apache.kafka.connect.json.JsonConverter";

    private final Tape tape;
    private final Path folder = Files.createTempDirectory("recorder-connect");
    private final List<String> files = new ArrayList<>();

    private ConnectLetters(Tape tape) throws Exception {
        this.tape = tape;
    }

    static void record(Tape tape) throws Exception {
        new ConnectLetters(tape).record();
    }

    private void record() throws Exception {
        file("worker", Map.of("bootstrap.servers", tape.brokers, "listeners", "http://127.0.0.1:0",
            "offset.storage.file.filename", folder.resolve("offsets").toString(),
            "key.converter", "org.apache.kafka.connect.converters.ByteArrayConverter",
            "value.converter", "org.apache.kafka.connect.converters.ByteArrayConverter"));
        tape.original("connect-value", "user-1", "{\"number\":");
        tape.original("connect-key", "user-1", "{\"number\":4711}");
        tape.original("connect-transform", "user-1", "4711 pieces");
        tape.original("connect-put", null, "{\"number\":4711}");
        sink("connect-value", Map.of("value.converter", JSON, "value.converter.schemas.enable", "false"));
        sink("connect-value.dlq", Map.of("value.converter", JSON, "value.converter.schemas.enable", "false"));
        sink("connect-key", Map.of("key.converter", JSON, "key.converter.schemas.enable", "true"));
        sink("connect-transform", Map.of("value.converter", "org.apache.kafka.connect.storage.StringConverter",
            "transforms", "number", "transforms.number.type", "org.apache.kafka.connect.transforms.Cast$Value",
            "transforms.number.spec", "int32"));
        sink("connect-put", Map.of());
        Process worker = start();
        try {
            for (String name : List.of("connect-value", "connect-key", "connect-transform", "connect-put")) {
                tape.write(name, "Kafka Connect " + tape.version, name, name + ".dlq");
            }
            tape.write("connect-again", "Kafka Connect " + tape.version, "connect-value", "connect-value.dlq.dlq");
        } finally {
            worker.destroyForcibly().waitFor();
        }
    }

    private void sink(String topic, Map<String, String> more) throws Exception {
        tape.topic(topic + ".dlq", Map.of());
        Map<String, String> config = new TreeMap<>(more);
        config.putAll(Map.of("name", topic + "-sink", "connector.class", RejectingSink.class.getName(), "tasks.max", "1", "topics", topic,
            "errors.tolerance", "all", "errors.deadletterqueue.topic.name", topic + ".dlq",
            "errors.deadletterqueue.topic.replication.factor", "1", "errors.deadletterqueue.context.headers.enable", "true"));
        file(topic, config);
    }

    private void file(String name, Map<String, String> config) throws Exception {
        Path path = folder.resolve(name + ".properties");
        Properties properties = new Properties();
        properties.putAll(config);
        try (var out = Files.newOutputStream(path)) {
            properties.store(out, null);
        }
        files.add(path.toString());
    }

    private Process start() throws Exception {
        List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx256m",
            "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp", System.getProperty("java.class.path"), "org.apache.kafka.connect.cli.ConnectStandalone"));
        command.addAll(files);
        File log = folder.resolve("worker.log").toFile();
        Process worker = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log).start();
        Runtime.getRuntime().addShutdownHook(new Thread(worker::destroyForcibly));
        return worker;
    }
}
