package otlpwire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// msg is a bytes field: the number and its content, one after the other.
func msg(num byte, content ...[]byte) []byte {
	c := bytes.Join(content, nil)
	return append(binary.AppendUvarint([]byte{num<<3 | 2}, uint64(len(c))), c...)
}

func text(num byte, s string) []byte { return msg(num, []byte(s)) }

// spanOf is a request of one span with these fields, which begin at byte 6 while they
// are fewer than 122 bytes.
func spanOf(fields ...[]byte) []byte { return msg(1, msg(2, msg(2, fields...))) }

// attrOf is a request of one span whose one attribute has this AnyValue.
func attrOf(value ...[]byte) []byte { return spanOf(msg(9, text(1, "k"), msg(2, value...))) }

func TestDecodeErrors(t *testing.T) {
	many := func(n int, field []byte) []byte { return bytes.Repeat(field, n) }
	nested := func(n int) (v []byte) { // values in each other
		for range n {
			v = msg(5, msg(1, v))
		}
		return v
	}
	for _, c := range []struct {
		name    string
		request []byte
		offset  int
		field   string
		reason  string
	}{
		{"tag cut off", []byte{0x80}, 0, "", "varint is cut off"},
		{"field number 0", []byte{0x02, 0}, 0, "", "field number out of range"},
		{"field number above 2^29-1", []byte{0x82, 0x80, 0x80, 0x80, 0x10, 0}, 0, "", "field number out of range"},
		{"group", spanOf([]byte{0x33, 0x34}), 6, "", "wire type 3"},
		{"wire type 6", []byte{0x0e}, 0, "", "wire type 6"},
		{"length beyond the end", []byte{0x0a, 0x05, 0x0a}, 1, "", "length goes beyond the message"},
		{"length beyond the message around", spanOf([]byte{5<<3 | 2, 1}), 7, "", "length goes beyond the message"},
		{"length of 64 bits", append([]byte{0x0a}, bytes.Repeat([]byte{0xff}, 9)...), 1, "", "varint is cut off"},
		{"length near 2^64", append(append([]byte{0x0a}, bytes.Repeat([]byte{0xff}, 9)...), 1), 1, "", "length goes beyond the message"},
		{"varint of 65 bits", append(append([]byte{0x08}, bytes.Repeat([]byte{0xff}, 9)...), 2), 1, "", "varint of more than 64 bits"},
		{"varint of 11 bytes", append([]byte{0x08}, bytes.Repeat([]byte{0x80}, 11)...), 1, "", "varint of more than 64 bits"},
		{"fixed64 cut off", spanOf([]byte{7<<3 | 1, 1, 2, 3}), 7, "", "fixed number is cut off"},
		{"fixed32 cut off", spanOf([]byte{0x85, 0x01, 1, 2, 3}), 8, "", "fixed number is cut off"},
		{"kind as text", spanOf(text(6, "2")), 6, "Span.kind", "wire type 2 in place of 0"},
		{"name as number", spanOf([]byte{5 << 3, 1}), 6, "Span.name", "wire type 0 in place of 2"},
		{"trace id of 15 bytes", spanOf(msg(1, make([]byte, 15))), 6, "Span.traceId", "15 bytes in place of 16"},
		{"parent of 16 bytes", spanOf(msg(4, make([]byte, 16))), 6, "Span.parentSpanId", "16 bytes in place of 8"},
		{"link with a short span id", spanOf(msg(13, msg(2, make([]byte, 7)))), 8, "Span.Link.spanId", "7 bytes in place of 8"},
		{"name not UTF-8", spanOf(text(5, "\xff")), 6, "Span.name", "not UTF-8"},
		{"key not UTF-8", spanOf(msg(9, text(1, "\xff"))), 8, "KeyValue.key", "not UTF-8"},
		{"text in a list in a map not UTF-8", attrOf(msg(6, msg(1, msg(2, msg(5, msg(1, text(1, "\xc3"))))))), 23, "AnyValue.stringValue", "not UTF-8"},
		{"schema URL not UTF-8", msg(1, text(3, "\xff")), 2, "ResourceSpans.schemaUrl", "not UTF-8"},
		{"scope attribute cut off", msg(1, msg(2, msg(1, []byte{0x1a, 1}))), 7, "", "length goes beyond the message"},
		{"value 65 deep", attrOf(nested(64)), -1, "ArrayValue.values", "more than 64 values in each other"},
		{"too many spans", msg(1, msg(2, many(otlpwire.MaxSpans+1, []byte{0x12, 0}))), -1, "ScopeSpans.spans", "more than 131072 spans"},
		{"too many parts", spanOf(many(1<<20, []byte{9<<3 | 2, 0})), -1, "Span.attributes", "more than 1048576 parts"},
		{"too many bytes", make([]byte, otlpwire.MaxRequest+1), otlpwire.MaxRequest, "", "more than 16777216 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spans, err := otlpwire.Decode(c.request)
			var wire *otlpwire.WireError
			if !errors.As(err, &wire) || spans != nil {
				t.Fatalf("Decode = %d spans, %v; want a *WireError", len(spans), err)
			}
			if wire.Offset != c.offset && c.offset >= 0 || wire.Field != c.field || wire.Reason != c.reason {
				t.Errorf("Decode: %+v, want {Offset:%d Field:%s Reason:%s}", *wire, c.offset, c.field, c.reason)
			}
			for _, part := range []string{fmt.Sprint("byte ", wire.Offset), wire.Field, wire.Reason} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
			if err := otlpwire.Scan(c.request, nil); err == nil || err.Error() != wire.Error() {
				t.Errorf("Scan = %v, Decode %v", err, wire)
			}
			if out, err := otlpwire.AppendJSON([]byte("kept"), c.request); err == nil || string(out) != "kept" {
				t.Errorf("AppendJSON = %.40q, %v; want kept and an error", out, err)
			}
		})
	}
}

