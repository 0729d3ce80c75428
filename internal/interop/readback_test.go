package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkresource "go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/exporter/otlpgrpc"
)

var update = flag.Bool("update", false, "write the table of READBACK.md as it came out")

// everything returns spans of one trace that between them have every field OTLP has and
// the SDK can fill. The first is the root.
func everything() tracetest.SpanStubs {
	traceID := trace.TraceID{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36}
	state := func(s string) trace.TraceState {
		ts, err := trace.ParseTraceState(s)
		if err != nil {
			panic(err)
		}
		return ts
	}
	spanContext := func(n byte, flags trace.TraceFlags, ts string, remote bool) trace.SpanContext {
		return trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: trace.SpanID{0xf0, 0, 0, 0, 0, 0, 0, n},
			TraceFlags: flags, TraceState: state(ts), Remote: remote})
	}
	start := time.Unix(1_790_000_000, 123_456_789)
	attrs := []attribute.KeyValue{
		attribute.String("a.string", "Grüße 🚕 \"quoted\"\n"),
		attribute.String("a.empty_string", ""),
		attribute.Bool("a.bool", true),
		attribute.Int64("a.int", 1<<62+1),
		attribute.Float64("a.double", 0.1),
		{Key: "a.bytes", Value: attribute.ByteSliceValue([]byte{0, 1, 0xff})},
		attribute.StringSlice("a.strings", []string{"x", "y z"}),
		attribute.BoolSlice("a.bools", []bool{true, false}),
		attribute.Int64Slice("a.ints", []int64{-1, 1 << 60}),
		attribute.Float64Slice("a.doubles", []float64{0.5, 1e300}),
		{Key: "a.mixed", Value: attribute.SliceValue(attribute.StringValue("s"), attribute.Int64Value(7))},
	}
	resources := []*sdkresource.Resource{
		sdkresource.NewWithAttributes("https://opentelemetry.io/schemas/1.41.0", attribute.String("service.name", "shop"),
			attribute.String("service.version", "1.2.3"), attribute.Int("r.int", 7), attribute.StringSlice("r.strings", []string{"p", "q"})),
		sdkresource.NewSchemaless(attribute.String("service.name", "till"), attribute.Bool("r.bool", true)),
	}
	scopes := []instrumentation.Scope{
		{Name: "shop/cart", Version: "0.9", SchemaURL: "https://opentelemetry.io/schemas/1.40.0", Attributes: attribute.NewSet(attribute.String("s.team", "blue"))},
		{Name: "till"},
	}
	kinds := []trace.SpanKind{trace.SpanKindServer, trace.SpanKindClient, trace.SpanKindInternal, trace.SpanKindProducer, trace.SpanKindConsumer}

	var stubs tracetest.SpanStubs
	for n := range byte(10) {
		begin := start.Add(time.Duration(n) * 1_234_567 * time.Nanosecond)
		s := tracetest.SpanStub{
			Name:                 fmt.Sprintf("GET /Orders/%d", n),
			SpanContext:          spanContext(n+1, trace.FlagsSampled, "", false),
			SpanKind:             kinds[int(n)%len(kinds)],
			StartTime:            begin,
			EndTime:              begin.Add(5_000_321 * time.Nanosecond),
			Resource:             resources[n/5],
			InstrumentationScope: scopes[n/5],
			Attributes:           append([]attribute.KeyValue(nil), attrs...),
			Events: []sdktrace.Event{
				{Name: "retry", Time: begin.Add(1_000_007 * time.Nanosecond), DroppedAttributeCount: 2,
					Attributes: []attribute.KeyValue{attribute.Int("attempt", int(n)), attribute.String("why", "slow")}},
				{Name: "done", Time: begin.Add(2_000_009 * time.Nanosecond)},
			},
			Links: []sdktrace.Link{{
				SpanContext:           spanContext(0x80+n, trace.FlagsSampled, "link=yes", true).WithTraceID(trace.TraceID{15: 0x99}),
				Attributes:            []attribute.KeyValue{attribute.String("l.why", "batch")},
				DroppedAttributeCount: 1,
			}},
			DroppedAttributes: 3, DroppedEvents: 4, DroppedLinks: 5,
		}
		if n > 0 {
			s.Parent = spanContext(n/2+1, trace.FlagsSampled, "", n%2 == 0)
		}
		switch n % 3 {
		case 1:
			s.Status = sdktrace.Status{Code: codes.Error, Description: "no such order"}
			s.SpanContext = spanContext(n+1, trace.FlagsSampled|2, "vendor=a:b,other=1", false)
		case 2:
			s.Status = sdktrace.Status{Code: codes.Ok}
		}
		stubs = append(stubs, s)
	}
	return stubs
}

