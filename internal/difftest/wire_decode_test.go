package difftest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// fromProto says what Decode returns for m: the schema's meaning by way of protobuf-go.
func fromProto(m *coltracepb.ExportTraceServiceRequest) (spans []otlpwire.Span) {
	for _, rs := range m.ResourceSpans {
		res := &otlpwire.Resource{Attributes: kvsOf(rs.GetResource().GetAttributes()), SchemaURL: rs.SchemaUrl}
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				out := otlpwire.Span{
					TraceState: s.TraceState, Flags: s.Flags, Name: s.Name, Kind: int32(s.Kind),
					Start: s.StartTimeUnixNano, End: s.EndTimeUnixNano, Attributes: kvsOf(s.Attributes),
					StatusCode: int32(s.GetStatus().GetCode()), StatusText: s.GetStatus().GetMessage(),
					DroppedAttributes: s.DroppedAttributesCount, DroppedEvents: s.DroppedEventsCount, DroppedLinks: s.DroppedLinksCount,
					Resource: res, ScopeName: ss.GetScope().GetName(), ScopeVersion: ss.GetScope().GetVersion(),
					ScopeAttributes: kvsOf(ss.GetScope().GetAttributes()),
				}
				copy(out.TraceID[:], s.TraceId)
				copy(out.SpanID[:], s.SpanId)
				copy(out.Parent[:], s.ParentSpanId)
				for _, e := range s.Events {
					out.Events = append(out.Events, otlpwire.Event{
						Name: e.Name, Time: e.TimeUnixNano, Attributes: kvsOf(e.Attributes), Dropped: e.DroppedAttributesCount,
					})
				}
				for _, l := range s.Links {
					link := otlpwire.Link{
						TraceState: l.TraceState, Flags: l.Flags, Attributes: kvsOf(l.Attributes), Dropped: l.DroppedAttributesCount,
					}
					copy(link.TraceID[:], l.TraceId)
					copy(link.SpanID[:], l.SpanId)
					out.Links = append(out.Links, link)
				}
				spans = append(spans, out)
			}
		}
	}
	return spans
}

func kvsOf(in []*commonpb.KeyValue) (out []attribute.KeyValue) {
	for _, kv := range in {
		out = append(out, attribute.KeyValue{Key: attribute.Key(kv.Key), Value: valueOf(kv.Value)})
	}
	return out
}

func valueOf(v *commonpb.AnyValue) attribute.Value {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return attribute.StringValue(v.StringValue)
	case *commonpb.AnyValue_BoolValue:
		return attribute.BoolValue(v.BoolValue)
	case *commonpb.AnyValue_IntValue:
		return attribute.Int64Value(v.IntValue)
	case *commonpb.AnyValue_DoubleValue:
		return attribute.Float64Value(v.DoubleValue)
	case *commonpb.AnyValue_BytesValue:
		return attribute.ByteSliceValue(v.BytesValue)
	case *commonpb.AnyValue_KvlistValue:
		return attribute.StringValue(plain(v))
	case *commonpb.AnyValue_ArrayValue:
		if len(v.ArrayValue.Values) > 1024 {
			return attribute.StringValue(plain(v))
		}
		elems := make([]attribute.Value, len(v.ArrayValue.Values))
		same := len(elems) > 0
		for i, e := range v.ArrayValue.Values {
			elems[i] = valueOf(e)
			same = same && elems[i].Type() == elems[0].Type()
		}
		if same {
			switch elems[0].Type() {
			case attribute.BOOL:
				return attribute.BoolSliceValue(each(elems, attribute.Value.AsBool))
			case attribute.INT64:
				return attribute.Int64SliceValue(each(elems, attribute.Value.AsInt64))
			case attribute.FLOAT64:
				return attribute.Float64SliceValue(each(elems, attribute.Value.AsFloat64))
			case attribute.STRING:
				return attribute.StringSliceValue(each(elems, attribute.Value.AsString))
			}
		}
		return attribute.SliceValue(elems...)
	}
	return attribute.Value{}
}

