package recorder;

import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.kafka.annotation.BackOff;
import org.springframework.kafka.annotation.EnableKafkaRetryTopic;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.annotation.RetryableTopic;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.KafkaAdmin;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.scheduling.TaskScheduler;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;

/** Spring's non-blocking retries: three tries, each from a topic of its own, then the dead-letter topic. */
@Configuration
@EnableKafkaRetryTopic
class SpringRetryTopic {
    private static final String TOPIC = "spring-retry-topic";
    private static Tape tape;

    static void record(Tape on, SpringLetters spring) throws Exception {
        tape = on;
        tape.original(TOPIC, "user-1", "{\"number\":4711}");
        try (var context = new AnnotationConfigApplicationContext(SpringRetryTopic.class)) {
            tape.write(TOPIC, SpringLetters.VERSION, TOPIC, TOPIC + "-dlt");
        }
        spring.new Case(TOPIC + "-again", TOPIC + "-dlt").listener(r -> SpringLetters.refuse()).record(TOPIC);
    }

    @RetryableTopic(attempts = "3", backOff = @BackOff(delay = 100), numPartitions = "3", replicationFactor = "1")
    @KafkaListener(topics = TOPIC, groupId = TOPIC + ".group")
    void handle(ConsumerRecord<byte[], byte[]> record) {
        SpringLetters.fail(0);
    }

    @Bean
    KafkaTemplate<Object, Object> defaultRetryTopicKafkaTemplate() {
        return SpringLetters.template(tape);
    }

    @Bean
    ConcurrentKafkaListenerContainerFactory<byte[], byte[]> kafkaListenerContainerFactory() {
        var factory = new ConcurrentKafkaListenerContainerFactory<byte[], byte[]>();
        var bytes = new ByteArrayDeserializer();
        factory.setConsumerFactory(new DefaultKafkaConsumerFactory<>(SpringLetters.consumerConfig(tape), bytes, bytes));
        return factory;
    }

    @Bean
    KafkaAdmin kafkaAdmin() {
        return new KafkaAdmin(Map.of("bootstrap.servers", tape.brokers));
    }

    @Bean
    TaskScheduler taskScheduler() {
        return new ThreadPoolTaskScheduler();
    }
}
