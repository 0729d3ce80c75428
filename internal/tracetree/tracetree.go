package tracetree

import (
	"bytes"
	"cmp"
	"iter"
	"math"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
	"github.com/meshtrace/meshtrace/internal/semconv"
)

// UnknownService stands for a span whose resource has no service.name, as the
// OpenTelemetry resource conventions have it.
const UnknownService = "unknown_service"

// Trace is the spans of one trace id. It is not changed after Build returned it.
type Trace struct {
	ID       trace.TraceID
	Roots    []*Node  // by start, then span id; never empty
	Spans    int      // kept spans: all that Walk yields
	Depth    int      // the longest way from a root, the root counted: 1 for a lone span
	Errors   int      // spans of status ERROR
	Orphans  int      // see the package documentation
	Repeated int      // further deliveries of a kept span, left out
	Services []string // sorted, each once
	Start    uint64   // of the earliest span, Unix nanoseconds
	End      uint64   // of the latest span, Unix nanoseconds; not before Start
}

// Node is one span in its place.
type Node struct {
	*otlpwire.Span
	Children []*Node // by start, then span id
	Depth    int     // 1 for a root
	Orphan   bool    // has a parent id, the parent is not there, and no caller outside explains it

	parent *Node
	index  int // in the order of the trace
}

// status codes and flags of opentelemetry.proto.trace.v1.
const (
	statusOK    = 1
	statusError = 2

	flagHasRemote = 1 << 8
	flagRemote    = 1 << 9
)

// Build groups spans by trace id, the traces ordered by their start, newest last.
// The result refers to the elements of spans, which must not change any more.
// It depends on the content of spans alone, not on their order.
func Build(spans []otlpwire.Span) []*Trace {
	groups := make(map[trace.TraceID][]*Node)
	nodes := make([]Node, len(spans))
	for i := range spans {
		n := &nodes[i]
		n.Span = &spans[i]
		groups[n.TraceID] = append(groups[n.TraceID], n)
	}
	traces := make([]*Trace, 0, len(groups))
	for id, group := range groups {
		traces = append(traces, build(id, group))
	}
	slices.SortFunc(traces, func(a, b *Trace) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return traces
}

// build makes the tree of one trace.
func build(id trace.TraceID, nodes []*Node) *Trace {
	t := &Trace{ID: id, Start: math.MaxUint64}
	slices.SortFunc(nodes, order)
	kept := slices.CompactFunc(nodes, func(a, b *Node) bool { return order(a, b) == 0 })
	t.Repeated = len(nodes) - len(kept)
	t.Spans = len(kept)

	byID := make(map[trace.SpanID]*Node, len(kept))
	services := make(map[string]bool)
	for i, n := range kept {
		n.index = i
		if _, taken := byID[n.SpanID]; !taken && n.SpanID.IsValid() {
			byID[n.SpanID] = n
		}
		services[n.Service()] = true
		if n.StatusCode == statusError {
			t.Errors++
		}
		t.Start = min(t.Start, n.Start)
		t.End = max(t.End, n.End)
	}
	t.End = max(t.End, t.Start)
	for s := range services {
		t.Services = append(t.Services, s)
	}
	slices.Sort(t.Services)

	t.link(kept, byID)
	t.cutCycles(kept)
	for n := range t.Walk() {
		t.Depth = max(t.Depth, n.Depth)
		if n.Orphan {
			t.Orphans++
		}
	}
	return t
}

// order sorts by start, then span id; the rest makes the result independent of
// the order of arrival and finds a span that was delivered twice.
func order(a, b *Node) int {
	if c := cmp.Compare(a.Start, b.Start); c != 0 {
		return c
	}
	if c := bytes.Compare(a.SpanID[:], b.SpanID[:]); c != 0 {
		return c
	}
	return cmp.Or(
		bytes.Compare(a.Parent[:], b.Parent[:]),
		cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.End, b.End),
		cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.StatusCode, b.StatusCode),
		cmp.Compare(a.Flags, b.Flags),
		cmp.Compare(a.Service(), b.Service()),
	)
}

