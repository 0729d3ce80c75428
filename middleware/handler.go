package middleware

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"

	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/meshtrace/meshtrace/internal/failure"
	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/internal/respwriter"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
)

// Handler serves next inside a server span. The context of the request that next
// gets carries request id, baggage and trace to every call made under it; its
// headers are those that arrived, but for what Config.Edge removes and a Gateway
// writes. The span's name is "{method} {route}", by the
// pattern an http.ServeMux matched or by span.SetRoute. It lasts as long as next.
//
// A panic of next is next's, unchanged, after the span ended. Handler panics when
// next is nil.
func (t *Tracing) Handler(next http.Handler) http.Handler {
	if next == nil {
		panic("middleware: Handler(nil): give the handler to serve, such as an *http.ServeMux")
	}
	return &handler{tracing: t, next: next}
}

type handler struct {
	tracing *Tracing
	next    http.Handler
}

// keptRequest is what stays of a served HTTP request, with the one that the handler gets:
// what http.Request.WithContext returns is copied into its place, and never leaves the
// stack.
type keptRequest struct {
	served
	request http.Request
}

// httpCall is a served HTTP request of which something is recorded or answered.
type httpCall struct {
	serverCall
	node     reqctx.Node // of the span
	recorder respwriter.Recorder
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if outer := reqctx.From(r.Context()); outer != nil && outer.Served && headers.Same(outer.Carrier, otelprop.HeaderCarrier(r.Header)) {
		h.next.ServeHTTP(w, r) // wrapped twice: one span a request
		return
	}
	t := h.tracing
	kept := new(keptRequest)
	c := serverCall{served: &kept.served}
	arrived, copied := r.Header, false
	if t.role == Gateway {
		arrived, copied = withoutConnection(r.Header) // O-5
		if r.ProtoMajor > 1 {
			arrived, copied = withoutSpaces(arrived, copied)
		}
	}
	in := Incoming{
		Name:    r.Method,
		Carrier: otelprop.HeaderCarrier(arrived),
		Method:  r.Method,
		arrived: r,
	}
	if t.edge != nil || t.role == Gateway {
		in.Peer = peer(r.RemoteAddr)
	}
	if t.edge != nil && t.edge.UnixSockets && !in.Peer.IsValid() {
		_, in.Unix = r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
	}
	in.health = t.health.match(r.URL.Path) || (t.filter != nil && !t.asks(callFilter, t.filter, r))
	if t.spanName != nil || t.attributes != nil {
		in.request = r
	}
	if t.route != nil {
		in.Route = t.routeOf(r)
	}
	if t.role == Gateway {
		in.proxied(t, r, arrived)
		in.refused = r.RequestURI == "*" || r.Method == "QUERY" && len(r.Header["Content-Type"]) == 0 // O-5, T-22
	}
	t.enter(r.Context(), &in, &c)
	if !copied && !c.traced() && t.meters == nil && !c.answers() && !c.edits() {
		// Nothing to learn from the response, so it needs no wrapper.
		kept.request = *r.WithContext(t.start(&in, &c, nil))
		r2 := &kept.request
		defer handBack(r, r2)
		h.next.ServeHTTP(w, r2)
		return
	}
	h.follow(w, r, &kept.request, &in, &httpCall{serverCall: c}, arrived, copied)
}

// answers tells whether something is written into the response.
func (c *serverCall) answers() bool {
	_, id := c.ResponseID()
	return id || c.tracing.role == Gateway || c.tracing.traceResponse
}

