package middleware

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"unsafe"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/meshtrace/meshtrace/internal/callspan"
	"github.com/meshtrace/meshtrace/internal/failure"
	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

// Incoming is something that reached this program and is served: a request, a
// message, a timer that went off.
type Incoming struct {
	// Name is the span's name at its start; "" is Method.
	Name string
	// Kind is the span's kind; the zero value is SERVER.
	Kind trace.SpanKind
	// Carrier has the headers that came along; nil starts a new trace with a new id.
	Carrier otelprop.TextMapCarrier
	// Peer is the direct peer's address; invalid when unknown.
	Peer netip.Addr
	// Unix is a peer on a unix socket, which has no address.
	Unix bool
	// Method is the HTTP method, or gRPC's full method "/package.Service/Method".
	// Sampling rules and health checks go by it.
	Method string
	// Trusted is a queue of one's own: Config.Edge does not apply.
	Trusted bool
	// Route is the route if it is known already; otherwise span.SetRoute tells it
	// while the request is served.
	Route Route
	// Links go on the span beside those that disagreeing headers make.
	Links []trace.Link
	// Attributes go on the span at its start.
	Attributes []attribute.KeyValue

	// Scheme, Authority, Path and Protocol are the rest of an HTTP request for the tags
	// of a gateway: "https", "shop.example:8080", "/carts?id=7", "HTTP/1.1". "" is unknown.
	Scheme, Authority, Path, Protocol string

	health  bool          // a health check by its path, or filtered
	refused bool          // a gateway refuses it before it looks for a route
	request *http.Request // Handler's, for hooks
	arrived *http.Request // Handler's, to describe
}

// Outgoing is a call this program makes.
type Outgoing struct {
	// Name is the span's name; "" in a gateway is "router <cluster> egress" (N-3).
	Name string
	// Kind is the span's kind; the zero value is CLIENT.
	Kind trace.SpanKind
	// Carrier receives trace context and ids; nil sends none.
	Carrier otelprop.TextMapCarrier
	// Method is the HTTP method, or gRPC's full method "/package.Service/Method", as
	// Config's hooks see it; "" is unknown.
	Method string
	// Attributes go on the span at its start.
	Attributes []attribute.KeyValue
	// Upstream is where a gateway sends the call; what it leaves out is the route's.
	Upstream Upstream

	request  *http.Request // Transport's, for hooks
	sent     *http.Request // Transport's, to describe
	watched  *watchedCall  // made for sent where something is recorded
	filtered bool          // no span
}

// Outcome is what is known of a call when it ends. All of it is optional.
type Outcome struct {
	// HTTPStatus is the status code of the response; 0 is none.
	HTTPStatus int
	// GRPCStatus is the gRPC status code in decimal, as it stands in grpc-status;
	// "" is none. Both statuses may be there, and then this one decides (S-2).
	GRPCStatus string
	// GRPCMessage is grpc-message as it came, for the tags of a gateway; "" is none.
	GRPCMessage string
	// Protocol is that of a gateway's call upstream, such as "HTTP/2"; "" is unknown.
	Protocol string
	// RequestBytes and ResponseBytes are body sizes; 0 is none or unknown.
	RequestBytes, ResponseBytes int64
	// Flags are Envoy's response flags in the order in which they were set (T-7).
	Flags []string
	// Upstream is where a proxy sent the call.
	Upstream Upstream
	// Response has the headers of the response, for Config.ResponseHeaders; nil is
	// none.
	Response otelprop.TextMapCarrier
	// Err is why the call failed, beside or instead of a status.
	Err error
}

// Call is a started server or client call. It belongs to one goroutine; its span
// may be used by many. The first End counts.
type Call struct {
	tracing  *Tracing
	span     trace.Span
	rec      *callspan.Span // what span is, where it is one of ours that records
	state    *reqctx.State  // of the request around the call; nil outside any
	server   bool
	owned    bool // the span was started by this call, not by one around it
	emptyID  bool // the request came with an id that is empty, and keeps it
	counted  bool // the decision, or it is not to be
	rpc      bool // method is gRPC's
	named    bool // the name is not the route's to change
	ended    bool
	version  uint8 // of a response's HTTP: major and minor, four bits each; 0 is none
	kind     trace.SpanKind
	method   string
	name     string        // of the span
	request  *http.Request // nil for what is not net/http's
	m        *measured     // nil: not measured
	way      *way          // nil: not followed
	route    string        // known at the start
	client   netip.Addr
	decision sampler.Decision
	gateway  *proxied // what a gateway knows of the request; nil in a service
	attempt  *attempt // of a gateway's call upstream that is recorded; nil: none
}

