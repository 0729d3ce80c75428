package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkresource "go.opentelemetry.io/otel/sdk/resource"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/sampler"
)

// childEnv makes the test's binary the program that a deployment runs.
const childEnv = "MESHTRACE_INTEROP_CHILD"

// child is a program that says in code where its spans go, what it is called, how contexts
// travel and what is sampled, all of it otherwise than the deployment wants. It listens
// on the first argument and calls the second on each request.
func child() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	tracing, err := middleware.Setup(ctx, middleware.Config{
		Service: "named-in-code",
		Version: "0.0.1-code",
		Resource: sdkresource.NewSchemaless(attribute.String("k8s.namespace.name", "from-code"),
			attribute.String("only.in.code", "stays")),
		Propagation: propagation.Config{Extract: []propagation.Format{propagation.Jaeger}, Inject: []propagation.Format{propagation.Jaeger}},
		Sampling:    sampler.Config{Random: sampler.Percent(0)},
		Export:      exporter.Config{Endpoint: "127.0.0.1:1", Protocol: exporter.GRPC, Delay: 100 * time.Millisecond},
		Logger:      slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	client := &http.Client{Transport: tracing.Transport(nil)}
	next := os.Args[2]
	mux := http.NewServeMux()
	mux.HandleFunc("GET /work", func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, next, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		resp, err := client.Do(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = resp.Body.Close()
	})
	srv := &http.Server{Addr: os.Args[1], Handler: tracing.Handler(mux), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		_ = srv.Close()
	}()
	err = srv.ListenAndServe()
	stopping, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if serr := tracing.Shutdown(stopping); serr != nil {
		return serr
	}
	if err == http.ErrServerClosed {
		return nil
	}
	return err
}

// TestOperatorInjection runs a program under the environment that the OpenTelemetry
// Operator injects. The environment wins over the code, shown by what arrived.
func TestOperatorInjection(t *testing.T) {
	root := need(t, collector)
	shown := show(t, "the Operator's environment over a program's own settings", "Collector "+collectorVersion)
	out := filepath.Join(t.TempDir(), "traces.jsonl")
	c := startCollector(t, root, collector, string(toFileYAML), "OUT="+out)

	// The next service, which notes the headers that it gets.
	var mu sync.Mutex
	var headers []http.Header
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	next := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		headers = append(headers, r.Header.Clone())
	})}
	go next.Serve(l)
	t.Cleanup(func() { _ = next.Close() })

	attributes := map[string]string{
		"k8s.container.name": "app", "k8s.deployment.name": "checkout", "k8s.namespace.name": "shop", "k8s.node.name": "node-1",
		"k8s.pod.name": "checkout-7d9fb-x2x4p", "k8s.pod.uid": "8f0bb26f-3e93-4f36-8d4b-1e7f5b3b1a11", "k8s.replicaset.name": "checkout-7d9fb",
		"service.instance.id": "shop.checkout-7d9fb-x2x4p.app", "service.namespace": "shop", "service.version": "1.4.2",
	}
	var pairs []string
	for k, v := range attributes {
		pairs = append(pairs, k+"="+v)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	at := free(t, 1)
	p := began(t, "program", at, []string{
		childEnv + "=operator",
		"OTEL_SERVICE_NAME=checkout",
		"OTEL_RESOURCE_ATTRIBUTES=" + strings.Join(pairs, ","),
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + c.addrs[1],
		"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_PROPAGATORS=tracecontext,baggage,b3",
		"OTEL_TRACES_SAMPLER=parentbased_traceidratio",
		"OTEL_TRACES_SAMPLER_ARG=0.25",
		"OTEL_NODE_IP=10.0.0.4", "OTEL_POD_IP=10.0.1.7",
	}, self, at[0], "http://"+l.Addr().String()+"/next")

	const roots, traced, untraced = 400, 20, 20
	ask := func(n int, header http.Header) {
		t.Helper()
		for range n {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at[0]+"/work", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = header.Clone()
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("the program answers %s\n%s", resp.Status, p.output)
			}
		}
	}
	const caller = "4bf92f3577b34da6a3ce929d0e0e4736"
	ask(roots, http.Header{})
	ask(traced, http.Header{"Traceparent": {"00-" + caller + "-00f067aa0ba902b7-01"}})
	ask(untraced, http.Header{"B3": {"0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"}})
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}

	traces := make(map[string]int)
	for _, f := range readFile(t, out) {
		traces[f.Span.TraceID]++
		for k, want := range attributes {
			if got := plainAttr(f.Resource.Attributes, k); got != want {
				t.Fatalf("the resource has %s=%q, want %q", k, got, want)
			}
		}
		for k, want := range map[string]string{"service.name": "checkout", "only.in.code": "stays"} {
			if got := plainAttr(f.Resource.Attributes, k); got != want {
				t.Fatalf("the resource has %s=%q, want %q", k, got, want)
			}
		}
	}
	// The caller's traces are one trace id each.
	if got := traces[caller]; got != 2*traced {
		t.Errorf("%d spans of the caller's trace arrived, want %d: parent-based", got, 2*traced)
	}
	if got := traces["0af7651916cd43dd8448eb211c80319c"]; got != 0 {
		t.Errorf("%d spans of a trace arrived that the caller does not trace, by b3", got)
	}
	own := len(traces) - 1
	// A quarter; both ends are more than five standard deviations away.
	if own < roots/4-45 || own > roots/4+45 {
		t.Errorf("%d of %d traces of the program's own arrived, want about a quarter", own, roots)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(headers) != roots+traced+untraced {
		t.Errorf("the next service was called %d times, want %d", len(headers), roots+traced+untraced)
	}
	for _, h := range headers {
		if h.Get("Traceparent") == "" || h.Get("B3") == "" || h.Get("Uber-Trace-Id") != "" {
			t.Fatalf("the next service gets %v, want traceparent and b3 and nothing else", h)
		}
	}
	shown("name, %d resource attributes, endpoint and protocol, propagators and sampler of the environment: %d of %d own traces at 0.25, all of a traced caller's, none of an untraced one's",
		len(attributes), own, roots)
}

func plainAttr(kvs []keyValue, key string) string {
	for _, kv := range kvs {
		if kv.Key == key {
			return plain(kv.Value)
		}
	}
	return ""
}
