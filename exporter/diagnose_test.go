package exporter

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshtrace/meshtrace/internal/collectortest"
)

// server starts an HTTP server that speaks what protocols says, over TLS when cfg is given.
func server(t *testing.T, h http.HandlerFunc, cfg *tls.Config, protocols ...func(*http.Protocols, bool)) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.Protocols = new(http.Protocols)
	for _, set := range protocols {
		set(s.Config.Protocols, true)
	}
	if cfg != nil {
		s.TLS = cfg
		s.EnableHTTP2 = s.Config.Protocols.HTTP2()
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// talker starts a server that says words to everybody who connects, as gRPC servers do with
// their SETTINGS, and reads what comes.
func talker(t *testing.T, words string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, words)
			c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func answer(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Error(w, text, status) }
}

// What is wrong is told within a second of New, in one line that names what to change,
// and the spans are kept where the specification lets them be.
func TestMisconfigured(t *testing.T) {
	http1, h2c, h2 := (*http.Protocols).SetHTTP1, (*http.Protocols).SetUnencryptedHTTP2, (*http.Protocols).SetHTTP2
	good, roots := collectortest.SelfSigned(t, time.Now().Add(time.Hour))
	old, _ := collectortest.SelfSigned(t, time.Date(2020, 3, 4, 0, 0, 0, 0, time.UTC))
	serverTLS := func(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
	trust := &tls.Config{RootCAs: roots}
	const settings = "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"

	tests := []struct {
		name     string
		at       func(t *testing.T) string // the address, ADDR below
		cfg      Config                    // ADDR in Endpoint is replaced
		env      string                    // of OTEL_EXPORTER_OTLP_ENDPOINT, likewise
		line     string
		rejected string // the spans are rejected by this answer; "": kept
	}{
		{
			name: "gRPC to an HTTP port",
			at:   func(t *testing.T) string { return server(t, answer(404, "not found"), nil, http1) },
			cfg:  Config{Endpoint: "http://ADDR", Protocol: GRPC},
			line: "exporter: ADDR speaks HTTP/1, not gRPC: set Config.Protocol to HTTPProtobuf, or give its gRPC port (4317) in Config.Endpoint",
		}, {
			name: "gRPC to an HTTP port, by variable",
			at:   func(t *testing.T) string { return server(t, answer(404, "not found"), nil, http1) },
			cfg:  Config{Protocol: HTTPProtobuf, Getenv: env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT", "ADDR")},
			line: "exporter: ADDR speaks HTTP/1, not gRPC: set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf, or give its gRPC port (4317) in OTEL_EXPORTER_OTLP_ENDPOINT",
		}, {
			name: "gRPC to an HTTP port that has HTTP/2",
			at:   func(t *testing.T) string { return server(t, answer(404, "not found"), nil, http1, h2c) },
			cfg:  Config{Endpoint: "http://ADDR", Protocol: GRPC},
			line: "exporter: ADDR speaks HTTP, not gRPC: set Config.Protocol to HTTPProtobuf, or give its gRPC port (4317) in Config.Endpoint",
		}, {
			name: "gRPC to an HTTP port with TLS",
			at:   func(t *testing.T) string { return server(t, answer(404, "not found"), serverTLS(good), http1) },
			cfg:  Config{Endpoint: "https://ADDR", Protocol: GRPC, TLS: trust},
			line: "exporter: ADDR speaks HTTP/1, not gRPC: set Config.Protocol to HTTPProtobuf, or give its gRPC port (4317) in Config.Endpoint",
		}, {
			name: "HTTP to a gRPC port",
			at:   func(t *testing.T) string { return server(t, answer(415, "gRPC only"), nil, h2c) },
			cfg:  Config{Endpoint: "http://ADDR", Protocol: HTTPProtobuf},
			line: "exporter: ADDR/v1/traces speaks gRPC, not OTLP/HTTP: set Config.Protocol to GRPC, or give its HTTP port (4318) in Config.Endpoint",
		}, {
			name: "HTTP to a gRPC port that speaks first",
			at:   func(t *testing.T) string { return talker(t, settings) },
			cfg:  Config{Endpoint: "http://ADDR", Protocol: HTTPProtobuf},
			line: "exporter: ADDR/v1/traces speaks gRPC, not OTLP/HTTP: set Config.Protocol to GRPC, or give its HTTP port (4318) in Config.Endpoint",
		}, {
			name: "HTTP to a gRPC port with TLS",
			at: func(t *testing.T) string {
				return server(t, answer(415, "invalid gRPC request content-type"), serverTLS(good), h2)
			},
			cfg:  Config{Endpoint: "https://ADDR", Protocol: HTTPProtobuf, TLS: trust},
			line: "exporter: ADDR/v1/traces speaks gRPC, not OTLP/HTTP: set Config.Protocol to GRPC, or give its HTTP port (4318) in Config.Endpoint",
		}, {
			name: "TLS to plaintext, HTTP",
			at:   func(t *testing.T) string { return server(t, answer(200, ""), nil, http1) },
			cfg:  Config{Endpoint: "https://ADDR", Protocol: HTTPProtobuf},
			line: "exporter: ADDR/v1/traces answers TLS with plaintext: write http:// in Config.Endpoint",
		}, {
			name: "TLS to plaintext, gRPC",
			at:   func(t *testing.T) string { return talker(t, settings) },
			cfg:  Config{Endpoint: "https://ADDR", Protocol: GRPC},
			line: "exporter: ADDR answers TLS with plaintext: write http:// in Config.Endpoint",
		}, {
			name: "TLS to plaintext, by variable",
			at:   func(t *testing.T) string { return talker(t, settings) },
			cfg:  Config{Protocol: GRPC, Getenv: env("OTEL_EXPORTER_OTLP_ENDPOINT", "ADDR", "OTEL_EXPORTER_OTLP_INSECURE", "false")},
			line: "exporter: ADDR answers TLS with plaintext: set OTEL_EXPORTER_OTLP_INSECURE=true, or write http:// in OTEL_EXPORTER_OTLP_ENDPOINT",
		}, {
			name: "plaintext to TLS, HTTP",
			at:   func(t *testing.T) string { return server(t, answer(200, ""), serverTLS(good), http1) },
			cfg:  Config{Endpoint: "http://ADDR", Protocol: HTTPProtobuf},
			line: "exporter: ADDR/v1/traces expects TLS and got plaintext: write https:// in Config.Endpoint",
		}, {
			name: "plaintext to TLS, gRPC, without scheme",
			at:   func(t *testing.T) string { return server(t, answer(200, ""), serverTLS(good), h2) },
			cfg:  Config{Endpoint: "ADDR", Protocol: GRPC},
			line: "exporter: ADDR expects TLS and got plaintext: Config.Endpoint has no scheme, so http:// was taken: write https:// in front",
		}, {
			name: "expired certificate",
			at:   func(t *testing.T) string { return server(t, answer(200, ""), serverTLS(old), h2) },
			cfg:  Config{Endpoint: "https://ADDR", Protocol: GRPC, TLS: trust},
			line: "exporter: the certificate of ADDR is expired or not yet valid: 2020-03-03 to 2020-03-04: renew it, or correct Config.Endpoint",
		}, {
			name: "unknown authority",
			at:   func(t *testing.T) string { return server(t, answer(200, ""), serverTLS(good), http1) },
			cfg:  Config{Endpoint: "https://ADDR", Protocol: HTTPProtobuf},
			line: "exporter: the certificate of ADDR/v1/traces is signed by an unknown authority: give the authority's PEM file in OTEL_EXPORTER_OTLP_CERTIFICATE, or Config.TLS",
		}, {
			name: "certificate for another name",
			at:   func(t *testing.T) string { return server(t, answer(200, ""), serverTLS(good), http1) },
			cfg:  Config{Endpoint: "https://ADDR", Protocol: HTTPProtobuf, TLS: &tls.Config{RootCAs: roots, ServerName: "collector.example"}},
			line: "exporter: the certificate of ADDR/v1/traces is for another name (localhost, 127.0.0.1, ::1): correct the name in Config.Endpoint",
		}, {
			name: "certificate wanted",
			at: func(t *testing.T) string {
				cfg := serverTLS(good)
				cfg.ClientAuth = tls.RequireAnyClientCert
				return server(t, answer(200, ""), cfg, http1)
			},
			cfg:  Config{Endpoint: "https://ADDR", Protocol: HTTPProtobuf, TLS: trust},
			line: "exporter: ADDR/v1/traces: remote error: tls: certificate required: the collector refuses our TLS: it may want OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY",
		}, {
			name:     "404",
			at:       func(t *testing.T) string { return server(t, answer(404, "404 page not found"), nil, http1) },
			cfg:      Config{Endpoint: "http://ADDR/otlp", Protocol: HTTPProtobuf},
			line:     "exporter: ADDR/otlp/v1/traces answers 404 Not Found: 404 page not found: correct the path in Config.Endpoint",
			rejected: "404",
		}, {
			name:     "404, the signal's variable",
			at:       func(t *testing.T) string { return server(t, answer(404, "404 page not found"), nil, http1) },
			cfg:      Config{Protocol: HTTPProtobuf, Getenv: env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://ADDR")},
			line:     "exporter: ADDR/ answers 404 Not Found: 404 page not found: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is: add /v1/traces",
			rejected: "404",
		}, {
			name:     "401",
			at:       func(t *testing.T) string { return server(t, answer(401, "who are you?"), nil, http1) },
			cfg:      Config{Endpoint: "http://ADDR", Protocol: HTTPProtobuf},
			line:     "exporter: ADDR/v1/traces answers 401 Unauthorized: who are you?: give credentials in OTEL_EXPORTER_OTLP_HEADERS (authorization=…)",
			rejected: "401",
		}, {
			name:     "403 over gRPC",
			at:       func(t *testing.T) string { return server(t, answer(403, "no"), nil, h2c) },
			cfg:      Config{Endpoint: "http://ADDR", Protocol: GRPC, Headers: map[string]string{"authorization": "x"}},
			line:     "exporter: ADDR answers 403 Forbidden and not gRPC: check the credentials in Config.Headers",
			rejected: "PERMISSION_DENIED",
		}, {
			name: "redirect",
			at: func(t *testing.T) string {
				return server(t, func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, "http://127.0.0.1:1/stolen", http.StatusTemporaryRedirect)
				}, nil, http1)
			},
			cfg:      Config{Endpoint: "http://ADDR", Protocol: HTTPProtobuf, Headers: map[string]string{"authorization": "x"}},
			line:     "exporter: ADDR/v1/traces answers 307 Temporary Redirect: redirects are not followed: give the final address in Config.Endpoint",
			rejected: "307",
		}, {
			name: "refused",
			at: func(t *testing.T) string {
				c := collectortest.Start(t)
				c.Refuse()
				return c.Addr()
			},
			cfg:  Config{Getenv: env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://ADDR", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")},
			line: "exporter: ADDR refuses the connection: nothing listens there: start the collector or correct OTEL_EXPORTER_OTLP_ENDPOINT",
		}, {
			name: "no such socket",
			at:   func(t *testing.T) string { return t.TempDir() + "/none.sock" },
			cfg:  Config{Endpoint: "unix:ADDR", Protocol: GRPC},
			line: "exporter: unix:ADDR does not exist: start the collector or correct Config.Endpoint",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := tt.at(t)
			cfg := tt.cfg
			cfg.Endpoint = strings.ReplaceAll(cfg.Endpoint, "ADDR", addr)
			if get := cfg.Getenv; get != nil {
				cfg.Getenv = func(n string) string { return strings.ReplaceAll(get(n), "ADDR", addr) }
			}
			l := newLines()
			cfg.Logger = slog.New(l)
			e := start(t, cfg)
			end(e, 0, 5)
			for deadline := time.Now().Add(time.Second + slack); len(l.all()) == 0 && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(300 * time.Millisecond) // there must not be another one
			got := l.all()
			if len(got) != 1 || strings.ReplaceAll(got[0], addr, "ADDR") != tt.line {
				t.Errorf("lines %q, want %q", got, tt.line)
			}
			if len(got) > 0 && l.at[0] > time.Second+slack {
				t.Errorf("told after %v", l.at[0])
			}
			st := e.Stats()
			if tt.rejected == "" && st.Kept.Memory != 5 || tt.rejected != "" && st.Rejected[tt.rejected] != 5 {
				t.Errorf("kept %v, rejected %v", st.Kept, st.Rejected)
			}
			var se *SendError
			if !errors.As(st.LastError, &se) || se.Advice == "" {
				t.Errorf("LastError = %v, want one with advice", st.LastError)
			}
		})
	}
}

// A server that takes connections and never says a word.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody else does
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out := newLines()
	e := start(t, Config{Endpoint: "https://" + l.Addr().String(), Protocol: GRPC, Logger: slog.New(out)})
	for deadline := time.Now().Add(5 * time.Second); len(out.all()) == 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	want := "exporter: " + l.Addr().String() + ": no answer in time: is it reachable? See Config.Endpoint"
	if got := out.all(); len(got) != 1 || got[0] != want {
		t.Errorf("lines %q, want %q", got, want)
	}
	settle(t, e)
}

