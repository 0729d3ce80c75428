package headers

import (
	"reflect"
	"strings"

	otelprop "go.opentelemetry.io/otel/propagation"
)

// Name is the name of a header in the two forms that carriers know: canonical as
// in net/http, and lower case.
type Name struct{ Canonical, Lower string }

// The headers that every request may have, whatever trace formats are read.
var (
	RequestID     = Name{"X-Request-Id", "x-request-id"}
	ClientTraceID = Name{"X-Client-Trace-Id", "x-client-trace-id"}
	ForceTrace    = Name{"X-Envoy-Force-Trace", "x-envoy-force-trace"}
)

// Source reads header lines from a carrier. An http.Header is indexed by its
// canonical keys, which costs neither a call through an interface nor an allocation.
// The zero value has no header.
type Source struct {
	header  otelprop.HeaderCarrier
	values  otelprop.ValuesGetter
	carrier otelprop.TextMapCarrier
	one     [1]string
}

// NewSource returns a Source over c; nil has no header.
func NewSource(c otelprop.TextMapCarrier) Source {
	var s Source
	s.Reset(c)
	return s
}

// Reset makes s a Source over c. It saves hot paths the copy that NewSource returns.
func (s *Source) Reset(c otelprop.TextMapCarrier) {
	s.header, s.values, s.carrier = nil, nil, nil
	if h, ok := c.(otelprop.HeaderCarrier); ok { // apart: of the others it takes a search to tell which
		s.header = h
	} else if v, ok := c.(otelprop.ValuesGetter); ok {
		s.values = v
	} else {
		s.carrier = c
	}
}

// Same tells whether a and b are carriers over the very same http.Header.
func Same(a, b otelprop.TextMapCarrier) bool {
	x, ok := a.(otelprop.HeaderCarrier)
	y, ok2 := b.(otelprop.HeaderCarrier)
	return ok && ok2 && x != nil && reflect.ValueOf(x).Pointer() == reflect.ValueOf(y).Pointer()
}

// Lines returns all lines of h, in order. Carriers without ValuesGetter have one at
// most, and cannot tell an empty one from none. The slice is the carrier's, or good
// until the next call.
func (s *Source) Lines(h *Name) []string {
	switch {
	case s.header != nil:
		return s.header[h.Canonical]
	case s.values != nil:
		return s.values.Values(h.Lower)
	case s.carrier != nil:
		if s.one[0] = s.carrier.Get(h.Lower); s.one[0] != "" {
			return s.one[:]
		}
	}
	return nil
}

// First returns the first line of h, "" when there is none.
func (s *Source) First(h *Name) string {
	if lines := s.Lines(h); len(lines) > 0 {
		return lines[0]
	}
	return ""
}

// IDs are the ids of one request as they came in.
type IDs struct {
	// Request is x-request-id, unchecked.
	Request string
	// ClientTrace is x-client-trace-id: printable ASCII, at most 256 bytes. Any other
	// value counts as present and empty, since presence is what the decision looks
	// at (D-11).
	ClientTrace    string
	HasClientTrace bool
	// Force is the presence of x-envoy-force-trace (D-11).
	Force bool
}

const maxClientTrace = 256

// IDs reads the three headers. Of several lines the value is what Envoy makes of
// them (O-4).
func (s *Source) IDs() IDs {
	in := IDs{Request: Joined(s.Lines(&RequestID))}
	if lines := s.Lines(&ClientTraceID); len(lines) > 0 {
		in.HasClientTrace = true
		if v := Joined(lines); len(v) <= maxClientTrace && printable(v) {
			in.ClientTrace = v
		}
	}
	in.Force = len(s.Lines(&ForceTrace)) > 0
	return in
}

// Bounds of Joined: bytes it makes, of which all readers refuse less, and what it looks
// at.
const (
	maxJoined = 1 << 10
	maxLine   = maxJoined + 1 // of one line among several
	maxLines  = 64
)

// Joined returns the value of a header that Envoy keeps in one slot: its lines with
// a comma between them, without the empty ones (O-4). More lines than anybody sends
// are none.
func Joined(lines []string) string {
	switch len(lines) {
	case 0:
		return ""
	case 1:
		return lines[0]
	}
	if len(lines) > maxLines {
		return ""
	}
	size := 0
	for _, l := range lines {
		size += min(len(l), maxLine) + 1
	}
	var b strings.Builder
	b.Grow(min(size, maxJoined+1+maxLine))
	for _, l := range lines {
		if l == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		if b.WriteString(l[:min(len(l), maxLine)]); b.Len() > maxJoined {
			break
		}
	}
	return b.String()
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
