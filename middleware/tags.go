package middleware

import (
	"maps"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/span"
)

// tagWriter writes tags as Envoy's tracer takes them: in order, a later one of a name
// over an earlier one, and those that have a status code drive the span's status (T-1, T-18).
type tagWriter struct {
	*attrs
	call   *Call
	kind   trace.SpanKind
	status span.StatusMap
	code   codes.Code
}

func (w *tagWriter) set(key attribute.Key, value string) {
	w.add(key.String(semconv.Cut(value, maxPath))) // whatever it was rendered from
	switch key {
	case semconv.EnvoyHTTPStatusCode: // S-1: never back to Unset
		if n, ok := codeOf(value); ok && w.status.HTTP(w.kind, int(min(n, math.MaxInt32)), nil).Code == codes.Error && n != 0 {
			w.code = codes.Error
		}
	case semconv.EnvoyGRPCStatusCode: // S-2: overwrites
		if w.status.HTTPOnly {
			return
		}
		w.code = codes.Unset
		if n, ok := codeOf(value); ok {
			w.code = w.status.GRPC(w.kind, uint32(min(n, math.MaxUint32)), nil).Code
		}
	}
}

// codeOf reads a number as Envoy does: zeros in front and spaces around are no matter (S-2).
func codeOf(s string) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(strings.Trim(s, " \t\n\v\f\r"), "+"), 10, 64)
	return n, err == nil
}

// grpcAnswer is what the response says in gRPC's words.
type grpcAnswer struct {
	status, message       string
	hasStatus, hasMessage bool
	before                string // of the headers, where the trailers have another status; "" is none
}

func (w *tagWriter) grpc(a grpcAnswer) {
	if !a.hasStatus {
		return
	}
	w.set(semconv.EnvoyGRPCStatusCode, a.status)
	if a.hasMessage {
		w.set(semconv.EnvoyGRPCMessage, a.message)
	}
	for _, status := range [...]string{a.before, a.status} { // what the headers made an error stays one
		if n, ok := codeOf(status); ok && w.status.TagsGRPC(n) { // E-3, E-4
			w.set(semconv.EnvoyError, "true")
		}
	}
}

// requestView is a request in a proxy's words.
type requestView struct {
	method, scheme, authority, path string
	header                          http.Header
}

// isGRPC tells a gRPC request by its content type (T-4).
func (r *requestView) isGRPC() bool {
	ct := headers.Joined(r.header["Content-Type"])
	return ct == "application/grpc" || strings.HasPrefix(ct, "application/grpc+")
}

// url is the value of http.url (T-3).
func (r *requestView) url(t *Tracing) string {
	if r.method == http.MethodConnect || r.scheme == "" {
		return ""
	}
	path := r.path
	if original, ok := r.header[t.names.originalPath.Canonical]; ok {
		path = headers.Joined(original)
	}
	if i := strings.IndexByte(path, '?'); i >= 0 {
		path = path[:i+1] + t.secrets.redact(path[i+1:])
	}
	return r.scheme + "://" + r.authority + path[:min(len(path), t.pathTag)]
}

// defaultPathTag is Envoy's max_path_tag_length.
const defaultPathTag = 256

// valueOr returns the lines of a header as one, "-" where there are none.
func valueOr(h http.Header, name string) string {
	lines, ok := h[name]
	if !ok {
		return "-"
	}
	return headers.Joined(lines)
}

// common writes the tags that both kinds of spans have (T-1, T-6).
func (w *tagWriter) common(u *Upstream, status int, flags string) {
	w.set(semconv.EnvoyComponent, "proxy")
	if u.Cluster != "" {
		w.set(semconv.EnvoyUpstreamCluster, u.Cluster)
		w.set(semconv.EnvoyUpstreamClusterName, u.observed())
	}
	w.set(semconv.EnvoyHTTPStatusCode, strconv.Itoa(status))
	w.set(semconv.EnvoyResponseFlags, flags)
	if w.status.TagsHTTP(status) { // E-1
		w.set(semconv.EnvoyError, "true")
	}
}

