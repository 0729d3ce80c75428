package middleware_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/sampler"
)

const (
	callersTrace = "463ac35c9f6413ad48485a3953bb6124"
	callersSpan  = "a2fb4a1d1a96d312"
	callersUp    = "0020000000000001"
)

// relay serves one request with headers through a gateway of cfg and returns the spans
// and the headers of the call it makes.
func relay(t *testing.T, cfg middleware.Config, in http.Header) ([]sdktrace.ReadOnlySpan, http.Header) {
	t.Helper()
	tracing, rec := setup(t, cfg)
	var sent http.Header
	transport := tracing.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		sent = r.Header
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
	}))
	h := tracing.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		out, _ := http.NewRequestWithContext(r.Context(), "GET", "http://upstream.test/", nil)
		for k, v := range r.Header {
			out.Header[k] = v
		}
		if _, err := transport.RoundTrip(out); err != nil {
			t.Error(err)
		}
	}))
	r := httptest.NewRequest("GET", "/", nil)
	for k, v := range in {
		r.Header[k] = v
	}
	h.ServeHTTP(httptest.NewRecorder(), r)
	return rec.Ended(), sent
}

func b3(v string) http.Header { return http.Header{"B3": {v}} }

func TestZipkinSharedSpan(t *testing.T) {
	full := callersTrace + "-" + callersSpan + "-1-" + callersUp
	multi := http.Header{"X-B3-Traceid": {callersTrace}, "X-B3-Spanid": {callersSpan}, "X-B3-Parentspanid": {callersUp}, "X-B3-Sampled": {"1"}}
	w3c := http.Header{"Traceparent": {"00-" + callersTrace + "-" + callersSpan + "-01"}}
	dual := middleware.EnvoyZipkin()
	dual.Propagation.Extract = append(dual.Propagation.Extract, propagation.TraceContext)
	service := middleware.Config{Zipkin: &middleware.Zipkin{}}
	spawning := middleware.EnvoyZipkin()
	spawning.SpawnUpstreamSpan = true
	for _, tt := range []struct {
		rule         string
		cfg          middleware.Config
		in           http.Header
		span, parent string // "" of span: any but the caller's
	}{
		{"B-11 b3", middleware.EnvoyZipkin(), b3(full), callersSpan, callersUp},
		{"B-11 x-b3", middleware.EnvoyZipkin(), multi, callersSpan, callersUp},
		{"B-11 without a parent", middleware.EnvoyZipkin(), b3(callersTrace + "-" + callersSpan + "-1"), callersSpan, strings.Repeat("0", 16)},
		{"B-11 left to this hop", middleware.EnvoyZipkin(), b3(callersTrace + "-" + callersSpan), callersSpan, strings.Repeat("0", 16)},
		{"B-11 with a child span", spawning, b3(full), callersSpan, callersUp},
		{"B-11 not shared", middleware.WithZipkin(middleware.Envoy(), middleware.Zipkin{NotShared: true}), b3(full), "", callersSpan},
		{"B-15 traceparent", dual, w3c, callersSpan, strings.Repeat("0", 16)},
		{"B-11 a service reads b3", service, b3(full), callersSpan, callersUp},
		{"B-11 a service reads traceparent", service, w3c, "", callersSpan},
		{"without the setting", middleware.Config{}, b3(full), "", callersSpan},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			spans, _ := relay(t, tt.cfg, tt.in)
			server := spans[len(spans)-1]
			sc := server.SpanContext()
			if sc.TraceID().String() != callersTrace || (sc.SpanID().String() == callersSpan) != (tt.span != "") {
				t.Errorf("server span is %s-%s, want of the caller's trace and span id %q", sc.TraceID(), sc.SpanID(), tt.span)
			}
			if p := server.Parent(); p.SpanID().String() != tt.parent || !p.IsRemote() {
				t.Errorf("parent = %s, remote %v, want %s, remote", p.SpanID(), p.IsRemote(), tt.parent)
			}
			for _, child := range spans[:len(spans)-1] {
				if child.Parent().SpanID() != sc.SpanID() || child.SpanContext().SpanID() == sc.SpanID() {
					t.Errorf("child %s below %s, want an id of its own below %s", child.SpanContext().SpanID(), child.Parent().SpanID(), sc.SpanID())
				}
			}
		})
	}
}