// A contact at the start is told even when there is no span to send.
func TestToldWithoutSpans(t *testing.T) {
	overBoth(t, func(t *testing.T, p Protocol) {
		c := collectortest.Start(t)
		c.Refuse()
		l := newLines()
		e := start(t, Config{Endpoint: c.URL(), Protocol: p, Logger: slog.New(l)})
		time.Sleep(500 * time.Millisecond)
		if got := l.all(); len(got) != 1 || !strings.Contains(got[0], "refuses") {
			t.Errorf("lines %q", got)
		}
		c.Reopen()
		end(e, 0, 1)
		c.Wait(1)
		all(t, e, c, 1)
		if got := l.all(); len(got) != 2 || !strings.Contains(got[1], "accepts spans again") {
			t.Errorf("lines %q", got)
		}
	})
}

// The first contact costs a collector a connection and no request.
func TestProbeIsNoRequest(t *testing.T) {
	overBoth(t, func(t *testing.T, p Protocol) {
		c := collectortest.Start(t)
		e := start(t, Config{Endpoint: c.URL(), Protocol: p})
		time.Sleep(200 * time.Millisecond)
		all(t, e, c, 0)
		if n := len(c.Requests()); n != 0 || len(logged(e)) != 0 {
			t.Errorf("%d requests, lines %q", n, logged(e))
		}
	})
}

