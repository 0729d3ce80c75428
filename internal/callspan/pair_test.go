package callspan

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
)

// What a Span answers otherwise than the SDK's span, on purpose:
//
//   - OnStart sees the attributes that Fill gave; the SDK's span gets them afterwards.
//   - OnEnd gets the Span itself and not a copy, and a span that was dropped is a *Span as
//     well, so that both pass for a ReadWriteSpan. Neither can be changed.
//   - DroppedEvents and DroppedLinks tell OnEnd of those that limit 0 dropped. The SDK's copy
//     says 0 where it has none left.
//   - ChildSpanCount is 0.
//
// TestKnownDifferences has each of them.

// side is what one of the two was asked and told.
type side struct {
	span      trace.Span
	ctx       context.Context // that the span was started in
	under     context.Context // that Start returned
	asked     []string        // by the generator's and the sampler's callers
	heard     []string        // by processors
	atStart   string          // what OnStart read
	ids       uint64
	verdict   sdktrace.SamplingResult
	processor *listener // the one that comes and goes
}

// listener is a processor of side.
type listener struct {
	*side
	name string
}

func (l *listener) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) {
	l.heard = append(l.heard, fmt.Sprintf("%s: start, in the context of Start %v, recording %v", l.name, ctx == l.ctx, s.IsRecording()))
	if l.span == nil {
		l.span = s
	}
	l.atStart = dump(s, s)
	if l.span != trace.Span(s) {
		l.heard = append(l.heard, l.name+": of another span")
	}
}

func (l *listener) OnEnd(s sdktrace.ReadOnlySpan) {
	l.heard = append(l.heard, l.name+": end\n"+dump(s, l.span.(sdktrace.ReadOnlySpan)))
}

func (l *listener) Shutdown(context.Context) error   { return nil }
func (l *listener) ForceFlush(context.Context) error { return nil }

// NewIDs and NewSpanID make ids that are the same on both sides.
func (s *side) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	s.asked = append(s.asked, fmt.Sprintf("ids, in the context of Start %v", ctx == s.ctx))
	s.ids++
	var id trace.TraceID
	binary.BigEndian.PutUint64(id[8:], s.ids)
	return id, s.newSpanID()
}

func (s *side) NewSpanID(ctx context.Context, id trace.TraceID) trace.SpanID {
	s.asked = append(s.asked, fmt.Sprintf("a span's id in %s, in the context of Start %v", id, ctx == s.ctx))
	return s.newSpanID()
}

func (s *side) newSpanID() (id trace.SpanID) {
	s.ids++
	binary.BigEndian.PutUint64(id[:], s.ids)
	return id
}

// ShouldSample answers what the case says.
func (s *side) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	s.asked = append(s.asked, fmt.Sprintf("sample %q of %s, kind %d, links %d, attributes %d, in the context of Start %v",
		p.Name, p.TraceID, p.Kind, len(p.Links), len(p.Attributes), p.ParentContext == s.ctx))
	return s.verdict
}

func (s *side) Description() string { return "test" }

// setting is what a pair of spans has in common.
type setting struct {
	limits  sdktrace.SpanLimits
	parent  trace.SpanContext
	kind    trace.SpanKind
	links   []trace.Link
	verdict sdktrace.SamplingResult
	room    int                  // of New
	fill    []attribute.KeyValue // put on before any other
	foreign bool                 // fill is not in the room
	noNode  bool                 // Start makes the context's node
}

var (
	testResource = resource.NewSchemaless(attribute.String("service.name", "test"))
	testScope    = instrumentation.Scope{Name: "scope", Version: "1"}
)

// pair is a Span and the SDK's, to which the same is done.
type pair struct {
	t            testing.TB
	setting      setting
	ours, theirs side
	source       *Source
	provider     *sdktrace.TracerProvider
	steps        []string // what was done
	held         []held
	before       time.Time // earlier than the spans
}

// held is a list of attributes that a reader got from a Span, and what was in it.
type held struct{ list, want []attribute.KeyValue }

