package otlpwire_test

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

var (
	traceID = trace.TraceID{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf}
	selfID  = trace.SpanID{0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7}
	otherID = trace.SpanID{0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7}
)

func spanContext(id trace.SpanID, remote bool, state string) trace.SpanContext {
	ts, err := trace.ParseTraceState(state)
	if err != nil {
		panic(err)
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: id, TraceFlags: trace.FlagsSampled | trace.FlagsRandom, TraceState: ts, Remote: remote,
	})
}

// hexOf joins hex with spaces in it to bytes.
func hexOf(t testing.TB, parts ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(parts, ""), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAppendSpanBytes spells a span out by hand, field by field.
func TestAppendSpanBytes(t *testing.T) {
	s := tracetest.SpanStub{
		Name:        "GET",
		SpanContext: spanContext(selfID, false, "a=1,b=2"),
		Parent:      spanContext(otherID, true, ""),
		SpanKind:    trace.SpanKindServer,
		StartTime:   time.Unix(0, 0x0102030405060708),
		EndTime:     time.Unix(0, 0x0102030405060709),
		Attributes: []attribute.KeyValue{
			attribute.String("s", "x"), attribute.String("e", ""), attribute.Bool("f", false), attribute.Int("i", -1), attribute.Float64("d", 1),
			attribute.StringSlice("a", []string{"x", ""}), attribute.ByteSlice("y", []byte{0xff}), {Key: "n"},
		},
		DroppedAttributes: 300,
		Events:            []sdktrace.Event{{Name: "ev", Time: time.Unix(0, 1), Attributes: []attribute.KeyValue{attribute.Bool("t", true)}, DroppedAttributeCount: 1}},
		DroppedEvents:     2,
		Links:             []sdktrace.Link{{SpanContext: spanContext(otherID, true, "c=3"), DroppedAttributeCount: 4}},
		DroppedLinks:      3,
		Status:            sdktrace.Status{Code: codes.Error, Description: "no"},
	}
	want := hexOf(t,
		"0a 10 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",       // trace_id
		"12 08 b0b1b2b3b4b5b6b7",                       // span_id
		"1a 07 613d312c623d32",                         // trace_state "a=1,b=2"
		"22 08 c0c1c2c3c4c5c6c7",                       // parent_span_id
		"2a 03 474554",                                 // name "GET"
		"30 02",                                        // kind SERVER
		"39 0807060504030201",                          // start_time_unix_nano
		"41 0907060504030201",                          // end_time_unix_nano
		"4a 08 0a0173 1203 0a0178",                     // attributes "s": "x"
		"4a 07 0a0165 1202 0a00",                       // "e": ""
		"4a 07 0a0166 1202 1000",                       // "f": false
		"4a 10 0a0169 120b 18ffffffffffffffffff01",     // "i": -1
		"4a 0e 0a0164 1209 21000000000000f03f",         // "d": 1
		"4a 10 0a0161 120b 2a09 0a03 0a0178 0a02 0a00", // "a": ["x", ""]
		"4a 08 0a0179 1203 3a01ff",                     // "y": bytes
		"4a 05 0a016e 1200",                            // "n": no value
		"50 ac02",                                      // dropped_attributes_count 300
		"5a 18 09 0100000000000000 1202 6576 1a07 0a0174 1202 1001 2001", // events
		"60 02", // dropped_events_count
		"6a 28 0a10 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 1208 c0c1c2c3c4c5c6c7 1a03 633d33 2804 35 03030000", // links
		"70 03",                // dropped_links_count
		"7a 06 1202 6e6f 1802", // status: message, code ERROR
		"8501 03030000",        // flags: sampled and random, parent known and remote
	)
	got, repaired := otlpwire.AppendSpan([]byte("kept"), s.Snapshot())
	if diff := cmp.Diff(hex.Dump(append([]byte("kept"), want...)), hex.Dump(got)); diff != "" || repaired != 0 {
		t.Errorf("AppendSpan: repaired %d, bytes (-want +got):\n%s", repaired, diff)
	}
}

// TestLeastSpan: what is zero is not written, but for ids and flags.
func TestLeastSpan(t *testing.T) {
	got, _ := otlpwire.AppendSpan(nil, tracetest.SpanStub{}.Snapshot())
	want := hexOf(t, "0a10 00000000000000000000000000000000 1208 0000000000000000 8501 00010000")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("AppendSpan of an empty span (-want +got):\n%s", diff)
	}
}

