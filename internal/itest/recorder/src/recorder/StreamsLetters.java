package recorder;

import java.nio.file.Files;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.LogAndContinueExceptionHandler;
import org.apache.kafka.streams.errors.LogAndContinueProcessingExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;

/** Kafka Streams: its own handlers, which go on and write a dead letter (KIP-1034). */
final class StreamsLetters {
    private final Tape tape;

    private StreamsLetters(Tape tape) {
        this.tape = tape;
    }

    static void record(Tape tape) throws Exception {
        StreamsLetters streams = new StreamsLetters(tape);
        tape.original("streams-processing", "user-1", "{\"number\":4711}");
        tape.original("streams-value", null, "{\"number\":4711}");
        streams.record("streams-processing", "streams-processing", "streams-processing", Serdes.ByteArray());
        streams.record("streams-value", "streams-value", "streams-value", Serdes.Integer());
        streams.record("streams-again", "streams-value", "streams-value.dlq", Serdes.Integer());
    }

    /** record reads a topic, which holds the original or its dead letter. */
    private void record(String name, String original, String topic, Serde<?> value) throws Exception {
        tape.topic(topic + ".dlq", Map.of());
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(topic, Consumed.with(Serdes.ByteArray(), value)).foreach((k, v) -> SpringLetters.fail(0));
        try (KafkaStreams streams = new KafkaStreams(builder.build(), config(name, topic))) {
            streams.start();
            tape.write(name, "Kafka Streams " + tape.version, original, topic + ".dlq");
        }
    }

    private Properties config(String name, String topic) throws Exception {
        Properties config = new Properties();
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, name + ".app");
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, tape.brokers);
        config.put(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("recorder-streams").toString());
        config.put(StreamsConfig.DESERIALIZATION_EXCEPTION_HANDLER_CLASS_CONFIG, LogAndContinueExceptionHandler.class);
        config.put(StreamsConfig.PROCESSING_EXCEPTION_HANDLER_CLASS_CONFIG, LogAndContinueProcessingExceptionHandler.class);
        config.put(StreamsConfig.ERRORS_DEAD_LETTER_QUEUE_TOPIC_NAME_CONFIG, topic + ".dlq");
        return config;
    }
}
