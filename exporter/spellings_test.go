package exporter

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/meshtrace/meshtrace/internal/collectortest"
	"github.com/meshtrace/meshtrace/internal/otlpreceiver"
)

// onePort starts a receiver that speaks one protocol alone, as the two ports of a
// Collector do: HTTP/1, or gRPC over HTTP/2 with gRPC's answer to all else. It counts
// the requests that it took.
func onePort(t *testing.T, p Protocol, network, address string) (addr string, taken chan []byte) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("no loopback address of this family here: %v", err)
	}
	taken = make(chan []byte, 16)
	h := &otlpreceiver.Handler{Accept: func(request []byte) error { taken <- request; return nil }}
	srv := otlpreceiver.NewServer(h)
	srv.Protocols = new(http.Protocols)
	if p == GRPC {
		srv.Protocols.SetUnencryptedHTTP2(true)
		srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
				w.WriteHeader(http.StatusUnsupportedMediaType) // as grpc-go answers
				fmt.Fprint(w, "invalid gRPC request content-type")
				return
			}
			h.ServeHTTP(w, r)
		})
	} else {
		srv.Protocols.SetHTTP1(true)
	}
	served := make(chan struct{})
	go func() { defer close(served); srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-served })
	return l.Addr().String(), taken
}

// Every sane spelling of an address, with the protocol unset or the port's own, over
// Config and over the variable: the span arrives, and nobody is told anything.
func TestSpellings(t *testing.T) {
	for _, p := range []Protocol{HTTPProtobuf, GRPC} {
		for _, family := range []struct{ network, address string }{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}} {
			t.Run(strings.ReplaceAll(p.String(), "/", "-")+" "+family.network, func(t *testing.T) {
				addr, taken := onePort(t, p, family.network, family.address)
				_, port, _ := net.SplitHostPort(addr)
				spellings := []string{
					"localhost:P", "127.0.0.1:P", "http://localhost:P", "http://127.0.0.1:P/", "http://localhost:P/v1/traces",
				}
				if family.network == "tcp6" {
					spellings = []string{"[::1]:P", "http://[::1]:P", "http://[::1]:P/v1/traces"}
				}
				for _, s := range spellings {
					s = strings.ReplaceAll(s, "P", port)
					for name, cfg := range map[string]Config{
						"unset":    {Endpoint: s},
						"matching": {Endpoint: s, Protocol: p},
						"variable": {Getenv: env("OTEL_EXPORTER_OTLP_ENDPOINT", s)},
						"all variables": {Endpoint: "wrong:1", Protocol: HTTPJSON, Getenv: env(
							"OTEL_EXPORTER_OTLP_ENDPOINT", s, "OTEL_EXPORTER_OTLP_PROTOCOL", strings.ToUpper(p.String()))},
					} {
						e := start(t, cfg)
						end(e, 0, 1)
						select {
						case <-taken:
						case <-time.After(10 * time.Second):
							t.Errorf("%s, protocol %s: no span; lines %q", s, name, logged(e))
						}
						if err := e.Shutdown(withTimeout(t, time.Minute)); err != nil || len(logged(e)) != 0 {
							t.Errorf("%s, protocol %s: Shutdown = %v, lines %q", s, name, err, logged(e))
						}
					}
				}
				// Contradicting: one line with cause and cure, and the span is kept.
				wrong, speaks := GRPC, "speaks HTTP/1, not gRPC: set Config.Protocol to HTTPProtobuf"
				if p == GRPC {
					wrong, speaks = HTTPProtobuf, "speaks gRPC, not OTLP/HTTP: set Config.Protocol to GRPC"
				}
				for _, s := range spellings {
					e := start(t, Config{Endpoint: strings.ReplaceAll(s, "P", port), Protocol: wrong})
					end(e, 0, 1)
					for deadline := time.Now().Add(time.Second + slack); len(logged(e)) == 0 && time.Now().Before(deadline); {
						time.Sleep(5 * time.Millisecond)
					}
					if l := logged(e); len(l) != 1 || !strings.Contains(l[0], speaks) {
						t.Errorf("%s as %v: lines %q", s, wrong, l)
					}
					if st := e.Stats(); st.Kept.Memory != 1 {
						t.Errorf("%s as %v: kept %v", s, wrong, st.Kept)
					}
				}
			})
		}
	}
}

