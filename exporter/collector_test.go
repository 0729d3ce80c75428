package exporter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/internal/collectortest"
	"github.com/meshtrace/meshtrace/internal/otlpreceiver"
)

// overBoth runs a test over OTLP/HTTP and OTLP/gRPC.
func overBoth(t *testing.T, test func(t *testing.T, p Protocol)) {
	for _, p := range []Protocol{HTTPProtobuf, GRPC} {
		t.Run(strings.ReplaceAll(p.String(), "/", "-"), func(t *testing.T) { test(t, p) })
	}
}

// overAll runs a test over OTLP/HTTP in both encodings and OTLP/gRPC.
func overAll(t *testing.T, test func(t *testing.T, p Protocol)) {
	overBoth(t, test)
	t.Run("http-json", func(t *testing.T) { test(t, HTTPJSON) })
}

// agree shuts e down and compares its accounts with the collector's ledger.
func agree(t *testing.T, e *Exporter, c *collectortest.Collector) Stats {
	t.Helper()
	if err := e.Shutdown(withTimeout(t, time.Minute)); err != nil && !errors.As(err, new(*LossError)) {
		t.Errorf("Shutdown: %v", err)
	}
	st := checkAccounts(t, e, Kept{})
	if st.Dropped[DropShutdown] == 0 && st.Delivered != uint64(c.Unique()) {
		t.Errorf("delivered %d, the collector's ledger has %d", st.Delivered, c.Unique())
	}
	if st.Rejected[CodePartialSuccess] != uint64(c.Rejected()) {
		t.Errorf("rejected %d, the collector says %d", st.Rejected[CodePartialSuccess], c.Rejected())
	}
	return st
}

// all checks that every one of n spans arrived.
func all(t *testing.T, e *Exporter, c *collectortest.Collector, n int) Stats {
	t.Helper()
	st := agree(t, e, c)
	if c.Unique() != n || st.Delivered != uint64(n) || st.Ended != uint64(n) {
		t.Errorf("ended %d, delivered %d, in the ledger %d; want %d", st.Ended, st.Delivered, c.Unique(), n)
	}
	return st
}

// What a program's spans hold is what arrives, over each way there is.
func TestDelivers(t *testing.T) {
	cert, roots := collectortest.SelfSigned(t, time.Now().Add(time.Hour))
	overAll(t, func(t *testing.T, p Protocol) {
		for name, way := range map[string]struct {
			opts []collectortest.Option
			cfg  func(c *collectortest.Collector) Config
		}{
			"address": {nil, func(c *collectortest.Collector) Config { return Config{Endpoint: c.Addr()} }},
			"url":     {nil, func(c *collectortest.Collector) Config { return Config{Endpoint: c.URL()} }},
			"path":    {nil, func(c *collectortest.Collector) Config { return Config{Endpoint: c.TracesURL()} }},
			"gzip":    {nil, func(c *collectortest.Collector) Config { return Config{Endpoint: c.Addr(), Compression: Gzip} }},
			"variable": {nil, func(c *collectortest.Collector) Config {
				return Config{Endpoint: "wrong:1", Getenv: env("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL())}
			}},
			"signal's variable": {nil, func(c *collectortest.Collector) Config {
				return Config{Getenv: env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.TracesURL(), "OTEL_EXPORTER_OTLP_ENDPOINT", "http://wrong:1")}
			}},
			"tls": {[]collectortest.Option{collectortest.WithTLS(&tls.Config{Certificates: []tls.Certificate{cert}})}, func(c *collectortest.Collector) Config {
				return Config{Endpoint: c.URL(), TLS: &tls.Config{RootCAs: roots}}
			}},
			"tls without scheme": {[]collectortest.Option{collectortest.WithTLS(&tls.Config{Certificates: []tls.Certificate{cert}})}, func(c *collectortest.Collector) Config {
				return Config{Endpoint: c.Addr(), TLS: &tls.Config{RootCAs: roots}}
			}},
		} {
			t.Run(name, func(t *testing.T) {
				c := collectortest.Start(t, way.opts...)
				cfg := way.cfg(c)
				cfg.Protocol = p
				cfg.Headers = map[string]string{"x-tenant": "t1"}
				e := start(t, cfg)
				tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(e), sdktrace.WithResource(testResource))
				ctx, root := tp.Tracer("one").Start(context.Background(), "root")
				_, child := tp.Tracer("two").Start(ctx, "child")
				child.SetAttributes(attribute.String("k", "v\xff"))
				child.End()
				root.End()
				st := all(t, e, c, 2)
				if st.Repaired != 1 {
					t.Errorf("repaired %d, want 1", st.Repaired)
				}
				for _, s := range c.Spans() {
					if s.Resource == nil || len(s.Resource.Attributes) != 1 || (s.Name == "root") != (s.ScopeName == "one") {
						t.Errorf("span %+v", s)
					}
					if s.Name == "child" && (s.Parent != root.SpanContext().SpanID() || s.Attributes[0].Value.AsString() != "v\uFFFD") {
						t.Errorf("child %+v", s)
					}
				}
				r := c.Requests()[0]
				if len(c.Requests()) != 1 || r.GRPC != (p == GRPC) || r.JSON != (p == HTTPJSON) || r.Header.Get("X-Tenant") != "t1" || r.Header.Get("User-Agent") != userAgent {
					t.Errorf("%d requests, the first %+v", len(c.Requests()), r)
				}
			})
		}
	})
}

