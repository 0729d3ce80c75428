package respwriter

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// server runs handler under a Recorder, on HTTP/1.1 or HTTP/2, and hands out the
// recorders of finished requests.
type server struct {
	*httptest.Server
	done chan *Recorder
	log  *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func serve(t *testing.T, http2 bool, hook func(http.Header), handler http.HandlerFunc) *server {
	t.Helper()
	s := &server{done: make(chan *Recorder, 8), log: &syncBuffer{}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &Recorder{BeforeHeader: hook}
		rec.Init(w)
		returned := false
		defer func() {
			if returned {
				rec.Finish()
			}
			s.done <- rec
		}()
		handler(rec.Wrap(), r)
		returned = true
	}))
	s.Config.ErrorLog = log.New(s.log, "", 0)
	if http2 {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// recorder waits for the next finished request.
func (s *server) recorder(t *testing.T) *Recorder {
	t.Helper()
	select {
	case rec := <-s.done:
		return rec
	case <-time.After(10 * time.Second):
		t.Fatal("the handler did not return within 10 s")
		return nil
	}
}

func (s *server) get(t *testing.T) (*http.Response, string) {
	t.Helper()
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatalf("GET: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the body: %v", err)
	}
	return resp, string(body)
}

var protocols = []struct {
	name  string
	http2 bool
}{{"HTTP1", false}, {"HTTP2", true}}

// TestRecord compares what is recorded with what the client got.
func TestRecord(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		code    int
		bytes   int64
	}{
		{"nothing written", func(http.ResponseWriter, *http.Request) {}, 200, 0},
		{"write", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }, 200, 5},
		{"empty write", func(w http.ResponseWriter, _ *http.Request) {
			w.Write(nil)
			w.WriteHeader(404)
		}, 200, 0},
		{"write string", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }, 200, 5},
		{"code", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) }, 418, 0},
		{"code and body", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }, 418, 3},
		{"the first code counts", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(404)
			w.WriteHeader(500)
		}, 404, 0},
		{"informational codes do not count", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(103)
			w.WriteHeader(103)
			w.WriteHeader(404)
		}, 404, 0},
		{"flush", func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			w.WriteHeader(404)
		}, 200, 0},
		{"flush by controller", func(w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				panic(err)
			}
			w.WriteHeader(404)
		}, 200, 0},
		{"copy", func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, strings.NewReader(strings.Repeat("x", 70_000)))
		}, 200, 70_000},
		{"copy of nothing, then a code", func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, onlyReader{strings.NewReader("")})
			w.WriteHeader(404)
		}, 404, 0},
		{"copy of a little", func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, onlyReader{strings.NewReader("abc")})
			io.Copy(w, onlyReader{strings.NewReader("def")})
		}, 200, 6},
		{"copy of exactly the first part", func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, onlyReader{strings.NewReader(strings.Repeat("x", primeLen))})
		}, 200, primeLen},
		{"copy that fails", func(w http.ResponseWriter, _ *http.Request) {
			src := io.MultiReader(strings.NewReader("abc"), failing{})
			if _, err := io.Copy(w, src); !errors.Is(err, errFailing) {
				panic(fmt.Sprintf("Copy = %v, want %v", err, errFailing))
			}
		}, 200, 3},
		{"invalid code, recovered", func(w http.ResponseWriter, _ *http.Request) {
			defer func() {
				if recover() == nil {
					panic("WriteHeader(99) did not panic")
				}
				w.WriteHeader(500)
			}()
			w.WriteHeader(99)
		}, 500, 0},
	} {
		for _, p := range protocols {
			t.Run(tt.name+"/"+p.name, func(t *testing.T) {
				hooks := 0
				s := serve(t, p.http2, func(h http.Header) { hooks++; h.Set("X-Ours", "1") }, tt.handler)
				resp, body := s.get(t)
				rec := s.recorder(t)
				if rec.Status() != tt.code || rec.BytesWritten() != tt.bytes || !rec.WroteHeader() {
					t.Errorf("Status, BytesWritten, WroteHeader = %d, %d, %v, want %d, %d, true",
						rec.Status(), rec.BytesWritten(), rec.WroteHeader(), tt.code, tt.bytes)
				}
				if resp.StatusCode != tt.code || int64(len(body)) != tt.bytes {
					t.Errorf("the client got %d and %d bytes, want %d and %d", resp.StatusCode, len(body), tt.code, tt.bytes)
				}
				if hooks != 1 || resp.Header.Get("X-Ours") != "1" {
					t.Errorf("hook ran %d times, X-Ours = %q, want once and 1", hooks, resp.Header.Get("X-Ours"))
				}
			})
		}
	}
}

type onlyReader struct{ io.Reader }

var errFailing = errors.New("source failed")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errFailing }

