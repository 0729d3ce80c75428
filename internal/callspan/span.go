package callspan

import (
	"fmt"
	"reflect"
	"runtime"
	rtrace "runtime/trace"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/semconv"
)

// Span is the recording span of a call. It may be used concurrently once Source.Start has
// returned; it is not copied.
//
// What it keeps by itself is name, status and attributes of plain values. Events, links,
// nested values and what is over a limit are the SDK's business: the first of them makes a
// span of the SDK's that this one hands them to, and reads them from.
type Span struct {
	sdktrace.ReadWriteSpan // Source.ended

	source *Source
	sc     trace.SpanContext
	start  time.Time

	// In this order there is no hole between them, see TestRoom.

	over        atomic.Bool // ended, or never recording; written under mu
	kind        uint8       // a trace.SpanKind, and whether the parent is remote
	parentFlags trace.TraceFlags
	twice       bool  // attrs may have a key twice
	code        uint8 // of the status
	mu          sync.Mutex

	// Until the end for twice, code and what is below.

	parentID    trace.SpanID // in sc's trace; zero: no parent, or extra has it
	keys        uint64       // a bit for the hash of each key in attrs
	name        string
	took        time.Duration        // by the monotonic clock
	description string               // of the status
	attrs       []attribute.KeyValue // nil: extra.span has them
	extra       *extra               // what few spans have; nil: nothing
}

// remoteParent is the bit of Span.kind that says so.
const remoteParent = 1 << 7

// extra is what few spans have.
type extra struct {
	parent trace.SpanContext      // one that Span cannot say; zero: there is none
	end    time.Time              // as it was given; zero: it was not
	task   *rtrace.Task           // of runtime/trace
	span   sdktrace.ReadWriteSpan // the SDK's, with what Span does not keep; nil: nothing
}

// newSpan returns a span with room for n attributes or a few more, by the size classes of
// the runtime. Those that find no room cost an allocation.
func newSpan(n int) *Span {
	switch {
	case n <= 5:
		s := new(struct {
			Span
			room [5]attribute.KeyValue
		})
		return s.of(s.room[:0])
	case n <= 7:
		s := new(struct {
			Span
			room [7]attribute.KeyValue
		})
		return s.of(s.room[:0])
	case n <= 10:
		s := new(struct {
			Span
			room [10]attribute.KeyValue
		})
		return s.of(s.room[:0])
	case n <= 16:
		s := new(struct {
			Span
			room [16]attribute.KeyValue
		})
		return s.of(s.room[:0])
	}
	s := new(struct {
		Span
		room [38]attribute.KeyValue
	})
	return s.of(s.room[:0])
}

func (s *Span) of(room []attribute.KeyValue) *Span {
	s.attrs = room
	return s
}

var _ sdktrace.ReadWriteSpan = (*Span)(nil)

// lock locks s, and tells whether it records; when it does not, s is not locked.
func (s *Span) lock() bool {
	s.mu.Lock()
	if s.over.Load() {
		s.mu.Unlock()
		return false
	}
	return true
}

// more returns what s has of the uncommon. s is locked.
func (s *Span) more() *extra {
	if s.extra == nil {
		s.extra = new(extra)
	}
	return s.extra
}

// rest returns the SDK's span of s, which is locked.
func (s *Span) rest() sdktrace.ReadWriteSpan {
	e := s.more()
	if e.span == nil {
		e.span = s.source.uncommon()
	}
	return e.span
}

// IsRecording tells whether s has not ended.
func (s *Span) IsRecording() bool { return !s.over.Load() }

// SpanContext returns the ids of s.
func (s *Span) SpanContext() trace.SpanContext { return s.sc }

// TracerProvider returns Config.Provider.
func (s *Span) TracerProvider() trace.TracerProvider { return s.source.Provider }

// SetName renames s.
func (s *Span) SetName(name string) {
	if !s.lock() {
		return
	}
	defer s.mu.Unlock()
	s.name = name
}

// SetStatus sets the status unless a higher one is set: Ok stands above Error, Error above
// Unset. Only an Error has a description.
func (s *Span) SetStatus(code codes.Code, description string) {
	if !s.lock() {
		return
	}
	defer s.mu.Unlock()
	if codes.Code(s.code) > code {
		return
	}
	s.code, s.description = uint8(code), ""
	if code == codes.Error {
		s.description = description
	}
}

// SetAttributes sets attributes; the last value of a key counts. It keeps nothing of kvs.
func (s *Span) SetAttributes(kvs ...attribute.KeyValue) {
	if len(kvs) == 0 || !s.lock() {
		return
	}
	defer s.mu.Unlock()
	if s.attrs != nil && (len(s.attrs)+len(kvs) > s.source.count || !s.source.plain(kvs)) {
		s.rest().SetAttributes(s.attrs...)
		s.attrs, s.twice = nil, false
	}
	if s.attrs == nil {
		s.extra.span.SetAttributes(slices.Clone(kvs)...) // so that kvs may be on the caller's stack
		return
	}
	n := len(s.attrs)
	s.attrs = append(s.attrs, kvs...)
	s.look(n)
}

