package exporter

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/meshtrace/meshtrace/internal/otelenv"
)

// Setting is one configured value and where it came from.
type Setting struct {
	Name   string // as in Config: "Endpoint"; "QueueSpans" and "RequestSpans" are variables' alone
	Value  string // without secrets: of headers the names, of URLs no user and no query
	Source string // the variable's name, "Config" or "default"
}

const (
	fromConfig  = "Config"
	fromDefault = "default"
)

// settings is Config and environment brought together.
type settings struct {
	target   target
	protocol Protocol // Auto: to be asked for
	assumed  bool     // plaintext or TLS was taken for want of a scheme
	file     string   // written in place of sending

	// While the protocol is Auto:
	hint       Protocol // which is asked for first, by port and path; Auto: no idea
	http, grpc target

	headers     http.Header
	headerFunc  func(context.Context) (map[string]string, error)
	tls         *tls.Config
	roots       *watched[*x509.CertPool] // nil: those of tls
	client      *http.Client
	proxies     *proxies
	dial        dialer
	compression Compression
	timeout     time.Duration // 0: none

	queueBytes   int64
	queueSpans   int // 0: no bound
	full         Full
	block        time.Duration
	delay        time.Duration
	requestBytes int
	requestSpans int // 0: no bound
	inFlight     int

	endpointFrom, protocolFrom, headersFrom, tlsFrom string
	insecureFrom                                     string // "": not what decided
	list                                             []Setting
}

func (s *settings) note(name, source string, value any) {
	s.list = append(s.list, Setting{Name: name, Value: fmt.Sprint(value), Source: source})
}

const (
	envPrefix = "OTEL_EXPORTER_OTLP_"
	envSignal = "OTEL_EXPORTER_OTLP_TRACES_"
)

// both lists the names of a variable, the one that wins first.
func both(name string) []string { return []string{envSignal + name, envPrefix + name} }

// lookup returns what parse makes of the first usable variable, else Config's value
// when it is set, else def.
func lookup[T comparable](names []string, parse func(name string) (T, bool), config, def T) (T, string) {
	for _, n := range names {
		if v, ok := parse(n); ok {
			return v, n
		}
	}
	var zero T
	if config != zero {
		return config, fromConfig
	}
	return def, fromDefault
}

