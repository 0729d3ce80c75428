package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
	"github.com/meshtrace/meshtrace/internal/tracetree"
	"github.com/meshtrace/meshtrace/requestid"
)

// spy is a proxy in front of a service that remembers the headers of each request.
type spy struct {
	addr string
	mu   sync.Mutex
	seen []http.Header
}

// newSpy proxies HTTP/1 or, for gRPC, HTTP/2 in cleartext to target.
func newSpy(t *testing.T, target string, grpc bool) *spy {
	t.Helper()
	s := new(spy)
	out := new(http.Protocols)
	out.SetHTTP1(!grpc)
	out.SetUnencryptedHTTP2(grpc)
	transport := &http.Transport{Protocols: out}
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: target}) },
		Transport:     transport,
		FlushInterval: -1,
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Header.Clone())
		s.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	s.addr = server.Listener.Addr().String()
	return s
}

// take returns what was seen since the last call.
func (s *spy) take() []http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

// newCollector returns a collector for services that run alone.
func newCollector(t *testing.T) *receiver {
	t.Helper()
	r, err := newReceiver(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

// trace returns the trace once it has at least n spans and no orphan.
func (r *receiver) trace(t *testing.T, id string, n int) *tracetree.Trace {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		got := r.find(t, id)
		if got != nil && got.Spans >= n && got.Orphans == 0 {
			return got
		}
		if time.Now().After(deadline) {
			var b strings.Builder
			if got != nil {
				got.Print(&b)
			}
			t.Fatalf("trace %s has no %d spans without orphan:\n%s", id, n, &b)
		}
	}
}

func (r *receiver) find(t *testing.T, id string) *tracetree.Trace {
	t.Helper()
	var spans []otlpwire.Span
	for request := range r.store.OTLP() {
		more, err := otlpwire.Decode(request)
		if err != nil {
			t.Fatal(err)
		}
		spans = append(spans, more...)
	}
	for _, tr := range tracetree.Build(spans) {
		if tr.ID.String() == id {
			return tr
		}
	}
	return nil
}

// A caller's trace and request id reach every service, whatever form they come in,
// and every service alone behind a proxy is a service of the same trace.
func TestCallerContext(t *testing.T) {
	t.Parallel()
	collector := newCollector(t)
	env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + collector.addr, "OTEL_BSP_SCHEDULE_DELAY": "50"}
	alone := func(service string, args ...string) *program {
		return start(t, env, append([]string{service, "-listen", "127.0.0.1:0", "-log", "json"}, args...)...)
	}
	customer, driver, route := alone("customer"), alone("driver"), alone("route")
	spies := map[string]*spy{
		"customer": newSpy(t, customer.addr, false),
		"driver":   newSpy(t, driver.addr, true),
		"route":    newSpy(t, route.addr, false),
	}
	frontend := alone("frontend", "-customer-addr", spies["customer"].addr, "-driver-addr", spies["driver"].addr, "-route-addr", spies["route"].addr)

	for _, tt := range []struct {
		name, traceID, spanID string // of the caller; "" where it has none
		header                http.Header
		untraced              bool
	}{
		{
			name: "traceparent", traceID: "4bf92f3577b34da6a3ce929d0e0e4736", spanID: "00f067aa0ba902b7",
			header: http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, "X-Request-Id": {"1a2b3c4d-0001-4000-8000-00000000000a"}},
		}, {
			name: "b3", traceID: "463ac35c9f6413ad48485a3953bb6124", spanID: "a2fb4a1d1a96d312",
			header: http.Header{"B3": {"463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1"}, "X-Request-Id": {"1a2b3c4d-0002-4000-8000-00000000000b"}},
		}, {
			name: "x-b3-*", traceID: "80f198ee56343ba864fe8b2a57d3eff7", spanID: "e457b5a2e4d86bd1",
			header: http.Header{
				"X-B3-Traceid": {"80f198ee56343ba864fe8b2a57d3eff7"}, "X-B3-Spanid": {"e457b5a2e4d86bd1"}, "X-B3-Sampled": {"1"},
				"X-Request-Id": {"1a2b3c4d-0003-4000-8000-00000000000c"},
			},
		}, {
			name:   "none",
			header: http.Header{"X-Request-Id": {"1a2b3c4d-0004-4000-8000-00000000000d"}},
		}, {
			name:     "b3 says no",
			header:   http.Header{"B3": {"0"}, "X-Request-Id": {"1a2b3c4d-0005-4000-8000-00000000000e"}},
			untraced: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sent := requestid.ID(tt.header.Get("X-Request-Id"))
			code, r := dispatch(t, frontend.addr, "customer=123", tt.header)
			if code != http.StatusOK {
				t.Fatalf("ride = %d, %+v", code, r)
			}
			if !requestid.Equal(requestid.ID(r.RequestID), sent) {
				t.Errorf("request id = %s, want %s but for the digit", r.RequestID, sent)
			}
			onward := make(map[string]bool)
			for service, s := range spies {
				seen := s.take()
				if want := map[string]int{"customer": 1, "driver": 1, "route": 10}[service]; len(seen) != want {
					t.Errorf("%s saw %d requests, want %d", service, len(seen), want)
				}
				for _, h := range seen {
					if got := h.Values("X-Request-Id"); len(got) != 1 || got[0] != r.RequestID {
						t.Errorf("%s saw x-request-id %q, want %s alone", service, got, r.RequestID)
					}
					parent := h.Values("Traceparent")
					if len(parent) != 1 || len(parent[0]) != 55 || strings.HasSuffix(parent[0], "-01") == tt.untraced {
						t.Errorf("%s saw traceparent %q, want one, sampled: %v", service, parent, !tt.untraced)
						continue
					}
					onward[parent[0][3:35]] = true
				}
			}
			if len(onward) != 1 || tt.traceID != "" && !onward[tt.traceID] {
				t.Errorf("traces that the services saw = %v, want the one of the caller", onward)
			}
			checkLogs(t, r.RequestID, onward, frontend, customer, driver, route)

			if tt.untraced {
				if r.TraceID != "" {
					t.Errorf("trace %s of a ride that is not traced", r.TraceID)
				}
				return
			}
			if !onward[r.TraceID] {
				t.Errorf("trace of the answer = %s, services saw %v", r.TraceID, onward)
			}
			checkTrace(t, collector.trace(t, r.TraceID, 39), tt.spanID, r.RequestID)
		})
	}
}