// follow serves a request as r2, which it fills, and records what comes of it. The headers
// are arrived, those of r or a copy.
func (h *handler) follow(w http.ResponseWriter, r, r2 *http.Request, in *Incoming, c *httpCall, arrived http.Header, copied bool) {
	t := h.tracing
	ctx := t.start(in, &c.serverCall, &c.node)
	*r2 = *r.WithContext(ctx)
	if copied || c.edits() {
		r2.Header = c.edit(arrived, in.Peer, r.TLS != nil)
		// A Handler around next is to know the request again.
		c.State.Carrier = otelprop.HeaderCarrier(r2.Header)
	}
	recording := c.Call.span.IsRecording()
	if t.meters != nil {
		scheme, _ := c.target(r)
		c.measure(ctx, r, r2, scheme)
	}
	if c.gateway != nil {
		c.gateway.served = c
		if recording {
			c.gateway.receive(r2)
		}
	}
	if c.answers() || (recording && (t.firstByte || len(t.responseHeaders) > 0)) {
		c.recorder.BeforeHeader = c.respond
	} else if !recording && c.m == nil { // its provider dropped the span
		defer handBack(r, r2)
		h.next.ServeHTTP(w, r2)
		return
	}
	c.recorder.Init(w)
	h.serve(c, c.recorder.Wrap(), r, r2)
}

// handBack gives r what next learned of its copy: net/http removes the files of a
// multipart form from the request it knows, and what wraps this handler may want the
// pattern.
func handBack(r, served *http.Request) {
	if r.MultipartForm == nil {
		r.MultipartForm = served.MultipartForm
	}
	if r.Pattern == "" {
		r.Pattern = served.Pattern
	}
}

// respond edits the header of the response before it goes out: the request id stands
// in the place of the handler's own (RID-18, RID-19).
func (c *httpCall) respond(h http.Header) {
	callee := c.editResponse(h)
	if c.gateway != nil {
		if u := c.gateway.relayed(); u != nil && callee == "" && len(h["Upgrade"]) > 0 {
			callee = u.operation // gone from h already, where the handler sends it on itself
		}
		c.calledBack(callee)
		if c.State.Err() == nil { // D-27: a caller who has gone hears nothing
			c.count()
		}
		c.gateway.answer(h, c.State.Context)
	}
	if !c.recording() {
		return
	}
	if c.tracing.firstByte {
		c.Call.span.AddEvent(semconv.FirstByteEvent)
	}
	c.captureResponse(h)
}

// editResponse edits the header of a response, and returns what the callee calls it
// (N-12). It only reads c.
func (c *httpCall) editResponse(h http.Header) (callee string) {
	if id, ok := c.ResponseID(); ok {
		h.Set(requestid.Header, string(id))
	}
	if c.answersOperation() {
		callee = c.respondOperation(h)
	}
	if c.tracing.traceResponse {
		if sc := c.Call.span.SpanContext(); sc.IsValid() {
			h.Set(headerTraceResponse, string(propagation.AppendTraceparent(make([]byte, 0, 55), sc)))
		}
	}
	return callee
}

// captureResponse puts the headers of a response on the span that Config.ResponseHeaders
// names.
func (c *httpCall) captureResponse(h http.Header) {
	if list := c.tracing.responseHeaders; len(list) > 0 {
		a := c.tracing.attrs()
		a.capture(list, otelprop.HeaderCarrier(h), false)
		c.put(a)
	}
}

// headerTraceResponse tells a client the trace of its request. W3C Trace Context Level
// 2, "Traceresponse Header".
const headerTraceResponse = "Traceresponse"

// measure begins to measure the call.
func (c *httpCall) measure(ctx context.Context, r, served *http.Request, scheme string) {
	c.m = c.tracing.beginHTTP(ctx, httpServer, r.Method, scheme, r.ProtoMajor, r.ProtoMinor)
	if c.tracing.meters.requestSize[httpServer] != nil {
		served.Body = c.m.count(r.Body, r.ContentLength)
	}
}

// serve runs the handler and ends the call, also when the handler panics.
func (h *handler) serve(c *httpCall, w http.ResponseWriter, arrived, r *http.Request) {
	returned := false
	defer func() {
		handBack(arrived, r)
		if returned {
			return
		}
		v := recover()
		c.finish(r, panicked(v), false)
		if v != nil {
			panic(v) // nil is runtime.Goexit
		}
	}()
	h.next.ServeHTTP(w, r)
	returned = true
	c.finish(r, nil, true)
}