// decodeOne encodes one span and decodes it.
func decodeOne(t testing.TB, s sdktrace.ReadOnlySpan) otlpwire.Span {
	t.Helper()
	body, _ := otlpwire.AppendSpan(nil, s)
	g := otlpwire.NewGroup(otlpwire.AppendResource(nil, s.Resource()), s.Resource().SchemaURL(),
		otlpwire.AppendScope(nil, s.InstrumentationScope()), s.InstrumentationScope().SchemaURL)
	var b otlpwire.Batch
	b.Add(g, body, math.MaxInt)
	spans, err := otlpwire.Decode(b.AppendTo(nil))
	if err != nil || len(spans) != 1 {
		t.Fatalf("Decode = %d spans, %v; want 1", len(spans), err)
	}
	return spans[0]
}

// TestNumbers: the SDK numbers some things differently from the schema.
func TestNumbers(t *testing.T) {
	for kind, want := range map[trace.SpanKind]int32{
		trace.SpanKindUnspecified: 0, trace.SpanKindInternal: 1, trace.SpanKindServer: 2, trace.SpanKindClient: 3,
		trace.SpanKindProducer: 4, trace.SpanKindConsumer: 5, 6: 0, -1: 0,
	} {
		if got := decodeOne(t, tracetest.SpanStub{SpanKind: kind}.Snapshot()).Kind; got != want {
			t.Errorf("kind %d travels as %d, want %d", kind, got, want)
		}
	}
	for code, want := range map[codes.Code]int32{codes.Unset: 0, codes.Ok: 1, codes.Error: 2, 3: 0} {
		got := decodeOne(t, tracetest.SpanStub{Status: sdktrace.Status{Code: code}}.Snapshot()).StatusCode
		if got != want {
			t.Errorf("status %v travels as %d, want %d", code, got, want)
		}
	}
	for n, want := range map[int]uint32{-1: 0, 0: 0, 1: 1, math.MaxInt: uint32(min(uint64(math.MaxInt), math.MaxUint32))} {
		if got := decodeOne(t, tracetest.SpanStub{DroppedLinks: n}.Snapshot()).DroppedLinks; got != want {
			t.Errorf("%d dropped links travel as %d, want %d", n, got, want)
		}
	}
	for _, at := range []time.Time{{}, time.Unix(-1, 0)} {
		if got := decodeOne(t, tracetest.SpanStub{StartTime: at}.Snapshot()).Start; got != 0 {
			t.Errorf("time %v travels as %d, want 0", at, got)
		}
	}
}

func TestFlags(t *testing.T) {
	local, remote := spanContext(otherID, false, ""), spanContext(otherID, true, "")
	for _, c := range []struct {
		name   string
		parent trace.SpanContext
		want   uint32
	}{
		{"root", trace.SpanContext{}, 0x103}, {"local parent", local, 0x103}, {"remote parent", remote, 0x303},
	} {
		s := tracetest.SpanStub{SpanContext: spanContext(selfID, false, ""), Parent: c.parent, Links: []sdktrace.Link{{SpanContext: local}, {SpanContext: remote}}}
		got := decodeOne(t, s.Snapshot())
		if got.Flags != c.want || got.Links[0].Flags != 0x103 || got.Links[1].Flags != 0x303 {
			t.Errorf("%s: flags %#x, of links %#x and %#x; want %#x, 0x103, 0x303", c.name, got.Flags, got.Links[0].Flags, got.Links[1].Flags, c.want)
		}
	}
}

