package middleware_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/middleware"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// environment is a Config.Getenv over a map.
func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

// noExport is an environment in which spans go to Config.Processors alone.
var noExport = environment(map[string]string{"OTEL_TRACES_EXPORTER": "none"})

// setup returns a Tracing without export and the recorder of its spans.
func setup(t testing.TB, cfg middleware.Config) (*middleware.Tracing, *tracetest.SpanRecorder) {
	t.Helper()
	rec := tracetest.NewSpanRecorder()
	if cfg.TracerProvider == nil {
		cfg.Processors = append(cfg.Processors, rec)
	}
	if cfg.Getenv == nil {
		cfg.Getenv = noExport
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	tracing, err := middleware.Setup(context.Background(), cfg)
	if err != nil {
		t.Fatalf("Setup: %v", err)
	}
	t.Cleanup(func() {
		if err := tracing.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return tracing, rec
}

// serve starts a server and a client whose connections end with the test.
func serve(t testing.TB, h http.Handler) (url string, client *http.Client) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL, srv.Client()
}

// serveQuietly is serve for handlers that panic, of which net/http would log.
func serveQuietly(t testing.TB, h http.Handler) (url string, client *http.Client) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL, srv.Client()
}

// get sends a GET with the headers and returns the response with its body read.
func get(t testing.TB, client *http.Client, url string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("GET %s: reading the body: %v", url, err)
	}
	return resp, string(body)
}

// one waits for nothing: it returns the only ended span of rec.
func one(t testing.TB, rec *tracetest.SpanRecorder) sdktrace.ReadOnlySpan {
	t.Helper()
	ended := rec.Ended()
	if len(ended) != 1 {
		t.Fatalf("%d spans ended, want 1", len(ended))
	}
	return ended[0]
}

// attr returns the attribute of s by name; the value is EMPTY when it is absent.
func attr(s sdktrace.ReadOnlySpan, name string) attribute.Value {
	for _, kv := range s.Attributes() {
		if string(kv.Key) == name {
			return kv.Value
		}
	}
	return attribute.Value{}
}

// wantAttrs compares attributes by their printed values; "-" wants absence.
func wantAttrs(t testing.TB, s sdktrace.ReadOnlySpan, want map[string]string) {
	t.Helper()
	for name, w := range want {
		v := attr(s, name)
		got := "-"
		if v.Type() != attribute.EMPTY {
			got = v.String()
		}
		if got != w {
			t.Errorf("span %q: %s = %q, want %q", s.Name(), name, got, w)
		}
	}
}

// acceptAll is an exporter.Sender that loses nothing and keeps nothing.
type acceptAll struct{}

func (acceptAll) Send(context.Context, []byte, int) (int, error) { return 0, nil }
func (acceptAll) Close() error                                   { return nil }

// exportingTo returns a Tracing whose spans go through the exporter to s.
func exportingTo(t testing.TB, s exporter.Sender) *middleware.Tracing {
	t.Helper()
	tracing, err := middleware.Setup(context.Background(), middleware.Config{
		Export: exporter.Config{Sender: s},
		Getenv: environment(nil),
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatalf("Setup: %v", err)
	}
	t.Cleanup(func() {
		if err := tracing.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if s := tracing.Stats(); !s.Balanced() {
			t.Errorf("accounts do not balance: %+v", s)
		}
	})
	return tracing
}

// lockedBuffer is a bytes.Buffer for a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
