package span

import (
	"context"
	"hash/fnv"
	"log/slog"

	"github.com/meshtrace/meshtrace/requestid"
)

// SampledLogs returns a handler that passes lines below a level on for a share of the
// requests alone: of a request all of them or none, on every hop that has the same
// share, and like an access log of Envoy's with a runtime_filter of that share
// (RID-17). Lines at the level and above, and lines outside of any request, all pass.
//
//	quiet := span.SampledLogs(handler, slog.LevelInfo, sampler.Percent(1).Hit) // 1 % of Debug
//	logger := slog.New(span.LogHandler(quiet))
//
// hit is asked with the number that the request's id has for sampling (RID-14); of an
// id that has none it is asked with a number made of the whole id. It is called
// concurrently. A line that does not pass costs no allocation.
//
// It is as safe for concurrent use as next. SampledLogs panics when next or hit is nil.
func SampledLogs(next slog.Handler, below slog.Level, hit func(number uint32) bool) slog.Handler {
	if next == nil || hit == nil {
		panic("span: SampledLogs: give the handler that writes the lines, and the share, such as sampler.Percent(1).Hit")
	}
	return &sampledLogs{next, below, hit}
}

type sampledLogs struct {
	slog.Handler
	below slog.Level
	hit   func(uint32) bool
}

// Enabled decides: slog asks it with the context of the line before it makes the line.
func (h *sampledLogs) Enabled(ctx context.Context, level slog.Level) bool {
	if level < h.below {
		if id := requestid.FromContext(ctx); id != "" && !h.hit(number(id)) {
			return false
		}
	}
	return h.Handler.Enabled(ctx, level)
}

// number returns the number that id is sampled by.
func number(id requestid.ID) uint32 {
	if n, ok := id.Number(); ok {
		return n
	}
	sum := fnv.New32a()
	sum.Write([]byte(id))
	return sum.Sum32()
}

func (h *sampledLogs) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &sampledLogs{h.Handler.WithAttrs(attrs), h.below, h.hit}
}

func (h *sampledLogs) WithGroup(name string) slog.Handler {
	return &sampledLogs{h.Handler.WithGroup(name), h.below, h.hit}
}
