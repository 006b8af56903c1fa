// Package otelbus traces a bus by OpenTelemetry, and measures it:
//
//	tracing, err := otelbus.New(nil) // the global providers
//	…
//	bus, err := eventbus.New(eventbus.Config{
//		Service: "auth-service", Hooks: []eventbus.Hooks{tracing.Hooks()}, Middleware: []eventbus.Middleware{tracing.Middleware()},
//	})
//
// A publish is a span "send TOPIC", and its context is on the record, as traceparent and tracestate (W3C Trace Context). A try of a handler is a span
// "process TOPIC", the root of a trace of its own that links to the publish: an event may be handled by many groups, in an hour, or once more after it was
// dead-lettered and redriven, whose records keep their headers. [Options.Child] has it go on with the publish's trace instead. What a handler publishes
// with its ctx belongs to its span. The correlation id is baggage (W3C Baggage), so it reaches what a handler calls elsewhere.
//
// Names are those of OpenTelemetry's semantic conventions for messaging, version 1.43 (status: development;
// https://opentelemetry.io/docs/specs/semconv/messaging). No span, metric or baggage has a key, a payload or the text of an error.
package otelbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/dreamscape/eventbus"
)

// CorrelationKey is the correlation id's name in baggage.
const CorrelationKey = "correlation.id"

// What is ours, beside the conventions: which try it is, and how often the event was sent back from the dead letters.
const (
	attemptKey  = attribute.Key("eventbus.attempt")
	redrivesKey = attribute.Key("eventbus.redrives")
)

const scope = "github.com/dreamscape/eventbus/plugin/otelbus"

// Options are the properties of a [Tracing]; the zero value works.
type Options struct {
	// TracerProvider makes the spans. Default: OpenTelemetry's global one.
	TracerProvider trace.TracerProvider
	// MeterProvider makes the metrics. Default: OpenTelemetry's global one.
	MeterProvider metric.MeterProvider
	// Propagator writes and reads records' headers. Default: W3C Trace Context and Baggage, whatever the global one is.
	Propagator propagation.TextMapPropagator
	// Child has a handler's span be a child of the publish's, in its trace, beside the link. Default: false.
	Child bool
	// TopicPrefix is Config.TopicPrefix, for spans and metrics to have Kafka's names. Default: none.
	TopicPrefix string
}

// Tracing is what a bus is traced by. It is safe for concurrent use, by several buses of one TopicPrefix too.
type Tracing struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	child      bool
	prefix     string
	measures   *measures
}

// New returns a tracing; nil options are the defaults. An error is the meter provider's.
func New(options *Options) (*Tracing, error) {
	o := Options{}
	if options != nil {
		o = *options
	}
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	if o.Propagator == nil {
		o.Propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	}
	m, err := newMeasures(o.MeterProvider.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL)))
	if err != nil {
		return nil, fmt.Errorf("otelbus: %w", err)
	}
	return &Tracing{
		tracer:     o.TracerProvider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		propagator: o.Propagator, child: o.Child, prefix: o.TopicPrefix, measures: m,
	}, nil
}

// Hooks are for [eventbus.Config.Hooks]: they trace what is published.
func (t *Tracing) Hooks() eventbus.Hooks {
	return eventbus.Hooks{Publishing: t.publishing, Handled: t.handled}
}

func (t *Tracing) publishing(ctx context.Context, e eventbus.PublishingInfo) ([]eventbus.Header, func(eventbus.PublishedInfo)) {
	operation := semconv.MessagingOperationTypeSend
	if e.Encoded {
		operation = semconv.MessagingOperationTypeCreate
	}
	name, topic := operation.Value.AsString(), t.prefix+e.Topic
	ctx, span := t.tracer.Start(ctx, name+" "+topic, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		semconv.MessagingSystemKafka, operation, semconv.MessagingOperationName(name), semconv.MessagingDestinationName(topic),
		semconv.MessagingClientID(e.Source), semconv.MessagingMessageID(e.EventID), semconv.MessagingMessageConversationID(e.CorrelationID),
		semconv.MessagingMessageBodySize(e.Bytes),
	))
	var headers carrier
	t.propagator.Inject(withCorrelation(ctx, e.CorrelationID), &headers)
	return headers, func(i eventbus.PublishedInfo) {
		defer span.End()
		if i.Offset >= 0 {
			span.SetAttributes(partition(i.Partition), semconv.MessagingKafkaOffset(int(i.Offset)))
		}
		if i.Err != nil {
			span.SetAttributes(semconv.ErrorTypeKey.String(publishError(i.Err)))
			span.SetStatus(codes.Error, publishError(i.Err))
		}
		if !e.Encoded {
			t.measures.sent(ctx, topic, i)
		}
	}
}

// publishError is what became of an event that is not acknowledged.
func publishError(err error) string {
	if errors.Is(err, eventbus.ErrOutcomeUnknown) {
		return "outcome_unknown"
	}
	return "not_sent"
}

func partition(number int32) attribute.KeyValue {
	return semconv.MessagingDestinationPartitionID(strconv.Itoa(int(number)))
}

// handled counts what groups are done with.
func (t *Tracing) handled(i eventbus.HandledInfo) {
	t.measures.done(context.Background(), t.prefix+i.Topic, t.prefix+i.Group, i)
}

// withCorrelation is ctx with the correlation id as baggage. Baggage that takes no further member keeps what it has.
func withCorrelation(ctx context.Context, id string) context.Context {
	if id == "" {
		return ctx
	}
	member, err := baggage.NewMemberRaw(CorrelationKey, id)
	if err != nil {
		return ctx
	}
	bag, err := baggage.FromContext(ctx).SetMember(member)
	if err != nil {
		return ctx
	}
	return baggage.ContextWithBaggage(ctx, bag)
}

// carrier is a record's headers. Of headers of one name the last counts, as is usual on Kafka.
type carrier []eventbus.Header

// Get implements [propagation.TextMapCarrier].
func (c *carrier) Get(key string) string {
	for i := len(*c) - 1; i >= 0; i-- {
		if (*c)[i].Key == key {
			return string((*c)[i].Value)
		}
	}
	return ""
}

// Set implements [propagation.TextMapCarrier].
func (c *carrier) Set(key, value string) {
	*c = append(*c, eventbus.Header{Key: key, Value: []byte(value)})
}

// Keys implements [propagation.TextMapCarrier].
func (c *carrier) Keys() []string {
	keys := make([]string, len(*c))
	for i, h := range *c {
		keys[i] = h.Key
	}
	return keys
}
