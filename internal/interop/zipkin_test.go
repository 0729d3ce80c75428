package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// zipkinSpan is a span of Zipkin's API v2.
type zipkinSpan struct {
	TraceID       string `json:"traceId"`
	ID            string `json:"id"`
	ParentID      string `json:"parentId"`
	Name          string `json:"name"`
	Kind          string `json:"kind"`
	Timestamp     int64  `json:"timestamp"` // µs
	Duration      int64  `json:"duration"`  // µs
	LocalEndpoint struct {
		ServiceName string `json:"serviceName"`
	} `json:"localEndpoint"`
	Annotations []struct {
		Timestamp int64  `json:"timestamp"` // µs
		Value     string `json:"value"`
	} `json:"annotations"`
	Tags map[string]string `json:"tags"`
}

// flat reads the span as the Collector's Zipkin exporter has written it: attributes of
// the span and of its resource as tags, events as annotations "name|{attributes}|dropped",
// links as tags "otlp.link.0".
func (z zipkinSpan) flat() (flat, error) {
	var f flat
	s := &f.Span
	s.TraceID, s.SpanID, s.ParentSpanID, s.Name = z.TraceID, z.ID, z.ParentID, z.Name
	s.Kind = map[string]int32{"SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}[z.Kind]
	if z.Tags["span.kind"] == "internal" {
		s.Kind = 1
	}
	s.StartTimeUnixNano = digits(uint64(z.Timestamp) * 1000)
	s.EndTimeUnixNano = digits(uint64(z.Timestamp+z.Duration) * 1000)
	s.TraceState = z.Tags["w3c.tracestate"]
	s.Status.Code = map[string]int32{"STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}[z.Tags["otel.status_code"]]
	s.Status.Message = z.Tags["otel.status_description"]
	f.Scope.Name, f.Scope.Version = z.Tags["otel.library.name"], z.Tags["otel.library.version"]
	for _, key := range slices.Sorted(maps.Keys(z.Tags)) {
		s.Attributes = append(s.Attributes, keyValue{key, stringValue(z.Tags[key])})
	}
	// A tag does not say whose attribute it was.
	f.Resource.Attributes = append(slices.Clone(s.Attributes), keyValue{"service.name", stringValue(z.LocalEndpoint.ServiceName)})

	for _, a := range z.Annotations {
		e := event{TimeUnixNano: digits(uint64(a.Timestamp) * 1000), Name: a.Value}
		if parts := strings.Split(a.Value, "|"); len(parts) == 3 {
			var err error
			e.Name = parts[0]
			if e.Attributes, e.DroppedAttributesCount, err = attributesAndDropped(parts[1], parts[2]); err != nil {
				return f, fmt.Errorf("annotation %q: %w", a.Value, err)
			}
		}
		s.Events = append(s.Events, e)
	}
	for n := 0; ; n++ {
		v, ok := z.Tags["otlp.link."+strconv.Itoa(n)]
		if !ok {
			return f, nil
		}
		parts := strings.Split(v, "|")
		if len(parts) != 5 {
			return f, fmt.Errorf("link %q has %d parts, want 5", v, len(parts))
		}
		l := link{TraceID: parts[0], SpanID: parts[1], TraceState: parts[2]}
		var err error
		if l.Attributes, l.DroppedAttributesCount, err = attributesAndDropped(parts[3], parts[4]); err != nil {
			return f, fmt.Errorf("link %q: %w", v, err)
		}
		s.Links = append(s.Links, l)
	}
}

func attributesAndDropped(object, dropped string) (kvs []keyValue, n uint32, err error) {
	var values map[string]any
	if err := json.Unmarshal([]byte(object), &values); err != nil {
		return nil, 0, err
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		switch v := values[key].(type) {
		case string:
			kvs = append(kvs, keyValue{key, stringValue(v)})
		case float64:
			digits := int64s("")
			if v != 0 {
				digits = int64s(strconv.FormatFloat(v, 'f', -1, 64))
			}
			kvs = append(kvs, keyValue{key, anyValue{IntValue: &digits}})
		default:
			return nil, 0, fmt.Errorf("%q is a %T", key, v)
		}
	}
	u, err := strconv.ParseUint(dropped, 10, 32)
	return kvs, uint32(u), err
}

func stringValue(s string) anyValue { return anyValue{StringValue: &s} }
