package tracetree

import (
	"go.opentelemetry.io/otel/attribute"

	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/requestid"
)

// RequestID is the x-request-id recorded on the span, "" when there is none.
func (n *Node) RequestID() string {
	v, ok := n.Attr(semconv.EnvoyRequestID)
	if !ok || v.Type() != attribute.STRING {
		return ""
	}
	return v.AsString()
}

// FirstRequestID is the first request id at or below n, in the order of Walk: that of
// the request which n belongs to, also when n itself was recorded by something
// that knows no request ids.
func (n *Node) FirstRequestID() string {
	for m := range n.Walk() {
		if id := m.RequestID(); id != "" {
			return id
		}
	}
	return ""
}

// Reason reads the sampling reason out of a request id: its digit (RID-9) and
// what it means in a few words. An id of another form carries none (RID-10): the
// digit is "" then.
func Reason(id string) (digit, words string) {
	if len(id) != 36 {
		return "", "no reason in an id of this form"
	}
	switch requestid.ID(id).Reason() {
	case requestid.Sampling:
		words = "sampled at random"
	case requestid.ServiceForced:
		words = "forced by a service"
	case requestid.ClientForced:
		words = "forced by the client"
	default:
		words = "no reason noted in the id"
	}
	return escape(id[14:15], 1), words
}
