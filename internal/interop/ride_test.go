package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/meshtrace/meshtrace/internal/collectortest"
	"github.com/meshtrace/meshtrace/internal/otlpwire"
	"github.com/meshtrace/meshtrace/internal/tracetree"
)

// ourHotrod is examples/hotrod, built once.
var ourHotrod = struct {
	sync.Once
	dir string
	err error
}{}

func buildHotrod(t *testing.T, root string) string {
	t.Helper()
	ourHotrod.Do(func() {
		ourHotrod.dir = filepath.Join(root, ".out", "interop")
		cmd := exec.Command("go", "build", "-o", ourHotrod.dir+"/", "./examples/hotrod")
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			ourHotrod.err = fmt.Errorf("building hotrod: %w\n%s", err, out)
		}
	})
	if ourHotrod.err != nil {
		t.Fatal(ourHotrod.err)
	}
	return filepath.Join(ourHotrod.dir, "hotrod")
}

// taken is what hotrod's frontend answers.
type taken struct {
	Driver    string `json:"driver"`
	Error     string `json:"error"`
	TraceID   string `json:"trace_id"`
	RequestID string `json:"request_id"`
}

// takeRides takes n rides, some at once, each on a connection of its own from a client's
// address.
func takeRides(t *testing.T, base string, n, atOnce int, header http.Header) []taken {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: atOnce}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	rides, errs := make([]taken, n), make([]error, n)
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			url := base + "/dispatch?customer=" + []string{"123", "392", "567", "731"}[i%4]
			errs[i] = func() error {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
				if err != nil {
					return err
				}
				req.Header = header.Clone()
				resp, err := client.Do(req)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					return err
				}
				if resp.StatusCode != http.StatusOK {
					return fmt.Errorf("%s: %.300s", resp.Status, body)
				}
				return json.Unmarshal(body, &rides[i])
			}()
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("ride %d: %v", i, err)
		}
	}
	return rides
}

// zipkinSink takes spans by Zipkin's API v2.
type zipkinSink struct {
	addr  string
	mu    sync.Mutex
	spans []zipkinSpan
}

func startZipkinSink(t *testing.T) *zipkinSink {
	t.Helper()
	s := &zipkinSink{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var spans []zipkinSpan
		if err := json.NewDecoder(r.Body).Decode(&spans); err != nil {
			t.Errorf("a Zipkin request cannot be read: %v", err)
		}
		s.mu.Lock()
		s.spans = append(s.spans, spans...)
		s.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	})}
	go srv.Serve(l)
	t.Cleanup(func() { _ = srv.Close() })
	return s
}

// wire returns what came as spans of OTLP, of the service "envoy".
func (s *zipkinSink) wire() ([]otlpwire.Span, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []otlpwire.Span
	res := &otlpwire.Resource{Attributes: []attribute.KeyValue{attribute.String("service.name", "envoy")}}
	for _, z := range s.spans {
		w := otlpwire.Span{Name: z.Name, Resource: res, Start: uint64(z.Timestamp) * 1000, End: uint64(z.Timestamp+z.Duration) * 1000,
			Kind: map[string]int32{"SERVER": 2, "CLIENT": 3}[z.Kind]}
		for _, id := range []struct {
			to   []byte
			text string
		}{{w.TraceID[:], z.TraceID}, {w.SpanID[:], z.ID}, {w.Parent[:], z.ParentID}} {
			b, err := hex.DecodeString(id.text)
			if err != nil || len(b) > len(id.to) {
				return nil, fmt.Errorf("id %q of a Zipkin span", id.text)
			}
			copy(id.to[len(id.to)-len(b):], b)
		}
		for _, k := range slices.Sorted(maps.Keys(z.Tags)) {
			w.Attributes = append(w.Attributes, attribute.String(k, z.Tags[k]))
		}
		out = append(out, w)
	}
	return out, nil
}

// attrOf returns an attribute of a span as text.
func attrOf(s *otlpwire.Span, key string) string {
	for _, kv := range s.Attributes {
		if string(kv.Key) == key {
			return kv.Value.String()
		}
	}
	return ""
}

