package otlpwire_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// group is of a resource and a scope with these schema URLs, which stand for them.
func group(resource, scope string) *otlpwire.Group {
	return otlpwire.NewGroup(nil, resource, otlpwire.AppendScope(nil, instrumentation.Scope{Name: scope}), "")
}

func body(name string) []byte {
	b, _ := otlpwire.AppendSpan(nil, tracetest.SpanStub{Name: name}.Snapshot())
	return b
}

// outline is "resource/scope/span …" of a request.
func outline(t testing.TB, request []byte) string {
	t.Helper()
	spans, err := otlpwire.Decode(request)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, sp := range spans {
		s = append(s, sp.Resource.SchemaURL+"/"+sp.ScopeName+"/"+sp.Name)
	}
	return strings.Join(s, " ")
}

// TestBatchGroups: resources and scopes stand in the order they came first, the spans
// of each together, whatever the order they were added in.
func TestBatchGroups(t *testing.T) {
	ra, rb, qa := group("r", "a"), group("r", "b"), group("q", "a")
	ra2 := group("r", "a") // equal to ra, made on its own
	var b otlpwire.Batch
	for _, x := range []struct {
		g    *otlpwire.Group
		name string
	}{{ra, "1"}, {rb, "2"}, {qa, "3"}, {ra, "4"}, {ra2, "5"}, {qa, "6"}, {rb, "7"}} {
		if !b.Add(x.g, body(x.name), math.MaxInt) {
			t.Fatalf("Add(%s) = false without a limit", x.name)
		}
	}
	request := b.AppendTo(nil)
	if got, want := outline(t, request), "r/a/1 r/a/4 r/b/2 r/b/7 r/a/5 q/a/3 q/a/6"; got != want {
		t.Errorf("request has %s, want %s", got, want)
	}
	if n := bytes.Count(request, []byte("\x1a\x01r")); n != 1 {
		t.Errorf("resource r stands %d times in the request, want once", n)
	}
	if b.Len() != 7 || b.Size() != len(request) {
		t.Errorf("Len() = %d, Size() = %d; want 7, %d", b.Len(), b.Size(), len(request))
	}
}

func TestEmptyBatch(t *testing.T) {
	var b otlpwire.Batch
	if got := b.AppendTo([]byte("kept")); string(got) != "kept" || b.Size() != 0 || b.Len() != 0 {
		t.Errorf("AppendTo = %q, Size() = %d, Len() = %d; want kept, 0, 0", got, b.Size(), b.Len())
	}
	b.Reset()
	// A span without a single byte is a span.
	if !b.Add(otlpwire.NewGroup(nil, "", nil, ""), nil, 6) || b.Size() != 6 {
		t.Errorf("Size() = %d of an empty span in an empty group, want 6", b.Size())
	}
	if got := outline(t, b.AppendTo(nil)); got != "//" {
		t.Errorf("request has %q, want one empty span", got)
	}
}

// TestBatchLimit: a request may be exactly as long as the limit, and what does not fit
// changes nothing. Lengths around 128 and 16,384 take a byte more at several levels.
func TestBatchLimit(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	groups := []*otlpwire.Group{group("r", "a"), group("r", "b"), group("q", strings.Repeat("s", 120))}
	for range 300 {
		var all, cut otlpwire.Batch
		for range 1 + r.IntN(12) {
			g, span := groups[r.IntN(len(groups))], make([]byte, r.IntN([]int{4, 130, 17000}[r.IntN(3)]))
			if !all.Add(g, span, math.MaxInt) {
				t.Fatal("Add = false without a limit")
			}
			want := len(all.AppendTo(nil))
			if all.Size() != want {
				t.Fatalf("Size() = %d, the request has %d bytes", all.Size(), want)
			}
			before := cut.AppendTo(nil)
			if cut.Add(g, span, want-1) {
				t.Fatalf("Add = true for a request of %d bytes, limit %d", want, want-1)
			}
			if after := cut.AppendTo(nil); !bytes.Equal(before, after) || cut.Size() != len(before) {
				t.Fatalf("a span that was refused changed the request")
			}
			if !cut.Add(g, span, want) {
				t.Fatalf("Add = false for a request of %d bytes, limit %d", want, want)
			}
		}
	}
}

// TestBatchReuse: a batch that is used again allocates nothing and remembers nothing.
func TestBatchReuse(t *testing.T) {
	var groups []*otlpwire.Group
	for i := range 8 {
		groups = append(groups, group(fmt.Sprint("r", i%2), fmt.Sprint("s", i)))
	}
	span := body("x")
	var b otlpwire.Batch
	var request, first []byte
	use := func() {
		b.Reset()
		for i := range 512 {
			b.Add(groups[i%8], span, math.MaxInt)
		}
		request = b.AppendTo(request[:0])
	}
	use()
	first = bytes.Clone(request)
	if n := testing.AllocsPerRun(20, use); n != 0 {
		t.Errorf("a batch used again allocates %v times", n)
	}
	if !bytes.Equal(first, request) {
		t.Error("a batch used again makes another request")
	}
}

// BenchmarkBatch assembles a request of 8192 spans of 400 bytes.
func BenchmarkBatch(b *testing.B) {
	groups := []*otlpwire.Group{group("r", "a"), group("r", "b")}
	span, _ := otlpwire.AppendSpan(nil, serverSpan().Snapshot())
	var batch otlpwire.Batch
	var request []byte
	b.ReportAllocs()
	for b.Loop() {
		batch.Reset()
		for i := range 8192 {
			batch.Add(groups[i/16%2], span, math.MaxInt)
		}
		request = batch.AppendTo(request[:0])
	}
	b.SetBytes(int64(len(request)))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/8192, "ns/span")
}
