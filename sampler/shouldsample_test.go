package sampler

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
)

// local is parent as a span of this process.
func local(sampled bool) trace.SpanContext { return parent(sampled).WithRemote(false) }

// under returns a context in which sc is the parent; an invalid one is none.
func under(ctx context.Context, sc trace.SpanContext) context.Context {
	if !sc.IsValid() {
		return ctx
	}
	return trace.ContextWithSpanContext(ctx, sc)
}

func TestShouldSample(t *testing.T) {
	decided := func(d reqctx.Decision) *reqctx.State {
		s := &reqctx.State{RequestID: string(plain)}
		s.SetDecision(d)
		return s
	}
	yes, no := reqctx.Decision{Traced: true, Why: uint8(InRandom)}, reqctx.Decision{Why: uint8(NotInRandom)}
	for _, c := range []struct {
		name   string
		state  *reqctx.State
		parent trace.SpanContext
		cfg    Config
		want   bool
		why    Why // Undecided: nothing was decided here
	}{
		{"local parent", nil, local(true), Config{Random: none}, true, Undecided},
		{"local parent, unsampled", nil, local(false), Config{}, false, Undecided},
		{"local parent beats the node", decided(no), local(true), Config{}, true, Undecided},
		{"node", decided(yes), trace.SpanContext{}, Config{Random: none}, true, Undecided},
		{"node, no", decided(no), trace.SpanContext{}, Config{}, false, Undecided},
		{"node beats a remote parent", decided(no), parent(true), Config{}, false, Undecided},
		{"id", &reqctx.State{RequestID: string(plain)}, trace.SpanContext{}, Config{}, true, InRandom},
		{"id, no", &reqctx.State{RequestID: string(plain)}, trace.SpanContext{}, Config{Random: none}, false, NotInRandom},
		{"id, D-6", &reqctx.State{RequestID: string(nine)}, trace.SpanContext{}, Config{Random: none}, true, EarlierHop},
		{"id, D-7", &reqctx.State{RequestID: string(plain), HasClientTraceID: true}, trace.SpanContext{}, Config{Random: none}, true, ClientJoined},
		{"id, D-8", &reqctx.State{RequestID: string(plain), ForceTrace: true}, trace.SpanContext{}, Config{Random: none}, true, Forced},
		{"id, W-13", &reqctx.State{RequestID: string(plain)}, parent(false), Config{}, false, CallerDoesNot},
		{"id, W-14", &reqctx.State{RequestID: string(plain)}, parent(true), Config{Random: none}, false, Vetoed},
		{"id, denied", &reqctx.State{RequestID: string(plain), Sampling: uint8(propagation.Deny)}, trace.SpanContext{}, Config{}, false, Denied},
		{"id, deferred", &reqctx.State{RequestID: string(plain), Sampling: uint8(propagation.Deferred)}, parent(false), Config{}, true, InRandom},
		{"id, debug", &reqctx.State{RequestID: string(plain), Sampling: uint8(propagation.Debug)}, trace.SpanContext{}, Config{Random: none}, true, Debugged},
		{"foreign id", &reqctx.State{RequestID: string(word)}, trace.SpanContext{}, Config{Random: Of(76, Hundred)}, true, TraceInRandom},
		{"foreign id, no", &reqctx.State{RequestID: string(word)}, trace.SpanContext{}, Config{Random: Of(75, Hundred)}, false, TraceNotInRandom},
		{"trace id", nil, trace.SpanContext{}, Config{Random: Of(76, Hundred)}, true, TraceInRandom},
		{"trace id, no", nil, trace.SpanContext{}, Config{Random: Of(75, Hundred)}, false, TraceNotInRandom},
		{"caller", nil, parent(true), Config{Random: none}, true, CallerTraces},
		{"caller, no", nil, parent(false), Config{}, false, CallerDoesNot},
		{"caller, overall", nil, parent(true), Config{Overall: none}, false, Vetoed},
	} {
		s := mustNew(t, c.cfg)
		ctx := t.Context()
		if c.state != nil {
			c.state.Context = ctx
			ctx = c.state
		}
		got := s.ShouldSample(sdktrace.SamplingParameters{ParentContext: under(ctx, c.parent), TraceID: traceID})
		if traced := got.Decision == sdktrace.RecordAndSample; traced != c.want || !traced && got.Decision != sdktrace.Drop {
			t.Errorf("%s: %v, want traced: %v", c.name, got.Decision, c.want)
		}
		if got.Tracestate.String() != c.parent.TraceState().String() {
			t.Errorf("%s: tracestate %q, want the parent's %q", c.name, got.Tracestate, c.parent.TraceState())
		}
		var attrs []attribute.KeyValue
		counts := map[string]uint64{}
		if c.why != Undecided {
			attrs = []attribute.KeyValue{semconv.SamplingReason.String(c.why.String())}
			counts[c.why.String()] = 1
		}
		if len(got.Attributes) != len(attrs) || len(attrs) == 1 && got.Attributes[0] != attrs[0] {
			t.Errorf("%s: attributes %v, want %v", c.name, got.Attributes, attrs)
		}
		all := s.Counts()
		for _, envoy := range []string{"client_enabled", "random_sampling", "service_forced", "not_traceable", "health_check"} {
			delete(all, envoy)
		}
		if !cmp.Equal(all, counts) {
			t.Errorf("%s: Counts() = %v, want %v", c.name, all, counts)
		}
		if c.state == nil || c.why == Undecided {
			continue
		}
		if d, ok := c.state.Decision(); !ok || d.Traced != c.want || Why(d.Why) != c.why {
			t.Errorf("%s: the node has %+v, %v", c.name, d, ok)
		}
	}
}

