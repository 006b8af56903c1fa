package eventbus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Config configures a [Bus]. Only Service is required; the zero value of every other field works. [New] copies it.
type Config struct {
	// Service names the publishing service, such as "auth-service": the envelope's source and Kafka's client id. Required.
	Service string
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
	// MaxInFlight bounds the records fetched and not done, of all subscriptions together; fetching pauses at that many. A partition may
	// have 100 whatever the others have, so none starves. Default: 100,000.
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
	// TLS encrypts connections. nil: none.
	TLS *tls.Config
	// SASL logs in, by a mechanism of franz-go's pkg/sasl. nil: no login.
	SASL sasl.Mechanism
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

// FromEnv returns the configuration that the environment asks for: KAFKA_BROKERS (comma-separated), KAFKA_TOPIC_PREFIX,
// KAFKA_PUBLISH_TIMEOUT (such as 30s), KAFKA_TLS (true or false), KAFKA_TLS_CA_FILE (PEM), KAFKA_SASL_MECHANISM (PLAIN,
// SCRAM-SHA-256 or SCRAM-SHA-512), KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD. Each error names its variable. The result may be
// changed before [New], which checks the rest.
func FromEnv(service string) (Config, error) {
	cfg := Config{Service: service, TopicPrefix: os.Getenv("KAFKA_TOPIC_PREFIX")}
	var errs []error
	if v := os.Getenv("KAFKA_BROKERS"); v != "" {
		for b := range strings.SplitSeq(v, ",") {
			cfg.Brokers = append(cfg.Brokers, strings.TrimSpace(b))
		}
		if err := checkBrokers(cfg.Brokers); err != nil {
			errs = append(errs, fmt.Errorf("KAFKA_BROKERS: %w", err))
		}
	}
	if v := os.Getenv("KAFKA_PUBLISH_TIMEOUT"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			errs = append(errs, fmt.Errorf("KAFKA_PUBLISH_TIMEOUT: %q is not a positive duration such as 30s", v))
		}
		cfg.PublishTimeout = d
	}
	var err error
	if cfg.TLS, err = tlsFromEnv(); err != nil {
		errs = append(errs, err)
	}
	if cfg.SASL, err = saslFromEnv(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, fmt.Errorf("eventbus: environment: %w", err)
	}
	return cfg, nil
}

func tlsFromEnv() (*tls.Config, error) {
	v, file := os.Getenv("KAFKA_TLS"), os.Getenv("KAFKA_TLS_CA_FILE")
	on := file != ""
	if v != "" {
		var err error
		if on, err = strconv.ParseBool(v); err != nil {
			return nil, fmt.Errorf("KAFKA_TLS: %q is not true or false", v)
		}
	}
	if !on {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if file == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(file) // #nosec G304 G703 -- whoever sets the environment says which file
	if err != nil {
		return nil, fmt.Errorf("KAFKA_TLS_CA_FILE: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("KAFKA_TLS_CA_FILE: %s holds no PEM certificate", file)
	}
	return cfg, nil
}

func saslFromEnv() (sasl.Mechanism, error) {
	mechanism := strings.ToUpper(os.Getenv("KAFKA_SASL_MECHANISM"))
	user, password := os.Getenv("KAFKA_SASL_USERNAME"), os.Getenv("KAFKA_SASL_PASSWORD")
	if mechanism == "" {
		if user != "" || password != "" {
			return nil, errors.New("KAFKA_SASL_MECHANISM: expected PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 beside KAFKA_SASL_USERNAME")
		}
		return nil, nil
	}
	if user == "" || password == "" {
		return nil, errors.New("KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: both are needed with KAFKA_SASL_MECHANISM")
	}
	switch mechanism {
	case "PLAIN":
		return plain.Auth{User: user, Pass: password}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("KAFKA_SASL_MECHANISM: %q is not PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", mechanism)
}

func checkBrokers(brokers []string) error {
	for _, b := range brokers {
		host, port, err := net.SplitHostPort(b)
		if n, perr := strconv.Atoi(port); err != nil || host == "" || perr != nil || n < 1 || n > 65535 {
			return fmt.Errorf("%q is not host:port", b)
		}
	}
	return nil
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
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
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

func orDefault[N ~int | ~int16 | ~int32 | ~int64 | ~float64](n, fallback N) N {
	if n == 0 {
		return fallback
	}
	return n
}
