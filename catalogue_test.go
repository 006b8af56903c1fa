package eventbus_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/schemas"
)

// contract is one line of DreamScape's list of topics, and an example with every field set.
type contract struct {
	event              string
	key                string
	required, optional []string

	topic   eventbus.AnyTopic
	payload reflect.Type
	example func() eventbus.AnyEvent
	empty   func() eventbus.AnyEvent // with the zero payload
	decode  func(value []byte) (eventbus.AnyEvent, any, error)
}

func line[T any](event string, topic *eventbus.Topic[T], key, required, optional string, example T) contract {
	return contract{
		event: event, key: key, required: strings.Fields(required), optional: strings.Fields(optional),
		topic: topic, payload: reflect.TypeFor[T](),
		example: func() eventbus.AnyEvent { return topic.New(example) },
		empty:   func() eventbus.AnyEvent { return topic.New(*new(T)) },
		decode: func(value []byte) (eventbus.AnyEvent, any, error) {
			e, err := topic.Decode(value)
			if err != nil {
				return nil, nil, err
			}
			return e, e.Payload, nil
		},
	}
}

// catalogue is what the platform has agreed on, written down a second time on purpose.
func catalogue() []contract {
	at := time.Date(2026, 1, 7, 10, 0, 0, 0, time.UTC)
	object := map[string]any{"name": "Ada", "big": json.Number("9007199254740993"), "nested": map[string]any{"list": []any{true, nil, "x"}}}
	amount := new(eventbus.MustDecimal("19.90"))
	return []contract{
		line("auth.login", eventbus.AuthLogin, "userId", "userId timestamp ipAddress userAgent", "",
			eventbus.AuthLoginPayload{UserID: "u-1", Timestamp: at, IPAddress: "::1", UserAgent: "curl/8"}),
		line("auth.logout", eventbus.AuthLogout, "userId", "userId sessionId timestamp", "",
			eventbus.AuthLogoutPayload{UserID: "u-1", SessionID: "s-1", Timestamp: at}),
		line("auth.token.refreshed", eventbus.AuthTokenRefreshed, "userId", "userId oldTokenId newTokenId", "",
			eventbus.AuthTokenRefreshedPayload{UserID: "u-1", OldTokenID: "t-1", NewTokenID: "t-2"}),
		line("auth.password.changed", eventbus.AuthPasswordChanged, "userId", "userId timestamp", "",
			eventbus.AuthPasswordChangedPayload{UserID: "u-1", Timestamp: at}),
		line("auth.password.reset.requested", eventbus.AuthPasswordResetRequested, "email", "email resetToken expiresAt", "",
			eventbus.AuthPasswordResetRequestedPayload{Email: "ada@example.com", ResetToken: "r-1", ExpiresAt: at}),
		line("auth.account.locked", eventbus.AuthAccountLocked, "userId", "userId reason lockedUntil", "",
			eventbus.AuthAccountLockedPayload{UserID: "u-1", Reason: "5 failed logins", LockedUntil: at}),

		line("user.created", eventbus.UserCreated, "userId", "userId email firstName lastName", "",
			eventbus.UserCreatedPayload{UserID: "u-1", Email: "ada@example.com", FirstName: "Ada", LastName: "Lovelace"}),
		line("user.updated", eventbus.UserUpdated, "userId", "userId changes", "",
			eventbus.UserUpdatedPayload{UserID: "u-1", Changes: object}),
		line("user.deleted", eventbus.UserDeleted, "userId", "userId deletedAt", "",
			eventbus.UserDeletedPayload{UserID: "u-1", DeletedAt: at}),
		line("user.profile.updated", eventbus.UserProfileUpdated, "userId", "userId profileData", "",
			eventbus.UserProfileUpdatedPayload{UserID: "u-1", ProfileData: object}),
		line("user.preferences.updated", eventbus.UserPreferencesUpdated, "userId", "userId preferences", "",
			eventbus.UserPreferencesUpdatedPayload{UserID: "u-1", Preferences: object}),

		line("voyage.search.performed", eventbus.VoyageSearchPerformed, "userId", "userId searchCriteria resultCount", "",
			eventbus.VoyageSearchPerformedPayload{UserID: "u-1", SearchCriteria: object, ResultCount: 3}),
		line("voyage.booking.created", eventbus.VoyageBookingCreated, "bookingId", "bookingId userId flightId hotelId", "amount currency",
			eventbus.VoyageBookingCreatedPayload{BookingID: "b-1", UserID: "u-1", FlightID: "f-1", HotelID: "h-1", Amount: amount, Currency: "EUR"}),
		line("voyage.booking.confirmed", eventbus.VoyageBookingConfirmed, "bookingId", "bookingId confirmationCode", "",
			eventbus.VoyageBookingConfirmedPayload{BookingID: "b-1", ConfirmationCode: "XK7P"}),
		line("voyage.booking.cancelled", eventbus.VoyageBookingCancelled, "bookingId", "bookingId reason", "",
			eventbus.VoyageBookingCancelledPayload{BookingID: "b-1", Reason: "payment failed"}),
		line("voyage.booking.updated", eventbus.VoyageBookingUpdated, "bookingId", "bookingId changes", "",
			eventbus.VoyageBookingUpdatedPayload{BookingID: "b-1", Changes: object}),
		line("voyage.flight.selected", eventbus.VoyageFlightSelected, "userId", "userId flightId flightData", "",
			eventbus.VoyageFlightSelectedPayload{UserID: "u-1", FlightID: "f-1", FlightData: object}),
		line("voyage.hotel.selected", eventbus.VoyageHotelSelected, "userId", "userId hotelId hotelData", "",
			eventbus.VoyageHotelSelectedPayload{UserID: "u-1", HotelID: "h-1", HotelData: object}),

		line("payment.initiated", eventbus.PaymentInitiated, "transactionId", "transactionId userId amount currency", "bookingId",
			eventbus.PaymentInitiatedPayload{TransactionID: "p-1", UserID: "u-1", Amount: *amount, Currency: "EUR", BookingID: "b-1"}),
		line("payment.completed", eventbus.PaymentCompleted, "transactionId", "transactionId stripePaymentId", "userId bookingId amount currency",
			eventbus.PaymentCompletedPayload{
				TransactionID: "p-1", StripePaymentID: "pi_1", UserID: "u-1", BookingID: "b-1", Amount: amount, Currency: "EUR",
			}),
		line("payment.failed", eventbus.PaymentFailed, "transactionId", "transactionId errorCode reason", "userId bookingId",
			eventbus.PaymentFailedPayload{TransactionID: "p-1", ErrorCode: "card_declined", Reason: "declined", UserID: "u-1", BookingID: "b-1"}),
		line("payment.refunded", eventbus.PaymentRefunded, "transactionId", "transactionId refundId amount", "bookingId",
			eventbus.PaymentRefundedPayload{TransactionID: "p-1", RefundID: "re_1", Amount: *amount, BookingID: "b-1"}),
		line("payment.partial.refund", eventbus.PaymentPartialRefund, "transactionId", "transactionId refundId amount", "bookingId",
			eventbus.PaymentPartialRefundPayload{TransactionID: "p-1", RefundID: "re_1", Amount: *amount, BookingID: "b-1"}),

		line("ai.recommendation.requested", eventbus.AIRecommendationRequested, "userId", "userId context", "",
			eventbus.AIRecommendationRequestedPayload{UserID: "u-1", Context: object}),
		line("ai.recommendation.generated", eventbus.AIRecommendationGenerated, "userId", "userId recommendations", "",
			eventbus.AIRecommendationGeneratedPayload{UserID: "u-1", Recommendations: []any{object, "x", json.Number("0.10")}}),
		line("ai.prediction.made", eventbus.AIPredictionMade, "userId", "userId predictionType data", "",
			eventbus.AIPredictionMadePayload{UserID: "u-1", PredictionType: "churn", Data: object}),
		line("ai.user.behavior.analyzed", eventbus.AIUserBehaviorAnalyzed, "userId", "userId insights", "",
			eventbus.AIUserBehaviorAnalyzedPayload{UserID: "u-1", Insights: object}),
	}
}

