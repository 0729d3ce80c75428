package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
	"github.com/meshtrace/meshtrace/internal/tracetree"
)

var summaryLine = regexp.MustCompile(`(?m)^services=(\d+) spans=(\d+) depth=(\d+) errors=(\d+) orphans=(\d+) ended=(\d+) delivered=(\d+)$`)

// summary reads the line that ends -once.
func summary(t *testing.T, text string) map[string]int {
	t.Helper()
	m := summaryLine.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no summary line in:\n%s", text)
	}
	got := make(map[string]int)
	for i, name := range []string{"services", "spans", "depth", "errors", "orphans", "ended", "delivered"} {
		got[name], _ = strconv.Atoi(m[i+1])
	}
	return got
}

func TestOnce(t *testing.T) {
	t.Parallel()
	code, out, errOut := once(t, nil, "-once", "-log", "json")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s%s", code, out, errOut)
	}
	got := summary(t, out.String())
	if got["spans"] < 39 || got["spans"] > 40 || got["services"] != 6 || got["depth"] < 4 || got["orphans"] != 0 {
		t.Errorf("summary = %v, want 39 or 40 spans of 6 services, at least 4 deep, no orphan", got)
	}
	if got["errors"] != 2 && got["errors"] != 3 {
		t.Errorf("errors = %d, want 2 or 3", got["errors"])
	}
	if got["ended"] != got["spans"] || got["delivered"] != got["spans"] {
		t.Errorf("summary = %v, want ended and delivered to be spans", got)
	}

	traceID := regexp.MustCompile(`(?m)^trace ([0-9a-f]{32}) `).FindStringSubmatch(out.String())
	if traceID == nil {
		t.Fatalf("no tree in:\n%s", out)
	}
	services := make(map[string]bool)
	requestIDs := make(map[any]bool)
	for _, line := range out.log(t) {
		service, _ := line["service"].(string)
		if service == "" {
			t.Logf("not of the ride: %v", line) // the exporter's, on a machine that stands still for a second
			continue
		}
		if line["trace_id"] != traceID[1] {
			t.Errorf("log line %v: want trace_id %s", line, traceID[1])
		}
		requestIDs[line["request_id"]] = true
		services[service] = true
	}
	if len(requestIDs) != 1 || requestIDs[nil] || requestIDs[""] {
		t.Errorf("request ids of the log = %v, want one", requestIDs)
	}
	for _, s := range []string{"frontend", "customer", "driver", "redis", "route"} {
		if !services[s] {
			t.Errorf("%s logs nothing", s)
		}
	}
}

func TestRides(t *testing.T) {
	t.Parallel()
	code, out, errOut := once(t, nil, "-rides", "3")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s%s", code, out, errOut)
	}
	if n := strings.Count(out.String(), "\ntrace "); n != 3 {
		t.Errorf("%d trees, want 3:\n%s", n, out)
	}
	got := summary(t, out.String())
	if got["services"] != 6 || got["spans"] < 3*39 || got["spans"] > 3*40 || got["errors"] < 6 || got["errors"] > 9 {
		t.Errorf("summary of 3 rides = %v", got)
	}
}

// jsonSpan is what this test reads of OTLP JSON, by its own eyes.
type jsonSpan struct {
	TraceID, SpanID, ParentSpanID, Name string
	StartTimeUnixNano, EndTimeUnixNano  string
	Kind                                int
	Attributes                          []struct {
		Key   string
		Value struct{ StringValue string }
	}
	Status  struct{ Code int }
	service string
}

func (s *jsonSpan) attr(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.StringValue
		}
	}
	return ""
}

// readJSON reads OTLP JSON, one request a line.
func readJSON(t *testing.T, out *output) (spans []jsonSpan) {
	t.Helper()
	for line := range strings.Lines(out.String()) {
		var request struct {
			ResourceSpans []struct {
				Resource struct {
					Attributes []struct {
						Key   string
						Value struct{ StringValue string }
					}
				}
				ScopeSpans []struct{ Spans []jsonSpan }
			}
		}
		if err := json.Unmarshal([]byte(line), &request); err != nil {
			t.Fatalf("%v in line %.200q", err, line)
		}
		for _, rs := range request.ResourceSpans {
			service := ""
			for _, a := range rs.Resource.Attributes {
				if a.Key == "service.name" {
					service = a.Value.StringValue
				}
			}
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					s.service = service
					spans = append(spans, s)
				}
			}
		}
	}
	return spans
}

