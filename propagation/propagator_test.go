package propagation

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/requestid"
)

func mustNew(t testing.TB, cfg Config) *Propagator {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// headers returns name, value, name, value, … as an http.Header.
func headerSet(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// lowerCarrier is a carrier like gRPC metadata: lower-case keys, several values.
type lowerCarrier map[string][]string

func (c lowerCarrier) Get(key string) string {
	if v := c[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (c lowerCarrier) Values(key string) []string { return c[key] }

func (c lowerCarrier) Set(key, value string) { c[key] = []string{value} }

func (c lowerCarrier) Keys() []string { panic("Keys costs a slice over all names") }

// getCarrier is a carrier with one value for a key and no way to remove it.
type getCarrier map[string]string

func (c getCarrier) Get(key string) string { return c[key] }

func (c getCarrier) Set(key, value string) { c[key] = value }

func (c getCarrier) Keys() []string { panic("Keys costs a slice over all names") }

func TestNew(t *testing.T) {
	_, err := New(Config{Extract: []Format{0, B3, 17}, Inject: []Format{99}})
	if err == nil {
		t.Fatal("New with three unknown formats: no error")
	}
	for _, want := range []string{"Config.Extract[0] is Format(0)", "Config.Extract[2] is Format(17)", "Config.Inject[0] is Format(99)", "allowed are TraceContext, B3, B3Multi, OTSpanContext, OTTrace, Jaeger, Baggage"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New: error %q does not say %q", err, want)
		}
	}

	for _, tt := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"zero", Config{}, []string{"traceparent", "tracestate", "baggage", "x-request-id", "x-client-trace-id"}},
		{"none", Config{Extract: []Format{}, Inject: []Format{}, NoRequestID: true}, nil},
		{"b3 twice", Config{Inject: []Format{B3, B3}, NoRequestID: true}, []string{"b3"}},
		{"b3multi", Config{Inject: []Format{Baggage, B3Multi}, NoRequestID: true},
			[]string{"x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags", "baggage"}},
	} {
		p := mustNew(t, tt.cfg)
		if got := p.Fields(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: Fields() = %q, want %q", tt.name, got, tt.want)
		}
	}
	if got, want := RequestID().Fields(), []string{"x-request-id", "x-client-trace-id"}; !slices.Equal(got, want) {
		t.Errorf("RequestID().Fields() = %q, want %q", got, want)
	}
	p := mustNew(t, Config{})
	p.Fields()[0] = "changed"
	if p.Fields()[0] != "traceparent" {
		t.Error("Fields shares its slice")
	}
}

func TestExtract(t *testing.T) {
	p := mustNew(t, Config{})
	in := headerSet("traceparent", traceparent, "tracestate", "a=1", "baggage", "k=v",
		"x-request-id", requestUUID, "x-client-trace-id", "abc", "x-envoy-force-trace", "")
	ctx := p.Extract(t.Context(), otelprop.HeaderCarrier(in))

	want := remote(t, traceHex, spanHex, 1, "a=1")
	if got := trace.SpanContextFromContext(ctx); !got.Equal(want) {
		t.Errorf("span context = %v, want %v", got, want)
	}
	if got := baggage.FromContext(ctx).Member("k").Value(); got != "v" {
		t.Errorf("baggage k = %q, want v", got)
	}
	if got := requestid.FromContext(ctx); got != requestUUID {
		t.Errorf("request id = %q, want %s", got, requestUUID)
	}
	s := reqctx.From(ctx)
	if s == nil {
		t.Fatal("no state in the context")
	}
	if !s.ForceTrace || !s.HasClientTraceID || s.ClientTraceID != "abc" || !s.Remote.Equal(want) || s.Sampling != uint8(Unstated) {
		t.Errorf("state = %+v", s)
	}
	if got := s.Carrier.Get("x-envoy-force-trace"); got != "" || s.Carrier.(otelprop.HeaderCarrier) == nil {
		t.Errorf("the state's carrier is not the headers that came in")
	}
}

func TestExtractNothing(t *testing.T) {
	ctx := t.Context()
	for _, h := range []http.Header{nil, headerSet("Accept", "*/*"), headerSet("traceparent", "bad", "b3", "bad", "baggage", "bad", "x-request-id", "b\x00d")} {
		if got := mustNew(t, Config{}).Extract(ctx, otelprop.HeaderCarrier(h)); got != ctx {
			t.Errorf("Extract of %v changed the context", h)
		}
	}
	if got := mustNew(t, Config{}).Extract(ctx, nil); got != ctx {
		t.Error("Extract of no carrier changed the context")
	}
}

func TestExtractIDs(t *testing.T) {
	long := strings.Repeat("x", 257)
	for _, tt := range []struct {
		name      string
		in        http.Header
		id        requestid.ID
		client    string
		hasClient bool
		force     bool
	}{
		{name: "id", in: headerSet("x-request-id", "abc"), id: "abc"},
		{name: "id that cannot be read", in: headerSet("x-request-id", "a b")},
		{name: "id of 129 bytes", in: headerSet("x-request-id", strings.Repeat("a", 129))},
		{name: "O-4 two ids", in: headerSet("x-request-id", "a", "x-request-id", "b")},
		{name: "O-4 empty lines are dropped", in: headerSet("x-request-id", "", "x-request-id", "b", "x-request-id", ""), id: "b"},
		{name: "more lines than anybody sends", in: http.Header{"X-Request-Id": append(make([]string, 64), "b")}},
		{name: "D-11 empty client id", in: headerSet("x-client-trace-id", ""), hasClient: true},
		{name: "D-14 client id as it is", in: headerSet("x-client-trace-id", "My Trace/1"), client: "My Trace/1", hasClient: true},
		{name: "client id of 257 bytes", in: headerSet("x-client-trace-id", long), hasClient: true},
		{name: "client id of 256 bytes", in: headerSet("x-client-trace-id", long[1:]), client: long[1:], hasClient: true},
		{name: "client id not ASCII", in: headerSet("x-client-trace-id", "é"), hasClient: true},
		{name: "O-4 two client ids", in: headerSet("x-client-trace-id", "a", "x-client-trace-id", "b"), client: "a,b", hasClient: true},
		{name: "D-11 force", in: headerSet("x-envoy-force-trace", "false"), force: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := RequestID().Extract(t.Context(), otelprop.HeaderCarrier(tt.in))
			s := reqctx.From(ctx)
			if s == nil {
				s = &reqctx.State{}
			}
			if got := requestid.FromContext(ctx); got != tt.id {
				t.Errorf("request id = %q, want %q", got, tt.id)
			}
			if client, ok := requestid.ClientTraceID(ctx); client != tt.client || ok != tt.hasClient {
				t.Errorf("client trace id = %q, %v, want %q, %v", client, ok, tt.client, tt.hasClient)
			}
			if s.ForceTrace != tt.force {
				t.Errorf("force trace = %v, want %v", s.ForceTrace, tt.force)
			}

			ctx = mustNew(t, Config{NoRequestID: true}).Extract(t.Context(), otelprop.HeaderCarrier(tt.in))
			if reqctx.From(ctx) != nil {
				t.Error("NoRequestID: there is a state")
			}
		})
	}
}

