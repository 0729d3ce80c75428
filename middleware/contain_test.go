package middleware_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

const hookPanic = "the hook is broken"

// brokenJSON is metadata that cannot be written.
type brokenJSON struct{}

func (brokenJSON) MarshalJSON() ([]byte, error) { panic(hookPanic) }

// brokenSampler, brokenProcessor, brokenMeters, brokenLogger and brokenCarrier panic
// wherever a request leads.
type (
	brokenSampler   struct{ sdktrace.Sampler }
	brokenProcessor struct{ sdktrace.SpanProcessor }
	brokenMeters    struct{ noop.MeterProvider }
	brokenMeter     struct{ noop.Meter }
	brokenHistogram struct{ noop.Float64Histogram }
	brokenCounter   struct{ noop.Int64UpDownCounter }
	brokenLogger    struct{ slog.Handler }
	brokenCarrier   struct{ otelprop.MapCarrier }
)

func (brokenSampler) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	panic(hookPanic)
}
func (brokenProcessor) OnStart(context.Context, sdktrace.ReadWriteSpan)         { panic(hookPanic) }
func (brokenProcessor) OnEnd(sdktrace.ReadOnlySpan)                             { panic(hookPanic) }
func (brokenMeters) Meter(string, ...metric.MeterOption) metric.Meter           { return brokenMeter{} }
func (brokenHistogram) Record(context.Context, float64, ...metric.RecordOption) { panic(hookPanic) }
func (brokenCounter) Add(context.Context, int64, ...metric.AddOption)           { panic(hookPanic) }
func (brokenLogger) Handle(context.Context, slog.Record) error                  { panic(hookPanic) }
func (brokenCarrier) Set(string, string)                                        { panic(hookPanic) }
func (brokenCarrier) Get(string) string                                         { panic(hookPanic) }

func (brokenMeter) Float64Histogram(string, ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return brokenHistogram{}, nil
}
func (brokenMeter) Int64UpDownCounter(string, ...metric.Int64UpDownCounterOption) (metric.Int64UpDownCounter, error) {
	return brokenCounter{}, nil
}

// notesOf returns what the debug page has to say.
func notesOf(t testing.TB, tracing *middleware.Tracing) []string {
	t.Helper()
	w := httptest.NewRecorder()
	tracing.DebugHandler().ServeHTTP(w, httptest.NewRequest("GET", "/api/status", nil))
	var status struct{ Programs []struct{ Notes []string } }
	if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil {
		t.Fatal(err)
	}
	return status.Programs[0].Notes
}

// inside returns a request of a neighbour in the mesh.
func inside() *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.0.0.9:4321"
	return r
}

