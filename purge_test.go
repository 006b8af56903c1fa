package eventbus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/dreamscape/eventbus"
)

func TestPurge(t *testing.T) {
	for name, c := range map[string]struct {
		opts eventbus.PurgeOptions
		want map[int32]int64 // where the partitions begin afterwards
	}{
		"all":               {eventbus.PurgeOptions{All: true}, map[int32]int64{0: 6, 1: 6}},
		"all of one":        {eventbus.PurgeOptions{All: true, Partitions: []int32{1}}, map[int32]int64{1: 6}},
		"before":            {eventbus.PurgeOptions{Before: time.Date(2000, 1, 1, 0, 3, 0, 0, time.UTC)}, map[int32]int64{0: 3, 1: 3}},
		"before all":        {eventbus.PurgeOptions{Before: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)}, map[int32]int64{0: 0, 1: 0}},
		"before, of one":    {eventbus.PurgeOptions{Before: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), Partitions: []int32{0}}, map[int32]int64{0: 6}},
		"offsets":           {eventbus.PurgeOptions{Offsets: map[int32]int64{0: 2, 1: 5}}, map[int32]int64{0: 2, 1: 5}},
		"offset beyond end": {eventbus.PurgeOptions{Offsets: map[int32]int64{1: 99}}, map[int32]int64{1: 6}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				d := w.aged()
				dry, err := d.Purge(context.Background(), c.opts)
				require.NoError(t, err)
				require.True(t, dry.DryRun)
				require.Len(t, w.offsets(d, eventbus.LetterFilter{}), 12, "a dry run deletes nothing")
				c.opts.Delete = true
				report, err := d.Purge(context.Background(), c.opts)
				require.NoError(t, err)
				require.False(t, report.DryRun)
				require.Equal(t, dry.Partitions, report.Partitions, "it did what it said")
				left, deleted := 12, int64(0)
				got := map[int32]int64{}
				for _, p := range report.Partitions {
					got[p.Partition] = p.To
					deleted += p.To - p.From
				}
				left -= int(deleted)
				require.Equal(t, c.want, got)
				require.Equal(t, deleted, report.Letters)
				require.Len(t, w.offsets(d, eventbus.LetterFilter{}), left)
			}, kfake.SeedTopics(2, "acme.two.dlq.group"))
		})
	}
}

// aged are six letters in each of two partitions, a minute apart from the beginning of the world, 2000-01-01.
func (w *world) aged() *eventbus.DeadLetters {
	d, err := w.bus(nil).DeadLetters(eventbus.NewTopic[order]("acme.two", nil), "group")
	require.NoError(w, err)
	for minute := range 6 {
		for p := range int32(2) {
			r := deadLetter(&kgo.Record{Topic: "acme.two", Partition: p, Offset: int64(minute)}, errors.New("no"))
			r.Topic = d.Name()
			w.put(r)
		}
		time.Sleep(time.Minute)
	}
	return d
}

func TestAPurgeNamesWhatIsWrong(t *testing.T) {
	inWorld(t, func(w *world) {
		d := w.letters(w.bus(nil))
		w.fill(lettersTopic, 3)
		for want, opts := range map[string]eventbus.PurgeOptions{
			"fields Before, Offsets, All: exactly one is needed, not 0": {Delete: true},
			"fields Before, Offsets, All: exactly one is needed, not 2": {Delete: true, All: true, Before: time.Now()},
			"field Partitions: Offsets says which":                      {Offsets: map[int32]int64{0: 1}, Partitions: []int32{0}},
			"field Offsets: partition 0: -1 is negative":                {Offsets: map[int32]int64{0: -1}},
			"field Partitions: 7 is not there, the topic has 1":         {Offsets: map[int32]int64{7: 1}},
			"field Partitions: none may be negative":                    {All: true, Partitions: []int32{-1}},
			"field Partitions: 1 is not there, the topic has 1":         {All: true, Partitions: []int32{1}},
		} {
			_, err := d.Purge(context.Background(), opts)
			require.ErrorContains(t, err, want)
		}
		require.Len(t, w.offsets(d, eventbus.LetterFilter{}), 3)
	})
}

// What a login may not do is named within 5 s, and before anything is done.
func TestWhatIsForbiddenToTheDeadLettersIsNamed(t *testing.T) {
	ctx := context.Background()
	redrive := func(d *eventbus.DeadLetters) error {
		_, err := d.Redrive(ctx, eventbus.RedriveOptions{})
		return err
	}
	for name, c := range map[string]struct {
		may  rights
		do   func(*eventbus.DeadLetters) error
		want string
	}{
		"to see":    {rights{}, redrive, "topic acme.orders.dlq.group: TOPIC_AUTHORIZATION_FAILED"},
		"to read":   {rights{lettersTopic: toSee}, redrive, "topic acme.orders.dlq.group: READ is not allowed"},
		"to write":  {rights{lettersTopic: toRead, retryTopic: toSee}, redrive, "topic acme.orders.retry.group: WRITE is not allowed"},
		"to commit": {rights{lettersTopic: toRead, retryTopic: toWrite}, redrive, "GROUP_AUTHORIZATION_FAILED"},
		"to delete": {rights{lettersTopic: toRead}, func(d *eventbus.DeadLetters) error {
			_, err := d.Purge(ctx, eventbus.PurgeOptions{Delete: true, All: true})
			return err
		}, "topic acme.orders.dlq.group: DELETE is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				bus := w.bus(func(c *eventbus.Config) { c.SASL = plain.Auth{User: "bob", Pass: "bob"}.AsMechanism() })
				require.ErrorContains(t, c.do(w.letters(bus)), c.want)
				require.Less(t, w.took(), 5*time.Second)
			}, append(user(c.may), withRetryTopic())...)
		})
	}
}
