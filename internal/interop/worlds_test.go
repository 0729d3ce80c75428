package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	otelprop "go.opentelemetry.io/otel/propagation"
	sdkresource "go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/internal/collectortest"
	"github.com/meshtrace/meshtrace/internal/tracetree"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
)

// world is a way to trace a service: meshtrace, or otelhttp and otelgrpc.
type world struct {
	handler func(http.Handler) http.Handler
	client  http.RoundTripper
	server  []grpc.ServerOption
	dial    []grpc.DialOption
	flush   func(context.Context) error
}

func meshtraceWorld(t *testing.T, service string, sink *collectortest.Collector) *world {
	t.Helper()
	tracing, err := middleware.Setup(t.Context(), middleware.Config{
		Service: service, Export: exporter.Config{Endpoint: sink.URL(), Delay: 50 * time.Millisecond}, Getenv: func(string) string { return "" },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracing.Shutdown(context.Background()) })
	return &world{tracing.Handler, tracing.Transport(nil), tracegrpc.ServerOptions(tracing), tracegrpc.DialOptions(tracing), tracing.ForceFlush}
}

func stockWorld(t *testing.T, service string, sink *collectortest.Collector) *world {
	t.Helper()
	exp, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpoint(sink.Addr()), otlptracegrpc.WithInsecure())
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exp),
		sdktrace.WithResource(sdkresource.NewSchemaless(attribute.String("service.name", service))))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	prop := otelprop.NewCompositeTextMapPropagator(otelprop.TraceContext{}, otelprop.Baggage{})
	return &world{
		handler: func(h http.Handler) http.Handler {
			return otelhttp.NewHandler(h, service, otelhttp.WithTracerProvider(provider), otelhttp.WithPropagators(prop))
		},
		client: otelhttp.NewTransport(nil, otelhttp.WithTracerProvider(provider), otelhttp.WithPropagators(prop)),
		server: []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(provider), otelgrpc.WithPropagators(prop)))},
		dial:   []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithTracerProvider(provider), otelgrpc.WithPropagators(prop)))},
		flush:  provider.ForceFlush,
	}
}

// call goes on to the next service.
type call func(context.Context) error

// serveHTTP runs a service that calls next, and returns how to call it out of a world.
func (w *world) serveHTTP(t *testing.T, next call) func(from *world) call {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hop", func(rw http.ResponseWriter, r *http.Request) {
		if err := next(r.Context()); err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
		}
	})
	srv := &http.Server{Handler: w.handler(mux)}
	go srv.Serve(l)
	t.Cleanup(func() { _ = srv.Close() })
	return func(from *world) call {
		client := &http.Client{Transport: from.client, Timeout: 20 * time.Second}
		return func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.Addr().String()+"/hop", nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("the next service answers %s", resp.Status)
			}
			return nil
		}
	}
}

type grpcHop struct {
	pb.UnimplementedTestServiceServer
	next call
}

func (h *grpcHop) UnaryCall(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	return &pb.SimpleResponse{}, h.next(ctx)
}

// serveGRPC is serveHTTP for gRPC.
func (w *world) serveGRPC(t *testing.T, next call) func(from *world) call {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(w.server...)
	pb.RegisterTestServiceServer(srv, &grpcHop{next: next})
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return func(from *world) call {
		cc, err := grpc.NewClient(l.Addr().String(), append(from.dial, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cc.Close() })
		client := pb.NewTestServiceClient(cc)
		return func(ctx context.Context) error {
			_, err := client.UnaryCall(ctx, &pb.SimpleRequest{})
			return err
		}
	}
}

