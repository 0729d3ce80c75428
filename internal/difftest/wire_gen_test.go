package difftest

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// spanGen makes spans of every shape the SDK can hold out of a stream of numbers,
// which is random in the tests and the input of the fuzzer in the fuzz targets.
type spanGen struct {
	*rand.Rand
	// anyBytes allows strings that are not UTF-8, which protobuf-go cannot send.
	anyBytes bool
	short    bool // texts of a few bytes
}

func newGen(seed uint64) *spanGen { return &spanGen{Rand: rand.New(rand.NewPCG(seed, 1))} }

// fuzzSource deals out the bytes of a fuzz input, then a fixed sequence.
type fuzzSource struct {
	data []byte
	rest *rand.PCG
}

func (s *fuzzSource) Uint64() uint64 {
	if len(s.data) == 0 {
		return s.rest.Uint64()
	}
	var b [8]byte
	s.data = s.data[copy(b[:], s.data):]
	return binary.BigEndian.Uint64(b[:])
}

func genOf(data []byte) *spanGen {
	return &spanGen{Rand: rand.New(&fuzzSource{data, rand.NewPCG(1, 1)})}
}

func (g *spanGen) one(in int) bool { return g.IntN(in) == 0 }

func (g *spanGen) stubs(n int) tracetest.SpanStubs {
	resources := []*resource.Resource{nil, resource.Empty()}
	for i := range 3 { // the SDK takes resources for the same that differ in the schema URL alone
		kvs := append(g.attributes(6), attribute.Int("resource", i))
		resources = append(resources, resource.NewWithAttributes(g.text(), kvs...))
	}
	scopes := []instrumentation.Scope{{}}
	for range 4 {
		scopes = append(scopes, instrumentation.Scope{
			Name: g.text(), Version: g.text(), SchemaURL: g.text(),
			Attributes: attribute.NewSet(g.attributes(3)...),
		})
	}
	stubs := make(tracetest.SpanStubs, n)
	for i := range stubs {
		stubs[i] = g.stub()
		stubs[i].Resource = resources[g.IntN(len(resources))]
		stubs[i].InstrumentationScope = scopes[g.IntN(len(scopes))]
	}
	return stubs
}

func (g *spanGen) stub() tracetest.SpanStub {
	s := tracetest.SpanStub{
		Name:              g.text(),
		SpanContext:       g.spanContext(),
		SpanKind:          trace.SpanKind(g.IntN(8) - 1),
		StartTime:         g.time(),
		EndTime:           g.time(),
		Attributes:        g.attributes(12),
		Status:            sdktrace.Status{Code: codes.Code(g.IntN(4))},
		DroppedAttributes: g.dropped(),
		DroppedEvents:     g.dropped(),
		DroppedLinks:      g.dropped(),
	}
	if g.one(3) {
		s.Status.Description = g.text()
	}
	if !g.one(3) {
		s.Parent = g.spanContext()
	}
	for range g.IntN(4) {
		s.Events = append(s.Events, sdktrace.Event{
			Name: g.text(), Time: g.time(), Attributes: g.attributes(4), DroppedAttributeCount: g.dropped(),
		})
	}
	for range g.IntN(3) {
		s.Links = append(s.Links, sdktrace.Link{
			SpanContext: g.spanContext(), Attributes: g.attributes(4), DroppedAttributeCount: g.dropped(),
		})
	}
	return s
}

func (g *spanGen) spanContext() trace.SpanContext {
	var cfg trace.SpanContextConfig
	if !g.one(10) {
		binary.BigEndian.PutUint64(cfg.TraceID[:8], g.Uint64())
		binary.BigEndian.PutUint64(cfg.TraceID[8:], g.Uint64())
		binary.BigEndian.PutUint64(cfg.SpanID[:], g.Uint64())
	}
	cfg.TraceFlags = trace.TraceFlags(g.Uint64())
	cfg.Remote = g.one(2)
	if g.one(3) {
		var members []string
		for i := range 1 + g.IntN(32) {
			members = append(members, "k"+string(rune('a'+i%26))+string(rune('a'+i/26))+"="+strings.Repeat("v", 1+g.IntN(60)))
		}
		cfg.TraceState, _ = trace.ParseTraceState(strings.Join(members, ","))
	}
	return trace.NewSpanContext(cfg)
}

