package middleware_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"weak"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/middleware"
)

// registering is what the SDK's TracerProvider does beside trace.TracerProvider.
type registering interface {
	RegisterSpanProcessor(sdktrace.SpanProcessor)
	UnregisterSpanProcessor(sdktrace.SpanProcessor)
	ForceFlush(context.Context) error
	Shutdown(context.Context) error
}

// heard is a processor that notes what it hears of.
type heard struct {
	mu   sync.Mutex
	list []string
}

func (h *heard) note(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, s)
}

func (h *heard) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) { h.note("+" + s.Name()) }
func (h *heard) OnEnd(s sdktrace.ReadOnlySpan)                       { h.note("-" + s.Name()) }
func (h *heard) Shutdown(context.Context) error                      { h.note("shutdown"); return nil }
func (h *heard) ForceFlush(context.Context) error                    { h.note("flush"); return nil }

// take returns what was heard since the last take.
func (h *heard) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.list
	h.list = nil
	return list
}

func (h *heard) want(t *testing.T, when string, want ...string) {
	t.Helper()
	if got := h.take(); !slices.Equal(got, want) {
		t.Errorf("%s: a processor hears %v, want %v", when, got, want)
	}
}

// calls lets a request be served, below it a span of the program's own, and below that a
// call be made.
func calls(t *testing.T, tracing *middleware.Tracing) {
	t.Helper()
	ctx, in := tracing.StartServer(context.Background(), middleware.Incoming{Name: "served"})
	ctx, own := tracing.TracerProvider().Tracer("program").Start(ctx, "own")
	_, out := tracing.StartClient(ctx, middleware.Outgoing{Name: "made"})
	out.End(middleware.Outcome{})
	own.End()
	in.End(middleware.Outcome{})
}

// TestProviderProcessors: a processor that is added to the provider hears of calls and of
// the program's own spans, until it is removed.
func TestProviderProcessors(t *testing.T) {
	for name, observed := range map[string]string{"own spans": "", "the SDK's spans": "true"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_GO_X_OBSERVABILITY", observed)
			var given, added, unknown heard
			tracing, _ := setup(t, middleware.Config{Processors: []sdktrace.SpanProcessor{&given}})
			provider, ok := tracing.TracerProvider().(registering)
			if !ok {
				t.Fatalf("TracerProvider() is a %T, want the methods of the SDK's", tracing.TracerProvider())
			}
			all := []string{"+served", "+own", "+made", "-made", "-own", "-served"}
			provider.RegisterSpanProcessor(&added)
			calls(t, tracing)
			given.want(t, "added", all...)
			added.want(t, "added", all...)
			if err := provider.ForceFlush(t.Context()); err != nil {
				t.Errorf("ForceFlush: %v", err)
			}
			added.want(t, "flushed", "flush")
			given.want(t, "flushed", "flush")
			provider.UnregisterSpanProcessor(&added)
			if observed == "" { // the SDK itself removes another one, in 1.44 and 1.45
				provider.UnregisterSpanProcessor(&unknown)
			}
			calls(t, tracing)
			given.want(t, "removed", all...)
			added.want(t, "removed", "shutdown")
			if err := provider.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			given.want(t, "shut down", "shutdown")
			provider.RegisterSpanProcessor(&added)
			calls(t, tracing)
			given.want(t, "after Shutdown")
			added.want(t, "added after Shutdown")
		})
	}
}