func TestUnreachable(t *testing.T) {
	s := &settings{endpointFrom: fromDefault, target: target{name: "collector:4317"}, timeout: 10 * time.Second}
	l := &link{settings: s, target: s.target, way: &way{}} // as with a client of the caller
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&net.DNSError{Err: "no such host", Name: "collector", IsNotFound: true}, "the host name collector does not exist: correct OTEL_EXPORTER_OTLP_ENDPOINT"},
		{&net.DNSError{Err: "server misbehaving", Name: "collector"}, "the host name collector cannot be looked up (server misbehaving): correct OTEL_EXPORTER_OTLP_ENDPOINT"},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, "collector:4317: dial: i/o timeout: is it reachable? See OTEL_EXPORTER_OTLP_ENDPOINT"},
		{x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, "collector:4317: x509: certificate is not authorized to sign other certificates: replace it, or correct OTEL_EXPORTER_OTLP_ENDPOINT"},
		{io.ErrUnexpectedEOF, "collector:4317: unexpected EOF: see OTEL_EXPORTER_OTLP_ENDPOINT"},
	} {
		e := l.unreachable(context.Background(), tt.err, GRPC)
		if e.Error() != tt.want || !e.Retry || !errors.Is(e, tt.err) {
			t.Errorf("unreachable(%v) = %q, retry %v; want %q", tt.err, e, e.Retry, tt.want)
		}
	}
}