// mesh is hotrod behind and between listeners of one Envoy.
type mesh struct {
	envoy *envoyRun
	front string // where a client sends
	sink  *collectortest.Collector
	zip   *zipkinSink // nil where Envoy speaks OTLP
	logs  string      // folder with NAME.jsonl for each service
}

// hops are the listeners a ride passes, and how often.
var hops = map[string]int{"ingress": 1, "customer": 1, "driver": 1, "route": 10}

// startMesh starts client → Envoy → frontend → Envoy → customer, driver, route. Of
// customer, which does one thing at a time, there are several.
func startMesh(t *testing.T, root, tracer string, random float64) *mesh {
	t.Helper()
	m := &mesh{sink: collectortest.Start(t)}
	env := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + m.sink.URL(), "OTEL_BSP_SCHEDULE_DELAY=200"}
	var provider object
	sink := m.sink.Addr()
	switch tracer {
	case "OpenTelemetry":
		provider = openTelemetryTracer(sink)
	case "Zipkin, B3":
		m.zip = startZipkinSink(t)
		sink, provider = m.zip.addr, zipkinTracer(false)
		env = append(env, "OTEL_PROPAGATORS=b3multi")
	case "Zipkin, B3 with W3C":
		m.zip = startZipkinSink(t)
		sink, provider = m.zip.addr, zipkinTracer(true)
		env = append(env, "OTEL_PROPAGATORS=tracecontext,b3multi,baggage")
	default:
		t.Fatalf("no tracer %q", tracer)
	}
	m.start(t, root, provider, sink, random, env)
	return m
}

// start starts the services and the Envoy. Envoy's spans go to sink by provider; the
// services have env, and write their logs, JSON, to files of logs.
func (m *mesh) start(t *testing.T, root string, provider object, sink string, random float64, env []string) {
	t.Helper()
	bin := buildHotrod(t, root)
	m.logs = t.TempDir()
	service := func(name, addr string, args ...string) {
		t.Helper()
		// The shell becomes the service, so that its process id is the service's.
		args = append([]string{"-c", `exec "$0" "$@" >>"$LOG"`, bin, name, "-listen", addr, "-log", "json"}, args...)
		began(t, name, []string{addr}, append(slices.Clone(env), "LOG="+filepath.Join(m.logs, name+".jsonl")), "sh", args...)
	}

	const customers = 8
	at := free(t, customers+3)
	way := free(t, 4) // ingress, customer, driver, route
	m.front = "http://" + way[0]
	for _, addr := range at[:customers] {
		service("customer", addr)
	}
	service("driver", at[customers])
	service("route", at[customers+1])
	service("frontend", at[customers+2], "-customer-addr", way[1], "-driver-addr", way[2], "-route-addr", way[3])

	m.envoy = startEnvoy(t, root, envoyConfig{
		provider: provider, random: random,
		listeners: []envoyListener{
			{name: "ingress", addr: way[0], cluster: "frontend", edge: true, decorator: "dispatch at the edge"},
			{name: "customer", addr: way[1], cluster: "customer", outbound: true, decorator: "to customer"},
			{name: "driver", addr: way[2], cluster: "driver", outbound: true, decorator: "to driver"},
			{name: "route", addr: way[3], cluster: "route", outbound: true, decorator: "to route"},
		},
		clusters: []envoyCluster{
			{name: "frontend", addrs: at[customers+2:]},
			{name: "customer", addrs: at[:customers]},
			{name: "driver", addrs: at[customers : customers+1], http2: true},
			{name: "route", addrs: at[customers+1 : customers+2]},
			{name: "sink", addrs: []string{sink}},
		},
	})
}

// spans returns what arrived so far, of the services and of Envoy.
func (m *mesh) spans(t *testing.T) []otlpwire.Span {
	t.Helper()
	spans := slices.Clone(m.sink.Spans())
	if m.zip != nil {
		more, err := m.zip.wire()
		if err != nil {
			t.Fatal(err)
		}
		spans = append(spans, more...)
	}
	return spans
}