// goName is the event's name in Go: auth.login is AuthLogin, ai.prediction.made is AIPredictionMade.
func goName(event string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(event, ".") {
		if part == "ai" {
			part = "AI"
		}
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

func TestCatalogueIsTheAgreedOne(t *testing.T) {
	var topics, files []string
	constants, variables, payloads := []string{"TopicHealthCheck"}, []string{"HealthCheck"}, []string{"HealthCheckPayload"}
	for _, c := range catalogue() {
		require.Equal(t, "dreamscape."+c.event, c.topic.Name())
		topics = append(topics, c.topic.Name())
		files = append(files, c.event+".json")
		constants = append(constants, "Topic"+goName(c.event))
		variables = append(variables, goName(c.event))
		payloads = append(payloads, goName(c.event)+"Payload")
		require.Equal(t, goName(c.event)+"Payload", c.payload.Name())
	}
	require.Len(t, topics, 27)
	topics, files = append(topics, "dreamscape.health.check"), append(files, "health.check.json", "envelope.json")
	require.Equal(t, topics, topicNames(eventbus.Catalogue()))
	require.Equal(t, eventbus.TopicHealthCheck, eventbus.HealthCheck.Name())

	found, err := fs.Glob(schemas.FS, "*")
	require.NoError(t, err)
	require.ElementsMatch(t, files, found)
	require.ElementsMatch(t, constants, declared(t, "topics.go", token.CONST))
	require.ElementsMatch(t, variables, declared(t, "topics.go", token.VAR))
	require.ElementsMatch(t, payloads, declared(t, "payloads.go", token.TYPE))
}

func TestCatalogueIsANewSlice(t *testing.T) {
	eventbus.Catalogue()[0] = nil
	require.NotNil(t, eventbus.Catalogue()[0])
}

func topicNames(topics []eventbus.AnyTopic) []string {
	names := make([]string, len(topics))
	for i, topic := range topics {
		names[i] = topic.Name()
	}
	return names
}

// declared lists what a source file of the package declares at its top level.
func declared(t *testing.T, file string, kind token.Token) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	var names []string
	for _, d := range parsed.Decls {
		d, ok := d.(*ast.GenDecl)
		if !ok || d.Tok != kind {
			continue
		}
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
			case *ast.ValueSpec:
				for _, n := range s.Names {
					names = append(names, n.Name)
				}
			}
		}
	}
	return names
}

