package console_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
)

func TestBlockedKeysAreNamedByTheirHash(t *testing.T) {
	b := bustest.NewWith(t, bustest.Options{Config: eventbus.Config{Instance: "test-0"}})
	fail := func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		return eventbus.RetryAfter(errors.New("not yet"), time.Hour)
	}
	giveUp := func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error {
		return eventbus.Permanent(errors.New("no such address"))
	}
	b.Start(
		eventbus.Subscription{Group: "waits", Routes: []eventbus.Route{eventbus.UserCreated.Handle(fail, nil)}},
		eventbus.Subscription{Group: "parks", Routes: []eventbus.Route{eventbus.UserCreated.Handle(giveUp, &eventbus.HandleOptions{Order: eventbus.OrderSequenced})}},
	)
	publish(t, b, t.Context(), "user-service", "private-key")
	publish(t, b, t.Context(), "user-service", "private-key")
	until(t, "both wait", func() bool { m := b.Metrics(); return m.ParkedKeys == 1 && m.DeadLettered == 2 })
	s := open(t, b.Bus, nil)
	_, body := s.get("")
	groups := section(t, body, "groups")
	_, blocked, _ := strings.Cut(groups, `id="part-blocked"`)
	hash := eventbus.KeyHash([]byte("private-key"))
	assert.Contains(t, blocked, hash)
	assert.NotContains(t, blocked, "private-key")
	assert.Contains(t, blocked, "1 event behind it")
	assert.Contains(t, blocked, "parked among the dead letters")
	assert.Contains(t, blocked, "no such address")
	assert.Contains(t, section(t, body, "health"), "<span>Blocked keys</span><strong>2</strong>")
	assert.NotContains(t, section(t, body, "map"), "sequences", "what stands beside a topic is not drawn")
}

func TestGroupsAreShownByPartition(t *testing.T) {
	b := bustest.New(t)
	stop := b.Start(eventbus.Subscription{Group: "gone", Routes: []eventbus.Route{eventbus.UserCreated.Handle(func(context.Context, *eventbus.BaseEvent[eventbus.UserCreatedPayload]) error { return nil }, nil)}})
	publish(t, b, t.Context(), "user-service", "ada")
	until(t, "handled", func() bool { return b.Metrics().MessagesConsumed == 1 })
	stop()
	publish(t, b, t.Context(), "user-service", "ada")
	s := open(t, b.Bus, nil)
	_, body := s.get("")
	groups := section(t, body, "groups")
	assert.Contains(t, groups, "Empty")
	assert.Contains(t, groups, `<td data-label="Lag" class="n late">1</td>`, "nobody is there to catch up")
	assert.Contains(t, groups, "Partitions of gone")
	assert.Contains(t, section(t, body, "map"), `class="consume behind"`)
}
