package eventbus

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
)

// FromEnv returns the configuration that the environment asks for: KAFKA_BROKERS (comma-separated), KAFKA_TOPIC_PREFIX,
// KAFKA_PUBLISH_TIMEOUT (such as 30s), KAFKA_TLS (true or false), KAFKA_TLS_CA_FILE, KAFKA_TLS_CERT_FILE and KAFKA_TLS_KEY_FILE (as
// [TLSFiles]), KAFKA_SASL_MECHANISM (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER), KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD or
// KAFKA_SASL_PASSWORD_FILE, KAFKA_SASL_TOKEN_FILE, and KAFKA_SASL_ALLOW_PLAINTEXT ([Config.AllowPlaintextLogin]). The files of a password or
// a token are read at each login, so that they can be exchanged; [Health] tells that one is missing. Each error names its variable, and shows
// nothing of one that names a file and cannot be read: it may be the secret itself. The result may be changed before [New], which checks the rest.
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
	if v := os.Getenv("KAFKA_SASL_ALLOW_PLAINTEXT"); v != "" {
		if cfg.AllowPlaintextLogin, err = strconv.ParseBool(v); err != nil {
			errs = append(errs, errors.New("KAFKA_SASL_ALLOW_PLAINTEXT: expected true or false"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, fmt.Errorf("eventbus: environment: %w", err)
	}
	return cfg, nil
}

func tlsFromEnv() (*tls.Config, error) {
	files := TLSFiles{CA: os.Getenv("KAFKA_TLS_CA_FILE"), Cert: os.Getenv("KAFKA_TLS_CERT_FILE"), Key: os.Getenv("KAFKA_TLS_KEY_FILE")}
	on := files != TLSFiles{}
	if v := os.Getenv("KAFKA_TLS"); v != "" {
		var err error
		if on, err = strconv.ParseBool(v); err != nil {
			return nil, errors.New("KAFKA_TLS: expected true or false")
		}
	}
	if !on {
		return nil, nil
	}
	cfg, err := files.Config()
	if err != nil {
		return nil, fmt.Errorf("KAFKA_TLS_CA_FILE, KAFKA_TLS_CERT_FILE, KAFKA_TLS_KEY_FILE: %w", err)
	}
	return cfg, nil
}

const mechanisms = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"

func saslFromEnv() (sasl.Mechanism, error) {
	mechanism := strings.ToUpper(os.Getenv("KAFKA_SASL_MECHANISM"))
	token := &namedFile{field: "KAFKA_SASL_TOKEN_FILE", path: os.Getenv("KAFKA_SASL_TOKEN_FILE")}
	user, password, given, err := passwordFromEnv()
	if err = cmp.Or(err, token.check()); err != nil {
		return nil, err
	}
	switch {
	case mechanism == "" && !given && token.path == "":
		return nil, nil
	case mechanism == "":
		return nil, errors.New("KAFKA_SASL_MECHANISM: expected " + mechanisms + " beside what to log in with")
	case mechanism == mechanismOAuth:
		if token.path == "" || given {
			return nil, errors.New("KAFKA_SASL_TOKEN_FILE: OAUTHBEARER needs it, and no user name or password")
		}
		return OAuthBearer(token.secret), nil
	case user == "" || password == nil:
		return nil, errors.New("KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: both are needed with KAFKA_SASL_MECHANISM; " +
			"in place of the latter, KAFKA_SASL_PASSWORD_FILE")
	case token.path != "":
		return nil, fmt.Errorf("KAFKA_SASL_TOKEN_FILE: %s takes none", mechanism)
	}
	if login := passwordLogin(mechanism, user, password); login != nil {
		return login, nil
	}
	return nil, fmt.Errorf("KAFKA_SASL_MECHANISM: %q is not %s", mechanism, mechanisms)
}

// passwordFromEnv returns the user name, how to get the password, nil for none or for two, and whether anything of it is given.
func passwordFromEnv() (user string, password func(context.Context) (Secret, error), given bool, err error) {
	user = os.Getenv("KAFKA_SASL_USERNAME")
	file := &namedFile{field: "KAFKA_SASL_PASSWORD_FILE", path: os.Getenv("KAFKA_SASL_PASSWORD_FILE")}
	text := Secret(os.Getenv("KAFKA_SASL_PASSWORD"))
	switch given = user != "" || file.path != "" || text != ""; {
	case file.path != "" && text != "":
	case file.path != "":
		password = file.secret
	case text != "":
		password = func(context.Context) (Secret, error) { return text, nil }
	}
	return user, password, given, file.check()
}
