package difftest

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// encode makes a request of spans as an exporter does: each span's body on its own,
// groups interned, a batch around them.
func encode(t testing.TB, spans []sdktrace.ReadOnlySpan) (request []byte, repaired int) {
	t.Helper()
	type key struct {
		res   *resource.Resource
		scope instrumentation.Scope
	}
	groups := make(map[key]*otlpwire.Group)
	var b otlpwire.Batch
	for _, s := range spans {
		k := key{s.Resource(), s.InstrumentationScope()}
		g := groups[k]
		if g == nil {
			g = otlpwire.NewGroup(
				otlpwire.AppendResource(nil, k.res), k.res.SchemaURL(),
				otlpwire.AppendScope(nil, k.scope), k.scope.SchemaURL)
			groups[k] = g // a scope with NaN in an attribute equals nothing and is not found again
		}
		body, n := otlpwire.AppendSpan(nil, s)
		repaired += n
		if !b.Add(g, body, 1<<30) {
			t.Fatal("Add refused a span below the limit")
		}
	}
	request = b.AppendTo(nil)
	if len(request) != b.Size() {
		t.Fatalf("Size() = %d before AppendTo appended %d bytes", b.Size(), len(request))
	}
	return request, repaired
}

func unmarshal(t testing.TB, request []byte) *coltracepb.ExportTraceServiceRequest {
	t.Helper()
	m := new(coltracepb.ExportTraceServiceRequest)
	if err := proto.Unmarshal(request, m); err != nil {
		t.Fatalf("protobuf-go refuses our bytes: %v", err)
	}
	return m
}

// reference sends spans through otlptracegrpc to a grpc-go server and returns what came.
func reference(t testing.TB) func([]sdktrace.ReadOnlySpan) *coltracepb.ExportTraceServiceRequest {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *coltracepb.ExportTraceServiceRequest, 1)
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(1 << 30))
	coltracepb.RegisterTraceServiceServer(srv, &capture{got: got})
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }()
	exp, err := otlptracegrpc.New(context.Background(), otlptracegrpc.WithEndpoint(l.Addr().String()), otlptracegrpc.WithInsecure())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exp.Shutdown(context.Background())
		srv.Stop()
		<-served
	})
	return func(spans []sdktrace.ReadOnlySpan) *coltracepb.ExportTraceServiceRequest {
		t.Helper()
		if err := exp.ExportSpans(context.Background(), spans); err != nil {
			t.Fatalf("otlptracegrpc: %v", err)
		}
		return <-got
	}
}

type capture struct {
	coltracepb.UnimplementedTraceServiceServer
	got chan *coltracepb.ExportTraceServiceRequest
}

func (c *capture) Export(_ context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	c.got <- req
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

// normalise removes what the two may say differently: the order and grouping of
// resources and scopes, and empty messages where the schema gives absence the same
// meaning. Whatever else differs is a fault.
func normalise(m *coltracepb.ExportTraceServiceRequest) *coltracepb.ExportTraceServiceRequest {
	type key struct{ resource, scope string }
	bytesOf := func(m proto.Message, url string) string {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			panic(err)
		}
		return string(b) + "\x00" + url
	}
	out := new(coltracepb.ExportTraceServiceRequest)
	at := make(map[key]*tracepb.ScopeSpans)
	for _, rs := range m.ResourceSpans {
		if rs.Resource != nil && proto.Size(rs.Resource) == 0 {
			rs.Resource = nil
		}
		for _, ss := range rs.ScopeSpans {
			if ss.Scope != nil && proto.Size(ss.Scope) == 0 {
				ss.Scope = nil
			}
			for _, s := range ss.Spans {
				if s.Status != nil && proto.Size(s.Status) == 0 {
					s.Status = nil
				}
			}
			k := key{bytesOf(rs.Resource, rs.SchemaUrl), bytesOf(ss.Scope, ss.SchemaUrl)}
			if at[k] == nil {
				at[k] = &tracepb.ScopeSpans{Scope: ss.Scope, SchemaUrl: ss.SchemaUrl}
				out.ResourceSpans = append(out.ResourceSpans, &tracepb.ResourceSpans{
					Resource: rs.Resource, SchemaUrl: rs.SchemaUrl, ScopeSpans: []*tracepb.ScopeSpans{at[k]},
				})
			}
			at[k].Spans = append(at[k].Spans, ss.Spans...)
		}
	}
	for _, rs := range out.ResourceSpans {
		slices.SortStableFunc(rs.ScopeSpans[0].Spans, func(a, b *tracepb.Span) int {
			return cmp.Compare(bytesOf(a, ""), bytesOf(b, ""))
		})
	}
	slices.SortFunc(out.ResourceSpans, func(a, b *tracepb.ResourceSpans) int {
		return cmp.Or(
			cmp.Compare(bytesOf(a.Resource, a.SchemaUrl), bytesOf(b.Resource, b.SchemaUrl)),
			cmp.Compare(bytesOf(a.ScopeSpans[0].Scope, a.ScopeSpans[0].SchemaUrl), bytesOf(b.ScopeSpans[0].Scope, b.ScopeSpans[0].SchemaUrl)))
	})
	return out
}

