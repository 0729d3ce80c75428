package otlpwire_test

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

func appendJSON(t testing.TB, request []byte) string {
	t.Helper()
	b, err := otlpwire.AppendJSON(nil, request)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b) {
		t.Fatalf("AppendJSON wrote no JSON: %s", b)
	}
	return string(b)
}

// TestJSON is the mapping of OTLP on one span: what differs from protobuf's own are
// ids in hex and enums as numbers.
func TestJSON(t *testing.T) {
	s := serverSpan()
	s.Attributes = []attribute.KeyValue{
		attribute.String("s", "a\"b<é"), attribute.Bool("f", false), attribute.Int64("i", math.MinInt64), attribute.Float64("d", 1e21),
		attribute.Float64("n", math.NaN()), attribute.Float64("p", math.Inf(1)), attribute.Float64("m", math.Inf(-1)), attribute.Float64("z", math.Copysign(0, -1)),
		attribute.ByteSlice("y", []byte{0xfb, 0xff}), attribute.StringSlice("a", []string{"x", ""}), attribute.IntSlice("l", nil), {Key: "e"},
	}
	s.DroppedAttributes = 2
	s.Events = []sdktrace.Event{{Name: "ev", Time: s.StartTime}}
	s.Links = []sdktrace.Link{{SpanContext: spanContext(otherID, true, "c=3")}}
	body, _ := otlpwire.AppendSpan(nil, s.Snapshot())
	var b otlpwire.Batch
	b.Add(group("https://r", "lib"), body, 1<<20)

	const want = `{"resourceSpans":[{"scopeSpans":[{"scope":{"name":"lib"},"spans":[{` +
		`"traceId":"a0a1a2a3a4a5a6a7a8a9aaabacadaeaf","spanId":"b0b1b2b3b4b5b6b7","parentSpanId":"c0c1c2c3c4c5c6c7","flags":771,` +
		`"name":"GET /carts/{id}","kind":2,"startTimeUnixNano":"1790000000123456789","endTimeUnixNano":"1790000000223456789","attributes":[` +
		`{"key":"s","value":{"stringValue":"a\"b<é"}},{"key":"f","value":{"boolValue":false}},` +
		`{"key":"i","value":{"intValue":"-9223372036854775808"}},{"key":"d","value":{"doubleValue":1e+21}},` +
		`{"key":"n","value":{"doubleValue":"NaN"}},{"key":"p","value":{"doubleValue":"Infinity"}},` +
		`{"key":"m","value":{"doubleValue":"-Infinity"}},{"key":"z","value":{"doubleValue":-0}},` +
		`{"key":"y","value":{"bytesValue":"+/8="}},` +
		`{"key":"a","value":{"arrayValue":{"values":[{"stringValue":"x"},{"stringValue":""}]}}},` +
		`{"key":"l","value":{"arrayValue":{}}},{"key":"e","value":{}}],"droppedAttributesCount":2,` +
		`"events":[{"timeUnixNano":"1790000000123456789","name":"ev"}],` +
		`"links":[{"traceId":"a0a1a2a3a4a5a6a7a8a9aaabacadaeaf","spanId":"c0c1c2c3c4c5c6c7","traceState":"c=3","flags":771}],` +
		`"status":{"code":2}}]}],"schemaUrl":"https://r"}]}`
	if got := appendJSON(t, b.AppendTo(nil)); got != want {
		t.Errorf("AppendJSON =\n%s\nwant\n%s", got, want)
	}
}

func TestJSONOfParts(t *testing.T) {
	for _, c := range []struct {
		name    string
		request []byte
		want    string
	}{
		{"nothing", nil, `{}`},
		{"empty messages", slices.Concat(msg(1), msg(1, msg(1), msg(2, msg(2)))), `{"resourceSpans":[{},{"resource":{},"scopeSpans":[{"spans":[{}]}]}]}`},
		{"a list that does not stand together", spanOf(msg(11, text(2, "a")), text(5, "n"), msg(11, text(2, "b"))),
			`{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"n","events":[{"name":"a"},{"name":"b"}]}]}]}]}`},
		{"an enum out of range", spanOf([]byte{6 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}),
			`{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":-1}]}]}]}`},
		{"the last of two", spanOf(text(5, "a"), text(5, "b")), `{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"b"}]}]}]}`},
		{"a list of pairs", attrOf(msg(6, msg(1, text(1, "x"), msg(2, []byte{3 << 3, 5})))),
			`{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"k","value":{"kvlistValue":{"values":[{"key":"x","value":{"intValue":"5"}}]}}}]}]}]}]}`},
		{"an entity", msg(1, msg(1, msg(3, text(2, "service"), text(3, "service.name"), text(3, "service.version")))),
			`{"resourceSpans":[{"resource":{"entityRefs":[{"type":"service","idKeys":["service.name","service.version"]}]}}]}`},
		{"control characters", spanOf(text(5, "\x00\b\f\n\r\t\x1f\x7f\u2028\u2029\u202a\\")),
			`{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"\u0000\b\f\n\r\t\u001f` + "\x7f" + `\u2028\u2029` + "\u202a" + `\\"}]}]}]}`},
	} {
		if got := appendJSON(t, c.request); got != c.want {
			t.Errorf("%s: AppendJSON = %s, want %s", c.name, got, c.want)
		}
	}
}

// TestJSONNumbers: as encoding/json writes them.
func TestJSONNumbers(t *testing.T) {
	for _, v := range []float64{0, 1, -1.5, 1e-6, 9.99e-7, 1e20, 999999999999999868928, 1e21, 123456789.125, math.MaxFloat64, math.SmallestNonzeroFloat64} {
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := otlpwire.AppendSpan(nil, spanWith(attribute.Float64("k", v)))
		var b otlpwire.Batch
		b.Add(group("", ""), body, 1<<20)
		_, got, _ := strings.Cut(appendJSON(t, b.AppendTo(nil)), `"doubleValue":`)
		got, _, _ = strings.Cut(got, "}")
		var back float64
		if err := json.Unmarshal([]byte(got), &back); err != nil || back != v || len(got) > len(want)+1 { // e-07 for e-7
			t.Errorf("AppendJSON of %v = %s, want about %s", v, got, want)
		}
	}
}
