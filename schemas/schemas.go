// Package schemas holds the JSON Schemas (2020-12) of DreamScape's events: the envelope's and one for each payload, named by the
// event type. They use no keyword that Ajv's strict mode does not know, so TypeScript services check with the same files.
package schemas

import (
	"embed"
	"fmt"
)

// FS holds the schema files: envelope.json and <event type>.json.
//
//go:embed *.json
var FS embed.FS

// Envelope returns the schema of the envelope, whatever the payload.
func Envelope() []byte { return Payload("envelope") }

// Payload returns the schema of an event type's payload, such as "user.created". It panics on a type that has none, because it
// is meant for package variables.
func Payload(eventType string) []byte {
	data, err := FS.ReadFile(eventType + ".json")
	if err != nil {
		panic(fmt.Sprintf("schemas: no schema for the event type %q", eventType))
	}
	return data
}
