package requestid

import (
	"strconv"
	"strings"
)

// External says what becomes of an id that arrives, by the names of Envoy
// Gateway's ClientTrafficPolicy.headers.requestID (EG-9). The zero value is
// Generate, Envoy's default.
type External uint8

const (
	// Generate makes an id where there is none and replaces what comes from
	// outside (RID-1, RID-4).
	Generate External = iota
	// PreserveOrGenerate makes an id where there is none and keeps what comes from
	// outside, with its reason cleared (RID-5).
	PreserveOrGenerate
	// Preserve keeps what arrives and makes none. Nobody looks at the reason digit
	// of an outsider then: he can force a trace (RID-6).
	Preserve
	// Disable neither makes nor replaces ids. For an id that arrives Envoy does as
	// under Preserve, since both only switch its generating off (RID-6).
	Disable
)

// String returns Envoy Gateway's name.
func (e External) String() string {
	switch e {
	case Generate:
		return "Generate"
	case PreserveOrGenerate:
		return "PreserveOrGenerate"
	case Preserve:
		return "Preserve"
	case Disable:
		return "Disable"
	}
	return "External(" + strconv.Itoa(int(e)) + ")"
}

// Use says what the id serves for besides correlation, by the names of Envoy
// Gateway's EnvoyProxy.telemetry.requestID.tracing (EG-9); its Disable is Ignore
// here. They are Envoy's two switches pack_trace_reason (Pack) and
// use_request_id_for_trace_sampling (Sample). The zero value is PackAndSample,
// Envoy's default.
type Use uint8

const (
	PackAndSample Use = iota // both
	Sample                   // decide by the sampling number, leave the reason digit alone (RID-11)
	Pack                     // own the reason digit, do not decide by the id (D-2)
	Ignore                   // neither
)

// packs reports whether the reason digit is read and written (RID-10, RID-11).
func (u Use) packs() bool { return u == PackAndSample || u == Pack }

// String returns Envoy Gateway's name, Ignore for its Disable.
func (u Use) String() string {
	switch u {
	case PackAndSample:
		return "PackAndSample"
	case Sample:
		return "Sample"
	case Pack:
		return "Pack"
	case Ignore:
		return "Ignore"
	}
	return "Use(" + strconv.Itoa(int(u)) + ")"
}

// Policy says what a hop does with request ids. The zero value is Envoy's
// default. It is a value: copies are independent, and concurrent use is safe.
type Policy struct {
	// External is what becomes of an id that arrives.
	External External
	// Use is what the id serves for. A value that is none of the constants serves
	// for nothing, as Ignore.
	Use Use
	// InResponse puts the id into every response; false leaves it to requests
	// with x-envoy-force-trace (RID-18).
	InResponse bool
	// AnyBytes keeps an id that Parse refuses, as Envoy does (RID-3). Control
	// characters, which no HTTP header can hold, and more than 60 KiB, which is
	// the room that Envoy has for all headers together, are refused all the same.
	// The zero value takes a new id instead.
	AnyBytes bool
}

// Change is what [Policy.Next] did to an id.
type Change uint8

const (
	Kept     Change = iota // as it arrived, also if nothing arrived and none is made
	Made                   // there was none, a new one was made
	Replaced               // another one stands in its place, or none where none is made
	Cleared                // kept, with the reason digit put to 4 (RID-5)
)

// String returns the name of the constant in lower case, as a counter has it.
func (c Change) String() string {
	switch c {
	case Kept:
		return "kept"
	case Made:
		return "made"
	case Replaced:
		return "replaced"
	case Cleared:
		return "cleared"
	}
	return "Change(" + strconv.Itoa(int(c)) + ")"
}

// Next returns the id that a request goes on with, given the value of its
// x-request-id, "" if it has none, and whether it is an edge request: one from
// outside, received by the outermost proxy (ED-4). Spaces and tabs around in are
// cut (O-5); several header lines belong into in joined by a comma (O-4). The id
// is "" only under Preserve and Disable. See RID-1 to RID-8.
func (p Policy) Next(in string, edge bool) (ID, Change) {
	bad := len(in) > maxAnyBytes // before any work
	if !bad {
		if n := len(in); n > 0 && (in[0] <= ' ' || in[n-1] <= ' ') {
			in = strings.Trim(in, " \t")
		}
		bad = !p.accepts(in)
	}
	if p.External == Preserve || p.External == Disable {
		if bad { // none may be made, and this one may not travel
			return "", Replaced
		}
		return ID(in), Kept // RID-6
	}
	switch {
	case in == "": // RID-1, RID-2
		return New(), Made
	case bad: // departs from RID-3
		return New(), Replaced
	case !edge: // RID-3
		return ID(in), Kept
	case p.External != PreserveOrGenerate: // RID-4
		return New(), Replaced
	case !p.Use.packs(): // RID-7
		return ID(in), Kept
	}
	id := ID(in).WithReason(NotTraceable) // RID-5
	if id == ID(in) {
		return id, Kept
	}
	return id, Cleared
}

// maxAnyBytes is Envoy's default of max_request_headers_kb.
const maxAnyBytes = 60 << 10

// accepts reports whether in may travel; none may.
func (p Policy) accepts(in string) bool {
	if !p.AnyBytes {
		return in == "" || refusedAt(in) < 0
	}
	for i := range len(in) {
		if c := in[i]; c < ' ' && c != '\t' || c == 0x7f { // O-5: Envoy answers 400
			return false
		}
	}
	return true
}
