package middleware

import (
	"slices"
	"weak"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
	"github.com/meshtrace/meshtrace/internal/tracetree"
)

// What the page reads of its source at most, the newest first.
const (
	debugReadBytes = 16 << 20
	debugReadSpans = 100_000
)

// debugView is a source's content as trees. It is not changed once made.
type debugView struct {
	messages [][]byte           // what it was made of, oldest first
	traces   []*tracetree.Trace // newest last
	byID     map[trace.TraceID]*tracetree.Trace
	bytes    int
	unread   int // messages beyond the bounds, the oldest
	bad      int // messages that are not OTLP
}

// load reads the source, or takes the view made last if the source still holds the
// same messages. Only a weak pointer keeps that view: trees take more memory than
// the messages, and nobody may ask again.
func (p *debugPage) load() *debugView {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := &debugView{}
	if p.src == nil {
		return v
	}
	for m := range p.src.OTLP() {
		v.messages = append(v.messages, m)
	}
	if last := p.view.Value(); last != nil && slices.EqualFunc(last.messages, v.messages, sameMessage) {
		return last
	}
	v.build()
	p.view = weak.Make(v)
	return v
}

// sameMessage compares by address: a message is not changed after it was yielded, and
// the view that holds it keeps its address from being used again.
func sameMessage(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// build decodes the newest messages within the bounds and makes trees of them.
func (v *debugView) build() {
	var parts [][]otlpwire.Span // newest first
	spans := 0
	for i, m := range slices.Backward(v.messages) {
		if v.bytes+len(m) > debugReadBytes || spans >= debugReadSpans {
			v.unread = i + 1
			break
		}
		v.bytes += len(m)
		part, err := otlpwire.Decode(m)
		if err != nil {
			v.bad++
			continue
		}
		part = part[:min(len(part), debugReadSpans-spans)]
		spans += len(part)
		parts = append(parts, part)
	}
	slices.Reverse(parts)
	v.traces = tracetree.Build(slices.Concat(parts...))
	v.byID = make(map[trace.TraceID]*tracetree.Trace, len(v.traces))
	for _, t := range v.traces {
		v.byID[t.ID] = t
	}
}
