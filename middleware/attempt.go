package middleware

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/failure"
	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/internal/semconv"
)

// attempt is one call upstream of a gateway. Its connection, its response and the end of
// the request write it from goroutines of their own.
type attempt struct {
	mu sync.Mutex
	attemptSnapshot
}

// attemptSnapshot is what is known of an attempt at one time.
type attemptSnapshot struct {
	upstream       Upstream
	request        requestView   // as it was sent
	sent           *http.Request // nil where it was no HTTP request
	protocol       string        // of the connection; "" before there is one
	status         int           // 0: no response
	responseHeader http.Header
	trailer        http.Header
	answer         grpcAnswer
	reset          Reset
	canceled       bool
	flags          []string // of the attempt's own span
	flag           string   // of the request's span, should no other attempt follow; "" none
	times          upstreamTimes
}

// upstreamTimes are the time marks of bytes that went to a host and came from it; zero is
// unknown (T-11).
type upstreamTimes struct{ firstSent, lastSent, firstReceived, lastReceived time.Time }

func (a *attempt) snapshot() attemptSnapshot {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.attemptSnapshot
}

func (a *attempt) update(f func(*attemptSnapshot)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.attemptSnapshot)
}

func (a *attemptSnapshot) protocolName() string {
	if a.protocol == "" {
		return "-"
	}
	return a.protocol
}

// over returns the request as it was sent, in the scheme that it arrived in.
func (r requestView) over(arrived requestView) requestView {
	if r.header == nil {
		return arrived
	}
	if arrived.scheme != "" {
		r.scheme = arrived.scheme
	}
	if _, ok := arrived.header["User-Agent"]; !ok && slices.Equal(r.header["User-Agent"], []string{""}) {
		// httputil.ReverseProxy keeps net/http's own from being sent this way.
		h := make(http.Header, len(r.header))
		for k, v := range r.header {
			h[k] = v
		}
		delete(h, "User-Agent")
		r.header = h
	}
	return r
}

// viewOf returns a request that is sent, in a proxy's words.
func viewOf(req *http.Request) requestView {
	v := requestView{method: req.Method, scheme: req.URL.Scheme, authority: req.Host, header: req.Header}
	if v.method == "" {
		v.method = http.MethodGet
	}
	if v.authority == "" {
		v.authority = req.URL.Host
	}
	if v.method != http.MethodConnect {
		v.path = req.URL.RequestURI()
	}
	return v
}

// roundTripGateway makes one attempt of a gateway: a span of its own where they are
// spawned (T-20), and in any case what the span of the request has to know of it.
func (rt *transport) roundTripGateway(req *http.Request) (*http.Response, error) {
	t := rt.tracing
	header := copyHeader(req.Header)
	out := Outgoing{Method: req.Method, Carrier: otelprop.HeaderCarrier(header), Upstream: upstreamOf(req.Context()), request: req, sent: req}
	out.filtered = t.clientFilter != nil && !t.asks(callClientFilter, t.clientFilter, req)
	if t.sendTo != nil && !t.maySend(req) {
		out.Carrier = nil
	}
	kept := new(keptCall)
	c := &kept.Call
	ctx := t.startClient(req.Context(), &out, c, &kept.node)
	a := c.attempt
	if a == nil { // neither this call nor the request around it is recorded
		if t.meters != nil {
			return rt.observe(ctx, &watchedCall{Call: *c}, req, header)
		}
		sent := req.WithContext(ctx)
		sent.Header = header
		return rt.base.RoundTrip(sent)
	}
	if t.clientTrace != ClientTraceOff && c.recording() {
		ctx, c.way = t.follow(ctx, c.span)
	}
	sent := req.WithContext(httptrace.WithClientTrace(ctx, a.trace(t.verbose, req.URL.Scheme == "http")))
	sent.Header = header
	if t.meters != nil {
		c.measure(ctx, req, sent)
	}
	a.update(func(a *attemptSnapshot) { a.request, a.sent = viewOf(sent), sent })
	resp, err := rt.send(c, sent)
	if err != nil {
		a.failed(req.Context(), err)
		c.endAttempt(&Outcome{RequestBytes: c.m.requestBytes(), Err: callerError(req.Context(), err)})
		return resp, err
	}
	a.answered(resp)
	c.version = uint8(resp.ProtoMajor<<4 | resp.ProtoMinor&0xf)
	if c.m != nil {
		c.m.series.version = protocolVersion(resp.ProtoMajor, resp.ProtoMinor)
	}
	if len(t.responseHeaders) > 0 && c.recording() {
		list := t.attrs()
		list.capture(t.responseHeaders, otelprop.HeaderCarrier(resp.Header), false)
		c.put(list)
	}
	rt.watchAttempt(c, req, resp)
	return resp, nil
}