// document is a schema file, read as JSON.
type document struct {
	Schema      string              `json:"$schema"`
	Title       string              `json:"title"`
	Description string              `json:"description"`
	Type        string              `json:"type"`
	Required    []string            `json:"required"`
	Properties  map[string]property `json:"properties"`
	Const       string              `json:"const"`
}

type property struct {
	Type        string      `json:"type"`
	Description string      `json:"description"`
	Format      string      `json:"format,omitempty"`
	MinLength   int         `json:"minLength,omitempty"`
	Minimum     json.Number `json:"minimum,omitempty"`
	Pattern     string      `json:"pattern,omitempty"`
	WriteOnly   bool        `json:"writeOnly,omitempty"`
}

// readSchema refuses every keyword that document does not list: what Ajv's strict mode and the other readers have to know.
func readSchema(t *testing.T, name string) document {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(schemas.Payload(name)))
	d.DisallowUnknownFields()
	var doc document
	require.NoError(t, d.Decode(&doc), name)
	require.Equal(t, "https://json-schema.org/draft/2020-12/schema", doc.Schema, name)
	require.NotEmpty(t, doc.Title, name)
	require.NotEmpty(t, doc.Description, name)
	return doc
}

func TestSchemasAndStructsAgree(t *testing.T) {
	for _, c := range catalogue() {
		t.Run(c.event, func(t *testing.T) {
			doc := readSchema(t, c.event)
			require.Equal(t, "object", doc.Type)
			require.Equal(t, c.required, doc.Required)
			require.Len(t, doc.Properties, len(c.required)+len(c.optional))
			require.Equal(t, len(doc.Properties), c.payload.NumField())
			for i, name := range append(slices.Clone(c.required), c.optional...) {
				field := c.payload.Field(i)
				tag, option, _ := strings.Cut(field.Tag.Get("json"), ",")
				require.Equal(t, name, tag)
				require.Equal(t, slices.Contains(c.optional, name), option == "omitzero", "%s: omitzero means optional", name)
				got := doc.Properties[name]
				require.NotEmpty(t, got.Description, name)
				got.Description = ""
				require.Equal(t, expectedProperty(t, name, field.Type), got, name)
			}
		})
	}
}

