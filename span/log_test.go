package span

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/requestid"
)

const (
	traceHex  = "0af7651916cd43dd8448eb211c80319c"
	spanHex   = "b7ad6b7169203331"
	requestID = "7a3c4e9d-5d43-4b5e-8c11-2f1e60a86d2b"
)

func spanContext(t testing.TB) trace.SpanContext {
	t.Helper()
	traceID, err := trace.TraceIDFromHex(traceHex)
	if err != nil {
		t.Fatal(err)
	}
	spanID, err := trace.SpanIDFromHex(spanHex)
	if err != nil {
		t.Fatal(err)
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID})
}

// request is the context inside a request: span and request id.
func request(t testing.TB) context.Context {
	t.Helper()
	return trace.ContextWithSpanContext(&reqctx.State{Context: t.Context(), RequestID: requestID}, spanContext(t))
}

// withContext gives every record a context, since slogtest logs without one.
type withContext struct {
	slog.Handler
	ctx context.Context
}

func (h withContext) Handle(_ context.Context, r slog.Record) error {
	return h.Handler.Handle(h.ctx, r)
}
func (h withContext) WithAttrs(a []slog.Attr) slog.Handler {
	return withContext{h.Handler.WithAttrs(a), h.ctx}
}
func (h withContext) WithGroup(n string) slog.Handler {
	return withContext{h.Handler.WithGroup(n), h.ctx}
}

// TestSlogtest runs the standard library's test of handlers, without and with ids,
// and in the second case asks for the ids of every line beside.
func TestSlogtest(t *testing.T) {
	for name, ctx := range map[string]context.Context{"without ids": t.Context(), "with ids": request(t)} {
		t.Run(name, func(t *testing.T) {
			var buf bytes.Buffer
			slogtest.Run(t, func(*testing.T) slog.Handler {
				buf.Reset()
				return withContext{LogHandler(slog.NewJSONHandler(&buf, nil)), ctx}
			}, func(t *testing.T) map[string]any {
				var line map[string]any
				if err := json.Unmarshal(buf.Bytes(), &line); err != nil {
					t.Fatalf("%v in %s", err, &buf)
				}
				if trace.SpanContextFromContext(ctx).IsValid() {
					wantIDs(t, buf.String(), line)
				}
				return line
			})
		})
	}
}

func wantIDs(t *testing.T, text string, line map[string]any) {
	t.Helper()
	for key, want := range map[string]string{"trace_id": traceHex, "span_id": spanHex, "request_id": requestID} {
		if got := line[key]; got != want {
			t.Errorf("%s = %v, want %s at the top level: %s", key, got, want, text)
		}
		if n := strings.Count(text, `"`+key+`"`); n != 1 {
			t.Errorf("%s stands %d times, want once: %s", key, n, text)
		}
	}
}

func TestLogHandler(t *testing.T) {
	const ids = ` trace_id=` + traceHex + ` span_id=` + spanHex + ` request_id=` + requestID
	in := request(t)
	for _, tt := range []struct {
		name string
		ctx  context.Context
		log  func(context.Context, *slog.Logger)
		want string
	}{
		{"ids come last", in, func(ctx context.Context, l *slog.Logger) { l.InfoContext(ctx, "m", "a", 1) },
			"msg=m a=1" + ids},
		{"many attributes", in, func(ctx context.Context, l *slog.Logger) {
			l.InfoContext(ctx, "m", "a", 1, "b", 2, "c", 3, "d", 4, "e", 5, "f", 6, "g", 7)
		}, "msg=m a=1 b=2 c=3 d=4 e=5 f=6 g=7" + ids},
		{"no context", in, func(_ context.Context, l *slog.Logger) { l.Info("m", "a", 1) },
			"msg=m a=1"},
		{"span alone", trace.ContextWithSpanContext(t.Context(), spanContext(t)),
			func(ctx context.Context, l *slog.Logger) { l.InfoContext(ctx, "m") },
			"msg=m trace_id=" + traceHex + " span_id=" + spanHex},
		{"request alone", &reqctx.State{Context: t.Context(), RequestID: requestID},
			func(ctx context.Context, l *slog.Logger) { l.InfoContext(ctx, "m") },
			"msg=m request_id=" + requestID},
		{"With", in, func(ctx context.Context, l *slog.Logger) { l.With("w", 1).InfoContext(ctx, "m", "a", 1) },
			"msg=m w=1 a=1" + ids},
		{"group", in, func(ctx context.Context, l *slog.Logger) { l.WithGroup("g").InfoContext(ctx, "m", "a", 1) },
			"msg=m g.a=1" + ids},
		{"groups and attributes between", in, func(ctx context.Context, l *slog.Logger) {
			l.With("t", 0).WithGroup("g").With("w", 1).With("x", 2).WithGroup("h").With("y", 3).InfoContext(ctx, "m", "a", 1)
		}, "msg=m t=0 g.w=1 g.x=2 g.h.y=3 g.h.a=1" + ids},
		{"group without attributes", in, func(ctx context.Context, l *slog.Logger) {
			l.WithGroup("g").With("w", 1).WithGroup("h").InfoContext(ctx, "m")
		}, "msg=m g.w=1" + ids},
		{"group, no context", in, func(_ context.Context, l *slog.Logger) {
			l.WithGroup("g").With("w", 1).WithGroup("h").Info("m", "a", 1)
		}, "msg=m g.w=1 g.h.a=1"},
		{"the program's own", in, func(ctx context.Context, l *slog.Logger) {
			l.With("request_id", "mine").InfoContext(ctx, "m", "trace_id", "too")
		}, "msg=m request_id=mine trace_id=too span_id=" + spanHex},
		{"the program's own, all", in, func(ctx context.Context, l *slog.Logger) {
			l.InfoContext(ctx, "m", "request_id", 1, "trace_id", 2, "span_id", 3)
		}, "msg=m request_id=1 trace_id=2 span_id=3"},
		{"the program's own, in a group", in, func(ctx context.Context, l *slog.Logger) {
			l.WithGroup("g").With("trace_id", 1).InfoContext(ctx, "m", "span_id", 2)
		}, "msg=m g.trace_id=1 g.span_id=2" + ids},
		{"nothing to add to a logger", in, func(ctx context.Context, l *slog.Logger) {
			l.With().WithGroup("").InfoContext(ctx, "m")
		}, "msg=m" + ids},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, wrap := range []struct {
				name string
				f    func(slog.Handler) slog.Handler
			}{
				{"once", LogHandler},
				{"twice", func(h slog.Handler) slog.Handler { return LogHandler(LogHandler(h)) }},
				{"with one between", func(h slog.Handler) slog.Handler { return LogHandler(passThrough{LogHandler(h)}) }},
			} {
				var buf strings.Builder
				l := slog.New(wrap.f(slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: noTime})))
				tt.log(tt.ctx, l)
				if got := strings.TrimPrefix(strings.TrimSpace(buf.String()), "level=INFO "); got != tt.want {
					t.Errorf("wrapped %s:\n got %s\nwant %s", wrap.name, got, tt.want)
				}
			}
		})
	}
}

