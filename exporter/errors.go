package exporter

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// ErrShutdown is what ForceFlush returns once Shutdown was called.
var ErrShutdown = errors.New("exporter: already shut down")

// CodePartialSuccess is the Code of a [SendError] that comes with an accepted
// request: the collector took it, but refused some of its spans or had something to
// say. It is also their key in [Stats].Rejected.
const CodePartialSuccess = "partial_success"

// LossError says how many spans a Shutdown or ForceFlush could not deliver.
type LossError struct {
	Lost   uint64 // spans rejected or dropped since the call began, each counted in Stats
	OnDisk uint64 // spans that stay in a queue directory for the next start; 0 without one
	Err    error  // why: the last *SendError, the context's error, or both joined
}

// Error names the numbers and the reason.
func (e *LossError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "exporter: %d %s lost", e.Lost, plural(e.Lost, "span", "spans"))
	if e.OnDisk > 0 {
		fmt.Fprintf(&b, ", %d kept on disk", e.OnDisk)
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(oneLine(e.Err.Error(), 400))
	}
	return b.String()
}

// Unwrap returns Err.
func (e *LossError) Unwrap() error { return e.Err }

// SendError is a request that failed, or was accepted with a remark
// ([CodePartialSuccess]). A [Sender] returns it to say whether the same spans may be
// sent again; any other error of a Sender counts as one that may.
type SendError struct {
	Status int           // HTTP status of the answer; 0 when there was none, or none that mattered
	Code   string        // key in Stats.Rejected: "UNAVAILABLE" (gRPC), "503" (HTTP); "" when there was no answer
	Retry  bool          // the same request may succeed later (OTLP, "Failures": retryable)
	After  time.Duration // not before this, as the collector asked; 0: it did not. More than 5 min count as 5 min
	Advice string        // what to change, and which option or variable; "" when nothing is known
	Err    error         // what happened; text from the collector is cut and escaped

	kind string // failures of one kind share one log line a minute; "": Code
	cut  bool   // the connection broke with the request on it
	ours bool   // nothing was sent
}

// answered reports whether the failure is the collector's word.
func (e *SendError) answered() bool { return e.Code != "" || e.Status != 0 }

// Error says what happened and what to change, in one line.
func (e *SendError) Error() string {
	what := e.Code
	if e.Err != nil {
		what = oneLine(e.Err.Error(), 400)
	}
	if e.Advice == "" {
		return what
	}
	return what + ": " + e.Advice
}

// Unwrap returns Err.
func (e *SendError) Unwrap() error { return e.Err }

// tooLarge reports whether fewer spans in one request would help.
func (e *SendError) tooLarge() bool {
	if e.Retry {
		return false
	}
	if e.Status == 413 {
		return true
	}
	// gRPC servers use the same code for "too much" and "too many".
	return e.Code == "RESOURCE_EXHAUSTED" && e.Err != nil && mentionsSize(e.Err.Error())
}

// mentionsSize knows how gRPC servers say that a message is above their limit.
func mentionsSize(s string) bool {
	s = strings.ToLower(s)
	for _, t := range []string{
		"larger than max", "exceeds maximum size", "message too large", "message length too large",
		"larger than the limit", "exceeds the limit",
	} {
		if strings.Contains(s, t) {
			return true
		}
	}
	return strings.Contains(s, "more than") && strings.Contains(s, "bytes")
}

// oneLine makes text from outside safe for a log line: control characters are
// escaped and at most limit bytes are kept, whole characters only.
func oneLine(s string, limit int) string {
	const mark = "…"
	var b strings.Builder
	end := 0 // where the mark would go
	for _, r := range strings.ToValidUTF8(s[:min(len(s), 4*limit)], "\uFFFD") {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		if b.Len() > limit {
			return strings.TrimSpace(b.String()[:end]) + mark
		}
		if b.Len() <= limit-len(mark) {
			end = b.Len()
		}
	}
	return strings.TrimSpace(b.String())
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