// A request that is not traced has the ids that a traced one would have (O-3).
func TestZipkinUntraced(t *testing.T) {
	never := func(cfg middleware.Config) middleware.Config {
		cfg.Sampling.Random = sampler.Percent(0)
		return cfg
	}
	spawning := never(middleware.EnvoyZipkin())
	spawning.SpawnUpstreamSpan = true
	for _, tt := range []struct {
		rule string
		cfg  middleware.Config
		in   http.Header
		want func(trace, span, state, parent string) bool
	}{
		{"B-11", never(middleware.EnvoyZipkin()), b3(callersTrace + "-" + callersSpan + "-0-" + callersUp), func(tr, sp, st, up string) bool {
			return tr == callersTrace && sp == callersSpan && st == "0" && up == callersUp
		}},
		{"B-11 not shared", never(middleware.WithZipkin(middleware.Envoy(), middleware.Zipkin{NotShared: true})), b3(callersTrace + "-" + callersSpan), func(tr, sp, st, up string) bool {
			return tr == callersTrace && sp != callersSpan && st == "0" && up == callersSpan
		}},
		{"B-11 a child of a shared span", spawning, b3(callersTrace + "-" + callersSpan), func(tr, sp, st, up string) bool {
			return tr == callersTrace && sp != callersSpan && st == "0" && up == callersSpan
		}},
		{"B-12", never(middleware.EnvoyZipkin()), b3("0"), func(tr, sp, st, up string) bool {
			return len(tr) == 16 && sp == tr && st == "0" && up == ""
		}},
		{"B-12 a child of a new trace", spawning, b3("0"), func(tr, sp, st, up string) bool {
			return len(tr) == 16 && sp != tr && st == "0" && up == tr
		}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			spans, sent := relay(t, tt.cfg, tt.in)
			parts := append(strings.Split(sent.Get("B3"), "-"), "", "", "")
			if len(spans) != 0 || !tt.want(parts[0], parts[1], parts[2], parts[3]) {
				t.Errorf("b3 = %q and %d spans", sent.Get("B3"), len(spans))
			}
		})
	}
}

func TestZipkinNewTrace(t *testing.T) {
	for _, tt := range []struct {
		rule   string
		zipkin middleware.Zipkin
		digits int // of the trace id in b3
	}{
		{"B-12", middleware.Zipkin{}, 16},
		{"B-12 128 bits", middleware.Zipkin{TraceID128: true}, 32},
		{"B-12 timestamp", middleware.Zipkin{TimestampTraceIDs: true}, 16},
		{"B-12 timestamp in 128 bits", middleware.Zipkin{TimestampTraceIDs: true, TraceID128: true}, 32},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := uint32(time.Now().Unix())
				seen := make(map[trace.TraceID]bool)
				for range 100 {
					spans, sent := relay(t, middleware.WithZipkin(middleware.Envoy(), tt.zipkin), nil)
					sc := spans[0].SpanContext()
					id, span := sc.TraceID(), sc.SpanID()
					if [8]byte(id[8:]) != span {
						t.Fatalf("trace id %s does not end in span id %s", id, span)
					}
					if got := sent.Get("X-B3-Traceid"); len(got) != tt.digits || !strings.HasSuffix(id.String(), got) {
						t.Fatalf("x-b3-traceid = %q of %s, want its last %d digits", got, id, tt.digits)
					}
					first := binary.BigEndian.Uint32(id[16-tt.digits/2:])
					if tt.zipkin.TimestampTraceIDs && first != now {
						t.Fatalf("trace id %s begins with %d, want the time, %d", id, first, now)
					}
					if spans[0].Parent().SpanID().IsValid() || seen[id] {
						t.Fatalf("trace %s below %s, seen before: %v", id, spans[0].Parent().SpanID(), seen[id])
					}
					seen[id] = true
				}
			})
		})
	}
}

