package propagation

import (
	"errors"
	"fmt"
	"strings"

	"github.com/meshtrace/meshtrace/internal/headers"
)

// Format is one way of writing context into headers. The zero value is none.
type Format uint8

const (
	TraceContext  Format = iota + 1 // traceparent and tracestate: W3C Trace Context Level 2
	B3                              // b3: one header, openzipkin/b3-propagation
	B3Multi                         // x-b3-traceid and its siblings, openzipkin/b3-propagation
	OTSpanContext                   // x-ot-span-context: Envoy's LightStep tracer up to 1.23, its Zipkin tracer up to 1.5
	OTTrace                         // ot-tracer-* and ot-baggage-*: basictracer, LightStep
	Jaeger                          // uber-trace-id, uberctx-*, jaeger-baggage, jaeger-debug-id: Jaeger's own clients
	Baggage                         // baggage: W3C Baggage
)

// formats lists all of them with their names in OTEL_PROPAGATORS.
var formats = [...]struct {
	format Format
	name   string
}{
	{TraceContext, "tracecontext"},
	{Baggage, "baggage"},
	{B3, "b3"},
	{B3Multi, "b3multi"},
	{Jaeger, "jaeger"},
	{OTTrace, "ottrace"},
	{OTSpanContext, "xotspancontext"},
}

// What a nil list of Config stands for.
var (
	defaultExtract = []Format{TraceContext, B3, B3Multi, OTSpanContext, Baggage}
	defaultInject  = []Format{TraceContext, Baggage}
)

const (
	allowedFormats = "TraceContext, B3, B3Multi, OTSpanContext, OTTrace, Jaeger, Baggage"
	allowedNames   = "tracecontext, baggage, b3, b3multi, jaeger, ottrace, xotspancontext, requestid, none"
)

