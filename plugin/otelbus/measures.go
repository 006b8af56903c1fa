package otelbus

import (
	"cmp"
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"

	"github.com/dreamscape/eventbus"
)

// measures are the conventions' metrics, and one of our own: what became of events.
type measures struct {
	sentMessages     messagingconv.ClientSentMessages
	consumedMessages messagingconv.ClientConsumedMessages
	operation        messagingconv.ClientOperationDuration
	process          messagingconv.ProcessDuration
	outcomes         metric.Int64Counter
}

func newMeasures(meter metric.Meter) (m *measures, err error) {
	m = &measures{}
	for _, instrument := range []func() error{
		func() error { m.sentMessages, err = messagingconv.NewClientSentMessages(meter); return err },
		func() error { m.consumedMessages, err = messagingconv.NewClientConsumedMessages(meter); return err },
		func() error { m.operation, err = messagingconv.NewClientOperationDuration(meter); return err },
		func() error { m.process, err = messagingconv.NewProcessDuration(meter); return err },
		func() error {
			m.outcomes, err = meter.Int64Counter("eventbus.outcomes", metric.WithUnit("{event}"),
				metric.WithDescription("Events that a group is done with: handled, or why they were dead-lettered."))
			return err
		},
	} {
		if err := instrument(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// sent measures a publish. What was certainly not sent does not count, by the conventions.
func (m *measures) sent(ctx context.Context, topic string, i eventbus.PublishedInfo) {
	if errors.Is(i.Err, eventbus.ErrNotSent) {
		return
	}
	attributes := []attribute.KeyValue{semconv.MessagingDestinationName(topic)}
	if i.Err != nil {
		attributes = append(attributes, semconv.ErrorTypeKey.String(publishError(i.Err)))
	}
	m.sentMessages.Add(ctx, 1, "send", messagingconv.SystemKafka, attributes...)
	m.operation.Record(ctx, i.Took.Seconds(), "send", messagingconv.SystemKafka,
		append(attributes, semconv.MessagingOperationTypeSend)...)
}

// processed measures a try of a handler; failure is "" for one that succeeded.
func (m *measures) processed(ctx context.Context, topic, group string, took time.Duration, failure string) {
	attributes := []attribute.KeyValue{semconv.MessagingDestinationName(topic), semconv.MessagingConsumerGroupName(group)}
	if failure != "" {
		attributes = append(attributes, semconv.ErrorTypeKey.String(failure))
	}
	m.process.Record(ctx, took.Seconds(), "process", messagingconv.SystemKafka, attributes...)
}

// done counts an event that a group is done with, and once, however many tries it took, that a handler has had it.
func (m *measures) done(ctx context.Context, topic, group string, i eventbus.HandledInfo) {
	attributes := []attribute.KeyValue{semconv.MessagingDestinationName(topic), semconv.MessagingConsumerGroupName(group)}
	if i.Attempts > 0 {
		m.consumedMessages.Add(ctx, 1, "process", messagingconv.SystemKafka, attributes...)
	}
	m.outcomes.Add(ctx, 1, metric.WithAttributes(append(attributes, attribute.String("eventbus.outcome", cmp.Or(string(i.DeadLetter), "handled")))...))
}
