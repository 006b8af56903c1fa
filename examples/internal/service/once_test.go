package service_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

func TestOnceRemembersWhatWasHandled(t *testing.T) {
	var (
		memory service.Memory
		calls  int
		result error
	)
	handle := service.Once(&memory, func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		calls++
		return result
	})
	e := eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1"})

	result = errors.New("not now")
	require.ErrorIs(t, handle(t.Context(), e), result)
	result = nil
	require.NoError(t, handle(t.Context(), e))
	require.NoError(t, handle(t.Context(), e))
	require.Equal(t, 2, calls, "the failed try, its repetition, and not the redelivery")

	require.NoError(t, handle(t.Context(), eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1"})))
	require.Equal(t, 3, calls, "another event")
}

func TestDerivedIDIsTheSameForTheSame(t *testing.T) {
	at := time.Date(2026, 1, 7, 10, 0, 0, 123_000_000, time.UTC)
	id := uuid.MustParse(service.DerivedID(at, "a", "b"))
	require.Equal(t, id.String(), service.DerivedID(at, "a", "b"))
	require.NotEqual(t, id.String(), service.DerivedID(at, "ab"))
	require.Equal(t, uuid.Version(7), id.Version())
	require.Equal(t, uuid.RFC4122, id.Variant())
	seconds, nanos := id.Time().UnixTime()
	require.Equal(t, at, time.Unix(seconds, nanos).UTC())
}

func TestFollowUpDependsOnTheCause(t *testing.T) {
	cause := eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1"})
	follow := func() string {
		return service.FollowUp(cause, eventbus.UserDeleted.New(eventbus.UserDeletedPayload{UserID: "u-1"})).EventID
	}
	first := follow()
	require.Equal(t, first, follow())
	cause = eventbus.UserCreated.New(eventbus.UserCreatedPayload{UserID: "u-1"})
	require.NotEqual(t, first, follow())
}
