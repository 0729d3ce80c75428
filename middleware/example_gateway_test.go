package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/span"
)

// A reverse proxy that traces as an Envoy listener does, with a span for each of its
// tries. The router tells where a try goes, and what it gives up.
func Example_gateway() {
	cart := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "cart") }))
	defer cart.Close()

	spans := tracetest.NewSpanRecorder()
	cfg := middleware.Envoy() // or EnvoyGateway, Gloo, Istio
	cfg.SpawnUpstreamSpan = true
	cfg.Tags = []span.Tag{span.RequestHeader("tenant", "x-tenant", "nobody")}
	cfg.Route = func(*http.Request) middleware.Route {
		return middleware.Route{
			Decorator: span.Decorator{Operation: "shop.carts"},
			Upstream:  middleware.Upstream{Cluster: "carts"},
		}
	}
	cfg.Processors = []sdktrace.SpanProcessor{spans} // for this example; an exporter without it
	cfg.Getenv = func(name string) string { return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name] }
	cfg.Logger = slog.New(slog.DiscardHandler)
	tracing, err := middleware.Setup(context.Background(), cfg)
	if err != nil {
		panic(err)
	}
	defer tracing.Shutdown(context.Background())

	base := &http.Transport{DisableKeepAlives: true}
	hosts := []string{"127.0.0.1:1", cart.Listener.Addr().String()} // nobody listens on the first
	next := tracing.Transport(base)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.Host = "http", r.In.Host },
		Transport: roundTripper(func(r *http.Request) (resp *http.Response, err error) {
			for _, host := range hosts {
				ctx := middleware.WithUpstream(r.Context(), middleware.Upstream{Address: host})
				out := r.Clone(ctx)
				out.URL.Host = host
				if resp, err = next.RoundTrip(out); err == nil {
					return resp, nil
				}
			}
			middleware.AddResponseFlags(r.Context(), middleware.FlagUpstreamRetryLimit)
			return nil, err
		}),
	}
	w := httptest.NewRecorder()
	tracing.Handler(proxy).ServeHTTP(w, httptest.NewRequest("GET", "http://shop.example/carts/7", nil))

	fmt.Println(w.Body, "·", w.Header().Get("X-Envoy-Decorator-Operation"))
	for _, s := range spans.Started() {
		fmt.Print(s.Name(), " ", s.SpanKind())
		for _, kv := range s.Attributes() {
			switch kv.Key {
			case "http.url", "tenant", "response_flags", "error.reason", "retry.count":
				fmt.Printf(" %s=%s", kv.Key, kv.Value.AsString())
			}
		}
		fmt.Println()
	}
	// Output:
	// cart · shop.carts
	// shop.carts server http.url=http://shop.example/carts/7 response_flags=- tenant=nobody
	// router carts egress client error.reason=remote connection failure response_flags=UF tenant=nobody
	// router carts egress client retry.count=1 response_flags=- tenant=nobody
}

// A try has a time of its own: the cause of its end tells it from the request's.
func ExampleResetOf() {
	for _, err := range []error{
		io.EOF,
		fmt.Errorf("breaker: %w", middleware.ResetOverflow),
		errors.New("malformed HTTP response"),
	} {
		reset := middleware.ResetOf(err)
		fmt.Println(reset, reset.Flag())
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), time.Nanosecond, middleware.ErrPerTryTimeout)
	defer cancel()
	<-ctx.Done()
	fmt.Println(errors.Is(context.Cause(ctx), context.DeadlineExceeded))
	// Output:
	// connection termination UC
	// overflow UO
	// protocol error UPE
	// true
}
