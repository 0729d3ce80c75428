package middleware

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/failure"
	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/internal/semconv"
)

// Transport sends requests over base inside client spans, with trace context and
// ids in their headers. nil is http.DefaultTransport. One span stands for one
// RoundTrip, so a redirect has its own. It ends when the response's body is read to
// its end or closed, or at once when the request failed. The request of the caller
// is not changed.
func (t *Tracing) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{tracing: t, base: base}
}

type transport struct {
	tracing *Tracing
	base    http.RoundTripper
}

// CloseIdleConnections passes the call on, as http.Client expects of a transport.
func (rt *transport) CloseIdleConnections() {
	if c, ok := rt.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// copyHeader returns h in a map of its own with room for what is written into it. The
// values are shared: nobody below may change a request that it gets.
func copyHeader(h http.Header) http.Header {
	const spare, small = 6, 4 // headers written, and those with whom most of them find room in a clone
	if n := len(h); n > 0 && n <= small {
		return maps.Clone(h) // in one piece
	}
	c := make(http.Header, len(h)+spare)
	maps.Copy(c, h)
	return c
}

func (rt *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if rt.tracing.role == Gateway {
		resp, err := rt.roundTripGateway(req)
		if err == nil && !upstreamOf(req.Context()).Own {
			proxiedFrom(req.Context()).relay(resp)
		}
		return resp, err
	}
	t, header := rt.tracing, copyHeader(req.Header)
	name, original := t.methodOf(req.Method)
	if original != "" {
		name = "HTTP"
	}
	var c Call // not on the heap, unless there is something to record
	out := Outgoing{Name: name, Method: req.Method, Carrier: otelprop.HeaderCarrier(header), sent: req}
	if t.sendTo != nil && !t.maySend(req) {
		out.Carrier = nil // a span, and nothing in the headers
	}
	if t.spanName != nil || t.attributes != nil {
		out.request = req
	}
	out.filtered = t.clientFilter != nil && !t.asks(callClientFilter, t.clientFilter, req)
	ctx := t.startClient(req.Context(), &out, &c, nil)
	if !c.recording() && t.meters == nil {
		sent := req.WithContext(ctx)
		sent.Header = header
		return rt.base.RoundTrip(sent)
	}
	w := out.watched
	if w == nil { // measured alone
		w = new(watchedCall)
	}
	w.Call = c
	return rt.observe(ctx, w, req, header)
}

// observe sends req with those headers and records what comes of it.
func (rt *transport) observe(ctx context.Context, w *watchedCall, req *http.Request, header http.Header) (*http.Response, error) {
	c, t := &w.Call, rt.tracing
	recording := c.recording()
	if recording && t.clientTrace != ClientTraceOff {
		ctx, c.way = t.follow(ctx, c.span)
	}
	sent := req.WithContext(ctx)
	sent.Header = header
	if t.meters != nil {
		c.measure(ctx, req, sent)
	}
	resp, err := rt.send(c, sent)
	if err != nil {
		c.end(&Outcome{RequestBytes: c.m.requestBytes(), Err: callerError(req.Context(), err)}, "")
		return resp, err
	}
	c.version = uint8(resp.ProtoMajor<<4 | resp.ProtoMinor&0xf)
	if c.m != nil {
		c.m.series.version = protocolVersion(resp.ProtoMajor, resp.ProtoMinor)
	}
	if recording && len(t.responseHeaders) > 0 {
		a := t.attrs()
		a.capture(t.responseHeaders, otelprop.HeaderCarrier(resp.Header), false)
		c.put(a)
	}
	w.watch(req, resp)
	return resp, nil
}

// send sends a request that is observed. A panic of the base is the base's, unchanged,
// after the call ended.
func (rt *transport) send(c *Call, sent *http.Request) (*http.Response, error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		c.end(&Outcome{RequestBytes: c.m.requestBytes(), Err: failure.Of(v)}, "")
		if v != nil {
			panic(v) // nil is runtime.Goexit
		}
	}()
	resp, err := rt.base.RoundTrip(sent)
	returned = true
	return resp, err
}

// measure begins to measure the call.
func (c *Call) measure(ctx context.Context, req, sent *http.Request) {
	c.m = c.tracing.beginHTTP(ctx, httpClient, req.Method, "", 0, 0)
	c.m.series.server = clientServer(req)
	if c.tracing.meters.requestSize[httpClient] != nil && req.Body != nil {
		length := req.ContentLength
		if length == 0 && req.Body != http.NoBody {
			length = -1 // unknown, for a client
		}
		sent.Body = c.m.count(req.Body, length)
	}
}

