package exporter

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
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
				if err := e.ForceFlush(withTimeout(t, time.Minute)); err != nil {
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

// endlessTrailers answers each request with a trailer of 100 MB, over whichever protocol it came.
func endlessTrailers(t *testing.T) (addr string, sent *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sent = new(atomic.Int64)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				r := bufio.NewReader(c)
				first, err := r.Peek(4)
				switch {
				case err != nil:
				case string(first) == "PRI ":
					trailHTTP2(c, r, sent)
				default:
					trailHTTP1(c, r, sent)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String(), sent
}

const trailerBytes = 100 << 20

func trailHTTP1(c net.Conn, r *bufio.Reader, sent *atomic.Int64) {
	req, err := http.ReadRequest(r)
	if err != nil || req.Method != http.MethodPost {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	io.Copy(io.Discard, req.Body)
	io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
	line := []byte("X: " + strings.Repeat("x", 32<<10) + "\r\n")
	for n := 0; n < trailerBytes; n += len(line) {
		m, err := c.Write(line)
		sent.Add(int64(m))
		if err != nil {
			return
		}
	}
}

func trailHTTP2(c net.Conn, r *bufio.Reader, sent *atomic.Int64) {
	frame := func(kind, flags byte, stream uint32, body []byte) error {
		head := []byte{byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body)), kind, flags, byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream)}
		_, err := c.Write(append(head, body...))
		return err
	}
	r.Discard(24) // the preface
	frame(4, 0, 0, nil)
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		n := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
		stream := binary.BigEndian.Uint32(head[5:])
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			return
		}
		if head[3] == 4 && head[4]&1 == 0 {
			frame(4, 1, 0, nil)
		}
		if head[4]&1 == 0 || stream == 0 { // not the end of a request
			continue
		}
		frame(1, 4, stream, append([]byte{0x88, 0x0f, 0x10, 16}, "application/grpc"...))       // :status 200, content-type
		go io.Copy(io.Discard, r)                                                              // window updates
		field := append([]byte{0x00, 1, 'x', 0x7f, 0x81, 0x7e}, strings.Repeat("x", 16256)...) // a literal of 127 + 1 + 126*128 bytes
		kind, flags := byte(1), byte(1)
		for n := 0; n < trailerBytes; n += len(field) {
			if frame(kind, flags, stream, field) != nil {
				return
			}
			sent.Add(int64(len(field)))
			kind, flags = 9, 0 // CONTINUATION
		}
		return
	}
}

// F17: trailers of 100 MB are not read to their end, and cost next to nothing.
func TestHostileTrailers(t *testing.T) {
	overBoth(t, func(t *testing.T, p Protocol) {
		addr, sent := endlessTrailers(t)
		e := start(t, Config{Endpoint: "http://" + addr, Protocol: p, Timeout: 5 * time.Second})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		end(e, 0, 10)
		for deadline := time.Now().Add(10 * time.Second); e.Stats().LastError == nil && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		runtime.ReadMemStats(&after)
		st := e.Stats()
		if st.LastError == nil || sent.Load() == 0 {
			t.Fatalf("no failure, %d bytes of trailers sent: %+v", sent.Load(), st)
		}
		if n := sent.Load(); n > 32<<20 {
			t.Errorf("%d MiB of a trailer were taken", n>>20)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
			t.Errorf("%d MiB allocated", grown>>20)
		}
		t.Logf("%d KiB of trailers taken: %v", sent.Load()>>10, st.LastError)
	})
}
