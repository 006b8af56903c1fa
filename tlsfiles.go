package eventbus

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
)

// TLSFiles are the PEM files of a TLS configuration, as an orchestrator mounts them. The zero value trusts the system's CAs and shows no
// certificate.
type TLSFiles struct {
	// CA holds the certificates of the CAs to trust in place of the system's. It is read once. Default: the system's CAs.
	CA string
	// Cert holds the certificate to show to brokers that ask for one, and those between it and its CA. Default: none.
	Cert string
	// Key holds its private key. Both are needed, or none. Default: none.
	Key string
}

// Config reads the files and returns the configuration of a client for [Config.TLS], of TLS 1.2 or later. An error names the field, and the file
// once that could be read.
//
// Certificate and key are read again for each new connection, so that they can be exchanged while the bus runs. Where the new ones cannot
// be used, as when one of the two is not written yet or its mount hangs, those that were read before go on; the bus says so in its log, once,
// and in [Health].
func (f TLSFiles) Config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		ca := &namedFile{field: "TLSFiles.CA", path: f.CA}
		pem, err := ca.read(context.Background())
		if err != nil {
			return nil, fmt.Errorf("eventbus: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("eventbus: TLSFiles.CA: %s holds no PEM certificate", f.CA)
		}
	}
	if f.Cert == "" && f.Key == "" {
		return cfg, nil
	}
	if f.Cert == "" || f.Key == "" {
		return nil, errors.New("eventbus: TLSFiles.Cert, TLSFiles.Key: both are needed, or none")
	}
	pair := &keyPair{cert: &namedFile{field: "TLSFiles.Cert", path: f.Cert}, key: &namedFile{field: "TLSFiles.Key", path: f.Key}}
	if err := pair.reload(context.Background()); err != nil {
		return nil, fmt.Errorf("eventbus: %w", err)
	}
	cfg.GetClientCertificate = pair.show
	return cfg, nil
}

// keyPair is a certificate and its key, in files that change.
type keyPair struct {
	cert, key *namedFile

	mu      sync.Mutex
	read    [2][]byte // what current was made of
	current *tls.Certificate
}

// show implements [tls.Config.GetClientCertificate].
func (p *keyPair) show(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	err := p.reload(asked.Context())
	if err != nil {
		err = fmt.Errorf("the client certificate read before goes on, the new one cannot be used: %w", err)
	}
	if shown, ok := asked.Context().Value(shownKey{}).(*shownCertificate); ok {
		shown.notReloaded(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current, nil
}

// reload reads the files. Contents are compared, not times: a file system may keep only seconds.
func (p *keyPair) reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout) // for both
	defer cancel()
	cert, err := p.cert.read(ctx)
	if err != nil {
		return err
	}
	key, err := p.key.read(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && bytes.Equal(cert, p.read[0]) && bytes.Equal(key, p.read[1]) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("TLSFiles.Cert, TLSFiles.Key: %s, %s: %w", p.cert.path, p.key.path, err)
	}
	p.read, p.current = [2][]byte{cert, key}, &pair
	return nil
}