type passThrough struct{ slog.Handler }

func (h passThrough) WithAttrs(a []slog.Attr) slog.Handler {
	return passThrough{h.Handler.WithAttrs(a)}
}
func (h passThrough) WithGroup(n string) slog.Handler { return passThrough{h.Handler.WithGroup(n)} }

func noTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// TestLogHandlerTravellingID: the line has the digit that travels, once it is decided.
func TestLogHandlerTravellingID(t *testing.T) {
	s := &reqctx.State{Context: t.Context(), RequestID: requestID}
	s.SetDecision(reqctx.Decision{Traced: true, Write: true, Reason: uint8(requestid.Sampling)})
	var buf strings.Builder
	slog.New(LogHandler(slog.NewTextHandler(&buf, nil))).InfoContext(s, "m")
	want := "request_id=" + string(requestid.ID(requestID).WithReason(requestid.Sampling))
	if got := buf.String(); !strings.Contains(got, want) || strings.Contains(got, requestID) {
		t.Errorf("line = %s, want %s", got, want)
	}
}

// TestLogHandlerShares: loggers made from one another do not write into each
// other's lists.
func TestLogHandlerShares(t *testing.T) {
	var buf syncBuffer
	base := slog.New(LogHandler(slog.NewTextHandler(&buf, nil))).WithGroup("g").With("a", 0).With("b", 0)
	ctx := request(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			l := base.With("i", i).WithGroup(fmt.Sprintf("h%d", i))
			for range 100 {
				l.InfoContext(ctx, "m", "j", i)
			}
		})
	}
	wg.Wait()
	for line := range strings.Lines(buf.String()) {
		var i int
		_, rest, _ := strings.Cut(line, "g.i=")
		if _, err := fmt.Sscanf(rest, "%d", &i); err != nil || !strings.Contains(line, fmt.Sprintf("g.h%d.j=%d trace_id=", i, i)) {
			t.Fatalf("line mixes two loggers: %s", line)
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex
	strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Builder.Write(p)
}

func TestLogHandlerEnabled(t *testing.T) {
	h := LogHandler(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn})).WithGroup("g")
	if h.Enabled(t.Context(), slog.LevelInfo) || !h.Enabled(t.Context(), slog.LevelWarn) {
		t.Error("Enabled does not answer as the handler below")
	}
}

func TestLogHandlerNil(t *testing.T) {
	defer func() {
		if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "LogHandler(nil)") {
			t.Errorf("LogHandler(nil) = %v, want a panic that says so", v)
		}
	}()
	LogHandler(nil)
}

// keep is a handler that costs nothing by itself.
type keep struct{}

func (keep) Enabled(context.Context, slog.Level) bool  { return true }
func (keep) Handle(context.Context, slog.Record) error { return nil }
func (keep) WithAttrs([]slog.Attr) slog.Handler        { return keep{} }
func (keep) WithGroup(string) slog.Handler             { return keep{} }

func TestLogHandlerAllocations(t *testing.T) {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "m", 0)
	r.AddAttrs(slog.Int("a", 1), slog.Int("b", 2))
	for _, tt := range []struct {
		name string
		h    slog.Handler
		ctx  context.Context
		want float64
	}{
		{"no ids", LogHandler(keep{}), t.Context(), 0},
		{"no ids, in a group", LogHandler(keep{}).WithGroup("g").WithAttrs([]slog.Attr{slog.Int("w", 1)}), t.Context(), 0},
		{"request id alone", LogHandler(keep{}), &reqctx.State{Context: t.Context(), RequestID: requestID}, 0},
		{"ids", LogHandler(keep{}), request(t), 1}, // the text of trace_id and span_id
	} {
		if n := testing.AllocsPerRun(100, func() { tt.h.Handle(tt.ctx, r) }); n != tt.want {
			t.Errorf("%s: Handle allocates %v times, want %v", tt.name, n, tt.want)
		}
	}
}

func BenchmarkLogHandler(b *testing.B) {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "m", 0)
	r.AddAttrs(slog.Int("a", 1), slog.Int("b", 2))
	for _, bb := range []struct {
		name string
		h    slog.Handler
		ctx  context.Context
	}{
		{"no ids", LogHandler(keep{}), b.Context()},
		{"ids", LogHandler(keep{}), request(b)},
		{"ids in a group", LogHandler(keep{}).WithGroup("g"), request(b)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bb.h.Handle(bb.ctx, r)
			}
		})
	}
}
