package span

import (
	"context"
	"encoding/hex"
	"log/slog"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/requestid"
)

// The attributes that LogHandler adds.
const (
	traceIDKey   = "trace_id"
	spanIDKey    = "span_id"
	requestIDKey = "request_id"
)

// LogHandler returns a handler that joins log lines to their trace: it passes each
// record on to next with
//
//	trace_id     the trace of the span in the record's context, 32 hex digits
//	span_id      that span, 16 hex digits
//	request_id   the x-request-id as it travels, reason digit included, so that the
//	             line joins with the proxy's access log
//
// as far as the context has them, always at the top level, also below WithGroup,
// and after the record's own attributes. An attribute of one of these names that the
// program wrote at the top level stays, and ours is left out; so a line never has two.
// Lines logged without a context (Info instead of InfoContext) have none of the three.
//
// It is as safe for concurrent use as next. A line outside any span and request costs
// no allocation. LogHandler panics when next is nil.
func LogHandler(next slog.Handler) slog.Handler {
	if next == nil {
		panic("span: LogHandler(nil): give the handler that writes the lines")
	}
	if h, ok := next.(*logHandler); ok {
		return h
	}
	return &logHandler{plain: next, top: next}
}

// logHandler keeps what next would be in two states: plain has every group and
// attribute, for lines that get no ids; top has only what came before the first
// group, so that ids can stand beside it, and groups has the rest.
type logHandler struct {
	plain  slog.Handler
	top    slog.Handler
	groups []logGroup
	taken  ids // written at the top level by the program
}

// logGroup is a group opened by WithGroup, with the attributes that followed.
type logGroup struct {
	name  string
	attrs []slog.Attr
}

// ids is a set of the three attributes.
type ids uint8

const (
	hasTraceID ids = 1 << iota
	hasSpanID
	hasRequestID
)

func idOf(key string) ids {
	switch key {
	case traceIDKey:
		return hasTraceID
	case spanIDKey:
		return hasSpanID
	case requestIDKey:
		return hasRequestID
	}
	return 0
}

// Enabled asks next.
func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.plain.Enabled(ctx, level)
}

// WithAttrs returns a handler whose lines have attrs in the innermost group.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	h2 := *h
	h2.plain = h.plain.WithAttrs(attrs)
	if n := len(h.groups); n > 0 {
		inner := h.groups[n-1]
		inner.attrs = append(inner.attrs[:len(inner.attrs):len(inner.attrs)], attrs...)
		h2.groups = append(h.groups[:n-1:n-1], inner)
		return &h2
	}
	h2.top = h2.plain
	for _, a := range attrs {
		h2.taken |= idOf(a.Key)
	}
	return &h2
}

// WithGroup returns a handler whose further attributes stand in the group name.
func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	h2 := *h
	h2.plain = h.plain.WithGroup(name)
	h2.groups = append(h.groups[:len(h.groups):len(h.groups)], logGroup{name: name})
	return &h2
}

// Handle passes r on with the ids of ctx.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	sc := trace.SpanContextFromContext(ctx)
	id := requestid.FromContext(ctx)
	taken := h.taken
	if len(h.groups) == 0 && (sc.IsValid() || id != "") {
		r.Attrs(func(a slog.Attr) bool {
			taken |= idOf(a.Key)
			return true
		})
	}
	var buf [3]slog.Attr
	attrs := buf[:0]
	if sc.IsValid() && taken&(hasTraceID|hasSpanID) != hasTraceID|hasSpanID {
		traceID, spanID := hexIDs(sc)
		if taken&hasTraceID == 0 {
			attrs = append(attrs, slog.String(traceIDKey, traceID))
		}
		if taken&hasSpanID == 0 {
			attrs = append(attrs, slog.String(spanIDKey, spanID))
		}
	}
	if id != "" && taken&hasRequestID == 0 {
		attrs = append(attrs, slog.String(requestIDKey, string(id)))
	}
	switch {
	case len(attrs) == 0:
		return h.plain.Handle(ctx, r)
	case len(h.groups) == 0:
		r = r.Clone()
	default:
		r = h.ungroup(r)
	}
	r.AddAttrs(attrs...)
	return h.top.Handle(ctx, r)
}

// ungroup returns r with its attributes in their groups, as one attribute of the top
// level.
func (h *logHandler) ungroup(r slog.Record) slog.Record {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	n := len(h.groups) - 1
	attrs := make([]slog.Attr, 0, len(h.groups[n].attrs)+r.NumAttrs())
	attrs = append(attrs, h.groups[n].attrs...)
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	for ; n > 0; n-- {
		outer := h.groups[n-1].attrs
		attrs = append(outer[:len(outer):len(outer)], slog.Attr{Key: h.groups[n].name, Value: slog.GroupValue(attrs...)})
	}
	out.AddAttrs(slog.Attr{Key: h.groups[0].name, Value: slog.GroupValue(attrs...)})
	return out
}

// hexIDs returns the ids of sc as text, both out of one allocation.
func hexIDs(sc trace.SpanContext) (traceID, spanID string) {
	t, s := sc.TraceID(), sc.SpanID()
	var b [2 * (len(t) + len(s))]byte
	hex.Encode(b[:], t[:])
	hex.Encode(b[2*len(t):], s[:])
	text := string(b[:])
	return text[:2*len(t)], text[2*len(t):]
}
