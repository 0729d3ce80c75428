package tracetree

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
	"github.com/meshtrace/meshtrace/internal/semconv"
)

const (
	server   = 2
	client   = 3
	consumer = 5
	remote   = 0x301
	local    = 0x101
)

// sp is a span of trace 1; start and id are the same number unless changed.
func sp(id, parent uint64, flags uint32) otlpwire.Span {
	return otlpwire.Span{
		TraceID: trace.TraceID{15: 1}, SpanID: spanID(id), Parent: spanID(parent), Flags: flags,
		Name: "span", Kind: server, Start: 1000 + id, End: 2000 + id, Resource: res("a"),
	}
}

func spanID(n uint64) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

func res(service string) *otlpwire.Resource {
	return &otlpwire.Resource{Attributes: []attribute.KeyValue{semconv.ServiceName.String(service)}}
}

// shape is a tree as text: id, "!" for an orphan, children in brackets.
func shape(nodes []*Node) string {
	var b bytes.Buffer
	for i, n := range nodes {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteByte("0123456789abcdef"[n.SpanID[7]&15])
		if n.Orphan {
			b.WriteByte('!')
		}
		if len(n.Children) > 0 {
			b.WriteString("(" + shape(n.Children) + ")")
		}
	}
	return b.String()
}

func TestBuild(t *testing.T) {
	at := func(s otlpwire.Span, start uint64) otlpwire.Span { s.Start = start; return s }
	for _, tt := range []struct {
		name  string
		spans []otlpwire.Span
		want  string
		depth int
		lost  int // orphans
	}{
		{"one root", []otlpwire.Span{sp(1, 0, local)}, "1", 1, 0},
		{"children in order of start, whatever the order of arrival",
			[]otlpwire.Span{at(sp(2, 1, local), 30), sp(1, 0, local), at(sp(3, 1, local), 20), sp(4, 3, remote)}, "1(3(4) 2)", 3, 0},
		{"equal starts go by id", []otlpwire.Span{at(sp(3, 0, 0), 5), at(sp(2, 0, 0), 5)}, "2 3", 1, 0},
		{"a caller outside, one call", []otlpwire.Span{sp(1, 9, remote), sp(2, 1, local)}, "1(2)", 2, 0},
		{"a caller outside, two calls", []otlpwire.Span{sp(1, 9, remote), sp(2, 9, remote)}, "1 2", 1, 0},
		{"two callers outside cannot be told from lost spans",
			[]otlpwire.Span{sp(1, 9, remote), sp(2, 8, remote)}, "1! 2!", 1, 2},
		{"one remote, one local, the same parent", []otlpwire.Span{sp(1, 9, remote), sp(2, 9, local)}, "1 2!", 1, 1},
		{"a missing local parent", []otlpwire.Span{sp(1, 0, 0), sp(2, 9, local)}, "1 2!", 1, 1},
		{"flags that do not say are no excuse", []otlpwire.Span{sp(1, 9, 0x201)}, "1!", 1, 1},
		{"a root besides a caller outside", []otlpwire.Span{sp(1, 0, 0), sp(2, 9, remote)}, "1 2", 1, 0},
		{"its own parent", []otlpwire.Span{sp(1, 1, 0)}, "1!", 1, 1},
		{"a cycle is cut at its earliest span", []otlpwire.Span{sp(3, 2, 0), sp(2, 1, 0), sp(1, 3, 0)}, "1!(2(3))", 3, 1},
		{"what hangs below a cycle stays there",
			[]otlpwire.Span{sp(1, 4, 0), sp(2, 3, 0), sp(3, 2, 0), sp(4, 3, 0)}, "2!(3(4(1)))", 4, 1},
		{"a cycle beside a tree", []otlpwire.Span{sp(1, 0, 0), sp(2, 3, 0), sp(3, 2, 0)}, "1 2!(3)", 2, 1},
		{"two cycles", []otlpwire.Span{sp(1, 2, 0), sp(2, 1, 0), sp(3, 4, 0), sp(4, 3, 0)}, "1!(2) 3!(4)", 2, 2},
		{"spans of one id are kept, the earliest has the children",
			[]otlpwire.Span{at(sp(1, 0, 0), 1), at(sp(1, 0, 0), 2), sp(2, 1, 0)}, "1(2) 1", 2, 0},
		{"spans without an id are nobody's parent", []otlpwire.Span{sp(0, 0, 0), sp(2, 0, 0)}, "0 2", 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			traces := Build(tt.spans)
			if len(traces) != 1 {
				t.Fatalf("Build gave %d traces, want 1", len(traces))
			}
			tr := traces[0]
			if got := shape(tr.Roots); got != tt.want {
				t.Errorf("tree = %s, want %s", got, tt.want)
			}
			if tr.Depth != tt.depth || tr.Orphans != tt.lost || tr.Spans != len(tt.spans) {
				t.Errorf("depth %d, orphans %d, spans %d, want %d, %d, %d",
					tr.Depth, tr.Orphans, tr.Spans, tt.depth, tt.lost, len(tt.spans))
			}
		})
	}
}

