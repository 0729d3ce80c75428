package exporter

import (
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// shortened is a span with its long strings cut.
type shortened struct {
	sdktrace.ReadOnlySpan
	name       string
	status     sdktrace.Status
	attributes []attribute.KeyValue
	events     []sdktrace.Event
	links      []sdktrace.Link
}

func (s *shortened) Name() string                     { return s.name }
func (s *shortened) Status() sdktrace.Status          { return s.status }
func (s *shortened) Attributes() []attribute.KeyValue { return s.attributes }
func (s *shortened) Events() []sdktrace.Event         { return s.events }
func (s *shortened) Links() []sdktrace.Link           { return s.links }

// shorten cuts the strings of a span that is larger than a request until it fits, so
// that its ids, times and status still arrive. Where even that does not help r stays
// too large. Each round works on what the one before left.
func (e *Exporter) shorten(r *record, s sdktrace.ReadOnlySpan) {
	if r.group.size > e.maxSpan {
		return // resource and scope alone are too large
	}
	for limit := e.maxSpan / 16; limit >= 16; limit /= 8 {
		s = cutSpan(s, limit)
		body, more := otlpwire.AppendSpan(r.body[:0], s)
		r.body = body
		if len(body)+r.group.size <= e.maxSpan {
			r.repaired, r.shortened = more, true
			return
		}
	}
}

func cutSpan(s sdktrace.ReadOnlySpan, limit int) *shortened {
	c := &shortened{
		ReadOnlySpan: s,
		name:         cutString(s.Name(), limit),
		status:       s.Status(),
		attributes:   cutAttributes(s.Attributes(), limit),
		events:       append([]sdktrace.Event(nil), s.Events()...),
		links:        append([]sdktrace.Link(nil), s.Links()...),
	}
	c.status.Description = cutString(c.status.Description, limit)
	for i := range c.events {
		c.events[i].Name = cutString(c.events[i].Name, limit)
		c.events[i].Attributes = cutAttributes(c.events[i].Attributes, limit)
	}
	for i := range c.links {
		c.links[i].Attributes = cutAttributes(c.links[i].Attributes, limit)
	}
	return c
}

func cutAttributes(kvs []attribute.KeyValue, limit int) []attribute.KeyValue {
	out := make([]attribute.KeyValue, len(kvs))
	for i, kv := range kvs {
		out[i] = attribute.KeyValue{Key: attribute.Key(cutString(string(kv.Key), limit)), Value: cutValue(kv.Value, limit)}
	}
	return out
}

func cutValue(v attribute.Value, limit int) attribute.Value {
	switch v.Type() {
	case attribute.EMPTY, attribute.BOOL, attribute.INT64, attribute.FLOAT64:
		return v
	case attribute.STRING:
		return attribute.StringValue(cutString(v.AsString(), limit))
	case attribute.STRINGSLICE:
		s := v.AsStringSlice()
		for i := range s {
			s[i] = cutString(s[i], limit)
		}
		return attribute.StringSliceValue(s[:min(len(s), limit)])
	case attribute.BYTESLICE:
		b := v.AsByteSlice()
		return attribute.ByteSliceValue(b[:min(len(b), limit)])
	case attribute.BOOLSLICE:
		s := v.AsBoolSlice()
		return attribute.BoolSliceValue(s[:min(len(s), limit)])
	case attribute.INT64SLICE:
		s := v.AsInt64Slice()
		return attribute.Int64SliceValue(s[:min(len(s), limit)])
	case attribute.FLOAT64SLICE:
		s := v.AsFloat64Slice()
		return attribute.Float64SliceValue(s[:min(len(s), limit)])
	}
	if s := v.String(); len(s) > limit { // values in values, as their text
		return attribute.StringValue(cutString(s, limit))
	}
	return v
}

// cutString cuts s to limit bytes, at a character where it is UTF-8, and marks it.
func cutString(s string, limit int) string {
	const mark = "…"
	if len(s) <= limit {
		return s
	}
	end := max(0, limit-len(mark))
	for i := 0; i < utf8.UTFMax && end > 0 && !utf8.RuneStart(s[end]); i++ {
		end--
	}
	return strings.Clone(s[:end]) + mark
}