// trace returns the hooks by which net/http tells of the connection.
func (a *attempt) trace(verbose, cleartext bool) *httptrace.ClientTrace {
	ct := &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { a.update(func(a *attemptSnapshot) { a.connected(info.Conn) }) },
	}
	if cleartext { // without TLS the connection does not tell its protocol
		ct.WroteHeaderField = func(name string, _ []string) {
			if strings.HasPrefix(name, ":") { // pseudo headers are HTTP/2's
				a.update(func(a *attemptSnapshot) { a.protocol = "HTTP/2" })
			}
		}
	}
	if verbose {
		now := func(at func(*upstreamTimes) *time.Time) {
			a.update(func(a *attemptSnapshot) { *at(&a.times) = time.Now() })
		}
		ct.WroteHeaders = func() { now(func(t *upstreamTimes) *time.Time { return &t.firstSent }) }
		ct.WroteRequest = func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				now(func(t *upstreamTimes) *time.Time { return &t.lastSent })
			}
		}
		ct.GotFirstResponseByte = func() { now(func(t *upstreamTimes) *time.Time { return &t.firstReceived }) }
	}
	return ct
}

// connected notes the host and the protocol of the connection.
func (a *attemptSnapshot) connected(conn net.Conn) {
	a.protocol = "HTTP/1.1"
	if c, ok := conn.(*tls.Conn); ok && c.ConnectionState().NegotiatedProtocol == "h2" {
		a.protocol = "HTTP/2"
	}
	if addr := conn.RemoteAddr(); addr != nil {
		a.upstream.Address = addr.String()
	}
}

// failed notes why there is no response, or none that is whole. ctx is the caller's.
func (a *attempt) failed(ctx context.Context, err error) {
	a.update(func(a *attemptSnapshot) { a.fail(ctx, err) })
}

func (a *attemptSnapshot) fail(ctx context.Context, err error) {
	if a.responseHeader == nil {
		a.times.firstReceived = time.Time{} // what came was no response
	}
	err = failure.Readable(err)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" && op.Addr != nil { // what a name was resolved to
		a.upstream.Address = op.Addr.String()
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrPerTryTimeout) || errors.Is(err, ErrPerTryTimeout):
		a.canceled = true
		a.flags, a.flag = addFlags(a.flags, FlagUpstreamTimeout), FlagUpstreamTimeout
	case ctx.Err() != nil: // the caller's own deadline is the route's
		a.canceled = true
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			a.flag = FlagUpstreamTimeout
		}
	case errors.Is(err, context.Canceled), err == context.DeadlineExceeded: // of a transport that tells no more
		a.canceled = true
		if err == context.DeadlineExceeded {
			a.flag = FlagUpstreamTimeout
		}
	default:
		if a.reset = ResetOf(err); a.reset == 0 && isTimeout(err) { // of the base transport
			a.canceled = true
			a.flags, a.flag = addFlags(a.flags, FlagUpstreamTimeout), FlagUpstreamTimeout
			return
		}
		if a.responseHeader != nil && a.reset == ResetConnectionTermination && a.protocol != "HTTP/2" {
			a.reset = ResetProtocolError // a message of HTTP/1 that has no end
		}
		if f := a.reset.Flag(); f != "" {
			a.flags, a.flag = addFlags(a.flags, f), f
		}
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// answered notes what a response says in its headers.
func (a *attempt) answered(resp *http.Response) {
	a.update(func(a *attemptSnapshot) {
		a.protocol = protocolName(resp.ProtoMajor, resp.ProtoMinor)
		a.responseHeader, a.status = resp.Header, resp.StatusCode
		a.answer.read(resp.Header["Grpc-Status"], resp.Header["Grpc-Message"])
	})
}

// ended notes the trailers of a response that is whole.
func (a *attempt) ended(resp *http.Response) {
	a.update(func(a *attemptSnapshot) {
		a.trailer = resp.Trailer
		a.answer.read(resp.Trailer["Grpc-Status"], resp.Trailer["Grpc-Message"])
		a.times.lastReceived = time.Now()
		if a.times.lastSent.IsZero() && (a.sent.Body == nil || a.sent.Body == http.NoBody) {
			a.times.lastSent = a.times.firstSent
		}
	})
}

