package eventbus

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
)

// summary is what a Config shows of itself, wherever it is printed: what it talks to and how, and no secret, whatever SASL and TLS hold.
type summary struct {
	Service     string   `json:"service"`
	Brokers     []string `json:"brokers,omitempty"`
	TopicPrefix string   `json:"topicPrefix,omitempty"`
	TLS         bool     `json:"tls"`
	SASL        string   `json:"sasl,omitempty"` // the mechanism
}

func (cfg Config) summary() summary {
	s := summary{Service: cfg.Service, Brokers: shownBrokers(cfg.Brokers), TopicPrefix: cfg.TopicPrefix, TLS: cfg.TLS != nil}
	if cfg.SASL != nil {
		s.SASL = cfg.SASL.Name()
	}
	return s
}

// String shows what the bus connects to and how, and no secret. So do fmt's verbs, encoding/json and log/slog, but not fmt where an unexported
// field holds the Config, whose methods fmt cannot call: then a SASL mechanism of your own shows what it holds.
func (cfg Config) String() string {
	s := cfg.summary()
	return fmt.Sprintf("eventbus.Config(service %s, brokers %s, prefix %q, TLS %t, SASL %q)", s.Service, strings.Join(s.Brokers, ","), s.TopicPrefix,
		s.TLS, s.SASL)
}

// GoString is String.
func (cfg Config) GoString() string { return cfg.String() }

// Format prints String for every verb.
func (cfg Config) Format(f fmt.State, _ rune) { fmt.Fprint(f, cfg.String()) }

// MarshalJSON writes what String shows. A Config is not read from JSON.
func (cfg Config) MarshalJSON() ([]byte, error) { return json.Marshal(cfg.summary()) }

// LogValue logs what String shows.
func (cfg Config) LogValue() slog.Value {
	s := cfg.summary()
	return slog.GroupValue(slog.String("service", s.Service), slog.String("brokers", strings.Join(s.Brokers, ",")),
		slog.String("topic_prefix", s.TopicPrefix), slog.Bool("tls", s.TLS), slog.String("sasl", s.SASL))
}

// String shows the configuration as [Config.String] does.
func (b *Bus) String() string { return "eventbus.Bus: " + b.cfg.String() }

// GoString is String.
func (b *Bus) GoString() string { return b.String() }

// Format prints String for every verb.
func (b *Bus) Format(f fmt.State, _ rune) { fmt.Fprint(f, b.String()) }

// LogValue logs the configuration.
func (b *Bus) LogValue() slog.Value { return b.cfg.LogValue() }