// newPair starts both spans.
func newPair(t testing.TB, set setting) *pair {
	p := &pair{t: t, setting: set, before: time.Now()}
	for _, s := range []*side{&p.ours, &p.theirs} {
		s.verdict = set.verdict
		s.ctx = context.WithValue(context.Background(), sideKey{}, s)
		if set.parent.IsValid() || set.parent.TraceID().IsValid() {
			s.ctx = trace.ContextWithSpanContext(s.ctx, set.parent)
		}
		s.processor = &listener{s, "third"}
	}
	p.provider = sdktrace.NewTracerProvider(
		sdktrace.WithResource(testResource), sdktrace.WithSampler(&p.theirs), sdktrace.WithIDGenerator(&p.theirs), sdktrace.WithRawSpanLimits(set.limits),
		sdktrace.WithSpanProcessor(&listener{&p.theirs, "first"}), sdktrace.WithSpanProcessor(&listener{&p.theirs, "second"}),
	)
	p.source = NewSource(Config{
		Provider: p.provider, Resource: testResource, Scope: testScope, Sampler: &p.ours, IDs: &p.ours, Limits: set.limits,
		Processors: []sdktrace.SpanProcessor{&listener{&p.ours, "first"}, &listener{&p.ours, "second"}},
	})
	p.theirs.under, p.theirs.span = p.provider.Tracer(testScope.Name, trace.WithInstrumentationVersion(testScope.Version)).
		Start(p.theirs.ctx, "name", trace.WithSpanKind(set.kind), trace.WithLinks(set.links...))
	p.theirs.span.SetAttributes(set.fill...)

	s := p.source.Prepare(p.ours.ctx, set.room, "name", set.kind, set.links)
	if set.foreign {
		s.Fill(slices.Clone(set.fill))
	} else {
		s.Fill(append(s.Room(), set.fill...))
	}
	node := new(reqctx.Node)
	if set.noNode {
		node = nil
	}
	p.ours.under = s.Start(p.ours.ctx, node)
	p.ours.span = s
	if got := trace.SpanFromContext(p.ours.under); got != trace.Span(s) {
		t.Fatalf("the context of %+v has the span %v, want that which started", set, got)
	}
	if p.ours.under.Value(sideKey{}) != &p.ours {
		t.Fatal("the context is not below the caller's")
	}
	if theirs, ok := p.theirs.span.(sdktrace.ReadOnlySpan); ok {
		if want := dump(theirs, theirs); p.ours.atStart != want {
			t.Fatalf("setting %+v\nOnStart read\n%s\nwant\n%s", set, p.ours.atStart, want)
		}
	}
	return p
}

type sideKey struct{}

// do does the same to both spans.
func (p *pair) do(what string, f func(trace.Span)) {
	p.steps = append(p.steps, what)
	f(p.ours.span)
	f(p.theirs.span)
}

// read compares all that can be asked, and keeps the list of attributes.
func (p *pair) read() {
	p.t.Helper()
	ours := p.ours.span.(*Span)
	if got, want := p.ours.span.SpanContext(), p.theirs.span.SpanContext(); !got.Equal(want) {
		p.t.Fatalf("after %q: SpanContext = %+v, want %+v", p.steps, got, want)
	}
	if got, want := p.ours.span.IsRecording(), p.theirs.span.IsRecording(); got != want {
		p.t.Fatalf("after %q: IsRecording = %v, want %v", p.steps, got, want)
	}
	if ours.TracerProvider() != trace.TracerProvider(p.provider) || p.theirs.span.TracerProvider() != trace.TracerProvider(p.provider) {
		p.t.Fatal("TracerProvider is another")
	}
	if theirs, ok := p.theirs.span.(sdktrace.ReadWriteSpan); ok { // else it was dropped
		if got, want := dump(ours, ours), dump(theirs, theirs); got != want {
			p.t.Fatalf("setting %+v\nafter %q:\n%s\nwant\n%s", p.setting, p.steps, got, want)
		}
		list := ours.Attributes()
		p.held = append(p.held, held{list, slices.Clone(list)})
	}
}