// custom writes the tags of the configuration. The route's come first, and a name
// counts once, even where its tag has no value (T-17).
func (w *tagWriter) custom(route, config []span.Tag, f *span.Facts) {
	for _, list := range [][]span.Tag{route, config} {
		for i, t := range list {
			if named(list[:i], t.Name()) || len(route) > 0 && &list[0] != &route[0] && named(route, t.Name()) {
				continue
			}
			if v, ok := w.call.tagOf(t, f); ok {
				w.set(attribute.Key(t.Name()), v)
			}
		}
	}
}

func named(list []span.Tag, name string) bool {
	return slices.ContainsFunc(list, func(t span.Tag) bool { return t.Name() == name })
}

// renders tells whether ending the span needs Facts.
func (t *Tracing) renders(p *proxied, operation span.Template) bool {
	return len(p.route.Tags) > 0 || len(t.tags) > 0 || !operation.IsZero()
}

// operationOf returns the template that names a span: the route's, else the listener's (N-14).
func operationOf(route, config span.Template) span.Template {
	if !route.IsZero() {
		return route
	}
	return config
}

// protocolName returns a protocol as Envoy writes it; "-" where it is unknown.
func protocolName(major, minor int) string {
	switch {
	case major <= 0:
		return "-"
	case major == 1:
		return "HTTP/1." + strconv.Itoa(minor)
	}
	return "HTTP/" + strconv.Itoa(major)
}

// endDownstream writes the tags of the span of a request, in Envoy's order (T-1).
func (c *Call) endDownstream(w *tagWriter, o *Outcome, answer grpcAnswer) {
	p, t := c.gateway, c.tracing
	p.mu.Lock()
	upstream, flags, attempts, last := p.upstream, slices.Clone(p.flags), p.attempts, p.last
	metadata := p.metadata
	if metadata != nil {
		metadata = maps.Clone(metadata)
	}
	p.mu.Unlock()
	r := p.request
	sent := attemptSnapshot{}
	if last != nil {
		sent = last.snapshot()
		upstream = sent.upstream.over(upstream)
		r = sent.request.over(r)
		flags = addFlags(flags, sent.flag)
	}
	upstream = o.Upstream.over(upstream)
	flags = addFlags(flags, o.Flags...)

	if r.header != nil { // T-2
		w.set(semconv.EnvoyHTTPURL, r.url(t))
		w.set(semconv.EnvoyHTTPMethod, t.envoyMethod(p.request.method))
		w.set(semconv.EnvoyDownstreamCluster, valueOr(p.request.header, t.names.downstreamCluster.Canonical))
		w.set(semconv.EnvoyUserAgent, valueOr(p.request.header, "User-Agent"))
		w.set(semconv.EnvoyHTTPProtocol, p.protocol)
		if p.peer != "" {
			w.set(semconv.EnvoyPeerAddress, p.peer)
		}
		if p.request.isGRPC() {
			w.grpcRequest(&r)
		}
	}
	w.set(semconv.EnvoyRequestSize, strconv.FormatInt(o.RequestBytes, 10))
	w.set(semconv.EnvoyResponseSize, strconv.FormatInt(o.ResponseBytes, 10))
	w.common(&upstream, o.HTTPStatus, flagText(flags))
	if t.verbose {
		c.verboseEvents(p.received.at(), sent.times, p.firstSent, p.lastSent)
	}
	operation := operationOf(p.route.Operation, t.operation)
	if t.renders(p, operation) {
		f := c.facts(p, &r, &upstream, o)
		f.Protocol, f.Flags, f.Attempt = p.protocol, flagText(flags), attempts
		f.Metadata[span.RequestMetadata] = metadata
		f.ResponseHeader, f.Trailer = p.headers(), sent.trailer
		w.custom(p.route.Tags, t.tags, &f)
		if name := operation.Render(&f); name != "" { // N-14, N-15
			c.name = semconv.Cut(name, maxOperation)
			c.span.SetName(c.name)
		}
	}
	w.grpc(answer)
}

// grpcRequest writes what a gRPC request says of itself (T-4).
func (w *tagWriter) grpcRequest(r *requestView) {
	if r.path != "" {
		w.set(semconv.EnvoyGRPCPath, r.path)
	}
	if r.authority != "" {
		w.set(semconv.EnvoyGRPCAuthority, r.authority)
	}
	w.set(semconv.EnvoyGRPCContentType, headers.Joined(r.header["Content-Type"]))
	if timeout, ok := r.header["Grpc-Timeout"]; ok {
		w.set(semconv.EnvoyGRPCTimeout, headers.Joined(timeout))
	}
}