func TestSamplingFromContext(t *testing.T) {
	if got := SamplingFromContext(t.Context()); got != Unstated {
		t.Errorf("SamplingFromContext outside of a request = %v, want unstated", got)
	}
	for _, cfg := range []Config{{}, {NoRequestID: true}} {
		p := mustNew(t, cfg)
		for v, want := range map[string]Sampling{"0": Deny, "1": Accept, "d": Debug, b3: Accept, b3[:49]: Deferred} {
			ctx := p.Extract(t.Context(), otelprop.HeaderCarrier(headerSet("b3", v)))
			if got := SamplingFromContext(ctx); got != want {
				t.Errorf("NoRequestID=%v: SamplingFromContext after b3: %s = %v, want %v", cfg.NoRequestID, v, got, want)
			}
		}
	}
}

// TestComposite puts RequestID beside a Propagator without ids, in both orders: the
// second to extract must not lose what the first did.
func TestComposite(t *testing.T) {
	trace := mustNew(t, Config{Extract: []Format{B3}, Inject: []Format{B3}, NoRequestID: true})
	for name, p := range map[string]otelprop.TextMapPropagator{
		"ids last":  otelprop.NewCompositeTextMapPropagator(trace, RequestID()),
		"ids first": otelprop.NewCompositeTextMapPropagator(RequestID(), trace),
	} {
		for _, v := range []string{"0", "d", b3, b3[:49] + "-d", b3[:49]} {
			in := headerSet("b3", v, "x-request-id", requestUUID, "x-client-trace-id", "c")
			out := http.Header{}
			p.Inject(p.Extract(t.Context(), otelprop.HeaderCarrier(in)), otelprop.HeaderCarrier(out))
			if !reflect.DeepEqual(in, out) {
				t.Errorf("%s: b3 %s comes out as %v, want %v", name, v, out, in)
			}
		}
	}
}