func TestBuildTotals(t *testing.T) {
	a, b, c := sp(1, 0, 0), sp(2, 1, 0), sp(3, 1, 0)
	b.StatusCode, b.Resource = statusError, res("b")
	c.StatusCode, c.Resource, c.Kind = statusOK, nil, consumer
	c.End = 9000
	other := sp(7, 0, 0)
	other.TraceID, other.Start, other.End = trace.TraceID{15: 2}, 5, 1 // ends before it starts

	got := Build([]otlpwire.Span{c, b, b, a, other})
	if len(got) != 2 || got[0].ID != other.TraceID || got[1].ID != a.TraceID {
		t.Fatalf("Build = %d traces, want the two, by start", len(got))
	}
	tr := got[1]
	type totals struct {
		Spans, Errors, Repeated int
		Services                []string
		Start, End              uint64
	}
	want := totals{3, 1, 1, []string{"a", "b", UnknownService}, 1001, 9000}
	if diff := cmp.Diff(want, totals{tr.Spans, tr.Errors, tr.Repeated, tr.Services, tr.Start, tr.End}); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	if d := tr.Duration(); d != 7999 {
		t.Errorf("Duration = %v, want 7.999µs", d)
	}
	if d := got[0].Duration(); d != 0 || got[0].Roots[0].Duration() != 0 {
		t.Errorf("Duration of a span that ends before it starts = %v, want 0", d)
	}
	if len(Build(nil)) != 0 {
		t.Error("Build(nil) gave traces")
	}
}

func TestNode(t *testing.T) {
	s := sp(1, 2, remote)
	s.Attributes = []attribute.KeyValue{attribute.Int("n", 1), attribute.Int("n", 2), semconv.EnvoyRequestID.Int(1)}
	s.Start, s.End = 0, math.MaxUint64
	n := Build([]otlpwire.Span{s})[0].Roots[0]
	if v, ok := n.Attr("n"); !ok || v.AsInt64() != 1 {
		t.Errorf(`Attr("n") = %v, %v, want 1, true`, v, ok)
	}
	if _, ok := n.Attr("m"); ok {
		t.Error(`Attr("m") found something`)
	}
	if id := n.RequestID(); id != "" {
		t.Errorf("RequestID of a number = %q, want none", id)
	}
	if n.Duration() != math.MaxInt64 || !n.Remote() || n.KindName() != "server" || n.Up() != nil {
		t.Errorf("Duration %v, Remote %v, KindName %q, Up %v", n.Duration(), n.Remote(), n.KindName(), n.Up())
	}
	for _, kind := range []int32{math.MinInt32, -1, 0, 6, math.MaxInt32} {
		n.Kind = kind
		if got := n.KindName(); got != "" {
			t.Errorf("KindName of %d = %q, want none", kind, got)
		}
	}
}

func TestReason(t *testing.T) {
	for _, tt := range []struct{ rule, id, digit, words string }{
		{"RID-9 random", "a121e9e1-feae-9136-9e0e-6fac343d56c9", "9", "sampled at random"},
		{"RID-9 service", "a121e9e1-feae-a136-9e0e-6fac343d56c9", "a", "forced by a service"},
		{"RID-9 client", "a121e9e1-feae-b136-9e0e-6fac343d56c9", "b", "forced by the client"},
		{"RID-9 none", "a121e9e1-feae-4136-9e0e-6fac343d56c9", "4", "no reason noted in the id"},
		{"RID-9 upper case", "a121e9e1-feae-A136-9e0e-6fac343d56c9", "A", "no reason noted in the id"},
		{"RID-10 length", "125a4afb", "", "no reason in an id of this form"},
		{"a byte that does not print", "a121e9e1-feae-\x00136-9e0e-6fac343d56c9", "…", "no reason noted in the id"},
	} {
		if digit, words := Reason(tt.id); digit != tt.digit || words != tt.words {
			t.Errorf("%s: Reason(%q) = %q, %q, want %q, %q", tt.rule, tt.id, digit, words, tt.digit, tt.words)
		}
	}
}