// read takes gRPC's status, and its message beside it, from headers or trailers; what is
// there already gives way. Lines are joined (O-4).
func (a *grpcAnswer) read(status, message []string) {
	if len(status) == 0 {
		return
	}
	if a.hasStatus {
		a.before = a.status
	}
	a.status, a.hasStatus = headers.Joined(status), true
	if len(message) > 0 {
		a.message, a.hasMessage = headers.Joined(message), true
	}
}

// watchAttempt ends the attempt with the response's body.
func (rt *transport) watchAttempt(c *Call, req *http.Request, resp *http.Response) {
	upgraded := resp.StatusCode == http.StatusSwitchingProtocols // the body stays the connection
	if bodyless(req, resp) || upgraded {
		if !upgraded {
			c.attempt.ended(resp)
		}
		c.endAttempt(&Outcome{HTTPStatus: resp.StatusCode, RequestBytes: c.m.requestBytes()})
		return
	}
	w := &watchedAttempt{call: c, status: resp.StatusCode, ctx: req.Context()}
	b := &attemptBody{ReadCloser: resp.Body, resp: resp, watched: w}
	// A body that is dropped without Close still ends its span.
	b.cleanup = runtime.AddCleanup(b, (*watchedAttempt).dropped, w)
	resp.Body = b
}

// attemptBody is a response body that ends its attempt.
type attemptBody struct {
	io.ReadCloser
	resp    *http.Response // of this body
	watched *watchedAttempt
	cleanup runtime.Cleanup
}

func (b *attemptBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.watched.bytes.Add(int64(n))
	if err != nil {
		b.done(err)
	}
	return n, err
}

// Close ends the attempt: before the end of the body the response was given up.
func (b *attemptBody) Close() error {
	err := b.ReadCloser.Close()
	b.done(errClosed)
	return err
}

func (b *attemptBody) done(err error) {
	if b.watched.finish(b.resp, err) {
		b.cleanup.Stop()
	}
}

// errClosed ends an attempt whose body was closed before its end.
var errClosed = errors.New("body closed")

// watchedAttempt is what must outlive a dropped body, and so has no way to it: a
// response would be one.
type watchedAttempt struct {
	call   *Call
	status int
	ctx    context.Context
	once   sync.Once

	bytes atomic.Int64
}

// finish ends the attempt unless it was ended, and tells whether it did. resp is nil
// where nobody holds it any more.
func (w *watchedAttempt) finish(resp *http.Response, err error) (did bool) {
	w.once.Do(func() {
		did = true
		o := Outcome{HTTPStatus: w.status, RequestBytes: w.call.m.requestBytes(), ResponseBytes: w.bytes.Load()}
		switch {
		case err == io.EOF:
			w.call.attempt.ended(resp)
		case err == errClosed && w.ctx.Err() != nil:
			w.call.attempt.failed(w.ctx, w.ctx.Err())
		case err == errClosed:
			switch {
			case resp == nil:
			case resp.ContentLength >= 0 && resp.ContentLength <= w.bytes.Load(): // there was nothing left to read
				w.call.attempt.ended(resp)
			default: // a try that is made again
				w.call.attempt.update(func(a *attemptSnapshot) { a.canceled = true })
			}
		default:
			w.call.attempt.failed(w.ctx, err)
			o.Err = callerError(w.ctx, err)
		}
		w.call.endAttempt(&o)
	})
	return did
}

// dropped ends the attempt of a body that nobody holds any more.
func (w *watchedAttempt) dropped() {
	w.call.SetAttributes(semconv.BodyDropped.Bool(true))
	w.finish(nil, errClosed)
}

// endAttempt ends the span of an attempt, if it has one of its own.
func (c *Call) endAttempt(o *Outcome) {
	if c.owned || c.m != nil {
		c.end(o, "")
	}
}

// Names of the events that tell when bytes went and came, in Envoy's order (T-11).
var verboseNames = [...]string{
	"last_downstream_rx_byte_received",
	"first_upstream_tx_byte_sent", "last_upstream_tx_byte_sent",
	"first_upstream_rx_byte_received", "last_upstream_rx_byte_received",
	"first_downstream_tx_byte_sent", "last_downstream_tx_byte_sent",
}

// verboseEvents puts the time marks that are known on the span.
func (c *Call) verboseEvents(received time.Time, u upstreamTimes, firstSent, lastSent time.Time) {
	for i, at := range [...]time.Time{received, u.firstSent, u.lastSent, u.firstReceived, u.lastReceived, firstSent, lastSent} {
		if !at.IsZero() {
			c.span.AddEvent(verboseNames[i], trace.WithTimestamp(at))
		}
	}
}
