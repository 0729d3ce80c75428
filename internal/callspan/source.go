package callspan

import (
	"context"
	rtrace "runtime/trace"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

// Config is what the spans of a program have in common, as its TracerProvider has it. All
// of it is needed but Processors.
type Config struct {
	Provider   trace.TracerProvider // that Span.TracerProvider returns
	Resource   *resource.Resource
	Scope      instrumentation.Scope
	Sampler    sdktrace.Sampler
	IDs        sdktrace.IDGenerator
	Limits     sdktrace.SpanLimits
	Processors []sdktrace.SpanProcessor // in the order in which they hear of a span
}

// Source starts spans. It may be used concurrently. Use NewSource.
type Source struct {
	Config     // Processors are those at the start
	processors atomic.Pointer[processors]
	count      int // of attributes that a span keeps by itself

	// sdk makes the spans that a Span hands to what is uncommon. Nobody hears of them.
	sdk trace.Tracer
	// ended answers for methods that a later SDK may add to the interfaces of spans.
	ended sdktrace.ReadWriteSpan
}

// processors are never changed, but replaced.
type processors struct {
	list   []sdktrace.SpanProcessor
	closed bool
}

// maxOwn bounds the attributes that a span keeps by itself, since what it does about double
// keys is quadratic. The SDK's limit is 128 unless it is set.
const maxOwn = 128

// NewSource returns a Source of spans as cfg has them.
func NewSource(cfg Config) *Source {
	f := &Source{Config: cfg, count: cfg.Limits.AttributeCountLimit}
	f.processors.Store(&processors{list: slices.Clone(cfg.Processors)})
	if f.count < 0 || f.count > maxOwn {
		f.count = maxOwn
	}
	f.sdk = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithResource(cfg.Resource),
		sdktrace.WithRawSpanLimits(cfg.Limits),
	).Tracer(cfg.Scope.Name)
	f.ended = f.uncommon()
	f.ended.End()
	// With what the SDK adds of the process's environment, so that all spans have the same.
	f.Resource = f.ended.Resource()
	return f
}

// Register adds a processor, which hears of spans that start or end from now on. After
// Close it does nothing.
func (f *Source) Register(p sdktrace.SpanProcessor) {
	f.change(func(old []sdktrace.SpanProcessor) *processors {
		return &processors{list: append(slices.Clone(old), p)}
	})
}

// Unregister removes a processor, of several that are the same the last one, as the SDK
// does, and tells whether it was there. It is not shut down. After Close nothing is.
func (f *Source) Unregister(p sdktrace.SpanProcessor) (found bool) {
	f.change(func(old []sdktrace.SpanProcessor) *processors {
		i := len(old) - 1
		for i >= 0 && old[i] != p {
			i--
		}
		if found = i >= 0; !found {
			return nil
		}
		return &processors{list: slices.Delete(slices.Clone(old), i, i+1)}
	})
	return found
}

// Close makes late the processors for good. The first call counts.
func (f *Source) Close(late []sdktrace.SpanProcessor) {
	f.change(func([]sdktrace.SpanProcessor) *processors {
		return &processors{list: slices.Clone(late), closed: true}
	})
}

// change replaces the processors by what edit makes of them, unless that is nil.
func (f *Source) change(edit func(old []sdktrace.SpanProcessor) *processors) {
	for {
		old := f.processors.Load()
		if old.closed {
			return
		}
		if p := edit(old.list); p == nil || f.processors.CompareAndSwap(old, p) {
			return
		}
	}
}

// hearers returns who hears of spans now. Nobody changes the list.
func (f *Source) hearers() []sdktrace.SpanProcessor { return f.processors.Load().list }

// uncommon returns a recording span of the SDK's that no processor hears of. It is to be
// ended: runtime/trace has a task of it.
func (f *Source) uncommon() sdktrace.ReadWriteSpan {
	_, s := f.sdk.Start(context.Background(), "")
	return s.(sdktrace.ReadWriteSpan)
}

// Prepare returns the span of a call below the span in ctx, with room for so many
// attributes. Who prepared it has it alone until Start, and may give it its first
// attributes by Room and Fill. A span that the sampler drops does not record, and has no
// room.
func (f *Source) Prepare(ctx context.Context, room int, name string, kind trace.SpanKind, links []trace.Link) *Span {
	parent := trace.SpanContextFromContext(ctx)
	traceID, spanID := parent.TraceID(), trace.SpanID{}
	if traceID.IsValid() {
		spanID = f.IDs.NewSpanID(ctx, traceID)
	} else {
		traceID, spanID = f.IDs.NewIDs(ctx)
	}
	verdict := f.Sampler.ShouldSample(sdktrace.SamplingParameters{
		ParentContext: ctx, TraceID: traceID, Name: name, Kind: kind, Links: links,
	})
	flags := parent.TraceFlags() &^ trace.FlagsSampled
	if verdict.Decision == sdktrace.RecordAndSample {
		flags |= trace.FlagsSampled
	}
	var s *Span
	if verdict.Decision == sdktrace.Drop {
		s = new(Span)
	} else {
		s = newSpan(room)
	}
	s.ReadWriteSpan, s.source, s.name, s.kind = f.ended, f, name, uint8(trace.ValidateSpanKind(kind))
	s.sc = trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: spanID, TraceFlags: flags, TraceState: verdict.Tracestate,
	})
	s.setParent(parent)
	if verdict.Decision == sdktrace.Drop {
		s.over.Store(true)
		return s
	}
	s.start = time.Now()
	for _, l := range links {
		s.AddLink(l)
	}
	s.SetAttributes(verdict.Attributes...)
	return s
}

// Start tells the processors of s, which was prepared in ctx, and returns the context
// under which the call goes on: node, where that is not nil. A span may be kept longer than
// its call, so it holds neither.
func (s *Span) Start(ctx context.Context, node *reqctx.Node) context.Context {
	if node == nil {
		node = new(reqctx.Node)
	}
	if s.over.Load() {
		return node.Below(ctx, s)
	}
	for _, p := range s.source.hearers() {
		p.OnStart(ctx, s)
	}
	ctx = node.Below(ctx, s)
	if rtrace.IsEnabled() {
		var task *rtrace.Task
		ctx, task = rtrace.NewTask(ctx, s.Name())
		if s.lock() {
			s.more().task = task
			s.mu.Unlock()
		} else { // a processor ended it
			task.End()
		}
	}
	return ctx
}
