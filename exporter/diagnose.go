package exporter

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// Kinds of failure that come without an answer, one log line a minute each.
const (
	kindProtocol    = "protocol"
	kindTLS         = "tls"
	kindName        = "name"
	kindUnreachable = "unreachable"
	kindHeaders     = "headers"
	kindFile        = "file"
)

// endpointName is where the endpoint is to be changed.
func (s *settings) endpointName() string {
	switch s.endpointFrom {
	case fromConfig:
		return "Config.Endpoint"
	case fromDefault:
		return "OTEL_EXPORTER_OTLP_ENDPOINT"
	}
	return s.endpointFrom
}

// protocolAdvice says how to change the protocol to p.
func (s *settings) protocolAdvice(p Protocol) string {
	if s.protocolFrom == fromConfig {
		switch p {
		case GRPC:
			return "set Config.Protocol to GRPC"
		case HTTPJSON:
			return "set Config.Protocol to HTTPJSON"
		}
		return "set Config.Protocol to HTTPProtobuf"
	}
	name := s.protocolFrom
	if name == fromDefault {
		name = "OTEL_EXPORTER_OTLP_PROTOCOL"
	}
	return "set " + name + "=" + p.String()
}

func (s *settings) pathAdvice() string {
	if s.endpointFrom == envSignal+"ENDPOINT" && !strings.HasSuffix(s.target.url.Path, tracesPath) {
		return s.endpointFrom + " is used as it is: add " + tracesPath
	}
	return "correct the path in " + s.endpointName()
}

func (s *settings) credentialsAdvice() string {
	if s.headersFrom == fromConfig {
		return "check the credentials in Config.Headers"
	}
	if s.headersFrom == fromDefault {
		return "give credentials in OTEL_EXPORTER_OTLP_HEADERS (authorization=…)"
	}
	return "check the credentials in " + s.headersFrom
}

// schemeAdvice says how to change between plaintext and TLS.
func (s *settings) schemeAdvice(scheme string) string {
	if s.insecureFrom != "" {
		return fmt.Sprintf("set %s=%v, or write %s:// in %s", s.insecureFrom, scheme == "http", scheme, s.endpointName())
	}
	if s.assumed {
		return fmt.Sprintf("%s has no scheme, so %s:// was taken: write %s:// in front", s.endpointName(), s.target.url.Scheme, scheme)
	}
	return fmt.Sprintf("write %s:// in %s", scheme, s.endpointName())
}

// name is what the lines call the collector.
func (s *settings) name() string {
	if s.target.name == "" {
		return "the Sender"
	}
	return s.target.name
}

func (l *link) speaksGRPC() *SendError {
	return &SendError{Retry: true, kind: kindProtocol,
		Err:    fmt.Errorf("%s speaks gRPC, not OTLP/HTTP", l.target.name),
		Advice: fmt.Sprintf("%s, or give its HTTP port (4318) in %s", l.protocolAdvice(GRPC), l.endpointName())}
}

// speaksHTTP is for an endpoint that answers version in place of gRPC.
func (l *link) speaksHTTP(version string) *SendError {
	return &SendError{Retry: true, kind: kindProtocol,
		Err:    fmt.Errorf("%s speaks %s, not gRPC", l.target.name, version),
		Advice: fmt.Sprintf("%s, or give its gRPC port (4317) in %s", l.protocolAdvice(HTTPProtobuf), l.endpointName())}
}

func (l *link) expectsTLS() *SendError {
	return &SendError{Retry: true, kind: kindTLS,
		Err:    fmt.Errorf("%s expects TLS and got plaintext", l.target.name),
		Advice: l.schemeAdvice("https")}
}

func (l *link) expectsPlaintext() *SendError {
	return &SendError{Retry: true, kind: kindTLS,
		Err:    fmt.Errorf("%s answers TLS with plaintext", l.target.name),
		Advice: l.schemeAdvice("http")}
}

// clean takes the method and the URL, which may hold secrets, out of a client's error.
func clean(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// cause is what a client's error says, in our words where our own time limit ended it.
func cause(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &explained{"no answer in time", clean(err)}
	}
	return clean(err)
}

