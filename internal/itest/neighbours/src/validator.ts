import { readFileSync, readdirSync } from "node:fs"
import { join } from "node:path"

import Ajv2020, { type ValidateFunction } from "ajv/dist/2020"
import addFormats from "ajv-formats"

import { eventType } from "./catalogue"

// Validator holds events against the folder of schemas that the Go services embed, with Ajv at its strictest: a keyword that it does not
// know, or a schema of another draft, is an error at the start.
export class Validator {
  private readonly schemas = new Map<string, ValidateFunction>()

  constructor(folder: string) {
    const ajv = new Ajv2020({ strict: true, strictTypes: true, strictTuples: true, strictRequired: true, allErrors: true })
    addFormats(ajv)
    for (const file of readdirSync(folder).filter((name) => name.endsWith(".json"))) {
      this.schemas.set(file.slice(0, -".json".length), ajv.compile(JSON.parse(readFileSync(join(folder, file), "utf8"))))
    }
  }

  // payload is what is wrong with a payload of a topic; nothing where the topic has no schema.
  payload(topic: string, payload: unknown): string[] {
    return problems("payload", this.schemas.get(eventType(topic)), payload)
  }

  // event is what is wrong with a whole event of a topic, its envelope included.
  event(topic: string, event: unknown): string[] {
    const wrong = problems("envelope", this.schemas.get("envelope"), event)
    const { payload, eventType: type } = (event ?? {}) as { payload?: unknown; eventType?: unknown }
    if (type !== undefined && type !== eventType(topic)) {
      wrong.push(`envelope/eventType must be ${eventType(topic)}`)
    }
    return [...wrong, ...this.payload(topic, payload)]
  }

  get size(): number {
    return this.schemas.size
  }
}

function problems(of: string, validate: ValidateFunction | undefined, value: unknown): string[] {
  if (validate === undefined || validate(value)) {
    return []
  }
  return (validate.errors ?? []).map((e) => `${of}${e.instancePath} ${e.message ?? e.keyword}`)
}