// facts collects what templates and tags are made of.
func (c *Call) facts(p *proxied, r *requestView, u *Upstream, o *Outcome) span.Facts {
	f := c.tracing.requestFacts(r)
	f.Status, f.RequestBytes, f.ResponseBytes = o.HTTPStatus, o.RequestBytes, o.ResponseBytes
	f.Route = p.route.Pattern
	f.Cluster, f.ClusterName, f.Address = u.Cluster, u.observed(), u.Address
	f.Peer, f.Client, f.Request = p.peer, addressText(p.client), p.http
	downstream := c.span // RID-17
	if c.state != nil && c.state.Span != nil {
		downstream = c.state.Span
	}
	if sc := downstream.SpanContext(); sc.IsValid() {
		f.TraceID, f.SpanID = sc.TraceID().String(), sc.SpanID().String()
	}
	f.Metadata = [4]span.Metadata{
		span.RouteMetadata: p.route.Metadata, span.ClusterMetadata: u.ClusterMetadata, span.HostMetadata: u.HostMetadata,
	}
	return f
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// envoyMethod is the value of http.method: for what is no method of HTTP the tracer has
// "_OTHER", that of Zipkin the method itself.
func (t *Tracing) envoyMethod(method string) string {
	if t.zipkin != nil {
		return semconv.Cut(method, maxMethod)
	}
	if method == "" {
		return "_OTHER"
	}
	known, _ := semconv.Method(method)
	return known
}

// endUpstream writes the tags of the span of one attempt (T-6).
func (c *Call) endUpstream(w *tagWriter, o *Outcome, a *attemptSnapshot) {
	p, t := c.gateway, c.tracing
	w.grpc(a.answer)                                                                                        // S-3: it arrives before
	if n, ok := codeOf(a.answer.status); a.upstream.Own && c.rpc && a.answer.hasStatus && (!ok || n != 0) { // T-9
		w.set(semconv.EnvoyError, "true")
	}
	if a.reset != 0 { // E-2, T-10
		w.set(semconv.EnvoyError, "true")
		w.set(semconv.EnvoyErrorReason, a.reset.Error())
	}
	if a.canceled { // an error where there is no status (E-1)
		w.set(semconv.EnvoyCanceled, "true")
	}
	u := &a.upstream
	if u.Attempt > 1 {
		w.set(semconv.EnvoyRetryCount, strconv.Itoa(u.Attempt-1))
	}
	w.set(semconv.EnvoyHTTPProtocol, a.protocolName())
	if u.Address != "" {
		w.set(semconv.EnvoyUpstreamAddress, u.Address)
		w.set(semconv.EnvoyPeerAddress, u.Address)
	}
	w.common(u, o.HTTPStatus, flagText(a.flags))
	if t.verbose {
		c.verboseEvents(time.Time{}, a.times, time.Time{}, time.Time{})
	}
	route := &Route{}
	if p != nil {
		route = &p.route
	}
	operation := operationOf(route.UpstreamOperation, t.upstreamOperation)
	if len(route.Tags) == 0 && len(t.tags) == 0 && operation.IsZero() {
		return
	}
	if p == nil {
		p = new(proxied)
	}
	f := c.facts(p, &a.request, u, o)
	f.Attempt = u.Attempt
	if p.request.header != nil { // these are the request's (T-16)
		f.Protocol, f.RequestBytes = p.protocol, p.received.read()
	}
	f.ResponseHeader, f.Trailer = a.responseHeader, a.trailer
	if a.sent != nil {
		f.Request = a.sent
	}
	p.mu.Lock()
	f.Flags = flagText(p.flags)
	f.Metadata[span.RequestMetadata] = maps.Clone(p.metadata)
	p.mu.Unlock()
	w.custom(route.Tags, t.tags, &f)
	if name := operation.Render(&f); name != "" { // N-16
		c.span.SetName(semconv.Cut(name, maxOperation))
	}
}
