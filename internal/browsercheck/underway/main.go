// Underway serves the debug page of a program whose calls take as long as the browser
// check wants. It ends when its standard input does.
//
// It prints one line of JSON: the addresses of the page, of /begin, which answers once
// the calls are under way, and of /release, which answers once they have ended. One of
// them has markup for a path.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/meshtrace/meshtrace/middleware"
)

const (
	evil      = `<img src=x onerror="window.owned=1">`
	requestID = "125a4afb-6f55-94ba-ad80-413f09f48a28"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	tracing, err := middleware.Setup(context.Background(), middleware.Config{
		Service: "checkout", Logger: slog.New(slog.DiscardHandler),
		Getenv: func(name string) string { return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name] },
	})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	base := "http://" + ln.Addr().String()

	arrived, release := make(chan struct{}), make(chan struct{})
	api := http.NewServeMux()
	api.HandleFunc("GET /events/{topic}", func(w http.ResponseWriter, r *http.Request) { // a stream that goes on
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		arrived <- struct{}{}
		<-release
	})
	outgoing := &http.Client{Transport: tracing.Transport(nil)}
	api.HandleFunc("POST /orders", func(_ http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, base+"/events/payment", nil)
		drain(outgoing, req)
	})

	requests := [][2]string{{"GET", "/events/prices"}, {"POST", "/orders"}, {"GET", "/events/%3Cimg%20src=x%20onerror=%22window.owned=1%22%3E"}}
	var calls sync.WaitGroup
	mux := http.NewServeMux()
	mux.Handle("/debug/", tracing.DebugHandler())
	mux.Handle("/", tracing.Handler(api))
	mux.HandleFunc("/begin", func(http.ResponseWriter, *http.Request) {
		for _, r := range requests { // one after the other, so that their order is certain
			req, _ := http.NewRequest(r[0], base+r[1], nil)
			req.Header.Set("X-Request-Id", requestID)
			calls.Go(func() { drain(http.DefaultClient, req) })
			<-arrived
		}
	})
	mux.HandleFunc("/release", func(http.ResponseWriter, *http.Request) {
		close(release)
		calls.Wait()
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		srv.Close()
	}()
	line, err := json.Marshal(map[string]string{
		"page": base + "/debug/", "begin": base + "/begin", "release": base + "/release", "evil": evil, "requestId": requestID,
	})
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	if err := srv.Serve(ln); err != http.ErrServerClosed {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return tracing.Shutdown(ctx)
}

// drain sends a request and reads the answer to its end.
func drain(client *http.Client, req *http.Request) {
	resp, err := client.Do(req)
	if err != nil {
		log.Print(err)
		return
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
}