// served is what the context of a served request holds, in one allocation.
type served struct {
	reqctx.State
	carried reqctx.Span
	ids     trace.SpanContext // the parent's; of a request that is not traced its own
}

// serverCall is a served request under way. Of a request that is neither traced nor
// answered in any way of ours it never leaves the stack.
type serverCall struct {
	Call
	*served
	origin origin
}

// carry returns a span of c.ids that records nothing.
func (c *serverCall) carry() trace.Span {
	c.carried = reqctx.Carrying(&c.ids)
	return &c.carried
}

// untracedSpan carries ids and records nothing.
type untracedSpan struct {
	noop.Span
	sc trace.SpanContext
}

// SpanContext returns the ids that travel.
func (s *untracedSpan) SpanContext() trace.SpanContext { return s.sc }

// Start options without attributes, made once: each would cost an allocation a call.
var startKind = [...][]trace.SpanStartOption{
	trace.SpanKindInternal: {trace.WithSpanKind(trace.SpanKindInternal)},
	trace.SpanKindServer:   {trace.WithSpanKind(trace.SpanKindServer)},
	trace.SpanKindClient:   {trace.WithSpanKind(trace.SpanKindClient)},
	trace.SpanKindProducer: {trace.WithSpanKind(trace.SpanKindProducer)},
	trace.SpanKindConsumer: {trace.WithSpanKind(trace.SpanKindConsumer)},
}

// kindOr returns k, or def where it is unspecified; a kind that does not exist is
// INTERNAL, as in the SDK.
func kindOr(k, def trace.SpanKind) trace.SpanKind {
	if k == trace.SpanKindUnspecified {
		return def
	}
	return trace.ValidateSpanKind(k)
}

// StartServer starts the span of something that reached this program, in Envoy's
// order: request id, context, decision, reason digit, span. The context carries
// ids and trace to every call made under it. The caller ends the Call.
//
// It is what Handler and the gRPC interceptors are made of, for transports that
// meshtrace does not know. It may be called concurrently.
func (t *Tracing) StartServer(ctx context.Context, in Incoming) (context.Context, *Call) {
	var c struct {
		serverCall
		served
		node reqctx.Node
	}
	c.serverCall.served = &c.served
	t.enter(ctx, &in, &c.serverCall)
	ctx = t.start(&in, &c.serverCall, &c.node)
	if t.meters != nil {
		c.m = t.beginAttributes(ctx, c.kind, in.Attributes)
	}
	return ctx, &c.Call
}

// enter takes up a request: it reads its headers and decides about it. A server that has a
// goroutine for each request, such as gRPC's, pays for a deep stack each time: what takes
// room on it returns before the span is started.
func (t *Tracing) enter(ctx context.Context, in *Incoming, c *serverCall) {
	arrived := t.receive(ctx, in, c)
	t.admit(in, c, arrived)
}

// traced tells whether the request has a span that records.
func (c *serverCall) traced() bool { return c.decision.Traced && !c.State.Null }

// start starts the span of a request, and returns the context for whoever serves it, of
// which node may become a part.
func (t *Tracing) start(in *Incoming, c *serverCall, node *reqctx.Node) context.Context {
	if c.traced() {
		return t.startTraced(in, c, node)
	}
	s := &c.State
	if s.Null {
		c.ids = trace.SpanContext{} // W-6: a null span has none
	} else {
		c.ids = t.untracedContext(c.ids, s) // O-3
	}
	c.span = c.carry()
	return s.WithSpan(c.span)
}

