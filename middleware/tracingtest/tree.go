package tracingtest

import (
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/semconv"
)

// Tree returns the spans as text, each below its parent; see the package
// documentation for its form. "" is no spans.
func (s *Spans) Tree() string {
	ended, _ := s.snapshot()
	return tree(ended)
}

// Want compares the spans with a tree, and fails t with the difference. It waits for as
// many spans as the tree has, as Wait does. Empty lines around the tree and indentation
// common to all its lines do not count, so that it can stand in a raw string; nor does
// the order of spans with one parent, since calls may run side by side.
func (s *Spans) Want(t testing.TB, tree string) {
	t.Helper()
	want := parse(tree)
	n := count(want)
	ended, _ := s.await(func(ended []sdktrace.ReadOnlySpan) bool { return len(ended) >= n })
	got := build(ended)
	sortAll(want)
	sortAll(got)
	wantLines, gotLines := lines(nil, want, 0), lines(nil, got, 0)
	if !slices.Equal(wantLines, gotLines) {
		t.Errorf("tracingtest: the spans differ, -want +got:\n%s", diff(wantLines, gotLines))
	}
}

// node is a span's line and those below it.
type node struct {
	line     string
	children []*node
}

func tree(ended []sdktrace.ReadOnlySpan) string {
	l := lines(nil, build(ended), 0)
	if len(l) == 0 {
		return ""
	}
	return strings.Join(l, "\n") + "\n"
}

// build returns the roots of the spans, in the order of their start.
func build(ended []sdktrace.ReadOnlySpan) []*node {
	slices.SortStableFunc(ended, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	nodes := make(map[trace.SpanID]*node, len(ended))
	for _, s := range ended {
		nodes[s.SpanContext().SpanID()] = &node{line: line(s)}
	}
	var roots []*node
	for _, s := range ended {
		n := nodes[s.SpanContext().SpanID()]
		if parent, ok := nodes[s.Parent().SpanID()]; ok {
			parent.children = append(parent.children, n)
		} else {
			roots = append(roots, n)
		}
	}
	return roots
}

func line(s sdktrace.ReadOnlySpan) string {
	text := strings.ToUpper(s.SpanKind().String()) + " " + s.Name()
	if s.Status().Code != codes.Error {
		return text
	}
	text += " !"
	for _, kv := range s.Attributes() {
		if kv.Key == semconv.ErrorType {
			text += kv.Value.AsString()
		}
	}
	return text
}

func lines(out []string, nodes []*node, depth int) []string {
	for _, n := range nodes {
		out = append(out, strings.Repeat("  ", depth)+n.line)
		out = lines(out, n.children, depth+1)
	}
	return out
}

func count(nodes []*node) (n int) {
	for _, c := range nodes {
		n += 1 + count(c.children)
	}
	return n
}

// sortAll orders nodes with one parent by their text and that of what is below them.
func sortAll(nodes []*node) {
	for _, n := range nodes {
		sortAll(n.children)
	}
	slices.SortStableFunc(nodes, func(a, b *node) int {
		return slices.Compare(lines(nil, []*node{a}, 0), lines(nil, []*node{b}, 0))
	})
}

// parse reads a tree by its indentation: a line is below the last one that is
// indented less. Tabs count as they stand.
func parse(text string) []*node {
	root := &node{}
	type level struct {
		indent string
		node   *node
	}
	var open []level
	for l := range strings.Lines(text) {
		body := strings.TrimLeft(l, " \t")
		indent := l[:len(l)-len(body)]
		if body = strings.TrimRight(body, " \t\r\n"); body == "" {
			continue
		}
		for len(open) > 0 && len(open[len(open)-1].indent) >= len(indent) {
			open = open[:len(open)-1]
		}
		parent := root
		if len(open) > 0 {
			parent = open[len(open)-1].node
		}
		n := &node{line: body}
		parent.children = append(parent.children, n)
		open = append(open, level{indent, n})
	}
	return root.children
}

// diff returns the lines of both, each marked by which of the two has it.
func diff(want, got []string) string {
	// common[i][j] is how many lines want[i:] and got[j:] share, in order.
	common := make([][]int, len(want)+1)
	for i := range common {
		common[i] = make([]int, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if want[i] == got[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var b strings.Builder
	for i, j := 0, 0; i < len(want) || j < len(got); {
		switch {
		case i < len(want) && j < len(got) && want[i] == got[j]:
			b.WriteString("  " + want[i] + "\n")
			i, j = i+1, j+1
		case j == len(got) || i < len(want) && common[i+1][j] >= common[i][j+1]:
			b.WriteString("- " + want[i] + "\n")
			i++
		default:
			b.WriteString("+ " + got[j] + "\n")
			j++
		}
	}
	return b.String()
}
