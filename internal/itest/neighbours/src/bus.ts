import { type Consumer, type IHeaders, Kafka, Partitioners, type Producer, logLevel } from "kafkajs"

import { type Event, keyOf } from "./catalogue"
import { type Message, Retrier } from "./retrier"
import type { Validator } from "./validator"

export interface Config {
  service: string
  brokers: string[]
  prefix: string // before the name of every topic and group, so that fleets share a cluster
}

export type Handler = (event: Event, message: Message) => Promise<void>

export interface Place {
  topic: string
  partition: number
  offset: string
}

// Bus is what the fleet's services have of Kafka: initialize, publish, subscribe, shutdown.
export class Bus {
  private readonly kafka: Kafka
  private readonly producer: Producer
  private readonly retrier: Retrier
  private readonly consumers = new Map<string, Consumer>()
  readonly crashes: string[] = []

  constructor(
    private readonly config: Config,
    private readonly validator: Validator,
  ) {
    this.kafka = new Kafka({
      clientId: config.service,
      brokers: config.brokers,
      logLevel: logLevel.WARN,
      logCreator: () => (entry) => process.stderr.write(`${entry.namespace} ${entry.log.message} ${entry.log.error ?? ""}\n`),
    })
    this.producer = this.kafka.producer({
      idempotent: true,
      maxInFlightRequests: 5,
      allowAutoTopicCreation: false,
      createPartitioner: Partitioners.DefaultPartitioner, // murmur2, as Kafka's Java client
      retry: { initialRetryTime: 100, multiplier: 2, factor: 0.2, maxRetryTime: 30_000, retries: Number.MAX_SAFE_INTEGER },
    })
    this.retrier = new Retrier(this.producer)
  }

  async initialize(): Promise<void> {
    await this.producer.connect()
  }

  // publish sends one event and waits until all in-sync replicas have it. An event whose payload breaks its schema is not sent.
  async publish(topic: string, event: Event, key?: string | null): Promise<Place> {
    const wrong = this.validator.payload(topic, event.payload)
    if (wrong.length > 0) {
      throw new Error(`${topic}: ${wrong.join(", ")}`)
    }
    return this.send(topic, key === undefined ? keyOf(topic, event.payload) : key, JSON.stringify(event))
  }

  // send writes a value as it is, past every check.
  async send(topic: string, key: string | null, value: string, headers?: IHeaders): Promise<Place> {
    const [written] = await this.producer.send({ topic: this.config.prefix + topic, acks: -1, messages: [{ key, value, headers }] })
    if (written === undefined || written.baseOffset === undefined) {
      throw new Error(`${topic}: the broker did not say where the record is`)
    }
    return { topic, partition: written.partition, offset: written.baseOffset }
  }

  // subscribe has a member of the group handle the topics' events. What fails is sent to its topic again, and then to the dead letters.
  async subscribe(topics: string[], group: string, handler: Handler): Promise<void> {
    const consumer = this.kafka.consumer({
      groupId: this.config.prefix + group,
      allowAutoTopicCreation: false,
      maxWaitTimeInMs: 500, // stopping waits for the fetch under way
    })
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      if (!payload.restart) {
        this.crashes.push(`${payload.error.name}: ${payload.error.message}`) // it consumes nothing any longer
      }
    })
    this.consumers.set(group, consumer)
    await consumer.connect()
    await consumer.subscribe({ topics: topics.map((topic) => this.config.prefix + topic), fromBeginning: true })
    await consumer.run({
      eachMessage: async ({ topic, partition, message }) => {
        const received = { ...message, kafkaTopic: topic, topic: topic.slice(this.config.prefix.length), partition }
        await this.retrier.handle(received, async () => handler(JSON.parse(String(message.value)) as Event, received))
      },
    })
  }

  // unsubscribe ends the group's member: what it has handled is committed, and it leaves.
  async unsubscribe(group: string): Promise<void> {
    const consumer = this.consumers.get(group)
    this.consumers.delete(group)
    await consumer?.disconnect()
  }

  // shutdown ends the consumers first, then the producer.
  async shutdown(): Promise<void> {
    await Promise.all([...this.consumers.keys()].map((group) => this.unsubscribe(group)))
    await this.producer.disconnect()
  }
}