func TestUnixSocket(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no unix sockets in paths of this form on windows")
	}
	overBoth(t, func(t *testing.T, p Protocol) {
		path := filepath.Join(t.TempDir(), "otel.sock")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c := collectortest.Start(t, collectortest.OnListener(l))
		e := start(t, Config{Endpoint: "unix:" + path, Protocol: p})
		end(e, 0, 10)
		all(t, e, c, 10)
	})
}

// An endpoint whose port says nothing is asked which protocol it speaks.
func TestAsks(t *testing.T) {
	cert, roots := collectortest.SelfSigned(t, time.Now().Add(time.Hour))
	for name, opts := range map[string][]collectortest.Option{
		"plaintext": nil,
		"tls":       {collectortest.WithTLS(&tls.Config{Certificates: []tls.Certificate{cert}})},
	} {
		t.Run(name, func(t *testing.T) {
			c := collectortest.Start(t, opts...)
			cfg := Config{Endpoint: c.URL()}
			if opts != nil {
				cfg.TLS = &tls.Config{RootCAs: roots}
			}
			e := start(t, cfg)
			end(e, 0, 10)
			all(t, e, c, 10)
		})
	}
	t.Run("away at first", func(t *testing.T) {
		c := collectortest.Start(t)
		c.Refuse()
		e := start(t, Config{Endpoint: c.URL()})
		end(e, 0, 10)
		time.Sleep(300 * time.Millisecond)
		c.Reopen()
		c.Wait(10)
		all(t, e, c, 10)
	})
}

// Every fault of a collector, for a few requests: nothing is lost, and nothing is
// sent twice unless the collector had taken it and not said so.
func TestFaults(t *testing.T) {
	status := func(s int, code otlpreceiver.Code) collectortest.Fault { return collectortest.Status(s, code) }
	faults := map[string]collectortest.Fault{
		"hang":               {Hang: true},
		"hang, recorded":     {Hang: true, Recorded: true},
		"reset":              {Reset: true},
		"reset, recorded":    {Reset: true, Recorded: true},
		"cut":                {Cut: true},
		"cut, recorded":      {Cut: true, Recorded: true},
		"slow":               {Delay: 100 * time.Millisecond},
		"unavailable":        status(503, otlpreceiver.Unavailable),
		"too many":           status(429, otlpreceiver.Code(10)), // ABORTED
		"bad gateway":        status(502, otlpreceiver.Code(15)), // DATA_LOSS
		"throttled":          collectortest.Throttle(time.Second),
		"odd answer":         {Answer: []byte("this is no message")},
		"a warning":          {Why: "deprecated attributes"},
		"unavailable, taken": {Refusal: &otlpreceiver.Refusal{Message: "x"}, Recorded: true},
	}
	overAll(t, func(t *testing.T, p Protocol) {
		for name, f := range faults {
			check := func(t *testing.T, c *collectortest.Collector, cfg Config) {
				cfg.RequestBytes, cfg.Delay = 16<<10, 20*time.Millisecond
				e := start(t, cfg)
				end(e, 0, 100, padding(100))
				c.Wait(100)
				f := f
				f.Requests = 2
				c.Set(f)
				for n := 100; n < 1000; n += 50 {
					end(e, n, n+50, padding(100))
					time.Sleep(5 * time.Millisecond)
				}
				if err := e.ForceFlush(withTimeout(t, time.Minute)); err != nil {
					t.Errorf("ForceFlush: %v", err)
				}
				st := all(t, e, c, 1000)
				if d := c.Duplicates(); (d > 0) != f.Recorded {
					t.Errorf("%d spans came twice", d)
				}
				failing := f.Hang || f.Reset || f.Cut || f.Refusal != nil
				if failing != (st.Retries > 0) {
					t.Errorf("%d retries", st.Retries)
				}
				if n := len(logged(e)); failing && n == 0 || n > 3 {
					t.Errorf("lines: %q", logged(e))
				}
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					_, c, cfg := onNetwork(t, p)
					check(t, c, cfg)
				})
			})
			if f.Reset || f.Cut { // what TCP makes of it
				t.Run(name+", TCP", func(t *testing.T) {
					c := collectortest.Start(t)
					check(t, c, Config{Endpoint: c.URL(), Protocol: p})
				})
			}
		}
	})
}

