package otelbus

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/dreamscape/eventbus"
)

// Middleware is for [eventbus.Config.Middleware]: it traces every try of a handler. Put it first, for other middleware to belong to the span.
func (t *Tracing) Middleware() eventbus.Middleware {
	return func(next eventbus.RawHandler) eventbus.RawHandler {
		return func(ctx context.Context, e *eventbus.RawEvent) error { return t.process(ctx, e, next) }
	}
}

// process has next handle an event within a span.
func (t *Tracing) process(ctx context.Context, e *eventbus.RawEvent, next eventbus.RawHandler) (err error) {
	d, _ := eventbus.DeliveryFrom(ctx)
	topic, group := t.prefix+d.Topic, t.prefix+d.Group
	headers := carrier(d.Headers)
	ctx = withCorrelation(t.propagator.Extract(ctx, &headers), e.CorrelationID)
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		semconv.MessagingSystemKafka, semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("process"),
		semconv.MessagingDestinationName(topic), partition(d.Partition), semconv.MessagingKafkaOffset(int(d.Offset)), semconv.MessagingConsumerGroupName(group),
		semconv.MessagingMessageID(e.EventID), semconv.MessagingMessageConversationID(e.CorrelationID), semconv.MessagingMessageBodySize(len(e.Payload)),
		attemptKey.Int(d.Attempt), redrivesKey.Int(d.Redrives),
	)}
	if publish := trace.SpanContextFromContext(ctx); publish.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: publish}))
	}
	if !t.child {
		options = append(options, trace.WithNewRoot())
	}
	ctx, span := t.tracer.Start(ctx, "process "+topic, options...)
	began := time.Now()
	panicked := true
	defer func() {
		kind := ""
		switch {
		case panicked:
			kind = "panic"
		case err != nil:
			kind = semconv.ErrorType(err).Value.AsString()
		}
		if kind != "" {
			span.SetAttributes(semconv.ErrorTypeKey.String(kind))
			span.SetStatus(codes.Error, "") // an error's text is the handler's, and may have anything in it
		}
		span.End()
		t.measures.processed(ctx, topic, group, time.Since(began), kind)
	}()
	err = next(ctx, e)
	panicked = false
	return err
}
