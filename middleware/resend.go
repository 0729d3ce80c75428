package middleware

import (
	"context"
	"net/http"
	"sync"

	"go.opentelemetry.io/otel/trace"
)

// CountResends returns a context in which Transport takes every request after the
// first for a resend, as http.request.resend_count says: a client that retries by
// itself gives it to all attempts of one call. Redirects are counted without it.
//
//	ctx = middleware.CountResends(ctx)
//	for {
//		req, err := http.NewRequestWithContext(ctx, …)
//		…
//		resp, err := client.Do(req)
//
// It costs one allocation. The context may be used concurrently; then the order of
// arrival counts.
func CountResends(ctx context.Context) context.Context {
	return &resendCounter{Context: ctx}
}

// resendCounter is a context that counts the requests made with it.
type resendCounter struct {
	context.Context
	mu   sync.Mutex
	sent int
	last trace.SpanContext // of the request before
}

type resendKey struct{}

// Value answers for the counter itself, else asks the parent.
func (r *resendCounter) Value(key any) any {
	if key == (resendKey{}) {
		return r
	}
	return r.Context.Value(key)
}

// next counts a request whose span is sc, and returns how many came before and the
// span of the last of them.
func (r *resendCounter) next(sc trace.SpanContext) (n int, before trace.SpanContext) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, before = r.sent, r.last
	r.sent, r.last = r.sent+1, sc
	return n, before
}

// maxRedirects bounds the chain that is followed; http.Client gives up after ten.
const maxRedirects = 100

// resends returns how many requests for the same call came before req, whose span is
// sc, and the span of the last of them.
func resends(req *http.Request, sc trace.SpanContext) (n int, before trace.SpanContext) {
	if counter, ok := req.Context().Value(resendKey{}).(*resendCounter); ok {
		return counter.next(sc)
	}
	for r := req.Response; r != nil && n < maxRedirects; r = r.Request.Response {
		n++
		if r.Request == nil {
			break
		}
		if n == 1 {
			before = trace.SpanContextFromContext(r.Request.Context())
		}
	}
	return n, before
}