func TestJSON(t *testing.T) {
	t.Parallel()
	code, out, errOut := once(t, nil, "-once", "-json", "-log", "json")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, errOut)
	}
	if len(errOut.log(t)) == 0 {
		t.Error("nothing is logged to stderr")
	}
	spans := readJSON(t, out)
	if n := summary(t, errOut.String())["spans"]; n != len(spans) || n < 39 {
		t.Errorf("%d spans on stdout, %d in the summary, want the same, at least 39", len(spans), n)
	}

	count := make(map[string]int)
	ids := make(map[string]bool)
	for _, s := range spans {
		ids[s.SpanID] = true
	}
	for _, s := range spans {
		count[s.service+" "+strconv.Itoa(s.Kind)+" "+s.Name]++
		if s.TraceID != spans[0].TraceID {
			t.Errorf("%s of %s is in trace %s, another in %s", s.Name, s.service, s.TraceID, spans[0].TraceID)
		}
		if root := s.service == "frontend" && s.Kind == 2; root != (s.ParentSpanID == "") || !root && !ids[s.ParentSpanID] {
			t.Errorf("%s of %s has parent %q", s.Name, s.service, s.ParentSpanID)
		}
		if failed := s.Status.Code == 2; failed && (s.service != "redis" || s.Name != "GetDriver") {
			t.Errorf("%s of %s has an error", s.Name, s.service)
		}
		if s.service == "mysql" {
			if s.attr("customer") != "123" || s.attr("session") == "" || s.attr("request") != s.attr("session")+"-1" {
				t.Errorf("attributes of the mysql span = %v, want customer, session and request of the baggage", s.Attributes)
			}
		}
	}
	const server, client = " 2 ", " 3 "
	for name, want := range map[string]int{
		"frontend" + server + "GET /dispatch":                1,
		"frontend" + client + "hotrod.v1.Driver/FindNearest": 1,
		"customer" + server + "GET /customers/{id}":          1,
		"mysql" + client + "SQL SELECT":                      1,
		"driver" + server + "hotrod.v1.Driver/FindNearest":   1,
		"redis" + client + "FindDriverIDs":                   1,
		"route" + server + "GET /route":                      10,
	} {
		if count[name] != want {
			t.Errorf("%d spans %q, want %d; there are %v", count[name], name, want, count)
		}
	}
	if n := count["redis"+client+"GetDriver"]; n != 12 && n != 13 {
		t.Errorf("%d lookups of drivers, want 12 or 13", n)
	}
	if n := mostAtOnce(t, spans); n < 2 || n > routesAtOnce {
		t.Errorf("at most %d routes were computed at once, want 2 to %d", n, routesAtOnce)
	}
}

// mostAtOnce is how many spans of the route service ran together.
func mostAtOnce(t *testing.T, spans []jsonSpan) int {
	t.Helper()
	type edge struct {
		at int64
		by int
	}
	var edges []edge
	for _, s := range spans {
		if s.service != "route" {
			continue
		}
		start, err1 := strconv.ParseInt(s.StartTimeUnixNano, 10, 64)
		end, err2 := strconv.ParseInt(s.EndTimeUnixNano, 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("times of %s = %q, %q", s.Name, s.StartTimeUnixNano, s.EndTimeUnixNano)
		}
		edges = append(edges, edge{start, 1}, edge{end, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return a.by - b.by
	})
	now, most := 0, 0
	for _, e := range edges {
		now += e.by
		most = max(most, now)
	}
	return most
}

// A collector outside gets what the receiver inside gets, over either protocol.
func TestOnceWithCollector(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			collector := newCollector(t)
			var spans []jsonSpan
			attempts(t, func() error { // it has a few seconds to take what is left at the end
				code, out, errOut := once(t, map[string]string{
					"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + collector.addr,
					"OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
				}, "-json")
				if code != 0 {
					t.Fatalf("exit code %d:\n%s", code, errOut)
				}
				spans = readJSON(t, out)
				line := fmt.Sprintf("\ncollector: ended=%d delivered=%[1]d kept=0 why=none\n", len(spans))
				if !strings.Contains(errOut.String(), line) {
					return fmt.Errorf("no %q in:\n%s", line, errOut)
				}
				return nil
			})
			got := collector.trace(t, spans[0].TraceID, len(spans))
			if got.Spans != len(spans) {
				t.Errorf("the collector has %d spans, -json %d", got.Spans, len(spans))
			}
			ids := make(map[string]bool)
			for n := range got.Walk() {
				ids[n.SpanID.String()] = true
			}
			for _, s := range spans {
				if !ids[s.SpanID] {
					t.Errorf("the collector has no span %s (%s of %s)", s.SpanID, s.Name, s.service)
				}
			}
		})
	}
}