// receive reads the headers into c, the parent into c.ids, and returns the request id as
// it arrived.
func (t *Tracing) receive(ctx context.Context, in *Incoming, c *serverCall) (arrived string) {
	ext := t.propagator.Read(in.Carrier)
	if ext.Err != nil {
		t.refused.Add(1)
	}
	if ext.Other.IsValid() {
		t.disagreed.Add(1)
	}
	src := headers.NewSource(in.Carrier)
	ids := src.IDs()
	if t.names != envoyNames { // ED-14
		ids.Force = len(src.Lines(&t.names.forceTrace)) > 0
	}
	c.origin = origin{client: in.Peer, internal: true}
	if t.edge != nil && !in.Trusted {
		c.origin = t.edge.origin(in.Peer, in.Unix, src.Lines(&forwardedFor))
		if c.origin.stranger() {
			ids.Force = false // ED-10, ED-12
			t.edge.receive(&ext)
		}
	} else if t.edge == nil {
		t.noteStranger(in, &src)
	}
	c.ids = ext.SpanContext
	if around := trace.SpanFromContext(ctx); around != nothing {
		t.goBelow(c, around.SpanContext(), &ext)
	}

	s := &c.State
	s.Context = ctx
	s.Carrier = in.Carrier
	s.Sampling = uint8(ext.Sampling)
	s.Remote = ext.SpanContext
	s.Format = uint8(ext.Format)
	s.Null = ext.Null
	s.Served = true
	s.B3Parent = ext.Parent
	s.Tracestate = ext.Tracestate
	s.Forward = ext.Forward
	s.ClientTraceID, s.HasClientTraceID, s.ForceTrace = ids.ClientTrace, ids.HasClientTrace, ids.Force
	call := &c.Call // its fields one by one: it is zero, and a copy takes room on the stack
	call.tracing, call.state, call.server, call.owned = t, s, true, true
	call.method, call.rpc, call.request = in.Method, strings.HasPrefix(in.Method, "/"), in.request
	call.route, call.client = in.Route.Pattern, c.origin.client
	c.kind = kindOr(in.Kind, trace.SpanKindServer)
	if t.role == Gateway {
		c.gateway = newProxied(in)
		c.gateway.client = c.origin.client
		s.Gateway = c.gateway
		if c.rpc {
			in.Name = t.defaultName(&c.gateway.request)
		}
	}
	if t.zipkin != nil && t.shares(ext.Format) && c.kind == trace.SpanKindServer && c.ids.IsRemote() && c.ids.SpanID() == ext.SpanContext.SpanID() {
		s.SpanID = c.ids.SpanID()
	}
	if ext.Baggage.Len() > 0 {
		// Below the request's node, so that the state needs no second context.
		s.Context = baggage.ContextWithBaggage(ctx, ext.Baggage)
	}
	if ext.Other.IsValid() {
		in.link(ext.Other)
	}
	return ids.Request
}

// nothing is the span of a context that has none.
var nothing = trace.SpanFromContext(context.Background())

// goBelow puts the request below a span that another instrumentation of this process
// started, or found in the headers before: what that knew nothing of is a link.
//
//go:noinline
func (t *Tracing) goBelow(c *serverCall, sc trace.SpanContext, ext *propagation.Extraction) {
	parent := &ext.SpanContext
	if !sc.IsValid() || sc.IsRemote() && parent.IsValid() {
		return
	}
	if parent.IsValid() && parent.TraceID() != sc.TraceID() && !ext.Other.IsValid() {
		ext.Other = *parent
		t.disagreed.Add(1)
	}
	c.ids = sc
}

// link adds a link to the span that is to be.
//
//go:noinline
func (in *Incoming) link(sc trace.SpanContext) {
	in.Links = append(in.Links[:len(in.Links):len(in.Links)], trace.Link{SpanContext: sc})
}

// admit decides about the request and what that makes of its id.
func (t *Tracing) admit(in *Incoming, c *serverCall, arrived string) {
	id := t.decide(in, c, arrived)
	if c.gateway != nil {
		src := headers.NewSource(in.Carrier)
		c.emptyID = id == "" && arrived == "" && len(src.Lines(&headers.RequestID)) > 0
		c.decorate(&in.Route, &src)
	}
	if c.decision.Write {
		id = id.WithReason(c.decision.Reason)
	}
	c.State.RequestID = string(id)
	c.State.SetDecision(reqctx.Decision{
		Traced: c.decision.Traced,
		Write:  c.decision.Write,
		Reason: uint8(c.decision.Reason),
		Why:    uint8(c.decision.Why),
	})
}