// Spans that a handler starts itself have ids of their own, whatever the request's is.
func TestZipkinSpansOfTheHandler(t *testing.T) {
	for _, in := range []string{callersTrace + "-" + callersSpan + "-1", callersTrace + "-" + callersSpan + "-0", "1", "0"} {
		tracing, _ := setup(t, middleware.EnvoyZipkin())
		tracer := tracing.TracerProvider().Tracer("handler")
		h := tracing.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			server := trace.SpanContextFromContext(r.Context())
			_, child := tracer.Start(r.Context(), "child")
			defer child.End()
			if sc := child.SpanContext(); sc.TraceID() != server.TraceID() || sc.SpanID() == server.SpanID() {
				t.Errorf("b3 %q: child is %s-%s of server span %s-%s", in, sc.TraceID(), sc.SpanID(), server.TraceID(), server.SpanID())
			}
			_, root := tracer.Start(r.Context(), "root", trace.WithNewRoot())
			defer root.End()
			if sc := root.SpanContext(); server.IsSampled() && sc.TraceID() == server.TraceID() {
				t.Errorf("b3 %q: a new root has the request's trace id %s", in, sc.TraceID())
			}
		}))
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["B3"] = []string{in}
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}

// A root outside of any request, such as a job's.
func TestZipkinOutgoingRoot(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{Zipkin: &middleware.Zipkin{}})
	_, call := tracing.StartClient(context.Background(), middleware.Outgoing{Name: "job"})
	call.End(middleware.Outcome{})
	sc := rec.Ended()[0].SpanContext()
	if id := sc.TraceID(); [8]byte(id[:8]) != [8]byte{} || [8]byte(id[8:]) != sc.SpanID() {
		t.Errorf("ids of a root = %s, %s, want the same 64 bits", id, sc.SpanID())
	}
}

// A call whose span the sampler drops tells its parent, too (B-13).
func TestZipkinDroppedSpan(t *testing.T) {
	cfg := middleware.EnvoyZipkin()
	cfg.SpawnUpstreamSpan = true
	cfg.Sampling.Base, cfg.Sampling.AskAlways = sdktrace.NeverSample(), true
	tracing, _ := setup(t, cfg)
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{15: 1}, SpanID: trace.SpanID{7: 2}, TraceFlags: trace.FlagsSampled})
	sent := otelprop.MapCarrier{}
	_, call := tracing.StartClient(trace.ContextWithSpanContext(t.Context(), parent), middleware.Outgoing{Carrier: sent})
	call.End(middleware.Outcome{})
	if sent["x-b3-parentspanid"] != parent.SpanID().String() || sent["x-b3-sampled"] != "0" {
		t.Errorf("sent %v, want x-b3-sampled 0 and the parent %s", sent, parent.SpanID())
	}
}

