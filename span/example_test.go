package span_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

func ExampleStart() {
	price := func(ctx context.Context) {
		ctx, sp := span.Start(ctx, "price", trace.WithAttributes(attribute.Int("cart.items", 3)))
		defer sp.End()
		_ = ctx // calls made with it are below the span
	}
	price(context.Background()) // outside a request it does nothing
}

// A router that keeps its pattern to itself needs four lines.
func ExampleSetRoute() {
	routed := func(pattern string, next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			span.SetRoute(r.Context(), pattern)
			next(w, r)
		}
	}
	http.HandleFunc("/", routed("/carts/{id}", func(http.ResponseWriter, *http.Request) {}))
}

func ExampleSetError() {
	handler := func(w http.ResponseWriter, r *http.Request) {
		err := errors.New("out of stock")
		span.SetError(r.Context(), err)      // an error in the trace
		fmt.Fprintf(w, `{"error": %q}`, err) // a 200 to the client
	}
	http.HandleFunc("/order", handler)
}

func ExampleLogHandler() {
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	logger := slog.New(span.LogHandler(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: noTime})))

	// In a handler this is r.Context().
	ctx := requestid.NewContext(context.Background(), "7a3c4e9d-5d43-9b5e-8c11-2f1e60a86d2b")
	logger.WithGroup("order").InfoContext(ctx, "paid", "id", 17)
	// Output: {"level":"INFO","msg":"paid","order":{"id":17},"request_id":"7a3c4e9d-5d43-9b5e-8c11-2f1e60a86d2b"}
}

func ExampleHTTPName() {
	fmt.Println(span.HTTPName("GET", "GET example.com/carts/{id}"))
	fmt.Println(span.HTTPName("PROPFIND", ""))
	// Output:
	// GET /carts/{id}
	// HTTP
}

func ExampleRPCName() {
	fmt.Println(span.RPCName("/driver.DriverService/FindNearest"))
	// Output: driver.DriverService/FindNearest
}

func ExampleStatusMap() {
	// As the semantic conventions have it, but RESOURCE_EXHAUSTED (8) is the server's
	// fault as well.
	m := span.StatusMap{Server: span.Errors{GRPC: span.ServerGRPCErrors | 1<<8}}
	fmt.Println(m.GRPC(trace.SpanKindServer, 8, nil).Code)
	fmt.Println(m.HTTP(trace.SpanKindServer, 404, nil).Code, m.HTTP(trace.SpanKindClient, 404, nil).Code)
	// Output:
	// Error
	// Unset Error
}

func ExampleSampledLogs() {
	out := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
	// Of the requests 1 in 100 has its Debug lines, all of them.
	logger := slog.New(span.LogHandler(span.SampledLogs(out, slog.LevelInfo, sampler.Percent(1).Hit)))

	for _, id := range []requestid.ID{"00000001-6f55-44ba-ad80-413f09f48a28", "00000800-6f55-44ba-ad80-413f09f48a28"} {
		ctx := requestid.NewContext(context.Background(), id)
		logger.DebugContext(ctx, "asking the cache")
		logger.InfoContext(ctx, "sold")
	}
	// Output:
	// level=DEBUG msg="asking the cache" request_id=00000001-6f55-44ba-ad80-413f09f48a28
	// level=INFO msg=sold request_id=00000001-6f55-44ba-ad80-413f09f48a28
	// level=INFO msg=sold request_id=00000800-6f55-44ba-ad80-413f09f48a28
}

// Names and tags by command operators, tried out on what a request may be.
func ExampleParseTemplate() {
	t, err := span.ParseTemplate("%REQ(:METHOD)% %PATH(NQ)% %RESPONSE_CODE%")
	if err != nil {
		panic(err)
	}
	fmt.Println(t.Render(&span.Facts{Method: "GET", Path: "/carts?id=7", Status: 404}))
	_, err = span.ParseTemplate("%REQ(:METHOD)% %DURATION")
	fmt.Println(err)
	// Output:
	// GET /carts 404
	// span: template "%REQ(:METHOD)% %DURATION", byte 15: a % begins an operator that has no end: allowed is %NAME%, and %% for the sign
}

func ExampleIstioOperation() {
	d := span.Decorator{Operation: span.IstioOperation("reviews.default.svc.cluster.local", 9080, "/api/*")}
	fmt.Println(d.Operation)
	// Output: reviews.default.svc.cluster.local:9080/api/*
}
