package exporter

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// poisoned puts a text into every field of OTLP that holds one; the ids are those of span n.
func poisoned(n int, text string, number float64) sdktrace.ReadOnlySpan {
	sc := makeSpan(n).SpanContext()
	kvs := []attribute.KeyValue{
		attribute.String(text, text),
		attribute.StringSlice("list", []string{text, "", text}),
		attribute.Float64("number", number),
		attribute.Float64Slice("numbers", []float64{number, 0}),
		attribute.ByteSlice("bytes", []byte(text)),
		attribute.Slice("values", attribute.StringValue(text), attribute.SliceValue(attribute.StringValue(text))),
		{},
	}
	at := time.Unix(1_700_000_000, 0)
	return tracetest.SpanStub{
		Name: text, SpanContext: sc, StartTime: at, EndTime: at, Attributes: kvs,
		Status:               sdktrace.Status{Code: codes.Error, Description: text},
		Events:               []sdktrace.Event{{Name: text, Time: at, Attributes: kvs}},
		Links:                []sdktrace.Link{{SpanContext: sc, Attributes: kvs}},
		Resource:             resource.NewWithAttributes(text, attribute.String(text, text)),
		InstrumentationScope: instrumentation.Scope{Name: text, Version: text, SchemaURL: text, Attributes: attribute.NewSet(kvs...)},
	}.Snapshot()
}

// F9: whatever stands in any text of a span, the request is one that a strict receiver
// takes whole (the fake decodes it, UTF-8 checked), and its neighbours arrive.
func FuzzPoison(f *testing.F) {
	for _, s := range []string{
		"", "plain", "\xff", "\xed\xa0\x80", "\xed\xa0\x80\xed\xb0\x80", "a\x00b", "\x00", "\uFEFF", "\U0010FFFF", "\xf4\x90\x80\x80", "\xc0\x80",
		"line\nbreak\r", "\x1b[31m", "\u2028", "\xf0\x9f", strings.Repeat("é", 100),
	} {
		f.Add(s, math.NaN(), uint32(0))
	}
	f.Add("x\xff", math.Inf(-1), uint32(100<<10))
	f.Add("\xff", 5e-324, uint32(400<<10))
	f.Fuzz(func(t *testing.T, text string, number float64, size uint32) {
		if n := int(size % (512 << 10)); n > len(text) && text != "" {
			text = strings.Repeat(text, n/len(text))
		}
		for _, p := range []Protocol{HTTPProtobuf, HTTPJSON} {
			fake := newFake(nil)
			var to Sender = fake
			var out strings.Builder
			if p == HTTPJSON {
				to = JSONLines(&out)
			}
			e, err := New(Config{Sender: to, Getenv: noEnv, Logger: discardLog, RequestBytes: 256 << 10})
			if err != nil {
				t.Fatal(err)
			}
			e.OnEnd(makeSpan(0))
			e.OnEnd(poisoned(1, text, number))
			e.OnEnd(makeSpan(2))
			_ = e.Shutdown(context.Background())
			st := e.Stats()
			arrived := map[trace.SpanID]int{}
			if p == HTTPJSON {
				spans, torn := readLines(t, []byte(out.String()))
				if torn > 0 {
					t.Fatalf("%d lines cannot be read", torn)
				}
				for _, s := range spans {
					arrived[s.SpanID]++
				}
			} else {
				arrived = fake.seen
			}
			if !st.Balanced() || st.Panics != 0 || arrived[makeSpan(0).SpanContext().SpanID()] != 1 || arrived[makeSpan(2).SpanContext().SpanID()] != 1 {
				t.Fatalf("neighbours of %.40q: %v, %+v", text, arrived, st)
			}
			if n := arrived[makeSpan(1).SpanContext().SpanID()]; n != 1 && st.Dropped[DropTooLarge] != 1 {
				t.Fatalf("the span of %.40q arrived %d times: %+v", text, n, st)
			}
			if valid := strings.ToValidUTF8(text, "") == text; valid != (st.Repaired == 0) && st.Dropped[DropTooLarge] == 0 {
				t.Fatalf("repaired %d strings of %.40q", st.Repaired, text)
			}
		}
	})
}