func TestDecodeTolerates(t *testing.T) {
	id := make([]byte, 16)
	id[0] = 7
	for _, c := range []struct {
		name    string
		request []byte
		want    func(otlpwire.Span) bool
	}{
		{"unknown fields of every wire type", spanOf([]byte{100<<3&0x7f | 0x80, 6, 1}, []byte{0xa1, 6, 1, 2, 3, 4, 5, 6, 7, 8}, []byte{0xa2, 6, 1, 0xff}, []byte{0xa5, 6, 1, 2, 3, 4}, text(5, "n")),
			func(s otlpwire.Span) bool { return s.Name == "n" }},
		{"lengths longer than need be", []byte{0x0a, 0x89, 0x00, 0x12, 0x85, 0x80, 0x00, 0x12, 0x82, 0x00, 0x2a, 0x00},
			func(s otlpwire.Span) bool { return s.Name == "" }},
		{"empty ids", spanOf(msg(1), msg(2), msg(4)), func(s otlpwire.Span) bool { return !s.TraceID.IsValid() && !s.Parent.IsValid() }},
		{"an id, then an empty one", spanOf(msg(1, id), msg(1)), func(s otlpwire.Span) bool { return !s.TraceID.IsValid() }},
		{"the last name counts", spanOf(text(5, "a"), text(5, "b")), func(s otlpwire.Span) bool { return s.Name == "b" }},
		{"the last member of a value counts", attrOf(text(1, "a"), []byte{2 << 3, 1}), func(s otlpwire.Span) bool { return s.Attributes[0].Value == attribute.BoolValue(true) }},
		{"resource and scope behind the spans", msg(1, msg(2, msg(2, text(5, "n")), msg(1, text(1, "lib"))), msg(1, msg(1, text(1, "k"))), text(3, "url")),
			func(s otlpwire.Span) bool {
				return s.ScopeName == "lib" && s.Resource.SchemaURL == "url" && len(s.Resource.Attributes) == 1
			}},
		{"an attribute without a value", spanOf(msg(9, text(1, "k"))), func(s otlpwire.Span) bool { return s.Attributes[0].Value.Type() == attribute.EMPTY }},
		{"64 values in each other", attrOf(func() (v []byte) {
			for range 63 {
				v = msg(5, msg(1, v))
			}
			return v
		}()), func(s otlpwire.Span) bool { return s.Attributes[0].Value.Type() == attribute.SLICE }},
	} {
		t.Run(c.name, func(t *testing.T) {
			spans, err := otlpwire.Decode(c.request)
			if err != nil || len(spans) != 1 || !c.want(spans[0]) {
				t.Errorf("Decode = %+v, %v", spans, err)
			}
			if _, err := otlpwire.AppendJSON(nil, c.request); err != nil {
				t.Errorf("AppendJSON: %v", err)
			}
		})
	}
}

// TestDecodeAsText: what the attribute package cannot hold is JSON.
func TestDecodeAsText(t *testing.T) {
	pair := func(key string, value ...[]byte) []byte { return msg(1, text(1, key), msg(2, value...)) }
	list := msg(6,
		pair("s", text(1, "a\"\\\n\x01\u2028<é")), pair("b", []byte{2 << 3, 1}), pair("i", append([]byte{3 << 3}, binary.AppendUvarint(nil, 1<<62)...)),
		pair("d", []byte{0x21, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f}), pair("n", []byte{0x21, 1, 0, 0, 0, 0, 0, 0xf8, 0x7f}),
		pair("y", msg(7, []byte{0xff})), pair("a", msg(5, msg(1, []byte{2 << 3, 0}), msg(1))), pair("m", msg(6)), pair("z"), msg(1))
	const want = `{"s":"a\"\\\n\u0001\u2028<é","b":true,"i":4611686018427387904,"d":1.5,"n":"NaN","y":"/w==","a":[false,null],"m":{},"z":null,"":null}`
	spans, err := otlpwire.Decode(attrOf(list))
	if err != nil || spans[0].Attributes[0].Value != attribute.StringValue(want) {
		t.Errorf("a list of pairs becomes %v (%v), want %s", spans, err, want)
	}

	one := msg(1, []byte{2 << 3, 1})
	spans, err = otlpwire.Decode(attrOf(msg(5, bytes.Repeat(one, 1024))))
	if err != nil || len(spans[0].Attributes[0].Value.AsBoolSlice()) != 1024 {
		t.Errorf("1,024 booleans become %v, %v", spans, err)
	}
	spans, err = otlpwire.Decode(attrOf(msg(5, bytes.Repeat(one, 1025))))
	if got, want := spans[0].Attributes[0].Value.AsString(), "["+strings.Repeat("true,", 1024)+"true]"; err != nil || got != want {
		t.Errorf("1,025 booleans become %.60s…, %v; want JSON text", got, err)
	}
}