// unreachable makes an error of a request that got no answer. All of them may be
// repeated: the spans are kept until the endpoint or its configuration is put right.
func (l *link) unreachable(ctx context.Context, err error, p Protocol) *SendError {
	var before *SendError
	if errors.As(err, &before) { // there was no request
		return before
	}
	err = cause(ctx, err)
	e := &SendError{Retry: true, kind: kindUnreachable, Err: fmt.Errorf("%s: %w", l.target.name, err)}
	explain := func(kind, format string, args ...any) {
		e.kind = kind
		e.Err = &explained{fmt.Sprintf(format, args...), err}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return e
	}
	var (
		dns     *net.DNSError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		record  tls.RecordHeaderError
		op      *net.OpError
	)
	switch {
	case l.proxy != nil && errors.As(err, &op) && op.Op == proxyOp:
		explain(kindUnreachable, "%s cannot be reached through the proxy %s: %v", l.target.name, l.proxy.Host, op.Err)
		e.Advice = "correct " + l.named + ", or add the host to NO_PROXY"
	case errors.As(err, &dns):
		explain(kindName, "the host name %s cannot be looked up (%s)", oneLine(dns.Name, 80), oneLine(dns.Err, 60))
		if dns.IsNotFound {
			explain(kindName, "the host name %s does not exist", oneLine(dns.Name, 80))
		}
		e.Advice = "correct " + l.endpointName()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		explain(kindTLS, "the certificate of %s is expired or not yet valid: %s", l.target.name, validity(invalid.Cert))
		e.Advice = "renew it, or correct " + l.endpointName()
	case errors.As(err, &unknown):
		explain(kindTLS, "the certificate of %s is signed by an unknown authority", l.target.name)
		e.Advice = "give the authority's PEM file in OTEL_EXPORTER_OTLP_CERTIFICATE, or Config.TLS"
	case errors.As(err, &host):
		explain(kindTLS, "the certificate of %s is for another name (%s)", l.target.name, names(host.Certificate))
		e.Advice = "correct the name in " + l.endpointName()
	case errors.As(err, &invalid):
		e.kind = kindTLS
		e.Advice = "replace it, or correct " + l.endpointName()
	case errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch):
		return l.expectsPlaintext()
	case p == GRPC && strings.Contains(err.Error(), "no application protocol"):
		return l.speaksHTTP("HTTP/1")
	case refusedTLS(err):
		e.kind = kindTLS
		e.Advice = "the collector refuses our TLS: it may want OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY"
	case errors.Is(err, syscall.ECONNREFUSED):
		explain(kindUnreachable, "%s refuses the connection", l.target.name)
		e.Advice = "nothing listens there: start the collector or correct " + l.endpointName()
	case errors.Is(err, os.ErrNotExist) && l.target.unix != "":
		explain(kindUnreachable, "%s does not exist", l.target.name)
		e.Advice = "start the collector or correct " + l.endpointName()
	case isTimeout(err):
		e.Advice = "is it reachable? See " + l.endpointName()
	default:
		e.cut = !isDial(err)
		e.Advice = "see " + l.endpointName()
		if found := l.lookAgain(ctx, p); found != nil {
			return found
		}
	}
	return e
}

// explained is an error in words of ours.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func validity(c *x509.Certificate) string {
	if c == nil {
		return "check the clock"
	}
	const day = "2006-01-02"
	return c.NotBefore.UTC().Format(day) + " to " + c.NotAfter.UTC().Format(day)
}

func names(c *x509.Certificate) string {
	if c == nil {
		return "?"
	}
	list := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	if len(list) == 0 {
		list = []string{c.Subject.CommonName}
	}
	return oneLine(strings.Join(list, ", "), 60)
}

// spoken is what an endpoint answered to a look.
type spoken uint8

const (
	spokenNothing spoken = iota // it said nothing that could be told apart
	spokenHTTP1
	spokenHTTP2
	spokenTLS // plaintext was sent
)

const (
	lookTimeout  = 400 * time.Millisecond // for the answer's first bytes
	alertTimeout = 150 * time.Millisecond // for an alert after a TLS handshake
	lookInterval = 10 * time.Second
)

// mayLook reports whether a connection of our own goes where requests go.
func (l *link) mayLook() bool {
	w := l.begin()
	defer l.end(w, false)
	if w.own == nil || w.own.DialContext == nil {
		return false
	}
	if w.own.Proxy == nil {
		return true
	}
	proxy, err := w.own.Proxy(&http.Request{URL: l.target.url})
	return err == nil && proxy == nil
}

// sniff says what is wrong with the endpoint for protocol p, nil when nothing can be
// seen. It costs the collector a connection and no request.
func (l *link) sniff(ctx context.Context, p Protocol) *SendError {
	if !l.mayLook() {
		return nil
	}
	speaks, err := l.look(ctx, p)
	if err != nil {
		return l.unreachable(ctx, err, p)
	}
	return l.mismatch(speaks, p)
}

func (l *link) mismatch(speaks spoken, p Protocol) *SendError {
	switch {
	case speaks == spokenTLS:
		return l.expectsTLS()
	case speaks == spokenHTTP1 && p == GRPC:
		return l.speaksHTTP("HTTP/1")
	case speaks == spokenHTTP2 && p != GRPC:
		return l.speaksGRPC()
	}
	return nil
}

