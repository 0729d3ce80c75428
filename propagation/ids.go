package propagation

import (
	"context"

	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/requestid"
)

// maxClientTraceID bounds x-client-trace-id in bytes. A longer value, one with bytes
// that are not printable ASCII, and several values count as present and empty:
// presence is what the decision looks at (D-11).
const maxClientTraceID = 256

// ids are the ids of one request as they came in.
type ids struct {
	request, clientTrace  string
	hasClientTrace, force bool
}

func readIDs(src *source) ids {
	var in ids
	if v := single(src.lines(&requestIDHeader)); v != "" {
		if id, err := requestid.Parse(v); err == nil {
			in.request = string(id)
		}
	}
	if lines := src.lines(&clientTraceIDHeader); len(lines) > 0 {
		in.hasClientTrace = true // D-11
		if v := single(lines); len(v) <= maxClientTraceID && printable(v) {
			in.clientTrace = v
		}
	}
	in.force = len(src.lines(&forceTraceHeader)) > 0 // D-11
	return in
}

// single returns the one line that is not empty, "" when there are several or more
// than a few lines at all. O-4: Envoy drops empty lines and joins the others with a
// comma, and that is no id.
func single(lines []string) string {
	if len(lines) > 8 {
		return ""
	}
	v := ""
	for _, line := range lines {
		if line == "" {
			continue
		}
		if v != "" {
			return ""
		}
		v = line
	}
	return v
}

// writeIDs writes the ids of the request around ctx, which s is the state of.
func writeIDs(ctx context.Context, s *reqctx.State, k *sink) {
	if s.RequestID != "" {
		id := string(requestid.FromContext(ctx)) // with the digit of the decision
		have := k.get(&requestIDHeader)
		// An id that the caller set itself stays, unless it is this one with the
		// digit of another decision.
		if (have == "" || have != id && requestid.Equal(requestid.ID(have), requestid.ID(id))) && sendable(id) {
			k.set(&requestIDHeader, id)
		}
	}
	if s.HasClientTraceID && k.get(&clientTraceIDHeader) == "" && sendable(s.ClientTraceID) {
		k.set(&clientTraceIDHeader, s.ClientTraceID)
	}
}

// sendable reports whether s has no control byte. A program may put any string into
// a context, and requestid.Policy may keep an id of any bytes.
func sendable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// printable reports whether s is printable ASCII, space included.
func printable(s string) bool {
	for i := range len(s) {
		if s[i]-' ' > '~'-' ' {
			return false
		}
	}
	return true
}