// resolve reads the environment over a Config that was checked. What it cannot use
// is among env.Problems.
func (c *Config) resolve(env *otelenv.Reader) *settings {
	s := &settings{client: c.Client, full: c.Full, dial: c.dial}
	if c.Sender == nil {
		s.transport(c, env)
	} else {
		s.note("Sender", fromConfig, fmt.Sprintf("%T", c.Sender))
	}

	s.queueBytes = cmp.Or(c.QueueBytes, defaultQueueBytes)
	s.note("QueueBytes", source(c.QueueBytes != 0), s.queueBytes)
	s.queueSpans = s.spans(env, "QueueSpans", "OTEL_BSP_MAX_QUEUE_SIZE")
	s.note("Full", source(c.Full != 0), c.Full)
	if s.full == Block {
		s.block = cmp.Or(c.Block, defaultBlock)
		s.note("Block", source(c.Block != 0), s.block)
	}

	var from string
	s.delay, from = lookup([]string{"OTEL_BSP_SCHEDULE_DELAY"}, func(n string) (time.Duration, bool) {
		return env.Millis(n, 0, maxDelay)
	}, c.Delay, defaultDelay)
	s.note("Delay", from, s.delay)
	s.requestBytes = cmp.Or(c.RequestBytes, defaultRequestBytes)
	s.note("RequestBytes", source(c.RequestBytes != 0), s.requestBytes)
	s.requestSpans = s.spans(env, "RequestSpans", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
	s.inFlight = cmp.Or(c.InFlight, defaultInFlight)
	s.note("InFlight", source(c.InFlight != 0), s.inFlight)
	return s
}

func source(set bool) string {
	if set {
		return fromConfig
	}
	return fromDefault
}

func (s *settings) spans(env *otelenv.Reader, name, variable string) int {
	n, ok := env.Int(variable, 1, 1<<31-1)
	if !ok {
		s.note(name, fromDefault, "no limit")
		return 0
	}
	s.note(name, variable, n)
	return int(n)
}

// transport settles Endpoint to Timeout.
func (s *settings) transport(c *Config, env *otelenv.Reader) {
	s.protocol, s.protocolFrom = lookup(both("PROTOCOL"), func(n string) (Protocol, bool) {
		v, ok := env.Enum(n, "grpc", "http/protobuf", "http/json")
		switch {
		case !ok:
			return Auto, false
		case v == "grpc":
			return GRPC, true
		case v == "http/json":
			return HTTPJSON, true
		}
		return HTTPProtobuf, true
	}, c.Protocol, Auto)

	e := s.endpoint(c, env)
	if e.file != "" {
		s.file, s.target.name = e.file, "file:"+e.file
		s.note("Endpoint", s.endpointFrom, s.target.name)
		return
	}
	s.setHeaders(c, env)
	s.setTLS(c, env)

	plaintext := e.scheme == "http"
	if e.scheme == "" {
		insecure, from := lookup(both("INSECURE"), func(n string) (string, bool) {
			v, ok := env.Bool(n)
			return fmt.Sprint(v), ok
		}, "", "")
		switch {
		case insecure != "":
			plaintext, s.insecureFrom = insecure == "true", from
		case s.tls != nil:
			plaintext = false
		default:
			plaintext = e.plaintextByName()
			s.assumed = e.unix == ""
		}
	}
	exact := s.endpointFrom == envSignal+"ENDPOINT"
	s.target = e.resolve(s.protocol, plaintext, exact)
	if s.protocol == Auto {
		s.hint = e.protocol()
		s.grpc = e.resolve(GRPC, plaintext, exact)
		s.http = e.resolve(HTTPProtobuf, plaintext, exact)
		if s.target = s.grpc; s.hint == HTTPProtobuf {
			s.target = s.http
		}
	}

	scheme := s.target.url.Scheme + "://"
	if s.target.unix != "" {
		scheme = ""
	}
	s.note("Endpoint", s.endpointFrom, scheme+s.target.name)
	if s.hint != Auto {
		s.note("Protocol", s.protocolFrom, fmt.Sprintf("auto, %v first", s.hint))
	} else {
		s.note("Protocol", s.protocolFrom, s.protocol)
	}
	names := make([]string, 0, len(s.headers))
	for k := range s.headers {
		names = append(names, k+"=…")
	}
	slices.Sort(names)
	s.note("Headers", s.headersFrom, strings.Join(names, ", "))
	if s.headerFunc = c.HeaderFunc; s.headerFunc != nil {
		s.note("HeaderFunc", fromConfig, "set")
	}
	switch {
	case c.Client != nil:
		s.note("Client", fromConfig, fmt.Sprintf("%T", c.Client.Transport))
	case plaintext:
		s.note("TLS", s.tlsFrom, "off")
	default:
		s.note("TLS", s.tlsFrom, "on")
	}
	if c.Client == nil {
		s.proxies = readProxies(env)
		if proxy, from := s.proxies.of(s.target, s.protocol); proxy != nil {
			s.note("Proxy", from, proxy.Scheme+"://"+proxy.Host)
		}
	}

	var from string
	s.compression, from = lookup(both("COMPRESSION"), func(n string) (Compression, bool) {
		v, ok := env.Enum(n, "none", "gzip")
		if v == "gzip" {
			return Gzip, ok
		}
		return None, ok
	}, c.Compression, None)
	s.note("Compression", from, s.compression)

	s.timeout, from = lookup(both("TIMEOUT"), func(n string) (time.Duration, bool) {
		return env.Millis(n, 0, maxTimeout)
	}, c.Timeout, defaultTimeout)
	if d, ok := env.Millis("OTEL_BSP_EXPORT_TIMEOUT", 0, maxTimeout); ok && d > 0 && (d < s.timeout || s.timeout == 0) {
		s.timeout, from = d, "OTEL_BSP_EXPORT_TIMEOUT"
	}
	if s.timeout == 0 {
		s.note("Timeout", from, "none")
	} else {
		s.note("Timeout", from, s.timeout)
	}
}

func (s *settings) endpoint(c *Config, env *otelenv.Reader) endpoint {
	for _, n := range both("ENDPOINT") {
		v, ok := env.String(n)
		if !ok {
			continue
		}
		e, err := parseEndpoint(v)
		if err == nil {
			s.endpointFrom = n
			return e
		}
		env.Reject(n, redactURL(v), allowedEndpoint+" ("+err.Error()+")")
	}
	if c.Endpoint != "" {
		if e, err := parseEndpoint(c.Endpoint); err == nil {
			s.endpointFrom = fromConfig
			return e
		}
	}
	s.endpointFrom = fromDefault
	return endpoint{host: "localhost"}
}

func (s *settings) setHeaders(c *Config, env *otelenv.Reader) {
	for _, n := range both("HEADERS") {
		v, ok := env.String(n)
		if !ok {
			continue
		}
		h, errs := parseHeaders(v)
		for _, err := range errs {
			env.Reject(n, "…", allowedHeaders+" ("+err.Error()+")")
		}
		if len(h) > 0 {
			s.headers, s.headersFrom = h, n
			return
		}
	}
	s.headers, _ = checkHeaders(c.Headers)
	s.headersFrom = source(len(c.Headers) > 0)
}

// setTLS adds what variables say to Config.TLS; s.tls stays nil when neither says anything.
func (s *settings) setTLS(c *Config, env *otelenv.Reader) {
	s.tlsFrom = fromDefault
	if c.TLS != nil {
		s.tls, s.tlsFrom = c.TLS.Clone(), fromConfig
	}
	s.addFile(env, "CERTIFICATE", "a PEM file of certificates", func(path, _ string) error {
		pool, err := watch(readPool, path)
		if err == nil {
			s.roots = pool
		}
		return err
	})
	s.addFile(env, "CLIENT_CERTIFICATE", "a PEM file of certificates, with the key's file in _CLIENT_KEY", func(path, name string) error {
		keyName := strings.TrimSuffix(name, "CERTIFICATE") + "KEY"
		key, ok := env.String(keyName)
		if !ok && strings.HasPrefix(name, envSignal) {
			key, ok = env.String(envPrefix + "CLIENT_KEY")
		}
		if !ok {
			return fmt.Errorf("%s is not set", keyName)
		}
		pair, err := watch(readPair, path, key)
		if err != nil {
			return err
		}
		s.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get(), nil }
		return nil
	})
}

