package middleware_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"

	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/requestid"
)

// A service: what a handler calls with its request's context carries the request
// id and the trace on.
func Example() {
	ctx := context.Background()
	tracing, err := middleware.Setup(ctx, middleware.Config{Service: "checkout", Getenv: noExport})
	if err != nil {
		log.Fatal(err)
	}
	defer tracing.Shutdown(ctx)

	stock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("stock got", r.Header.Get("X-Request-Id"))
	}))
	defer stock.Close()

	client := &http.Client{Transport: tracing.Transport(nil)}
	defer client.CloseIdleConnections()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /carts/{id}", func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), "GET", stock.URL, nil)
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
	})
	r := httptest.NewRequest("GET", "/carts/7", nil)
	r.Header.Set("X-Request-Id", "125a4afb-6f55-94ba-ad80-413f09f48a28")
	tracing.Handler(mux).ServeHTTP(httptest.NewRecorder(), r)
	// Output: stock got 125a4afb-6f55-94ba-ad80-413f09f48a28
}

// A queue is a transport that meshtrace does not know: its messages carry the
// context like headers do.
func ExampleTracing_StartServer() {
	ctx := context.Background()
	tracing, err := middleware.Setup(ctx, middleware.Config{Service: "worker", Getenv: noExport})
	if err != nil {
		log.Fatal(err)
	}
	defer tracing.Shutdown(ctx)

	message := map[string]string{"x-request-id": "125a4afb-6f55-94ba-ad80-413f09f48a28"}
	ctx, call := tracing.StartServer(ctx, middleware.Incoming{
		Name:    "process orders",
		Kind:    trace.SpanKindConsumer,
		Carrier: otelprop.MapCarrier(message),
	})
	fmt.Println(requestid.FromContext(ctx), call.Decision().Traced)
	call.End(middleware.Outcome{})
	// Output: 125a4afb-6f55-94ba-ad80-413f09f48a28 true
}

// A gateway in a mesh that reports to Zipkin: its server span is the caller's own, and
// what it calls is told so.
func ExampleWithZipkin() {
	cfg := middleware.WithZipkin(middleware.Envoy(), middleware.Zipkin{})
	cfg.Getenv = noExport
	tracing, err := middleware.Setup(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer tracing.Shutdown(context.Background())

	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("upstream got", r.Header.Get("B3"))
	}))
	defer upstream.Close()
	to, _ := url.Parse(upstream.URL)
	transport := tracing.Transport(nil)
	defer http.DefaultClient.CloseIdleConnections()
	gateway := tracing.Handler(&httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})

	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("B3", "48485a3953bb6124-a2fb4a1d1a96d312-1-0020000000000001")
	gateway.ServeHTTP(httptest.NewRecorder(), r)
	// Output: upstream got 48485a3953bb6124-a2fb4a1d1a96d312-1-0020000000000001
}
