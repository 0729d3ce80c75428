package middleware

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http/httptrace"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/span"
)

// ClientTrace says how much of an outgoing request's way is shown: name lookup,
// connecting, TLS, and the times of the first bytes, as net/http/httptrace has them.
type ClientTrace uint8

const (
	// ClientTraceOff shows none of it.
	ClientTraceOff ClientTrace = iota
	// ClientTraceEvents are events on the client span: http.conn.wait, http.conn.got,
	// http.dns.start, http.dns.done, http.connect.start, http.connect.done,
	// http.tls.start, http.tls.done, http.request.sent, http.response.first_byte.
	ClientTraceEvents
	// ClientTraceSpans are spans below the client span: http.conn, http.dns,
	// http.connect, http.tls; and the two events http.request.sent and
	// http.response.first_byte on it. A connection that another request began, or
	// goes on to use, is not awaited: its spans end with the client span.
	ClientTraceSpans
)

// String returns the name of c in lower case.
func (c ClientTrace) String() string {
	switch c {
	case ClientTraceOff:
		return "off"
	case ClientTraceEvents:
		return "events"
	case ClientTraceSpans:
		return "spans"
	}
	return fmt.Sprintf("ClientTrace(%d)", uint8(c))
}

// way follows one request. Its hooks run on any goroutine, also after the request.
type way struct {
	ctx    context.Context
	call   trace.Span
	tracer trace.Tracer // nil: events

	mu   sync.Mutex
	open map[string]trace.Span
	over bool
}

// follow returns ctx with hooks that show the way of the request whose span is in it,
// and the way, to be ended before that span is.
func (t *Tracing) follow(ctx context.Context, call trace.Span) (context.Context, *way) {
	w := &way{ctx: ctx, call: call}
	if t.clientTrace == ClientTraceSpans {
		w.tracer, w.open = t.tracer, make(map[string]trace.Span)
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { w.begin("http.conn", "http.conn", "http.conn.wait") },
		GotConn: func(info httptrace.GotConnInfo) {
			kvs := []attribute.KeyValue{attribute.Bool("http.conn.reused", info.Reused)}
			if info.Conn != nil {
				if peer := peer(info.Conn.RemoteAddr().String()); peer.IsValid() {
					kvs = append(kvs, semconv.NetworkPeerAddress.String(peer.String()),
						semconv.NetworkPeerPort.Int(portOf(info.Conn.RemoteAddr().String())))
				}
			}
			w.end("http.conn", "http.conn.got", nil, kvs...)
		},
		DNSStart: func(info httptrace.DNSStartInfo) {
			w.begin("http.dns", "http.dns", "http.dns.start", semconv.ServerAddress.String(semconv.Cut(info.Host, maxHost)))
		},
		DNSDone: func(info httptrace.DNSDoneInfo) { w.end("http.dns", "http.dns.done", info.Err) },
		ConnectStart: func(network, addr string) {
			w.begin(network+addr, "http.connect", "http.connect.start", peerOf(addr)...)
		},
		ConnectDone: func(network, addr string, err error) {
			w.end(network+addr, "http.connect.done", err, peerOf(addr)...)
		},
		TLSHandshakeStart: func() { w.begin("http.tls", "http.tls", "http.tls.start") },
		TLSHandshakeDone:  func(_ tls.ConnectionState, err error) { w.end("http.tls", "http.tls.done", err) },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			w.event("http.request.sent", info.Err)
		},
		GotFirstResponseByte: func() { w.event("http.response.first_byte", nil) },
	}), w
}

func peerOf(addr string) []attribute.KeyValue {
	ip := peer(addr)
	if !ip.IsValid() {
		return nil
	}
	return []attribute.KeyValue{semconv.NetworkPeerAddress.String(ip.String()), semconv.NetworkPeerPort.Int(portOf(addr))}
}

// begin begins a part of the way: a span of that name under key, or an event.
func (w *way) begin(key, name, event string, kvs ...attribute.KeyValue) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.over:
	case w.tracer == nil:
		w.call.AddEvent(event, trace.WithAttributes(kvs...))
	case w.open[key] == nil:
		_, sp := w.tracer.Start(w.ctx, name, trace.WithAttributes(kvs...))
		w.open[key] = sp
	}
}

// end ends the part under key.
func (w *way) end(key, event string, err error, kvs ...attribute.KeyValue) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	status := span.Semconv.HTTP(trace.SpanKindClient, 0, err)
	if status.ErrorType != "" {
		kvs = append(kvs, semconv.ErrorType.String(status.ErrorType))
	}
	if w.tracer == nil {
		w.call.AddEvent(event, trace.WithAttributes(kvs...))
		return
	}
	sp := w.open[key]
	if sp == nil {
		return
	}
	delete(w.open, key)
	sp.SetAttributes(kvs...)
	if status.Code != codes.Unset {
		sp.SetStatus(status.Code, status.Description)
	}
	sp.End()
}

// event marks a moment on the client span.
func (w *way) event(name string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	if status := span.Semconv.HTTP(trace.SpanKindClient, 0, err); status.ErrorType != "" {
		w.call.AddEvent(name, trace.WithAttributes(semconv.ErrorType.String(status.ErrorType)))
		return
	}
	w.call.AddEvent(name)
}

// finish ends what is still open; what comes later says nothing any more.
func (w *way) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	for _, sp := range w.open {
		sp.End()
	}
	w.open = nil
}
