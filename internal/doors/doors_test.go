package doors_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/internal/doors"
)

// The name of a topic begins those of its dead letters and of what is sent back.
func TestNames(t *testing.T) {
	topic := eventbus.Permission{Resource: "topic", Name: "p.user.created"}
	group := eventbus.Permission{Resource: "group", Name: "p.user.created.dlq.g.redrive.", Prefixed: true}
	for text, want := range map[string]*eventbus.Permission{
		"topic p.user.created: READ is not allowed":       &topic,
		"publish: topic p.user.created":                   &topic,
		"topic p.user.created.dlq.g: READ is not allowed": nil,
		"topic p.user.created-2":                          nil,
		"topic dreamscape.p.user.created":                 nil,
		"group p.user.created":                            nil,
		"DeadLetters p.user.created.dlq.g: group p.user.created.dlq.g.redrive.doors: refused": &group,
		"DeadLetters p.user.created.dlq.g.redrive.: refused":                                  nil,
	} {
		require.Equal(t, want == &topic, doors.Names(errors.New(text), topic), text)
		require.Equal(t, want == &group, doors.Names(errors.New(text), group), text)
	}
}