// addFile hands the file that a variable names to use.
func (s *settings) addFile(env *otelenv.Reader, name, allowed string, use func(path, variable string) error) {
	for _, n := range both(name) {
		path, ok := env.String(n)
		if !ok {
			continue
		}
		if s.client != nil {
			env.Reject(n, path, "nothing beside Config.Client, whose Transport has TLS of its own")
			continue
		}
		had := s.tls
		if s.tls == nil {
			s.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		err := use(path, n)
		if err == nil {
			s.tlsFrom = n
			return
		}
		s.tls = had
		env.Reject(n, path, allowed+" ("+oneLine(err.Error(), 160)+")")
	}
}

// line says where spans go, how, what else is set, and by whom.
func (s *settings) line(to Sender) string {
	var b strings.Builder
	fmt.Fprintf(&b, "exporter: spans go to %s", s.name())
	for _, v := range s.list {
		if v.Name == "Endpoint" {
			fmt.Fprintf(&b, " (%s)", v.Source)
			if l, ok := to.(speaker); ok {
				fmt.Fprintf(&b, " as %s", l.spoken())
			}
		}
		if v.Name != "Endpoint" && v.Name != "Sender" && v.Source != fromDefault {
			fmt.Fprintf(&b, ", %s %s (%s)", v.Name, v.Value, v.Source)
		}
	}
	return oneLine(b.String(), maxLine)
}

// speaker is a Sender that can say how it sends.
type speaker interface{ spoken() string }

func (l *link) spoken() string {
	name := l.speaks.String()
	if l.target.url.Scheme == "http" && l.target.unix == "" {
		name += " in plaintext"
	}
	return name
}

func (s *askingSender) spoken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.chosen.(speaker); ok {
		return l.spoken()
	}
	return "what it speaks"
}

func (s *lineSender) spoken() string { return "OTLP/JSON lines" }