func TestShouldSampleWithoutContext(t *testing.T) {
	s := mustNew(t, Config{})
	if got := s.ShouldSample(sdktrace.SamplingParameters{ParentContext: nil, TraceID: traceID}); got.Decision != sdktrace.RecordAndSample {
		t.Errorf("ShouldSample without a context: %v", got.Decision)
	}
}

func TestShouldSampleLeavesItsDecision(t *testing.T) {
	s := mustNew(t, Config{})
	state := &reqctx.State{Context: t.Context(), RequestID: string(plain)}
	p := sdktrace.SamplingParameters{ParentContext: state, TraceID: traceID}
	s.ShouldSample(p)
	if got := requestid.FromContext(state); got != nine {
		t.Errorf("the id goes out as %q, want %q", got, nine)
	}
	s.ShouldSample(p) // a second span of the request
	if got := s.Counts()[InRandom.String()]; got != 1 {
		t.Errorf("the request was decided %d times", got)
	}
}

func TestShouldSampleOneDecisionARequest(t *testing.T) {
	for range 50 {
		s := mustNew(t, Config{PerSecond: 1}) // one of them would be traced, the others not
		state := &reqctx.State{Context: t.Context(), RequestID: string(plain)}
		var wg sync.WaitGroup
		got := make([]sdktrace.SamplingDecision, 8)
		for i := range got {
			wg.Go(func() {
				got[i] = s.ShouldSample(sdktrace.SamplingParameters{ParentContext: state, TraceID: traceID}).Decision
			})
		}
		wg.Wait()
		d, _ := state.Decision()
		want := sdktrace.Drop
		if d.Traced {
			want = sdktrace.RecordAndSample
		}
		for i := range got {
			if got[i] != want {
				t.Fatalf("span %d: %v, but the request is decided as %+v", i, got[i], d)
			}
		}
	}
}

// hasty is a Base that decides the request elsewhere while it is asked.
type hasty struct{ state *reqctx.State }

func (h hasty) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	h.state.SetDecision(reqctx.Decision{Traced: false, Why: uint8(Limited)})
	return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
}

func (hasty) Description() string { return "hasty" }

