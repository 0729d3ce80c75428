package propagation

import (
	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/requestid"
)

// readIDs reads the ids of a request; an x-request-id that requestid.Parse refuses is
// none.
func readIDs(src *headers.Source) headers.IDs {
	in := src.IDs()
	if in.Request != "" {
		if _, err := requestid.Parse(in.Request); err != nil {
			in.Request = ""
		}
	}
	return in
}

// writeIDs writes the ids of the request whose state is s.
func writeIDs(s *reqctx.State, k *sink) {
	if s.RequestID != "" {
		id := string(requestid.FromContext(s)) // with the digit of the decision
		have := k.get(&headers.RequestID)
		// An id that the caller set itself stays, unless it is this one with the
		// digit of another decision.
		if (have == "" || have != id && requestid.Equal(requestid.ID(have), requestid.ID(id))) && sendable(id) {
			k.set(&headers.RequestID, id)
		}
	}
	if s.HasClientTraceID && k.get(&headers.ClientTraceID) == "" && sendable(s.ClientTraceID) {
		k.set(&headers.ClientTraceID, s.ClientTraceID)
	}
}

// sendable reports whether s has no control byte. A program may put any string into
// a context, and requestid.Policy may keep an id of any bytes.
func sendable(s string) bool {
	const tops = 0x80 * everyByte
	for ; len(s) >= 8; s = s[8:] {
		w := load8(s)
		del := w ^ 0x7f*everyByte
		// Bytes below the space, and those that are zero in del.
		if (w-' '*everyByte)&^w&tops|(del-everyByte)&^del&tops != 0 {
			return false
		}
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