func TestScan(t *testing.T) {
	var b otlpwire.Batch
	g := group("r", "s")
	var want []trace.SpanID
	for i := range byte(5) {
		id := trace.SpanID{i + 1}
		want = append(want, id)
		b.Add(g, slices.Concat(msg(1, traceID[:]), msg(2, id[:])), 1<<20)
	}
	request := b.AppendTo(nil)
	var got []trace.SpanID
	visit := func(tr trace.TraceID, s trace.SpanID) {
		if tr != traceID {
			t.Errorf("trace id %v, want %v", tr, traceID)
		}
		got = append(got, s)
	}
	if err := otlpwire.Scan(request, visit); err != nil || !slices.Equal(got, want) {
		t.Errorf("Scan saw %v, %v; want %v", got, err, want)
	}
	if n := testing.AllocsPerRun(20, func() { _ = otlpwire.Scan(request, nil) }); n > 1 {
		t.Errorf("Scan allocates %v times, want at most once", n)
	}
}

// TestHostileCost: whatever is in a request, memory is a bounded multiple of it, and
// maxParts bounds the multiple of small parts to some 300 MiB.
func TestHostileCost(t *testing.T) {
	fill := func(wrap func(...[]byte) []byte, part []byte, n int) []byte {
		return wrap(bytes.Repeat(part, min(n, (2<<20)/len(part))))
	}
	scope := func(b ...[]byte) []byte { return msg(1, msg(2, b...)) }
	wide := msg(9, text(1, "k"), msg(2, msg(5, bytes.Repeat([]byte{0x0a, 0}, 1000))))
	for _, c := range []struct {
		name    string
		request []byte
	}{
		{"spans", fill(scope, []byte{2<<3 | 2, 0}, otlpwire.MaxSpans/2)},
		{"attributes", fill(spanOf, []byte{9<<3 | 2, 0}, 1<<17)},
		{"events", fill(spanOf, []byte{11<<3 | 2, 0}, 1<<17)},
		{"arrays", fill(spanOf, wide, 100)},
		{"unknown fields", fill(spanOf, []byte{0xa0, 1, 0}, 1<<20)},
		{"repeated names", fill(spanOf, []byte{5<<3 | 2, 0}, 1<<30)},
		{"one text of control characters", attrOf(text(1, strings.Repeat("\x01", 1<<20)))},
		{"a list as text", attrOf(msg(6, bytes.Repeat([]byte{0x0a, 0}, 1<<17)))},
	} {
		for name, use := range map[string]func() error{
			"Decode":     func() error { _, err := otlpwire.Decode(c.request); return err },
			"AppendJSON": func() error { _, err := otlpwire.AppendJSON(nil, c.request); return err },
		} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			if err := use(); err != nil {
				t.Errorf("%s of %s: %v", name, c.name, err)
			}
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			times := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(c.request))
			t.Logf("%s of %s, %d KiB: %v, %.0f times that in memory", name, c.name, len(c.request)>>10, took, times)
			if times > 300 {
				t.Errorf("%s of %s allocates %.0f times its size", name, c.name, times)
			}
		}
	}
}

// TestDecodeKeepsNothing: the caller may use the bytes again.
func TestDecodeKeepsNothing(t *testing.T) {
	request := attrOf(text(1, "value"))
	spans, err := otlpwire.Decode(request)
	if err != nil {
		t.Fatal(err)
	}
	for i := range request {
		request[i] = 'X'
	}
	if got := spans[0].Attributes[0]; got != attribute.String("k", "value") {
		t.Errorf("attribute changed to %v with the request", got)
	}
}

func BenchmarkDecode(b *testing.B) {
	var batch otlpwire.Batch
	g := group("r", "s")
	span, _ := otlpwire.AppendSpan(nil, serverSpan().Snapshot())
	for range 512 {
		batch.Add(g, span, 1<<30)
	}
	request := batch.AppendTo(nil)
	perSpan := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/512, "ns/span")
	}
	b.Run("Scan", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = otlpwire.Scan(request, nil)
		}
		perSpan(b)
	})
	b.Run("Decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = otlpwire.Decode(request)
		}
		perSpan(b)
	})
	b.Run("AppendJSON", func(b *testing.B) {
		b.ReportAllocs()
		var out []byte
		for b.Loop() {
			out, _ = otlpwire.AppendJSON(out[:0], request)
		}
		perSpan(b)
	})
}