// TestLateSpans: spans of calls that end after Shutdown are dropped, and in the accounts of
// the exporter; nobody else hears of them.
func TestLateSpans(t *testing.T) {
	for name, shutdown := range map[string]func(*middleware.Tracing) error{
		"Tracing": func(tr *middleware.Tracing) error { return tr.Shutdown(context.Background()) },
		"its TracerProvider": func(tr *middleware.Tracing) error {
			return tr.TracerProvider().(registering).Shutdown(context.Background())
		},
		"both": func(tr *middleware.Tracing) error {
			if err := tr.TracerProvider().(registering).Shutdown(context.Background()); err != nil {
				return err
			}
			return tr.Shutdown(context.Background())
		},
	} {
		t.Run(name, func(t *testing.T) {
			var rec heard
			tracing, err := middleware.Setup(context.Background(), middleware.Config{
				Export: exporter.Config{Sender: acceptAll{}}, Processors: []sdktrace.SpanProcessor{&rec},
				Getenv: environment(nil), Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatalf("Setup: %v", err)
			}
			_, open := tracing.StartServer(context.Background(), middleware.Incoming{Name: "open"})
			if err := shutdown(tracing); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			rec.want(t, "until Shutdown", "+open", "shutdown")
			open.End(middleware.Outcome{})
			_, late := tracing.StartServer(context.Background(), middleware.Incoming{Name: "late"})
			late.End(middleware.Outcome{})
			rec.want(t, "after Shutdown")
			s := tracing.Stats()
			if s.Ended != 2 || s.Dropped[exporter.DropShutdown] != 2 || s.Live != 0 || !s.Balanced() {
				t.Errorf("accounts %+v, want 2 spans ended and dropped by the shutdown", s)
			}
		})
	}
}

// TestWhoseSpans: calls have spans of their own, and those of the SDK where the program
// brings its provider, and where the SDK is to measure its spans.
func TestWhoseSpans(t *testing.T) {
	own, sdk := "*callspan.Span", "*trace.recordingSpan"
	for _, tt := range []struct {
		name, variable, value string
		cfg                   func() middleware.Config
		want                  string
	}{
		{"Setup's provider", "", "", nil, own},
		{"the caller's provider", "", "", func() middleware.Config {
			return middleware.Config{TracerProvider: sdktrace.NewTracerProvider()}
		}, sdk},
		{"OTEL_GO_X_OBSERVABILITY", "OTEL_GO_X_OBSERVABILITY", "True", nil, sdk},
		{"its former name", "OTEL_GO_X_SELF_OBSERVABILITY", "true", nil, sdk},
		{"OTEL_GO_X_OBSERVABILITY=false", "OTEL_GO_X_OBSERVABILITY", "false", nil, own},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.variable != "" {
				t.Setenv(tt.variable, tt.value)
			}
			var cfg middleware.Config
			if tt.cfg != nil {
				cfg = tt.cfg()
			}
			tracing, _ := setup(t, cfg)
			ctx, in := tracing.StartServer(context.Background(), middleware.Incoming{Name: "served"})
			defer in.End(middleware.Outcome{})
			_, out := tracing.StartClient(ctx, middleware.Outgoing{Name: "made"})
			defer out.End(middleware.Outcome{})
			for _, c := range []*middleware.Call{in, out} {
				if got := fmt.Sprintf("%T", c.Span()); got != tt.want {
					t.Errorf("the span is a %s, want a %s", got, tt.want)
				}
			}
		})
	}
}

// TestSetGlobalsTwice: a program has one provider for all, whose spans whoever asks for it
// gets.
func TestSetGlobalsTwice(t *testing.T) {
	provider, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	defer func() { otel.SetTracerProvider(provider); otel.SetTextMapPropagator(propagator) }()
	sdk := sdktrace.NewTracerProvider()
	first, rec := setup(t, middleware.Config{})
	for _, tt := range []struct {
		name   string
		global func()
		cfg    middleware.Config
		ok     bool
	}{
		{"the SDK's, another", func() { otel.SetTracerProvider(sdk) }, middleware.Config{}, false},
		{"the SDK's, given", func() { otel.SetTracerProvider(sdk) }, middleware.Config{TracerProvider: sdk}, true},
		{"a Tracing's, another", func() { otel.SetTracerProvider(first.TracerProvider()) }, middleware.Config{}, false},
		{"a Tracing's, beside the SDK's", func() { otel.SetTracerProvider(first.TracerProvider()) }, middleware.Config{TracerProvider: sdk}, false},
		{"a Tracing's, given", func() { otel.SetTracerProvider(first.TracerProvider()) }, middleware.Config{TracerProvider: first.TracerProvider()}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.global()
			tt.cfg.SetGlobals, tt.cfg.Getenv, tt.cfg.Logger = true, noExport, slog.New(slog.DiscardHandler)
			tracing, err := middleware.Setup(t.Context(), tt.cfg)
			switch {
			case tt.ok && err != nil:
				t.Errorf("Setup: %v", err)
			case !tt.ok && (err == nil || !strings.Contains(err.Error(), "another SDK TracerProvider is global already")):
				t.Errorf("Setup = %v, want the refusal of a second provider", err)
			}
			if err == nil {
				_ = tracing.Shutdown(t.Context())
			}
		})
	}
	calls(t, first) // the first one is still its own
	if n := len(rec.Ended()); n != 3 {
		t.Errorf("%d spans ended, want 3", n)
	}
}

