package recorder;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Share groups: the broker itself writes what a group rejects, or releases too often (KIP-1191). */
final class ShareLetters {
    private final Tape tape;

    private ShareLetters(Tape tape) {
        this.tape = tape;
    }

    static void record(Tape tape) throws Exception {
        ShareLetters share = new ShareLetters(tape);
        share.record("share-rejected", AcknowledgeType.REJECT, true);
        share.record("share-released", AcknowledgeType.RELEASE, true);
        share.record("share-bare", AcknowledgeType.REJECT, false);
    }

    private void record(String name, AcknowledgeType answer, boolean copy) throws Exception {
        tape.original(name, "user-1", "{\"number\":4711}");
        tape.topic("dlq." + name, Map.of("errors.deadletterqueue.group.enable", "true"));
        configure(name + ".group", Map.of("share.auto.offset.reset", "earliest", "share.delivery.count.limit", "3",
            "errors.deadletterqueue.topic.name", "dlq." + name, "errors.deadletterqueue.copy.record.enable", Boolean.toString(copy)));
        AtomicBoolean stop = new AtomicBoolean();
        Thread consumer = new Thread(() -> consume(name, answer, stop));
        consumer.start();
        try {
            tape.write(name, "a share group", name, "dlq." + name);
        } finally {
            stop.set(true);
            consumer.join();
        }
    }

    private void configure(String group, Map<String, String> config) throws Exception {
        List<AlterConfigOp> ops = new ArrayList<>();
        config.forEach((k, v) -> ops.add(new AlterConfigOp(new ConfigEntry(k, v), AlterConfigOp.OpType.SET)));
        tape.admin().incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, group), ops)).all().get();
    }

    private void consume(String topic, AcknowledgeType answer, AtomicBoolean stop) {
        Map<String, Object> config = Map.of("bootstrap.servers", tape.brokers, "group.id", topic + ".group",
            "share.acknowledgement.mode", "explicit");
        try (var consumer = new KafkaShareConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (!stop.get()) {
                consumer.poll(Duration.ofMillis(200)).forEach(r -> consumer.acknowledge(r, answer));
                consumer.commitSync();
            }
        }
    }
}
