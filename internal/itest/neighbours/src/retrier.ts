import { setTimeout as sleep } from "node:timers/promises"

import type { KafkaMessage, Producer } from "kafkajs"

// Message is a record, with its topic by Kafka's name and by the fleet's.
export type Message = KafkaMessage & { kafkaTopic: string; topic: string; partition: number }

const retries = 3
const firstWait = 50 // ms; doubled each time

// Retrier does with a failing event what the fleet's TypeScript services do: it is sent to its own topic again, with the header
// retryCount, up to three times, and then to the topic of dead letters, with all its headers and nothing else about the failure.
export class Retrier {
  constructor(private readonly producer: Producer) {}

  async handle(message: Message, run: () => Promise<void>): Promise<void> {
    try {
      await run()
    } catch {
      await this.again(message, retryCount(message))
    }
  }

  private async again(message: Message, failed: number): Promise<void> {
    if (failed >= retries) {
      return this.send(`${message.kafkaTopic}.dlq`, message, failed)
    }
    await sleep(firstWait * 2 ** failed)
    return this.send(message.kafkaTopic, message, failed + 1)
  }

  private async send(topic: string, { key, value, headers }: Message, count: number): Promise<void> {
    await this.producer.send({ topic, acks: -1, messages: [{ key, value, headers: { ...headers, retryCount: String(count) } }] })
  }
}

// retryCount is how often the event was sent again already.
export function retryCount(message: Message): number {
  return Number(message.headers?.["retryCount"]?.toString() ?? 0)
}
