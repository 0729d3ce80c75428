package propagation

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/meshtrace/meshtrace/internal/headers"
)

// The limits of Config.Forward, which are those of baggage.
const (
	maxForwardLines = 64
	maxForwardBytes = 8192 // names and values of all lines
	maxForwardNames = 64
	maxForwardName  = 256
)

const (
	ruleForwardLimits = "Config.Forward, limits: at most 64 lines and 8192 bytes over all headers"
	ruleForwardValue  = "RFC 9110, field values: no control bytes but tab"
)

// hopByHop are headers that belong to one connection or one message: RFC 9110, 7.6.1
// and 6.6, and what net/http and gRPC write themselves.
var hopByHop = [...]string{
	"connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
	"proxy-authenticate", "proxy-authentication-info", "proxy-authorization",
	"host", "content-length", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding",
}

// checkForward returns the headers of list, each once, or an error for each name that
// is none and each that must not travel. Formats own headers of their own.
func checkForward(list []string, own []Format, ids bool) ([]headers.Name, error) {
	var errs []error
	if len(list) > maxForwardNames {
		errs = append(errs, fmt.Errorf("propagation: Config.Forward has %d names: allowed are at most %d", len(list), maxForwardNames))
		list = list[:maxForwardNames]
	}
	var names []headers.Name
	for i, n := range list {
		name := headers.Name{Canonical: http.CanonicalHeaderKey(n), Lower: strings.ToLower(n)}
		why := ""
		switch {
		case !isToken(n) || len(n) > maxForwardName:
			why = "allowed is a header name: a token of RFC 9110, at most 256 bytes"
		case slices.Contains(hopByHop[:], name.Lower):
			why = "it belongs to one connection or message and cannot travel on"
		case owned(name.Lower, own, ids):
			why = "this Propagator reads or writes it itself"
		case slices.Contains(names, name):
			continue
		}
		if why != "" {
			errs = append(errs, fmt.Errorf("propagation: Config.Forward[%d] is %+q: %s", i, bounded(n), why))
			continue
		}
		names = append(names, name)
	}
	return names, errors.Join(errs...)
}

// owned reports whether a header belongs to formats or to the request's ids.
func owned(lower string, formats []Format, ids bool) bool {
	if ids && (lower == headers.RequestID.Lower || lower == headers.ClientTraceID.Lower) {
		return true
	}
	for _, f := range formats {
		for _, h := range f.headers() {
			if h.Lower == lower {
				return true
			}
		}
		if prefix := f.prefix(); prefix != "" && strings.HasPrefix(lower, prefix) {
			return true
		}
	}
	return false
}

// readForward reads the headers that are to travel on. Whole headers go: those with
// control bytes, and from the first on that does not fit all that follow it.
func (x *reading) readForward(src *headers.Source, names []headers.Name) {
	count, size := 0, 0
	for i := range names {
		n := &names[i]
		lines := src.Lines(n)
		if len(lines) == 0 {
			continue
		}
		count += len(lines)
		if count <= maxForwardLines {
			for _, l := range lines {
				size += len(n.Lower) + len(l)
			}
		}
		if count > maxForwardLines || size > maxForwardBytes {
			x.refuse(fault{n.Lower, lines[0], 0, ruleForwardLimits})
			return
		}
		if bad := slices.IndexFunc(lines, func(l string) bool { return !fieldValue(l) }); bad >= 0 {
			x.refuse(fault{n.Lower, lines[bad], 0, ruleForwardValue})
			continue
		}
		if x.Forward == nil {
			x.Forward = make(http.Header)
		}
		x.Forward[n.Canonical] = slices.Clone(lines) // the carrier may use its slice again
	}
}

// writeForward writes what of names came with the request and is not there yet.
func writeForward(k *sink, names []headers.Name, came http.Header) {
	if len(came) == 0 {
		return
	}
	for i := range names {
		n := &names[i]
		if lines := came[n.Canonical]; len(lines) > 0 && !k.has(n) {
			k.setLines(n, lines)
		}
	}
}

// fieldValue reports whether s may stand in a header (RFC 9110, 5.5).
func fieldValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