// The upper half of zeros has no say in a ratio of the SDK's.
func TestZipkinRatio(t *testing.T) {
	cfg := middleware.Config{Zipkin: &middleware.Zipkin{}}
	cfg.Sampling.Base = sdktrace.TraceIDRatioBased(0.5)
	tracing, rec := setup(t, cfg)
	h := tracing.Handler(http.NotFoundHandler())
	const n = 2000
	for range n {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	if got := len(rec.Ended()); got < n*4/10 || got > n*6/10 { // nine standard deviations
		t.Errorf("%d of %d requests traced, want about half", got, n)
	}
}

func TestZipkinString(t *testing.T) {
	for z, want := range map[middleware.Zipkin]string{
		{}: "ids of 64 bits, shared spans",
		{NotShared: true, TraceID128: true, TimestampTraceIDs: true}: "ids of 128 bits, with the time, no shared spans",
	} {
		if got := z.String(); got != want {
			t.Errorf("String = %q, want %q", got, want)
		}
	}
}

func TestZipkinConfig(t *testing.T) {
	_, err := middleware.Setup(context.Background(), middleware.Config{
		Zipkin: &middleware.Zipkin{}, TracerProvider: sdktrace.NewTracerProvider(), Getenv: noExport,
	})
	if err == nil || !strings.Contains(err.Error(), "Config.Zipkin is set beside Config.TracerProvider") {
		t.Errorf("Setup = %v, want an error about both settings", err)
	}
	if a, b := middleware.EnvoyZipkin(), middleware.EnvoyZipkin(); a.Zipkin == b.Zipkin || a.Edge == b.Edge {
		t.Error("two presets share what they point to")
	}
}

// TestZipkinRoundTrip holds what goes out against what came in, for every form of B3:
// a shared span's ids are the same, a client span's are one below, and the upper half
// of a trace id is written only where it is not zero.
func TestZipkinRoundTrip(t *testing.T) {
	presets := []middleware.Zipkin{{}, {NotShared: true}}
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	for i := range rounds {
		z := presets[i%2]
		cfg := middleware.WithZipkin(middleware.Envoy(), z)
		cfg.SpawnUpstreamSpan = rand.IntN(2) == 0
		tr, sp, up := rand.Uint64()|1, rand.Uint64()|1, rand.Uint64()|1
		high := rand.Uint64() * uint64(rand.IntN(2))
		states := []string{"", "0", "1", "d"}
		in := fmt.Sprintf("%016x-%016x", tr, sp)
		wide := rand.IntN(2) == 0 || high != 0
		if wide {
			in = fmt.Sprintf("%016x%s", high, in)
		}
		parent, state := "", states[rand.IntN(len(states))]
		if state != "" {
			in += "-" + state
			if rand.IntN(2) == 0 {
				parent = fmt.Sprintf("%016x", up)
				in += "-" + parent
			}
		}
		headers := b3(in)
		if rand.IntN(2) == 0 {
			headers = http.Header{"X-B3-Traceid": {in[:strings.Index(in, "-")]}, "X-B3-Spanid": {fmt.Sprintf("%016x", sp)}}
			if parent != "" {
				headers["X-B3-Parentspanid"] = []string{parent}
			}
			if state == "d" {
				state = "1"
			}
			if state != "" {
				headers["X-B3-Sampled"] = []string{state}
			}
		}
		_, sent := relay(t, cfg, headers)

		p, err := propagation.New(propagation.Config{Extract: []propagation.Format{propagation.B3, propagation.B3Multi}})
		if err != nil {
			t.Fatal(err)
		}
		got := p.Read(otelprop.HeaderCarrier(sent))
		id := got.SpanContext.TraceID().String()
		if id != fmt.Sprintf("%016x%016x", high, tr) || got.Err != nil {
			t.Fatalf("%v came, trace id %s and error %v went out", headers, id, got.Err)
		}
		written := sent.Get("X-B3-Traceid") + strings.Split(sent.Get("B3"), "-")[0]
		if want := map[bool]int{true: 16, false: 32}[high == 0]; len(written) != want {
			t.Fatalf("%v came, trace id %q went out, want %d digits (B-14)", headers, written, want)
		}
		span, above := got.SpanContext.SpanID().String(), ""
		if got.Parent.IsValid() {
			above = got.Parent.String()
		}
		incoming := fmt.Sprintf("%016x", sp)
		switch {
		case !z.NotShared && !cfg.SpawnUpstreamSpan: // B-11: the very same span
			if span != incoming || above != parent {
				t.Fatalf("%v came, span %s below %q went out, want the same", headers, span, above)
			}
		case !z.NotShared || !cfg.SpawnUpstreamSpan: // one span in between
			if span == incoming || above != incoming {
				t.Fatalf("%v came, span %s below %q went out, want a new one below %s", headers, span, above, incoming)
			}
		default: // two
			if span == incoming || above == incoming || above == "" {
				t.Fatalf("%v came, span %s below %q went out, want one below a new one", headers, span, above)
			}
		}
		if want := state != "0"; got.SpanContext.IsSampled() != want {
			t.Fatalf("%v came, sampled %v went out, want %v", headers, got.SpanContext.IsSampled(), want)
		}
	}
}