func TestFinalAnswers(t *testing.T) {
	for _, tt := range []struct {
		p    Protocol
		s    int
		code otlpreceiver.Code
		want string
	}{
		{HTTPProtobuf, 400, 3, "400"},
		{HTTPProtobuf, 500, 3, "500"},
		{HTTPProtobuf, 401, 3, "401"},
		{HTTPProtobuf, 404, 3, "404"},
		{GRPC, 400, 3, "INVALID_ARGUMENT"},
		{GRPC, 400, 8, "RESOURCE_EXHAUSTED"},
		{GRPC, 400, 16, "UNAUTHENTICATED"},
		{GRPC, 400, 12, "UNIMPLEMENTED"},
		{GRPC, 400, 99, "UNKNOWN"},
	} {
		t.Run(fmt.Sprint(tt.p, tt.want), func(t *testing.T) {
			c := collectortest.Start(t)
			f := collectortest.Status(tt.s, tt.code)
			f.Requests = 1
			c.Set(f)
			e := start(t, Config{Endpoint: c.URL(), Protocol: tt.p})
			end(e, 0, 10)
			var loss *LossError
			if err := e.ForceFlush(withTimeout(t, time.Minute)); !errors.As(err, &loss) || loss.Lost != 10 {
				t.Errorf("ForceFlush: %v, want a LossError of 10", err)
			}
			end(e, 10, 20)
			st := agree(t, e, c)
			if st.Rejected[tt.want] != 10 || st.Delivered != 10 || st.Retries != 0 {
				t.Errorf("rejected %v, delivered %d, retries %d", st.Rejected, st.Delivered, st.Retries)
			}
			var se *SendError
			if !errors.As(st.LastError, &se) || se.Code != tt.want || se.Retry {
				t.Errorf("LastError = %+v", st.LastError)
			}
		})
	}
}

func TestPartialSuccessOverTheWire(t *testing.T) {
	overAll(t, func(t *testing.T, p Protocol) {
		c := collectortest.Start(t, collectortest.Faulty(collectortest.Fault{Reject: 3, Why: "span too old\nand odd"}))
		e := start(t, Config{Endpoint: c.URL(), Protocol: p})
		for n := range 4 {
			end(e, 10*n, 10*n+10)
			e.ForceFlush(withTimeout(t, time.Minute))
		}
		st := agree(t, e, c)
		if st.Rejected[CodePartialSuccess] != 12 || st.Delivered != 28 || st.Retries != 0 {
			t.Errorf("rejected %v, delivered %d, retries %d", st.Rejected, st.Delivered, st.Retries)
		}
		if !strings.Contains(fmt.Sprint(st.LastError), "span too old") {
			t.Errorf("LastError = %v", st.LastError)
		}
		if n := len(logged(e)); n != 1 {
			t.Errorf("%d lines: %q", n, logged(e))
		}
	})
}

