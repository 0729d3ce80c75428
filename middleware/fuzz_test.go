package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/meshtrace/meshtrace/internal/metertest"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/span"
)

// endCounter is a TracerProvider that counts how often each of its spans ends: the
// SDK's hide a second end.
type endCounter struct {
	noop.TracerProvider
	mu    sync.Mutex
	spans []*countedSpan
	ids   byte
}

func (p *endCounter) Tracer(string, ...trace.TracerOption) trace.Tracer {
	return countingTracer{provider: p}
}

type countingTracer struct {
	noop.Tracer
	provider *endCounter
}

func (t countingTracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	p := t.provider
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids++
	parent := trace.SpanContextFromContext(ctx)
	sc := trace.SpanContextConfig{TraceID: parent.TraceID(), SpanID: trace.SpanID{1, p.ids}, TraceFlags: trace.FlagsSampled}
	if !parent.IsValid() {
		sc.TraceID = trace.TraceID{1, p.ids}
	}
	sp := &countedSpan{provider: p, sc: trace.NewSpanContext(sc), name: name}
	p.spans = append(p.spans, sp)
	return trace.ContextWithSpan(ctx, sp), sp
}

// countedSpan is recorded until its end, and afterwards nothing may be written.
type countedSpan struct {
	noop.Span
	provider *endCounter
	sc       trace.SpanContext
	name     string
	ends     int
	late     []string
}

func (s *countedSpan) SpanContext() trace.SpanContext       { return s.sc }
func (s *countedSpan) TracerProvider() trace.TracerProvider { return s.provider }
func (s *countedSpan) IsRecording() bool {
	s.provider.mu.Lock()
	defer s.provider.mu.Unlock()
	return s.ends == 0
}
func (s *countedSpan) End(...trace.SpanEndOption) { s.wrote("End"); s.end() }
func (s *countedSpan) SetAttributes(kv ...attribute.KeyValue) {
	s.wrote("SetAttributes")
}
func (s *countedSpan) AddEvent(string, ...trace.EventOption) { s.wrote("AddEvent") }
func (s *countedSpan) SetName(string)                        { s.wrote("SetName") }

func (s *countedSpan) end() {
	s.provider.mu.Lock()
	defer s.provider.mu.Unlock()
	s.ends++
}

func (s *countedSpan) wrote(what string) {
	s.provider.mu.Lock()
	defer s.provider.mu.Unlock()
	if s.ends > 0 {
		s.late = append(s.late, what)
	}
}

// The plan of a fuzzed request, bit by bit.
const (
	planPanic       = 1 << iota // the handler panics with a header's value
	planAbort                   // the handler panics with http.ErrAbortHandler
	planGoexit                  // the handler ends its goroutine
	planStatus                  // the handler writes a status
	planInform                  // an informational one before
	planBody                    // a body
	planFlush                   // and flushes
	planSetError                // span.SetError
	planRoute                   // span.SetRoute by a header's value
	planRefused                 // the upstream does not answer
	planBroken                  // its body breaks off
	planUnread                  // nobody reads its body
	planUnclosed                // nobody closes its body
	planDropped                 // nobody keeps it
	planEmpty                   // it is empty
	planUpgrade                 // it is the connection
	planCancel                  // the caller cancels
	planSDK                     // our own provider instead of the counting one
	planEdge                    // strangers
	planGateway                 // role Gateway
	planSpawn                   // with upstream spans
	planMeasured                // metrics
	planHooks                   // all hooks
	planClientTrace             // httptrace spans
	planStrict                  // Envoy's status map
	planChild                   // a span of the handler's own
	planHookPanics              // one of the hooks panics, or all
	planBasePanics              // the transport below panics
	planBits        = iota
)