func TestShouldSampleObeysWhoWasFirst(t *testing.T) {
	state := &reqctx.State{Context: t.Context(), RequestID: string(plain)}
	s := mustNew(t, Config{Base: hasty{state}})
	got := s.ShouldSample(sdktrace.SamplingParameters{ParentContext: under(state, parent(true)), TraceID: traceID})
	if got.Decision != sdktrace.Drop || got.Tracestate.String() != "vendor=1" {
		t.Errorf("ShouldSample = %+v, want the decision that was there first: Drop", got)
	}
}

func TestShouldSampleBase(t *testing.T) {
	own, _ := trace.ParseTraceState("own=1")
	attr := attribute.String("base", "says")
	state := func(sampling propagation.Sampling) *reqctx.State {
		return &reqctx.State{Context: t.Context(), RequestID: string(plain), Sampling: uint8(sampling)}
	}
	reason := func(w Why) attribute.KeyValue { return semconv.SamplingReason.String(w.String()) }
	for _, c := range []struct {
		name   string
		says   sdktrace.SamplingResult
		cfg    Config
		state  *reqctx.State
		parent trace.SpanContext
		want   sdktrace.SamplingResult
	}{
		{
			"yes, with its own tracestate and attributes",
			sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: own, Attributes: []attribute.KeyValue{attr}},
			Config{}, state(0), parent(true),
			sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: own, Attributes: []attribute.KeyValue{attr, reason(BaseTraces)}},
		},
		{
			"W-17 an empty tracestate drops the parent's",
			sdktrace.SamplingResult{Decision: sdktrace.Drop},
			Config{}, state(0), parent(true),
			sdktrace.SamplingResult{Decision: sdktrace.Drop, Attributes: []attribute.KeyValue{reason(BaseDoesNot)}},
		},
		{
			"record only",
			sdktrace.SamplingResult{Decision: sdktrace.RecordOnly, Tracestate: own},
			Config{}, state(0), trace.SpanContext{},
			sdktrace.SamplingResult{Decision: sdktrace.RecordOnly, Tracestate: own, Attributes: []attribute.KeyValue{reason(BaseDoesNot)}},
		},
		{
			"vetoed: not asked, so the parent's tracestate stays",
			sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: own},
			Config{Random: none}, state(0), parent(true),
			sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: parent(true).TraceState(), Attributes: []attribute.KeyValue{reason(Vetoed)}},
		},
		{
			"deferred: asked as about a root, so the parent's tracestate stays",
			sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample},
			Config{}, state(propagation.Deferred), parent(false),
			sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: parent(false).TraceState(), Attributes: []attribute.KeyValue{reason(BaseTraces)}},
		},
	} {
		base := &asked{result: c.says}
		c.cfg.Base = base
		got := mustNew(t, c.cfg).ShouldSample(sdktrace.SamplingParameters{
			ParentContext: under(c.state, c.parent), TraceID: traceID, Name: "span", Kind: trace.SpanKindConsumer,
		})
		if got.Decision != c.want.Decision || got.Tracestate.String() != c.want.Tracestate.String() {
			t.Errorf("%s: %v, tracestate %q, want %v, %q", c.name, got.Decision, got.Tracestate, c.want.Decision, c.want.Tracestate)
		}
		if len(got.Attributes) != len(c.want.Attributes) || attribute.NewSet(got.Attributes...) != attribute.NewSet(c.want.Attributes...) {
			t.Errorf("%s: attributes %v, want %v", c.name, got.Attributes, c.want.Attributes)
		}
		for _, p := range base.calls {
			if p.Name != "span" || p.Kind != trace.SpanKindConsumer || p.TraceID != traceID {
				t.Errorf("%s: Base was asked about %+v", c.name, p)
			}
		}
	}
}

