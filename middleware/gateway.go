package middleware

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/codes"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/failure"
	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/span"
)

// Direction is which way the requests of a gateway's listener go (N-1).
type Direction uint8

const (
	// Ingress is a listener for requests to what stands behind it; Envoy's
	// INBOUND and UNSPECIFIED.
	Ingress Direction = iota
	// Egress is a listener for requests of what stands behind it to the world; Envoy's
	// OUTBOUND.
	Egress
)

// String returns the name of d in lower case.
func (d Direction) String() string {
	switch d {
	case Ingress:
		return "ingress"
	case Egress:
		return "egress"
	}
	return fmt.Sprintf("Direction(%d)", uint8(d))
}

// ParseDirection reads "ingress" or "egress", or Envoy's traffic_direction: INBOUND,
// OUTBOUND, UNSPECIFIED or "" (N-1).
func ParseDirection(s string) (Direction, error) {
	switch s {
	case "ingress", "INBOUND", "UNSPECIFIED", "":
		return Ingress, nil
	case "egress", "OUTBOUND":
		return Egress, nil
	}
	return 0, fmt.Errorf("middleware: direction %.40q: allowed is ingress, egress, INBOUND, OUTBOUND or UNSPECIFIED", s)
}

// proxied is what a gateway knows of a request beside its Call. What is not in progress
// belongs to the goroutine that serves the request.
type proxied struct {
	// The span's name and the operation header, which travels in both directions.
	operation string // names the span where renamed
	renamed   bool
	upward    string // goes upstream as the operation header; "" leaves what came
	response  string // goes to the caller as the operation header; "" leaves what came
	decorates bool   // the operation header is looked at and taken away

	route    Route
	request  requestView   // as it arrived and goes on; no header: it never arrived
	http     *http.Request // nil where there is none
	protocol string
	peer     string
	client   netip.Addr // as Call.ClientAddress
	received receivedBody
	served   *httpCall // nil where Handler serves it not

	answered            http.Header // of the response; nil before it was written
	untrailed           http.Header // the same before trailers are added; nil where none are declared
	status              grpcAnswer
	before              grpcLines // there before the body
	late                bool      // the response was written for nobody
	firstSent, lastSent time.Time

	progress
}

// newProxied returns what is known of a request when it arrives.
func newProxied(in *Incoming) *proxied {
	p := &proxied{route: in.Route, protocol: in.Protocol}
	p.upstream = in.Route.Upstream
	if p.protocol == "" {
		p.protocol = "-"
	}
	if in.Peer.IsValid() {
		p.peer = in.Peer.String()
	}
	if in.Carrier != nil {
		p.request = requestView{in.Method, in.Scheme, in.Authority, in.Path, headerOf(in.Carrier)}
	}
	if strings.HasPrefix(in.Method, "/") { // gRPC, by its interceptors
		p.grpc(in)
	}
	return p
}

// grpc fills in what a gRPC call is as an HTTP request, where in does not say.
func (p *proxied) grpc(in *Incoming) {
	r := &p.request
	r.method = http.MethodPost
	if r.path == "" {
		r.path = in.Method
	}
	if r.scheme == "" {
		r.scheme = "http"
	}
	if r.authority == "" && in.Carrier != nil {
		r.authority = in.Carrier.Get(":authority")
	}
	if in.Protocol == "" {
		p.protocol = "HTTP/2"
	}
}

// headerOf returns what a carrier holds as an http.Header.
func headerOf(c otelprop.TextMapCarrier) http.Header {
	if h, ok := c.(otelprop.HeaderCarrier); ok {
		return http.Header(h)
	}
	h := make(http.Header)
	for _, k := range c.Keys() {
		h.Set(k, c.Get(k))
	}
	return h
}

// proxied fills in what a gateway says of an HTTP request that arrived with header.
func (in *Incoming) proxied(t *Tracing, r *http.Request, header http.Header) {
	v := requestView{method: r.Method, scheme: strings.ToLower(r.URL.Scheme), authority: r.Host, header: header}
	if r.Method != http.MethodConnect {
		v.path = r.URL.RequestURI()
	}
	if v.scheme == "" {
		v.scheme = t.arrivedScheme(r, in.Peer)
	}
	in.Name, in.Kind = t.defaultName(&v), t.serverKind()
	in.Scheme, in.Authority, in.Path = v.scheme, v.authority, v.path
	in.Protocol = protocolName(r.ProtoMajor, r.ProtoMinor)
}

