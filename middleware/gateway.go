package middleware

import (
	"fmt"
	"net/http"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/span"
)

// Direction is which way the requests of a gateway's listener go. // N-1
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

// proxied is what a gateway knows of a request beside its Call: the span's name and
// the operation header, which travels in both directions.
type proxied struct {
	operation string // names the span; "" leaves its first name
	request   string // goes upstream as the operation header; "" leaves what came
	response  string // goes to the caller as the operation header; "" leaves what came
	decorates bool   // the operation header is looked at and taken away
}

// defaultName is the name of a gateway's span that nothing else names. // N-2
func (t *Tracing) defaultName(host string) string {
	if t.direction == Egress {
		return semconv.Cut("egress "+host, maxOperation)
	}
	return "ingress"
}

// serverKind is the kind of a gateway's span for the request it serves. // T-21
func (t *Tracing) serverKind() trace.SpanKind {
	if t.direction == Egress && !t.spawn {
		return trace.SpanKindClient
	}
	return trace.SpanKindServer
}

// maxOperation bounds the name that a request or response gives a span, in bytes. It
// is Envoy's limit for all headers of a request, a name of that size is nobody's.
const maxOperation = 1 << 10

// decorate settles what the operation header and the route's decorator make of a
// request: N-4 to N-8, N-10, N-11. src are the headers as they arrived.
func (c *serverCall) decorate(d span.Decorator, src *headers.Source) {
	p := c.gateway
	if p.decorates = !c.tracing.disabled; !p.decorates { // O-1
		return
	}
	caller := ""
	if !c.origin.edge { // ED-9: a stranger renames nothing
		caller = headers.Joined(src.Lines(&c.tracing.names.operation)) // O-4
	}
	switch {
	case c.tracing.direction == Egress: // N-10, N-11
		p.operation = d.Operation
		if !d.Private {
			p.request = d.Operation
		}
	case caller != "": // N-7
		p.operation = semconv.Cut(caller, maxOperation)
	default: // N-5, N-6, N-8
		p.operation = d.Operation
		if !d.Private {
			p.response = d.Operation
		}
	}
}

// editOperation edits the operation header of a request that goes upstream.
func (c *serverCall) editOperation(e *headerEdit) {
	p, name := c.gateway, c.tracing.names.operation.Canonical
	switch {
	case !p.decorates:
	case c.tracing.direction == Ingress: // N-5 to N-8
		e.remove(name)
	case p.request != "": // N-10
		e.set(name, p.request)
	}
}

// respondOperation edits the operation header of a response that goes to the caller.
func (c *serverCall) respondOperation(h http.Header) {
	p, name := c.gateway, c.tracing.names.operation.Canonical
	switch {
	case c.tracing.direction == Egress: // N-10 to N-12
		if callee := headers.Joined(h[name]); callee != "" {
			c.Call.span.SetName(semconv.Cut(callee, maxOperation))
		}
		delete(h, name)
	case p.response != "": // N-5
		h[name] = []string{p.response}
	}
}

// answersOperation tells whether respondOperation has something to do.
func (c *serverCall) answersOperation() bool {
	return c.gateway != nil && c.gateway.decorates && (c.gateway.response != "" || c.tracing.direction == Egress)
}