func TestShouldSampleRules(t *testing.T) {
	s := mustNew(t, Config{Random: none, Rules: []Rule{
		{Method: "GET", Route: "/livez", Drop: true},
		{Route: "/carts/*", Shares: Shares{Random: all}},
		{Route: "/shop.Cart/Get", Drop: true},
		{Header: "X-Tenant: gold", Shares: Shares{Random: all}},
	}})
	routed := &reqctx.State{RequestID: string(plain)}
	routed.SetRoute("/carts/{id}")
	for _, c := range []struct {
		name  string
		state *reqctx.State
		attrs []attribute.KeyValue
		want  Why
	}{
		{"none", &reqctx.State{RequestID: string(plain)}, nil, NotInRandom},
		{"method and route", nil, []attribute.KeyValue{semconv.HTTPRequestMethod.String("GET"), semconv.HTTPRoute.String("/livez")}, HealthCheck},
		{"other method", &reqctx.State{RequestID: string(plain)}, []attribute.KeyValue{semconv.HTTPRequestMethod.String("PUT"), semconv.HTTPRoute.String("/livez")}, NotInRandom},
		{"route", &reqctx.State{RequestID: string(plain)}, []attribute.KeyValue{semconv.HTTPRoute.String("/carts/{id}")}, InRandom},
		{"route of the request", routed, nil, InRandom},
		{"rpc", nil, []attribute.KeyValue{semconv.RPCMethod.String("shop.Cart/Get")}, HealthCheck},
		{"rpc, method alone", &reqctx.State{RequestID: string(plain)}, []attribute.KeyValue{semconv.RPCMethod.String("Get")}, NotInRandom},
		{"header", &reqctx.State{RequestID: string(plain), Carrier: otelprop.MapCarrier{"X-Tenant": "gold"}}, nil, InRandom},
		{"other header", &reqctx.State{RequestID: string(plain), Carrier: otelprop.MapCarrier{"X-Tenant": "tin"}}, nil, NotInRandom},
	} {
		ctx := t.Context()
		if c.state != nil {
			c.state.Context = ctx
			ctx = c.state
		}
		got := s.ShouldSample(sdktrace.SamplingParameters{ParentContext: ctx, TraceID: traceID, Attributes: c.attrs})
		if len(got.Attributes) != 1 || got.Attributes[0].Value.AsString() != c.want.String() {
			t.Errorf("%s: %v, want %v", c.name, got.Attributes, c.want)
		}
	}
}

// TestUnderTheSDK joins provider, Propagator and sampler as otelhttp would.
func TestUnderTheSDK(t *testing.T) {
	s := mustNew(t, Config{Random: Of(7324, TenThousand)})
	tp := sdktrace.NewTracerProvider(sdktrace.WithSampler(s))
	defer tp.Shutdown(context.Background())
	p, err := propagation.New(propagation.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		in      http.Header
		sampled bool
		id      requestid.ID
	}{
		{"D-9", http.Header{"X-Request-Id": {string(plain)}}, true, nine},
		{"D-9, no", http.Header{"X-Request-Id": {"00002700-6f55-44ba-ad80-413f09f48a28"}}, false, "00002700-6f55-44ba-ad80-413f09f48a28"},
		{"D-8", http.Header{"X-Request-Id": {"00002700-6f55-44ba-ad80-413f09f48a28"}, "X-Envoy-Force-Trace": {""}}, true, "00002700-6f55-a4ba-ad80-413f09f48a28"},
		{"W-13, no", http.Header{"X-Request-Id": {string(plain)}, "Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}}, false, nine},
		{"W-14", http.Header{"X-Request-Id": {"00002700-6f55-44ba-ad80-413f09f48a28"}, "Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}, false, "00002700-6f55-44ba-ad80-413f09f48a28"},
		{"B-4", http.Header{"X-Request-Id": {string(plain)}, "B3": {"0"}}, false, nine},
		{"deferred", http.Header{"X-Request-Id": {string(plain)}, "B3": {"463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312"}}, true, nine},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, server := tp.Tracer("t").Start(p.Extract(t.Context(), otelprop.HeaderCarrier(c.in)), "server", trace.WithSpanKind(trace.SpanKindServer))
			childCtx, child := tp.Tracer("t").Start(ctx, "child")
			_, root := tp.Tracer("t").Start(ctx, "root", trace.WithNewRoot())
			for name, span := range map[string]trace.Span{"server": server, "child": child, "new root": root} {
				if got := span.SpanContext().IsSampled(); got != c.sampled {
					t.Errorf("%s span: sampled %v, want %v", name, got, c.sampled)
				}
			}
			out := otelprop.MapCarrier{}
			p.Inject(childCtx, out)
			if got := requestid.ID(out.Get("x-request-id")); got != c.id {
				t.Errorf("x-request-id goes out as %q, want %q", got, c.id)
			}
		})
	}
}

func TestShouldSampleAllocs(t *testing.T) {
	s := mustNew(t, Config{Rules: []Rule{{Route: "/livez", Drop: true}}})
	decided := &reqctx.State{Context: t.Context()}
	decided.SetDecision(reqctx.Decision{Traced: true})
	p := func(ctx context.Context) sdktrace.SamplingParameters {
		return sdktrace.SamplingParameters{ParentContext: ctx, TraceID: traceID}
	}
	undecided := make([]*reqctx.State, 0, 200)
	for range cap(undecided) {
		undecided = append(undecided, &reqctx.State{Context: t.Context(), RequestID: string(plain)})
	}
	i := 0
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"local parent", func() { s.ShouldSample(p(under(decided, local(true)))) }},
		{"node", func() { s.ShouldSample(p(decided)) }},
		{"id", func() { s.ShouldSample(p(undecided[i])); i++ }},
		{"trace id", func() { s.ShouldSample(p(decided.Context)) }},
	} {
		want := 0.0
		if c.name == "local parent" {
			want = testing.AllocsPerRun(100, func() { _ = p(under(decided, local(true))) }) // making the context
		}
		if n := testing.AllocsPerRun(100, c.f); n != want {
			t.Errorf("ShouldSample by %s: %v allocations, want %v", c.name, n, want)
		}
	}
}

