package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The JSON form of opentelemetry/proto/collector/trace/v1/trace_service.proto,
// with every field: one that is not here is an error, so that nothing is left
// out of a comparison unseen.
type (
	request struct {
		ResourceSpans []resourceSpans `json:"resourceSpans,omitempty"`
	}
	resourceSpans struct {
		Resource   resource     `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans,omitempty"`
		SchemaURL  string       `json:"schemaUrl"`
	}
	resource struct {
		Attributes             []keyValue `json:"attributes,omitempty"`
		DroppedAttributesCount uint32     `json:"droppedAttributesCount"`
	}
	scopeSpans struct {
		Scope     scope  `json:"scope"`
		Spans     []span `json:"spans,omitempty"`
		SchemaURL string `json:"schemaUrl"`
	}
	scope struct {
		Name                   string     `json:"name"`
		Version                string     `json:"version"`
		Attributes             []keyValue `json:"attributes,omitempty"`
		DroppedAttributesCount uint32     `json:"droppedAttributesCount"`
	}
	span struct {
		TraceID                string     `json:"traceId"`
		SpanID                 string     `json:"spanId"`
		TraceState             string     `json:"traceState"`
		ParentSpanID           string     `json:"parentSpanId"`
		Flags                  uint32     `json:"flags"`
		Name                   string     `json:"name"`
		Kind                   int32      `json:"kind"`
		StartTimeUnixNano      int64s     `json:"startTimeUnixNano"`
		EndTimeUnixNano        int64s     `json:"endTimeUnixNano"`
		Attributes             []keyValue `json:"attributes,omitempty"`
		DroppedAttributesCount uint32     `json:"droppedAttributesCount"`
		Events                 []event    `json:"events,omitempty"`
		DroppedEventsCount     uint32     `json:"droppedEventsCount"`
		Links                  []link     `json:"links,omitempty"`
		DroppedLinksCount      uint32     `json:"droppedLinksCount"`
		Status                 status     `json:"status"`
	}
	event struct {
		TimeUnixNano           int64s     `json:"timeUnixNano"`
		Name                   string     `json:"name"`
		Attributes             []keyValue `json:"attributes,omitempty"`
		DroppedAttributesCount uint32     `json:"droppedAttributesCount"`
	}
	link struct {
		TraceID                string     `json:"traceId"`
		SpanID                 string     `json:"spanId"`
		TraceState             string     `json:"traceState"`
		Attributes             []keyValue `json:"attributes,omitempty"`
		DroppedAttributesCount uint32     `json:"droppedAttributesCount"`
		Flags                  uint32     `json:"flags"`
	}
	status struct {
		Message string `json:"message"`
		Code    int32  `json:"code"`
	}
	keyValue struct {
		Key   string   `json:"key"`
		Value anyValue `json:"value"`
	}
	arrayValue struct {
		Values []anyValue `json:"values,omitempty"`
	}
	// In a value, absent and zero differ: a oneof says which field is set.
	anyValue struct {
		StringValue *string     `json:"stringValue,omitempty"`
		BoolValue   *bool       `json:"boolValue,omitempty"`
		IntValue    *int64s     `json:"intValue,omitempty"`
		DoubleValue *double     `json:"doubleValue,omitempty"`
		ArrayValue  *arrayValue `json:"arrayValue,omitempty"`
		KvlistValue *struct {
			Values []keyValue `json:"values,omitempty"`
		} `json:"kvlistValue,omitempty"`
		BytesValue *string `json:"bytesValue,omitempty"`
	}
)

// int64s is a 64-bit number, which protobuf's JSON writes as a string and reads
// in both forms. It holds the decimal digits, because fixed64 exceeds int64;
// none for zero, so that a field left out equals a written 0.
type int64s string

func (n *int64s) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	if v, err := strconv.ParseUint(s, 10, 64); err == nil {
		s = strconv.FormatUint(v, 10)
	} else if v, err := strconv.ParseInt(s, 10, 64); err == nil {
		s = strconv.FormatInt(v, 10)
	} else {
		return fmt.Errorf("%s is not a 64-bit number", b)
	}
	if s == "0" {
		s = ""
	}
	*n = int64s(s)
	return nil
}

// double is a number as text; protobuf's JSON writes "NaN" and "Infinity" as strings.
type double string

func (d *double) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseFloat(strings.Trim(string(b), `"`), 64)
	if err != nil {
		return fmt.Errorf("%s is not a number", b)
	}
	*d = double(strconv.FormatFloat(v, 'g', -1, 64))
	return nil
}

// flat is a span with the resource and scope it belongs to, so that the
// grouping of a request does not matter.
type flat struct {
	Resource       resource
	ResourceSchema string
	Scope          scope
	ScopeSchema    string
	Span           span
}

// readSpans reads one or more requests, one after the other.
func readSpans(b []byte) ([]flat, error) {
	var spans []flat
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	for n := 1; ; n++ {
		var req request
		if err := dec.Decode(&req); errors.Is(err, io.EOF) {
			return spans, nil
		} else if err != nil {
			return nil, fmt.Errorf("request %d: %w", n, err)
		}
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, sp := range ss.Spans {
					spans = append(spans, flat{rs.Resource, rs.SchemaURL, ss.Scope, ss.SchemaURL, sp})
				}
			}
		}
	}
}

// compare returns one text for each span that one side has and the other has
// not or has otherwise. Order counts inside a span's events and links only.
func compare(want, got []flat) []string {
	wants, gots := byID(want), byID(got)
	ids := slices.Collect(maps.Keys(wants))
	for id := range gots {
		if _, ok := wants[id]; !ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var diff []string
	for _, id := range ids {
		w, g := wants[id], gots[id]
		slices.Sort(w)
		slices.Sort(g)
		if !slices.Equal(w, g) {
			diff = append(diff, fmt.Sprintf("span %s\n  printed: %s\n  written: %s", id, orNone(w), orNone(g)))
		}
	}
	return diff
}

// byID returns the canonical texts of the spans with each pair of trace and
// span id. More than one means that a span was sent twice.
func byID(spans []flat) map[string][]string {
	m := make(map[string][]string)
	for _, f := range spans {
		id := f.Span.TraceID + "/" + f.Span.SpanID
		m[id] = append(m[id], f.canonical())
	}
	return m
}

func orNone(texts []string) string {
	if len(texts) == 0 {
		return "(none)"
	}
	return strings.Join(texts, "\n           ")
}

// canonical is the span as JSON with the attributes of every part ordered by
// key, where an absent field and its zero value are written alike.
func (f flat) canonical() string {
	sortKeys(f.Resource.Attributes)
	sortKeys(f.Scope.Attributes)
	sortKeys(f.Span.Attributes)
	for _, e := range f.Span.Events {
		sortKeys(e.Attributes)
	}
	for _, l := range f.Span.Links {
		sortKeys(l.Attributes)
	}
	b, err := json.Marshal(f)
	if err != nil {
		panic(err) // every part is a string, a number or a list of such
	}
	return string(b)
}

func sortKeys(kvs []keyValue) {
	slices.SortStableFunc(kvs, func(a, b keyValue) int { return strings.Compare(a.Key, b.Key) })
}