// TestExtractInside extracts a message inside of a request that is served already.
func TestExtractInside(t *testing.T) {
	outer := &reqctx.State{
		Context: t.Context(), RequestID: requestUUID, ClientTraceID: "c", HasClientTraceID: true,
		ForceTrace: true, Sampling: uint8(Debug), Remote: remote(t, traceHex, spanHex, 1, ""),
	}
	outer.SetDecision(reqctx.Decision{Traced: true, Write: true, Reason: uint8(requestid.ClientForced)})
	p := mustNew(t, Config{})

	s := reqctx.From(p.Extract(outer, otelprop.HeaderCarrier(headerSet("b3", "0"))))
	if s == outer || s == nil {
		t.Fatal("no state of its own")
	}
	if want := string(requestid.ID(requestUUID).WithReason(requestid.ClientForced)); s.RequestID != want {
		t.Errorf("request id = %q, want the outer one with its digit, %q", s.RequestID, want)
	}
	if !s.HasClientTraceID || s.ClientTraceID != "c" || !s.ForceTrace {
		t.Errorf("state %+v lost what only the outer one says", s)
	}
	if s.Sampling != uint8(Deny) || s.Remote.IsValid() {
		t.Errorf("sampling %v, remote %v: the message's own must count", Sampling(s.Sampling), s.Remote)
	}
	if _, decided := s.Decision(); decided {
		t.Error("the outer decision counts for the message")
	}

	s = reqctx.From(p.Extract(outer, otelprop.HeaderCarrier(headerSet("x-request-id", "other"))))
	if s.RequestID != "other" || s.Sampling != uint8(Debug) || !s.Remote.Equal(outer.Remote) {
		t.Errorf("state %+v, want another id and the outer sampling state", s)
	}
}

// TestRoundTrip injects what was extracted: the second hop says what the first did.
func TestRoundTrip(t *testing.T) {
	formats := map[string]Config{
		"w3c":     {Extract: []Format{TraceContext}, Inject: []Format{TraceContext, Baggage}},
		"b3":      {Extract: []Format{B3}, Inject: []Format{B3}},
		"b3multi": {Extract: []Format{B3Multi}, Inject: []Format{B3Multi}},
		"all":     {Inject: []Format{TraceContext, B3, B3Multi, Baggage}},
	}
	for name, cfg := range formats {
		for _, in := range []http.Header{
			headerSet("traceparent", traceparent, "tracestate", "a=1, ,b=2,a=3"),
			headerSet("traceparent", "cc"+traceparent[2:]+"-more"),
			headerSet("b3", b3), headerSet("b3", b3[:49]+"-d"), headerSet("b3", b3[:49]), headerSet("b3", "0"), headerSet("b3", "d"),
			headerSet("x-b3-traceid", b3Trace64, "x-b3-spanid", strings.ToUpper(b3Span), "x-b3-sampled", "True"),
			headerSet("x-b3-sampled", "0"), headerSet("x-b3-flags", "1"),
		} {
			p := mustNew(t, cfg)
			once, twice := http.Header{}, http.Header{}
			p.Inject(p.Extract(t.Context(), otelprop.HeaderCarrier(in)), otelprop.HeaderCarrier(once))
			p.Inject(p.Extract(t.Context(), otelprop.HeaderCarrier(once)), otelprop.HeaderCarrier(twice))
			if !reflect.DeepEqual(once, twice) {
				t.Errorf("%s: %v goes out as %v, and that as %v", name, in, once, twice)
			}
		}
	}
}