// W-16: the span of a call that a gateway passes on is Base's alone to decide.
func TestShouldSampleSpawned(t *testing.T) {
	own, err := trace.ParseTraceState("own=1")
	if err != nil {
		t.Fatal(err)
	}
	yes := sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: own}
	with := func(d reqctx.Decision) *reqctx.State {
		st := &reqctx.State{Context: context.Background()}
		st.SetDecision(d)
		return st
	}
	vetoed, limited := with(reqctx.Decision{Why: uint8(Vetoed)}), with(reqctx.Decision{Why: uint8(Limited)})
	local := trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: trace.SpanID{1}})
	for _, c := range []struct {
		name    string
		cfg     Config
		state   *reqctx.State
		spawned bool
		asked   bool
	}{
		{"W-16", Config{AskAlways: true}, vetoed, true, true},
		{"outside of any request", Config{AskAlways: true}, nil, true, true},
		{"another span of the request", Config{AskAlways: true}, vetoed, false, false},
		{"without AskAlways", Config{}, vetoed, true, false},
		{"a limit of this hop's", Config{AskAlways: true}, limited, true, false},
	} {
		base := &asked{result: yes}
		c.cfg.Base = base
		ctx := context.Background()
		if c.state != nil {
			ctx = c.state
		}
		ctx = trace.ContextWithSpanContext(ctx, local)
		if c.spawned {
			ctx = &reqctx.Spawn{Context: ctx}
		}
		got := mustNew(t, c.cfg).ShouldSample(sdktrace.SamplingParameters{ParentContext: ctx, TraceID: traceID})
		if asked := len(base.calls) > 0; asked != c.asked || (got.Decision == sdktrace.RecordAndSample) != c.asked || (got.Tracestate.Len() > 0) != c.asked {
			t.Errorf("%s: Base asked: %v, %v, tracestate %q, want asked: %v", c.name, asked, got.Decision, got.Tracestate, c.asked)
		}
	}
	none := mustNew(t, Config{AskAlways: true}).ShouldSample(sdktrace.SamplingParameters{
		ParentContext: &reqctx.Spawn{Context: trace.ContextWithSpanContext(vetoed, local)}, TraceID: traceID,
	})
	if none.Decision != sdktrace.Drop {
		t.Errorf("without Base: %v, want the parent's no", none.Decision)
	}
}
