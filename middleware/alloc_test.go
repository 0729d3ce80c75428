package middleware_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/meshtrace/meshtrace/middleware"
)

// Allocations a request, beyond those of the handler and the base transport.
// Every one of them is a cost on each request of a user: a change that raises a
// constant says why in its commit.
const (
	serverTracedAllocs   = 3
	serverUntracedAllocs = 1
	clientTracedAllocs   = 8
	clientUntracedAllocs = 5
)

// countable skips where allocations cannot be counted.
func countable(t *testing.T) {
	t.Helper()
	if raced {
		t.Skip("the race detector makes sync.Pool drop at random, so allocations cannot be counted: run without -race")
	}
}

// discard is a ResponseWriter without allocations.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

func incoming(flag string) *http.Request {
	r := httptest.NewRequest("GET", "/carts/7", nil)
	r.Header.Set("Traceparent", strings.TrimSuffix(traceparent, "01")+flag)
	r.Header.Set("X-Request-Id", sampledID)
	r.Header.Set("User-Agent", "test/1")
	return r
}

func TestAllocsServer(t *testing.T) {
	countable(t)
	for _, tt := range []struct {
		name, flag string
		want       float64
	}{{"traced", "01", serverTracedAllocs}, {"untraced", "00", serverUntracedAllocs}} {
		t.Run(tt.name, func(t *testing.T) {
			tracing := exporting(t)
			h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }))
			r, w := incoming(tt.flag), discard{http.Header{}}
			got := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) })
			if got > tt.want {
				t.Errorf("%v allocations, want at most %v", got, tt.want)
			}
			t.Logf("%v allocations", got)
		})
	}
}

// answers is a transport without allocations.
type answers struct{ resp http.Response }

func (a *answers) RoundTrip(*http.Request) (*http.Response, error) { return &a.resp, nil }

func TestAllocsClient(t *testing.T) {
	countable(t)
	for _, tt := range []struct {
		name, flag string
		want       float64
	}{{"traced", "01", clientTracedAllocs}, {"untraced", "00", clientUntracedAllocs}} {
		t.Run(tt.name, func(t *testing.T) {
			tracing := exporting(t)
			rt := tracing.Transport(&answers{http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody}})
			tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				req, err := http.NewRequestWithContext(r.Context(), "GET", "http://shop.example/x", nil)
				if err != nil {
					t.Fatal(err)
				}
				got := testing.AllocsPerRun(1000, func() {
					if _, err := rt.RoundTrip(req); err != nil {
						t.Fatal(err)
					}
				})
				if got > tt.want {
					t.Errorf("%v allocations, want at most %v", got, tt.want)
				}
				t.Logf("%v allocations", got)
			})).ServeHTTP(httptest.NewRecorder(), incoming(tt.flag))
		})
	}
}

// measuredAllocs is what a MeterProvider adds to a request: what is known of it, until
// it is recorded under attributes that are kept ready, and to one that is not traced the
// call, which otherwise is not kept.
const measuredAllocs, measuredUntracedAllocs = 1, 2

func TestAllocsMeasured(t *testing.T) {
	countable(t)
	for flag, want := range map[string]float64{"01": serverTracedAllocs + measuredAllocs, "00": serverUntracedAllocs + measuredUntracedAllocs} {
		tracing, err := middleware.Setup(t.Context(), middleware.Config{
			MeterProvider: noop.NewMeterProvider(), Getenv: noExport, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }))
		r, w := incoming(flag), discard{http.Header{}}
		if got := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); got > want {
			t.Errorf("flag %s: %v allocations, want at most %v", flag, got, want)
		}
		if err := tracing.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// exporting returns a Tracing whose spans go through the exporter to a sender that
// takes them all.
func exporting(t testing.TB) *middleware.Tracing {
	t.Helper()
	return exportingTo(t, acceptAll{})
}

func BenchmarkHandler(b *testing.B) {
	for _, flag := range []string{"01", "00"} {
		b.Run("flag="+flag, func(b *testing.B) {
			tracing := exporting(b)
			h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r, w := incoming(flag), discard{http.Header{}}
				for pb.Next() {
					h.ServeHTTP(w, r)
				}
			})
		})
	}
}

func BenchmarkTransport(b *testing.B) {
	for _, flag := range []string{"01", "00"} {
		b.Run("flag="+flag, func(b *testing.B) {
			tracing := exporting(b)
			rt := tracing.Transport(&answers{http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody}})
			tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				req, _ := http.NewRequestWithContext(r.Context(), "GET", "http://shop.example/x", nil)
				b.ReportAllocs()
				for b.Loop() {
					rt.RoundTrip(req)
				}
			})).ServeHTTP(httptest.NewRecorder(), incoming(flag))
		})
	}
}