// callerError is err, or the caller's own cancellation when that was the reason.
func callerError(ctx context.Context, err error) error {
	if cerr := ctx.Err(); errors.Is(cerr, context.Canceled) {
		return cerr
	}
	return err
}

// describe adds what the request says of itself.
func (c *Call) describe(a *attrs, req *http.Request) {
	method, original := c.tracing.methodOf(req.Method)
	a.str(semconv.HTTPRequestMethod, method)
	if original != "" {
		a.str(semconv.HTTPRequestMethodOriginal, original)
	}
	a.str(semconv.URLFull, c.tracing.secrets.url(req.URL))
	to := clientServer(req)
	a.str(semconv.ServerAddress, to.address)
	if to.port != 0 {
		a.num(semconv.ServerPort, int64(to.port))
	}
	if n, before := resends(req, c.span.SpanContext()); n > 0 {
		a.num(semconv.HTTPRequestResendCount, int64(n))
		if before.IsValid() && before.TraceID() != c.span.SpanContext().TraceID() {
			c.span.AddLink(trace.Link{SpanContext: before}) // nothing else joins roots
		}
	}
}

// bodyless tells whether the answer to req has no body, whatever its length says. HTTP/2
// has a value of its own for such a body, and few callers close it.
func bodyless(req *http.Request, resp *http.Response) bool {
	return resp.Body == nil || resp.Body == http.NoBody || req.Method == http.MethodHead ||
		resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified
}

// watch ends the call with the response's body.
func (w *watchedCall) watch(req *http.Request, resp *http.Response) {
	if resp.StatusCode == http.StatusSwitchingProtocols || // the body stays the connection
		bodyless(req, resp) || resp.ContentLength == 0 {
		w.end(&Outcome{HTTPStatus: resp.StatusCode, RequestBytes: w.m.requestBytes()}, "")
		return
	}
	w.status = resp.StatusCode
	b := &body{ReadCloser: resp.Body, ctx: req.Context(), watched: w}
	w.lastRead.Store(w.now())
	// A body that is dropped without Close still ends its span, at its last read.
	w.tracing.bodies.add(b)
	resp.Body = b
}

// body is a response body that ends its call.
type body struct {
	io.ReadCloser
	ctx     context.Context
	watched *watchedCall

	shard   *bodyShard      // whose mu is for what is below
	at      int             // in shard.young; less than 0: there is a cleanup
	cleanup runtime.Cleanup // ends a body that is dropped
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.watched.bytes.Add(int64(n))
	switch {
	case err == nil:
		b.watched.lastRead.Store(b.watched.now())
	case err == io.EOF:
		b.done(nil)
	default:
		b.done(callerError(b.ctx, err))
	}
	return n, err
}

// Close ends the call, which is no error: a caller may have read enough.
func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.done(nil)
	return err
}

func (b *body) done(err error) {
	if b.watched.finish(err, time.Time{}) {
		b.remove()
	}
}

// watchedCall is a call and what must outlive a dropped body.
type watchedCall struct {
	Call
	node     reqctx.Node // of the span
	status   int
	done     atomic.Bool
	bytes    atomic.Int64
	lastRead atomic.Int64 // Unix nanoseconds
}

// now is the time in Unix nanoseconds. From the start of a span on it takes one clock
// instead of two.
func (w *watchedCall) now() int64 {
	if w.rec == nil {
		return time.Now().UnixNano()
	}
	start := w.rec.StartTime()
	return start.UnixNano() + int64(time.Since(start))
}

// finish ends the call unless it was ended, and tells whether it did.
func (w *watchedCall) finish(err error, at time.Time) bool {
	if !w.done.CompareAndSwap(false, true) {
		return false
	}
	o := Outcome{HTTPStatus: w.status, ResponseBytes: w.bytes.Load(), RequestBytes: w.m.requestBytes(), Err: err}
	if at.IsZero() {
		w.end(&o, "")
	} else {
		if w.m != nil {
			w.m.ended = at
		}
		w.end(&o, "", trace.WithTimestamp(at))
	}
	return true
}

// dropped ends the call of a body that nobody holds any more.
func (w *watchedCall) dropped() {
	if !w.done.Load() {
		w.SetAttributes(semconv.BodyDropped.Bool(true))
		w.finish(nil, time.Unix(0, w.lastRead.Load()))
	}
}