// link hangs each node under its parent and finds roots and orphans.
func (t *Trace) link(nodes []*Node, byID map[trace.SpanID]*Node) {
	var missing []*Node
	for _, n := range nodes {
		if !n.Parent.IsValid() {
			t.Roots = append(t.Roots, n)
			continue
		}
		if p := byID[n.Parent]; p != nil {
			n.parent = p
			p.Children = append(p.Children, n)
			continue
		}
		t.Roots = append(t.Roots, n)
		missing = append(missing, n)
	}
	oneCaller := !slices.ContainsFunc(missing, func(n *Node) bool { return n.Parent != missing[0].Parent })
	for _, n := range missing {
		n.Orphan = !oneCaller || !n.Remote()
	}
}

// cutCycles makes the earliest span of each cycle a root and sets every depth.
// Its parent is there and cannot be above it, so it is an orphan.
func (t *Trace) cutCycles(nodes []*Node) {
	for _, r := range t.Roots {
		setDepth(r)
	}
	walked := make(map[*Node]bool)
	for _, n := range nodes {
		if n.Depth != 0 {
			continue // reached from a root
		}
		for !walked[n] { // what no root reaches leads up into a cycle
			walked[n] = true
			n = n.parent
		}
		first := n
		for m := n.parent; m != n; m = m.parent {
			if m.index < first.index {
				first = m
			}
		}
		p := first.parent
		p.Children = slices.DeleteFunc(p.Children, func(c *Node) bool { return c == first })
		first.parent, first.Orphan = nil, true
		t.Roots = append(t.Roots, first)
		setDepth(first)
	}
	slices.SortFunc(t.Roots, func(a, b *Node) int { return cmp.Compare(a.index, b.index) })
}

// setDepth sets the depth of root and all below it.
func setDepth(root *Node) {
	for n := range root.Walk() {
		n.Depth = 1
		if n.parent != nil {
			n.Depth = n.parent.Depth + 1
		}
	}
}

// Walk yields every span, each parent before its children.
func (t *Trace) Walk() iter.Seq[*Node] { return walk(t.Roots) }

// Walk yields n and every span below it, each parent before its children.
func (n *Node) Walk() iter.Seq[*Node] { return walk([]*Node{n}) }

// walk keeps its own stack: a chain of spans may be as long as the input.
func walk(from []*Node) iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		stack := make([]*Node, 0, 64)
		for nodes := from; ; {
			for _, n := range slices.Backward(nodes) {
				stack = append(stack, n)
			}
			if len(stack) == 0 {
				return
			}
			n := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if !yield(n) {
				return
			}
			nodes = n.Children
		}
	}
}

// Duration is the time from the start of the earliest span to the end of the
// latest.
func (t *Trace) Duration() time.Duration { return between(t.Start, t.End) }

// Up returns the span above n in the tree, nil for a root.
func (n *Node) Up() *Node { return n.parent }

// Service is the service.name of the span's resource, or UnknownService.
func (n *Node) Service() string {
	if n.Resource == nil {
		return UnknownService
	}
	for _, kv := range n.Resource.Attributes {
		if kv.Key == semconv.ServiceName && kv.Value.Type() == attribute.STRING && kv.Value.AsString() != "" {
			return kv.Value.AsString()
		}
	}
	return UnknownService
}

// Attr returns the span attribute named key; the first one counts.
func (n *Node) Attr(key attribute.Key) (attribute.Value, bool) {
	for _, kv := range n.Attributes {
		if kv.Key == key {
			return kv.Value, true
		}
	}
	return attribute.Value{}, false
}

// Duration is the time from start to end; 0 for a span that ends before it
// starts.
func (n *Node) Duration() time.Duration { return between(n.Start, n.End) }

// Remote tells whether the span's flags say that its parent is in another process
// (bits 8 and 9 of opentelemetry.proto.trace.v1.Span.flags).
func (n *Node) Remote() bool {
	const known = flagHasRemote | flagRemote
	return n.Flags&known == known
}

// Failed tells whether the status of the span is ERROR.
func (n *Node) Failed() bool { return n.StatusCode == statusError }

// KindName is the kind in lower case: internal, server, client, producer,
// consumer; "" when it is none of them.
func (n *Node) KindName() string {
	kinds := [...]string{1: "internal", "server", "client", "producer", "consumer"}
	if n.Kind < 1 || int(n.Kind) >= len(kinds) {
		return ""
	}
	return kinds[n.Kind]
}

// between is end - start, held between 0 and the longest duration.
func between(start, end uint64) time.Duration {
	switch {
	case end <= start:
		return 0
	case end-start > math.MaxInt64:
		return math.MaxInt64
	}
	return time.Duration(end - start)
}
