package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

func TestEventsOfBareClientsAreValid(t *testing.T) {
	for i := range keys {
		key, value, err := encode(paymentOf(i, 0))
		require.NoError(t, err)
		require.InDelta(t, 340, len(value), 30)
		e, err := eventbus.PaymentInitiated.Decode(value)
		require.NoError(t, err)
		require.Equal(t, string(key), e.Payload.TransactionID)
		require.Equal(t, payments[i], e.Payload)
	}
}

func TestPoisonIsOnSickKeysAlone(t *testing.T) {
	for _, sick := range []int{0, 1, 100} {
		poison, well, seen := 0, 0, map[string]bool{}
		const events = 200 * oneIn
		for i := range events {
			p := paymentOf(i, sick)
			seen[p.TransactionID] = true
			if healthy(p) {
				well++
				require.NotEqual(t, poisonCurrency, p.Currency)
			}
			if p.Currency == poisonCurrency {
				poison++
			}
		}
		require.Len(t, seen, keys)
		require.Equal(t, healthyOf(events, sick), well)
		require.Equal(t, min(sick, 1)*events/oneIn, poison)
	}
}
