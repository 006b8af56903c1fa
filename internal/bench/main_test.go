package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFlags(t *testing.T) {
	o, err := parse(nil, io.Discard)
	require.NoError(t, err)
	require.Equal(t, 250_000, o.warmup())
	o, err = parse([]string{"-small", "-works", "consume,handler", "-contenders", "franz-go", "-require"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, options{works: []string{"consume", "handler"}, contenders: []string{"franz-go"}, rounds: 1, events: 5_000, seconds: 1, require: true, small: true}, o)
	require.Len(t, o.chosenWorks(), 2)
}

func TestWrongFlags(t *testing.T) {
	for want, args := range map[string][]string{
		`unexpected argument "x"`:                {"x"},
		`-works: no work "y": there are pipe`:    {"-works", "consume,y"},
		`-contenders: no client "z": there are`:  {"-contenders", "z"},
		"-rounds: 0 is less than 1":              {"-rounds", "0"},
		"-events: 1500 is not a multiple":        {"-events", "1500"},
		"-seconds: 0 is not more than 0":         {"-seconds", "0"},
		"-contenders is eventbus or franz-go":    {"-settings", "-contenders", "sarama"},
		"not with -readme or -svg":               {"-settings", "-readme", "x"},
		"-readme writes whole tables":            {"-readme", "x", "-works", "consume"},
		"not with -works, -contenders or -small": {"-readme", "x", "-small"},
		"-kfake: its numbers":                    {"-kfake", "-svg", "x"},
		"flag provided but not defined: -fast":   {"-fast"},
	} {
		_, err := parse(args, io.Discard)
		require.ErrorContains(t, err, want)
	}
}

func TestAPretendingBrokerHasNoPoison(t *testing.T) {
	o := options{kfake: true}
	for _, w := range o.chosenWorks() {
		require.Zero(t, w.sick)
	}
}

func TestWithoutABroker(t *testing.T) {
	t.Setenv("KAFKA_BROKERS", "")
	require.ErrorContains(t, bench(t.Context(), options{}), "scripts/kafka up")
}

func TestMissingContender(t *testing.T) {
	t.Setenv("PATH", "")
	var log bytes.Buffer
	o := options{contenders: []string{"kafkajs"}}
	chosen, err := o.chosenContenders(t.Context(), &log)
	require.NoError(t, err)
	require.Equal(t, []string{"eventbus"}, contenderNames(chosen))
	require.Equal(t, "kafkajs is left out: node is not installed\n", log.String())
	o.require = true
	_, err = o.chosenContenders(t.Context(), &log)
	require.ErrorContains(t, err, "kafkajs cannot run here: node is not installed")
}

func TestVariantsRunSomething(t *testing.T) {
	chosen, err := options{settings: true, contenders: []string{"franz-go"}}.chosenContenders(t.Context(), io.Discard)
	require.NoError(t, err)
	require.Equal(t, "franz-go", chosen[0].name)
	for _, c := range chosen {
		ran := false
		for _, w := range works {
			ran = ran || c.runs(w)
		}
		require.True(t, ran, c.name)
	}
}