// panicked returns the error of a handler that did not return; nil for
// http.ErrAbortHandler, a way to end a response and no fault of the program.
func panicked(v any) error {
	if v == http.ErrAbortHandler {
		return nil
	}
	return failure.Of(v)
}

// finish ends the call with what the recorder saw; returned tells whether the
// handler came back.
func (c *httpCall) finish(r *http.Request, failure error, returned bool) {
	if returned && r.Context().Err() == context.Canceled && !c.recorder.Whole(r.Method) {
		// The client left before its answer was complete: no error of this program,
		// and no success either.
		failure = context.Canceled
	} else if returned {
		c.recorder.Finish()
	}
	o := Outcome{
		HTTPStatus:    c.recorder.Status(),
		ResponseBytes: c.recorder.BytesWritten(),
		Err:           failure,
	}
	o.RequestBytes = c.m.requestBytes()
	if !returned && failure != nil && o.HTTPStatus == 0 && !c.recorder.Hijacked() {
		// net/http answers nothing at all; the convention has a status for it.
		o.HTTPStatus = http.StatusInternalServerError
	}
	if c.recorder.Hijacked() {
		c.count()
	}
	c.counted = true
	if c.gateway != nil {
		if u := c.gateway.relayed(); u != nil && c.recorder.Hijacked() && o.HTTPStatus == 0 {
			c.upgraded(u)
		}
		c.gateway.finish(&o, r, !returned, c.recorder.Hijacked())
	}
	c.Call.end(&o, r.Pattern)
}

// describe adds what the request says of itself.
func (c *serverCall) describe(a *attrs, in *Incoming) {
	r := in.arrived
	scheme, asked := c.target(r)
	method, original := c.tracing.methodOf(r.Method)
	a.str(semconv.HTTPRequestMethod, method)
	if original != "" {
		a.str(semconv.HTTPRequestMethodOriginal, original)
	}
	a.str(semconv.URLScheme, scheme)
	if r.Method != http.MethodConnect {
		a.str(semconv.URLPath, semconv.Cut(r.URL.Path, maxPath))
	}
	if r.URL.RawQuery != "" {
		a.str(semconv.URLQuery, c.tracing.secrets.redact(semconv.Cut(r.URL.RawQuery, maxPath)))
	}
	if host, port := splitHost(asked); host != "" {
		a.str(semconv.ServerAddress, host)
		if port != 0 {
			a.num(semconv.ServerPort, int64(port))
		}
	}
	if r.ProtoMajor > 0 {
		a.str(semconv.NetworkProtocolVersion, protocolVersion(r.ProtoMajor, r.ProtoMinor))
	}
	if p := in.Peer; p.IsValid() {
		addr := peerText(p, r.RemoteAddr)
		client := addr
		if c.client != p {
			client = c.client.String()
		}
		a.str(semconv.ClientAddress, client)
		a.str(semconv.NetworkPeerAddress, addr)
		if port := portOf(r.RemoteAddr); port != 0 {
			a.num(semconv.NetworkPeerPort, int64(port))
		}
	}
	if ua := r.UserAgent(); ua != "" {
		a.str(semconv.UserAgentOriginal, semconv.Cut(ua, maxAgent))
	}
}

// meet fills in the peer of a request whose peer nobody has asked for so far.
func (in *Incoming) meet() {
	if in.arrived != nil && !in.Peer.IsValid() {
		in.Peer = peer(in.arrived.RemoteAddr)
	}
}

// peerText is p.String() for the peer of a RemoteAddr, which has it already if it is IPv4.
func peerText(p netip.Addr, remote string) string {
	if i := strings.LastIndexByte(remote, ':'); i > 0 && remote[0] != '[' && p.Is4() {
		return remote[:i]
	}
	return p.String()
}

// peer returns the address of a RemoteAddr "ip:port"; invalid for another form,
// such as a unix socket's.
func peer(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