// A collector with a small limit gets smaller requests; nothing is lost but a span
// that is too large alone.
func TestTooLargeOverTheWire(t *testing.T) {
	overAll(t, func(t *testing.T, p Protocol) {
		c := collectortest.Start(t, collectortest.MaxBytes(64<<10))
		e := start(t, Config{Endpoint: c.URL(), Protocol: p})
		end(e, 0, 500, padding(1000))
		end(e, 500, 501, padding(100<<10))
		end(e, 501, 1000, padding(1000))
		if err := e.ForceFlush(withTimeout(t, time.Minute)); !errors.As(err, new(*LossError)) {
			t.Errorf("ForceFlush: %v", err)
		}
		st := agree(t, e, c)
		if st.Delivered != 999 || st.Dropped[DropTooLarge] != 1 || c.Duplicates() != 0 {
			t.Errorf("delivered %d, dropped %v, twice %d", st.Delivered, st.Dropped, c.Duplicates())
		}
	})
}

// Many goroutines end spans while the collector is slow; nothing is lost.
func TestConcurrent(t *testing.T) {
	overBoth(t, func(t *testing.T, p Protocol) {
		c := collectortest.Start(t, collectortest.Faulty(collectortest.Fault{Delay: 20 * time.Millisecond}))
		e := start(t, Config{Endpoint: c.URL(), Protocol: p, RequestBytes: 64 << 10, Delay: 10 * time.Millisecond})
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for n := range 1000 {
					end(e, g*1000+n, g*1000+n+1)
					if n%100 == 0 {
						e.Stats()
					}
				}
			})
		}
		watch := make(chan struct{})
		go func() {
			defer close(watch)
			for {
				st := e.Stats()
				if !st.Balanced() {
					t.Errorf("not balanced: %+v", st)
					return
				}
				if st.Delivered == 8000 {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		wg.Wait()
		<-watch
		all(t, e, c, 8000)
		if c.Duplicates() != 0 {
			t.Errorf("%d spans came twice", c.Duplicates())
		}
	})
}

// Secrets are neither logged nor among the settings nor in an error.
func TestSecretsStay(t *testing.T) {
	l := newLines()
	e := start(t, Config{
		Headers: map[string]string{"authorization": "Bearer s3cret"}, Logger: slog.New(l),
		Getenv: env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:s3cret@127.0.0.1:1/v1/traces?token=s3cret",
			"OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:s3cret@bad host", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-token=s3cret%zz,y=s3cret"),
	})
	end(e, 0, 1)
	err := e.ForceFlush(withTimeout(t, 300*time.Millisecond))
	text := fmt.Sprint(err, e.Stats().LastError, l.all(), e.Settings())
	if strings.Contains(text, "s3cret") {
		t.Errorf("a secret was told: %s", text)
	}
	if len(l.all()) < 2 {
		t.Errorf("lines: %q", l.all())
	}
}

func withTimeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// Settings says what is in force and where each value came from; of headers the names.
func TestSettings(t *testing.T) {
	e := start(t, Config{
		Endpoint: "http://in-code:4318", Protocol: HTTPProtobuf, Delay: 3 * time.Second, Headers: map[string]string{"b": "1", "a": "2"},
		Getenv: env(
			"OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1",
			"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc",
			"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf",
			"OTEL_EXPORTER_OTLP_TIMEOUT", "2500",
			"OTEL_BSP_EXPORT_TIMEOUT", "2000",
			"OTEL_EXPORTER_OTLP_COMPRESSION", "gzip",
			"OTEL_BSP_MAX_QUEUE_SIZE", "2048",
			"OTEL_BSP_SCHEDULE_DELAY", "",
		),
	})
	want := []Setting{
		{"Endpoint", "https://127.0.0.1", "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{"Protocol", "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"},
		{"Headers", "A=…, B=…", "Config"},
		{"TLS", "on", "default"},
		{"Compression", "gzip", "OTEL_EXPORTER_OTLP_COMPRESSION"},
		{"Timeout", "2s", "OTEL_BSP_EXPORT_TIMEOUT"},
		{"QueueBytes", "67108864", "default"},
		{"QueueSpans", "2048", "OTEL_BSP_MAX_QUEUE_SIZE"},
		{"Full", "DropNewest", "default"},
		{"Delay", "3s", "Config"},
		{"RequestBytes", "4128768", "default"},
		{"RequestSpans", "no limit", "default"},
		{"InFlight", "4", "default"},
	}
	if got := e.Settings(); !slices.Equal(got, want) {
		t.Errorf("Settings() =\n%v, want\n%v", got, want)
	}
}
