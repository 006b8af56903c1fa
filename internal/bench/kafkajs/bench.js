// kafkajs and Ajv, as the fleet's services use them: one child of the benchmark. The task is the argument, the result a line of JSON.
"use strict"

const { randomUUID } = require("node:crypto")
const { performance } = require("node:perf_hooks")
const Ajv2020 = require("ajv/dist/2020")
const addFormats = require("ajv-formats")
const { Kafka, Partitioners, logLevel } = require("kafkajs")

const keys = 1000
const batch = 1000 // events of a send, where nobody waits for one: kafkajs makes no batches by itself
const flying = 4 // such sends at once

const task = JSON.parse(process.argv[2])
const ajv = new Ajv2020()
addFormats(ajv)
const validEnvelope = ajv.compile(require("../../../schemas/envelope.json"))
const validPayload = ajv.compile(require("../../../schemas/payment.initiated.json"))
const kafka = new Kafka({ clientId: "payment-service", brokers: task.brokers, logLevel: logLevel.NOTHING })
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const pad = (n, width) => String(n).padStart(width, "0")
const payments = Array.from({ length: keys }, (_, key) => ({
  transactionId: `pi_3OqXw2eZvKYlo2C${pad(key, 4)}`,
  userId: `user-${pad(key, 4)}`,
  amount: (key % 900) + 10 + (key % 100) / 100,
  currency: "EUR",
  bookingId: `booking-2026-${pad(key, 4)}`,
}))

function encode(i) {
  const payload = payments[i % keys]
  const eventId = randomUUID()
  const event = {
    eventId, eventType: "payment.initiated", timestamp: new Date().toISOString(), version: "1.0", source: "payment-service", payload, correlationId: eventId,
  }
  if (!validEnvelope(event) || !validPayload(payload)) throw new Error("the event breaks its schema")
  return { key: payload.transactionId, value: JSON.stringify(event) }
}

function decode(value) {
  const event = JSON.parse(value.toString())
  if (!validEnvelope(event) || !validPayload(event.payload)) throw new Error("the event breaks its schema")
  return event
}

const look = () => ({ at: performance.now(), cpu: process.cpuUsage() })

function until(begin, events) {
  const end = look()
  const cpu = end.cpu.user - begin.cpu.user + end.cpu.system - begin.cpu.system
  return { events, seconds: (end.at - begin.at) / 1e3, cpu: cpu / 1e6 }
}

async function publish() {
  const producer = kafka.producer({
    idempotent: true, maxInFlightRequests: 5, allowAutoTopicCreation: false, createPartitioner: Partitioners.DefaultPartitioner,
  })
  await producer.connect()
  const pipelined = task.work === "pipelined"
  const each = pipelined ? batch : 1
  const run = async (events) => {
    let next = 0
    let sent = 0
    const took = []
    const begin = look()
    const loop = async () => {
      while (next < events && performance.now() - begin.at < task.limit * 1e3) {
        const start = performance.now()
        const messages = []
        for (let n = 0; n < each; n++) messages.push(encode(next++))
        await producer.send({ topic: task.topic, acks: -1, messages })
        took.push((performance.now() - start) / 1e3)
        sent += each
      }
    }
    await Promise.all(Array.from({ length: pipelined ? flying : task.goroutines }, loop))
    const result = until(begin, sent)
    took.sort((a, b) => a - b)
    const quantile = (q) => took[Math.min(Math.floor(q * took.length), took.length - 1)]
    return pipelined ? result : { ...result, p50: quantile(0.5), p99: quantile(0.99) } // a send of many is not an event
  }
  await run(task.warmup)
  const result = await run(task.events)
  await producer.disconnect()
  return result
}

async function consume() {
  const consumer = kafka.consumer({ groupId: task.group, allowAutoTopicCreation: false })
  await consumer.connect()
  await consumer.subscribe({ topic: task.topic, fromBeginning: true })
  let n = 0
  let begin
  let first
  let measured
  const done = new Promise((resolve, reject) => {
    measured = resolve
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
  })
  const start = () => {
    if (begin) return
    first = n
    begin = look()
    setTimeout(stop, task.limit * 1e3)
  }
  const stop = () => measured(until(begin, n - first))
  const event = () => {
    n++
    if (n === 1) setTimeout(start, task.limit * 1e3)
    if (n === task.warmup) start()
    if (n === task.warmup + task.events) stop()
  }
  await consumer.run({
    autoCommitInterval: 1000,
    partitionsConsumedConcurrently: 12,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch: { messages }, resolveOffset, heartbeat, commitOffsetsIfNecessary }) => {
      for (const m of messages) {
        decode(m.value)
        if (task.handlerMs > 0) await sleep(task.handlerMs)
        event()
        resolveOffset(m.offset)
      }
      await commitOffsetsIfNecessary()
      await heartbeat()
    },
  })
  return done
}

const work = task.work === "consume" ? consume() : publish()
work.then(
  (result) => process.stdout.write(JSON.stringify(result) + "\n", () => process.exit(0)),
  (error) => { process.stderr.write(`${error.stack}\n`); process.exit(1) },
)