// arrivedScheme is the scheme of a request that does not state one: what the proxy in
// front says, where it is believed, else that of the connection.
func (t *Tracing) arrivedScheme(r *http.Request, peer netip.Addr) string {
	if said := r.Header[forwardedProto]; len(said) > 0 && t.believesProto(peer) {
		if s := schemeName(onlyLine(said)); s != "" {
			return s
		}
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// onlyLine returns the line that is not empty, if there is just one: what Envoy makes of
// them (O-4), where nothing with a comma in it is of use.
func onlyLine(lines []string) (only string) {
	for _, l := range lines {
		switch {
		case l == "":
		case only != "":
			return ""
		default:
			only = l
		}
	}
	return only
}

// believesProto tells whether x-forwarded-proto of a peer counts.
func (t *Tracing) believesProto(peer netip.Addr) bool {
	e := t.edge
	return e == nil || e.Inner || e.Hops > 0 || within(e.Proxies, peer.Unmap())
}

// defaultName is the name of a gateway's span that nothing else names (N-2).
func (t *Tracing) defaultName(r *requestView) string {
	switch {
	case !t.defaultOperation.IsZero():
		f := t.requestFacts(r)
		return semconv.Cut(t.defaultOperation.Render(&f), maxOperation)
	case t.zipkin != nil:
		return semconv.Cut(r.authority, maxOperation)
	case t.direction == Egress:
		return semconv.Cut("egress "+r.authority, maxOperation)
	}
	return "ingress"
}

// requestFacts is what a request alone tells a template.
func (t *Tracing) requestFacts(r *requestView) span.Facts {
	return span.Facts{
		Method: r.method, Scheme: r.scheme, Authority: r.authority, Path: r.path,
		Header: r.header, OriginalPath: t.names.originalPath.Canonical,
	}
}

// serverKind is the kind of a gateway's span for the request it serves (T-21).
func (t *Tracing) serverKind() trace.SpanKind {
	if t.direction == Egress && !t.spawn {
		return trace.SpanKindClient
	}
	return trace.SpanKindServer
}

// maxOperation bounds in bytes the name that a request or response gives a span.
const maxOperation = 1 << 10

// decorate settles what the operation header and the route make of a request's name:
// N-4 to N-8, N-10, N-11, GL-5. src are the headers as they arrived.
func (c *serverCall) decorate(r *Route, src *headers.Source) {
	p, t := c.gateway, c.tracing
	p.decorates = !t.disabled && t.operation.IsZero() && r.Operation.IsZero() // O-1, N-15
	if p.decorates {
		caller := ""
		if !c.origin.edge { // ED-9: a stranger renames nothing
			caller = headers.Joined(src.Lines(&t.names.operation)) // O-4
		}
		d := &r.Decorator
		p.operation = d.Operation
		switch {
		case t.direction == Egress: // N-10, N-11
			if !d.Private {
				p.upward = d.Operation
			}
		case caller != "": // N-7
			p.operation = semconv.Cut(caller, maxOperation)
		case !d.Private: // N-5, N-6, N-8
			p.response = d.Operation
		}
		p.renamed = p.operation != ""
	}
	if !r.Transformer.IsZero() && r.Decorator.Operation == "" { // GL-5
		f := t.requestFacts(&p.request)
		p.operation, p.renamed = semconv.Cut(r.Transformer.Render(&f), maxOperation), true
	}
}

// editOperation edits the operation header of a request that goes upstream.
func (c *serverCall) editOperation(e *headerEdit) {
	p, name := c.gateway, c.tracing.names.operation.Canonical
	switch {
	case !p.decorates:
	case c.tracing.direction == Ingress: // N-5 to N-8
		e.remove(name)
	case p.upward != "": // N-10
		e.set(name, p.upward)
	}
}

// respondOperation edits the operation header of a response that goes to the caller, and
// returns what the callee calls the operation; "" where that is no matter.
func (c *serverCall) respondOperation(h http.Header) (callee string) {
	p, name := c.gateway, c.tracing.names.operation.Canonical
	switch {
	case !p.decorates:
	case c.tracing.direction == Egress: // N-10 to N-12
		callee = headers.Joined(h[name])
		delete(h, name)
	case p.response != "": // N-5
		h[name] = []string{p.response}
	}
	return callee
}

// calledBack renames the span of a request as its callee did (N-12).
func (c *serverCall) calledBack(callee string) {
	if callee != "" {
		c.name = semconv.Cut(callee, maxOperation)
		c.Call.span.SetName(c.name)
	}
}

// answersOperation tells whether respondOperation has something to do.
func (c *serverCall) answersOperation() bool {
	return c.gateway != nil && c.gateway.decorates && (c.gateway.response != "" || c.tracing.direction == Egress)
}

// receive takes the request as it goes to the handler, its headers edited.
func (p *proxied) receive(r *http.Request) {
	p.http, p.request.header = r, r.Header
	if p.peer == "" {
		p.peer = r.RemoteAddr // of a unix socket
	}
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 { // HTTP/2 has a value of its own for none
		p.received.end = time.Now()
		return
	}
	p.received.ReadCloser = r.Body
	r.Body = &p.received
}

// receivedBody is the body of a request, and tells how much of it was read.
type receivedBody struct {
	io.ReadCloser
	mu   sync.Mutex // a transport may read on while the handler returns
	size int64
	end  time.Time // zero: not read to its end
	err  error     // of the last Read
}

func (b *receivedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size, b.err = b.size+int64(n), err
	if err == io.EOF && b.end.IsZero() {
		b.end = time.Now()
	}
	return n, err
}

func (b *receivedBody) read() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size
}

// disconnected tells whether the body ended with the connection of an HTTP/2 stream, for
// which net/http has no value.
func (b *receivedBody) disconnected() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil && strings.Contains(b.err.Error(), "client disconnected")
}

