package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/meshtrace/meshtrace/examples/gateway/proxy"
	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/internal/collectortest"
	"github.com/meshtrace/meshtrace/middleware"
)

// TestDecorators puts a real Envoy and a gateway of ours one behind the other, in both
// orders: the operation that one says names the other's span, by the request from egress
// to ingress and by the response from ingress to egress.
func TestDecorators(t *testing.T) {
	root := need(t, envoy)
	shown := show(t, "decorators between Envoy and a gateway of ours, both directions", "Envoy "+envoyVersion)
	cases := []struct {
		name                string
		oursFirst           bool
		egress, ingress     string // decorators of the first and of the second
		firstNamed, secNamd string
		rule                string
	}{
		{"Envoy's egress names our ingress", false, "out", "in", "out", "out", "N-10, N-7"},
		{"our ingress names Envoy's egress", false, "", "in", "in", "in", "N-5, N-12"},
		{"our egress names Envoy's ingress", true, "out", "in", "out", "out", "N-10, N-7"},
		{"Envoy's ingress names our egress", true, "", "in", "in", "in", "N-5, N-12"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			sink := collectortest.Start(t)
			up := startUpstream(t)
			at := free(t, 1)[0]
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ours := l.Addr().String()

			theirs := envoyListener{name: "envoy", addr: at, cluster: "up", outbound: !c.oursFirst, decorator: c.egress}
			cfg := proxy.Config{
				Tracing:  &proxy.Tracing{Service: "ours", Preset: "envoy", Direction: "ingress"},
				Clusters: map[string]proxy.Cluster{"up": {Hosts: []proxy.Host{{Address: up.addr}}}},
				Routes:   []proxy.Route{{Prefix: "/", Cluster: "up"}},
			}
			notEdge := false
			cfg.Edge.UseRemoteAddress, cfg.Edge.Internal = &notEdge, []string{"127.0.0.0/8"}
			decorator, first, envoyUp := c.ingress, at, ours
			if c.oursFirst {
				theirs.decorator, decorator, first, envoyUp = c.ingress, c.egress, ours, up.addr
				cfg.Tracing.Direction = "egress"
				cfg.Clusters["up"] = proxy.Cluster{Hosts: []proxy.Host{{Address: at}}}
			}
			if decorator != "" {
				cfg.Routes[0].Decorator = &proxy.Decorator{Operation: decorator}
			}
			served, err := proxy.New(t.Context(), cfg, proxy.Options{Logger: slog.New(slog.DiscardHandler), Edit: func(m *middleware.Config) {
				m.Getenv = func(string) string { return "" }
				m.Export = exporter.Config{Endpoint: sink.URL(), Delay: 20 * time.Millisecond}
			}})
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: served, ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
			go srv.Serve(l)
			t.Cleanup(func() {
				_ = srv.Close()
				_ = served.Close(context.Background())
			})
			startEnvoy(t, root, envoyConfig{provider: openTelemetryTracer(sink.Addr()), random: 100, listeners: []envoyListener{theirs}, clusters: []envoyCluster{
				{name: "up", addrs: []string{envoyUp}}, {name: "sink", addrs: []string{sink.Addr()}}}})

			head, err := askRaw(first, "decorated", []string{"GET /orders HTTP/1.1", "Host: shop.example"})
			if err != nil {
				t.Fatal(err)
			}
			if h := headersOf(head)["x-envoy-decorator-operation"]; len(h) != 0 {
				t.Errorf("the client sees the operation %q", h)
			}
			if h := headersOf(up.take("decorated"))["x-envoy-decorator-operation"]; len(h) != 0 {
				t.Errorf("the upstream sees the operation %q", h)
			}
			sink.Wait(2)
			names := make(map[string]string)
			for _, s := range sink.Spans() {
				names[attrOfResource(s.Resource.Attributes, "service.name")] = s.Name
			}
			want := map[string]string{"envoy": c.firstNamed, "ours": c.secNamd}
			if c.oursFirst {
				want = map[string]string{"ours": c.firstNamed, "envoy": c.secNamd}
			}
			if fmt.Sprint(names) != fmt.Sprint(want) {
				t.Errorf("the spans are named %v, want %v (%s)", names, want, c.rule)
			}
			shown("%s (%s)", c.name, c.rule)
		})
	}
}