// lookAgain looks at an endpoint whose failure tells nothing, at most once in lookInterval.
func (l *link) lookAgain(ctx context.Context, p Protocol) *SendError {
	l.sniffing.Lock()
	defer l.sniffing.Unlock()
	if !l.mayLook() {
		return nil
	}
	if !l.sniffed.IsZero() && time.Since(l.sniffed) < lookInterval {
		return l.found
	}
	speaks, err := l.look(ctx, p)
	l.found = l.mismatch(speaks, p)
	if err != nil && refusedTLS(err) {
		l.found = l.unreachable(ctx, err, p)
	}
	l.sniffed = time.Now()
	return l.found
}

// look finds out what is spoken at the endpoint. In plaintext it says the first words
// of protocol p and hears what comes back; a server that hangs up without a word is
// tried with the other protocol's, then with TLS.
func (l *link) look(ctx context.Context, p Protocol) (spoken, error) {
	if l.target.url.Scheme == "https" {
		return l.shake(ctx, p)
	}
	http1 := "OPTIONS * HTTP/1.1\r\nHost: " + l.target.url.Host +
		"\r\nUser-Agent: " + userAgent + "\r\nConnection: close\r\n\r\n"
	// RFC 9113, 3.4: the preface and an empty SETTINGS frame.
	http2 := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	words := []string{http1, http2}
	if p == GRPC {
		words = []string{http2, http1}
	}
	for _, w := range words {
		speaks, hungUp, err := l.say(ctx, w)
		if err != nil || !hungUp {
			return speaks, err
		}
	}
	_, err := l.shake(ctx, p)
	if err == nil || errors.As(err, new(*tls.CertificateVerificationError)) || refusedTLS(err) {
		return spokenTLS, nil
	}
	return spokenNothing, nil
}

// refusedTLS reports whether the other side sent a TLS alert.
func refusedTLS(err error) bool { return strings.Contains(err.Error(), "remote error: tls:") }

// say says words on a new connection. hungUp is true when the server closed it in return.
func (l *link) say(ctx context.Context, words string) (speaks spoken, hungUp bool, err error) {
	c, err := l.dial(ctx, "tcp", l.target.addr)
	if err != nil {
		return spokenNothing, false, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(lookTimeout))
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })
	defer stop()
	if _, err := io.WriteString(c, words); err != nil {
		return spokenNothing, !isTimeout(err), nil
	}
	heard, n := make([]byte, 512), 0
	for err == nil && n < len(heard) {
		var more int
		more, err = c.Read(heard[n:])
		n += more
		// Of HTTP/1 all is wanted: the text may say that TLS is.
		if speaks = understand(heard[:n]); speaks == spokenHTTP2 || speaks == spokenTLS {
			break
		}
	}
	return speaks, n == 0 && !isTimeout(err), nil
}

// understand tells from its first bytes what a server speaks.
func understand(b []byte) spoken {
	switch {
	case bytes.HasPrefix(b, []byte("HTTP/1.")):
		if saysHTTPS(b) {
			return spokenTLS
		}
		return spokenHTTP1
	case len(b) >= 9 && b[0] == 0 && b[3] == 4 && b[5]|b[6]|b[7]|b[8] == 0: // RFC 9113, 6.5: SETTINGS on stream 0
		return spokenHTTP2
	case len(b) >= 2 && b[0] == 0x15 && b[1] == 3: // RFC 8446, 5.1: an alert
		return spokenTLS
	}
	return spokenNothing
}

// shake goes through the TLS handshake. What a server prefers says no more than
// whether it has HTTP/2 at all.
func (l *link) shake(ctx context.Context, p Protocol) (spoken, error) {
	c, err := l.dial(ctx, "tcp", l.target.addr)
	if err != nil {
		return spokenNothing, err
	}
	defer c.Close()
	cfg := l.tlsConfig()
	if cfg.ServerName == "" {
		cfg.ServerName = l.target.url.Hostname()
	}
	cfg.NextProtos = []string{"h2", "http/1.1"}
	if p == GRPC {
		cfg.NextProtos = []string{"h2"}
	}
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return spokenNothing, err
	}
	// TLS 1.3 tells a client what is wrong with its certificate after the handshake.
	t.SetReadDeadline(time.Now().Add(alertTimeout))
	if _, err := t.Read(make([]byte, 1)); err != nil && refusedTLS(err) {
		return spokenNothing, err
	}
	if t.ConnectionState().NegotiatedProtocol != "h2" {
		return spokenHTTP1, nil
	}
	return spokenNothing, nil
}