// decide settles the request id and the sampling decision and returns the id as
// it was before its digit is written.
func (t *Tracing) decide(in *Incoming, c *serverCall, arrived string) requestid.ID {
	id, change := t.policy.Next(arrived, c.origin.edge)
	t.ids.Add(int(change), unsafe.Pointer(c.served))
	if t.disabled {
		c.counted = true
		return id // D-1: no decision, so no digit
	}
	s := &c.State
	req := sampler.Request{
		ID:       id,
		Client:   s.HasClientTraceID,
		Force:    s.ForceTrace,
		Parent:   c.ids,
		Sampling: propagation.Sampling(s.Sampling),
		Method:   in.Method,
		Route:    in.Route.Pattern,
		Draw:     rand.Uint32(),
		Trace:    c.ids.TraceID(),

		HealthCheck: in.health,
		Stranger:    c.origin.stranger(),
		Shares:      in.Route.Sampling,
	}
	if !c.ids.IsValid() {
		s.TraceID, s.SpanID = t.newIDs()
		req.Trace = s.TraceID
	}
	if t.role == Gateway && !t.asksBase {
		req.Trace = trace.TraceID{} // D-3
	}
	if c.rpc {
		req.Route = in.Method
		req.HealthCheck = t.health.match(in.Method)
	}
	if h, ok := in.Carrier.(otelprop.HeaderCarrier); ok && t.headerRules {
		req.Header = h.Get
	}
	switch {
	case in.refused:
		c.decision = sampler.Decision{Why: sampler.Refused}
	case t.asksBase || t.role == Gateway:
		c.judge(&req)
	default:
		c.decision, c.counted = t.sampler.Decide(req), true
	}
	if !c.decision.Traced && c.decision.Reason != requestid.NotTraceable && t.role == Service {
		// Envoy writes its own decision, whatever the caller's flag makes of it (D-9, D-26). A
		// service's own shares are mostly 100 %: the id of each request that the proxy before it
		// did not trace would say from here on that it is traced.
		c.decision.Write = false
	}
	return id
}

// judge decides, and keeps what Base said.
func (c *serverCall) judge(req *sampler.Request) {
	t, s := c.tracing, &c.State
	v := t.sampler.Judge(*req)
	c.decision = v.Decision
	if t.role != Gateway {
		c.count() // D-27: a gateway counts what was answered
	}
	if v.Asked {
		s.Answer = &reqctx.Answer{Attributes: v.Base.Attributes, TraceState: v.Base.Tracestate}
	}
}

// startTraced starts the recording span of a request and returns its context.
func (t *Tracing) startTraced(in *Incoming, c *serverCall, node *reqctx.Node) context.Context {
	s := &c.State
	var ctx context.Context = s
	switch {
	case !c.ids.IsValid() || !c.ids.IsRemote():
	case s.SpanID.IsValid(): // B-11
		ctx = s.WithSpan(&sharedParent{untracedSpan{sc: c.ids.WithSpanID(s.B3Parent)}, s.SpanID})
	default:
		ctx = s.WithSpan(c.carry())
	}
	c.name = in.Name
	switch {
	case c.name != "":
	case c.gateway != nil:
		c.name = t.defaultName(&c.gateway.request)
	default:
		c.name = in.Method
	}
	if t.spans != nil {
		sp := t.spans.Prepare(ctx, t.usual(in.arrived != nil, httpServerAttributes, rpcServerAttributes), c.name, c.kind, in.Links)
		if sp.IsRecording() {
			a := attrs{list: sp.Room()}
			t.arrival(&a, in, c)
			sp.Fill(c.edited(&a))
		}
		ctx = sp.Start(ctx, node)
		c.span, c.rec = sp, sp
	} else {
		ctx = t.startOther(ctx, in, c)
	}
	c.rename(in)
	s.Span = c.span
	return ctx
}

// startOther starts the span of a request by the provider.
func (t *Tracing) startOther(ctx context.Context, in *Incoming, c *serverCall) context.Context {
	opts := startKind[c.kind]
	if len(in.Links) > 0 {
		opts = append(opts[:len(opts):len(opts)], trace.WithLinks(in.Links...))
	}
	a := t.attrs()
	t.arrival(a, in, c)
	if t.ours {
		ctx, c.span = t.tracer.Start(ctx, c.name, opts...)
		c.put(a)
		return ctx
	}
	// The caller's sampler may want the attributes.
	opts = append(opts[:len(opts):len(opts)], trace.WithAttributes(c.edited(a)...))
	ctx, c.span = t.tracer.Start(ctx, c.name, opts...)
	a.put()
	return ctx
}

