// Meshtrace is the program with middleware.
package main

import (
	"context"
	"io"
	"log"
	"net/http"

	"github.com/meshtrace/meshtrace/middleware"
)

func main() {
	tracing, err := middleware.Setup(context.Background(), middleware.Config{Service: "orders"})
	if err != nil {
		log.Fatal(err)
	}
	defer tracing.Shutdown(context.Background())
	client := &http.Client{Transport: tracing.Transport(nil)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://127.0.0.1:8081/prices", nil)
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
		io.Copy(w, resp.Body)
	})
	log.Print(http.ListenAndServe("127.0.0.1:8080", tracing.Handler(mux)))
}
