// A service that a test drives: one command a line on stdin, {"id": 1, "do": "publish", …}, and one answer a line on stdout,
// {"id": 1, "result": …} or {"id": 1, "error": "…"}. It ends when stdin does.
import { randomUUID } from "node:crypto"
import { join } from "node:path"
import { createInterface } from "node:readline"

import { Bus } from "./bus"
import { type Event, topics } from "./catalogue"
import { examples } from "./examples"
import { Journal } from "./journal"
import { Validator } from "./validator"

const env = process.env
const config = {
  service: env["SERVICE"] ?? "neighbour-service",
  brokers: (env["KAFKA_BROKERS"] ?? "localhost:9092").split(","),
  prefix: env["KAFKA_TOPIC_PREFIX"] ?? "",
}
const validator = new Validator(env["SCHEMAS"] ?? join(__dirname, "../../../../schemas"))
const bus = new Bus(config, validator)
const initialized = bus.initialize()
const journals = new Map<string, Journal>()

interface Command {
  id: number
  do: string
  topic: string
  topics: string[]
  group: string
  failing?: string[]
  values?: boolean
  event: Event
  key?: string | null
  keys: string[]
  value: string
  from?: number
}

function journal(group: string): Journal {
  const found = journals.get(group)
  if (found === undefined) {
    throw new Error(`no member of ${group} was started here`)
  }
  return found
}

const commands: Record<string, (c: Command) => unknown> = {
  topics: () => topics,
  schemas: () => validator.size,
  publish: (c) => bus.publish(c.topic, c.event, c.key),
  send: (c) => bus.send(c.topic, c.key ?? null, c.value),
  // an event of each key, of a topic that is nobody's
  keyed: async (c) => {
    const written = []
    for (const key of c.keys) {
      written.push(await bus.publish(c.topic, { eventId: randomUUID(), timestamp: new Date().toISOString(), payload: { key } }, key))
    }
    return written
  },
  // all examples of a topic; each second one of a form without a key
  examples: async (c) => {
    const written = []
    for (const event of examples(c.topic, config.service)) {
      const key: null | undefined = event.correlationId === undefined && written.length % 2 === 1 ? null : undefined
      written.push({ ...(await bus.publish(c.topic, event, key)), event })
    }
    return written
  },
  subscribe: async (c) => {
    const notes = journals.get(c.group) ?? new Journal(validator, new Set(c.failing), c.values ?? false)
    journals.set(c.group, notes)
    await bus.subscribe(c.topics, c.group, notes.handle)
  },
  unsubscribe: (c) => bus.unsubscribe(c.group),
  handled: (c) => journal(c.group).entries.slice(c.from ?? 0),
  count: (c) => ({ handled: journal(c.group).entries.length, crashes: bus.crashes }),
}

async function answer(line: string): Promise<void> {
  const command = JSON.parse(line) as Command
  try {
    await initialized
    const run = commands[command.do]
    if (run === undefined) {
      throw new Error(`no such command: ${command.do}`)
    }
    say({ id: command.id, result: (await run(command)) ?? null })
  } catch (error) {
    say({ id: command.id, error: String(error) })
  }
}

function say(message: unknown): void {
  process.stdout.write(JSON.stringify(message) + "\n")
}

let ending = false
async function end(): Promise<void> {
  if (ending) {
    return
  }
  ending = true
  setTimeout(() => process.exit(1), 20_000) // whatever hangs: no process is left behind
  await bus.shutdown()
  process.exit(0)
}

process.on("SIGTERM", () => void end())
process.on("SIGINT", () => void end())
process.stdout.on("error", () => void end()) // nobody reads any longer
const lines = createInterface({ input: process.stdin })
lines.on("line", (line) => void answer(line))
lines.on("close", () => void end())