// TestValues: every type of the attribute package comes back as it went.
func TestValues(t *testing.T) {
	long := strings.Repeat("x", 200) // of a length that takes two bytes
	for _, v := range []attribute.Value{
		{}, attribute.BoolValue(true), attribute.BoolValue(false),
		attribute.Int64Value(0), attribute.Int64Value(math.MinInt64), attribute.Int64Value(math.MaxInt64),
		attribute.Float64Value(0), attribute.Float64Value(math.Copysign(0, -1)), attribute.Float64Value(math.Inf(-1)), attribute.Float64Value(1.5),
		attribute.StringValue(""), attribute.StringValue("é\x00"), attribute.StringValue(long),
		attribute.ByteSliceValue(nil), attribute.ByteSliceValue([]byte{0, 0xff}), attribute.ByteSliceValue([]byte(long)),
		attribute.BoolSliceValue([]bool{true, false, true, true}), attribute.Int64SliceValue([]int64{1, -1}),
		attribute.Float64SliceValue([]float64{0, math.Inf(1)}), attribute.StringSliceValue([]string{"", "b", long}),
		attribute.SliceValue(), attribute.SliceValue(attribute.BoolValue(true), attribute.StringValue("x"), attribute.Value{}),
		attribute.SliceValue(attribute.SliceValue(attribute.IntValue(1), attribute.BoolValue(true)), attribute.ByteSliceValue([]byte("b"))),
	} {
		got := decodeOne(t, tracetest.SpanStub{Attributes: []attribute.KeyValue{{Key: "k", Value: v}}}.Snapshot()).Attributes
		if len(got) != 1 || got[0].Key != "k" || got[0].Value != v {
			t.Errorf("%v %q travels as %v", v.Type(), v, got)
		}
	}
	// An empty slice of any type is an empty slice: the wire does not tell which.
	got := decodeOne(t, tracetest.SpanStub{Attributes: []attribute.KeyValue{attribute.IntSlice("k", nil)}}.Snapshot()).Attributes[0].Value
	if got != attribute.SliceValue() {
		t.Errorf("an empty slice travels as %v %q", got.Type(), got)
	}
}

// TestNestedValues: values in values end where common decoders give up, as text.
func TestNestedValues(t *testing.T) {
	v := attribute.StringValue("x")
	for range 200 {
		v = attribute.SliceValue(v, attribute.BoolValue(true))
	}
	got := decodeOne(t, tracetest.SpanStub{Attributes: []attribute.KeyValue{{Key: "k", Value: v}}}.Snapshot()).Attributes[0].Value
	depth := 0
	for ; got.Type() == attribute.SLICE; depth++ {
		got = got.AsSlice()[0]
	}
	if s := got.AsString(); depth != 32 || !strings.HasPrefix(s, "[[") || !strings.HasSuffix(s, "true]") {
		t.Errorf("%d slices in each other, then %v %q; want 32, then JSON text", depth, got.Type(), s)
	}
}

func TestRepair(t *testing.T) {
	const bad, good = "a\xff\xfeb\xc0", "a\uFFFDb\uFFFD"
	s := tracetest.SpanStub{
		Name: bad,
		Attributes: []attribute.KeyValue{
			attribute.String(bad, bad), attribute.StringSlice("k", []string{"ok", bad}), attribute.ByteSlice("y", []byte(bad)),
			{Key: "v", Value: attribute.SliceValue(attribute.StringValue(bad), attribute.BoolValue(true))},
		},
		Events: []sdktrace.Event{{Name: bad}},
		Links:  []sdktrace.Link{{Attributes: []attribute.KeyValue{attribute.String("k", bad)}}},
		Status: sdktrace.Status{Code: codes.Error, Description: bad},
	}
	if _, repaired := otlpwire.AppendSpan(nil, s.Snapshot()); repaired != 8 {
		t.Errorf("repaired = %d, want 8", repaired)
	}
	got := decodeOne(t, s.Snapshot())
	texts := []string{
		got.Name, string(got.Attributes[0].Key), got.Attributes[0].Value.AsString(), got.Attributes[1].Value.AsStringSlice()[1],
		got.Attributes[3].Value.AsSlice()[0].AsString(), got.Events[0].Name, got.Links[0].Attributes[0].Value.AsString(), got.StatusText,
	}
	for i, text := range texts {
		if text != good {
			t.Errorf("text %d = %q, want %q", i, text, good)
		}
	}
	if b := got.Attributes[2].Value.AsByteSlice(); string(b) != bad {
		t.Errorf("bytes = %q, want them as they were: %q", b, bad)
	}
}

// TestShortText goes over the lengths where the check for ASCII takes another path.
func TestShortText(t *testing.T) {
	for n := range 40 {
		for at := -1; at < n; at++ {
			for _, c := range []string{"\xff", "é"} {
				text := strings.Repeat("x", n)
				if at >= 0 {
					text = text[:at] + c + text[at+1:]
				}
				_, repaired := otlpwire.AppendSpan(nil, tracetest.SpanStub{Name: text}.Snapshot())
				if want := at >= 0 && c == "\xff"; (repaired == 1) != want {
					t.Errorf("name %q: repaired = %d", text, repaired)
				}
			}
		}
	}
}

