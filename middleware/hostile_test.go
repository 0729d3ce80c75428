package middleware_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/meshtrace/meshtrace/middleware"
)

// hostileHeaders returns sets of headers of about 1 MB, each made to cost a server as
// much as it can. Those that a Propagator reads are package propagation's.
func hostileHeaders() map[string]http.Header {
	const mega = 1 << 20
	fill := func(s string) string { return strings.Repeat(s, mega/len(s)) }
	lines := func(s string) []string {
		v := make([]string, mega/(len(s)+20))
		for i := range v {
			v[i] = s
		}
		return v
	}
	many := make(http.Header, 40000)
	for i := range mega / 26 {
		many[fmt.Sprintf("X-Any-%06d", i)] = []string{"00000000000000"}
	}
	sets := map[string]http.Header{"many names": many}
	for _, name := range []string{
		"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Connection", "User-Agent", "X-Request-Id",
		"X-Client-Trace-Id", "X-Envoy-Force-Trace", "X-Envoy-Decorator-Operation", "X-Envoy-Internal", "X-Envoy-Original-Path",
		"X-Envoy-Expected-Rq-Timeout-Ms", "X-Envoy-External-Address", "Traceparent", "Baggage", "Grpc-Timeout", "Te", "Upgrade",
	} {
		for what, v := range map[string][]string{
			"commas": {fill(",")}, "names": {fill("x-a,")}, "equals": {fill("a=,")}, "quotes": {fill(`"`)}, "backslashes": {`"` + fill(`\`)},
			"spaces": {fill(" ")}, "letters": {fill("a")}, "a long line and a short one": {fill("a"), "a"}, "a short line and a long one": {"a", fill("a")}, "lines": lines("a"), "empty lines": lines(""), "comma lines": lines(","),
		} {
			sets[name+" of "+what] = http.Header{name: v}
		}
	}
	return sets
}

// TestHostileCost holds what the headers of a request may cost beyond an ordinary one,
// whatever they are: 4 KiB, and 50 µs of which the test fails at 20 times, so that a busy
// machine does not fail it. What is passed on is copied, and not counted here: all
// headers where an edge or a gateway changes one, x-forwarded-for where it is added to.
func TestHostileCost(t *testing.T) {
	if raced {
		t.Skip("the race detector allocates, and makes loops slow: run without -race")
	}
	edge := &middleware.Edge{Hops: 2}
	const most, bytes = 50 * time.Microsecond, 4 << 10
	for config, cfg := range map[string]middleware.Config{
		"service":             {},
		"service at the edge": {Edge: edge},
		"gateway":             {Role: middleware.Gateway},
		"gateway at the edge": {Role: middleware.Gateway, Edge: edge},
	} {
		cfg.Getenv, cfg.Logger = noExport, slog.New(slog.DiscardHandler)
		tracing, err := middleware.Setup(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer tracing.Shutdown(context.Background())
		h := tracing.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		_, ordinary := cost(h, http.Header{"User-Agent": {"curl/8"}})
		for name, header := range hostileHeaders() {
			allowed := ordinary + bytes
			switch {
			case name == "many names" && config != "service", strings.HasPrefix(name, "X-Forwarded-For") && config == "gateway at the edge":
				continue
			case strings.HasPrefix(config, "gateway") && strings.HasSuffix(name, " one"):
				allowed += 2 << 10 // joined and passed on (O-4)
			case name == "Baggage of equals":
				allowed = 80 << 10 // it is baggage, in a map of OpenTelemetry's
			}
			took, got := cost(h, header)
			if took > 20*most {
				t.Errorf("%s: %s take %v, want at most %v", config, name, took, most)
			}
			if got > allowed {
				t.Errorf("%s: %s allocate %d bytes, want at most %d", config, name, got, allowed)
			}
		}
	}
}

// cost returns what a request with those headers takes: the least time of several, and
// the bytes that each allocates.
func cost(h http.Handler, header http.Header) (time.Duration, uint64) {
	const runs = 20
	r, w := httptest.NewRequest("GET", "/carts/7", nil), discard{http.Header{}}
	r.Header = header
	best := time.Hour
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		start := time.Now()
		h.ServeHTTP(w, r)
		best = min(best, time.Since(start))
	}
	runtime.ReadMemStats(&after)
	return best, (after.TotalAlloc - before.TotalAlloc) / runs
}