// expectedProperty is the one way in which the schemas describe a field of a name and a Go type.
func expectedProperty(t *testing.T, name string, typ reflect.Type) property {
	t.Helper()
	switch typ {
	case reflect.TypeFor[string]():
	case reflect.TypeFor[eventbus.Secret]():
		return property{Type: "string", MinLength: 1, WriteOnly: true}
	case reflect.TypeFor[time.Time]():
		return property{Type: "string", Format: "date-time"}
	case reflect.TypeFor[eventbus.Decimal](), reflect.TypeFor[*eventbus.Decimal]():
		require.Equal(t, "amount", name)
		return property{Type: "number", Minimum: "0"}
	case reflect.TypeFor[int]():
		return property{Type: "integer", Minimum: "0"}
	case reflect.TypeFor[map[string]any]():
		return property{Type: "object"}
	case reflect.TypeFor[[]any]():
		return property{Type: "array"}
	default:
		require.Failf(t, "unexpected type", "%s: %s", name, typ)
	}
	switch {
	case name == "email":
		return property{Type: "string", Format: "email"}
	case name == "currency":
		return property{Type: "string", Pattern: "^[A-Z]{3}$"}
	case strings.HasSuffix(name, "Id"), name == "ipAddress", name == "confirmationCode":
		return property{Type: "string", MinLength: 1}
	}
	return property{Type: "string"}
}

func TestNoPayloadHasAFloat(t *testing.T) {
	for _, c := range catalogue() {
		requireNoFloat(t, c.event, c.payload, map[reflect.Type]bool{})
	}
}

func requireNoFloat(t *testing.T, path string, typ reflect.Type, seen map[reflect.Type]bool) {
	t.Helper()
	if seen[typ] || typ == reflect.TypeFor[time.Time]() {
		return
	}
	seen[typ] = true
	switch typ.Kind() {
	case reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		require.Failf(t, "a float", "%s is a %s", path, typ)
	case reflect.Struct:
		for i := range typ.NumField() {
			requireNoFloat(t, path+"."+typ.Field(i).Name, typ.Field(i).Type, seen)
		}
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		requireNoFloat(t, path+"[]", typ.Elem(), seen)
	}
}

// onTheWire returns the example's value, its payload by field, and a function that puts a changed payload back.
func onTheWire(t testing.TB, c contract) (payload map[string]json.RawMessage, with func(map[string]json.RawMessage) []byte) {
	t.Helper()
	_, value, err := eventbus.EncodeForTest(c.example())
	require.NoError(t, err, c.event)
	var envelope map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(value, &envelope))
	require.NoError(t, json.Unmarshal(envelope["payload"], &payload))
	return payload, func(p map[string]json.RawMessage) []byte {
		text, err := json.Marshal(p)
		require.NoError(t, err)
		envelope["payload"] = text
		text, err = json.Marshal(envelope)
		require.NoError(t, err)
		return text
	}
}