// bySDK is what OpenTelemetry's own exporter makes of spans: the reference. It leaves out
// one thing, which is added: the trace state of links.
func bySDK(t *testing.T, spans []sdktrace.ReadOnlySpan) []flat {
	t.Helper()
	states := make(map[string]string)
	for _, s := range spans {
		for _, l := range s.Links() {
			states[l.SpanContext.SpanID().String()] = l.SpanContext.TraceState().String()
		}
	}
	c := &converted{}
	if err := otlptrace.NewUnstarted(c).ExportSpans(t.Context(), spans); err != nil {
		t.Fatal(err)
	}
	var flats []flat
	for _, rs := range c.spans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				flats = append(flats, flat{
					Resource:       resourceOf(rs),
					ResourceSchema: rs.SchemaUrl,
					Scope: scope{Name: ss.Scope.GetName(), Version: ss.Scope.GetVersion(), Attributes: kvs(ss.Scope.GetAttributes()),
						DroppedAttributesCount: ss.Scope.GetDroppedAttributesCount()},
					ScopeSchema: ss.SchemaUrl,
					Span:        spanOf(s),
				})
			}
		}
	}
	for _, f := range flats {
		for i := range f.Span.Links {
			f.Span.Links[i].TraceState = states[f.Span.Links[i].SpanID]
		}
	}
	return flats
}

type converted struct{ spans []*tracepb.ResourceSpans }

func (*converted) Start(context.Context) error { return nil }
func (*converted) Stop(context.Context) error  { return nil }

func (c *converted) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	c.spans = spans
	return nil
}

func resourceOf(rs *tracepb.ResourceSpans) resource {
	return resource{Attributes: kvs(rs.GetResource().GetAttributes()), DroppedAttributesCount: rs.GetResource().GetDroppedAttributesCount()}
}

func spanOf(s *tracepb.Span) span {
	out := span{
		TraceID: hex.EncodeToString(s.TraceId), SpanID: hex.EncodeToString(s.SpanId), ParentSpanID: hex.EncodeToString(s.ParentSpanId),
		TraceState: s.TraceState, Flags: s.Flags, Name: s.Name, Kind: int32(s.Kind),
		StartTimeUnixNano: digits(s.StartTimeUnixNano), EndTimeUnixNano: digits(s.EndTimeUnixNano),
		Attributes: kvs(s.Attributes), DroppedAttributesCount: s.DroppedAttributesCount,
		DroppedEventsCount: s.DroppedEventsCount, DroppedLinksCount: s.DroppedLinksCount,
		Status: status{Message: s.Status.GetMessage(), Code: int32(s.Status.GetCode())},
	}
	for _, e := range s.Events {
		out.Events = append(out.Events, event{TimeUnixNano: digits(e.TimeUnixNano), Name: e.Name, Attributes: kvs(e.Attributes), DroppedAttributesCount: e.DroppedAttributesCount})
	}
	for _, l := range s.Links {
		out.Links = append(out.Links, link{TraceID: hex.EncodeToString(l.TraceId), SpanID: hex.EncodeToString(l.SpanId), TraceState: l.TraceState,
			Attributes: kvs(l.Attributes), DroppedAttributesCount: l.DroppedAttributesCount, Flags: l.Flags})
	}
	return out
}

func digits(n uint64) int64s {
	if n == 0 {
		return ""
	}
	return int64s(strconv.FormatUint(n, 10))
}

func kvs(in []*commonpb.KeyValue) (out []keyValue) {
	for _, kv := range in {
		out = append(out, keyValue{kv.Key, value(kv.Value)})
	}
	return out
}