// Room returns the empty end of the list that s has room for, between Prepare and Start.
// Whoever fills it gives it to Fill.
func (s *Span) Room() []attribute.KeyValue { return s.attrs[len(s.attrs):] }

// Fill is SetAttributes of kvs, which may be what Room returned with more behind it: then they
// are the span's from now on, and are not copied.
func (s *Span) Fill(kvs []attribute.KeyValue) {
	n := len(s.attrs)
	if s.over.Load() || s.attrs == nil || len(kvs) == 0 || n == cap(s.attrs) || &kvs[0] != &s.attrs[:n+1][n] ||
		n+len(kvs) > s.source.count || !s.source.plain(kvs) {
		s.SetAttributes(kvs...)
		return
	}
	s.attrs = s.attrs[:n+len(kvs)]
	s.look(n)
}

// look looks for keys of attrs from n on that were there before. s is locked.
func (s *Span) look(n int) {
	for i := n; i < len(s.attrs); i++ {
		k := s.attrs[i].Key
		bit := hash(k)
		if s.keys&bit != 0 && !s.twice {
			s.twice = slices.ContainsFunc(s.attrs[:i], func(e attribute.KeyValue) bool { return e.Key == k })
		}
		s.keys |= bit
	}
}

// plain tells whether kvs are valid and of values that the SDK takes as they are.
func (f *Source) plain(kvs []attribute.KeyValue) bool {
	for i := range kvs {
		if !kvs[i].Valid() || kvs[i].Value.Type() > attribute.STRINGSLICE {
			return false
		}
	}
	limit := f.Limits.AttributeValueLengthLimit
	return limit < 0 || !slices.ContainsFunc(kvs, func(kv attribute.KeyValue) bool { return longer(kv.Value, limit) })
}

// longer tells whether a plain value may be longer than limit, which the SDK counts in
// characters where there are more bytes.
func longer(v attribute.Value, limit int) bool {
	switch v.Type() {
	case attribute.STRING:
		return len(v.AsString()) > limit
	case attribute.STRINGSLICE:
		return slices.ContainsFunc(v.AsStringSlice(), func(s string) bool { return len(s) > limit })
	}
	return false
}

// hash returns one bit for a key. Keys of one name space differ in length and at the end.
func hash(k attribute.Key) uint64 {
	n := len(k)
	return 1 << ((uint(n)*5 + uint(k[n-1])*3 + uint(k[n/2])) & 63)
}

// unique lets each key stand where it stood first, with its last value. s is locked.
func (s *Span) unique() {
	if !s.twice {
		return
	}
	list := make([]attribute.KeyValue, 0, len(s.attrs)) // who read the old one keeps it
	for _, kv := range s.attrs {
		if i := slices.IndexFunc(list, func(e attribute.KeyValue) bool { return e.Key == kv.Key }); i >= 0 {
			list[i] = kv
		} else {
			list = append(list, kv)
		}
	}
	s.attrs, s.twice = list, false
}

// AddEvent adds an event.
func (s *Span) AddEvent(name string, opts ...trace.EventOption) {
	if !s.lock() {
		return
	}
	defer s.mu.Unlock()
	s.rest().AddEvent(name, opts...)
}

// RecordError adds the event of an error; nil is none. The error is asked for its message
// while s is not locked, since it may ask s in turn.
func (s *Span) RecordError(err error, opts ...trace.EventOption) {
	if err == nil || !s.IsRecording() {
		return
	}
	cfg := trace.NewEventConfig(opts...)
	s.exception(err, err.Error(), cfg.StackTrace(), opts)
}

// exception adds the event of an error or a panic, which its attributes end.
func (s *Span) exception(v any, message string, stack bool, opts []trace.EventOption) {
	kvs := append(make([]attribute.KeyValue, 0, 3),
		semconv.ExceptionType.String(typeName(v)), semconv.ExceptionMessage.String(message))
	if stack {
		text := make([]byte, maxStack)
		kvs = append(kvs, semconv.ExceptionStacktrace.String(string(text[:runtime.Stack(text, false)])))
	}
	s.AddEvent(semconv.ExceptionEvent, append(slices.Clip(opts), trace.WithAttributes(kvs...))...)
}

// maxStack bounds exception.stacktrace in bytes, as the SDK does.
const maxStack = 2048

// typeName is exception.type, as the SDK has it.
func typeName(v any) string {
	t := reflect.TypeOf(v)
	if t.PkgPath() == "" && t.Name() == "" {
		return t.String()
	}
	return t.PkgPath() + "." + t.Name()
}

// AddLink adds a link.
func (s *Span) AddLink(l trace.Link) {
	if !s.lock() {
		return
	}
	defer s.mu.Unlock()
	s.rest().AddLink(l)
}