// arrival adds what a request's span says from the start.
func (t *Tracing) arrival(attrs *attrs, in *Incoming, c *serverCall) {
	s := &c.State
	if t.edge == nil {
		in.meet()
		c.client = in.Peer
		if c.gateway != nil {
			c.gateway.client = in.Peer
		}
	}
	attrs.add(in.Attributes...)
	if s.RequestID != "" || c.emptyID {
		attrs.str(semconv.EnvoyRequestID, s.RequestID)
	}
	if s.HasClientTraceID {
		attrs.str(semconv.EnvoyClientTraceID, s.ClientTraceID)
	}
	attrs.str(semconv.SamplingReason, c.decision.Why.String())
	if in.arrived != nil {
		c.describe(attrs, in) // with the others: a list that grows grows once
	}
	if c.gateway != nil {
		attrs.add(semconv.EnvoyNodeID.String(t.proxy.Node), semconv.EnvoyZone.String(t.proxy.Zone))
	}
	if len(t.requestHeaders) > 0 {
		attrs.capture(t.requestHeaders, in.Carrier, c.rpc)
	}
}

// Attributes that spans usually have; more of them cost an allocation.
const (
	rpcClientAttributes  = 5
	rpcServerAttributes  = 9
	httpClientAttributes = 7
	httpServerAttributes = 16
	proxyAttributes      = 36 // of a gateway, on both sides
)

// usual returns how many attributes the span of a call will have.
func (t *Tracing) usual(http bool, ofHTTP, ofOther int) int {
	switch {
	case t.role == Gateway:
		return proxyAttributes
	case http:
		return ofHTTP
	}
	return ofOther
}

// rename gives the span the name that a decorator or a gateway's peer has for it. The
// sampler was asked by the first one.
func (c *serverCall) rename(in *Incoming) {
	name := in.Route.Decorator.Operation
	if c.tracing.callerNames && !c.origin.stranger() {
		src := headers.NewSource(in.Carrier)
		if caller := headers.Joined(src.Lines(&c.tracing.names.operation)); caller != "" {
			name = semconv.Cut(caller, maxOperation)
		}
	}
	renamed := name != ""
	if p := c.gateway; p != nil {
		name, renamed = p.operation, p.renamed
	}
	c.named = renamed || c.gateway != nil
	if renamed {
		c.name = name
		c.Call.span.SetName(name)
	}
}

// untracedContext makes the span context of a request that is not traced: it
// travels with flag 00 (O-3).
func (t *Tracing) untracedContext(parent trace.SpanContext, s *reqctx.State) trace.SpanContext {
	if t.disabled {
		return parent // what came goes on unchanged
	}
	cfg := trace.SpanContextConfig{
		TraceID:    parent.TraceID(),
		SpanID:     s.SpanID,
		TraceFlags: parent.TraceFlags() &^ trace.FlagsSampled,
		TraceState: parent.TraceState(),
	}
	if !parent.IsValid() {
		cfg.TraceID = s.TraceID
	}
	if s.Answer != nil {
		cfg.TraceState = s.Answer.TraceState // W-17
	}
	if !cfg.SpanID.IsValid() {
		cfg.SpanID = newSpanID()
	}
	return trace.NewSpanContext(cfg)
}

// StartClient starts the span of a call this program makes and writes context and
// ids into out.Carrier. The caller ends the Call. It may be called concurrently.
func (t *Tracing) StartClient(ctx context.Context, out Outgoing) (context.Context, *Call) {
	c := new(keptCall)
	ctx = t.startClient(ctx, &out, &c.Call, &c.node)
	if t.meters != nil {
		c.m = t.beginAttributes(ctx, c.kind, out.Attributes)
	}
	return ctx, &c.Call
}

// keptCall is a call with the context node of its span, in one allocation.
type keptCall struct {
	Call
	node reqctx.Node
}