// compare compares at last what the callbacks saw.
func (p *pair) compare() {
	p.t.Helper()
	p.read()
	for _, c := range []struct {
		what      string
		got, want []string
	}{{"asked", p.ours.asked, p.theirs.asked}, {"heard", p.ours.heard, p.theirs.heard}} {
		if !slices.Equal(c.got, c.want) {
			p.t.Fatalf("setting %+v\nafter %q\n%s:\n%s\nwant\n%s", p.setting, p.steps, c.what, strings.Join(c.got, "\n"), strings.Join(c.want, "\n"))
		}
	}
	for i, h := range p.held {
		if !slices.EqualFunc(h.list, h.want, func(a, b attribute.KeyValue) bool { return text(a) == text(b) }) {
			p.t.Fatalf("after %q: list %d of attributes became %v, was %v", p.steps, i, h.list, h.want)
		}
	}
}

// dump says what s answers. Times of now are told only as such. What a copy does not tell
// of dropped ones is taken from live.
func dump(s, live sdktrace.ReadOnlySpan) string {
	var b strings.Builder
	library := s.InstrumentationLibrary() //lint:ignore SA1019 the interface has it
	fmt.Fprintf(&b, "%q %+v\nparent %+v\nkind %v start %s end %s\nstatus %+v\nscope %v library %v resource %v\n", s.Name(), s.SpanContext(), s.Parent(),
		s.SpanKind(), moment(s.StartTime()), moment(s.EndTime()), s.Status(), s.InstrumentationScope(), library, s.Resource())
	if end := s.EndTime(); !end.IsZero() && moment(end) == "now" && end.Before(s.StartTime()) {
		fmt.Fprintf(&b, "ends before it starts\n")
	}
	events, links := s.Events(), s.Links()
	droppedEvents, droppedLinks := s.DroppedEvents(), s.DroppedLinks()
	if len(events) == 0 {
		droppedEvents = live.DroppedEvents()
	}
	if len(links) == 0 {
		droppedLinks = live.DroppedLinks()
	}
	fmt.Fprintf(&b, "dropped: attributes %d events %d links %d; children %d\n", s.DroppedAttributes(), droppedEvents, droppedLinks, s.ChildSpanCount())
	for _, kv := range s.Attributes() {
		fmt.Fprintf(&b, "attribute %s\n", text(kv))
	}
	for _, e := range events {
		fmt.Fprintf(&b, "event %q at %s, dropped %d\n", e.Name, moment(e.Time), e.DroppedAttributeCount)
		for _, kv := range e.Attributes {
			fmt.Fprintf(&b, "  %s\n", text(kv))
		}
	}
	for _, l := range links {
		fmt.Fprintf(&b, "link %+v, dropped %d\n", l.SpanContext, l.DroppedAttributeCount)
		for _, kv := range l.Attributes {
			fmt.Fprintf(&b, "  %s\n", text(kv))
		}
	}
	return b.String()
}

// moment tells a time that a test gave from one of now.
func moment(t time.Time) string {
	switch {
	case t.IsZero():
		return "never"
	case t.Before(someTime.AddDate(1, 0, 0)):
		return t.String()
	}
	return "now"
}

// someTime is the earliest time that tests give.
var someTime = time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)

// text is an attribute with its type. Of a stack only that there is one.
func text(kv attribute.KeyValue) string {
	if v := kv.Value.AsString(); strings.HasPrefix(v, "goroutine ") && len(v) <= maxStack && strings.Contains(v, ".go:") {
		return string(kv.Key) + " is a stack"
	}
	return fmt.Sprintf("%q %d %#v", kv.Key, kv.Value.Type(), kv.Value.AsInterface())
}

// attributes are what the tests and the fuzzer choose from: each type, double keys, empty
// keys and values.
var attributes = []attribute.KeyValue{
	attribute.String("a", "first"),
	attribute.String("a", "second, and longer"),
	attribute.Int("a", 3),
	attribute.String("b", "äöü\xff€uro"),
	attribute.String("b", ""),
	attribute.Bool("http.request.method", true),
	attribute.Int64("http.route", -1),
	attribute.Float64("url.path", 2.5),
	attribute.StringSlice("url.scheme", []string{"one", "twotwo", "\xfe"}),
	attribute.BoolSlice("server.address", []bool{true, false}),
	attribute.Int64Slice("server.port", []int64{1, 2}),
	attribute.Float64Slice("c", []float64{0.5}),
	attribute.StringSlice("c", nil),
	attribute.ByteSlice("d", []byte("bytes")),
	attribute.Slice("e", attribute.StringValue("nested"), attribute.SliceValue(attribute.IntValue(1), attribute.StringValue("deeper"))),
	attribute.Slice("a", attribute.StringValue("over a plain one")),
	attribute.String("", "no key"),
	{Key: "f"},
	{},
	attribute.String("g", "7"), attribute.String("h", "8"), attribute.String("i", "9"), attribute.String("j", "10"),
}