// TestHookOrder: ours are set after the handler's own, so that we see those, and
// an informational header does not carry ours.
func TestHookOrder(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			var seen string
			s := serve(t, p.http2, func(h http.Header) {
				seen = h.Get("X-Theirs")
				h.Set("X-Theirs", "ours")
			}, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(103)
				w.Header().Set("X-Theirs", "theirs")
				fmt.Fprint(w, "body")
			})
			var early textproto.MIMEHeader
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(_ int, h textproto.MIMEHeader) error { early = h; return nil },
			})
			req, err := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if early == nil || early.Get("X-Theirs") != "" {
				t.Errorf("103 carried %q, want a 103 without X-Theirs", early)
			}
			if got := resp.Header.Get("X-Theirs"); seen != "theirs" || got != "ours" {
				t.Errorf("hook saw %q, client got %q, want theirs, ours", seen, got)
			}
		})
	}
}

func TestPanicWritesNothing(t *testing.T) {
	s := serve(t, false, func(http.Header) { t.Error("hook ran") }, func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	})
	if resp, err := s.Client().Get(s.URL); err == nil {
		t.Errorf("GET = %v, want an error", resp.Status)
	}
	rec := s.recorder(t)
	if rec.Status() != 0 || rec.WroteHeader() {
		t.Errorf("Status = %d, WroteHeader = %v, want 0, false", rec.Status(), rec.WroteHeader())
	}
}

func TestSuperfluousWriteHeader(t *testing.T) {
	s := serve(t, false, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200)
		w.WriteHeader(500)
	})
	s.get(t)
	s.recorder(t)
	if got := s.log.String(); !strings.Contains(got, "superfluous response.WriteHeader call") {
		t.Errorf("server's log = %q, want net/http's own words", got)
	}
}

func TestHijack(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(http.ResponseWriter)
		reply  string
		code   int
	}{
		{"after 101", func(w http.ResponseWriter) {
			w.Header().Set("Upgrade", "echo")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
		}, "", 101},
		{"raw", func(http.ResponseWriter) {}, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n", 0},
	} {
		for _, how := range []string{"Hijacker", "ResponseController"} {
			t.Run(tt.name+"/"+how, func(t *testing.T) {
				s := serve(t, false, nil, func(w http.ResponseWriter, _ *http.Request) {
					tt.before(w)
					hijack := w.(http.Hijacker).Hijack
					if how == "ResponseController" {
						hijack = http.NewResponseController(w).Hijack
					}
					conn, rw, err := hijack()
					if err != nil {
						t.Errorf("Hijack: %v", err)
						return
					}
					defer conn.Close()
					io.WriteString(conn, tt.reply)
					line, err := rw.ReadString('\n')
					if err != nil {
						t.Errorf("reading from the hijacked connection: %v", err)
					}
					io.WriteString(conn, line)
					w.WriteHeader(500) // reported by net/http, not sent, not recorded
					if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrHijacked) {
						t.Errorf("Write after Hijack = %v, want ErrHijacked", err)
					}
				})
				conn, err := net.Dial("tcp", s.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
				br := bufio.NewReader(conn)
				resp, err := http.ReadResponse(br, nil)
				if err != nil || resp.StatusCode != 101 {
					t.Fatalf("ReadResponse = %v, %v, want 101", resp, err)
				}
				fmt.Fprintf(conn, "ping\n")
				if line, err := br.ReadString('\n'); line != "ping\n" || err != nil {
					t.Errorf("echo = %q, %v, want ping", line, err)
				}
				rec := s.recorder(t)
				if rec.Status() != tt.code || !rec.Hijacked() || rec.BytesWritten() != 0 {
					t.Errorf("Status, Hijacked, BytesWritten = %d, %v, %d, want %d, true, 0",
						rec.Status(), rec.Hijacked(), rec.BytesWritten(), tt.code)
				}
			})
		}
	}
}

// TestServerSentEvents: each event is with the client before the next is written.
func TestServerSentEvents(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			next := make(chan bool)
			s := serve(t, p.http2, nil, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for i := range 3 {
					fmt.Fprintf(w, "data: %d\n", i)
					w.(http.Flusher).Flush()
					<-next
				}
			})
			resp, err := s.Client().Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			br := bufio.NewReader(resp.Body)
			for i := range 3 {
				want := fmt.Sprintf("data: %d\n", i)
				if line, err := br.ReadString('\n'); line != want || err != nil {
					t.Errorf("event = %q, %v, want %q", line, err, want)
				}
				next <- true
			}
			if rec := s.recorder(t); rec.Status() != 200 || rec.BytesWritten() != 24 {
				t.Errorf("Status, BytesWritten = %d, %d, want 200, 24", rec.Status(), rec.BytesWritten())
			}
		})
	}
}

// TestSendfile: the connection is handed the same source as without us, a file
// that sendfile knows.
func TestSendfile(t *testing.T) {
	const size = 1 << 20
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, bytes.Repeat([]byte("x"), size), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
	}{
		{"ServeFile", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) }},
		{"Copy", func(w http.ResponseWriter, _ *http.Request) {
			f, err := os.Open(name)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			w.Header().Set("Content-Length", fmt.Sprint(size))
			io.Copy(w, f)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := source(t, size, tt.handler)
			got := source(t, size, func(w http.ResponseWriter, r *http.Request) {
				rec := new(Recorder)
				rec.Init(w)
				tt.handler(rec.Wrap(), r)
				if rec.BytesWritten() != size {
					t.Errorf("BytesWritten = %d, want %d", rec.BytesWritten(), size)
				}
			})
			if got != want {
				t.Errorf("the connection read from a %q, without us from a %q", got, want)
			}
		})
	}
}