// startClient is StartClient without the metrics; node may become a part of the context.
func (t *Tracing) startClient(ctx context.Context, out *Outgoing, c *Call, node *reqctx.Node) context.Context {
	*c = Call{tracing: t, state: reqctx.From(ctx), method: out.Method, rpc: strings.HasPrefix(out.Method, "/"), request: out.request}
	c.kind = kindOr(out.Kind, trace.SpanKindClient)
	c.span = trace.SpanFromContext(ctx)
	sc := c.span.SpanContext()
	null := c.state != nil && c.state.Null
	untraced := sc.IsValid() && !sc.IsRemote() && !sc.IsSampled()
	if t.role == Gateway {
		out.Upstream = c.goesTo(out)
		if out.Name == "" {
			out.Name = upstreamName(out)
		}
	}
	switch {
	case t.disabled || null || !t.spawn || out.filtered:
	case !untraced || !t.ours || t.askChildren:
		if t.askChildren {
			ctx = &reqctx.Spawn{Context: ctx}
		}
		ctx = t.startOwn(ctx, out, c, node)
	case t.role == Gateway: // O-3, T-20: a child that is not recorded has an id, too
		c.span = &untracedChild{untracedSpan{sc: sc.WithSpanID(newSpanID())}, sc}
		ctx = trace.ContextWithSpan(ctx, c.span)
	}
	if out.Carrier != nil {
		t.inject(ctx, out.Carrier)
		if len(t.requestHeaders) > 0 && c.recording() {
			a := t.attrs()
			a.capture(t.requestHeaders, out.Carrier, c.rpc)
			c.put(a)
		}
	}
	if t.role == Gateway {
		c.begin(out)
	}
	return ctx
}

// startOwn starts the span of a call this program makes, and returns its context.
func (t *Tracing) startOwn(ctx context.Context, out *Outgoing, c *Call, node *reqctx.Node) context.Context {
	name := out.Name
	if t.spanName != nil {
		name = c.wanted(name)
	}
	if t.spans == nil {
		ctx, c.span = t.tracer.Start(ctx, name, startKind[c.kind]...)
		c.owned = true
		if c.span.IsRecording() {
			a := t.attrs()
			c.departure(a, out)
			c.put(a)
		}
		return ctx
	}
	sp := t.spans.Prepare(ctx, t.usual(out.sent != nil, httpClientAttributes, rpcClientAttributes), name, c.kind, nil)
	c.span = sp
	if node == nil && out.sent != nil && (t.meters != nil || sp.IsRecording()) {
		out.watched = new(watchedCall)
		node = &out.watched.node
	}
	if sp.IsRecording() {
		a := attrs{list: sp.Room()}
		c.departure(&a, out)
		sp.Fill(c.edited(&a))
	}
	ctx = sp.Start(ctx, node)
	c.rec, c.owned = sp, true
	return ctx
}

// departure adds what the span of a call this program makes says from the start.
func (c *Call) departure(a *attrs, out *Outgoing) {
	a.add(out.Attributes...)
	if out.sent != nil {
		c.describe(a, out.sent)
	}
}

// Span returns the span of the call; one that records nothing when the call is
// not traced. Never nil.
func (c *Call) Span() trace.Span { return c.span }

// RequestID returns the x-request-id that travels with the call, "" outside any
// request.
func (c *Call) RequestID() requestid.ID {
	if c.state == nil {
		return ""
	}
	return requestid.ID(c.state.RequestID)
}

// ResponseID returns the x-request-id to put into the response headers, and
// whether one belongs there: Config.RequestID.InResponse says so, or the request
// came with x-envoy-force-trace (RID-18).
func (c *Call) ResponseID() (requestid.ID, bool) {
	if !c.server || c.state.RequestID == "" && !c.emptyID {
		return "", false // RID-19
	}
	if !c.tracing.policy.InResponse && !c.state.ForceTrace {
		return "", false
	}
	return requestid.ID(c.state.RequestID), true
}

// ClientAddress returns the address taken for the client's: the direct peer's, or with
// Config.Edge what its trusted hops say (ED-1, ED-2). It is invalid when unknown, and
// for a client call.
func (c *Call) ClientAddress() netip.Addr { return c.client }

// Decision returns the sampling decision about the request; the zero Decision for
// a client call.
func (c *Call) Decision() sampler.Decision { return c.decision }

// End records o and ends the span. Only the first call does anything.
func (c *Call) End(o Outcome) {
	if c.owned || c.m != nil {
		c.end(&o, "")
	}
}

// count counts the decision about a request (D-27), once.
func (c *Call) count() {
	if !c.counted {
		c.counted = true
		c.tracing.sampler.Count(c.decision)
	}
}

