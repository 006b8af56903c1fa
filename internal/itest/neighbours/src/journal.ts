import type { Event } from "./catalogue"
import { type Message, retryCount } from "./retrier"
import type { Validator } from "./validator"

// Entry is an event that a handler got.
export interface Entry {
  topic: string
  partition: number
  offset: number
  key: string | null // base64
  eventId: string
  retryCount: number
  problems: string[] // by the schemas
  failed: boolean
  value?: string // base64
}

// Journal notes what a group's handler gets.
export class Journal {
  readonly entries: Entry[] = []

  constructor(
    private readonly validator: Validator,
    private readonly failing: Set<string>, // the keys whose events fail
    private readonly values: boolean,
  ) {}

  readonly handle = async (event: Event, message: Message): Promise<void> => {
    const failed = message.key !== null && this.failing.has(message.key.toString())
    this.entries.push({
      topic: message.topic,
      partition: message.partition,
      offset: Number(message.offset),
      key: message.key?.toString("base64") ?? null,
      eventId: event.eventId,
      retryCount: retryCount(message),
      problems: this.validator.event(message.topic, event),
      failed,
      ...(this.values && { value: message.value?.toString("base64") }),
    })
    if (failed) {
      throw new Error("told to fail")
    }
  }
}
