package otlpwire_test

import (
	"encoding/json"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

func spanWith(kvs ...attribute.KeyValue) sdktrace.ReadOnlySpan {
	return tracetest.SpanStub{Attributes: kvs}.Snapshot()
}

func seeds(f *testing.F) {
	f.Helper()
	full := serverSpan()
	full.Events = []sdktrace.Event{{Name: "e", Time: full.EndTime}}
	full.Links = []sdktrace.Link{{SpanContext: full.Parent}}
	full.Attributes = append(full.Attributes[:2], attribute.StringSlice("a", []string{"x"}), attribute.ByteSlice("y", []byte{1}))
	body, _ := otlpwire.AppendSpan(nil, full.Snapshot())
	var b otlpwire.Batch
	b.Add(group("https://r", "lib"), body, 1<<20)
	f.Add(b.AppendTo(nil))
	f.Add([]byte{})
	f.Add(attrOf(msg(6, msg(1, text(1, "k"), msg(2, msg(5, msg(1, []byte{2 << 3, 0})))))))
	f.Add(spanOf(msg(1, make([]byte, 15))))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
}

// FuzzDecode: what Scan takes Decode takes, and no more, with a span for each id.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, request []byte) {
		var ids []trace.SpanID
		scanErr := otlpwire.Scan(request, func(_ trace.TraceID, id trace.SpanID) { ids = append(ids, id) })
		spans, err := otlpwire.Decode(request)
		if (err == nil) != (scanErr == nil) {
			t.Fatalf("Decode: %v; Scan: %v", err, scanErr)
		}
		if err != nil {
			return
		}
		if len(spans) != len(ids) {
			t.Fatalf("Decode has %d spans, Scan %d", len(spans), len(ids))
		}
		for i, s := range spans {
			if s.SpanID != ids[i] || s.Resource == nil {
				t.Errorf("span %d: id %v, of Scan %v, resource %p", i, s.SpanID, ids[i], s.Resource)
			}
		}
	})
}

// FuzzAppendJSON: one line of JSON, or an error.
func FuzzAppendJSON(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, request []byte) {
		b, err := otlpwire.AppendJSON(nil, request)
		if err != nil {
			if b != nil {
				t.Errorf("AppendJSON = %q with %v", b, err)
			}
			return
		}
		if !json.Valid(b) {
			t.Errorf("AppendJSON wrote no JSON: %q", b)
		}
		for _, c := range b {
			if c < ' ' {
				t.Errorf("AppendJSON wrote a control character: %q", b)
				break
			}
		}
	})
}
