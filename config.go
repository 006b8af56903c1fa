package eventbus

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
)

// Config configures a [Bus]. Only Service is required; the zero value of every other field works. [New] copies it.
type Config struct {
	// Service names the publishing service, such as "auth-service": the envelope's source and Kafka's client id. Required.
	Service string
	// Instance names this process among those of the service, for its transactional ids: it has the same name when it starts again, and no other
	// has it at once, as the pods of a StatefulSet. Two that have it fence each other off. Required for [Topic.HandleTx] and [Bus.Transact]. Default: "".
	Instance string
	// Brokers are host:port addresses to start from. Default: localhost:9092.
	Brokers []string
	// TopicPrefix, such as "staging.", is put before the name of every topic and group in Kafka, so that fleets share a
	// cluster without meeting. It appears nowhere in the API or the envelope; logs, health and dead-letter headers show Kafka's
	// names. Default: "".
	TopicPrefix string
	// PublishTimeout bounds how long a publish waits for its acknowledgement when its ctx lets it wait longer. Default: 30 s.
	PublishTimeout time.Duration
	// MaxBufferedEvents bounds the events handed over and not acknowledged; publishing blocks while they are that many.
	// Default: 10,000.
	MaxBufferedEvents int
	// MaxBufferedBytes bounds their bytes likewise. One event may have about 1 MB (franz-go's ProducerBatchMaxBytes). Default:
	// 64 MiB.
	MaxBufferedBytes int
	// MaxInFlight bounds the records fetched and not done, of all subscriptions together. Fetching pauses at that many, and goes on as
	// that of Subscription.MaxInFlight does, for all partitions of a subscription that wait for it at once. So that none starves, a partition may have 100
	// that wait for no other try, and up to 1 MiB in all, whatever the others have; a poll may bring 100 more. Default: 100,000.
	MaxInFlight int
	// MaxInFlightBytes bounds the memory that they take likewise: their bytes, 512 for each, and 64 for each header. Default: 64 MiB.
	MaxInFlightBytes int
	// Retry is how failing handlers are tried again, where a route has no policy of its own, or leaves a field of it zero.
	Retry RetryPolicy
	// Middleware wraps every handler, the first outermost. It runs for each try.
	Middleware []Middleware
	// Hooks are told what happens; they are for logs and metrics and must be quick.
	Hooks []Hooks
	// Logger gets what no caller is told. It never gets a payload, a key or a header value. Default: slog.Default().
	Logger *slog.Logger
	// TLS encrypts connections; [TLSFiles] makes one of files. New refuses one that does not verify brokers (InsecureSkipVerify) or allows what
	// is older than TLS 1.2. Default: none.
	TLS *tls.Config
	// SASL logs in: [OAuthBearer], or a mechanism of franz-go's pkg/sasl. PLAIN and OAUTHBEARER send the password or the token itself, and are
	// refused without TLS. Default: none.
	SASL sasl.Mechanism
	// AllowPlaintextLogin allows them without TLS all the same: on a test's broker, or where Client has a dialer that encrypts.
	// Default: false.
	AllowPlaintextLogin bool
	// NewTopics says how EnsureTopics creates topics.
	NewTopics TopicDefaults
	// Client are further franz-go options for every connection, such as a dialer. One that would break a promise of this
	// package (acknowledgements, idempotence, partitioning, groups, commits) is refused by New, by name.
	Client []kgo.Opt
}

// TopicDefaults are the properties of topics that [Bus.EnsureTopics] creates; the zero value leaves all to the broker.
type TopicDefaults struct {
	Partitions        int32         // 0: the broker's num.partitions
	ReplicationFactor int16         // 0: the broker's default.replication.factor
	Retention         time.Duration // 0: the broker's log.retention; dead letters and redriven events are kept four times as long as this
}

const (
	defaultPublishTimeout = 30 * time.Second
	defaultMaxEvents      = 10_000
	defaultMaxBytes       = 64 << 20
	defaultMaxInFlight    = 100_000
)

func checkBrokers(brokers []string) error {
	shown := shownBrokers(brokers)
	for i, b := range brokers {
		if !isHostPort(b) {
			return fmt.Errorf("%q is not host:port", shown[i])
		}
	}
	return nil
}

func isHostPort(address string) bool {
	host, port, err := net.SplitHostPort(address)
	n, perr := strconv.Atoi(port)
	return err == nil && host != "" && !strings.Contains(host, "@") && perr == nil && n >= 1 && n <= 65535
}

// shownBrokers are addresses as they may be shown: before an @ there may be a password, which the list splits where it has a comma.
func shownBrokers(brokers []string) []string {
	if !slices.ContainsFunc(brokers, func(b string) bool { return strings.Contains(b, "@") }) {
		return brokers
	}
	var shown []string
	for _, b := range brokers {
		switch at := strings.LastIndexByte(b, '@'); {
		case at >= 0:
			b = masked + b[at:]
		case !isHostPort(b):
			b = masked
		}
		shown = append(shown, b)
	}
	return shown
}

