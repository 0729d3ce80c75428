package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkresource "go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/exporter"
)

// madeTrace is what went out of one trace.
type madeTrace struct {
	id    string
	spans map[string]bool // ids
	sort  string          // error, slow or plain
}

// makeTraces ends n traces of 8 spans over four services, each with an exporter of its
// own, as a fleet does: one in eight has an error, one in eight is slow.
func makeTraces(t *testing.T, endpoint string, n int) []*madeTrace {
	t.Helper()
	var tracers []trace.Tracer
	var exporters []*exporter.Exporter
	for _, service := range []string{"edge", "orders", "stock", "mail"} {
		exp, err := exporter.New(exporter.Config{Endpoint: endpoint, Getenv: func(string) string { return "" }})
		if err != nil {
			t.Fatal(err)
		}
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(exp), sdktrace.WithSampler(sdktrace.AlwaysSample()),
			sdktrace.WithResource(sdkresource.NewSchemaless(attribute.String("service.name", service))))
		tracers, exporters = append(tracers, provider.Tracer("tiers")), append(exporters, exp)
	}
	var made []*madeTrace
	for i := range n {
		m := &madeTrace{spans: make(map[string]bool), sort: []string{"error", "slow", "plain", "plain", "plain", "plain", "plain", "plain"}[i%8]}
		start := time.Now()
		ctx, root := tracers[0].Start(context.Background(), "POST /orders", trace.WithTimestamp(start))
		m.id = root.SpanContext().TraceID().String()
		m.spans[root.SpanContext().SpanID().String()] = true
		for k := range 7 {
			_, s := tracers[k%4].Start(ctx, fmt.Sprintf("step %d", k), trace.WithTimestamp(start))
			if m.sort == "error" && k == 5 {
				s.SetStatus(codes.Error, "out of stock")
			}
			s.End(trace.WithTimestamp(start.Add(10 * time.Millisecond)))
			m.spans[s.SpanContext().SpanID().String()] = true
		}
		took := 20 * time.Millisecond
		if m.sort == "slow" {
			took = 2500 * time.Millisecond
		}
		root.End(trace.WithTimestamp(start.Add(took)))
		made = append(made, m)
	}
	for _, exp := range exporters {
		if err := exp.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
	return made
}