// TestCallbackPanics: whatever of the program's own panics, the request is served and
// sent on, its spans end once, and the panic is told.
func TestCallbackPanics(t *testing.T) {
	const server, client = trace.SpanKindServer, trace.SpanKindClient
	gateway := func(tag span.Tag, m span.Metadata) middleware.Config {
		return middleware.Config{
			Role: middleware.Gateway, SpawnUpstreamSpan: true, Tags: []span.Tag{tag, span.Literal("after", "it")},
			Route: func(*http.Request) middleware.Route { return middleware.Route{Metadata: m} },
		}
	}
	route := func(*http.Request) middleware.Route { panic(hookPanic) }
	no := func(*http.Request) bool { panic(hookPanic) }
	conventional := map[string]string{"http.request.method": "GET", "http.response.status_code": "200"}
	for _, tt := range []struct {
		name  string
		cfg   middleware.Config
		spans int
		sends bool              // traceparent goes out
		attrs map[string]string // of both spans
		log   string            // "": it cannot be told
	}{
		{"Route", middleware.Config{Route: route}, 2, true, conventional, "Config.Route"},
		{"Route of a gateway", middleware.Config{Role: middleware.Gateway, SpawnUpstreamSpan: true, Route: route}, 2, true,
			map[string]string{"http.status_code": "200"}, "Config.Route"},
		{"SendTo", middleware.Config{SendTo: no}, 2, false, conventional, "Config.SendTo"},
		{"SendTo of a gateway", middleware.Config{Role: middleware.Gateway, SpawnUpstreamSpan: true, SendTo: no}, 2, false,
			map[string]string{"http.status_code": "200"}, "Config.SendTo"},
		{"Filter", middleware.Config{Filter: no}, 2, true, conventional, "Config.Filter"},
		{"ClientFilter", middleware.Config{ClientFilter: no}, 2, true, conventional, "Config.ClientFilter"},
		{"ClientFilter of a gateway", middleware.Config{Role: middleware.Gateway, SpawnUpstreamSpan: true, ClientFilter: no}, 2, true,
			map[string]string{"http.status_code": "200"}, "Config.ClientFilter"},
		{"SpanName", middleware.Config{SpanName: func(middleware.CallInfo, string) string { panic(hookPanic) }}, 2, true,
			conventional, "Config.SpanName"},
		{"Attributes", middleware.Config{Attributes: func(_ middleware.CallInfo, list []attribute.KeyValue) []attribute.KeyValue {
			list[0] = attribute.String("half", "done")
			panic(hookPanic)
		}}, 2, true, map[string]string{"half": "-", "http.request.method": "-", "http.response.status_code": "-", "url.full": "-", "url.path": "-"},
			"Config.Attributes"},
		{"Value", gateway(span.Value("bad", func(*http.Request) string { panic(hookPanic) }), nil), 2, true,
			map[string]string{"bad": "-", "after": "it", "http.status_code": "200"}, "the function or the metadata of a tag"},
		{"metadata", gateway(span.MetadataTag("bad", span.RouteMetadata, "a", []string{"b"}, ""), span.Metadata{"a": map[string]any{"b": brokenJSON{}}}), 2, true,
			map[string]string{"bad": "-", "after": "it", "http.status_code": "200"}, "the function or the metadata of a tag"},
		{"Base", middleware.Config{Sampling: sampler.Config{Base: brokenSampler{sdktrace.AlwaysSample()}}}, 0, true, nil, "Config.Sampling.Base"},
		{"MeterProvider", middleware.Config{MeterProvider: brokenMeters{}, Metrics: middleware.Metrics{ActiveRequests: true}}, 2, true,
			conventional, "Config.MeterProvider"},
		{"Processors", middleware.Config{Processors: []sdktrace.SpanProcessor{brokenProcessor{tracetest.NewSpanRecorder()}}}, 2, true,
			conventional, "Config.Processors"},
		{"Logger", middleware.Config{SpanName: func(middleware.CallInfo, string) string { panic(hookPanic) },
			Logger: slog.New(brokenLogger{slog.NewTextHandler(io.Discard, nil)})}, 2, true, conventional, ""},
	} {
		for _, value := range []any{nil, "of the handler", http.ErrAbortHandler} {
			name := tt.name
			if value != nil {
				name += "/handler panics too"
			}
			t.Run(name, func(t *testing.T) {
				var log lockedBuffer
				cfg := tt.cfg
				if cfg.Logger == nil {
					cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
				}
				tracing, rec := setup(t, cfg)
				var sent http.Header
				out := tracing.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
					sent = r.Header
					return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody, Request: r}, nil
				}))
				h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					req, _ := http.NewRequestWithContext(r.Context(), "GET", "http://shop.example/", nil)
					if _, err := out.RoundTrip(req); err != nil {
						t.Errorf("RoundTrip: %v", err)
					}
					w.WriteHeader(200)
					if value != nil {
						panic(value)
					}
				}))
				for range 2 {
					w := httptest.NewRecorder()
					func() {
						defer func() {
							if v := recover(); v != value {
								t.Errorf("the handler panics with %v, want its own %v", v, value)
							}
						}()
						h.ServeHTTP(w, inside())
					}()
					if w.Code != 200 {
						t.Errorf("status = %d, want the handler's 200", w.Code)
					}
				}
				if (sent.Get("Traceparent") != "") != tt.sends {
					t.Errorf("traceparent upstream = %q, want one: %v", sent.Get("Traceparent"), tt.sends)
				}
				if s, e := len(rec.Started()), len(rec.Ended()); s != 2*tt.spans || e != s {
					t.Fatalf("%d spans started and %d ended, want %d", s, e, 2*tt.spans)
				}
				for i, s := range rec.Ended() {
					if want := []trace.SpanKind{client, server}[i%2]; s.SpanKind() != want {
						t.Errorf("span %d is a %v, want a %v", i, s.SpanKind(), want)
					}
					wantAttrs(t, s, tt.attrs)
					if tt.cfg.Role == middleware.Service && s.Name() != "GET" {
						t.Errorf("name = %q, want GET", s.Name())
					}
				}
				if tt.log == "" {
					return
				}
				line := "meshtrace: " + tt.log + " panicked, and what was asked of it is left out"
				if n := strings.Count(log.String(), line); n != 1 {
					t.Errorf("%d lines have %q, want one a minute:\n%s", n, line, log.String())
				}
				at := "at=contain_test.go:"
				if tt.name == "metadata" {
					at = "at=encode.go:" // which panics anew with it
				}
				for _, want := range []string{"panic=\"" + hookPanic, at} {
					if !strings.Contains(log.String(), want) {
						t.Errorf("no %q in the log:\n%s", want, log.String())
					}
				}
				if notes := notesOf(t, tracing); len(notes) != 1 || !strings.HasPrefix(notes[0], tt.log+" panicked") {
					t.Errorf("notes = %q, want that %s panicked", notes, tt.log)
				}
			})
		}
	}
}

