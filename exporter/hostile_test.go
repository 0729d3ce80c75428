package exporter

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A server that means ill costs one request at most: its answer is bounded, the next
// batch is delivered.
func TestHostileServer(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 32 {
		z.Write(zeros)
	}
	z.Close()
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(zeros); err != nil {
				return
			}
		}
	}
	attacks := map[string]struct {
		attack func(w http.ResponseWriter, r *http.Request)
		http   string // what becomes of the spans over OTLP/HTTP: "" delivered, else rejected
		grpc   string // "retry": delivered by another request
	}{
		"endless body": {endless, "", "RESOURCE_EXHAUSTED"},
		"gzip bomb": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb.Bytes())
		}, "", "retry"},
		"message of a gzip bomb": {func(w http.ResponseWriter, r *http.Request) {
			n := bomb.Len()
			w.Header().Set("Grpc-Encoding", "gzip")
			w.Write([]byte{1, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
			w.Write(bomb.Bytes())
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		}, "", ""},
		"huge header": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 512<<10))
		}, "retry", "retry"},
		"huge trailer": {func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte{0, 0, 0, 0, 0})
			w.(http.Flusher).Flush()
			w.Header().Set(http.TrailerPrefix+"X", strings.Repeat("x", 512<<10))
		}, "", "retry"},
		"bad status": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Grpc-Status", "7x")
			w.Header().Set("Grpc-Message", "%1b[31m%0a%e2%80%ae"+strings.Repeat("m", 20000))
			w.Header().Set("Grpc-Status-Details-Bin", "!!!!"+strings.Repeat("A", 20000))
		}, "", "UNKNOWN"},
		"long delay and bad details": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "-1e99")
			w.Header().Set("Grpc-Status", "14")
			w.Header().Set("Grpc-Status-Details-Bin", "////////")
			if r.URL.Path != exportPath {
				w.WriteHeader(503)
			}
		}, "retry", "retry"},
		"lying length": {func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte{0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3})
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		}, "", ""},
		"web page": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<html>")
		}, "", "retry"},
	}
	overBoth(t, func(t *testing.T, p Protocol) {
		for name, tt := range attacks {
			t.Run(name, func(t *testing.T) {
				var calls atomic.Int64
				addr := server(t, func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodPost {
						return
					}
					io.Copy(io.Discard, r.Body)
					if p == GRPC {
						w.Header().Set("Content-Type", "application/grpc")
					} else {
						w.Header().Set("Content-Type", protobufType)
					}
					if calls.Add(1) == 1 {
						tt.attack(w, r)
						return
					}
					if p == GRPC {
						w.Header().Set("Grpc-Status", "0")
					}
				}, nil, (*http.Protocols).SetHTTP1, (*http.Protocols).SetUnencryptedHTTP2)
				e := start(t, Config{Endpoint: "http://" + addr, Protocol: p, Timeout: 2 * time.Second, Delay: 10 * time.Millisecond})
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				end(e, 0, 10)
				for e.Stats().Kept.Memory > 0 {
					time.Sleep(time.Millisecond)
				}
				runtime.ReadMemStats(&after)
				end(e, 10, 20)
				if err := e.ForceFlush(context.Background()); err != nil {
					t.Errorf("ForceFlush of the next spans: %v", err)
				}
				want := tt.http
				if p == GRPC {
					want = tt.grpc
				}
				st := checkAccounts(t, e, Kept{})
				if want == "" || want == "retry" {
					if st.Delivered != 20 || (want == "retry") != (st.Retries > 0) {
						t.Errorf("delivered %d, rejected %v, retries %d: %v", st.Delivered, st.Rejected, st.Retries, st.LastError)
					}
				} else if st.Delivered != 10 || st.Rejected[want] != 10 {
					t.Errorf("delivered %d, rejected %v, want 10 by %s", st.Delivered, st.Rejected, want)
				}
				if grown := after.TotalAlloc - before.TotalAlloc; grown > 32<<20 {
					t.Errorf("%d MiB allocated", grown>>20)
				}
				if text := fmt.Sprint(st.LastError, logged(e)); strings.ContainsAny(text, "\x1b\n\x01") {
					t.Errorf("the server's bytes reach the log: %q", text)
				}
			})
		}
	})
}