// String returns the format's name in OTEL_PROPAGATORS: tracecontext, b3, b3multi,
// xotspancontext, ottrace, jaeger or baggage.
func (f Format) String() string {
	for i := range formats {
		if formats[i].format == f {
			return formats[i].name
		}
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// valid reports whether f is one of the constants.
func (f Format) valid() bool { return f >= TraceContext && f <= Baggage }

var (
	traceparentHeader = headers.Name{Canonical: "Traceparent", Lower: "traceparent"}
	tracestateHeader  = headers.Name{Canonical: "Tracestate", Lower: "tracestate"}
	b3Header          = headers.Name{Canonical: "B3", Lower: "b3"}
	b3TraceIDHeader   = headers.Name{Canonical: "X-B3-Traceid", Lower: "x-b3-traceid"}
	b3SpanIDHeader    = headers.Name{Canonical: "X-B3-Spanid", Lower: "x-b3-spanid"}
	b3ParentHeader    = headers.Name{Canonical: "X-B3-Parentspanid", Lower: "x-b3-parentspanid"}
	b3SampledHeader   = headers.Name{Canonical: "X-B3-Sampled", Lower: "x-b3-sampled"}
	b3FlagsHeader     = headers.Name{Canonical: "X-B3-Flags", Lower: "x-b3-flags"}
	baggageHeader     = headers.Name{Canonical: "Baggage", Lower: "baggage"}

	otSpanContextHeader = headers.Name{Canonical: "X-Ot-Span-Context", Lower: "x-ot-span-context"}

	otTraceIDHeader = headers.Name{Canonical: "Ot-Tracer-Traceid", Lower: "ot-tracer-traceid"}
	otSpanIDHeader  = headers.Name{Canonical: "Ot-Tracer-Spanid", Lower: "ot-tracer-spanid"}
	otSampledHeader = headers.Name{Canonical: "Ot-Tracer-Sampled", Lower: "ot-tracer-sampled"}
	otBaggagePrefix = headers.Name{Canonical: "Ot-Baggage-", Lower: "ot-baggage-"}

	uberTraceIDHeader   = headers.Name{Canonical: "Uber-Trace-Id", Lower: "uber-trace-id"}
	jaegerDebugHeader   = headers.Name{Canonical: "Jaeger-Debug-Id", Lower: "jaeger-debug-id"}
	jaegerBaggageHeader = headers.Name{Canonical: "Jaeger-Baggage", Lower: "jaeger-baggage"}
	uberBaggagePrefix   = headers.Name{Canonical: "Uberctx-", Lower: "uberctx-"}
)

// headers returns every header that belongs to f, but those that only a prefix names.
func (f Format) headers() []headers.Name {
	switch f {
	case TraceContext:
		return []headers.Name{traceparentHeader, tracestateHeader}
	case B3:
		return []headers.Name{b3Header}
	case B3Multi:
		return []headers.Name{b3TraceIDHeader, b3SpanIDHeader, b3ParentHeader, b3SampledHeader, b3FlagsHeader}
	case OTSpanContext:
		return []headers.Name{otSpanContextHeader}
	case OTTrace:
		return []headers.Name{otTraceIDHeader, otSpanIDHeader, otSampledHeader}
	case Jaeger:
		return []headers.Name{uberTraceIDHeader, jaegerDebugHeader, jaegerBaggageHeader}
	case Baggage:
		return []headers.Name{baggageHeader}
	}
	return nil
}

// stale returns the headers of f with how many that follow each mean nothing without it.
func (f Format) stale() []staleHeader {
	list := f.headers()
	out := make([]staleHeader, len(list))
	for i, h := range list {
		out[i].Name = h
		switch h {
		case traceparentHeader:
			out[i].leads = 1
		case b3TraceIDHeader, otTraceIDHeader:
			out[i].leads = 2 // x-b3-sampled and x-b3-flags stand behind
		}
	}
	return out
}

// prefix returns the beginning of the names of f's baggage headers, "" when f has
// none.
func (f Format) prefix() string {
	switch f {
	case OTTrace:
		return otBaggagePrefix.Lower
	case Jaeger:
		return uberBaggagePrefix.Lower
	}
	return ""
}

// Headers returns the names of all headers that belong to formats, in the spelling
// of http.Header: what a proxy removes before it writes its own. Without formats
// there are none. OTTrace and Jaeger have besides these one header for each entry of
// their baggage: Ot-Baggage-…, Uberctx-….
func Headers(formats ...Format) []string {
	var names []string
	for _, f := range formats {
		for _, h := range f.headers() {
			names = append(names, h.Canonical)
		}
	}
	return names
}

const (
	maxPropagators = 1 << 10 // bytes of an OTEL_PROPAGATORS value that are looked at
	maxUnknown     = 8       // names that the error of ParseFormats quotes
)

// ParseFormats reads the value of OTEL_PROPAGATORS: names separated by commas, in
// any case, surrounded by any space, repeated names counting once. The names are
// tracecontext, baggage, b3, b3multi, jaeger, ottrace and xotspancontext; requestid
// is accepted and changes nothing, because ids travel whatever the list says; none
// means no format at all.
//
// The result goes into Config.Extract and Config.Inject as it is: nil when nothing
// is stated, so that the defaults hold, and empty but not nil for none.
//
// The error names what was not understood and what is allowed; the rest of the list
// counts nevertheless. Where nothing remains the result is nil: a variable that
// cannot be understood counts as unset. A list longer than 1 KiB is refused whole.
func ParseFormats(list string) ([]Format, error) {
	if len(list) > maxPropagators {
		return nil, fmt.Errorf("propagation: a list of propagators of %d bytes, at most %d are read", len(list), maxPropagators)
	}
	var (
		out     []Format
		seen    [Baggage + 1]bool
		none    bool
		ids     bool
		unknown []string
	)
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		f := formatNamed(name)
		switch {
		case name == "":
		case f != 0:
			if !seen[f] {
				seen[f] = true
				out = append(out, f)
			}
		case strings.EqualFold(name, "none"):
			none = true
		case strings.EqualFold(name, "requestid"):
			ids = true
		default:
			unknown = append(unknown, name)
		}
	}
	var errs []error
	if len(unknown) > 0 {
		errs = append(errs, unknownNames(unknown))
	}
	if none && len(out) > 0 {
		errs = append(errs, errors.New(`propagation: "none" beside other propagators counts as absent`))
	}
	if out == nil && (none || ids && len(unknown) == 0) {
		out = []Format{}
	}
	return out, errors.Join(errs...)
}

// formatNamed returns the format with that name in any case, 0 when there is none.
func formatNamed(name string) Format {
	for i := range formats {
		if strings.EqualFold(name, formats[i].name) {
			return formats[i].format
		}
	}
	return 0
}

func unknownNames(names []string) error {
	var b strings.Builder
	for i, n := range names {
		if i == maxUnknown {
			fmt.Fprintf(&b, " and %d more", len(names)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%+q", bounded(n))
	}
	return fmt.Errorf("propagation: unknown propagators %s: allowed are %s", b.String(), allowedNames)
}
