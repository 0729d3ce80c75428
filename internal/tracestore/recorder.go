package tracestore

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

const (
	blockBytes = 64 << 10 // spans that are let go of together
	maxGroups  = 1024     // remembered pairs of resource and scope
)

// Recorder is an sdktrace.SpanProcessor that keeps the newest ended spans of its
// program, sampled ones only, once Activate was called. Before, and after Shutdown,
// it keeps none.
//
// Spans are encoded as they end and held in blocks of about 64 KiB, which leave as a
// whole. No span object is kept. Use NewRecorder.
type Recorder struct {
	active atomic.Bool
	sealed *Store
	block  int // bytes at which the open block is sealed

	mu     sync.Mutex
	open   otlpwire.Batch
	latest []byte // the open block as a request, nil when it changed since
	groups map[groupKey]*otlpwire.Group
}

var _ sdktrace.SpanProcessor = (*Recorder)(nil)

// groupKey is the resource by pointer, as the SDK has one for each provider, and the
// scope by value: its attributes by their hash, as the SDK itself tells scopes apart.
type groupKey struct {
	resource                 *resource.Resource
	name, version, schemaURL string
	attributes               attribute.Distinct
}

// NewRecorder returns a processor that keeps at most maxBytes bytes of OTLP, of which an
// eighth, at most 64 KiB, is for the block that is being filled.
func NewRecorder(maxBytes int64) *Recorder {
	block := min(maxBytes/8, blockBytes)
	return &Recorder{sealed: New(maxBytes - block), block: int(block), groups: make(map[groupKey]*otlpwire.Group)}
}

// Activate begins to keep the spans that end from now on.
func (p *Recorder) Activate() { p.active.Store(true) }

// OnStart does nothing.
func (p *Recorder) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd keeps s if the processor is active and s is sampled.
func (p *Recorder) OnEnd(s sdktrace.ReadOnlySpan) {
	if !p.active.Load() {
		return
	}
	if !s.SpanContext().IsSampled() {
		return
	}
	body, _ := otlpwire.AppendSpan(nil, s)
	res, scope := s.Resource(), s.InstrumentationScope()

	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.group(res, scope)
	p.latest = nil
	if p.open.Add(g, body, p.block) {
		return
	}
	p.seal()
	if p.open.Add(g, body, p.block) {
		return
	}
	// Larger than a block: a block of its own, which the store takes or refuses.
	var alone otlpwire.Batch
	if alone.Add(g, body, int(p.sealed.max)) {
		p.sealed.keep(alone.AppendTo(nil))
	}
}

// seal hands the open block to the store and begins a new one; mu is held.
func (p *Recorder) seal() {
	if p.open.Len() > 0 {
		p.sealed.keep(p.open.AppendTo(nil))
		p.open.Reset()
	}
}

// group returns the encoded pair of resource and scope; mu is held.
func (p *Recorder) group(res *resource.Resource, scope instrumentation.Scope) *otlpwire.Group {
	key := groupKey{res, scope.Name, scope.Version, scope.SchemaURL, scope.Attributes.Equivalent()}
	if g := p.groups[key]; g != nil {
		return g
	}
	url := ""
	if res != nil {
		url = res.SchemaURL()
	}
	g := otlpwire.NewGroup(otlpwire.AppendResource(nil, res), url, otlpwire.AppendScope(nil, scope), scope.SchemaURL)
	if len(p.groups) < maxGroups {
		p.groups[key] = g
	}
	return g
}

// OTLP ranges over the kept spans as OTLP requests, oldest first, as they were when
// the range began.
func (p *Recorder) OTLP() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		p.mu.Lock() // so that no block is sealed between the two
		if p.latest == nil && p.open.Len() > 0 {
			p.latest = p.open.AppendTo(nil)
		}
		latest, sealed := p.latest, p.sealed.list()
		p.mu.Unlock()
		for _, r := range sealed {
			if !yield(r) {
				return
			}
		}
		if latest != nil {
			yield(latest)
		}
	}
}

// Evicted is the number of blocks of spans that were let go of to make room.
func (p *Recorder) Evicted() uint64 { return p.sealed.Evicted() }

// ForceFlush does nothing: a span is there when OnEnd has returned.
func (p *Recorder) ForceFlush(context.Context) error { return nil }

// Shutdown stops keeping spans. Those that are kept can still be read.
func (p *Recorder) Shutdown(context.Context) error {
	p.active.Store(false)
	return nil
}