func TestUnderstand(t *testing.T) {
	for in, want := range map[string]spoken{
		"HTTP/1.1 400 Bad Request\r\n\r\n":                                                  spokenHTTP1,
		"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n": spokenTLS,
		"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00":                      spokenHTTP2,
		"\x00\x00\x00\x04\x00\x00\x00\x00\x00":                                              spokenHTTP2,
		"\x15\x03\x01\x00\x02\x02\x46":                                                      spokenTLS,
		"":                                                                                  spokenNothing,
		"220 smtp.example ESMTP\r\n":                                                        spokenNothing,
		"\x00\x00\x00\x07\x00\x00\x00\x00\x00":                                              spokenNothing,
	} {
		if got := understand([]byte(in)); got != want {
			t.Errorf("understand(%q) = %v, want %v", in, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"0", "120", "-1", "99999999999999999999", "Wed, 21 Oct 2015 07:28:00 GMT", "1e3", " 5 "} {
		f.Add(s)
	}
	now := time.Date(2015, 10, 21, 7, 27, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, v string) {
		if d := retryAfter(v, now); d < 0 || d > longestAsked {
			t.Fatalf("retryAfter(%q) = %v", v, d)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2015, 10, 21, 7, 27, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, " 7 ": 7 * time.Second, "99999999999999999999": longestAsked, "301": 301 * time.Second,
		"-5": 0, "1.5": 0, "soon": 0, strings.Repeat("1", 100): 0,
		"Wed, 21 Oct 2015 07:28:00 GMT": time.Minute, "Wed, 21 Oct 2015 07:26:00 GMT": 0, "Fri, 21 Oct 2016 07:27:00 GMT": 366 * 24 * time.Hour,
		"Wednesday, 21-Oct-15 07:28:00 GMT": time.Minute,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", in, got, want)
		}
	}
}