// TestTwoTiers sends traces of many services through an agent Collector, which balances
// by trace id, to two gateways with tail sampling: the configurations of examples/deploy.
func TestTwoTiers(t *testing.T) {
	root := need(t, collector, zipkin)
	shown := show(t, "two tiers with tail sampling", "Collectors "+collectorVersion+", Zipkin "+zipkinVersion)
	config := func(name string) string {
		b, err := os.ReadFile(filepath.Join(root, "examples", "deploy", "collector", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	z := startZipkin(t, root)
	var gateways []*running
	var outs []string
	for range 2 {
		out := filepath.Join(t.TempDir(), "kept.jsonl")
		addrs := free(t, 1)
		gateways = append(gateways, began(t, "gateway", addrs, []string{"GRPC=" + addrs[0], "OUT=" + out, "ZIPKIN=http://" + z.addrs[0] + "/api/v2/spans"},
			collector.path(root), "--config", write(t, "gateway.yaml", []byte(config("gateway.yaml")))))
		outs = append(outs, out)
	}
	agent := startCollector(t, root, collector, config("agent.yaml"), "GATEWAY1="+gateways[0].addrs[0], "GATEWAY2="+gateways[1].addrs[0])

	made := makeTraces(t, "http://"+agent.addrs[0], count(400, 4000))
	rides := hotrodRides(t, root, "http://"+agent.addrs[1], 2)
	made = append(made, rides...)

	// Gateways decide 5 s after a trace's first span.
	kept := make([]map[string]map[string]bool, len(outs)) // gateway, trace, span
	missing := func() string {
		for i, out := range outs {
			kept[i] = make(map[string]map[string]bool)
			for _, f := range readWhole(t, out) {
				id := f.Span.TraceID
				if kept[i][id] == nil {
					kept[i][id] = make(map[string]bool)
				}
				if kept[i][id][f.Span.SpanID] {
					t.Errorf("gateway %d has span %s twice", i+1, f.Span.SpanID)
				}
				kept[i][id][f.Span.SpanID] = true
			}
		}
		for _, m := range made {
			if m.sort != "plain" && len(kept[0][m.id])+len(kept[1][m.id]) < len(m.spans) {
				return fmt.Sprintf("of trace %s (%s) %d of %d spans were kept", m.id, m.sort, len(kept[0][m.id])+len(kept[1][m.id]), len(m.spans))
			}
		}
		return ""
	}
	eventually(t, 30*time.Second, missing)
	time.Sleep(6 * time.Second) // what is dropped is dropped by now
	if said := missing(); said != "" {
		t.Error(said)
	}

	counts := make(map[string]int)
	keptOf := make(map[string]int)
	for _, m := range made {
		counts[m.sort]++
		a, b := kept[0][m.id], kept[1][m.id]
		if len(a) > 0 && len(b) > 0 {
			t.Errorf("trace %s is split: %d spans here, %d there", m.id, len(a), len(b))
		}
		got := a
		if len(b) > 0 {
			got = b
		}
		if len(got) == 0 {
			continue
		}
		keptOf[m.sort]++
		if len(got) != len(m.spans) {
			t.Errorf("trace %s (%s): %d of %d spans were kept", m.id, m.sort, len(got), len(m.spans))
		}
		for id := range m.spans {
			if !got[id] {
				t.Errorf("trace %s: span %s is missing", m.id, id)
			}
		}
		var inZipkin []zipkinSpan
		eventually(t, 10*time.Second, func() string {
			if err := getJSON("http://"+z.addrs[0]+"/api/v2/trace/"+m.id, &inZipkin); err != nil {
				return err.Error()
			}
			if len(inZipkin) != len(m.spans) {
				return fmt.Sprintf("trace %s has %d spans in Zipkin, want %d", m.id, len(inZipkin), len(m.spans))
			}
			return ""
		})
	}
	if len(kept[0]) == 0 || len(kept[1]) == 0 {
		t.Errorf("the gateways kept %d and %d traces: nothing was balanced", len(kept[0]), len(kept[1]))
	}
	// A tenth; both ends are further than five standard deviations away.
	if p, n := keptOf["plain"], counts["plain"]; p < n/30 || p > n/4 {
		t.Errorf("%d of %d plain traces were kept, want about a tenth", p, n)
	}
	shown("%d of %d traces with an error, %d of %d slow, %d of %d others kept, each whole, none split (%d and %d a gateway), the same in Zipkin",
		keptOf["error"], counts["error"], keptOf["slow"], counts["slow"], keptOf["plain"], counts["plain"], len(kept[0]), len(kept[1]))
}

// readWhole reads the whole lines of a file that a Collector is still writing.
func readWhole(t *testing.T, path string) []flat {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 && b[len(b)-1] != '\n' {
		b = b[:len(b)-1]
	}
	flats, err := readSpans(b)
	if err != nil {
		t.Fatal(err)
	}
	return flats
}

// hotrodRides takes rides with all of our hotrod in one process, which sends to a
// collector, and says what went out. Each has errors: redis times out.
func hotrodRides(t *testing.T, root, endpoint string, n int) []*madeTrace {
	t.Helper()
	printed := rideOnce(t, root, endpoint, n)
	byID := make(map[string]*madeTrace)
	var made []*madeTrace
	for _, f := range printed {
		m := byID[f.Span.TraceID]
		if m == nil {
			m = &madeTrace{id: f.Span.TraceID, spans: make(map[string]bool), sort: "error"}
			byID[m.id] = m
			made = append(made, m)
		}
		m.spans[f.Span.SpanID] = true
	}
	if len(made) != n {
		t.Fatalf("%d rides made %d traces", n, len(made))
	}
	return made
}

// rideOnce runs hotrod for n rides and returns the spans that it printed.
func rideOnce(t *testing.T, root, endpoint string, n int) []flat {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, account, err := oneRide(ctx, buildHotrod(t, root), endpoint, "", "-rides", fmt.Sprint(n))
	if err != nil {
		t.Fatal(err)
	}
	flats, err := readSpans(out)
	if err != nil {
		t.Fatalf("hotrod's -json: %v\n%s", err, account)
	}
	return flats
}
