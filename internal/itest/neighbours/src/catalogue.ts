// The fleet's topics, without a prefix: the event type, and the field of the payload that is the record's key.
export const keyFields: Record<string, string> = {
  "auth.login": "userId",
  "auth.logout": "userId",
  "auth.token.refreshed": "userId",
  "auth.password.changed": "userId",
  "auth.password.reset.requested": "email",
  "auth.account.locked": "userId",
  "user.created": "userId",
  "user.updated": "userId",
  "user.deleted": "userId",
  "user.profile.updated": "userId",
  "user.preferences.updated": "userId",
  "voyage.search.performed": "userId",
  "voyage.booking.created": "bookingId",
  "voyage.booking.confirmed": "bookingId",
  "voyage.booking.cancelled": "bookingId",
  "voyage.booking.updated": "bookingId",
  "voyage.flight.selected": "userId",
  "voyage.hotel.selected": "userId",
  "payment.initiated": "transactionId",
  "payment.completed": "transactionId",
  "payment.failed": "transactionId",
  "payment.refunded": "transactionId",
  "payment.partial.refund": "transactionId",
  "ai.recommendation.requested": "userId",
  "ai.recommendation.generated": "userId",
  "ai.prediction.made": "userId",
  "ai.user.behavior.analyzed": "userId",
}

export const topicPrefix = "dreamscape."

export const topics = Object.keys(keyFields).map((type) => topicPrefix + type)

// eventType is the topic's name without the fleet's own prefix.
export function eventType(topic: string): string {
  return topic.startsWith(topicPrefix) ? topic.slice(topicPrefix.length) : topic
}

// keyOf is the record's key of a payload; topics of others have none.
export function keyOf(topic: string, payload: Payload): string | null {
  const field = keyFields[eventType(topic)]
  const key = field === undefined ? undefined : payload[field]
  return typeof key === "string" ? key : null
}

export type Payload = Record<string, unknown>

// Event is the envelope. Today's helpers leave out what is optional here.
export interface Event {
  eventId: string
  timestamp: string
  payload: Payload
  eventType?: string
  version?: string
  source?: string
  correlationId?: string
}