func TestOnceWithDeadCollector(t *testing.T) {
	t.Parallel()
	code, out, errOut := once(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + deadAddr}, "-once", "-log", "json")
	if code != 0 {
		t.Errorf("exit code %d:\n%s%s", code, out, errOut)
	}
	got := summary(t, out.String())
	if got["ended"] != got["delivered"] || got["spans"] != got["ended"] {
		t.Errorf("summary = %v, want everything delivered to the built-in receiver", got)
	}
	line := regexp.MustCompile(`(?m)^collector: ended=(\d+) delivered=(\d+) kept=(\d+) why="(.+)"$`).FindStringSubmatch(out.String())
	if line == nil || line[1] != strconv.Itoa(got["ended"]) || line[2] != "0" || line[3] != line[1] {
		t.Fatalf("collector line = %q, want ended=%d delivered=0 kept=%[2]d; in:\n%s", line, got["ended"], out)
	}
	if !strings.Contains(line[4], deadAddr) {
		t.Errorf("why = %s, want the address in it", line[4])
	}

	complaints := 0
	for _, l := range out.log(t) {
		if msg := l["msg"].(string); strings.Contains(msg, deadAddr) {
			complaints++
			if !strings.Contains(msg, "OTEL_EXPORTER_OTLP_ENDPOINT") {
				t.Errorf("log line %q, want the variable to change", msg)
			}
		}
	}
	if complaints < 1 || complaints > 2 { // when it is seen, and at the end what was lost
		t.Errorf("%d log lines about the collector, want 1 or 2:\n%s", complaints, out)
	}
}

// The line about a dead collector comes while the program runs, within a second of the
// first ride.
func TestDeadCollectorIsReportedSoon(t *testing.T) {
	t.Parallel()
	complaint := regexp.MustCompile(`level=(?:WARN|ERROR) .*` + regexp.QuoteMeta(deadAddr) + `.*OTEL_EXPORTER_OTLP_ENDPOINT`)
	attempts(t, func() error {
		p := start(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + deadAddr}, "-listen", "127.0.0.1:0")
		defer p.stop(t)
		if code, r := dispatch(t, p.addr, "customer=123", nil); code != 200 {
			t.Errorf("a ride with a dead collector = %d, %+v", code, r)
		}
		for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if complaint.MatchString(p.out.String()) {
				return nil
			}
		}
		return fmt.Errorf("no line about it within a second:\n%s", &p.out)
	})
}

func TestOnceWithoutTracing(t *testing.T) {
	t.Parallel()
	code, out, errOut := once(t, map[string]string{"OTEL_SDK_DISABLED": "true"}, "-once")
	if code != 0 || !strings.Contains(out.String(), "OTEL_SDK_DISABLED") || summaryLine.MatchString(out.String()) {
		t.Errorf("exit code %d, want 0 and a line that names OTEL_SDK_DISABLED:\n%s%s", code, out, errOut)
	}
}

func TestOnceNotSampled(t *testing.T) {
	t.Parallel()
	code, out, errOut := once(t, map[string]string{"OTEL_TRACES_SAMPLER": "always_off"}, "-once")
	if code != 1 || !strings.Contains(errOut.String(), "OTEL_TRACES_SAMPLER") {
		t.Errorf("exit code %d, want 1 and OTEL_TRACES_SAMPLER named:\n%s%s", code, out, errOut)
	}
}

func TestServiceNameDoesNotRename(t *testing.T) {
	t.Parallel()
	code, out, errOut := once(t, map[string]string{
		"OTEL_SERVICE_NAME":        "one",
		"OTEL_RESOURCE_ATTRIBUTES": "service.name=two,deployment.environment.name=here",
	}, "-once")
	if code != 0 || !strings.Contains(out.String(), "OTEL_SERVICE_NAME is not used") {
		t.Errorf("exit code %d, want 0 and a line about OTEL_SERVICE_NAME:\n%s%s", code, out, errOut)
	}
}

