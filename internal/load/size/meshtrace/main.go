// Meshtrace is the same server traced by meshtrace, with its exporter.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/meshtrace/meshtrace/middleware"
)

func main() {
	tracing, err := middleware.Setup(context.Background(), middleware.Config{Service: "hello"})
	if err != nil {
		log.Fatal(err)
	}
	defer tracing.Shutdown(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s\n", r.PathValue("name"))
	})
	if len(os.Args) < 2 { // only built
		log.Fatal("usage: meshtrace HOST:PORT")
	}
	log.Fatal(http.ListenAndServe(os.Args[1], tracing.Handler(mux)))
}
