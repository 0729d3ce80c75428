package middleware_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/internal/metertest"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/span"
)

// TestMetricsUntraced: what is not traced is measured all the same.
func TestMetricsUntraced(t *testing.T) {
	meters := metertest.New()
	tracing, rec := setup(t, middleware.Config{MeterProvider: meters})
	mux := http.NewServeMux()
	backend, cl := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }))
	mux.HandleFunc("/u/{id}", func(w http.ResponseWriter, r *http.Request) {
		send(r.Context(), t, traced(tracing, cl), backend)
		w.WriteHeader(502)
	})
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	url, client := serve(t, tracing.Handler(mux))
	get(t, client, url+"/u/7", "Traceparent", unsampled)
	if n := len(rec.Ended()); n != 0 {
		t.Fatalf("%d spans, want none", n)
	}
	meters.Want(t, "http.server.request.duration",
		"http.request.method=GET url.scheme=http http.route=/u/{id} http.response.status_code=502 network.protocol.version=1.1 error.type=502")
	host, port, _ := strings.Cut(strings.TrimPrefix(backend, "http://"), ":")
	p := meters.Want(t, "http.client.request.duration",
		"http.request.method=GET http.response.status_code=503 network.protocol.version=1.1 error.type=503 server.address="+host+" server.port="+port)
	if p.Span.IsSampled() || p.Value <= 0 || p.Value > 60 {
		t.Errorf("the client's measurement is %v s with span %+v, want seconds and one that is not sampled", p.Value, p.Span)
	}
	get(t, client, url+"/healthz")
	if n := len(meters.Of("http.server.request.duration")); n != 2 {
		t.Errorf("%d measurements, want the health check's as well", n)
	}
}

// TestMetricsInstruments: names, units and buckets are the conventions', and what is
// opt-in is not there unasked.
func TestMetricsInstruments(t *testing.T) {
	durations := map[string]string{
		"http.server.request.duration": "s", "http.client.request.duration": "s",
		"rpc.server.call.duration": "s", "rpc.client.call.duration": "s",
	}
	more := maps.Clone(durations)
	for name, unit := range map[string]string{
		"http.server.request.body.size": "By", "http.server.response.body.size": "By",
		"http.client.request.body.size": "By", "http.client.response.body.size": "By",
		"http.server.active_requests": "{request}",
	} {
		more[name] = unit
	}
	for _, tt := range []struct {
		metrics middleware.Metrics
		want    map[string]string
	}{{middleware.Metrics{}, durations}, {middleware.Metrics{BodySizes: true, ActiveRequests: true}, more}} {
		meters := metertest.New()
		setup(t, middleware.Config{MeterProvider: meters, Metrics: tt.metrics})
		if got := meters.Units(); !maps.Equal(got, tt.want) {
			t.Errorf("%+v: instruments %v, want %v", tt.metrics, got, tt.want)
		}
		want := []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
		for name := range durations {
			if got := meters.Buckets(name); !slices.Equal(got, want) {
				t.Errorf("%s has buckets %v, want %v", name, got, want)
			}
		}
	}
}

// TestBodySizes: of both sides, with and without a length beforehand.
func TestBodySizes(t *testing.T) {
	for _, tt := range []struct {
		name string
		body func() io.Reader
		want float64
	}{
		{"none", func() io.Reader { return nil }, 0},
		{"length known", func() io.Reader { return strings.NewReader("12345") }, 5},
		{"length unknown", func() io.Reader { return io.MultiReader(strings.NewReader("12345"), strings.NewReader("678")) }, 8},
	} {
		for _, on := range []bool{false, true} {
			meters := metertest.New()
			tracing, rec := setup(t, middleware.Config{MeterProvider: meters, Metrics: middleware.Metrics{BodySizes: on}})
			url, cl := serve(t, tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				io.WriteString(w, "abc")
			})))
			req, _ := http.NewRequest("POST", url, tt.body())
			resp, err := traced(tracing, cl).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			for _, s := range waitEnded(t, rec, 2) {
				want := "-"
				if on && tt.want > 0 {
					want = fmt.Sprint(tt.want)
				}
				wantAttrs(t, s, map[string]string{"http.request.body.size": want, "http.response.body.size": "3"})
			}
			for _, side := range []string{"server", "client"} {
				for part, want := range map[string]float64{"request": tt.want, "response": 3} {
					points := meters.Of("http." + side + "." + part + ".body.size")
					if !on && len(points) != 0 {
						t.Errorf("%s: %s %s size is measured unasked", tt.name, side, part)
					}
					if on && (len(points) != 1 || points[0].Value != want) {
						t.Errorf("%s: %s %s size = %v, want %v once", tt.name, side, part, points, want)
					}
				}
			}
		}
	}
}

// TestActiveRequests: one up, one down, also when the handler panics.
func TestActiveRequests(t *testing.T) {
	meters := metertest.New()
	tracing, _ := setup(t, middleware.Config{MeterProvider: meters, Metrics: middleware.Metrics{ActiveRequests: true}})
	sum := func() (n float64) {
		for _, p := range meters.Of("http.server.active_requests") {
			n += p.Value
			if p.String() != "http.request.method=GET url.scheme=http" {
				t.Errorf("attributes = %v, want method and scheme alone", p)
			}
		}
		return n
	}
	h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := sum(); n != 1 {
			t.Errorf("%v requests under way, want 1", n)
		}
		if r.URL.Path == "/panic" {
			panic(http.ErrAbortHandler)
		}
	}))
	for _, path := range []string{"/", "/panic"} {
		func() {
			defer func() { recover() }()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
		}()
		if n := sum(); n != 0 {
			t.Errorf("%v requests under way after %s, want 0", n, path)
		}
	}
}