func each[T any](in []attribute.Value, f func(attribute.Value) T) (out []T) {
	for _, v := range in {
		out = append(out, f(v))
	}
	return out
}

// plain is the JSON value that v stands for.
func plain(v any) string {
	switch v := v.(type) {
	case *commonpb.AnyValue_StringValue:
		return jsonOf(v.StringValue)
	case *commonpb.AnyValue_BoolValue:
		return jsonOf(v.BoolValue)
	case *commonpb.AnyValue_IntValue:
		return jsonOf(v.IntValue)
	case *commonpb.AnyValue_DoubleValue:
		switch {
		case math.IsNaN(v.DoubleValue):
			return `"NaN"`
		case math.IsInf(v.DoubleValue, 0):
			return map[bool]string{true: `"Infinity"`, false: `"-Infinity"`}[v.DoubleValue > 0]
		}
		return jsonOf(v.DoubleValue)
	case *commonpb.AnyValue_BytesValue:
		return jsonOf(base64.StdEncoding.EncodeToString(v.BytesValue))
	case *commonpb.AnyValue_ArrayValue:
		s := "["
		for i, e := range v.ArrayValue.GetValues() {
			s += map[bool]string{true: ","}[i > 0] + plain(e.GetValue())
		}
		return s + "]"
	case *commonpb.AnyValue_KvlistValue:
		s := "{"
		for i, e := range v.KvlistValue.GetValues() {
			s += map[bool]string{true: ","}[i > 0] + jsonOf(e.GetKey()) + ":" + plain(e.GetValue().GetValue())
		}
		return s + "}"
	}
	return "null"
}