var (
	someTraceID = trace.TraceID{1, 2, 3}
	someState   = func() trace.TraceState {
		s, err := trace.ParseTraceState("vendor=value")
		if err != nil {
			panic(err)
		}
		return s
	}()
	contexts = []trace.SpanContext{
		{},
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: someTraceID, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled, Remote: true}),
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: someTraceID, SpanID: trace.SpanID{2}, Remote: true, TraceState: someState}),
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: someTraceID, SpanID: trace.SpanID{3}, TraceFlags: 0xff, TraceState: someState}),
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: someTraceID, SpanID: trace.SpanID{4}, TraceFlags: 0x02}),
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: someTraceID}),
	}
	someLinks = []trace.Link{
		{},
		{SpanContext: contexts[1]},
		{SpanContext: contexts[3], Attributes: []attribute.KeyValue{attribute.String("a", "1"), attribute.Int("b", 2), attribute.Bool("c", true)}},
		{Attributes: []attribute.KeyValue{attribute.String("a", "of nothing")}},
		{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceState: someState})},
	}
	verdicts = []sdktrace.SamplingResult{
		{Decision: sdktrace.RecordAndSample},
		{Decision: sdktrace.RecordAndSample, Tracestate: someState, Attributes: []attribute.KeyValue{attribute.String("sampler", "yes"), attribute.Int("a", 0)}},
		{Decision: sdktrace.RecordOnly, Tracestate: someState},
		{Decision: sdktrace.Drop, Tracestate: someState, Attributes: []attribute.KeyValue{attribute.String("sampler", "no")}},
		{Decision: sdktrace.RecordAndSample, Attributes: []attribute.KeyValue{attribute.Slice("sampler", attribute.IntValue(1)), attribute.String("", "")}},
	}
	names = []string{"", "name", "GET /carts/{id}"}
)

// failure is an error that asks a span when it is asked itself.
type failure struct{ text string }

func (f *failure) Error() string { return f.text }

var failures = []error{nil, errors.New("plain"), &failure{"of the test"}, fmt.Errorf("wrapped: %w", &failure{"inner"})}

// script is a pair's life as bytes, of which each chooses something. At its end it chooses
// the first.
type script []byte

func (s *script) pick(n int) int {
	if len(*s) == 0 {
		return 0
	}
	b := (*s)[0]
	*s = (*s)[1:]
	return int(b) % n
}

func pick[T any](s *script, list ...T) T { return list[s.pick(len(list))] }

// some picks up to n of the attributes.
func (s *script) some(n int) []attribute.KeyValue {
	list := make([]attribute.KeyValue, s.pick(n+1))
	for i := range list {
		list[i] = pick(s, attributes...)
	}
	return list
}

// eventOptions picks the options of an event.
func (s *script) eventOptions() (opts []trace.EventOption) {
	for range s.pick(4) {
		opts = append(opts, pick[trace.EventOption](s,
			trace.WithAttributes(s.some(3)...), trace.WithTimestamp(someTime), trace.WithStackTrace(true), trace.WithTimestamp(time.Time{})))
	}
	return opts
}