// source serves one request and returns the type that the connection read from.
func source(t *testing.T, size int64, handler http.HandlerFunc) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sources := make(chan string, 8)
	srv := &http.Server{Handler: handler}
	go srv.Serve(readFromListener{listener, sources})
	defer srv.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Errorf("the client got %d bytes, %v, want %d", n, err, size)
	}
	select {
	case s := <-sources:
		return s
	default:
		t.Error("the connection's ReadFrom was not used")
		return ""
	}
}

type readFromListener struct {
	net.Listener
	sources chan string
}

func (l readFromListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return readFromConn{c.(*net.TCPConn), l.sources}, nil
}

type readFromConn struct {
	*net.TCPConn
	sources chan string
}

func (c readFromConn) ReadFrom(src io.Reader) (int64, error) {
	c.sources <- fmt.Sprintf("%T", src)
	return c.TCPConn.ReadFrom(src)
}

// TestPush: net/http's client refuses pushes, and says so through our writer.
func TestPush(t *testing.T) {
	errs := make(chan error, 1)
	s := serve(t, true, nil, func(w http.ResponseWriter, _ *http.Request) {
		p, ok := w.(http.Pusher)
		if !ok {
			errs <- errors.New("no Pusher")
			return
		}
		errs <- p.Push("/style.css", nil)
	})
	s.get(t)
	if err := <-errs; !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("Push = %v, want the client's refusal %v", err, http.ErrNotSupported)
	}
}

func TestResponseController(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			type result struct{ read, write, duplex, body error }
			results := make(chan result, 1)
			s := serve(t, p.http2, nil, func(w http.ResponseWriter, r *http.Request) {
				rc := http.NewResponseController(w)
				var res result
				res.duplex = rc.EnableFullDuplex()
				res.write = rc.SetWriteDeadline(time.Now().Add(time.Minute))
				res.read = rc.SetReadDeadline(time.Now().Add(-time.Second))
				_, res.body = io.ReadAll(r.Body)
				results <- res
			})
			body, w := io.Pipe()
			defer w.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "POST", s.URL, body)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				if resp, err := s.Client().Do(req); err == nil {
					resp.Body.Close()
				}
			}()
			res := <-results
			if res.duplex != nil || res.read != nil || res.write != nil {
				t.Errorf("EnableFullDuplex, SetReadDeadline, SetWriteDeadline = %v, %v, %v", res.duplex, res.read, res.write)
			}
			if !errors.Is(res.body, os.ErrDeadlineExceeded) {
				t.Errorf("reading after the deadline = %v, want %v", res.body, os.ErrDeadlineExceeded)
			}
		})
	}
}

// TestRealShapes: the two writers of net/http keep what they have.
func TestRealShapes(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			s := serve(t, p.http2, nil, func(w http.ResponseWriter, _ *http.Request) {
				below := w.(interface{ Unwrap() http.ResponseWriter }).Unwrap()
				want := uint(closeNotifier | flusher | hijacker | readerFrom)
				if p.http2 {
					want = closeNotifier | flusher | pusher
				}
				if got := optional(below); got != want {
					t.Errorf("net/http's writer has %05b, want %05b", got, want)
				}
				if got := optional(w); got != want {
					t.Errorf("ours has %05b, want %05b", got, want)
				}
			})
			s.get(t)
		})
	}
}

func BenchmarkWrap(b *testing.B) {
	req := &struct{ Recorder }{}
	var below http.ResponseWriter = discard
	b.ReportAllocs()
	for b.Loop() {
		req.Init(below)
		req.Wrap().WriteHeader(http.StatusOK)
		req.Finish()
	}
}

func TestWhole(t *testing.T) {
	for _, tt := range []struct {
		length, body string
		write        bool
		status       int
		method       string
		want         bool
	}{
		{"4", "four", true, 200, "GET", true},
		{"5", "four", true, 200, "GET", false},
		{"", "four", true, 200, "GET", false}, // ends when the handler returns
		{"x", "four", true, 200, "GET", false},
		{"0", "", false, 0, "GET", false}, // nothing went out
		{"0", "", true, 200, "GET", true},
		{"", "", false, 204, "GET", true},
		{"", "", false, 304, "GET", true},
		{"9", "", false, 200, "HEAD", true},
		{"", "", false, 0, "HEAD", false},
	} {
		var r Recorder
		w := httptest.NewRecorder()
		r.Init(w)
		if tt.length != "" {
			w.Header().Set("Content-Length", tt.length)
		}
		if tt.status != 0 {
			r.Wrap().WriteHeader(tt.status)
		}
		if tt.write {
			r.Wrap().Write([]byte(tt.body))
		}
		if got := r.Whole(tt.method); got != tt.want {
			t.Errorf("%s, status %d, Content-Length %q, %q written %v: Whole = %v, want %v", tt.method, tt.status, tt.length, tt.body, tt.write, got, tt.want)
		}
	}
}
