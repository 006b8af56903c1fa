package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMeterCountsEventsBehindTheWarmUp(t *testing.T) {
	m := newMeter(task{Warmup: 10, Events: 20, Limit: 60})
	for range 40 {
		m.event()
	}
	<-m.done
	require.Equal(t, 20, m.result().Events)
}

func TestMeterEndsWithItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter(task{Warmup: 1_000, Events: 1_000, Limit: 5})
		for range 15 { // an event a second: 5 s to warm up, 5 s in which it measures
			m.event()
			time.Sleep(time.Second)
		}
		<-m.done
		require.InDelta(t, 5, m.result().Events, 1)
		require.InDelta(t, 5, m.result().Seconds, 0.001)
	})
}

func TestLatencies(t *testing.T) {
	var l latencies
	require.Zero(t, l.at(0.5))
	for i := range 100 {
		l.add(time.Duration(100-i) * time.Millisecond)
	}
	require.InDelta(t, 0.051, l.at(0.5), 1e-9)
	require.InDelta(t, 0.100, l.at(0.99), 1e-9)
}