// TestLongChain holds Build and Print to linear work without recursion.
func TestLongChain(t *testing.T) {
	const n = 200_000
	spans := make([]otlpwire.Span, n)
	for i := range spans {
		spans[i] = sp(uint64(i+1), uint64(i), local)
	}
	start := time.Now()
	tr := Build(spans)[0]
	if tr.Depth != n || tr.Orphans != 0 {
		t.Errorf("depth %d, orphans %d, want %d, 0", tr.Depth, tr.Orphans, n)
	}
	spans[0].Parent = spanID(n) // one cycle of all
	if tr = Build(spans)[0]; tr.Depth != n || tr.Orphans != 1 {
		t.Errorf("cycle: depth %d, orphans %d, want %d, 1", tr.Depth, tr.Orphans, n)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("two chains of %d spans took %v", n, took)
	}
}

// spansFrom makes spans out of fuzz bytes, six a span, with few ids so that they
// meet.
func spansFrom(data []byte) []otlpwire.Span {
	var spans []otlpwire.Span
	for ; len(data) >= 6; data = data[6:] {
		s := sp(uint64(data[0]&15), uint64(data[1]&15), uint32(data[2])<<4)
		s.TraceID[15] = data[0] >> 6
		s.Start, s.End = uint64(data[3]>>4), uint64(data[3]&15)
		s.Kind, s.StatusCode = int32(data[4]&7), int32(data[4]>>4&3)
		s.Name = string(data[:6])
		s.Resource = res(string(data[5:6]))
		s.StatusText = string(data[2:6])
		if data[5]&1 == 0 {
			s.Attributes = []attribute.KeyValue{semconv.EnvoyRequestID.String(string(bytes.Repeat(data[:6], 6)))}
		}
		spans = append(spans, s)
	}
	return spans
}

func FuzzBuild(f *testing.F) {
	f.Add([]byte("aaaaaabbbbbbcccccc"))
	f.Add([]byte("\x01\x02\x30\x12\x23\x04\x02\x03\x00\x12\x23\x04\x03\x01\x00\x12\x23\x04\x04\x01\x00\x12\x23\x04"))
	f.Add([]byte("\x01\x09\x30\x12\x22\x04\x02\x09\x30\x22\x22\x04\x01\x09\x30\x12\x22\x04"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 6<<10 {
			data = data[:6<<10]
		}
		spans := spansFrom(data)
		traces := Build(spans)
		total := 0
		for _, tr := range traces {
			seen := make(map[*Node]bool)
			depth, orphans := 0, 0
			for n := range tr.Walk() {
				if seen[n] {
					t.Fatal("Walk yields a span twice")
				}
				seen[n] = true
				want := 1
				if up := n.Up(); up != nil {
					want = up.Depth + 1
					if up.SpanID != n.Parent || !seen[up] {
						t.Fatal("a span stands under another than its parent")
					}
				}
				if n.Depth != want {
					t.Fatalf("depth %d under depth %d", n.Depth, want-1)
				}
				if n.Orphan && (n.Up() != nil || !n.Parent.IsValid()) {
					t.Fatal("an orphan that has a parent or names none")
				}
				depth = max(depth, n.Depth)
				if n.Orphan {
					orphans++
				}
			}
			if len(seen) != tr.Spans || depth != tr.Depth || orphans != tr.Orphans || len(tr.Roots) == 0 {
				t.Fatalf("walked %d spans, depth %d, orphans %d; the trace says %d, %d, %d",
					len(seen), depth, orphans, tr.Spans, tr.Depth, tr.Orphans)
			}
			total += tr.Spans + tr.Repeated
		}
		if total != len(spans) {
			t.Fatalf("%d of %d spans are in traces", total, len(spans))
		}

		text := printAll(t, traces)
		checkText(t, text)
		shuffled := slices.Clone(spans)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again := printAll(t, Build(shuffled)); again != text {
			t.Fatalf("another order of arrival prints another text:\n%s\n%s", text, again)
		}
	})
}

// printAll prints all traces.
func printAll(t *testing.T, traces []*Trace) string {
	t.Helper()
	var b bytes.Buffer
	for _, tr := range traces {
		if err := tr.Print(&b); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}