// Where a port's number lets one protocol be expected and it speaks the other.
func TestHintsAreNoMoreThanThat(t *testing.T) {
	http1, h2c := (*http.Protocols).SetHTTP1, (*http.Protocols).SetUnencryptedHTTP2
	for name, tt := range map[string]struct {
		hint      Protocol
		protocols []func(*http.Protocols, bool)
		grpc      bool
	}{
		"gRPC expected, HTTP/1":            {GRPC, []func(*http.Protocols, bool){http1}, false},
		"gRPC expected, HTTP over HTTP/2":  {GRPC, []func(*http.Protocols, bool){http1, h2c}, false},
		"HTTP expected, gRPC":              {HTTPProtobuf, []func(*http.Protocols, bool){h2c}, true},
		"HTTP expected, gRPC and HTTP/1.1": {HTTPProtobuf, []func(*http.Protocols, bool){http1, h2c}, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := &otlpreceiver.Handler{Accept: func([]byte) error { return nil }}
			addr := server(t, func(w http.ResponseWriter, r *http.Request) {
				isGRPC := strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
				switch {
				case isGRPC == tt.grpc:
					h.ServeHTTP(w, r)
				case tt.grpc:
					http.Error(w, "gRPC only", http.StatusUnsupportedMediaType)
				default:
					http.NotFound(w, r)
				}
			}, nil, tt.protocols...)
			env := noEnv
			s := (&Config{Endpoint: "http://" + addr, Getenv: env}).resolve(otelReader())
			s.hint = tt.hint
			e := start(t, Config{Sender: newTransport(s, func(string, any) {})})
			end(e, 0, 1)
			if err := e.ForceFlush(withTimeout(t, time.Minute)); err != nil {
				t.Errorf("ForceFlush: %v", err)
			}
			end(e, 1, 2)
			if err := e.ForceFlush(withTimeout(t, time.Minute)); err != nil {
				t.Errorf("second ForceFlush: %v", err)
			}
			if st := checkAccounts(t, e, Kept{}); st.Delivered != 2 || st.Retries != 0 {
				t.Errorf("delivered %d with %d retries", st.Delivered, st.Retries)
			}
		})
	}
}

// One line at the start says where spans go, how, and which setting came from where.
func TestIntroduction(t *testing.T) {
	c := collectortest.Start(t)
	for name, tt := range map[string]struct {
		cfg  Config
		end  bool
		want string
	}{
		"with spans": {
			Config{Endpoint: c.URL(), Protocol: GRPC, Compression: Gzip}, true,
			"exporter: spans go to ADDR (Config) as grpc in plaintext, Protocol grpc (Config), Compression gzip (Config)",
		},
		"without": {
			Config{Delay: time.Minute, Getenv: env("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL(), "OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret")}, false,
			"exporter: spans go to ADDR (OTEL_EXPORTER_OTLP_ENDPOINT) as http/protobuf in plaintext, Headers Api-Key=… (OTEL_EXPORTER_OTLP_HEADERS), Delay 1m0s (Config)",
		},
		"a Sender": {Config{Sender: newFake(nil), InFlight: 2}, true, "exporter: spans go to the Sender, InFlight 2 (Config)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, tt.cfg)
			if tt.end {
				end(e, 0, 1)
			}
			l := e.log.logger.Handler().(*lines)
			var got []string
			for deadline := time.Now().Add(quietStart + slack); len(got) == 0 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
				l.mu.Lock()
				got = append(got, l.introductions...)
				l.mu.Unlock()
			}
			if len(got) != 1 || strings.Replace(got[0], c.Addr(), "ADDR", 1) != tt.want {
				t.Errorf("lines %q, want %q", got, tt.want)
			}
		})
	}
}