// FuzzRequest drives a whole request with arbitrary headers, status, panics and ends of
// bodies through handler and transport, under all kinds of configurations: only panics of
// the handler and of the transport below come out, every started span ends exactly once
// and is not written afterwards, every request is measured once, and what goes out is
// well formed.
func FuzzRequest(f *testing.F) {
	f.Add("traceparent", traceparent, "x-request-id", plainID, uint16(200), uint32(0))
	f.Add("b3", "0", "tracestate", "a=1,,b", uint16(500), uint32(planPanic|planMeasured))
	f.Add("baggage", "a=%0d%0a", "x-request-id", "\x00\xff", uint16(99), uint32(planStatus|planBroken|planHooks))
	f.Add("x-b3-traceid", "zz", "x-client-trace-id", strings.Repeat("c", 300), uint16(101), uint32(planUpgrade|planStatus))
	f.Add("forwarded", `proto=https;host="\`, "x-forwarded-for", "1.2.3.4, 5.6.7.8", uint16(404), uint32(planEdge|planGateway|planSpawn|planMeasured|planBody|planUnread|planDropped))
	f.Add("connection", "x-request-id, te", "x-envoy-force-trace", "1", uint16(204), uint32(planGoexit|planInform|planFlush|planHooks|planClientTrace))
	f.Add("traceparent", traceparent, "x-request-id", plainID, uint16(200), uint32(planHookPanics|planPanic|planMeasured|planGateway|planSpawn))
	f.Add("traceparent", traceparent, "x-request-id", plainID, uint16(207), uint32(planHookPanics|planHooks|planSDK|planUnread|planDropped))
	f.Add("b3", "1", "x-request-id", plainID, uint16(500), uint32(planHookPanics|planBasePanics|planMeasured))
	f.Add("x-envoy-decorator-operation", "op", "grpc-status", "x", uint16(503), uint32(planGateway|planRefused|planCancel|planSDK|planMeasured))
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, code uint16, plan uint32) {
		driveRequest(t, k1, v1, k2, v2, code, plan)
	})
}

// TestRequestPlans drives every pair of the fuzz target's bits.
func TestRequestPlans(t *testing.T) {
	for i := range planBits {
		for j := range i {
			plan := uint32(1<<i | 1<<j | planMeasured)
			driveRequest(t, "traceparent", traceparent, "x-request-id", plainID, uint16(200+100*(i%4)), plan)
			if plan2 := plan | planGateway | planSpawn; !t.Failed() && i%2 == j%2 {
				driveRequest(t, "traceparent", traceparent, "x-request-id", plainID, uint16(200+100*(i%4)), plan2)
			}
			if t.Failed() {
				t.Fatalf("the plan was %#x", plan)
			}
		}
	}
}

// TestHookPanicPlans drives every bit of the fuzz target's with every hook that panics.
func TestHookPanicPlans(t *testing.T) {
	for i := range planBits {
		for which := range 8 {
			for _, role := range []uint32{0, planGateway | planSpawn, planSDK} {
				plan := uint32(1<<i|planHookPanics|planMeasured) | role
				driveRequest(t, "traceparent", traceparent, "x-request-id", plainID, uint16(200+which), plan)
				if t.Failed() {
					t.Fatalf("the plan was %#x, the hook %d", plan, which)
				}
			}
		}
	}
}

// k1OrX returns name if it can be a header's.
func k1OrX(name string) string {
	if span.RequestHeader("a", name, "").Err() != nil {
		return "x"
	}
	return name
}

func driveRequest(t *testing.T, k1, v1, k2, v2 string, code uint16, plan uint32) {
	has := func(bits uint32) bool { return plan&bits != 0 }
	provider, meters := &endCounter{}, metertest.New()
	cfg := middleware.Config{SpawnUpstreamSpan: has(planSpawn), Logger: slog.New(slog.DiscardHandler)}
	if !has(planSDK) {
		cfg.TracerProvider = provider
	}
	if has(planMeasured) {
		cfg.MeterProvider, cfg.Metrics = meters, middleware.Metrics{BodySizes: true, ActiveRequests: true}
	}
	if has(planGateway) {
		cfg.Role, cfg.Verbose, cfg.Direction = middleware.Gateway, code%2 == 0, middleware.Direction(code%2)
		cfg.Tags = []span.Tag{span.RequestHeader("a", k1OrX(k1), "d"), span.Formatted("b", span.MustTemplate("%REQ(x-request-id)% %RESP(x-answer)% %PATH%"))}
		cfg.Route = func(*http.Request) middleware.Route {
			r := middleware.Route{Decorator: span.Decorator{Operation: v2}, Upstream: middleware.Upstream{Cluster: v1}}
			if code%3 == 0 {
				r.Operation = span.MustTemplate("%REQ(:METHOD)% %UPSTREAM_CLUSTER%")
			}
			return r
		}
	}
	if has(planEdge) {
		cfg.Edge = &middleware.Edge{Internal: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Hops: int(code % 3), ForcedPerSecond: math.Inf(1)}
	}
	if has(planStrict) {
		cfg.Status = span.Envoy
	}
	if has(planHooks) {
		cfg.Filter = func(r *http.Request) bool { return code != 999 }
		cfg.ClientFilter = func(r *http.Request) bool { return code != 998 }
		cfg.SpanName = func(_ middleware.CallInfo, name string) string { return name + v1 }
		cfg.Attributes = func(_ middleware.CallInfo, attrs []attribute.KeyValue) []attribute.KeyValue {
			return append(slices.Delete(attrs, 0, len(attrs)/2), attribute.String("v", v1))
		}
		cfg.TraceResponse, cfg.FirstByte = true, true
		cfg.RequestHeaders, cfg.ResponseHeaders = []string{"X-Request-Id", "Baggage"}, []string{"X-Answer"}
	}
	if has(planClientTrace) {
		cfg.ClientTrace = middleware.ClientTraceSpans
	}
	if has(planHookPanics) {
		breakHooks(&cfg, int(code%8))
	}
	tracing, rec := setup(t, cfg)
	sent := 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := tracing.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		sent++
		for name, values := range r.Header {
			for _, v := range values {
				if strings.ContainsAny(v, "\r\n\x00") && !has(planGateway) {
					t.Errorf("%s goes out as %q", name, v)
				}
			}
		}
		if id := r.Header.Get("X-Request-Id"); id != "" {
			if _, err := requestid.Parse(id); err != nil {
				t.Errorf("x-request-id goes out as %q: %v", id, err)
			}
		}
		if has(planCancel) {
			cancel()
		}
		if has(planBasePanics) {
			panic(v2)
		}
		if has(planRefused) {
			return nil, io.ErrUnexpectedEOF
		}
		resp := &http.Response{StatusCode: int(code), ContentLength: -1, Header: http.Header{"X-Answer": {v1}}, Request: r}
		resp.Body = io.NopCloser(&answerBody{left: 3, broken: has(planBroken)})
		if has(planEmpty) {
			resp.Body, resp.ContentLength = http.NoBody, 0
		}
		if has(planUpgrade) {
			resp.StatusCode = http.StatusSwitchingProtocols
		}
		return resp, nil
	}))
	call := func(ctx context.Context) {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://shop.example/?"+v1, nil)
		if err != nil {
			return
		}
		resp, err := out.RoundTrip(req)
		if err != nil {
			return
		}
		if !has(planUnread) {
			io.Copy(io.Discard, resp.Body)
		}
		if !has(planUnclosed | planDropped) {
			resp.Body.Close()
			resp.Body.Close()
		}
	}
	h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if has(planRoute) {
			span.SetRoute(ctx, v2)
		}
		if has(planSetError) {
			span.SetError(ctx, errors.New(v1))
		}
		if has(planChild) {
			var sp trace.Span
			ctx, sp = span.Start(ctx, v1)
			defer sp.End()
		}
		call(ctx)
		if has(planInform) {
			w.WriteHeader(100 + int(code%50)) // of which 101 is final
		}
		if has(planStatus) {
			w.WriteHeader(max(int(code), 100) % 1000)
		}
		if has(planBody) {
			io.WriteString(w, v2)
		}
		if has(planFlush) {
			http.NewResponseController(w).Flush()
		}
		switch {
		case has(planPanic):
			panic(v2)
		case has(planAbort):
			panic(http.ErrAbortHandler)
		case has(planGoexit):
			runtime.Goexit()
		}
	}))
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	r.Header.Add(k1, v1)
	r.Header.Add(k2, v2)
	done := make(chan any, 1)
	go func() {
		var v any
		defer func() {
			if v == nil {
				v = recover()
			}
			done <- v
		}()
		h.ServeHTTP(httptest.NewRecorder(), r)
	}()
	if v := <-done; v != nil && v != any(v2) && v != any(http.ErrAbortHandler) && !strings.Contains(fmt.Sprint(v), "invalid WriteHeader code") {
		panic(v)
	}

	settled := func() bool {
		if has(planMeasured) && len(meters.Of("http.client.request.duration")) < sent {
			return false
		}
		provider.mu.Lock()
		defer provider.mu.Unlock()
		for _, s := range provider.spans {
			if s.ends == 0 {
				return false
			}
		}
		return len(rec.Started()) == len(rec.Ended())
	}
	// A body that nobody closed ends its call when it is collected.
	for deadline := time.Now().Add(10 * time.Second); !settled() && time.Now().Before(deadline); {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if s, e := len(rec.Started()), len(rec.Ended()); s != e {
		t.Errorf("%d spans started, %d ended", s, e)
	}
	provider.mu.Lock()
	defer provider.mu.Unlock()
	for _, s := range provider.spans {
		if s.ends != 1 || len(s.late) > 0 {
			t.Errorf("span %q ended %d times, and afterwards came %q", s.name, s.ends, s.late)
		}
	}
	if has(planMeasured) {
		if n := len(meters.Of("http.server.request.duration")); n != 1 {
			t.Errorf("the request was measured %d times", n)
		}
		if n := len(meters.Of("http.client.request.duration")); n != sent {
			t.Errorf("%d calls were measured %d times", sent, n)
		}
		active := 0.0
		for _, p := range meters.Of("http.server.active_requests") {
			active += p.Value
		}
		if active != 0 {
			t.Errorf("%v requests are under way after the end", active)
		}
	}
}

// breakHooks makes one of the hooks panic, or all.
func breakHooks(cfg *middleware.Config, which int) {
	const all = 7
	is := func(n int) bool { return which == n || which == all }
	no := func(*http.Request) bool { panic("Filter") }
	if is(0) {
		cfg.SpanName = func(middleware.CallInfo, string) string { panic("SpanName") }
	}
	if is(1) {
		cfg.Attributes = func(middleware.CallInfo, []attribute.KeyValue) []attribute.KeyValue { panic("Attributes") }
	}
	if is(2) {
		cfg.Route = func(*http.Request) middleware.Route { panic("Route") }
	}
	if is(3) {
		cfg.Filter, cfg.ClientFilter = no, no
	}
	if is(4) {
		cfg.SendTo = no
	}
	if is(5) {
		cfg.Tags = append(cfg.Tags, span.Value("broken", func(*http.Request) string { panic("Value") }))
	}
	if is(6) {
		cfg.Sampling.Base = brokenSampler{sdktrace.AlwaysSample()}
	}
}

// answerBody is a short body, that may break off.
type answerBody struct {
	left   int
	broken bool
}

func (b *answerBody) Read(p []byte) (int, error) {
	switch {
	case b.left > 0:
		b.left--
		p[0] = 'x'
		return 1, nil
	case b.broken:
		return 0, io.ErrUnexpectedEOF
	}
	return 0, io.EOF
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
