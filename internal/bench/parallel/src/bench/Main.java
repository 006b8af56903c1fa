package bench;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.management.OperatingSystemMXBean;
import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.lang.management.ManagementFactory;
import java.math.BigDecimal;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Confluent's Parallel Consumer: one child of the benchmark. The task is the argument, the result a line of JSON. */
public final class Main {
  record Payment(String transactionId, String userId, BigDecimal amount, String currency, String bookingId) {}

  record Envelope(
      String eventId, String eventType, String timestamp, String version, String source, Payment payload, String correlationId) {}

  record Snapshot(long nanos, long cpu, long events) {}

  private static final ObjectMapper JSON = new ObjectMapper().disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES);
  private static final int WARMUP_LIMITS = 4; // the JVM compiles what it runs on the same cores, so it takes longer to be warm than the others
  private static final OperatingSystemMXBean SYSTEM = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

  private final AtomicLong handled = new AtomicLong();
  private final CountDownLatch measured = new CountDownLatch(1);
  private final Timer timer = new Timer(true);
  private final JsonNode task;
  private final long warmup;
  private final long events;
  private final long limit;
  private Snapshot begin;
  private Snapshot end;

  private Main(JsonNode task) {
    this.task = task;
    warmup = task.get("warmup").asLong();
    events = task.get("events").asLong();
    limit = (long) (task.get("limit").asDouble() * 1_000);
  }

  public static void main(String[] args) throws Exception {
    new Main(JSON.readTree(args[0])).run();
    System.exit(0);
  }

  private void run() throws Exception {
    ParallelStreamProcessor<byte[], byte[]> processor = ParallelStreamProcessor.createEosStreamProcessor(options());
    processor.subscribe(List.of(task.get("topic").asText()));
    int work = task.get("handlerMs").asInt();
    processor.poll(
        context -> {
          try {
            JSON.readValue(context.getSingleConsumerRecord().value(), Envelope.class);
            Thread.sleep(work);
          } catch (Exception e) {
            throw new IllegalStateException(e);
          }
          count();
        });
    measured.await();
    double seconds = (end.nanos - begin.nanos) / 1e9;
    double cpu = (end.cpu - begin.cpu) / 1e9;
    System.out.printf(java.util.Locale.ROOT, "{\"events\":%d,\"seconds\":%f,\"cpu\":%f}%n", end.events - begin.events, seconds, cpu);
    processor.close(Duration.ofSeconds(5), io.confluent.parallelconsumer.internal.DrainingCloseable.DrainingMode.DONT_DRAIN);
  }

  /**
   * 250 threads cost it less than half the CPU of 1,000, one a key, and bound it at 250,000 events a second, which two cores do not reach; more
   * records a poll change nothing. JAVA_TOOL_OPTIONS="-Dconcurrency=N -Dpoll=N" tries others.
   */
  private ParallelConsumerOptions<byte[], byte[]> options() {
    Properties p = new Properties();
    p.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, task.get("brokers").get(0).asText());
    p.put(ConsumerConfig.GROUP_ID_CONFIG, task.get("group").asText());
    p.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    p.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
    p.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, Integer.getInteger("poll", 500));
    return ParallelConsumerOptions.<byte[], byte[]>builder()
        .consumer(new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer()))
        .ordering(ProcessingOrder.KEY)
        .maxConcurrency(Integer.getInteger("concurrency", 250))
        .commitMode(CommitMode.PERIODIC_CONSUMER_ASYNCHRONOUS)
        .commitInterval(Duration.ofSeconds(1))
        .build();
  }

  private void count() {
    long n = handled.incrementAndGet();
    if (n == 1) {
      later(this::start, WARMUP_LIMITS);
    }
    if (n == warmup) {
      start();
    }
    if (n == warmup + events) {
      stop();
    }
  }

  private void later(Runnable r, int limits) {
    timer.schedule(
        new TimerTask() {
          @Override
          public void run() {
            r.run();
          }
        },
        limits * limit);
  }

  private synchronized void start() {
    if (begin == null) {
      begin = look();
      later(this::stop, 1);
    }
  }

  private synchronized void stop() {
    if (end == null) {
      end = look();
      measured.countDown();
    }
  }

  private Snapshot look() {
    return new Snapshot(System.nanoTime(), SYSTEM.getProcessCpuTime(), handled.get());
  }
}