// TestProcessorPanicsAtTheEnd: a processor that panics when it is to send what it has
// is an error of ForceFlush and Shutdown that names it.
func TestProcessorPanicsAtTheEnd(t *testing.T) {
	rec := tracetest.NewSpanRecorder()
	tracing, err := middleware.Setup(t.Context(), middleware.Config{
		Getenv: noExport, Logger: slog.New(slog.DiscardHandler),
		Processors: []sdktrace.SpanProcessor{endPanics{tracetest.NewSpanRecorder()}, rec},
	})
	if err != nil {
		t.Fatal(err)
	}
	tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), inside())
	one(t, rec)
	for _, name := range []string{"ForceFlush", "Shutdown"} {
		f := tracing.ForceFlush
		if name == "Shutdown" {
			f = tracing.Shutdown
		}
		if err := f(t.Context()); err == nil || !strings.Contains(err.Error(), "endPanics: panic: "+hookPanic) {
			t.Errorf("%s: %v, want the processor and its panic named", name, err)
		}
	}
}

// endPanics panics when it is to send what it has.
type endPanics struct{ sdktrace.SpanProcessor }

func (endPanics) ForceFlush(context.Context) error { panic(hookPanic) }
func (endPanics) Shutdown(context.Context) error   { panic(hookPanic) }

// TestCallbackPanicToldAgain: a callback that goes on to panic is told once a minute,
// and counted each time.
func TestCallbackPanicToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		tracing, err := middleware.Setup(t.Context(), middleware.Config{
			Getenv: noExport, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Route: func(*http.Request) middleware.Route { panic(errors.New(strings.Repeat("é", 300) + "\xff")) },
		})
		if err != nil {
			t.Fatal(err)
		}
		h := tracing.Handler(http.NotFoundHandler())
		for range 5 {
			h.ServeHTTP(httptest.NewRecorder(), inside())
			time.Sleep(29 * time.Second) // at 0, 29, 58, 87 and 116 s
		}
		if n := strings.Count(log.String(), "Config.Route panicked"); n != 2 {
			t.Errorf("%d lines in 116 s, want 2:\n%s", n, log.String())
		}
		if want := "panic=" + strings.Repeat("é", 100) + " at="; !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, log.String())
		}
		if got, want := notesOf(t, tracing), []string{"Config.Route panicked, and was contained: 5"}; !slices.Equal(got, want) {
			t.Errorf("notes = %q, want %q", got, want)
		}
		if err := tracing.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestCallbackEndsGoroutine: a callback that ends its goroutine, as a test's FailNow
// does, leaves no span behind.
func TestCallbackEndsGoroutine(t *testing.T) {
	at := func(kind trace.SpanKind) func(middleware.CallInfo) {
		return func(info middleware.CallInfo) {
			if info.Kind == kind {
				runtime.Goexit()
			}
		}
	}
	value := func(kind trace.SpanKind) span.Tag { // the request upstream has a host in its URL
		return span.Value("v", func(r *http.Request) string {
			if (r.URL.Host != "") == (kind == trace.SpanKindClient) {
				runtime.Goexit()
			}
			return "v"
		})
	}
	for _, kind := range []trace.SpanKind{trace.SpanKindServer, trace.SpanKindClient} {
		exit := at(kind)
		for name, cfg := range map[string]middleware.Config{
			"SpanName": {SpanName: func(i middleware.CallInfo, n string) string { exit(i); return n }},
			"Attributes": {Attributes: func(i middleware.CallInfo, l []attribute.KeyValue) []attribute.KeyValue {
				exit(i)
				return l
			}},
			"Value": {Role: middleware.Gateway, SpawnUpstreamSpan: true, Tags: []span.Tag{value(kind)}},
		} {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				tracing, rec := setup(t, cfg)
				out := tracing.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
				}))
				h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					req, _ := http.NewRequestWithContext(r.Context(), "GET", "http://shop.example/", nil)
					out.RoundTrip(req)
				}))
				done := make(chan bool)
				returned := false
				go func() {
					defer func() { done <- returned }()
					h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
					returned = true
				}()
				if <-done {
					t.Error("the goroutine goes on, want its end")
				}
				if s, e := len(rec.Started()), len(rec.Ended()); s != e { // none at all, where the hook comes before the start
					t.Errorf("%d spans started, %d ended", s, e)
				}
			})
		}
	}
}

// TestCarrierPanics: a carrier of the program's own that cannot be written or read
// leaves no span behind.
func TestCarrierPanics(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{ResponseHeaders: []string{"X-Answer"}})
	_, call := tracing.StartClient(t.Context(), middleware.Outgoing{Name: "call", Carrier: brokenCarrier{}})
	call.End(middleware.Outcome{})
	_, call = tracing.StartServer(t.Context(), middleware.Incoming{Name: "answer"})
	call.End(middleware.Outcome{Response: brokenCarrier{}})
	if s, e := len(rec.Started()), len(rec.Ended()); s != 2 || e != s {
		t.Errorf("%d spans started and %d ended, want 2", s, e)
	}
}

