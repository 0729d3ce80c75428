package exporter

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxLine = 240         // bytes of a line
	quiet   = time.Minute // between lines of one kind
)

// reporter writes the Exporter's lines. It is safe for concurrent use and never
// called with the Exporter's lock held: a handler takes what time it likes.
type reporter struct {
	logger *slog.Logger
	panics atomic.Uint64

	mu     sync.Mutex
	last   map[string]time.Time // of the last line, by kind
	sick   bool                 // a failure was told and no success since
	failed time.Time            // when the last one was
}

func newReporter(l *slog.Logger) *reporter {
	return &reporter{logger: l, last: make(map[string]time.Time)}
}

func (r *reporter) warn(line string) { r.write(slog.LevelWarn, line) }
func (r *reporter) info(line string) { r.write(slog.LevelInfo, line) }

func (r *reporter) write(level slog.Level, line string) {
	defer func() {
		if recover() != nil {
			r.panics.Add(1) // a handler that panics cannot be told of it
		}
	}()
	r.logger.Log(context.Background(), level, oneLine(line, maxLine))
}

// panicked counts a panic and says so, once a minute.
func (r *reporter) panicked(doing string, v any) {
	r.panics.Add(1)
	if r.may("panic", time.Now()) {
		r.warn(fmt.Sprintf("exporter: %s panicked: %v", doing, v))
	}
}

// may reports whether a line of this kind is due, and takes it as written.
func (r *reporter) may(kind string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.last[kind]; ok && now.Sub(at) < quiet {
		return false
	}
	if len(r.last) >= maxCodes {
		clear(r.last)
	}
	r.last[kind] = now
	return true
}

// outcome says what became of a request, where that is news.
func (r *reporter) outcome(o outcome, to string) {
	if o.err == nil {
		r.mu.Lock()
		healed := r.sick
		r.sick = false
		r.mu.Unlock()
		if healed {
			r.info(fmt.Sprintf("exporter: %s accepts spans again", to))
		}
		return
	}
	kind := o.err.kind
	if kind == "" {
		kind = o.err.Code
	}
	if !o.accepted() && !r.fails(kind, time.Now()) || o.accepted() && !r.may(kind, time.Now()) {
		return
	}
	r.warn(o.err.line())
}

// fails reports whether a line about a failure of this kind is due. One that names no
// cause is not, while another kind was told in the last minute: it is the same trouble seen
// from another side.
func (r *reporter) fails(kind string, now time.Time) bool {
	r.mu.Lock()
	vague := kind == "" || kind == kindUnreachable
	recent := r.sick && now.Sub(r.failed) < quiet
	r.mu.Unlock()
	if vague && recent || !r.may(kind, now) {
		return false
	}
	r.mu.Lock()
	r.sick, r.failed = true, now
	r.mu.Unlock()
	return true
}

// line is Error within the bounds of a log line: what happened is cut rather than
// what to do.
func (e *SendError) line() string {
	what := *e
	what.Advice = ""
	line := "exporter: " + what.Error()
	if e.Advice == "" {
		return line
	}
	return oneLine(line, max(80, maxLine-len(": ")-len(e.Advice))) + ": " + e.Advice
}

// loss notices when spans begin to be dropped and when that is over.
type loss struct {
	active bool
	from   uint64    // dropped before it began
	seen   uint64    // dropped when last looked at
	at     time.Time // when that last changed
}

const (
	lossTick = time.Second     // between looks while spans are dropped
	lossOver = 5 * time.Second // without a dropped span
)

// begin notes that a span was dropped and reports whether that is news.
func (l *loss) begin() bool {
	if l.active {
		return false
	}
	l.active = true
	l.at = time.Time{}
	return true
}

// look returns the line that is due, "" for none. dropped are spans lost here, of total
// since the start.
func (l *loss) look(now time.Time, dropped map[string]uint64) string {
	if !l.active {
		return ""
	}
	total := sum(dropped) - dropped[DropShutdown]
	if l.at.IsZero() {
		l.at, l.seen = now, total
		return "exporter: spans are being lost: " + lossReasons(dropped)
	}
	if total != l.seen {
		l.seen, l.at = total, now
		return ""
	}
	if now.Sub(l.at) < lossOver {
		return ""
	}
	return l.end()
}

// end returns the line that tells the end of a loss, "" when there is none.
func (l *loss) end() string {
	if !l.active || l.at.IsZero() {
		return ""
	}
	n := l.seen - l.from
	l.active, l.from = false, l.seen
	return fmt.Sprintf("exporter: no more spans are lost; %d %s", n, plural(n, "was", "were"))
}

func lossReasons(dropped map[string]uint64) string {
	switch {
	case dropped[DropQueueFull] > 0:
		return "the queue is full (Config.QueueBytes, OTEL_BSP_MAX_QUEUE_SIZE)"
	case dropped[DropTooLarge] > 0:
		return "one is larger than a request may be (Config.RequestBytes, or the collector's limit)"
	}
	return "reading or sending them panicked"
}