// TestEnvoy sends rides through a real Envoy in front of hotrod's frontend and between
// it and the services, and looks at every trace and at every request that Envoy logged.
func TestEnvoy(t *testing.T) {
	for _, tracer := range []string{"OpenTelemetry", "Zipkin, B3", "Zipkin, B3 with W3C"} {
		t.Run(tracer, func(t *testing.T) {
			root := need(t, envoy)
			shown := show(t, "Envoy in front and between: "+tracer, "Envoy "+envoyVersion)

			t.Run("tree", func(t *testing.T) {
				m := startMesh(t, root, tracer, 100)
				rides := takeRides(t, m.front, 8, 4, http.Header{})
				checkRides(t, m, rides, true)
				shown("%d rides at 100 %%: one tree each, 0 orphans", len(rides))
			})
			t.Run("decision", func(t *testing.T) {
				m := startMesh(t, root, tracer, 10)
				rides := takeRides(t, m.front, count(200, 1000), 24, http.Header{})
				sampled := checkRides(t, m, rides, false)
				// Both ends are more than four standard deviations away.
				if n := len(rides); sampled < n/50 || sampled > n/3 {
					t.Errorf("%d of %d rides were sampled, want about a tenth", sampled, n)
				}
				shown("%d rides at 10 %%: %d traced, the same at each of %d hops", len(rides), sampled, 13*len(rides))
			})
		})
	}
}

// checkRides looks at all rides of a mesh and returns how many were sampled.
func checkRides(t *testing.T, m *mesh, rides []taken, all bool) (sampled int) {
	t.Helper()
	var want int // traces
	for _, r := range rides {
		if r.Error != "" || r.Driver == "" || len(r.RequestID) != 36 {
			t.Fatalf("the ride is %+v", r)
		}
		if r.TraceID != "" {
			want++
		}
	}
	if all && want != len(rides) {
		t.Errorf("%d of %d rides were traced, want all", want, len(rides))
	}

	// Envoy's lines, and every span: 13 lines a ride.
	var logs []accessLog
	eventually(t, 20*time.Second, func() string {
		var err error
		if logs, err = m.envoy.accessLogs(); err != nil {
			return err.Error()
		}
		if len(logs) < 13*len(rides) {
			return fmt.Sprintf("Envoy logged %d requests, want %d", len(logs), 13*len(rides))
		}
		return ""
	})
	var traces []*tracetree.Trace
	eventually(t, 20*time.Second, func() string {
		traces = tracetree.Build(m.spans(t))
		if len(traces) < want {
			return fmt.Sprintf("%d traces arrived, want %d", len(traces), want)
		}
		for _, tr := range traces {
			if problem := looksLikeARide(tr); problem != "" {
				return problem
			}
		}
		return ""
	})
	if len(traces) != want {
		t.Errorf("%d traces arrived, want %d", len(traces), want)
	}
	byID := make(map[string]*tracetree.Trace)
	for _, tr := range traces {
		byID[tr.ID.String()] = tr
	}
	lines := make(map[string][]accessLog)
	for _, l := range logs {
		lines[l.RequestID] = append(lines[l.RequestID], l)
	}
	if len(logs) != 13*len(rides) || len(lines) != len(rides) {
		t.Errorf("Envoy logged %d requests with %d ids, want %d and %d", len(logs), len(lines), 13*len(rides), len(rides))
	}
	for _, r := range rides {
		checkLines(t, r, lines[r.RequestID])
		if r.TraceID == "" {
			continue
		}
		sampled++
		tr := byID[r.TraceID]
		if tr == nil {
			t.Errorf("the trace %s of a ride did not arrive", r.TraceID)
			continue
		}
		for n := range tr.Walk() {
			// Client spans do not repeat it.
			if id := attrOf(n.Span, "guid:x-request-id"); id != r.RequestID && (n.KindName() == "server" || n.Service() == "envoy") {
				t.Errorf("trace %s: server span %s of %s has the request id %q, want %q", r.TraceID, n.Name, n.Service(), id, r.RequestID)
			}
		}
	}
	return sampled
}

