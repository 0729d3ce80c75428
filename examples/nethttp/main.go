// Nethttp is a net/http service behind a proxy or alone: it continues the trace and
// the x-request-id of whoever calls, passes both on to the service it calls itself,
// and loses no span when it is asked to stop.
//
//	go run ./examples/nethttp
//	curl http://127.0.0.1:8080/orders/7
package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/meshtrace/meshtrace/middleware"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	tracing, err := middleware.Setup(ctx, middleware.Config{Service: "orders"})
	if err != nil {
		log.Fatal(err)
	}

	addr := cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080")
	prices := cmp.Or(os.Getenv("PRICES_URL"), "http://"+addr+"/prices")
	client := &http.Client{Transport: tracing.Transport(nil), Timeout: 5 * time.Second}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
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
	mux.HandleFunc("GET /prices", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "42\n")
	})

	server := &http.Server{Addr: addr, Handler: tracing.Handler(mux), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		log.Printf("listening on http://%s", addr)
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()

	<-ctx.Done() // SIGTERM or Ctrl-C
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// In this order: the requests under way get their answers first, then their spans go out.
	if err := errors.Join(server.Shutdown(ctx), tracing.Shutdown(ctx)); err != nil {
		log.Fatal(err)
	}
}