// TestSecondTracing: a Tracing over the provider of another one has its spans there.
func TestSecondTracing(t *testing.T) {
	first, rec := setup(t, middleware.Config{})
	second, _ := setup(t, middleware.Config{TracerProvider: first.TracerProvider()})
	calls(t, second)
	if n := len(rec.Ended()); n != 3 {
		t.Errorf("%d spans ended, want 3", n)
	}
}

// TestSpansKeepNoRequest: who keeps ended spans does not keep requests alive.
func TestSpansKeepNoRequest(t *testing.T) {
	rec := tracetest.NewSpanRecorder()
	tracing, _ := setup(t, middleware.Config{Processors: []sdktrace.SpanProcessor{rec}})
	client := &http.Client{Transport: tracing.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
	}))}
	type key struct{}
	type value [1 << 10]byte
	var requests []weak.Pointer[http.Request]
	var values []weak.Pointer[value]
	var headers []weak.Pointer[[1]string]
	serve := func() {
		v, lines := new(value), &[1]string{"line"}
		r := httptest.NewRequestWithContext(context.WithValue(context.Background(), key{}, v), "GET", "/carts/7", nil)
		r.Header["X-Line"] = lines[:]
		values, headers, requests = append(values, weak.Make(v)), append(headers, weak.Make(lines)), append(requests, weak.Make(r))
		tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			out, err := http.NewRequestWithContext(r.Context(), "GET", "http://other.test/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			requests = append(requests, weak.Make(r), weak.Make(out))
			resp, err := client.Do(out)
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
		})).ServeHTTP(httptest.NewRecorder(), r)
	}
	serve()
	for range 10 {
		runtime.GC()
	}
	if n := len(rec.Ended()); n != 2 {
		t.Fatalf("%d spans ended, want 2", n)
	}
	for i, r := range requests {
		if r.Value() != nil {
			t.Errorf("request %d is alive", i)
		}
	}
	if values[0].Value() != nil || headers[0].Value() != nil {
		t.Errorf("the request's context is alive: %v, its headers: %v", values[0].Value() != nil, headers[0].Value() != nil)
	}
	runtime.KeepAlive(rec)
}

// TestOneResource: the spans of calls and those of the program have one resource, also where
// the process's environment, which the SDK reads by itself, says other than Config.Getenv.
func TestOneResource(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "of.process=1")
	rec := tracetest.NewSpanRecorder()
	tracing, err := middleware.Setup(t.Context(), middleware.Config{
		Service: "shop", Getenv: noExport, Logger: slog.New(slog.DiscardHandler), Processors: []sdktrace.SpanProcessor{rec},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tracing.Shutdown(context.Background())
	ctx, call := tracing.StartServer(t.Context(), middleware.Incoming{Method: "GET"})
	_, own := tracing.TracerProvider().Tracer("program").Start(ctx, "own")
	own.End()
	call.End(middleware.Outcome{HTTPStatus: 200})
	spans := rec.Ended()
	if len(spans) != 2 || !spans[0].Resource().Equal(spans[1].Resource()) {
		t.Errorf("resources of the program's and the call's span: %v, %v", spans[0].Resource(), spans[1].Resource())
	}
}