func (g *spanGen) time() time.Time {
	switch g.IntN(8) {
	case 0:
		return time.Time{}
	case 1:
		return time.Unix(-g.Int64N(1<<30), 0) // before 1970
	case 2:
		return time.Unix(0, math.MaxInt64)
	default:
		return time.Unix(1_700_000_000+g.Int64N(1<<28), g.Int64N(1e9))
	}
}

func (g *spanGen) dropped() int {
	switch g.IntN(8) {
	case 0:
		return g.IntN(1000)
	case 1:
		return -1
	case 2:
		return math.MaxInt
	default:
		return 0
	}
}

func (g *spanGen) attributes(most int) []attribute.KeyValue {
	var kvs []attribute.KeyValue
	for range g.IntN(most + 1) {
		kvs = append(kvs, attribute.KeyValue{Key: attribute.Key(g.text()), Value: g.value(3)})
	}
	return kvs
}

// value makes a value of each type of the attribute package; nesting bounds slices of values.
func (g *spanGen) value(nesting int) attribute.Value {
	switch g.IntN(16) {
	case 0:
		return attribute.Value{}
	case 1:
		return attribute.BoolValue(g.one(2))
	case 2:
		return attribute.Float64Value(g.float())
	case 3:
		return attribute.Int64Value(g.integer())
	case 4:
		return attribute.ByteSliceValue([]byte(g.rawText()))
	case 5:
		return attribute.BoolSliceValue(list(g, func() bool { return g.one(2) }))
	case 6:
		return attribute.Int64SliceValue(list(g, g.integer))
	case 7:
		return attribute.Float64SliceValue(list(g, g.float))
	case 8:
		return attribute.StringSliceValue(list(g, g.text))
	case 9:
		if nesting > 0 {
			return attribute.SliceValue(list(g, func() attribute.Value { return g.value(nesting - 1) })...)
		}
	}
	return attribute.StringValue(g.text())
}

func list[T any](g *spanGen, elem func() T) []T {
	out := make([]T, g.IntN(8))
	for i := range out {
		out[i] = elem()
	}
	return out
}

func (g *spanGen) integer() int64 { return int64(g.Uint64()) >> g.IntN(64) }

func (g *spanGen) float() float64 {
	switch g.IntN(6) {
	case 0:
		return math.NaN()
	case 1:
		return math.Inf(1 - 2*g.IntN(2))
	case 2:
		return math.Copysign(0, -1)
	default:
		return math.Float64frombits(g.Uint64())
	}
}

// text is around the lengths where a length takes one more byte.
func (g *spanGen) text() string {
	s := g.rawText()
	if !g.anyBytes {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}

func (g *spanGen) rawText() string {
	var n int
	switch g.IntN(12) {
	case 0:
		n = 110 + g.IntN(40)
	case 1:
		n = 16350 + g.IntN(50)
	case 2:
		n = 0
	default:
		n = g.IntN(30)
	}
	if g.short {
		n = min(n, 6)
	}
	b := make([]byte, 0, n+4)
	for len(b) < n {
		switch g.IntN(40) {
		case 0:
			b = append(b, byte(g.Uint64()))
		case 1:
			b = append(b, string(rune(g.IntN(0x110000)))...)
		case 2:
			b = append(b, "\x00\"\\\n\u2028<"[g.IntN(8)])
		default:
			b = append(b, "abcdefgh.ijk_lmnopqrstuvwxyz-0123456789/{}"[g.IntN(42)])
		}
	}
	return string(b)
}
