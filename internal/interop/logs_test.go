package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// logLine is a line of a service's log, as far as it says whose it is.
type logLine struct {
	Service   string `json:"service"`
	Msg       string `json:"msg"`
	TraceID   string `json:"trace_id"`
	SpanID    string `json:"span_id"`
	RequestID string `json:"request_id"`
}

// TestTraceToLogs goes from a trace that Zipkin shows to the log lines of its ride, and
// from Envoy's access log to the same lines: by trace id and by request id.
func TestTraceToLogs(t *testing.T) {
	root := need(t, envoy, zipkin, collector)
	shown := show(t, "from a trace and from an access log to the log lines", "Envoy "+envoyVersion+", Collector "+collectorVersion+" to Zipkin "+zipkinVersion)
	z := startZipkin(t, root)
	c := startCollector(t, root, collector, toZipkinYAML, "ZIPKIN=http://"+z.addrs[0]+"/api/v2/spans")
	m := &mesh{}
	m.start(t, root, zipkinTracer(true), z.addrs[0], 100, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + c.addrs[1], "OTEL_BSP_SCHEDULE_DELAY=200"})
	const rides = 4
	answers := takeRides(t, m.front, rides, rides, http.Header{})

	// What Zipkin shows for a search, and not what the ride answered.
	var found [][]zipkinSpan
	before := make(map[string]int)
	eventually(t, 20*time.Second, func() string {
		if err := getJSON("http://"+z.addrs[0]+"/api/v2/traces?serviceName=frontend&spanName="+"get+%2Fdispatch"+"&limit=50", &found); err != nil {
			return err.Error()
		}
		if len(found) < rides {
			return fmt.Sprintf("Zipkin finds %d rides of %d", len(found), rides)
		}
		for _, spans := range found {
			ids := make(map[string]bool)
			for _, s := range spans {
				ids[s.ID] = true
			}
			for _, s := range spans {
				if s.ParentID != "" && !ids[s.ParentID] {
					return fmt.Sprintf("Zipkin has %d spans of trace %s, without %s", len(spans), s.TraceID, s.ParentID)
				}
			}
			// The last to come is a client's span, which nobody names as a parent any more.
			if n := len(spans); n < 36+13 || n != before[spans[0].TraceID] {
				before[spans[0].TraceID] = n
				return fmt.Sprintf("Zipkin has %d spans of trace %s, and may get more", n, spans[0].TraceID)
			}
		}
		return ""
	})
	access, err := m.envoy.accessLogs()
	if err != nil {
		t.Fatal(err)
	}
	lines := readLogs(t, m.logs)

	total := 0
	for _, spans := range found {
		traceID := spans[0].TraceID
		ids := make(map[string]bool)
		requestID := ""
		for _, s := range spans {
			ids[s.ID] = true
			if id := s.Tags["guid:x-request-id"]; id != "" {
				if requestID != "" && id != requestID {
					t.Errorf("trace %s has the request ids %s and %s", traceID, id, requestID)
				}
				requestID = id
			}
		}
		if !slices.ContainsFunc(answers, func(r taken) bool { return r.TraceID == traceID && r.RequestID == requestID }) {
			t.Errorf("no ride answered with trace %s and request %s, which Zipkin has", traceID, requestID)
		}
		var byTrace, byRequest []logLine
		services := make(map[string]bool)
		for _, l := range lines {
			if l.TraceID == traceID {
				byTrace = append(byTrace, l)
				services[l.Service] = true
				if !ids[l.SpanID] {
					t.Errorf("the line %q of %s names span %s, which Zipkin does not have", l.Msg, l.Service, l.SpanID)
				}
			}
			if l.RequestID == requestID {
				byRequest = append(byRequest, l)
			}
		}
		if !slices.Equal(byTrace, byRequest) || len(byTrace) == 0 {
			t.Errorf("trace %s has %d log lines, its request %s has %d, want the same", traceID, len(byTrace), requestID, len(byRequest))
		}
		for _, s := range []string{"frontend", "customer", "driver", "redis", "route"} { // mysql says nothing
			if !services[s] {
				t.Errorf("trace %s has no log line of %s", traceID, s)
			}
		}
		passed := 0
		for _, a := range access {
			if a.RequestID == requestID {
				passed++
			}
		}
		if passed != 13 {
			t.Errorf("Envoy's access log has request %s %d times, want 13", requestID, passed)
		}
		total += len(byTrace)
	}
	shown("%d rides: %d log lines found by Zipkin's trace ids, the same by the request ids of Envoy's access log, each with a span that Zipkin has", rides, total)
}

// readLogs reads the services' logs, those lines that belong to a request.
func readLogs(t *testing.T, dir string) (all []logLine) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%d log files, %v; want 4", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if !strings.HasPrefix(line, "{") {
				continue // where it listens
			}
			var l logLine
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%s: %q: %v", file, line, err)
			}
			if l.RequestID != "" || l.TraceID != "" {
				all = append(all, l)
			}
		}
	}
	return all
}
