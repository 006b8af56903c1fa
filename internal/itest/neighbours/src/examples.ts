import { randomUUID } from "node:crypto"

import { type Event, type Payload, eventType } from "./catalogue"

const now = () => new Date().toISOString()

// payloads are what the fleet's services publish, by the event type; a topic may have several.
const payloads: Record<string, () => Payload[]> = {
  "auth.login": () => [{ userId: "u-1", timestamp: now(), ipAddress: "203.0.113.7", userAgent: "Mozilla/5.0 (Zürich; 日本)" }],
  "auth.logout": () => [{ userId: "u-1", sessionId: randomUUID(), timestamp: now() }],
  "auth.token.refreshed": () => [{ userId: "u-1", oldTokenId: randomUUID(), newTokenId: randomUUID() }],
  "auth.password.changed": () => [{ userId: "u-1", timestamp: now() }],
  "auth.password.reset.requested": () => [{ email: "ada@example.com", resetToken: randomUUID(), expiresAt: now() }],
  "auth.account.locked": () => [{ userId: "u-1", reason: "5 failed logins", lockedUntil: "2030-02-28T23:59:59.999Z" }],
  "user.created": () => [
    { userId: randomUUID(), email: "ada@example.com", firstName: "Ada", lastName: "Lovelace" },
    { userId: "ü-😀", email: "zoe+tag@example.co.uk", firstName: "Zoë 👩‍🚀", lastName: "O’Neil\u2028\t\"\\" },
  ],
  "user.updated": () => [{ userId: "u-1", changes: { lastName: "King", age: 36, address: { city: "Łódź" }, tags: [] } }],
  "user.deleted": () => [{ userId: "u-1", deletedAt: now() }],
  "user.profile.updated": () => [{ userId: "u-1", profileData: { bio: null, scores: [0.1, -1e-7, 1e21] } }],
  "user.preferences.updated": () => [{ userId: "u-1", preferences: {} }],
  "voyage.search.performed": () => [
    { userId: "u-1", searchCriteria: { to: "PAR", nights: 3 }, resultCount: 0 },
    { userId: "u-1", searchCriteria: {}, resultCount: 2 ** 53 - 1 },
  ],
  "voyage.booking.created": () => [
    { bookingId: "b-1", userId: "u-1", flightId: "f-1", hotelId: "h-1" },
    { bookingId: "b-1", userId: "u-1", flightId: "f-1", hotelId: "h-1", amount: 19.9, currency: "EUR" },
  ],
  "voyage.booking.confirmed": () => [{ bookingId: "b-1", confirmationCode: "XK7P" }],
  "voyage.booking.cancelled": () => [{ bookingId: "b-1", reason: "payment failed" }],
  "voyage.booking.updated": () => [{ bookingId: "b-1", changes: { hotelId: "h-2" } }],
  "voyage.flight.selected": () => [{ userId: "u-1", flightId: "f-1", flightData: { from: "ZRH", price: 0.1 + 0.2 } }],
  "voyage.hotel.selected": () => [{ userId: "u-1", hotelId: "h-1", hotelData: { stars: 5 } }],
  "payment.initiated": () => [
    { transactionId: "t-1", userId: "u-1", amount: 0.1, currency: "EUR" },
    { transactionId: "t-1", userId: "u-1", amount: 1e21, currency: "JPY", bookingId: "b-1" }, // 1e+21 on the wire
  ],
  "payment.completed": () => [
    { transactionId: "t-1", stripePaymentId: "pi_1" },
    { transactionId: "t-1", stripePaymentId: "pi_1", userId: "u-1", bookingId: "b-1", amount: 19.9, currency: "EUR" },
  ],
  "payment.failed": () => [
    { transactionId: "t-1", errorCode: "card_declined", reason: "declined" },
    { transactionId: "t-1", errorCode: "card_declined", reason: "declined", userId: "u-1", bookingId: "b-1" },
  ],
  "payment.refunded": () => [
    { transactionId: "t-1", refundId: "re_1", amount: 0 },
    { transactionId: "t-1", refundId: "re_1", amount: 1e-7, bookingId: "b-1" },
  ],
  "payment.partial.refund": () => [
    { transactionId: "t-1", refundId: "re_1", amount: 4.5 },
    { transactionId: "t-1", refundId: "re_1", amount: 19.99, bookingId: "b-1" },
  ],
  "ai.recommendation.requested": () => [{ userId: "u-1", context: { page: "home" } }],
  "ai.recommendation.generated": () => [
    { userId: "u-1", recommendations: [] },
    { userId: "u-1", recommendations: [{ hotelId: "h-1", score: 0.97 }, "PAR", 3, null] },
  ],
  "ai.prediction.made": () => [{ userId: "u-1", predictionType: "churn", data: { probability: 0.25 } }],
  "ai.user.behavior.analyzed": () => [{ userId: "u-1", insights: { segments: ["family", "sea"] } }],
}

// row is a payload as it is where a service publishes what its ORM gave it.
function row(payload: Payload): Payload {
  return { ...payload, id: 4711, createdAt: now(), updatedAt: null, passwordHash: "", relations: { orders: [] }, $schema: "users" }
}

// examples are a topic's events, in every form in which services write them.
export function examples(topic: string, service: string): Event[] {
  const make = payloads[eventType(topic)]
  if (make === undefined) {
    throw new Error(`${topic}: there are no examples of it`)
  }
  // Today's helper leaves the rest of the envelope out.
  const helped = (payload: Payload): Event => ({ eventId: randomUUID(), timestamp: now(), payload })
  const full = (payload: Payload): Event => ({
    ...helped(payload),
    eventType: eventType(topic),
    version: "1.0",
    source: service,
    correlationId: randomUUID(),
  })
  return [
    ...make().map(helped),
    ...make().map(full),
    ...make().map((payload) => helped(row(payload))),
    ...make().map((payload) => ({ ...full(row(payload)), userAgent: "unknown to the envelope", retries: 0 })),
  ]
}
