package requestid

import (
	"context"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

// NewContext returns a context whose outgoing calls carry id: for work that did
// not begin with a request, such as a job from a queue, or to take another id
// in the middle of one. All else that ctx knows of the request stays, the
// decision to trace it included; if that made a reason digit of the old id, id
// gets the same. An empty id stops the forwarding. It does not check id: [Parse]
// does.
func NewContext(ctx context.Context, id ID) context.Context {
	around := reqctx.From(ctx)
	if around == nil {
		return &reqctx.State{Context: ctx, RequestID: string(id)}
	}
	if r := travelling(around).Reason(); r != NotTraceable {
		id = id.WithReason(r)
	}
	s := around.Derive(ctx)
	s.RequestID = string(id)
	return s
}

// FromContext returns the id of the request around ctx as outgoing calls carry
// it, "" when there is none. It allocates only where the decision to trace has
// still to be written into the id.
func FromContext(ctx context.Context) ID {
	s := reqctx.From(ctx)
	if s == nil {
		return ""
	}
	return travelling(s)
}

// travelling is the id of s with the digit of the decision, where that says it
// must be written.
func travelling(s *reqctx.State) ID {
	id := ID(s.RequestID)
	if d, ok := s.Decision(); ok && d.Write {
		return id.WithReason(Reason(d.Reason))
	}
	return id
}

// ClientTraceID returns the x-client-trace-id of the request around ctx and
// whether there was one: presence counts, so the value may be empty and true
// (D-11). The value is the client's own: it is forwarded and recorded as it is
// and is never a trace id (D-14).
func ClientTraceID(ctx context.Context) (string, bool) {
	s := reqctx.From(ctx)
	if s == nil {
		return "", false
	}
	return s.ClientTraceID, s.HasClientTraceID
}