// checkLogs looks at the lines about a request.
func checkLogs(t *testing.T, requestID string, traces map[string]bool, programs ...*program) {
	t.Helper()
	for _, p := range programs {
		about := 0
		for _, line := range p.out.log(t) {
			if line["request_id"] != requestID {
				continue
			}
			about++
			if id, _ := line["trace_id"].(string); !traces[id] {
				t.Errorf("log line %v: trace_id is not in %v", line, traces)
			}
		}
		if about == 0 {
			t.Errorf("no line of the log carries request_id %s:\n%s", requestID, p.out.String())
		}
	}
}

// checkTrace looks at the spans of a ride: all six services below the caller's span.
func checkTrace(t *testing.T, got *tracetree.Trace, callerSpan, requestID string) {
	t.Helper()
	if len(got.Services) != 6 || got.Depth < 4 || got.Errors < 2 || got.Errors > 3 || len(got.Roots) != 1 {
		var b strings.Builder
		got.Print(&b)
		t.Errorf("want one tree of 6 services, at least 4 deep, with 2 or 3 errors:\n%s", &b)
	}
	want := trace.SpanID{}
	if callerSpan != "" {
		want, _ = trace.SpanIDFromHex(callerSpan)
	}
	if root := got.Roots[0]; root.Parent != want || root.Service() != "frontend" {
		t.Errorf("the first span is %s of %s below %s, want it below the caller's %s", root.Name, root.Service(), root.Parent, want)
	}
	for n := range got.Walk() {
		if id := n.RequestID(); n.KindName() == "server" && id != requestID {
			t.Errorf("%s of %s has request id %q, want %s", n.Name, n.Service(), id, requestID)
		}
		if n.Failed() && n.Service() != "redis" {
			t.Errorf("%s of %s has an error", n.Name, n.Service())
		}
	}
}

// Rides at the same time do not get into each other's traces, and reach a collector
// outside as well.
func TestConcurrentTraces(t *testing.T) {
	t.Parallel()
	const rides = 5
	collector := newCollector(t)
	p := start(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + collector.addr, "OTEL_BSP_SCHEDULE_DELAY": "50"}, "-listen", "127.0.0.1:0")
	var answers [rides]ride
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { _, answers[i] = dispatch(t, p.addr, "customer=392", nil) })
	}
	wg.Wait()
	traces := make(map[string]bool)
	for i, r := range answers {
		if r.Error != "" || traces[r.TraceID] {
			t.Fatalf("ride %d = %+v, other traces %v", i, r, traces)
		}
		traces[r.TraceID] = true
		got := collector.trace(t, r.TraceID, 37) // lookups that time out are not shared evenly
		if len(got.Services) != 6 || len(got.Roots) != 1 {
			t.Errorf("trace %s: services %v, %d roots, want 6 and 1", r.TraceID, got.Services, len(got.Roots))
		}
	}
	var bytes int64
	for request := range collector.store.OTLP() {
		bytes += int64(len(request)) + 64 // as the store counts
	}
	if bytes/rides*maxRides > storeBytes {
		t.Errorf("a ride takes %d bytes, so %d of them do not fit into %d", bytes/rides, maxRides, storeBytes)
	}

	p.stop(t)
	p.out.waitFor(t, `(?m)^hotrod: stopped, ended=(\d+) .*; collector: ended=\d+ delivered=\d+ kept=0 why=none$`)
}

// A ride fails readably when a service is away.
func TestServiceAway(t *testing.T) {
	t.Parallel()
	customer := start(t, map[string]string{"OTEL_TRACES_EXPORTER": "none"}, "customer", "-listen", "127.0.0.1:0")
	for _, args := range [][]string{
		{"-customer-addr", deadAddr},
		{"-customer-addr", customer.addr, "-driver-addr", deadAddr},
	} {
		p := start(t, map[string]string{"OTEL_TRACES_EXPORTER": "none"}, append([]string{"frontend", "-listen", "127.0.0.1:0"}, args...)...)
		code, r := dispatch(t, p.addr, "customer=123", nil)
		if code != http.StatusBadGateway || !strings.Contains(r.Error, "try again") || strings.Contains(r.Error, deadAddr) {
			t.Errorf("ride with %s away = %d, %+v, want 502 and a text for people", args[0], code, r)
		}
		if code := p.stop(t); code != 0 || !strings.Contains(p.out.String(), "hotrod: stopped, no exporter") {
			t.Errorf("exit code %d:\n%s", code, p.out.String())
		}
	}
}
