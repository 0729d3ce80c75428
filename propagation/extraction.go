package propagation

import (
	"errors"
	"net/http"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/headers"
)

// Extraction is what the headers of one request say.
type Extraction struct {
	// SpanContext is the caller's, remote; invalid when no format named a span, and a
	// new trace begins.
	SpanContext trace.SpanContext
	// Format is where SpanContext and Sampling came from; 0 when no trace header said
	// anything.
	Format Format
	// Sampling is what that format states beside the flag of SpanContext. A
	// traceparent has no word for it, so a b3 of the same span and flag adds its own.
	// An x-ot-span-context in the form of Envoy's Zipkin tracer has no flag, so it
	// takes both from a b3 of the same span.
	Sampling Sampling
	// Other is the first span context of another format that names another trace,
	// invalid when there is none. It is for a span link.
	Other trace.SpanContext
	// Null means that a trace header was refused the way Envoy refuses it (W-6, B-9):
	// the request has no span, Inject writes no trace context for it, and the header
	// goes on as it came. Only Config.Strict has it.
	Null bool
	// Parent is the parent of the caller's span where the format says it, as B3 does;
	// zero when there is none.
	Parent trace.SpanID
	// Tracestate is what goes on as tracestate in the place of SpanContext's, while
	// nobody changes that: all members where it cannot hold some of them, and with
	// Config.Strict the header as it came. "" otherwise.
	Tracestate string
	// Baggage is what baggage headers hold, and x-ot-span-context, ot-baggage-* and
	// uberctx-* of the span's trace, where the formats that have them are read; of
	// equal keys that of baggage. All together keep the limits of W3C Baggage. Empty
	// when there is none.
	Baggage baggage.Baggage
	// Forward are the headers of Config.Forward, in the spelling of http.Header; nil
	// when none came. Whoever puts it into a context no longer writes it.
	Forward http.Header
	// Err joins a *HeaderError for each header that was refused, nil when none was.
	Err error
}

// Read returns what carrier holds, without a context: for span links, tests, and the
// messages of a queue. It reads the formats of Config.Extract and the headers of
// Config.Forward, no ids, and never fails: a header that breaks its specification
// counts as absent, is named in Extraction.Err, and the next format is tried. A
// sampling state without ids counts when no format names a span.
//
// A header that occurs several times: traceparent then counts as none; tracestate
// and baggage are lists; of all others the first line counts (O-4). A lone x-b3-sampled
// or x-b3-flags beside a span that another header named before is not looked at.
//
// With Config.Strict Envoy's rules hold instead; see there.
func (p *Propagator) Read(carrier otelprop.TextMapCarrier) Extraction {
	var x reading
	var src headers.Source
	src.Reset(carrier)
	p.read(&x, &src, carrier)
	if x.span.valid {
		x.SpanContext = x.span.context()
	}
	return x.Extraction
}

// reading is an Extraction under way: span stands for its SpanContext, which is not
// written yet.
type reading struct {
	Extraction
	span span
}

// read reads carrier, of which src is the Source, into x.
func (p *Propagator) read(x *reading, src *headers.Source, carrier otelprop.TextMapCarrier) {
	var bag legacyBaggage
	for _, f := range p.extract {
		switch f {
		case TraceContext:
			x.readTraceContext(src)
		case B3:
			x.readB3(src)
		case B3Multi:
			x.readB3Multi(src)
		case OTSpanContext:
			x.readOTSpanContext(src, &bag)
		case OTTrace:
			x.readOTTrace(src, carrier, &bag)
		case Jaeger:
			x.readJaeger(src, carrier, &bag)
		case envoyFormat:
			x.readEnvoy(src, p.envoyIn)
		}
		if p.strict && (x.Null || x.span.valid) {
			break // Envoy has one tracer, which asks nobody else
		}
	}
	if p.readBaggage {
		if lines := src.Lines(&baggageHeader); len(lines) > 0 {
			var f fault
			x.Baggage, f = parseBaggage(lines)
			x.refuse(f)
		}
	}
	if len(bag.items) > 0 || bag.cut {
		sum, all := addItems(x.Baggage, bag.items)
		x.Baggage = sum
		if !all || bag.cut {
			x.refuse(fault{bag.header, "", 0, ruleLegacyBaggage})
		}
	}
	if len(p.forward) > 0 {
		x.readForward(src, p.forward)
	}
}

