package middleware

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

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

// spareHeaders is room for the headers written into a request.
const spareHeaders = 6

func (rt *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	header := make(http.Header, len(req.Header)+spareHeaders)
	for k, v := range req.Header {
		header[k] = v[:len(v):len(v)] // shared, and safe from an append
	}
	method, original := methodOf(req.Method)
	name := method
	if original != "" {
		name = "HTTP"
	}
	c := new(Call)
	out := Outgoing{Name: name, Carrier: otelprop.HeaderCarrier(header)}
	if send := rt.tracing.sendTo; send != nil && !send(req) {
		out.Carrier = nil // a span, and nothing in the headers
	}
	ctx := rt.tracing.startClient(req.Context(), &out, c)
	sent := req.WithContext(ctx)
	sent.Header = header
	recording := c.owned && c.span.IsRecording()
	if recording {
		c.describe(req, method, original)
	}
	resp, err := rt.base.RoundTrip(sent)
	if !recording {
		return resp, err
	}
	if err != nil {
		c.end(&Outcome{Err: callerError(req.Context(), err)}, "")
		return resp, err
	}
	c.span.SetAttributes(semconv.NetworkProtocolVersion.String(protocolVersion(resp.ProtoMajor, resp.ProtoMinor)))
	rt.watch(c, req, resp)
	return resp, nil
}

// callerError is err, or the caller's own cancellation when that was the reason.
func callerError(ctx context.Context, err error) error {
	if cerr := ctx.Err(); errors.Is(cerr, context.Canceled) {
		return cerr
	}
	return err
}

// describe puts on the span what the request says of itself.
func (c *Call) describe(req *http.Request, method, original string) {
	a := c.tracing.attrs()
	a.add(semconv.HTTPRequestMethod.String(method))
	if original != "" {
		a.add(semconv.HTTPRequestMethodOriginal.String(original))
	}
	a.add(semconv.URLFull.String(fullURL(req.URL)))
	host, port := splitHost(req.URL.Host)
	if port == 0 {
		port = map[string]int{"http": 80, "https": 443}[req.URL.Scheme]
	}
	a.add(semconv.ServerAddress.String(semconv.Cut(host, maxHost)))
	if port != 0 {
		a.add(semconv.ServerPort.Int(port))
	}
	if n := resends(req); n > 0 {
		a.add(semconv.HTTPRequestResendCount.Int(n))
	}
	c.span.SetAttributes(a.list...)
	a.put()
}

// resends counts the redirects that led to req.
func resends(req *http.Request) int {
	n := 0
	for r := req.Response; r != nil && n < 100; n++ {
		if r.Request == nil {
			return n + 1
		}
		r = r.Request.Response
	}
	return n
}

// watch ends the call with the response's body.
func (rt *transport) watch(c *Call, req *http.Request, resp *http.Response) {
	if resp.Body == nil || resp.Body == http.NoBody || resp.ContentLength == 0 && resp.StatusCode != http.StatusSwitchingProtocols {
		c.end(&Outcome{HTTPStatus: resp.StatusCode}, "")
		return
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		c.end(&Outcome{HTTPStatus: resp.StatusCode}, "") // the body stays the connection
		return
	}
	b := &body{ReadCloser: resp.Body, ctx: req.Context(), watched: &watchedCall{call: c, status: resp.StatusCode}}
	b.watched.lastRead.Store(time.Now().UnixNano())
	// A body that is dropped without Close still ends its span, at its last read.
	b.cleanup = runtime.AddCleanup(b, (*watchedCall).dropped, b.watched)
	resp.Body = b
}

// body is a response body that ends its call.
type body struct {
	io.ReadCloser
	ctx     context.Context
	watched *watchedCall
	cleanup runtime.Cleanup
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.watched.bytes.Add(int64(n))
	switch {
	case err == nil:
		b.watched.lastRead.Store(time.Now().UnixNano())
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
		b.cleanup.Stop()
	}
}

// watchedCall is what must outlive a dropped body.
type watchedCall struct {
	call     *Call
	status   int
	ended    atomic.Bool
	bytes    atomic.Int64
	lastRead atomic.Int64 // Unix nanoseconds
}

// finish ends the call unless it was ended, and tells whether it did.
func (w *watchedCall) finish(err error, at time.Time) bool {
	if !w.ended.CompareAndSwap(false, true) {
		return false
	}
	o := Outcome{HTTPStatus: w.status, ResponseBytes: w.bytes.Load(), Err: err}
	if at.IsZero() {
		w.call.end(&o, "")
	} else {
		w.call.end(&o, "", trace.WithTimestamp(at))
	}
	return true
}

// dropped ends the call of a body that nobody holds any more.
func (w *watchedCall) dropped() {
	if !w.ended.Load() {
		w.call.span.SetAttributes(semconv.BodyDropped.Bool(true))
		w.finish(nil, time.Unix(0, w.lastRead.Load()))
	}
}