// TestTwoWorlds has services of both worlds call each other, over HTTP and gRPC, in
// every order: one tree.
func TestTwoWorlds(t *testing.T) {
	shown := show(t, "services of otelhttp and otelgrpc between ours, every order", "otelhttp, otelgrpc")
	const hops = 5 // of kinds HTTP, HTTP, gRPC, gRPC, HTTP
	chains, spans := 0, 0
	for order := range 1 << hops {
		sink := collectortest.Start(t)
		var worlds []*world
		var names []string
		for i := range hops {
			kind, start := "stock", stockWorld
			if order&(1<<i) != 0 {
				kind, start = "meshtrace", meshtraceWorld
			}
			names = append(names, fmt.Sprintf("%d-%s", i, kind))
			worlds = append(worlds, start(t, names[i], sink))
		}
		// From the last to the first; each is called out of the one before.
		next := func(context.Context) error { return nil }
		for i := hops - 1; i >= 0; i-- {
			serve := worlds[i].serveHTTP
			if i == 2 || i == 3 {
				serve = worlds[i].serveGRPC
			}
			reach := serve(t, next)
			if i == 0 {
				next = reach(&world{client: http.DefaultTransport})
			} else {
				next = reach(worlds[i-1])
			}
		}
		if err := next(t.Context()); err != nil {
			t.Fatalf("%v: %v", names, err)
		}
		for _, w := range worlds {
			if err := w.flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		const want = 2*hops - 1
		sink.Wait(want)
		traces := tracetree.Build(sink.Spans())
		if len(traces) != 1 || traces[0].Orphans != 0 || len(traces[0].Roots) != 1 || traces[0].Spans != want || traces[0].Depth != want {
			t.Errorf("%v: %s", names, draw(traces))
			continue
		}
		// A line of spans: server, client, server, … each in its service.
		for n := range traces[0].Walk() {
			kind := []string{"client", "server"}[n.Depth%2]
			if n.Service() != names[(n.Depth-1)/2] || n.KindName() != kind {
				t.Errorf("%v: at depth %d stands %s of %s, want %s of %s", names, n.Depth, n.KindName(), n.Service(), kind, names[(n.Depth-1)/2])
			}
		}
		chains++
		spans += want
	}
	shown("%d chains of %d services, HTTP and gRPC: %d spans, each chain one tree, 0 orphans", chains, hops, spans)
}

func draw(traces []*tracetree.Trace) string {
	var b strings.Builder
	for _, tr := range traces {
		_ = tr.Print(&b)
	}
	return fmt.Sprintf("%d traces\n%s", len(traces), b.String())
}

// TestOriginalHotROD puts our proxies before and between the services of the original
// HotROD, whose own spans are otelhttp's and otelgrpc's: one tree.
func TestOriginalHotROD(t *testing.T) {
	root := need(t, hotrod)
	shown := show(t, "our proxies before and between the original HotROD's services", "HotROD "+hotrodVersion)
	sink := collectortest.Start(t)
	bin := hotrod.path(root)
	at := free(t, 4) // frontend, customer, driver, route
	env := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + sink.URL(), "OTEL_BSP_SCHEDULE_DELAY=200"}

	proxy := func(name, to string) (addr string) {
		w := meshtraceWorld(t, name, sink)
		p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
		p.Transport = w.client
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: w.handler(p)}
		go srv.Serve(l)
		t.Cleanup(func() { _ = srv.Close() })
		return l.Addr().String()
	}
	customer, route := proxy("proxy-customer", at[1]), proxy("proxy-route", at[3])
	edge := proxy("proxy-edge", at[0])

	flags := func(customer, driver, route string) []string {
		var all []string
		for name, addr := range map[string]string{"frontend": at[0], "customer": customer, "driver": driver, "route": route} {
			all = append(all, "--"+name+"-service-hostname", "127.0.0.1", "--"+name+"-service-port", port(t, addr))
		}
		return all
	}
	for i, name := range []string{"customer", "driver", "route"} {
		began(t, name, []string{at[i+1]}, env, bin, append([]string{name}, flags(at[1], at[2], at[3])...)...)
	}
	// The frontend finds customer and route behind our proxies.
	began(t, "frontend", []string{at[0]}, env, bin, append([]string{"frontend"}, flags(customer, at[2], route)...)...)

	const rides = 3
	for i := range rides {
		resp, err := http.Get("http://" + edge + "/dispatch?customer=123&nonse=" + fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("the ride answers %s", resp.Status)
		}
	}
	want := []string{"customer", "driver", "frontend", "mysql", "proxy-customer", "proxy-edge", "proxy-route", "redis-manual", "route"}
	var traces []*tracetree.Trace
	eventually(t, 20*time.Second, func() string {
		traces = tracetree.Build(sink.Spans())
		if len(traces) != rides {
			return draw(traces)
		}
		for _, tr := range traces {
			if !slices.Equal(tr.Services, want) || tr.Orphans != 0 || len(tr.Roots) != 1 || tr.Roots[0].Service() != "proxy-edge" {
				return fmt.Sprintf("the services are %v, want %v; %s", tr.Services, want, draw(traces))
			}
		}
		return ""
	})
	spans, between, calls := 0, 0, 0
	for _, tr := range traces {
		spans += tr.Spans
		for n := range tr.Walk() {
			if n.Service() == "frontend" && n.KindName() == "client" && !strings.Contains(n.Name, "Driver") {
				calls++ // a driver that redis did not find has no route
			}
			// Each call of the frontend by HTTP goes through one of our proxies.
			if (n.Service() == "customer" || n.Service() == "route") && n.KindName() == "server" {
				between++
				if up := n.Up(); up.Service() != "proxy-"+n.Service() || up.Up().Up().Service() != "frontend" {
					t.Errorf("above the server span of %s stands %s, want our proxy and the frontend", n.Service(), up.Service())
				}
			}
		}
	}
	if between != calls || between < 2*rides {
		t.Errorf("%d calls went through our proxies of the %d that the frontend made", between, calls)
	}
	shown("%d rides, %d spans of nine services: one tree each, 0 orphans, %d calls of HotROD's frontend through our proxies", rides, spans, between)
}
