// Plain is a net/http server without tracing: what the others are compared with.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s\n", r.PathValue("name"))
	})
	if len(os.Args) < 2 { // only built
		log.Fatal("usage: plain HOST:PORT")
	}
	log.Fatal(http.ListenAndServe(os.Args[1], mux))
}
