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

	refused uint64 // spans, for good, since that failure
	partial uint64 // spans, in accepted requests, since the last line about those
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

// outcome says what became of a request of n spans, where that is news.
func (r *reporter) outcome(o outcome, n uint64, to string) {
	switch {
	case o.err == nil:
		r.mu.Lock()
		healed, refused := r.sick, r.refused
		r.sick, r.refused = false, 0
		r.mu.Unlock()
		if healed {
			line := fmt.Sprintf("exporter: %s accepts spans again", to)
			if refused > 0 {
				line += fmt.Sprintf("; it refused %d", refused)
			}
			r.info(line)
		}
		return
	case o.err.ours:
		return
	}
	kind := o.err.kind
	if kind == "" {
		kind = o.err.Code
	}
	if o.accepted() {
		r.partly(kind, o)
		return
	}
	if !o.err.Retry && !o.panicked && !o.err.tooLarge() {
		r.mu.Lock()
		r.refused += n
		r.mu.Unlock()
	}
	if r.fails(kind, time.Now()) {
		r.warn(o.err.line())
	}
}

// partly says that spans of an accepted request were refused, with how many in all
// since the last such line.
func (r *reporter) partly(kind string, o outcome) {
	r.mu.Lock()
	r.partial += o.rejected
	r.mu.Unlock()
	if !r.may(kind, time.Now()) {
		return
	}
	r.mu.Lock()
	n := r.partial
	r.partial = 0
	r.mu.Unlock()
	line := o.err.line()
	if n > o.rejected {
		line = oneLine(line, maxLine-40) + fmt.Sprintf("; %d since the last such line", n)
	}
	r.warn(line)
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

// loss notices when spans begin to be dropped and when that is over. A loss is told
// when it begins, once a minute while it lasts, and when it ends; one that begins within
// a minute of the line before is told with the next.
type loss struct {
	active bool
	told   bool      // that it began
	reason string    // of its first span
	from   uint64    // dropped here before it began
	seen   uint64    // dropped here when last looked at
	at     time.Time // when that last changed
	said   time.Time // the last line
}

const (
	lossTick = time.Second     // between looks while spans are dropped
	lossOver = 5 * time.Second // without a dropped span
)

// begin notes that n spans were dropped, of total here since the start, and reports
// whether that is news.
func (l *loss) begin(reason string, n, total uint64) bool {
	if l.active {
		return false
	}
	l.active, l.told, l.reason = true, false, reason
	l.from, l.seen, l.at = total-n, total, time.Time{}
	return true
}

// look returns the line that is due, "" for none; total is as in begin.
func (l *loss) look(now time.Time, total uint64) string {
	if !l.active {
		return ""
	}
	if total != l.seen || l.at.IsZero() {
		l.seen, l.at = total, now
	}
	due := l.said.IsZero() || now.Sub(l.said) >= quiet
	over := now.Sub(l.at) >= lossOver
	switch {
	case over && (l.told || due):
		return l.end(now, total)
	case !due || over:
		return ""
	case !l.told:
		l.told, l.said = true, now
		return "exporter: spans are being lost: " + lossReason(l.reason)
	}
	l.said = now
	n := total - l.from
	return fmt.Sprintf("exporter: spans are being lost, %d so far: %s", n, lossReason(l.reason))
}

// end returns the line that tells the end of a loss, "" when there is none.
func (l *loss) end(now time.Time, total uint64) string {
	if !l.active {
		return ""
	}
	n := total - l.from
	line := fmt.Sprintf("exporter: no more spans are lost; %d %s", n, plural(n, "was", "were"))
	if !l.told {
		line = fmt.Sprintf("exporter: %d %s lost: %s", n, plural(n, "span was", "spans were"), lossReason(l.reason))
	}
	l.active, l.said = false, now
	return line
}

func lossReason(reason string) string {
	switch reason {
	case DropQueueFull:
		return "the queue is full (Config.QueueBytes, OTEL_BSP_MAX_QUEUE_SIZE)"
	case DropTooLarge:
		return "one is larger than a request may be (Config.RequestBytes, or the collector's limit)"
	}
	return "reading or sending them panicked"
}