func TestExamplesGoThroughTheCodec(t *testing.T) {
	for _, c := range catalogue() {
		t.Run(c.event, func(t *testing.T) {
			payload, with := onTheWire(t, c)
			require.Len(t, payload, len(c.required)+len(c.optional), "the example has every field")

			first, decoded, err := c.decode(with(payload))
			require.NoError(t, err)
			key, value, err := eventbus.EncodeForTest(first)
			require.NoError(t, err)
			again, second, err := c.decode(value)
			require.NoError(t, err)
			require.Equal(t, decoded, second)
			require.Equal(t, c.topic, again.Topic())

			var want string
			require.NoError(t, json.Unmarshal(payload[c.key], &want))
			require.Equal(t, want, string(key), "the key is the payload's %s", c.key)
			_, _, err = eventbus.EncodeForTest(c.empty())
			require.ErrorContains(t, err, "key", "an empty key is refused")

			payload["unknown"] = json.RawMessage(`{"x":1}`)
			for _, name := range c.optional {
				delete(payload, name)
			}
			_, _, err = c.decode(with(payload))
			require.NoError(t, err, "unknown fields are legal, optional ones may be left out")
		})
	}
}

// wrong are values that a property must not have.
func wrong(p property) []string {
	values := map[string][]string{
		"string":  {`7`, `null`, `{}`, `["x"]`},
		"number":  {`"7"`, `null`, `-1`, `-0.01`, `[]`},
		"integer": {`"7"`, `null`, `-1`, `1.5`},
		"object":  {`[]`, `null`, `"x"`, `1`},
		"array":   {`{}`, `null`, `"x"`, `1`},
	}[p.Type]
	if p.MinLength > 0 || p.Format != "" || p.Pattern != "" {
		values = append(values, `""`)
	}
	if p.Format != "" {
		values = append(values, `"yesterday"`, `"2026-01-07 10:00"`, `"a@b@"`)
	}
	if p.Pattern != "" {
		values = append(values, `"eur"`, `"EURO"`, `"EUR\n"`)
	}
	return values
}

func TestBrokenPayloadsNameTheirField(t *testing.T) {
	for _, c := range catalogue() {
		t.Run(c.event, func(t *testing.T) {
			payload, with := onTheWire(t, c)
			broken := func(name string, value json.RawMessage, rule string) {
				changed := map[string]json.RawMessage{}
				for n, v := range payload {
					changed[n] = v
				}
				changed[name] = value
				if value == nil {
					delete(changed, name)
				}
				_, _, err := c.decode(with(changed))
				var schemaError *eventbus.SchemaError
				require.ErrorAs(t, err, &schemaError, "%s: %s", name, value)
				require.Equal(t, "payload."+name, schemaError.Violations[0].Field)
				require.Contains(t, schemaError.Violations[0].Rule, rule)
			}
			for _, name := range c.required {
				broken(name, nil, "is required")
			}
			for name, p := range readSchema(t, c.event).Properties {
				for _, value := range wrong(p) {
					broken(name, json.RawMessage(value), "")
				}
			}
		})
	}
}

func TestTheHealthTopicHasTheBareTextPing(t *testing.T) {
	doc := readSchema(t, "health.check")
	require.Equal(t, "string", doc.Type)
	require.Equal(t, string(eventbus.Ping), doc.Const)
	require.NoError(t, eventbus.ValidateForTest(schemas.Payload("health.check"), "ping"))
	require.Error(t, eventbus.ValidateForTest(schemas.Payload("health.check"), "pong"))
}

func TestOptionalAmounts(t *testing.T) {
	absent, zero := eventbus.PaymentCompletedPayload{TransactionID: "p-1", StripePaymentID: "pi_1"}, new(eventbus.Decimal)
	for name, tt := range map[string]struct {
		amount *eventbus.Decimal
		want   string
	}{
		"absent":  {nil, `}`},
		"zero":    {zero, `,"amount":0}`},
		"0.00":    {new(eventbus.MustDecimal("0.00")), `,"amount":0.00}`},
		"no loss": {new(eventbus.MustDecimal("9007199254740993.10")), `,"amount":9007199254740993.10}`},
	} {
		t.Run(name, func(t *testing.T) {
			payload := absent
			payload.Amount = tt.amount
			_, value, err := eventbus.EncodeForTest(eventbus.PaymentCompleted.New(payload))
			require.NoError(t, err)
			require.Contains(t, string(value), `"payload":{"transactionId":"p-1","stripePaymentId":"pi_1"`+tt.want)
			e, err := eventbus.PaymentCompleted.Decode(value)
			require.NoError(t, err)
			if tt.amount == nil {
				require.Nil(t, e.Payload.Amount)
				return
			}
			require.Equal(t, tt.amount.String(), e.Payload.Amount.String())
		})
	}
}