// diffSDK compares our request with what otlptracegrpc sends for the same spans.
// One difference is wanted: it leaves out the trace state of links, which the schema has.
func diffSDK(t testing.TB, spans []sdktrace.ReadOnlySpan, ours, theirs *coltracepb.ExportTraceServiceRequest) {
	t.Helper()
	states := make(map[string]bool)
	for _, s := range spans {
		for _, l := range s.Links() {
			states[l.SpanContext.TraceState().String()] = true
		}
	}
	for _, rs := range ours.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				for _, l := range s.Links {
					if !states[l.TraceState] {
						t.Errorf("link with trace state %q, which no link has", l.TraceState)
					}
					l.TraceState = ""
				}
			}
		}
	}
	ours, theirs = normalise(ours), normalise(theirs)
	if !proto.Equal(ours, theirs) {
		t.Errorf("encoding differs from otlptracegrpc (-otlptracegrpc +ours):\n%.4000s",
			gocmp.Diff(theirs, ours, protocmp.Transform()))
	}
}

func TestAppendSpanAgreesWithOTLPTraceGRPC(t *testing.T) {
	send := reference(t)
	for seed := range uint64(60) {
		g := newGen(seed)
		spans := g.stubs(1 + g.IntN(40)).Snapshots()
		request, repaired := encode(t, spans)
		if repaired != 0 {
			t.Errorf("seed %d: %d strings repaired, all are UTF-8", seed, repaired)
		}
		diffSDK(t, spans, unmarshal(t, request), send(spans))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestProviderSpans goes through a real provider with its limits, and compares what
// its processor is given.
func TestProviderSpans(t *testing.T) {
	send := reference(t)
	var ended recorder
	limits := sdktrace.NewSpanLimits()
	limits.AttributeCountLimit, limits.EventCountLimit, limits.LinkCountLimit = 4, 2, 1
	limits.AttributePerEventCountLimit, limits.AttributeValueLengthLimit = 1, 16
	tp := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // whatever the flag of a remote parent
		sdktrace.WithSpanProcessor(&ended),
		sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithResource(resource.NewSchemaless(newGen(1).attributes(5)...)))
	g := newGen(2)
	ctx := context.Background()
	for i := range 200 {
		if i%10 == 0 {
			ctx = trace.ContextWithRemoteSpanContext(context.Background(), g.spanContext())
		}
		want := g.stub()
		var links []trace.Link
		for _, l := range want.Links {
			links = append(links, trace.Link{SpanContext: l.SpanContext, Attributes: l.Attributes})
		}
		var s trace.Span
		ctx, s = tp.Tracer(fmt.Sprint("tracer ", i%3)).Start(ctx, want.Name,
			trace.WithSpanKind(want.SpanKind), trace.WithAttributes(want.Attributes...), trace.WithLinks(links...))
		for _, e := range want.Events {
			s.AddEvent(e.Name, trace.WithAttributes(e.Attributes...))
		}
		s.SetStatus(want.Status.Code, want.Status.Description)
		s.End()
	}
	if len(ended.spans) != 200 {
		t.Fatalf("%d spans ended, want 200", len(ended.spans))
	}
	request, _ := encode(t, ended.spans)
	diffSDK(t, ended.spans, unmarshal(t, request), send(ended.spans))
}

type recorder struct{ spans []sdktrace.ReadOnlySpan }

func (r *recorder) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (r *recorder) OnEnd(s sdktrace.ReadOnlySpan)                   { r.spans = append(r.spans, s) }
func (r *recorder) Shutdown(context.Context) error                  { return nil }
func (r *recorder) ForceFlush(context.Context) error                { return nil }

// TestMinimalEncoding compares lengths with protobuf-go's, which writes the shortest.
func TestMinimalEncoding(t *testing.T) {
	for seed := range uint64(40) {
		request, _ := encode(t, newGen(seed).stubs(20).Snapshots())
		if m := unmarshal(t, request); proto.Size(m) != len(request) {
			t.Errorf("seed %d: %d bytes, protobuf-go needs %d", seed, len(request), proto.Size(m))
		}
	}
}

func TestRepairedStrings(t *testing.T) {
	for seed := range uint64(40) {
		g := newGen(seed)
		g.anyBytes = true
		stubs := g.stubs(5)
		request, repaired := encode(t, stubs.Snapshots())
		unmarshal(t, request) // fails on a string that is not UTF-8
		want := 0
		count := func(ss ...string) {
			for _, s := range ss {
				if !utf8.ValidString(s) {
					want++
				}
			}
		}
		for _, s := range stubs {
			count(s.Name)
			if s.Status.Description != "" {
				count(s.Status.Description)
			}
			kvs := s.Attributes
			for _, e := range s.Events {
				count(e.Name)
				kvs = append(kvs, e.Attributes...)
			}
			for _, l := range s.Links {
				kvs = append(kvs, l.Attributes...)
			}
			for _, kv := range kvs {
				count(string(kv.Key))
				count(stringsOf(kv.Value)...)
			}
		}
		if repaired != want {
			t.Errorf("seed %d: repaired = %d, want %d", seed, repaired, want)
		}
	}
}

func stringsOf(v attribute.Value) (ss []string) {
	switch v.Type() {
	case attribute.STRING:
		return []string{v.AsString()}
	case attribute.STRINGSLICE:
		return v.AsStringSlice()
	case attribute.SLICE:
		for _, e := range v.AsSlice() {
			ss = append(ss, stringsOf(e)...)
		}
	}
	return ss
}

// FuzzAppendSpan builds a span from the input and compares with what the schema says
// of it, written down a second time here.
func FuzzAppendSpan(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		g := genOf(data)
		g.anyBytes = true
		stub := g.stub()
		request, _ := encode(t, tracetest.SpanStubs{stub}.Snapshots())
		m := unmarshal(t, request)
		if proto.Size(m) != len(request) {
			t.Errorf("%d bytes, protobuf-go needs %d", len(request), proto.Size(m))
		}
		if got, want := m.ResourceSpans[0].ScopeSpans[0].Spans[0], toProto(stub); !proto.Equal(got, want) {
			t.Errorf("AppendSpan (-want +got):\n%.4000s", gocmp.Diff(want, got, protocmp.Transform()))
		}
	})
}