// TestMetricsOwnTransports: a transport that meshtrace does not know is measured by the
// attributes it gives.
func TestMetricsOwnTransports(t *testing.T) {
	meters := metertest.New()
	tracing, _ := setup(t, middleware.Config{MeterProvider: meters})
	_, call := tracing.StartServer(t.Context(), middleware.Incoming{Method: "GET", Attributes: []attribute.KeyValue{
		attribute.String("http.request.method", "GET"), attribute.String("url.scheme", "https"), attribute.String("server.address", "a stranger's word"),
	}})
	call.End(middleware.Outcome{HTTPStatus: 200})
	meters.Want(t, "http.server.request.duration", "http.request.method=GET url.scheme=https http.response.status_code=200")
	_, out := tracing.StartClient(t.Context(), middleware.Outgoing{Name: "GET", Attributes: []attribute.KeyValue{
		attribute.String("http.request.method", "BREW"), attribute.String("server.address", "a.example"), attribute.Int("server.port", 80),
	}})
	out.End(middleware.Outcome{Err: context.DeadlineExceeded})
	meters.Want(t, "http.client.request.duration", "http.request.method=_OTHER server.address=a.example server.port=80 error.type=context.DeadlineExceeded")
	// A message is neither.
	_, msg := tracing.StartServer(t.Context(), middleware.Incoming{Name: "orders process", Kind: trace.SpanKindConsumer})
	msg.End(middleware.Outcome{})
	for _, instrument := range []string{"http.server.request.duration", "http.client.request.duration"} {
		if n := len(meters.Of(instrument)); n != 1 {
			t.Errorf("%s has %d measurements, want 1", instrument, n)
		}
	}
}

// TestHostileCardinality: 100,000 strangers' hosts, methods, paths and ids make no
// series; 100,000 routes, servers and error types, which would be a program's mistake,
// make a bounded number; and the memory stays flat.
func TestHostileCardinality(t *testing.T) {
	n := 100_000
	if raced {
		n = 20_000 // each is slower then, and no more is to be seen
	}
	meters := metertest.NewSeries()
	tracing, err := middleware.Setup(t.Context(), middleware.Config{
		MeterProvider: meters, Getenv: noExport, Logger: slog.New(slog.DiscardHandler), // and no recorder of spans
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tracing.Shutdown(context.Background())
	plain := tracing.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	routed := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		span.SetRoute(r.Context(), r.URL.Path)
		span.SetError(r.Context(), typedError(r.URL.Path))
	}))
	rt := tracing.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		return nil, io.EOF
	}))
	round := func(from, to int) {
		w := discard{http.Header{}}
		for i := from; i < to; i++ {
			r := httptest.NewRequest("GET", fmt.Sprintf("/p%d?q=%d", i, i), nil)
			r.Method = fmt.Sprint("M", i)
			r.Host = fmt.Sprintf("h%d.example", i)
			r.Header.Set("X-Request-Id", fmt.Sprintf("id-%d", i))
			r.Header.Set("User-Agent", fmt.Sprint("agent/", i))
			r.Header.Set("X-Forwarded-Host", fmt.Sprintf("f%d.example", i))
			r.Header.Set("X-Forwarded-Proto", fmt.Sprint("proto", i))
			plain.ServeHTTP(w, r)
			routed.ServeHTTP(w, r)
			req, _ := http.NewRequest("GET", fmt.Sprintf("http://h%d.example:%d/", i, i%60000+1), nil)
			rt.RoundTrip(req)
		}
	}
	round(0, n/10)
	before := heap()
	round(n/10, n)
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("the heap grew by %d KiB over %d requests, want it flat", grown>>10, n)
	}
	for instrument, most := range map[string]int{"http.server.request.duration": 1 + 1001, "http.client.request.duration": 257} {
		got := len(meters.Series(instrument))
		t.Logf("%s has %d series", instrument, got)
		if got > most || got < most/2 {
			t.Errorf("%s has %d series, want at most %d", instrument, got, most)
		}
	}
	strangers := 0
	for _, set := range meters.Series("http.server.request.duration") {
		if !set.HasValue("http.route") {
			strangers++
		}
	}
	if strangers != 1 {
		t.Errorf("requests without a route made %d series, want 1", strangers)
	}
}

type typedError string

func (e typedError) Error() string     { return string(e) }
func (e typedError) ErrorType() string { return string(e) }

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMetricsOfExporter: the exporter measures by the same provider.
func TestMetricsOfExporter(t *testing.T) {
	meters := metertest.New()
	tracing, err := middleware.Setup(t.Context(), middleware.Config{
		MeterProvider: meters, Getenv: environment(nil), Logger: slog.New(slog.DiscardHandler),
		Export: exporter.Config{Sender: acceptAll{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tracing.Shutdown(context.Background())
	found := false
	for name := range meters.Units() {
		found = found || strings.HasPrefix(name, "otel.sdk.")
	}
	if !found {
		t.Errorf("instruments are %v, want the exporter's otel.sdk.* among them", meters.Units())
	}
}