// TestConcurrent shares one Propagator and the headers that came in, as a server does
// whose handler makes several calls at once.
func TestConcurrent(t *testing.T) {
	p := mustNew(t, Config{Inject: []Format{TraceContext, B3Multi, Baggage}})
	in := otelprop.HeaderCarrier(headerSet("traceparent", traceparent, "tracestate", "a=1,b=2", "baggage", "k=v", "x-request-id", requestUUID))
	ctx := p.Extract(t.Context(), in)
	want := http.Header{}
	p.Inject(ctx, otelprop.HeaderCarrier(want))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				got := http.Header{}
				p.Inject(ctx, otelprop.HeaderCarrier(got))
				p.Inject(p.Extract(t.Context(), in), otelprop.HeaderCarrier(got))
				if !reflect.DeepEqual(got, want) {
					t.Errorf("Inject = %v, want %v", got, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestPropagatorAllocs(t *testing.T) {
	p := mustNew(t, Config{})
	empty := otelprop.HeaderCarrier(headerSet("Accept", "*/*", "User-Agent", "x"))
	tp := otelprop.HeaderCarrier(headerSet("Accept", "*/*", "traceparent", traceparent, "x-request-id", requestUUID))
	single := otelprop.HeaderCarrier(headerSet("b3", b3))
	multi := otelprop.HeaderCarrier(headerSet("x-b3-traceid", traceHex, "x-b3-spanid", spanHex, "x-b3-sampled", "1"))
	alone := mustNew(t, Config{NoRequestID: true})
	lower := lowerCarrier{"traceparent": {traceparent}}
	ctx := context.Background()

	noAllocs(t, "Read of nothing", func() { p.Read(empty) })
	noAllocs(t, "Read of a traceparent", func() { p.Read(tp) })
	noAllocs(t, "Read of a traceparent in a ValuesGetter", func() { p.Read(lower) })
	noAllocs(t, "Read of a b3", func() { p.Read(single) })
	noAllocs(t, "Read of x-b3-*", func() { p.Read(multi) })
	noAllocs(t, "Extract of nothing", func() { p.Extract(ctx, empty) })

	in := p.Extract(ctx, tp)
	out := http.Header{"Accept": {"*/*"}}
	w3cAndID := func() {
		delete(out, "Traceparent")
		delete(out, "X-Request-Id")
		p.Inject(in, otelprop.HeaderCarrier(out))
	}
	b3Multi := mustNew(t, Config{Inject: []Format{B3Multi}})
	bag := otelprop.HeaderCarrier(headerSet("baggage", "customer=123,session=a%20b,request=7;p=1"))
	full := p.Extract(ctx, otelprop.HeaderCarrier(headerSet("traceparent", traceparent, "tracestate", "a=1,b=2",
		"x-request-id", requestUUID, "x-client-trace-id", "c")))
	state := trace.ContextWithSpanContext(ctx, trace.SpanContextFromContext(full))
	full = baggage.ContextWithBaggage(full, baggage.FromContext(p.Extract(ctx, otelprop.HeaderCarrier(headerSet("baggage", "a=1")))))
	for _, tt := range []struct {
		what string
		most float64
		f    func()
	}{
		// One node is the state, the context and the span.
		{"Extract of a traceparent and a request id", 1, func() { p.Extract(ctx, tp) }},
		{"Extract of a traceparent alone", 1, func() { alone.Extract(ctx, tp) }},
		{"Extract of a b3 alone", 1, func() { alone.Extract(ctx, single) }},
		// The traceparent, and one array for the values of both headers.
		{"Inject of traceparent and request id", 2, w3cAndID},
		// Both in one string, and one array for all values.
		{"Inject of traceparent and tracestate", 2, func() { p.Inject(state, otelprop.HeaderCarrier(out)) }},
		// The members and the text of the baggage beside these.
		{"Inject of everything", 4, func() {
			clear(out)
			p.Inject(full, otelprop.HeaderCarrier(out))
		}},
		// Two of a context, two of a map, and what OpenTelemetry's parser takes for each
		// member, its value and its property.
		{"Extract of baggage", 15, func() { p.Extract(ctx, bag) }},
		// Both ids in one string, and one array for all values.
		{"Inject of x-b3-* and request id", 2, func() { b3Multi.Inject(in, otelprop.HeaderCarrier(out)) }},
	} {
		if n := testing.AllocsPerRun(100, tt.f); n > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", tt.what, n, tt.most)
		}
	}
}

// TestExtractServed: the headers of a request that the middleware serves were read, and
// a second reader of the same ones does not hide its state and its span.
func TestExtractServed(t *testing.T) {
	p := RequestID()
	h := otelprop.HeaderCarrier{"X-Request-Id": {"125a4afb-6f55-44ba-ad80-413f09f48a28"}}
	served := &reqctx.State{Context: t.Context(), RequestID: "decided", Served: true, Carrier: h}
	if got := p.Extract(served, h); got != context.Context(served) {
		t.Errorf("Extract of the served request = %v, want the context unchanged", got)
	}
	other := otelprop.HeaderCarrier{"X-Request-Id": h["X-Request-Id"]}
	if got := reqctx.From(p.Extract(served, other)); got == served || got.RequestID != h.Get("x-request-id") {
		t.Errorf("Extract of other headers = %+v, want a state of their own", got)
	}
}