// End ends s and tells the processors. Only the first call does anything. Called while
// panicking, by defer, it records the panic and lets it go on.
func (s *Span) End(opts ...trace.SpanEndOption) {
	took := time.Since(s.start)
	var cfg trace.SpanConfig
	if len(opts) > 0 {
		cfg = trace.NewSpanEndConfig(opts...)
	}
	if !s.lock() {
		return
	}
	if v := recover(); v != nil {
		defer panic(v)
		s.mu.Unlock() // what is thrown may ask s while it is printed
		s.exception(v, fmt.Sprint(v), cfg.StackTrace(), nil)
		if !s.lock() {
			return
		}
	}
	s.took = took
	if t := cfg.Timestamp(); !t.IsZero() {
		s.more().end = t
	}
	s.settle()
	var task *rtrace.Task
	if e := s.extra; e != nil {
		task, e.task = e.task, nil
	}
	s.over.Store(true) // the last: who sees it reads the rest without the lock
	s.mu.Unlock()
	if task != nil {
		task.End()
	}
	for _, p := range s.source.hearers() {
		p.OnEnd(s)
	}
}

// settle makes the attributes of s, which ends, what they stay, and ends the SDK's span
// that s may have. s is locked.
func (s *Span) settle() {
	s.unique()
	if s.extra == nil || s.extra.span == nil {
		return
	}
	s.extra.span.End()
	if s.attrs == nil { // it would go over its list at each question
		s.attrs = s.extra.span.Attributes()
	}
}

// Name returns the name of s.
func (s *Span) Name() string {
	if !s.over.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	return s.name
}

// Parent returns the ids of the span above s.
func (s *Span) Parent() trace.SpanContext {
	if s.parentID.IsValid() {
		return trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: s.sc.TraceID(), SpanID: s.parentID, TraceFlags: s.parentFlags, Remote: s.kind&remoteParent != 0,
		})
	}
	if !s.over.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	if s.extra == nil {
		return trace.SpanContext{}
	}
	return s.extra.parent
}

// setParent notes the span above s, before s is shared.
func (s *Span) setParent(sc trace.SpanContext) {
	switch {
	case sc.IsValid() && sc.TraceState().Len() == 0:
		s.parentID, s.parentFlags = sc.SpanID(), sc.TraceFlags()
		if sc.IsRemote() {
			s.kind |= remoteParent
		}
	case !sc.Equal(trace.SpanContext{}):
		s.more().parent = sc
	}
}

// SpanKind returns the kind of s.
func (s *Span) SpanKind() trace.SpanKind { return trace.SpanKind(s.kind &^ remoteParent) }

// StartTime returns when s began.
func (s *Span) StartTime() time.Time { return s.start }

// EndTime returns when s ended; zero until then.
func (s *Span) EndTime() time.Time {
	switch {
	case !s.over.Load():
		return time.Time{}
	case s.extra != nil && !s.extra.end.IsZero():
		return s.extra.end
	}
	return s.start.Add(s.took)
}

// Attributes returns the attributes of s, each key once. Nobody may change them.
func (s *Span) Attributes() []attribute.KeyValue {
	if s.over.Load() {
		return s.attrs[:len(s.attrs):len(s.attrs)]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attrs == nil && s.extra != nil && s.extra.span != nil { // which goes on writing to its list
		return slices.Clone(s.extra.span.Attributes())
	}
	s.unique()
	return s.attrs[:len(s.attrs):len(s.attrs)]
}

// Links returns the links of s.
func (s *Span) Links() []sdktrace.Link {
	if u := s.other(); u != nil {
		return u.Links()
	}
	return nil
}

// Events returns the events of s.
func (s *Span) Events() []sdktrace.Event {
	if u := s.other(); u != nil {
		return u.Events()
	}
	return nil
}

// DroppedAttributes returns how many attributes were over the limit.
func (s *Span) DroppedAttributes() int {
	if u := s.other(); u != nil {
		return u.DroppedAttributes()
	}
	return 0
}

// DroppedLinks returns how many links were over the limit.
func (s *Span) DroppedLinks() int {
	if u := s.other(); u != nil {
		return u.DroppedLinks()
	}
	return 0
}

// DroppedEvents returns how many events were over the limit.
func (s *Span) DroppedEvents() int {
	if u := s.other(); u != nil {
		return u.DroppedEvents()
	}
	return 0
}

// other returns the SDK's span of s; nil: there is none.
func (s *Span) other() sdktrace.ReadWriteSpan {
	if !s.over.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	if s.extra == nil {
		return nil
	}
	return s.extra.span
}

// Status returns the status of s.
func (s *Span) Status() sdktrace.Status {
	if !s.over.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	return sdktrace.Status{Code: codes.Code(s.code), Description: s.description}
}

// InstrumentationScope returns Config.Scope.
func (s *Span) InstrumentationScope() instrumentation.Scope { return s.source.Scope }

// InstrumentationLibrary returns Config.Scope, by the name that the interface also has.
func (s *Span) InstrumentationLibrary() instrumentation.Scope { return s.source.Scope }

// Resource returns Config.Resource, with what the SDK adds of the process's environment.
func (s *Span) Resource() *resource.Resource { return s.source.Resource }

// ChildSpanCount returns 0: the SDK counts the children of its own spans alone.
func (s *Span) ChildSpanCount() int { return 0 }