// setting picks a setting.
func (s *script) setting() setting {
	set := setting{
		limits: sdktrace.SpanLimits{
			AttributeCountLimit: 128, AttributeValueLengthLimit: -1, EventCountLimit: 128, LinkCountLimit: 128,
			AttributePerEventCountLimit: 128, AttributePerLinkCountLimit: 128,
		},
		parent:  pick(s, contexts...),
		kind:    pick(s, trace.SpanKindServer, trace.SpanKindClient, trace.SpanKindUnspecified, trace.SpanKindInternal, trace.SpanKindProducer, trace.SpanKindConsumer, 77, -1),
		verdict: pick(s, verdicts...),
		room:    pick(s, 8, 0, 9, 16, 36),
		foreign: s.pick(2) == 1,
		noNode:  s.pick(2) == 1,
	}
	if s.pick(2) == 1 { // not the limits that most have
		set.limits = sdktrace.SpanLimits{
			AttributeCountLimit:         pick(s, 128, 0, 1, 5, -1),
			AttributeValueLengthLimit:   pick(s, -1, 0, 3, -2),
			EventCountLimit:             pick(s, 128, 0, 1, 3, -1),
			LinkCountLimit:              pick(s, 128, 0, 1, 3, -1),
			AttributePerEventCountLimit: pick(s, 128, 0, 1, -1),
			AttributePerLinkCountLimit:  pick(s, 128, 0, 1, -1),
		}
	}
	for range s.pick(4) {
		set.links = append(set.links, pick(s, someLinks...))
	}
	set.fill = s.some(20)
	return set
}

// step does one thing to both spans.
func (p *pair) step(s *script) {
	switch s.pick(12) {
	case 0:
		p.read()
	case 1, 2, 3:
		list := s.some(6)
		p.do(fmt.Sprintf("SetAttributes %v", list), func(s trace.Span) {
			given := slices.Clone(list)
			s.SetAttributes(given...)
			clear(given) // the caller's again
		})
	case 4:
		name := pick(s, names...)
		p.do("SetName "+name, func(s trace.Span) { s.SetName(name) })
	case 5:
		code, text := pick(s, codes.Ok, codes.Error, codes.Unset, 9), pick(s, "", "text", "other")
		p.do(fmt.Sprint("SetStatus ", code, text), func(s trace.Span) { s.SetStatus(code, text) })
	case 6:
		name, opts := pick(s, names...), s.eventOptions()
		p.do(fmt.Sprintf("AddEvent %q %v", name, opts), func(s trace.Span) { s.AddEvent(name, opts...) })
	case 7:
		err, opts := pick(s, failures...), s.eventOptions()
		p.do(fmt.Sprintf("RecordError %v %v", err, opts), func(s trace.Span) { s.RecordError(err, opts...) })
	case 8:
		link := pick(s, someLinks...)
		p.do(fmt.Sprintf("AddLink %v", link), func(s trace.Span) { s.AddLink(link) })
	case 9:
		opts := s.endOptions()
		p.do(fmt.Sprintf("End %v", opts), func(s trace.Span) { s.End(opts...) })
	case 10:
		opts, v := s.endOptions(), pick[any](s, "text", errors.New("plain"), &failure{"of the test"}, 7, struct{ X int }{1}, []int{1})
		p.do(fmt.Sprintf("End %v panicking %v", opts, v), func(s trace.Span) {
			defer func() {
				if got := recover(); fmt.Sprint(got) != fmt.Sprint(v) {
					p.t.Fatalf("End lets the panic %v go on, want %v", got, v)
				}
			}()
			defer s.End(opts...)
			panic(v)
		})
	case 11:
		if s.pick(2) == 0 {
			p.steps = append(p.steps, "RegisterSpanProcessor")
			p.source.Register(p.ours.processor)
			p.provider.RegisterSpanProcessor(p.theirs.processor)
		} else if p.steps = append(p.steps, "UnregisterSpanProcessor"); p.source.Unregister(p.ours.processor) {
			p.provider.UnregisterSpanProcessor(p.theirs.processor)
		}
	}
}

// endOptions picks the options of End.
func (s *script) endOptions() (opts []trace.SpanEndOption) {
	for range s.pick(3) {
		opts = append(opts, pick[trace.SpanEndOption](s,
			trace.WithTimestamp(someTime), trace.WithStackTrace(true), trace.WithTimestamp(time.Time{}), trace.WithStackTrace(false)))
	}
	return opts
}

// live lets a pair live what s says.
func live(t testing.TB, s script) {
	p := newPair(t, s.setting())
	p.read()
	for range 64 {
		if len(s) == 0 {
			break
		}
		p.step(&s)
	}
	p.read()
	p.do("End", func(s trace.Span) { s.End() })
	p.do("End again", func(s trace.Span) { s.End(trace.WithTimestamp(someTime)) })
	p.compare()
}
