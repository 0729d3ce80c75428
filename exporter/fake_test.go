package exporter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otelenv"
	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

var testResource = resource.NewSchemaless(attribute.String("service.name", "test"))

// makeSpan returns the finished span with number n. The same number makes the same ids.
func makeSpan(n int, kv ...attribute.KeyValue) sdktrace.ReadOnlySpan {
	start := time.Unix(1_700_000_000, 0)
	return tracetest.SpanStub{
		Name:                 "span",
		SpanContext:          spanContext(n),
		StartTime:            start,
		EndTime:              start.Add(time.Millisecond),
		Attributes:           kv,
		Resource:             testResource,
		InstrumentationScope: instrumentation.Scope{Name: "test"},
	}.Snapshot()
}

// spanContext is that of span n.
func spanContext(n int) trace.SpanContext {
	var tid trace.TraceID
	var sid trace.SpanID
	binary.BigEndian.PutUint64(tid[:], uint64(n)+1)
	binary.BigEndian.PutUint64(sid[:], uint64(n)+1)
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: tid, SpanID: sid, TraceFlags: trace.FlagsSampled})
}

// end ends the spans from up to to.
func end(e *Exporter, from, to int, kv ...attribute.KeyValue) {
	for n := from; n < to; n++ {
		e.OnEnd(makeSpan(n, kv...))
	}
}

func padding(n int) attribute.KeyValue { return attribute.String("padding", strings.Repeat("x", n)) }

// call is a request that a fakeSender saw.
type call struct {
	at    time.Duration // since the fake was made
	spans int
	bytes int
	first int // number of the first span
}

// fakeSender is a collector in memory with a ledger. answer says what becomes of call
// number n, counted from 0; nil accepts.
type fakeSender struct {
	answer func(n int, c call) (rejected int, err error)
	hold   func(ctx context.Context, n int) // before the answer

	mu        sync.Mutex
	start     time.Time
	calls     []call
	seen      map[trace.SpanID]int // accepted spans, how often
	rejected  int
	now, most int // at once
	closed    int
}

func newFake(answer func(n int, c call) (int, error)) *fakeSender {
	return &fakeSender{answer: answer, start: time.Now(), seen: make(map[trace.SpanID]int)}
}

func (f *fakeSender) Send(ctx context.Context, request []byte, spans int) (int, error) {
	decoded, err := otlpwire.Decode(request)
	if err != nil {
		panic(err)
	}
	if len(decoded) != spans {
		panic(fmt.Sprintf("%d spans announced, %d in the request", spans, len(decoded)))
	}
	c := call{at: time.Since(f.start), spans: spans, bytes: len(request), first: int(binary.BigEndian.Uint64(decoded[0].SpanID[:])) - 1}
	f.mu.Lock()
	n := len(f.calls)
	f.calls = append(f.calls, c)
	f.now++
	f.most = max(f.most, f.now)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.now--
		f.mu.Unlock()
	}()
	if f.hold != nil {
		f.hold(ctx, n)
	}
	rejected := 0
	if f.answer != nil {
		rejected, err = f.answer(n, c)
	}
	var se *SendError
	if err == nil || errors.As(err, &se) && se.Code == CodePartialSuccess {
		f.mu.Lock()
		for _, s := range decoded[rejected:] {
			f.seen[s.SpanID]++
		}
		f.rejected += rejected
		f.mu.Unlock()
	}
	return rejected, err
}

func (f *fakeSender) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed++
	return nil
}

func (f *fakeSender) all() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]call(nil), f.calls...)
}

func (f *fakeSender) unique() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return uint64(len(f.seen))
}

// lines is a slog.Handler that keeps messages.
type lines struct {
	mu   sync.Mutex
	list []string
	at   []time.Duration
	from time.Time

	introductions []string // lines that say where spans go: not among list
}

func newLines() *lines { return &lines{from: time.Now()} }

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.HasPrefix(r.Message, "exporter: spans go to ") {
		l.introductions = append(l.introductions, r.Message)
		return nil
	}
	l.list = append(l.list, r.Message)
	l.at = append(l.at, time.Since(l.from))
	return nil
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.list...)
}

func (l *lines) containing(s string) []string {
	var out []string
	for _, line := range l.all() {
		if strings.Contains(line, s) {
			out = append(out, line)
		}
	}
	return out
}

// start makes an Exporter over cfg that is shut down, and whose accounts are checked,
// at the end of the test.
func start(t *testing.T, cfg Config) *Exporter {
	t.Helper()
	if cfg.Getenv == nil {
		cfg.Getenv = noEnv
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(newLines())
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { settle(t, e) })
	return e
}

// settle shuts e down, in no time unless that was done, and checks its accounts.
func settle(t *testing.T, e *Exporter) Stats {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.Shutdown(ctx); err != nil && !errors.As(err, new(*LossError)) {
		t.Errorf("Shutdown: %v", err)
	}
	return checkAccounts(t, e, Kept{})
}

// checkAccounts checks the invariant and, where a fakeSender has a ledger, that the
// accounts agree with it.
func checkAccounts(t *testing.T, e *Exporter, kept Kept) Stats {
	t.Helper()
	st := e.Stats()
	if !st.Balanced() {
		t.Errorf("the accounts are not balanced: %+v", st)
	}
	if st.Kept != kept {
		t.Errorf("kept %+v, want %+v", st.Kept, kept)
	}
	if f, ok := e.sender.(*fakeSender); ok {
		f.mu.Lock()
		defer f.mu.Unlock()
		var twice int
		for _, n := range f.seen {
			twice += n - 1
		}
		if st.Delivered != uint64(len(f.seen)) && st.Dropped[DropShutdown] == 0 {
			t.Errorf("delivered %d, the ledger has %d (and %d twice)", st.Delivered, len(f.seen), twice)
		}
		if st.Rejected[CodePartialSuccess] != uint64(f.rejected) {
			t.Errorf("rejected by partial success %d, the ledger has %d", st.Rejected[CodePartialSuccess], f.rejected)
		}
	}
	for _, l := range logged(e) {
		if len(l) > maxLine || strings.ContainsAny(l, "\n\r\x00\x1b") {
			t.Errorf("line of %d bytes: %q", len(l), l)
		}
	}
	return st
}

func logged(e *Exporter) []string {
	if l, ok := e.log.logger.Handler().(*lines); ok {
		return l.all()
	}
	return nil
}

// env returns a Getenv over pairs of name and value.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// peak returns how many requests were under way at once since the last call.
func (f *fakeSender) peak() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.most
	f.most = f.now
	return n
}

var discardLog = slog.New(slog.DiscardHandler)

func otelReader() *otelenv.Reader { return otelenv.New(noEnv) }

func otelenvOf(pairs ...string) *otelenv.Reader { return otelenv.New(env(pairs...)) }