func TestBadEnvironmentIsReported(t *testing.T) {
	t.Parallel()
	code, out, errOut := once(t, map[string]string{"OTEL_PROPAGATORS": "tracecontext,pigeon"}, "-once")
	if code != 0 {
		t.Errorf("exit code %d:\n%s%s", code, out, errOut)
	}
	if n := strings.Count(out.String(), "pigeon"); n == 0 || strings.Count(out.String(), "OTEL_PROPAGATORS") == 0 {
		t.Errorf("no line names OTEL_PROPAGATORS and pigeon:\n%s", out)
	}
}

// good returns the spans of the smallest ride that check accepts.
func good() (r ride, spans []otlpwire.Span, sum accounts) {
	traceID := trace.TraceID{1}
	for i, s := range services() {
		span := otlpwire.Span{
			TraceID: traceID, SpanID: trace.SpanID{byte(i + 1)}, Name: "work", Start: uint64(i + 1), End: 100,
			Resource: &otlpwire.Resource{Attributes: []attribute.KeyValue{attribute.String("service.name", s)}},
		}
		if i > 0 {
			span.Parent = trace.SpanID{1}
		}
		spans = append(spans, span)
	}
	n := uint64(len(spans))
	return ride{TraceID: traceID.String()}, spans, accounts{hasBuiltin: true, builtin: account{ended: n, delivered: n}}
}

func TestCheck(t *testing.T) {
	index := func(service string) int { return slices.Index(services(), service) }
	for _, tt := range []struct {
		name string
		harm func(r *ride, spans *[]otlpwire.Span, sum *accounts)
		want string // "": accepted
	}{
		{"as it should be", func(*ride, *[]otlpwire.Span, *accounts) {}, ""},
		{"error on redis", func(_ *ride, s *[]otlpwire.Span, _ *accounts) { (*s)[index("redis")].StatusCode = 2 }, ""},
		{"error on mysql", func(_ *ride, s *[]otlpwire.Span, _ *accounts) { (*s)[index("mysql")].StatusCode = 2 }, "work of mysql has an error"},
		{"orphan", func(_ *ride, s *[]otlpwire.Span, _ *accounts) { (*s)[index("route")].Parent = trace.SpanID{9} }, "work of route is an orphan"},
		{"missing service", func(_ *ride, s *[]otlpwire.Span, sum *accounts) {
			*s = (*s)[:index("route")]
			sum.builtin.ended--
			sum.builtin.delivered--
		}, "has no span of route"},
		{"lost on the way", func(_ *ride, _ *[]otlpwire.Span, sum *accounts) { sum.builtin.ended++ }, "7 spans ended, 6 were delivered, 6 arrived"},
		{"lost by the receiver", func(_ *ride, _ *[]otlpwire.Span, sum *accounts) {
			sum.builtin.ended++
			sum.builtin.delivered++
		}, "7 spans ended, 7 were delivered, 6 arrived"},
		{"not traced", func(r *ride, s *[]otlpwire.Span, sum *accounts) {
			r.TraceID, *s, sum.builtin = "", nil, account{}
		}, "ride 1 was not traced"},
		{"no trace", func(_ *ride, s *[]otlpwire.Span, sum *accounts) {
			*s, sum.builtin = nil, account{}
		}, "did not arrive"},
		{"another trace", func(r *ride, _ *[]otlpwire.Span, _ *accounts) { r.TraceID = trace.TraceID{2}.String() }, "belongs to no ride"},
		{"dead collector", func(_ *ride, _ *[]otlpwire.Span, sum *accounts) {
			sum.hasCollector, sum.collector = true, account{ended: 6, kept: 6}
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, spans, sum := good()
			tt.harm(&r, &spans, &sum)
			err := check([]ride{r}, tracetree.Build(spans), sum)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("check = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAccountsAreOneLine(t *testing.T) {
	sum := accounts{hasBuiltin: true, hasCollector: true, collector: account{ended: 3, kept: 3, why: errors.New("line one\nline two").Error()}}
	if s := sum.String(); strings.Contains(s, "\n") || !strings.Contains(s, "collector: ended=3 delivered=0 kept=3 why=") {
		t.Errorf("accounts = %q, want one line", s)
	}
}
