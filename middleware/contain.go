package middleware

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/failure"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/span"
)

// callback is something of the program's own that a Tracing calls while a request is
// served. Several of them run where nobody recovers, such as a gRPC server or the end of
// a body that was dropped, so that a panic of theirs is contained.
type callback uint8

const (
	callRoute callback = iota
	callSendTo
	callFilter
	callClientFilter
	callSpanName
	callAttributes
	callTag
	callBase
	callMeters
	callProcessor
	callCarrier
	callLogger
	callbacks
)

var callbackNames = [callbacks]string{
	callRoute: "Config.Route", callSendTo: "Config.SendTo", callFilter: "Config.Filter", callClientFilter: "Config.ClientFilter",
	callSpanName: "Config.SpanName", callAttributes: "Config.Attributes", callTag: "the function or the metadata of a tag",
	callBase: "Config.Sampling.Base", callMeters: "Config.MeterProvider", callProcessor: "Config.Processors",
	callCarrier: "a Carrier", callLogger: "the handler of Config.Logger",
}

// containedQuiet is the time between two lines about panics of one callback.
const containedQuiet = time.Minute

// contained counts the panics of one callback.
type contained struct {
	panics atomic.Uint64
	told   atomic.Int64 // Unix nanoseconds of the last line; 0: none
}

// contain ends a panic of a callback. It is to be deferred itself, or what it calls
// recover for would be gone.
func (t *Tracing) contain(of callback) {
	if v := recover(); v != nil {
		t.panicked(of, v)
	}
}

// panicked counts a panic of a callback, and says so once a minute for each.
func (t *Tracing) panicked(of callback, v any) {
	c := &t.contained[of]
	c.panics.Add(1)
	now, last := time.Now().UnixNano(), c.told.Load()
	if of == callLogger || last != 0 && now-last < int64(containedQuiet) || !c.told.CompareAndSwap(last, now) {
		return // a logger cannot be told of itself
	}
	t.log(slog.LevelWarn, "meshtrace: "+callbackNames[of]+" panicked, and what was asked of it is left out",
		slog.String("panic", semconv.Cut(strings.ToValidUTF8(fmt.Sprint(v), "\uFFFD"), maxPanicText)), slog.String("at", panicSite()))
}

// maxPanicText bounds in bytes what is told of a panic.
const maxPanicText = 200

// panicSite returns the file and line that panicked, for a function that recovered; ""
// where the stack does not tell.
func panicSite() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	for panicking := false; ; {
		f, more := frames.Next()
		if own := strings.HasPrefix(f.Function, "runtime."); panicking && !own {
			return filepath.Base(f.File) + ":" + strconv.Itoa(f.Line)
		}
		panicking = panicking || f.Function == "runtime.gopanic"
		if !more {
			return ""
		}
	}
}

// containedNotes tells the debug page which callbacks panicked how often.
func (t *Tracing) containedNotes() (notes []string) {
	for i := range t.contained {
		if n := t.contained[i].panics.Load(); n > 0 {
			notes = append(notes, fmt.Sprintf("%s panicked, and was contained: %d", callbackNames[i], n))
		}
	}
	return notes
}

// log writes a line of meshtrace's own, whatever the program's handler makes of it.
func (t *Tracing) log(level slog.Level, line string, attrs ...slog.Attr) {
	defer t.contain(callLogger)
	t.logger.LogAttrs(context.Background(), level, line, attrs...)
}

// routeOf asks Config.Route; no route after a panic.
func (t *Tracing) routeOf(r *http.Request) Route {
	defer t.contain(callRoute)
	return t.route(r)
}

// maySend asks Config.SendTo; no after a panic, since it keeps ids from strangers.
func (t *Tracing) maySend(r *http.Request) bool {
	defer t.contain(callSendTo)
	return t.sendTo(r)
}

// asks asks a filter of Config; yes after a panic, as without the filter.
func (t *Tracing) asks(of callback, filter func(*http.Request) bool, r *http.Request) (wanted bool) {
	wanted = true
	defer t.contain(of)
	return filter(r)
}