// end is End with the route that the router found, which span.SetRoute overrides.
func (c *Call) end(o *Outcome, route string, opts ...trace.SpanEndOption) {
	if c.ended {
		return
	}
	c.ended = true
	if c.server && (o.HTTPStatus != 0 || o.GRPCStatus != "") {
		c.count()
	}
	recording := c.recording()
	if !recording && c.m == nil {
		return
	}
	if c.server {
		if r := c.state.Route(); r != "" {
			route = r
		} else if c.route != "" {
			route = c.route
		}
	}
	if route != "" && !c.rpc {
		route = semconv.Cut(semconv.Route(route), maxPath)
	}
	status := c.status(o)
	if failure.IsPanic(o.Err) && status.Code == codes.Error {
		status = span.Semconv.HTTP(c.kind, 0, o.Err) // what it was says more than 500
	}
	if c.m != nil {
		c.m.record(o, route, status)
	}
	if !recording {
		return
	}
	if c.way != nil {
		c.way.finish()
	}
	a := c.tracing.attrs()
	c.outcome(a, o, route, &status)
	c.put(a)
	if status.Code != codes.Unset {
		c.span.SetStatus(status.Code, status.Description)
	}
	c.span.End(opts...)
}

// outcome adds what the span says of the end of the call, and gives it its last name.
func (c *Call) outcome(attrs *attrs, o *Outcome, route string, status *span.Status) {
	if route != "" && !c.rpc {
		if !c.named {
			c.name = c.tracing.httpName(c.method, route)
			c.span.SetName(c.name)
		}
		attrs.str(semconv.HTTPRoute, route)
	}
	if o.Response != nil && len(c.tracing.responseHeaders) > 0 {
		c.captureAnswer(attrs, o.Response)
	}
	if c.version != 0 {
		attrs.str(semconv.NetworkProtocolVersion, protocolVersion(int(c.version>>4), int(c.version&0xf)))
	}
	if o.HTTPStatus != 0 {
		attrs.num(semconv.HTTPResponseStatusCode, int64(o.HTTPStatus))
	}
	if o.RequestBytes > 0 {
		attrs.num(semconv.HTTPRequestBodySize, o.RequestBytes)
	}
	if o.ResponseBytes > 0 {
		attrs.num(semconv.HTTPResponseBodySize, o.ResponseBytes)
	}
	if o.GRPCStatus != "" {
		attrs.str(semconv.RPCResponseStatusCode, span.GRPCCode(grpcCode(o.GRPCStatus)))
	}
	if status.ErrorType != "" {
		attrs.str(semconv.ErrorType, status.ErrorType)
	}
	if c.tracing.role == Gateway {
		c.endGateway(attrs, o, status)
	} else {
		attrs.envoy(o)
	}
	if c.server && c.tracing.spanName != nil {
		c.span.SetName(c.wanted(c.name))
	}
}

// envoy adds what a service is told in Envoy's words.
func (a *attrs) envoy(o *Outcome) {
	if len(o.Flags) > 0 {
		a.str(semconv.EnvoyResponseFlags, strings.Join(o.Flags, ",")) // T-7
	}
	if o.Upstream.Cluster != "" {
		a.str(semconv.EnvoyUpstreamCluster, o.Upstream.Cluster)
	}
	if o.Upstream.Address != "" {
		a.str(semconv.EnvoyUpstreamAddress, o.Upstream.Address)
	}
	if n := o.Upstream.Attempt; n > 1 {
		a.str(semconv.EnvoyRetryCount, strconv.Itoa(n-1))
	}
}

// status maps the outcome to the span's status.
func (c *Call) status(o *Outcome) (status span.Status) {
	m := &c.tracing.status
	if o.GRPCStatus != "" { // S-2: gRPC's word is the last
		status = m.GRPC(c.kind, grpcCode(o.GRPCStatus), o.Err)
	} else {
		status = m.HTTP(c.kind, o.HTTPStatus, o.Err)
	}
	if !c.server || status.Code == codes.Error {
		return status
	}
	if err := c.state.Error(); err != nil {
		return span.Semconv.HTTP(c.kind, 0, err) // span.SetError: failed whatever the codes say
	}
	return status
}

// grpcCode reads a grpc-status; what is no number is UNKNOWN, as gRPC has it.
func grpcCode(s string) uint32 {
	code, err := strconv.ParseUint(strings.TrimSpace(s), 10, 32)
	if err != nil {
		const unknown = 2
		return unknown
	}
	return uint32(code)
}
