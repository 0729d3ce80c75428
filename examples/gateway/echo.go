package main

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// echo is an upstream that answers what it was asked, so that one sees what a gateway
// passes on. /flaky fails every other time, /slow takes a second.
type echo struct {
	addr  string
	srv   *http.Server
	calls atomic.Int64
}

func startEcho() (*echo, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &echo{addr: l.Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("/flaky", func(w http.ResponseWriter, r *http.Request) {
		if e.calls.Add(1)%2 == 1 {
			http.Error(w, "not this time", http.StatusServiceUnavailable)
			return
		}
		answer(w, r)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(time.Second):
			answer(w, r)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/", answer)
	e.srv = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go e.srv.Serve(l)
	return e, nil
}

func (e *echo) Close() error { return e.srv.Close() }

// answer tells the request; ?status= says with what.
func answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if status, err := strconv.Atoi(r.URL.Query().Get("status")); err == nil && status >= 200 && status <= 599 {
		w.WriteHeader(status)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.Encode(map[string]any{"method": r.Method, "url": r.URL.String(), "host": r.Host, "header": r.Header})
}
