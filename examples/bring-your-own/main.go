// Bring-your-own is a service that has OpenTelemetry already: a TracerProvider with a
// sampler and an exporter of its own, otelsql around its database, otelhttp around a
// client that it does not want to touch. meshtrace adds what the mesh needs: the
// proxy's decision, x-request-id, and the trace formats of whoever calls. All of it is
// one tree a request.
//
//	go run .
//	curl http://127.0.0.1:8080/orders/7
package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/XSAM/otelsql"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"go.opentelemetry.io/otel/attribute"

	"github.com/meshtrace/meshtrace/middleware"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	out, err := stdouttrace.New()
	if err != nil {
		log.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(out),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "orders"))),
	)
	tracing, err := middleware.Setup(ctx, middleware.Config{
		TracerProvider: provider,
		SetGlobals:     true, // otelhttp and otelsql ask the globals for provider and propagator
	})
	if err != nil {
		log.Fatal(err)
	}

	addr := cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080")
	handler, err := newService(tracing, "http://"+addr+"/prices")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: addr, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		log.Printf("listening on http://%s", addr)
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()

	<-ctx.Done() // SIGTERM or Ctrl-C
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// Setup leaves a provider of the caller's alone, so the caller shuts it down.
	if err := errors.Join(server.Shutdown(ctx), tracing.Shutdown(ctx), provider.Shutdown(ctx)); err != nil {
		log.Fatal(err)
	}
}

// newService returns the service's handler. prices is where it asks for prices.
func newService(tracing *middleware.Tracing, prices string) (http.Handler, error) {
	db, err := otelsql.Open(driverName, "", otelsql.WithSpanOptions(otelsql.SpanOptions{OmitConnResetSession: true, OmitRows: true}))
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: otelhttp.NewTransport(http.DefaultTransport), Timeout: 5 * time.Second}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		var amount int
		switch err := db.QueryRowContext(r.Context(), "SELECT amount FROM orders WHERE id = ?", r.PathValue("id")).Scan(&amount); {
		case errors.Is(err, sql.ErrNoRows):
			http.NotFound(w, r)
			return
		case err != nil:
			http.Error(w, "no orders to be had", http.StatusInternalServerError)
			return
		}
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, prices, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		resp, err := client.Do(req)
		if err != nil {
			http.Error(w, "no price to be had", http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		io.WriteString(w, "order "+r.PathValue("id")+" costs ")
		io.Copy(w, resp.Body)
	})
	mux.HandleFunc("GET /prices", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "42\n") })
	return tracing.Handler(mux), nil
}