func jsonOf(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// request makes a request of everything that the schema can say, which is more than
// the SDK can: key-value lists, mixed arrays, enums out of range, all dropped counts.
func (g *spanGen) request() *coltracepb.ExportTraceServiceRequest {
	m := new(coltracepb.ExportTraceServiceRequest)
	for range g.IntN(3) {
		rs := &tracepb.ResourceSpans{SchemaUrl: g.text()}
		if !g.one(4) {
			rs.Resource = &resourcepb.Resource{Attributes: g.kvs(4, 3), DroppedAttributesCount: g.uint32()}
			if g.one(3) {
				rs.Resource.EntityRefs = []*commonpb.EntityRef{{Type: g.text(), IdKeys: []string{g.text(), g.text()}}}
			}
		}
		for range g.IntN(3) {
			ss := &tracepb.ScopeSpans{SchemaUrl: g.text()}
			if !g.one(4) {
				ss.Scope = &commonpb.InstrumentationScope{Name: g.text(), Version: g.text(), Attributes: g.kvs(2, 3), DroppedAttributesCount: g.uint32()}
			}
			for range g.IntN(4) {
				ss.Spans = append(ss.Spans, g.protoSpan())
			}
			rs.ScopeSpans = append(rs.ScopeSpans, ss)
		}
		m.ResourceSpans = append(m.ResourceSpans, rs)
	}
	return m
}

func (g *spanGen) protoSpan() *tracepb.Span {
	s := &tracepb.Span{
		TraceId: g.id(16), SpanId: g.id(8), ParentSpanId: g.id(8), TraceState: g.text(), Flags: g.uint32(),
		Name: g.text(), Kind: tracepb.Span_SpanKind(g.uint32()),
		StartTimeUnixNano: uint64(g.integer()), EndTimeUnixNano: uint64(g.integer()),
		Attributes: g.kvs(6, 4), DroppedAttributesCount: g.uint32(), DroppedEventsCount: g.uint32(), DroppedLinksCount: g.uint32(),
	}
	if !g.one(3) {
		s.Status = &tracepb.Status{Code: tracepb.Status_StatusCode(g.uint32()), Message: g.text()}
	}
	for range g.IntN(3) {
		s.Events = append(s.Events, &tracepb.Span_Event{
			Name: g.text(), TimeUnixNano: uint64(g.integer()), Attributes: g.kvs(3, 2), DroppedAttributesCount: g.uint32(),
		})
	}
	for range g.IntN(3) {
		s.Links = append(s.Links, &tracepb.Span_Link{
			TraceId: g.id(16), SpanId: g.id(8), TraceState: g.text(), Attributes: g.kvs(3, 2), DroppedAttributesCount: g.uint32(), Flags: g.uint32(),
		})
	}
	return s
}

func (g *spanGen) uint32() uint32 { return uint32(g.integer()) * uint32(g.IntN(2)) }

func (g *spanGen) id(n int) []byte {
	if g.one(6) {
		return nil
	}
	return binary.BigEndian.AppendUint64(make([]byte, n-8), g.Uint64())
}

func (g *spanGen) kvs(most, nesting int) (kvs []*commonpb.KeyValue) {
	for range g.IntN(most + 1) {
		kv := &commonpb.KeyValue{Key: g.text()}
		if !g.one(8) {
			kv.Value = g.anyValue(nesting)
		}
		kvs = append(kvs, kv)
	}
	return kvs
}

func (g *spanGen) anyValue(nesting int) *commonpb.AnyValue {
	kinds := 9
	if nesting == 0 {
		kinds = 6
	}
	switch g.IntN(kinds) {
	case 0:
		return &commonpb.AnyValue{}
	case 1:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: g.one(2)}}
	case 2:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: g.integer()}}
	case 3:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: g.float()}}
	case 4:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BytesValue{BytesValue: []byte(g.rawText())}}
	case 6:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_KvlistValue{KvlistValue: &commonpb.KeyValueList{Values: g.kvs(4, nesting-1)}}}
	case 7: // of one kind
		elem := g.anyValue(0)
		a := &commonpb.ArrayValue{}
		for range g.IntN(8) {
			a.Values = append(a.Values, elem)
		}
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: a}}
	case 8:
		a := &commonpb.ArrayValue{}
		for range g.IntN(5) {
			a.Values = append(a.Values, g.anyValue(nesting-1))
		}
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: a}}
	default:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: g.text()}}
	}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeAgreesWithProtobuf(t *testing.T) {
	for seed := range uint64(300) {
		m := newGen(seed).request()
		checkDecode(t, m)
		checkJSON(t, m)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func checkDecode(t testing.TB, m *coltracepb.ExportTraceServiceRequest) {
	t.Helper()
	got, err := otlpwire.Decode(marshal(t, m))
	if err != nil {
		t.Fatalf("Decode: %v", err)
	}
	if diff := gocmp.Diff(fromProto(m), got, gocmp.Comparer(equalValues)); diff != "" {
		t.Errorf("Decode differs from protobuf-go (-want +got):\n%.4000s", diff)
	}
}

// equalValues compares bit by bit: NaN equals NaN.
func equalValues(a, b attribute.Value) bool {
	if a.Type() != b.Type() {
		return false
	}
	switch a.Type() {
	case attribute.FLOAT64:
		return math.Float64bits(a.AsFloat64()) == math.Float64bits(b.AsFloat64())
	case attribute.FLOAT64SLICE:
		return slices.EqualFunc(a.AsFloat64Slice(), b.AsFloat64Slice(), func(x, y float64) bool {
			return math.Float64bits(x) == math.Float64bits(y)
		})
	case attribute.SLICE:
		return slices.EqualFunc(a.AsSlice(), b.AsSlice(), equalValues)
	}
	return a == b
}

// checkJSON compares AppendJSON with protojson. The two agree but in ids (hex, not
// base64) and enums (numbers, not names), which OTLP demands, and in whether the
// empty member of a oneof's message is there.
func checkJSON(t testing.TB, m *coltracepb.ExportTraceServiceRequest) {
	t.Helper()
	got, err := otlpwire.AppendJSON(nil, marshal(t, m))
	if err != nil {
		t.Fatalf("AppendJSON: %v", err)
	}
	if bytes.ContainsAny(got, "\r\n") {
		t.Errorf("AppendJSON wrote more than one line: %q", got)
	}
	want, err := protojson.MarshalOptions{UseEnumNumbers: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var g, w any
	if err := unmarshalJSON(got, &g); err != nil {
		t.Fatalf("AppendJSON wrote no JSON: %v\n%.4000s", err, got)
	}
	if err := unmarshalJSON(want, &w); err != nil {
		t.Fatal(err)
	}
	hexIDs(w)
	if !reflect.DeepEqual(w, g) { // go-cmp takes twice as long for each level that values lie in each other
		t.Errorf("AppendJSON differs from protojson:\n got %.4000s\nwant %.4000s (but for ids)", got, want)
	}
	theirs, err := json.Marshal(w) // protojson's, with ids as OTLP has them
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range [][]byte{got, theirs} {
		wire, err := otlpwire.ReadJSON(in)
		if err != nil {
			t.Fatalf("ReadJSON: %v\n%.4000s", err, in)
		}
		if back := unmarshal(t, wire); !proto.Equal(m, back) {
			t.Errorf("ReadJSON differs (-want +got):\n%.4000s", gocmp.Diff(m, back, protocmp.Transform()))
		}
	}
}

// unmarshalJSON keeps numbers as they are written but for the spelling of exponents.
func unmarshalJSON(b []byte, v *any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	return d.Decode(v)
}

func hexIDs(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			hexIDs(e)
		}
	case map[string]any:
		for k, e := range v {
			if s, ok := e.(string); ok && (k == "traceId" || k == "spanId" || k == "parentSpanId") {
				b, err := base64.StdEncoding.DecodeString(s)
				if err != nil {
					panic(err)
				}
				v[k] = hex.EncodeToString(b)
				continue
			}
			hexIDs(e)
		}
	}
}

// FuzzDecode gives any bytes to both. What we accept protobuf-go accepts, and then
// both read the same; what it accepts and we do not is a limit of ours, a group, or a
// wire type that the schema does not have.
func FuzzDecode(f *testing.F) {
	for seed := range uint64(20) {
		g := newGen(seed)
		g.short = true
		f.Add(marshal(f, g.request()))
	}
	ours := regexp.MustCompile(`^(wire type \d|\d+ bytes in place of|more than \d)`)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := otlpwire.Decode(data)
		m := new(coltracepb.ExportTraceServiceRequest)
		protoErr := proto.Unmarshal(data, m)
		if protoErr != nil {
			if err == nil {
				t.Fatalf("Decode accepts what protobuf-go refuses: %v", protoErr)
			}
			return
		}
		if err != nil {
			var wire *otlpwire.WireError
			if !errors.As(err, &wire) || !ours.MatchString(wire.Reason) {
				t.Fatalf("Decode refuses what protobuf-go accepts: %v", err)
			}
			return
		}
		dropIndexed(m.ProtoReflect())
		checkDecode(t, m) // in protobuf-go's own spelling: it merges what stands twice
		dropUnknown(m.ProtoReflect())
		checkJSON(t, m)
	})
}

// dropUnknown removes the fields that the schema lacks: they have no name in JSON.
func dropUnknown(m protoreflect.Message) {
	m.SetUnknown(nil)
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				dropUnknown(v.List().Get(i).Message())
			}
		default:
			dropUnknown(v.Message())
		}
		return true
	})
}

// dropIndexed removes the fields that only profiles may use: a trace has no string table.
func dropIndexed(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case strings.HasSuffix(string(fd.Name()), "_strindex"):
			m.Clear(fd)
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				dropIndexed(v.List().Get(i).Message())
			}
		default:
			dropIndexed(v.Message())
		}
		return true
	})
}