func (b *receivedBody) at() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.end
}

// answer notes the header of the response right before it goes out. ctx is that of the
// connection.
func (p *proxied) answer(h http.Header, ctx context.Context) {
	p.answered, p.firstSent = h, time.Now()
	if len(h["Trailer"]) > 0 {
		p.untrailed = maps.Clone(h)
	}
	p.late = ctx.Err() == context.Canceled
	p.before = grpcLinesOf(h)
	p.status.read(h["Grpc-Status"], h["Grpc-Message"])
}

// headers returns the header of the response as it was sent.
func (p *proxied) headers() http.Header {
	if p.untrailed != nil {
		return p.untrailed
	}
	return p.answered
}

// finish adds to the outcome of a request what the gateway saw.
func (p *proxied) finish(o *Outcome, r *http.Request, aborted, hijacked bool) {
	if !aborted && o.Err == nil {
		p.lastSent = time.Now()
	}
	if hijacked && o.HTTPStatus == 0 { // httputil.ReverseProxy writes such an answer itself
		p.mu.Lock()
		last := p.last
		p.mu.Unlock()
		if last != nil {
			o.HTTPStatus = last.snapshot().status
		}
	}
	o.RequestBytes = p.received.read()
	p.status.readTrailer(p.answered, p.before)
	if o.Err == context.Canceled || o.Err == nil && aborted && r.Context().Err() == context.Canceled { // nobody is there to answer
		flag := FlagDownstreamTermination
		if r.ProtoMajor > 1 && !p.received.disconnected() {
			flag = FlagDownstreamRemoteReset // net/http says nothing else of streams
		}
		o.Flags = append(o.Flags, flag)
		if p.late {
			o.HTTPStatus, o.ResponseBytes, p.status = 0, 0, grpcAnswer{}
		}
	}
}

// grpcLines counts the lines of gRPC's status and message in a header.
type grpcLines struct{ status, message int }

func grpcLinesOf(h http.Header) grpcLines {
	return grpcLines{len(h["Grpc-Status"]), len(h["Grpc-Message"])}
}