func toProto(s tracetest.SpanStub) *tracepb.Span {
	id, span, parent := s.SpanContext.TraceID(), s.SpanContext.SpanID(), s.Parent.SpanID()
	out := &tracepb.Span{
		TraceId: id[:], SpanId: span[:], TraceState: s.SpanContext.TraceState().String(), Flags: protoFlags(s.SpanContext, s.Parent),
		Name: protoText(s.Name), Kind: tracepb.Span_SpanKind(s.SpanKind), // the numbers are the same
		StartTimeUnixNano: protoTime(s.StartTime), EndTimeUnixNano: protoTime(s.EndTime),
		Attributes: protoKVs(s.Attributes), DroppedAttributesCount: protoCount(s.DroppedAttributes),
		DroppedEventsCount: protoCount(s.DroppedEvents), DroppedLinksCount: protoCount(s.DroppedLinks),
	}
	if parent.IsValid() {
		out.ParentSpanId = parent[:]
	}
	if s.SpanKind < trace.SpanKindUnspecified || s.SpanKind > trace.SpanKindConsumer {
		out.Kind = tracepb.Span_SPAN_KIND_UNSPECIFIED
	}
	code := map[codes.Code]tracepb.Status_StatusCode{codes.Ok: tracepb.Status_STATUS_CODE_OK, codes.Error: tracepb.Status_STATUS_CODE_ERROR}[s.Status.Code]
	if s.Status.Description != "" || code != 0 {
		out.Status = &tracepb.Status{Code: code, Message: protoText(s.Status.Description)}
	}
	for _, e := range s.Events {
		out.Events = append(out.Events, &tracepb.Span_Event{
			Name: protoText(e.Name), TimeUnixNano: protoTime(e.Time), Attributes: protoKVs(e.Attributes), DroppedAttributesCount: protoCount(e.DroppedAttributeCount),
		})
	}
	for _, l := range s.Links {
		id, span := l.SpanContext.TraceID(), l.SpanContext.SpanID()
		out.Links = append(out.Links, &tracepb.Span_Link{
			TraceId: id[:], SpanId: span[:], TraceState: l.SpanContext.TraceState().String(), Flags: protoFlags(l.SpanContext, l.SpanContext),
			Attributes: protoKVs(l.Attributes), DroppedAttributesCount: protoCount(l.DroppedAttributeCount),
		})
	}
	return out
}

func protoText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func protoTime(t time.Time) uint64 { return uint64(max(0, t.UnixNano())) }

func protoCount(n int) uint32 { return uint32(max(0, min(int64(n), math.MaxUint32))) }

func protoFlags(sc, from trace.SpanContext) uint32 {
	f := tracepb.SpanFlags(sc.TraceFlags()) | tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
	if from.IsRemote() {
		f |= tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
	}
	return uint32(f)
}

func protoKVs(kvs []attribute.KeyValue) (out []*commonpb.KeyValue) {
	for _, kv := range kvs {
		out = append(out, &commonpb.KeyValue{Key: protoText(string(kv.Key)), Value: protoValue(kv.Value.AsInterface())})
	}
	return out
}

func protoValue(v any) *commonpb.AnyValue {
	switch v := v.(type) {
	case bool:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: v}}
	case int64:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: v}}
	case float64:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: v}}
	case string:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: protoText(v)}}
	case []byte:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BytesValue{BytesValue: v}}
	case []bool:
		return protoArray(v)
	case []int64:
		return protoArray(v)
	case []float64:
		return protoArray(v)
	case []string:
		return protoArray(v)
	case []attribute.Value:
		var elems []any
		for _, e := range v {
			elems = append(elems, e.AsInterface())
		}
		return protoArray(elems)
	}
	return &commonpb.AnyValue{}
}

func protoArray[T any](in []T) *commonpb.AnyValue {
	a := new(commonpb.ArrayValue)
	for _, e := range in {
		a.Values = append(a.Values, protoValue(any(e)))
	}
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: a}}
}