func TestOpenObjectsKeepEveryDigit(t *testing.T) {
	const changes = `{"big":123456789012345678901234567890,"deep":{"list":[0.1000,-0,1E+2,"x",null,true,{}]},"nothing":null}`
	e, err := eventbus.UserUpdated.Decode(inEnvelope(`{"userId":"u-1","changes":` + changes + `}`))
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"big":     json.Number("123456789012345678901234567890"),
		"deep":    map[string]any{"list": []any{json.Number("0.1000"), json.Number("-0"), json.Number("1E+2"), "x", nil, true, map[string]any{}}},
		"nothing": nil,
	}, e.Payload.Changes)
	_, again, err := eventbus.EncodeForTest(e)
	require.NoError(t, err)
	require.Contains(t, string(again), `"changes":`+changes)

	_, empty, err := eventbus.EncodeForTest(eventbus.AIRecommendationGenerated.New(eventbus.AIRecommendationGeneratedPayload{UserID: "u-1"}))
	require.NoError(t, err)
	require.Contains(t, string(empty), `"recommendations":[]`)
	_, empty, err = eventbus.EncodeForTest(eventbus.UserUpdated.New(eventbus.UserUpdatedPayload{UserID: "u-1"}))
	require.NoError(t, err)
	require.Contains(t, string(empty), `"changes":{}`)
}

// TestTheResetTokenIsOnlyOnTheWire holds for the one secret that DreamScape's events have.
func TestTheResetTokenIsOnlyOnTheWire(t *testing.T) {
	const canary = "canary-5ec7e7"
	payload := eventbus.AuthPasswordResetRequestedPayload{
		Email: "ada@example.com", ResetToken: canary, ExpiresAt: time.Date(2026, 1, 7, 10, 0, 0, 0, time.UTC),
	}
	e := eventbus.AuthPasswordResetRequested.New(payload)
	var shown bytes.Buffer
	token := payload.ResetToken
	for _, v := range []any{payload, &payload, token, &token, []any{payload}, map[string]any{"k": token}, e, *e} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%10.3s"} {
			fmt.Fprintf(&shown, verb+"\n", v)
		}
		text, err := json.Marshal(v)
		require.NoError(t, err)
		shown.Write(text)
		slog.New(slog.NewJSONHandler(&shown, nil)).Info("it", "v", v)
		slog.New(slog.NewTextHandler(&shown, nil)).Info("it", "v", v)
	}
	text, err := xml.Marshal(payload)
	require.NoError(t, err)
	shown.Write(text)
	shown.WriteString(token.String() + token.GoString())

	_, value, err := eventbus.EncodeForTest(e)
	require.NoError(t, err)
	require.Contains(t, string(value), `"resetToken":"`+canary+`"`)
	decoded, err := eventbus.AuthPasswordResetRequested.Decode(value)
	require.NoError(t, err)
	require.Equal(t, canary, string(decoded.Payload.ResetToken))
	var envelope struct{ Payload json.RawMessage }
	require.NoError(t, json.Unmarshal(value, &envelope))
	redacted := eventbus.AuthPasswordResetRequested.Redact(envelope.Payload)
	require.JSONEq(t, `{"email":"ada@example.com","resetToken":"***","expiresAt":"2026-01-07T10:00:00Z"}`, string(redacted))
	shown.Write(redacted)

	require.NotContains(t, shown.String(), canary)
	require.NotContains(t, strings.ToLower(shown.String()), fmt.Sprintf("%x", canary))
	require.Contains(t, shown.String(), "***")
}