func value(v *commonpb.AnyValue) (out anyValue) {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		out.StringValue = &v.StringValue
	case *commonpb.AnyValue_BoolValue:
		out.BoolValue = &v.BoolValue
	case *commonpb.AnyValue_IntValue:
		n := int64s("")
		if v.IntValue != 0 {
			n = int64s(strconv.FormatInt(v.IntValue, 10))
		}
		out.IntValue = &n
	case *commonpb.AnyValue_DoubleValue:
		d := double(strconv.FormatFloat(v.DoubleValue, 'g', -1, 64))
		out.DoubleValue = &d
	case *commonpb.AnyValue_BytesValue:
		s := base64.StdEncoding.EncodeToString(v.BytesValue)
		out.BytesValue = &s
	case *commonpb.AnyValue_ArrayValue:
		a := &arrayValue{}
		for _, e := range v.ArrayValue.Values {
			a.Values = append(a.Values, value(e))
		}
		out.ArrayValue = a
	}
	return out
}

// field is a field of a span, or of what it belongs to: what a reader looks for.
type field struct {
	name string
	get  func(f flat) any // zero: the span has none
}

// attr gets one attribute, with its type.
func attr(of func(flat) []keyValue, key string) func(flat) any {
	return func(f flat) any {
		for _, kv := range of(f) {
			if kv.Key == key {
				return kv.Value
			}
		}
		return nil
	}
}

func each[T, R any](of func(flat) []T, get func(T) R) func(flat) any {
	return func(f flat) any {
		var out []R
		for _, v := range of(f) {
			out = append(out, get(v))
		}
		return out
	}
}

var (
	spanAttrs     = func(f flat) []keyValue { return f.Span.Attributes }
	resourceAttrs = func(f flat) []keyValue { return f.Resource.Attributes }
	events        = func(f flat) []event { return f.Span.Events }
	links         = func(f flat) []link { return f.Span.Links }
)

var fields = []field{
	{"trace id", func(f flat) any { return f.Span.TraceID }},
	{"span id", func(f flat) any { return f.Span.SpanID }},
	{"parent span id", func(f flat) any { return f.Span.ParentSpanID }},
	{"trace state", func(f flat) any { return f.Span.TraceState }},
	{"flags: those of W3C", func(f flat) any { return f.Span.Flags & 0xff }},
	{"flags: parent is remote", func(f flat) any { return f.Span.Flags &^ 0xff }},
	{"name", func(f flat) any { return f.Span.Name }},
	{"kind", func(f flat) any { return f.Span.Kind }},
	{"start", func(f flat) any { return string(f.Span.StartTimeUnixNano) }},
	{"end", func(f flat) any { return string(f.Span.EndTimeUnixNano) }},
	{"status code", func(f flat) any { return f.Span.Status.Code }},
	{"status message", func(f flat) any { return f.Span.Status.Message }},
	{"attribute: string", attr(spanAttrs, "a.string")},
	{"attribute: empty string", attr(spanAttrs, "a.empty_string")},
	{"attribute: bool", attr(spanAttrs, "a.bool")},
	{"attribute: int", attr(spanAttrs, "a.int")},
	{"attribute: double", attr(spanAttrs, "a.double")},
	{"attribute: bytes", attr(spanAttrs, "a.bytes")},
	{"attribute: strings", attr(spanAttrs, "a.strings")},
	{"attribute: bools", attr(spanAttrs, "a.bools")},
	{"attribute: ints", attr(spanAttrs, "a.ints")},
	{"attribute: doubles", attr(spanAttrs, "a.doubles")},
	{"attribute: mixed list", attr(spanAttrs, "a.mixed")},
	{"dropped attributes", func(f flat) any { return f.Span.DroppedAttributesCount }},
	{"event: name", each(events, func(e event) string { return e.Name })},
	{"event: time", each(events, func(e event) string { return string(e.TimeUnixNano) })},
	{"event: attributes", each(events, func(e event) string { return text(e.Attributes) })},
	{"event: dropped attributes", each(events, func(e event) uint32 { return e.DroppedAttributesCount })},
	{"dropped events", func(f flat) any { return f.Span.DroppedEventsCount }},
	{"link: trace and span id", each(links, func(l link) string { return l.TraceID + "/" + l.SpanID })},
	{"link: trace state", each(links, func(l link) string { return l.TraceState })},
	{"link: attributes", each(links, func(l link) string { return text(l.Attributes) })},
	{"link: dropped attributes", each(links, func(l link) uint32 { return l.DroppedAttributesCount })},
	{"link: flags", each(links, func(l link) uint32 { return l.Flags })},
	{"dropped links", func(f flat) any { return f.Span.DroppedLinksCount }},
	{"resource: service.name", attr(resourceAttrs, "service.name")},
	{"resource: string", attr(resourceAttrs, "service.version")},
	{"resource: int", attr(resourceAttrs, "r.int")},
	{"resource: bool", attr(resourceAttrs, "r.bool")},
	{"resource: strings", attr(resourceAttrs, "r.strings")},
	{"resource: schema URL", func(f flat) any { return f.ResourceSchema }},
	{"scope: name", func(f flat) any { return f.Scope.Name }},
	{"scope: version", func(f flat) any { return f.Scope.Version }},
	{"scope: attributes", func(f flat) any { return text(f.Scope.Attributes) }},
	{"scope: schema URL", func(f flat) any { return f.ScopeSchema }},
}