// room returns where a parser puts the span that it reads: x.span while that is empty,
// and else other. It saves copies, each of which waits for the ids to be written that it
// reads as a whole.
func (x *reading) room(other *span) *span {
	if x.span.valid {
		return other
	}
	return &x.span
}

func (x *reading) readTraceContext(src *headers.Source) {
	lines := src.Lines(&traceparentHeader)
	switch {
	case len(lines) == 0 || len(lines) == 1 && lines[0] == "":
		return
	case len(lines) > 1:
		x.refuse(fault{traceparentHeader.Lower, lines[0], 0, ruleTraceparentLines})
		return
	}
	var other span
	sc := x.room(&other)
	if offset, rule := parseTraceparent(lines[0], &sc.SpanContextConfig); rule != "" {
		*sc = span{}
		x.refuse(fault{traceparentHeader.Lower, lines[0], offset, rule}) // and tracestate is not looked at
		return
	}
	whole := ""
	if lines := src.Lines(&tracestateHeader); len(lines) > 0 {
		var f fault
		sc.TraceState, whole, f = parseTracestate(lines)
		x.refuse(f)
	}
	sc.valid = true
	if x.take(TraceContext, sc, Unstated, trace.SpanID{}); sc == &x.span {
		x.Tracestate = whole
	}
}

func (x *reading) readB3(src *headers.Source) {
	v := src.First(&b3Header)
	if v == "" {
		return
	}
	var other span
	p := b3Parts{ids: x.room(&other)}
	if offset, rule := p.parseSingle(v); rule != "" {
		*p.ids = span{}
		x.refuse(fault{b3Header.Lower, v, offset, rule})
		return
	}
	x.take(B3, p.span(), p.sampling, p.parent)
}

func (x *reading) readB3Multi(src *headers.Source) {
	traceID := src.First(&b3TraceIDHeader)
	if traceID == "" && x.span.valid {
		return // nothing else would count beside the span that is named already
	}
	sampled := src.First(&b3SampledHeader)
	flags := src.First(&b3FlagsHeader)
	if traceID == "" && sampled == "" && flags == "" {
		return // a lone span id says nothing
	}
	var other span
	p := b3Parts{ids: x.room(&other)}
	if f := p.parseMulti(traceID, src.First(&b3SpanIDHeader), src.First(&b3ParentHeader), sampled, flags); f.rule != "" {
		*p.ids = span{}
		x.refuse(f)
		return
	}
	x.take(B3Multi, p.span(), p.sampling, p.parent)
}

// take records what format f says and reports whether it names the trace that counts.
// sc is x.span where that was empty before.
func (x *reading) take(f Format, sc *span, s Sampling, parent trace.SpanID) bool {
	switch {
	case !sc.valid:
		if x.Format == 0 && s != Unstated {
			x.Format, x.Sampling = f, s
		}
		return false
	case sc == &x.span:
		x.Format, x.Sampling, x.Parent = f, s, parent
	case !x.span.valid:
		x.span, x.Format, x.Sampling, x.Parent = *sc, f, s, parent
	case sc.TraceID != x.span.TraceID:
		if !x.Other.IsValid() {
			x.Other = sc.context()
		}
		return false
	case sc.SpanID != x.span.SpanID:
	case x.Sampling == Unstated && sc.TraceFlags.IsSampled() == x.span.TraceFlags.IsSampled():
		x.Sampling = s
	case x.Format == OTSpanContext && x.Sampling == Deferred && (s == Deny || s == Accept || s == Debug):
		// O-Z5: x-b3-* of the same span stand beside the text, which has no flag.
		x.Sampling = s
		x.span.TraceFlags = sc.TraceFlags
	}
	return true
}

// refuse records f, unless it is no fault.
func (x *reading) refuse(f fault) {
	if f.rule != "" {
		x.Err = errors.Join(x.Err, f.err())
	}
}