// readTrailer takes gRPC's status from the trailers that a handler left in h, the header
// of its response; before lines of it were no trailers.
func (a *grpcAnswer) readTrailer(h http.Header, before grpcLines) {
	a.read(h[http.TrailerPrefix+"Grpc-Status"], h[http.TrailerPrefix+"Grpc-Message"])
	status, message := h["Grpc-Status"], h["Grpc-Message"]
	declared := slices.ContainsFunc(h["Trailer"], func(l string) bool {
		return strings.Contains(strings.ToLower(l), "grpc-status")
	})
	if declared && len(status) > before.status {
		a.read(status[before.status:], message[min(before.message, len(message)):])
	}
}

// goesTo returns where a call upstream goes.
func (c *Call) goesTo(out *Outgoing) Upstream {
	u := out.Upstream
	if c.state != nil {
		c.gateway, _ = c.state.Gateway.(*proxied)
	}
	p := c.gateway
	if p == nil {
		return u
	}
	if u.Own {
		return u
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts++
	if u.Attempt == 0 {
		u.Attempt = p.attempts
	}
	return u.over(p.upstream)
}

// upstreamName is the name of the span of a call that a gateway makes (N-3).
func upstreamName(out *Outgoing) string {
	u := &out.Upstream
	name := "router " + u.observed() + " egress"
	if u.Own {
		name = "async " + u.Cluster + " egress"
		if strings.HasPrefix(out.Method, "/") {
			name = "async " + strings.ReplaceAll(span.RPCName(out.Method), "/", ".") + " egress"
		}
	}
	return semconv.Cut(name, maxOperation)
}

// begin notes a call upstream, where a span is to tell of it.
func (c *Call) begin(out *Outgoing) {
	p := c.gateway
	if downstream := p != nil && c.state.Span != nil; !downstream && !c.recording() && c.tracing.meters == nil {
		return
	}
	c.attempt = &attempt{attemptSnapshot: attemptSnapshot{upstream: out.Upstream}}
	if out.Carrier != nil {
		c.attempt.request.header = headerOf(out.Carrier)
	}
	if p != nil && !out.Upstream.Own {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.last = c.attempt
	}
}

// endGateway writes the tags of a gateway's span, and the status by them.
func (c *Call) endGateway(a *attrs, o *Outcome, status *span.Status) {
	w := &tagWriter{attrs: a, call: c, kind: c.kind, status: c.tracing.status}
	if c.rpc && o.HTTPStatus == 0 && o.GRPCStatus != "" {
		answered := *o
		o = &answered
		o.HTTPStatus = http.StatusOK // under which a gRPC status comes
	}
	switch {
	case c.server:
		answer := c.gateway.status
		answer.of(o)
		c.endDownstream(w, o, answer)
	case c.attempt != nil:
		c.attempt.update(func(a *attemptSnapshot) { a.complete(o) })
		s := c.attempt.snapshot()
		c.endUpstream(w, o, &s)
	}
	if !w.status.CodesOnly && w.code == codes.Unset && w.status.HTTP(c.kind, 0, o.Err).Code == codes.Error {
		return // a Go error, which the codes do not tell
	}
	if c.server && c.state.Error() != nil {
		return // span.SetError
	}
	if failure.IsPanic(o.Err) && status.Code == codes.Error {
		return
	}
	if status.Code = w.code; w.code != codes.Error {
		status.Description = ""
	}
}

// of takes what an Outcome says in gRPC's words.
func (a *grpcAnswer) of(o *Outcome) {
	if o.GRPCStatus != "" {
		a.status, a.hasStatus = o.GRPCStatus, true
	}
	if o.GRPCMessage != "" {
		a.message, a.hasMessage = o.GRPCMessage, true
	}
}

// complete takes from an Outcome what a call of another transport than net/http knows.
func (a *attemptSnapshot) complete(o *Outcome) {
	a.answer.of(o)
	a.upstream = o.Upstream.over(a.upstream)
	if o.Protocol != "" {
		a.protocol = o.Protocol
	}
	a.flags = addFlags(a.flags, o.Flags...)
	if o.Err != nil && a.reset == 0 && !a.canceled {
		a.fail(context.Background(), o.Err)
	}
}
