package exporter

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
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
	http     target   // of OTLP/HTTP, while the protocol is Auto

	headers     http.Header
	tls         *tls.Config
	client      *http.Client
	compression Compression
	timeout     time.Duration // 0: none

	queueBytes   int64
	queueSpans   int // 0: no bound
	full         Full
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
	s := &settings{client: c.Client, full: c.Full}
	if c.Sender == nil {
		s.transport(c, env)
	} else {
		s.note("Sender", fromConfig, fmt.Sprintf("%T", c.Sender))
	}

	s.queueBytes = cmp.Or(c.QueueBytes, defaultQueueBytes)
	s.note("QueueBytes", source(c.QueueBytes != 0), s.queueBytes)
	s.queueSpans = s.spans(env, "QueueSpans", "OTEL_BSP_MAX_QUEUE_SIZE")
	s.note("Full", source(c.Full != 0), c.Full)

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
		v, ok := env.Enum(n, "grpc", "http/protobuf")
		switch {
		case !ok:
			return Auto, false
		case v == "grpc":
			return GRPC, true
		}
		return HTTPProtobuf, true
	}, c.Protocol, Auto)

	e := s.endpoint(c, env)
	if s.protocol == Auto {
		s.protocol = e.protocol()
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
		s.target = e.resolve(GRPC, plaintext, exact)
		s.http = e.resolve(HTTPProtobuf, plaintext, exact)
	}

	scheme := s.target.url.Scheme + "://"
	if s.target.unix != "" {
		scheme = ""
	}
	s.note("Endpoint", s.endpointFrom, scheme+s.target.name)
	s.note("Protocol", s.protocolFrom, s.protocol)
	names := make([]string, 0, len(s.headers))
	for k := range s.headers {
		names = append(names, k+"=…")
	}
	slices.Sort(names)
	s.note("Headers", s.headersFrom, strings.Join(names, ", "))
	switch {
	case c.Client != nil:
		s.note("Client", fromConfig, fmt.Sprintf("%T", c.Client.Transport))
	case plaintext:
		s.note("TLS", s.tlsFrom, "off")
	default:
		s.note("TLS", s.tlsFrom, "on")
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

// maxPEM bounds the files that variables name.
const maxPEM = 4 << 20

var (
	errPEMSize = errors.New("larger than 4 MiB")
	errPEMNone = errors.New("no certificate in it")
)

// setTLS adds what variables say to Config.TLS; s.tls stays nil when neither says anything.
func (s *settings) setTLS(c *Config, env *otelenv.Reader) {
	s.tlsFrom = fromDefault
	if c.TLS != nil {
		s.tls, s.tlsFrom = c.TLS.Clone(), fromConfig
	}
	s.addFile(env, "CERTIFICATE", "a PEM file of certificates", func(pem []byte, _ string) error {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return errPEMNone
		}
		s.tls.RootCAs = pool
		return nil
	})
	s.addFile(env, "CLIENT_CERTIFICATE", "a PEM file of certificates, with the key's file in _CLIENT_KEY", func(pem []byte, name string) error {
		keyName := strings.TrimSuffix(name, "CERTIFICATE") + "KEY"
		path, ok := env.String(keyName)
		if !ok && strings.HasPrefix(name, envSignal) {
			path, ok = env.String(envPrefix + "CLIENT_KEY")
		}
		if !ok {
			return fmt.Errorf("%s is not set", keyName)
		}
		key, err := readFile(path)
		if err != nil {
			return err
		}
		pair, err := tls.X509KeyPair(pem, key)
		if err != nil {
			return err
		}
		s.tls.Certificates = []tls.Certificate{pair}
		return nil
	})
}

// addFile hands the file that a variable names to use.
func (s *settings) addFile(env *otelenv.Reader, name, allowed string, use func(pem []byte, variable string) error) {
	for _, n := range both(name) {
		path, ok := env.String(n)
		if !ok {
			continue
		}
		if s.client != nil {
			env.Reject(n, path, "nothing beside Config.Client, whose Transport has TLS of its own")
			continue
		}
		pem, err := readFile(path)
		if err == nil {
			had := s.tls
			if s.tls == nil {
				s.tls = &tls.Config{}
			}
			if err = use(pem, n); err == nil {
				s.tlsFrom = n
				return
			}
			s.tls = had
		}
		env.Reject(n, path, allowed+" ("+oneLine(err.Error(), 160)+")")
	}
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(b) > maxPEM {
		err = errPEMSize
	}
	return b, err
}