func TestResourceAndScope(t *testing.T) {
	s := tracetest.SpanStub{
		Resource: resource.NewWithAttributes("https://r", attribute.String("service.name", "shop"), attribute.Int("n", 1)),
		InstrumentationScope: instrumentation.Scope{
			Name: "lib", Version: "v1", SchemaURL: "https://s", Attributes: attribute.NewSet(attribute.Bool("b", true)),
		},
	}
	got := decodeOne(t, s.Snapshot())
	want := &otlpwire.Resource{SchemaURL: "https://r", Attributes: []attribute.KeyValue{attribute.Int("n", 1), attribute.String("service.name", "shop")}}
	if diff := cmp.Diff(want, got.Resource, cmp.Comparer(func(a, b attribute.Value) bool { return a == b })); diff != "" {
		t.Errorf("resource (-want +got):\n%s", diff)
	}
	if got.ScopeName != "lib" || got.ScopeVersion != "v1" || len(got.ScopeAttributes) != 1 || got.ScopeAttributes[0] != attribute.Bool("b", true) {
		t.Errorf("scope %q %q %v, want lib v1 [b=true]", got.ScopeName, got.ScopeVersion, got.ScopeAttributes)
	}
	if b := otlpwire.AppendResource(nil, nil); len(b) != 0 {
		t.Errorf("AppendResource(nil) = %x, want nothing", b)
	}
}

// serverSpan is an ended span as an HTTP server makes them: 10 attributes.
func serverSpan() tracetest.SpanStub {
	return tracetest.SpanStub{
		Name:        "GET /carts/{id}",
		SpanContext: spanContext(selfID, false, ""),
		Parent:      spanContext(otherID, true, ""),
		SpanKind:    trace.SpanKindServer,
		StartTime:   time.Unix(1_790_000_000, 123456789),
		EndTime:     time.Unix(1_790_000_000, 223456789),
		Status:      sdktrace.Status{Code: codes.Error},
		Attributes: []attribute.KeyValue{
			attribute.String("http.request.method", "GET"),
			attribute.String("url.path", "/carts/4711"),
			attribute.String("url.scheme", "https"),
			attribute.String("http.route", "/carts/{id}"),
			attribute.String("network.protocol.version", "1.1"),
			attribute.String("guid:x-request-id", "0f4d1c2e-7a3b-4c5d-9e8f-001122334455"),
			attribute.Int("http.response.status_code", 503),
			attribute.Int("server.port", 8443),
			attribute.Int64("http.response.body.size", 123_456),
			attribute.Bool("envoy.traced", true),
		},
	}
}

// TestAllocations: none but for slices, which the attribute package hands out as copies.
func TestAllocations(t *testing.T) {
	full := serverSpan()
	full.SpanContext = spanContext(selfID, false, "a=1,b=2")
	full.Attributes = append(full.Attributes, attribute.Float64("d", 1), attribute.ByteSlice("y", make([]byte, 500)))
	full.Events = []sdktrace.Event{{Name: "e", Time: full.EndTime, Attributes: full.Attributes}}
	full.Links = []sdktrace.Link{{SpanContext: spanContext(otherID, true, "c=3"), Attributes: full.Attributes}}
	slices := tracetest.SpanStub{Attributes: []attribute.KeyValue{
		attribute.StringSlice("http.request.header.accept", []string{"a", "b"}), attribute.IntSlice("i", []int{1, 2, 3}),
	}}
	dst := make([]byte, 0, 8192)
	for _, c := range []struct {
		name string
		span sdktrace.ReadOnlySpan
		want float64
	}{{"server span", serverSpan().Snapshot(), 0}, {"events, links and trace state", full.Snapshot(), 0}, {"two slices", slices.Snapshot(), 2}} {
		if got := testing.AllocsPerRun(100, func() { dst, _ = otlpwire.AppendSpan(dst[:0], c.span) }); got != c.want {
			t.Errorf("AppendSpan of %s allocates %v times, want %v", c.name, got, c.want)
		}
	}
}

func BenchmarkAppendSpan(b *testing.B) {
	s := serverSpan().Snapshot()
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = otlpwire.AppendSpan(dst[:0], s)
	}
	b.ReportMetric(float64(len(dst)), "B/span")
}
