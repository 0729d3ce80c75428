package parity_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"

	"github.com/meshtrace/meshtrace/internal/parity"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/span"
)

// accessLog is a gateway's log of requests, sampled by the numbers of their ids: what a
// program has from requestid.ID.Number, sampler.Fraction.Hit and span.LogHandler.
type accessLog struct {
	config parity.Proxy

	mu    sync.Mutex
	lines []string
}

// around logs each request that next has served.
func (l *accessLog) around(next http.Handler) http.Handler {
	if l.config.AccessLog == nil {
		return next
	}
	logger := slog.New(span.LogHandler(l))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		if l.takes(requestid.FromContext(r.Context())) {
			logger.InfoContext(r.Context(), "request")
		}
	})
}

// takes tells whether the filter of the log lets a request through: RID-17, the whole
// number and not its last four digits.
func (l *accessLog) takes(id requestid.ID) bool {
	f, err := fraction(l.config.AccessLog.PercentSampled)
	if err != nil {
		panic(err)
	}
	n, ok := id.Number()
	if !ok {
		n = rand.Uint32()
	}
	return f.Hit(n)
}

func (l *accessLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *accessLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *accessLog) WithGroup(string) slog.Handler            { return l }

// Handle writes a record as %TRACE_ID% %SPAN_ID% %REQ(X-REQUEST-ID)%.
func (l *accessLog) Handle(_ context.Context, r slog.Record) error {
	ids := map[string]string{"trace_id": "-", "span_id": "-", "request_id": "-"}
	r.Attrs(func(a slog.Attr) bool {
		ids[a.Key] = a.Value.String()
		return true
	})
	if l.config.Tracer == "zipkin" {
		ids["trace_id"] = strings.TrimPrefix(ids["trace_id"], strings.Repeat("0", 16)) // B-14
		ids["span_id"] = "-"                                                           // Envoy's Zipkin spans do not tell theirs
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, ids["trace_id"]+" "+ids["span_id"]+" "+ids["request_id"])
	return nil
}

// take returns the lines written so far.
func (l *accessLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}
