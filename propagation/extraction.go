package propagation

import (
	"errors"

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
	Sampling Sampling
	// Other is the first span context of another format that names another trace,
	// invalid when there is none. It is for a span link.
	Other trace.SpanContext
	// Baggage is empty when none came or it is not read.
	Baggage baggage.Baggage
	// Err joins a *HeaderError for each header that was refused, nil when none was.
	Err error
}

// Read returns what carrier holds, without a context: for span links, tests, and the
// messages of a queue. It reads the formats of Config.Extract, no ids, and never
// fails: a header that breaks its specification counts as absent, is named in
// Extraction.Err, and the next format is tried. A sampling state without ids counts
// when no format names a span.
//
// A header that occurs several times: traceparent then counts as none; tracestate
// and baggage are lists; of b3 and x-b3-* the first line counts (O-4).
func (p *Propagator) Read(carrier otelprop.TextMapCarrier) Extraction {
	var x Extraction
	src := headers.NewSource(carrier)
	for _, f := range p.extract {
		switch f {
		case TraceContext:
			x.readTraceContext(&src)
		case B3:
			x.readB3(&src)
		case B3Multi:
			x.readB3Multi(&src)
		}
	}
	if p.readBaggage {
		if lines := src.Lines(&baggageHeader); len(lines) > 0 {
			var f fault
			x.Baggage, f = parseBaggage(lines)
			x.refuse(f)
		}
	}
	return x
}

func (x *Extraction) readTraceContext(src *headers.Source) {
	lines := src.Lines(&traceparentHeader)
	switch {
	case len(lines) == 0 || len(lines) == 1 && lines[0] == "":
		return
	case len(lines) > 1:
		x.refuse(fault{traceparentHeader.Lower, lines[0], 0, ruleTraceparentLines})
		return
	}
	var c trace.SpanContextConfig
	if offset, rule := parseTraceparent(lines[0], &c); rule != "" {
		x.refuse(fault{traceparentHeader.Lower, lines[0], offset, rule}) // and tracestate is not looked at
		return
	}
	if lines := src.Lines(&tracestateHeader); len(lines) > 0 {
		var f fault
		c.TraceState, f = parseTracestate(lines)
		x.refuse(f)
	}
	x.take(TraceContext, trace.NewSpanContext(c), Unstated)
}

func (x *Extraction) readB3(src *headers.Source) {
	v := src.First(&b3Header)
	if v == "" {
		return
	}
	var p b3Parts
	if offset, rule := p.parseSingle(v); rule != "" {
		x.refuse(fault{b3Header.Lower, v, offset, rule})
		return
	}
	x.take(B3, p.spanContext(), p.sampling)
}

func (x *Extraction) readB3Multi(src *headers.Source) {
	traceID := src.First(&b3TraceIDHeader)
	sampled := src.First(&b3SampledHeader)
	flags := src.First(&b3FlagsHeader)
	if traceID == "" && sampled == "" && flags == "" {
		return // a lone span id says nothing
	}
	var p b3Parts
	if f := p.parseMulti(traceID, src.First(&b3SpanIDHeader), src.First(&b3ParentHeader), sampled, flags); f.rule != "" {
		x.refuse(f)
		return
	}
	x.take(B3Multi, p.spanContext(), p.sampling)
}

// take records what format f says.
func (x *Extraction) take(f Format, sc trace.SpanContext, s Sampling) {
	switch {
	case !sc.IsValid():
		if x.Format == 0 && s != Unstated {
			x.Format, x.Sampling = f, s
		}
	case !x.SpanContext.IsValid():
		x.SpanContext, x.Format, x.Sampling = sc, f, s
	case sc.TraceID() != x.SpanContext.TraceID():
		if !x.Other.IsValid() {
			x.Other = sc
		}
	case x.Sampling == Unstated && sc.SpanID() == x.SpanContext.SpanID() && sc.IsSampled() == x.SpanContext.IsSampled():
		x.Sampling = s
	}
}

// refuse records f, unless it is no fault.
func (x *Extraction) refuse(f fault) {
	if f.rule != "" {
		x.Err = errors.Join(x.Err, f.err())
	}
}