// TestBaseTransportPanics: a panic of the transport below is its own, unchanged, after
// the client span ended with it.
func TestBaseTransportPanics(t *testing.T) {
	for _, cfg := range []middleware.Config{{}, {Role: middleware.Gateway, SpawnUpstreamSpan: true}} {
		for value, want := range map[any]string{"boom": "panic", io.ErrUnexpectedEOF: "io.ErrUnexpectedEOF", nil: "errors.errorString"} {
			tracing, rec := setup(t, cfg)
			rt := tracing.Transport(roundTripper(func(*http.Request) (*http.Response, error) {
				if value == nil {
					runtime.Goexit()
				}
				panic(value)
			}))
			done := make(chan any)
			go func() {
				defer func() { done <- recover() }()
				rt.RoundTrip(httptest.NewRequest("GET", "http://shop.example/", nil))
			}()
			if v := <-done; v != value {
				t.Errorf("RoundTrip panics with %v, want %v", v, value)
			}
			s := one(t, rec)
			wantAttrs(t, s, map[string]string{"error.type": want})
			if failed := s.Status().Code == codes.Error; cfg.Role == middleware.Service && !failed {
				t.Errorf("status = %+v of a call that panicked with %v, want an error", s.Status(), value)
			} else if cfg.Role == middleware.Gateway { // S-1: codes alone make a status
				wantAttrs(t, s, map[string]string{"error": "true"})
			}
		}
	}
}

// TestDroppedBodyCallbackPanics: a body that nobody closed ends its span on a goroutine
// of the runtime's, where a panic would end the program.
func TestDroppedBodyCallbackPanics(t *testing.T) {
	for _, role := range []middleware.Role{middleware.Service, middleware.Gateway} {
		var ends atomic.Bool
		tracing, rec := setup(t, middleware.Config{Role: role, SpawnUpstreamSpan: true,
			Attributes: func(_ middleware.CallInfo, l []attribute.KeyValue) []attribute.KeyValue {
				if ends.Load() {
					panic(hookPanic)
				}
				return l
			}})
		rt := tracing.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(strings.NewReader("x")), Request: r}, nil
		}))
		func() {
			if _, err := rt.RoundTrip(httptest.NewRequest("GET", "http://shop.example/", nil)); err != nil {
				t.Fatal(err)
			}
		}()
		ends.Store(true)
		for deadline := time.Now().Add(10 * time.Second); len(rec.Ended()) == 0 && time.Now().Before(deadline); {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		one(t, rec)
	}
}

// typePanics is an error that cannot say of what type it is.
type typePanics struct{}

func (typePanics) Error() string     { return "odd" }
func (typePanics) ErrorType() string { panic("broken") }

// TestErrorPanics: an error that cannot be read, such as one around a nil pointer, is an
// error all the same, and its span ends.
func TestErrorPanics(t *testing.T) {
	for _, cfg := range []middleware.Config{{}, {Role: middleware.Gateway, SpawnUpstreamSpan: true}} {
		for name, err := range map[string]error{
			"wrapped nil": fmt.Errorf("asking: %w", (*url.Error)(nil)),
			"nil":         (*url.Error)(nil),
			"type":        typePanics{},
		} {
			t.Run(cfg.Role.String()+"/"+name, func(t *testing.T) {
				tracing, rec := setup(t, cfg)
				out := tracing.Transport(roundTripper(func(*http.Request) (*http.Response, error) { return nil, err }))
				h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					req, _ := http.NewRequestWithContext(r.Context(), "GET", "http://shop.example/", nil)
					if _, got := out.RoundTrip(req); got != err {
						t.Errorf("RoundTrip returns %T, want the base's error", got)
					}
					span.SetError(r.Context(), err)
				}))
				h.ServeHTTP(httptest.NewRecorder(), inside())
				_, call := tracing.StartServer(t.Context(), middleware.Incoming{Name: "job", Trusted: true})
				call.End(middleware.Outcome{GRPCStatus: "2", Err: err})
				if s, e := len(rec.Started()), len(rec.Ended()); s != 3 || e != s {
					t.Fatalf("%d spans started and %d ended, want 3", s, e)
				}
				for _, s := range rec.Ended() {
					if attr(s, "error.type").AsString() == "" {
						t.Errorf("the %v span %q has no error.type", s.SpanKind(), s.Name())
					}
				}
				if got := middleware.ResetOf(err); got != middleware.ResetProtocolError {
					t.Errorf("ResetOf = %v, want %v", got, middleware.ResetProtocolError)
				}
			})
		}
	}
}