// checkLines looks at what Envoy logged of one ride: one decision everywhere.
func checkLines(t *testing.T, r taken, lines []accessLog) {
	t.Helper()
	seen := make(map[string]int)
	digit, flag, b3 := byte('9'), "01", "1"
	if r.TraceID == "" {
		digit, flag, b3 = '4', "00", "0"
	}
	var traceID string
	for _, l := range lines {
		seen[l.Listener]++
		if l.RequestID[14] != digit {
			t.Errorf("%s: the id %s of a ride with trace %q has the digit %c, want %c", l.Listener, l.RequestID, r.TraceID, l.RequestID[14], digit)
		}
		// What Envoy passed on, since its access log comes last.
		id := l.B3TraceID
		if l.Traceparent != "" {
			parts := strings.Split(l.Traceparent, "-")
			if len(parts) != 4 || parts[3] != flag {
				t.Errorf("%s: traceparent %q, want the flags %s", l.Listener, l.Traceparent, flag)
				continue
			}
			id = parts[1]
		}
		if l.B3Sampled != "" && l.B3Sampled != b3 {
			t.Errorf("%s: x-b3-sampled is %q, want %s", l.Listener, l.B3Sampled, b3)
		}
		if id == "" || traceID != "" && id != traceID || r.TraceID != "" && id != r.TraceID {
			t.Errorf("%s: the trace id is %q, at another hop %q, in the answer %q", l.Listener, id, traceID, r.TraceID)
		}
		traceID = id
		if l.Status != 200 {
			t.Errorf("%s answered %d", l.Listener, l.Status)
		}
	}
	if !maps.Equal(seen, hops) {
		t.Errorf("request %s passed %v, want %v", r.RequestID, seen, hops)
	}
}

// looksLikeARide says what a trace lacks.
func looksLikeARide(tr *tracetree.Trace) string {
	wrong := func(format string, args ...any) string {
		var b strings.Builder
		_ = tr.Print(&b)
		return fmt.Sprintf("trace %s: ", tr.ID) + fmt.Sprintf(format, args...) + "\n" + b.String()
	}
	if want := []string{"customer", "driver", "envoy", "frontend", "mysql", "redis", "route"}; !slices.Equal(tr.Services, want) {
		return wrong("the services are %v, want %v", tr.Services, want)
	}
	if len(tr.Roots) != 1 || tr.Orphans != 0 || tr.Repeated != 0 {
		return wrong("%d roots, %d orphans, %d repeated spans", len(tr.Roots), tr.Orphans, tr.Repeated)
	}
	if root := tr.Roots[0]; root.Service() != "envoy" || !isNamed(root.Name, "dispatch at the edge") || root.KindName() != "server" {
		return wrong("the root is %s %s of %s", root.KindName(), root.Name, root.Service())
	}
	seen := map[string]int{}
	for n := range tr.Walk() {
		up := n.Up()
		switch {
		case n.Service() == "envoy" && up == nil:
			seen["ingress"]++
			if len(n.Children) != 1 || n.Children[0].Service() != "frontend" || n.Children[0].KindName() != "server" {
				return wrong("the root has %d children, want frontend's server span", len(n.Children))
			}
		case n.Service() == "envoy":
			to := strings.TrimPrefix(n.Name, "to ")
			seen[to]++
			if up.Service() != "frontend" || up.KindName() != "client" {
				return wrong("above %s stands %s %s of %s, want frontend's client span", n.Name, up.KindName(), up.Name, up.Service())
			}
			if len(n.Children) != 1 || n.Children[0].Service() != to || n.Children[0].KindName() != "server" {
				return wrong("below %s stand %d spans, want one server span of %s", n.Name, len(n.Children), to)
			}
		case n.KindName() == "server" && up.Service() != "envoy":
			return wrong("above %s of %s stands %s of %s, want Envoy", n.Name, n.Service(), up.Name, up.Service())
		}
	}
	if !maps.Equal(seen, hops) {
		return wrong("Envoy's spans are %v, want %v", seen, hops)
	}
	return ""
}

// isNamed compares names as Zipkin does.
func isNamed(a, b string) bool { return strings.EqualFold(a, b) }

func attrOfResource(kvs []attribute.KeyValue, key string) string {
	for _, kv := range kvs {
		if string(kv.Key) == key {
			return kv.Value.String()
		}
	}
	return ""
}
