package recorder;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.IntegerDeserializer;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.BatchListenerFailedException;
import org.springframework.kafka.listener.BatchMessageListener;
import org.springframework.kafka.listener.ContainerProperties;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.kafka.listener.KafkaMessageListenerContainer;
import org.springframework.kafka.listener.MessageListener;
import org.springframework.kafka.support.serializer.ErrorHandlingDeserializer;
import org.springframework.kafka.support.serializer.JacksonJsonDeserializer;
import org.springframework.util.backoff.FixedBackOff;

/** Spring for Apache Kafka: a listener container whose error handler publishes dead letters. */
final class SpringLetters {
    static final String VERSION = "Spring for Apache Kafka " + KafkaTemplate.class.getPackage().getImplementationVersion();
    private static final Deserializer<?> BYTES = new ByteArrayDeserializer();
    private static final String GOOD = "{\"number\":4711}";

    private final Tape tape;

    private SpringLetters(Tape tape) {
        this.tape = tape;
    }

    static void record(Tape tape) throws Exception {
        SpringLetters spring = new SpringLetters(tape);
        spring.handlers();
        spring.deserializers();
        spring.again();
        SpringRetryTopic.record(tape, spring);
    }

    private void handlers() throws Exception {
        new Case("spring-exception").listener(r -> fail(120)).record("user-1", GOOD);
        new Case("spring-null-key").listener(r -> fail(0)).record(null, GOOD);
        new Case("spring-tombstone").listener(r -> fail(0)).record("user-1", null);
        new Case("spring-no-message").listener(r -> { throw new NullPointerException(); }).record("user-1", GOOD);
        new Case("spring-attempts").attempts(3).listener(r -> fail(0)).record("user-1", GOOD);
        new Case("spring-batch").listener((BatchMessageListener<Object, Object>) batch -> {
            throw new BatchListenerFailedException("the first of the batch", new IllegalStateException("no stock of 4711"), 0);
        }).record("user-1", GOOD);
    }

    private void deserializers() throws Exception {
        Deserializer<?> number = new ErrorHandlingDeserializer<>(new IntegerDeserializer());
        Deserializer<?> json = new ErrorHandlingDeserializer<>(new JacksonJsonDeserializer<>(Map.class));
        new Case("spring-value").deserializers(BYTES, json).record("user-1", "{\"number\":");
        new Case("spring-key").deserializers(number, BYTES).record("user-1", GOOD);
        new Case("spring-key-and-value").deserializers(number, json).record("user-1", "{\"number\":");
    }

    /** again lets dead letters fail once more, in the listener of the dead-letter topic. */
    private void again() throws Exception {
        for (String name : List.of("spring-again", "spring-again-kept")) {
            Case first = new Case(name).listener(r -> fail(0));
            Case second = new Case(name, name + "-dlt").listener(r -> refuse());
            second.recoverer.setStripPreviousExceptionHeaders(name.equals("spring-again"));
            first.publish("user-1", GOOD);
            first.run(() -> tape.await(first.deadLetters));
            second.record(name);
        }
    }

    /** fail fails that deep in the stack. */
    static void fail(int depth) {
        if (depth > 0) {
            fail(depth - 1);
        }
        String text = "no stock of 4711: ausverkauft, 売り切れ 🛒 \u001b[31m";
        throw new IllegalStateException(text, new RuntimeException("the cause"));
    }

    static void refuse() {
        throw new IllegalArgumentException("nobody cares for 4711");
    }

    /** Case is a topic, its listener and its dead letters. */
    final class Case {
        final String name, topic, deadLetters;
        final DeadLetterPublishingRecoverer recoverer = new DeadLetterPublishingRecoverer(template(tape));
        private Deserializer<?> key = BYTES, value = BYTES;
        private Object listener = (MessageListener<Object, Object>) r -> { };
        private int attempts = 1;

        Case(String name) {
            this(name, name);
        }

        Case(String name, String topic) {
            this.name = name;
            this.topic = topic;
            deadLetters = topic + "-dlt";
        }

        Case listener(Consumer<ConsumerRecord<Object, Object>> handler) {
            return listener((MessageListener<Object, Object>) handler::accept);
        }

        Case listener(Object listener) {
            this.listener = listener;
            return this;
        }

        Case attempts(int attempts) {
            this.attempts = attempts;
            return this;
        }

        Case deserializers(Deserializer<?> key, Deserializer<?> value) {
            this.key = key;
            this.value = value;
            return this;
        }

        void publish(String recordKey, String recordValue) throws Exception {
            tape.original(topic, recordKey, recordValue);
            tape.topic(deadLetters, Map.of());
        }

        void record(String recordKey, String recordValue) throws Exception {
            publish(recordKey, recordValue);
            run(() -> tape.write(name, VERSION, name, deadLetters));
        }

        /** record is for a topic that has the dead letter of an original already. */
        void record(String original) throws Exception {
            tape.topic(deadLetters, Map.of());
            run(() -> tape.write(name, VERSION, original, deadLetters));
        }

        void run(Step step) throws Exception {
            ContainerProperties properties = new ContainerProperties(topic);
            properties.setGroupId(topic + ".group");
            properties.setMessageListener(listener);
            properties.setDeliveryAttemptHeader(attempts > 1);
            DefaultKafkaConsumerFactory<Object, Object> consumers = new DefaultKafkaConsumerFactory<>(consumerConfig(tape));
            consumers.setKeyDeserializer(cast(key));
            consumers.setValueDeserializer(cast(value));
            var container = new KafkaMessageListenerContainer<>(consumers, properties);
            container.setCommonErrorHandler(new DefaultErrorHandler(recoverer, new FixedBackOff(0, attempts - 1)));
            container.start();
            try {
                step.run();
            } finally {
                container.stop();
            }
        }
    }

    interface Step {
        void run() throws Exception;
    }

    static Map<String, Object> consumerConfig(Tape tape) {
        return new HashMap<>(Map.of("bootstrap.servers", tape.brokers, "auto.offset.reset", "earliest"));
    }

    static KafkaTemplate<Object, Object> template(Tape tape) {
        return new KafkaTemplate<>(new DefaultKafkaProducerFactory<>(Map.of("bootstrap.servers", tape.brokers,
            "key.serializer", ByteArraySerializer.class, "value.serializer", ByteArraySerializer.class)));
    }

    @SuppressWarnings("unchecked")
    private static <T> T cast(Object o) {
        return (T) o;
    }
}