// withDefaults checks cfg and returns a copy with every default filled in.
func (cfg Config) withDefaults() (Config, error) {
	if len(cfg.Brokers) == 0 {
		cfg.Brokers = []string{"localhost:9092"}
	}
	var errs []error
	fail := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("eventbus: Config.%s: "+format, append([]any{field}, args...)...))
	}
	if err := checkTopicName("Service", cfg.Service); err != nil {
		fail("Service", "%q is not a service's name: 1 to 249 of a-z A-Z 0-9 . _ -", cfg.Service)
	}
	if cfg.Instance != "" && checkTopicName("Instance", cfg.Instance) != nil {
		fail("Instance", "%q is not an instance's name: 1 to 249 of a-z A-Z 0-9 . _ -", cfg.Instance)
	}
	if err := checkBrokers(cfg.Brokers); err != nil {
		fail("Brokers", "%v", err)
	}
	if cfg.TopicPrefix != "" && !topicName.MatchString(cfg.TopicPrefix) {
		fail("TopicPrefix", "%q has characters other than a-z A-Z 0-9 . _ -", cfg.TopicPrefix)
	}
	if cfg.PublishTimeout < 0 {
		fail("PublishTimeout", "%v is negative", cfg.PublishTimeout)
	}
	if cfg.MaxBufferedEvents < 0 {
		fail("MaxBufferedEvents", "%d is negative", cfg.MaxBufferedEvents)
	}
	if cfg.MaxBufferedBytes < 0 {
		fail("MaxBufferedBytes", "%d is negative", cfg.MaxBufferedBytes)
	}
	if cfg.MaxInFlight < 0 {
		fail("MaxInFlight", "%d is negative", cfg.MaxInFlight)
	}
	if cfg.MaxInFlightBytes < 0 {
		fail("MaxInFlightBytes", "%d is negative", cfg.MaxInFlightBytes)
	}
	if n := cfg.NewTopics; n.Partitions < 0 || n.ReplicationFactor < 0 || n.Retention < 0 {
		fail("NewTopics", "no field may be negative")
	}
	if i := slices.IndexFunc(cfg.Middleware, func(m Middleware) bool { return m == nil }); i >= 0 {
		fail(fmt.Sprintf("Middleware[%d]", i), "is nil")
	}
	if err := cfg.Retry.check(); err != nil {
		fail("Retry", "%v", err)
	}
	if err := checkTLS(cfg.TLS); err != nil {
		fail("TLS", "%v", err)
	}
	if err := cfg.checkLogin(); err != nil {
		fail("SASL", "%v", err)
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	cfg.TLS = cfg.TLS.Clone()
	cfg.PublishTimeout = orDefault(cfg.PublishTimeout, defaultPublishTimeout)
	cfg.MaxBufferedEvents = orDefault(cfg.MaxBufferedEvents, defaultMaxEvents)
	cfg.MaxBufferedBytes = orDefault(cfg.MaxBufferedBytes, defaultMaxBytes)
	cfg.MaxInFlight = orDefault(cfg.MaxInFlight, defaultMaxInFlight)
	cfg.MaxInFlightBytes = orDefault(cfg.MaxInFlightBytes, defaultMaxBytes)
	cfg.Retry = cfg.Retry.withDefaults()
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return cfg, nil
}

func checkTLS(cfg *tls.Config) error {
	switch {
	case cfg == nil:
		return nil
	case cfg.InsecureSkipVerify:
		return errors.New("InsecureSkipVerify would talk to whoever answers: trust a private CA by RootCAs (TLSFiles.CA, KAFKA_TLS_CA_FILE)")
	case outdated(cfg.MinVersion), outdated(cfg.MaxVersion):
		return errors.New("MinVersion, MaxVersion: TLS 1.2 is the oldest that is allowed")
	}
	return nil
}

func outdated(version uint16) bool { return version != 0 && version < tls.VersionTLS12 }

// checkLogin refuses to send what a listener could log in with.
func (cfg Config) checkLogin() error {
	if cfg.SASL == nil || cfg.TLS != nil || cfg.AllowPlaintextLogin {
		return nil
	}
	switch name := cfg.SASL.Name(); name {
	case mechanismPlain, mechanismOAuth:
		return fmt.Errorf("%s sends the password or the token itself, and Config.TLS is not set: set it (KAFKA_TLS), or "+
			"Config.AllowPlaintextLogin (KAFKA_SASL_ALLOW_PLAINTEXT) where nobody listens", name)
	}
	return nil
}

func orDefault[N ~int | ~int16 | ~int32 | ~int64 | ~float64](n, fallback N) N {
	if n == 0 {
		return fallback
	}
	return n
}