// text is the canonical form of a field's value, "" where there is none.
func text(v any) string {
	if kvs, ok := v.([]keyValue); ok {
		kvs = slices.Clone(kvs)
		sortKeys(kvs)
		v = kvs
	}
	switch l := v.(type) {
	case []string:
		if !slices.ContainsFunc(l, func(s string) bool { return s != "" }) {
			return ""
		}
	case []uint32:
		if !slices.ContainsFunc(l, func(n uint32) bool { return n != 0 }) {
			return ""
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	switch s := string(b); s {
	case `null`, `""`, `0`, `[]`, `{}`:
		return ""
	default:
		return s
	}
}

// plain is what is left of a typed value when it becomes text, as the Collector has it:
// numbers in digits, bytes in base64, lists in JSON.
func plain(v anyValue) string {
	switch {
	case v.StringValue != nil:
		return *v.StringValue
	case v.BoolValue != nil:
		return strconv.FormatBool(*v.BoolValue)
	case v.IntValue != nil:
		return cmpOr(string(*v.IntValue), "0")
	case v.DoubleValue != nil:
		return string(*v.DoubleValue)
	case v.BytesValue != nil:
		return *v.BytesValue
	case v.ArrayValue != nil:
		var parts []string
		for _, e := range v.ArrayValue.Values {
			if e.StringValue != nil {
				q, _ := json.Marshal(*e.StringValue)
				parts = append(parts, string(q))
			} else {
				parts = append(parts, plain(e))
			}
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	return ""
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// verdict says what became of a field: wants and gots are the values span by span.
func verdict(wants, gots []any) string {
	all := func(same func(w, g any) bool) bool {
		any := false
		for i := range wants {
			if text(wants[i]) == "" {
				continue
			}
			any = true
			if !same(wants[i], gots[i]) {
				return false
			}
		}
		return any
	}
	switch {
	case all(func(w, g any) bool { return text(w) == text(g) }):
		for i := range wants { // nor is anything there that was not sent
			if text(wants[i]) == "" && text(gots[i]) != "" {
				return fmt.Sprintf("made up: %s", text(gots[i]))
			}
		}
		return "kept"
	case all(func(_, g any) bool { return text(g) == "" }):
		return "lost"
	case all(func(w, g any) bool {
		wv, ok := w.(anyValue)
		if !ok {
			return false
		}
		gv, ok := g.(anyValue)
		return ok && gv.StringValue != nil && sameText(plain(wv), *gv.StringValue)
	}):
		return "as text"
	case all(sameMicros):
		return "to the µs"
	case all(func(w, g any) bool { return strings.ToLower(text(w)) == text(g) }):
		return "in lower case"
	}
	for i := range wants {
		if w, g := text(wants[i]), text(gots[i]); w != g {
			return fmt.Sprintf("changed: %s into %s", w, cmpOr(g, "nothing"))
		}
	}
	return "?"
}

// sameText takes numbers for equal that are written differently.
func sameText(a, b string) bool {
	if a == b {
		return true
	}
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && text(x) == text(y)
}

// sameMicros says whether two times, or lists of times, differ by 1 µs at most.
func sameMicros(w, g any) bool {
	var ws, gs []string
	switch w := w.(type) {
	case string:
		ws, gs = []string{w}, []string{g.(string)}
	case []string:
		ws = w
		gs, _ = g.([]string)
	}
	if len(ws) == 0 || len(ws) != len(gs) {
		return false
	}
	for i := range ws {
		x, err := strconv.ParseInt(ws[i], 10, 64)
		y, err2 := strconv.ParseInt(gs[i], 10, 64)
		if err != nil || err2 != nil || x < 1e18 || max(x-y, y-x) > 1000 {
			return false
		}
	}
	return true
}

// verdicts compares what a peer has with what was sent.
func verdicts(t *testing.T, name string, want, got []flat) map[string]string {
	t.Helper()
	byID := make(map[string]flat)
	for _, f := range got {
		if _, twice := byID[f.Span.SpanID]; twice {
			t.Errorf("%s has span %s twice", name, f.Span.SpanID)
		}
		byID[f.Span.SpanID] = f
	}
	if len(got) != len(want) {
		t.Errorf("%s has %d spans, want %d", name, len(got), len(want))
	}
	said := make(map[string]string)
	for _, field := range fields {
		var wants, gots []any
		for _, w := range want {
			g, ok := byID[w.Span.SpanID]
			if !ok {
				t.Fatalf("%s has no span %s", name, w.Span.SpanID)
			}
			wants, gots = append(wants, field.get(w)), append(gots, field.get(g))
		}
		said[field.name] = verdict(wants, gots)
	}
	return said
}

// way is how the spans get to a peer.
type way struct {
	name string
	cfg  func(t *testing.T, grpcAddr, httpAddr string) exporter.Config
}

var ways = []way{
	{"http/protobuf", func(_ *testing.T, _, h string) exporter.Config {
		return exporter.Config{Endpoint: "http://" + h, Protocol: exporter.HTTPProtobuf}
	}},
	{"http/protobuf, gzip", func(_ *testing.T, _, h string) exporter.Config {
		return exporter.Config{Endpoint: "http://" + h, Protocol: exporter.HTTPProtobuf, Compression: exporter.Gzip}
	}},
	{"grpc", func(_ *testing.T, g, _ string) exporter.Config {
		return exporter.Config{Endpoint: "http://" + g, Protocol: exporter.GRPC}
	}},
	{"otlpgrpc", func(t *testing.T, g, _ string) exporter.Config {
		cc, err := grpc.NewClient(g, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cc.Close() })
		return exporter.Config{Sender: otlpgrpc.New(cc)}
	}},
}

// export sends spans through an Exporter and checks its accounts.
func export(t *testing.T, cfg exporter.Config, spans []sdktrace.ReadOnlySpan) {
	t.Helper()
	cfg.Getenv = func(string) string { return "" }
	exp, err := exporter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range spans {
		exp.OnEnd(s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := exp.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if st := exp.Stats(); !st.Balanced() || st.Delivered != uint64(len(spans)) {
		t.Errorf("the accounts are %+v, want %d delivered", st, len(spans))
	}
}

// TestReadBack sends spans with every field there is to two Collectors, to Jaeger and
// through a Collector to Zipkin, reads them back, and compares them field by field
// with what OpenTelemetry's own exporter would have sent. READBACK.md says what each keeps.
func TestReadBack(t *testing.T) {
	root := need(t, collector, collectorNow, jaeger, zipkin)
	shown := show(t, "read back, field by field", "two Collectors, Jaeger, Collector to Zipkin")
	stubs := everything()
	spans := stubs.Snapshots()
	want := bySDK(t, spans)
	traceID := stubs[0].SpanContext.TraceID().String()

	z := startZipkin(t, root)
	columns := []string{"Collector " + collectorVersion, "Collector " + collectorNowVersion, "Jaeger " + jaegerVersion, "Collector " + collectorVersion + " to Zipkin " + zipkinVersion}
	said := make([]map[string]string, len(columns))

	for i, p := range []*peer{collector, collectorNow} {
		for _, w := range ways {
			out := filepath.Join(t.TempDir(), "traces.jsonl")
			c := startCollector(t, root, p, string(toFileYAML), "OUT="+out)
			export(t, w.cfg(t, c.addrs[0], c.addrs[1]), spans)
			if err := c.stop(); err != nil { // it writes out what it holds
				t.Fatal(err)
			}
			got := readFile(t, out)
			v := verdicts(t, p.name+" by "+w.name, want, got)
			if said[i] != nil && fmt.Sprint(said[i]) != fmt.Sprint(v) {
				t.Errorf("%s keeps something else by %s: %v, before %v", p.name, w.name, v, said[i])
			}
			said[i] = v
			if diff := compare(want, got); len(diff) != 0 {
				t.Errorf("%s by %s: %d of %d spans differ from what OpenTelemetry's exporter sends:\n%s", p.name, w.name, len(diff), len(want), diff[0])
			}
		}
	}

	for _, w := range ways {
		j := startJaeger(t, root)
		export(t, w.cfg(t, j.addrs[0], j.addrs[1]), spans)
		var got []flat
		eventually(t, 20*time.Second, func() string {
			body, err := get("http://" + j.addrs[2] + "/api/v3/traces/" + traceID)
			if err != nil {
				return err.Error()
			}
			if got, err = readJaeger(body); err != nil {
				return err.Error()
			}
			if len(got) < len(want) {
				return fmt.Sprintf("Jaeger has %d of %d spans", len(got), len(want))
			}
			return ""
		})
		v := verdicts(t, "Jaeger by "+w.name, want, got)
		if said[2] != nil && fmt.Sprint(said[2]) != fmt.Sprint(v) {
			t.Errorf("Jaeger keeps something else by %s: %v, before %v", w.name, v, said[2])
		}
		said[2] = v
		j.kill() // it has nothing to say any more
	}

	c := startCollector(t, root, collector, toZipkinYAML, "ZIPKIN=http://"+z.addrs[0]+"/api/v2/spans")
	export(t, ways[0].cfg(t, c.addrs[0], c.addrs[1]), spans)
	var inZipkin []zipkinSpan
	eventually(t, 20*time.Second, func() string {
		if err := getJSON("http://"+z.addrs[0]+"/api/v2/trace/"+traceID, &inZipkin); err != nil {
			return err.Error()
		}
		if len(inZipkin) < len(want) {
			return fmt.Sprintf("Zipkin has %d of %d spans", len(inZipkin), len(want))
		}
		return ""
	})
	var got []flat
	for _, s := range inZipkin {
		f, err := s.flat()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f)
	}
	said[3] = verdicts(t, "Zipkin", want, got)

	checkReadBack(t, columns, said)
	for i, c := range columns {
		n := 0
		for _, v := range said[i] {
			if v != "lost" {
				n++
			}
		}
		shown("%s %d of %d fields", c, n, len(fields))
	}
}

const toZipkinYAML = `
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "${env:GRPC}"}
      http: {endpoint: "${env:HTTP}"}
exporters:
  zipkin: {endpoint: "${env:ZIPKIN}"}
service:
  telemetry: {logs: {level: warn}, metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [zipkin]}
`

func readFile(t *testing.T, path string) []flat {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flats, err := readSpans(b)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return flats
}

// readJaeger reads an answer of /api/v3/traces.
func readJaeger(body []byte) ([]flat, error) {
	var all []flat
	dec := json.NewDecoder(bytes.NewReader(body))
	for dec.More() {
		var chunk struct {
			Result json.RawMessage `json:"result"`
		}
		if err := dec.Decode(&chunk); err != nil {
			return nil, err
		}
		flats, err := readSpans(chunk.Result)
		if err != nil {
			return nil, fmt.Errorf("%w in %.2000s", err, chunk.Result)
		}
		for _, f := range flats {
			for i := range f.Span.Links { // its own word for the kind of a reference
				l := &f.Span.Links[i]
				l.Attributes = slices.DeleteFunc(l.Attributes, func(kv keyValue) bool { return kv.Key == "opentracing.ref_type" })
			}
		}
		all = append(all, flats...)
	}
	return all, nil
}

// checkReadBack compares the table with that of READBACK.md, or writes it there.
func checkReadBack(t *testing.T, columns []string, said []map[string]string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "| field | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, f := range fields {
		fmt.Fprintf(&b, "| %s |", f.name)
		for _, v := range said {
			fmt.Fprintf(&b, " %s |", strings.NewReplacer("|", `\|`, "\n", `\n`).Replace(v[f.name]))
		}
		b.WriteByte('\n')
	}
	const begin, end = "<!-- from here written by: go test -run TestReadBack -update -->\n", "<!-- to here -->\n"
	doc, err := os.ReadFile("READBACK.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal(errors.New("READBACK.md lacks its marks"))
	}
	if old == b.String() {
		return
	}
	if *update {
		if err := os.WriteFile("READBACK.md", []byte(before+begin+b.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("READBACK.md says otherwise than the run; look at it, then take it over with -update:\n%s", b.String())
}