// spanNameOf asks Config.SpanName; name after a panic.
func (c *Call) spanNameOf(name string) (wanted string) {
	wanted = name
	returned := false
	defer func() {
		if !returned {
			c.contain(callSpanName, recover())
		}
	}()
	wanted = c.tracing.spanName(c.info(), name)
	returned = true
	return wanted
}

// attributesOf asks Config.Attributes; none after a panic, since it may be there to
// drop some, and had a part of them in its hands.
func (c *Call) attributesOf(list []attribute.KeyValue) (wanted []attribute.KeyValue) {
	returned := false
	defer func() {
		if !returned {
			wanted = list[:0]
			c.contain(callAttributes, recover())
		}
	}()
	wanted = c.tracing.attributes(c.info(), list)
	returned = true
	return wanted
}

// tagOf renders a tag; no tag after a panic.
func (c *Call) tagOf(tag span.Tag, f *span.Facts) (value string, ok bool) {
	returned := false
	defer func() {
		if !returned {
			c.contain(callTag, recover())
		}
	}()
	value, ok = tag.Render(f)
	returned = true
	return value, ok
}

// contain is Tracing.contain of a callback that is asked while c has a span: where v is
// nil the callback ends the goroutine, and nobody else ends the span.
func (c *Call) contain(of callback, v any) {
	switch {
	case v != nil:
		c.tracing.panicked(of, v)
	case c.started():
		c.ended = true
		c.span.End()
	}
}

// started tells whether the span of c's own was started.
func (c *Call) started() bool { return c.owned && c.span != nil }

// inject writes the context of a client call into a carrier that may be the program's.
func (t *Tracing) inject(ctx context.Context, to otelprop.TextMapCarrier) {
	if _, ok := to.(otelprop.HeaderCarrier); !ok {
		defer t.contain(callCarrier)
	}
	t.propagator.Inject(ctx, to)
}

// captureAnswer adds what Config.ResponseHeaders names of an Outcome.
func (c *Call) captureAnswer(a *attrs, from otelprop.TextMapCarrier) {
	defer c.tracing.contain(callCarrier)
	a.capture(c.tracing.responseHeaders, from, c.rpc)
}

// guardedBase is a Config.Sampling.Base whose panic is a no: never everything.
type guardedBase struct {
	sdktrace.Sampler
	tracing *Tracing
}

// ShouldSample asks the sampler.
func (b guardedBase) ShouldSample(p sdktrace.SamplingParameters) (res sdktrace.SamplingResult) {
	res = sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
	defer b.tracing.contain(callBase)
	return b.Sampler.ShouldSample(p)
}

// guardedProcessor is one of Config.Processors whose panic keeps no span from the
// processors behind it.
type guardedProcessor struct {
	sdktrace.SpanProcessor
	tracing *Tracing
}

// OnStart passes on that a span started.
func (p guardedProcessor) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) {
	defer p.tracing.contain(callProcessor)
	p.SpanProcessor.OnStart(ctx, s)
}

// OnEnd passes on a span that ended.
func (p guardedProcessor) OnEnd(s sdktrace.ReadOnlySpan) {
	defer p.tracing.contain(callProcessor)
	p.SpanProcessor.OnEnd(s)
}

// ForceFlush passes the call on; a panic is an error.
func (p guardedProcessor) ForceFlush(ctx context.Context) (err error) {
	defer p.failed(&err)
	return p.SpanProcessor.ForceFlush(ctx)
}

// Shutdown passes the call on; a panic is an error.
func (p guardedProcessor) Shutdown(ctx context.Context) (err error) {
	defer p.failed(&err)
	return p.SpanProcessor.Shutdown(ctx)
}

// failed makes an error of a panic. It is to be deferred itself.
func (p guardedProcessor) failed(err *error) {
	if v := recover(); v != nil {
		p.tracing.panicked(callProcessor, v)
		*err = fmt.Errorf("middleware: Config.Processors: %T: %w", p.SpanProcessor, failure.Of(v))
	}
}
