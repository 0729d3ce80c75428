package middleware_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
)

// both runs a test over HTTP/1.1 and HTTP/2.
func both(t *testing.T, test func(t *testing.T, version string, serve func(http.Handler) (string, *http.Client))) {
	for _, version := range []string{"1.1", "2"} {
		t.Run("HTTP "+version, func(t *testing.T) {
			test(t, version, func(h http.Handler) (string, *http.Client) {
				srv := httptest.NewUnstartedServer(h)
				if srv.EnableHTTP2 = version == "2"; srv.EnableHTTP2 {
					srv.StartTLS()
				} else {
					srv.Start()
				}
				t.Cleanup(srv.Close)
				return srv.URL, srv.Client()
			})
		})
	}
}

// TestProtocols: what handlers and clients do with an answer passes, over both versions.
func TestProtocols(t *testing.T) {
	const server, client = trace.SpanKindServer, trace.SpanKindClient

	t.Run("informational answers and trailers", func(t *testing.T) {
		both(t, func(t *testing.T, version string, serve func(http.Handler) (string, *http.Client)) {
			c := newConduct(t, middleware.Config{})
			url, cl := serve(c.tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Link", "</style.css>")
				w.WriteHeader(http.StatusEarlyHints)
				w.Header().Set("Trailer", "X-Sum")
				w.WriteHeader(http.StatusCreated)
				io.Copy(w, r.Body)
				w.Header().Set("X-Sum", "sent "+r.Trailer.Get("X-Count"))
			})))
			var hints []int
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
				hints = append(hints, code)
				return nil
			}})
			body := io.MultiReader(strings.NewReader("abc"), strings.NewReader("def")) // of unknown length
			req, _ := http.NewRequestWithContext(ctx, "POST", url, body)
			req.Trailer = http.Header{"X-Count": {"6"}}
			resp, err := traced(c.tracing, cl).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(got) != "abcdef" || resp.Trailer.Get("X-Sum") != "sent 6" {
				t.Errorf("answer = %q, %v with trailer %v, want what was sent and X-Sum", got, err, resp.Trailer)
			}
			if len(hints) != 1 || hints[0] != 103 {
				t.Errorf("informational answers = %v, want 103", hints)
			}
			for _, kind := range []trace.SpanKind{server, client} {
				s := c.span(kind)
				wantStatus(t, s, codes.Unset, false)
				wantAttrs(t, s, map[string]string{
					"http.response.status_code": "201", "http.response.body.size": "6", "network.protocol.version": version,
				})
			}
		})
	})

	t.Run("server-sent events", func(t *testing.T) {
		both(t, func(t *testing.T, _ string, serve func(http.Handler) (string, *http.Client)) {
			c := newConduct(t, middleware.Config{})
			next := make(chan bool)
			url, cl := serve(c.tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				rc := http.NewResponseController(w)
				if err := rc.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Errorf("SetWriteDeadline: %v", err)
				}
				for range next {
					io.WriteString(w, "data: x\n\n")
					if err := rc.Flush(); err != nil {
						t.Errorf("Flush: %v", err)
					}
				}
			})))
			go func() { next <- true }()
			resp, err := traced(c.tracing, cl).Get(url)
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(resp.Body)
			for i := range 3 {
				if line, err := lines.ReadString('\n'); line != "data: x\n" {
					t.Fatalf("event %d = %q, %v", i, line, err)
				}
				lines.ReadString('\n')
				if n := len(c.spans.Ended()); n != 0 {
					t.Fatalf("%d spans ended while events come, want none", n)
				}
				if i < 2 {
					next <- true
				}
			}
			close(next)
			io.Copy(io.Discard, lines)
			resp.Body.Close()
			for _, kind := range []trace.SpanKind{server, client} {
				s := c.span(kind)
				wantStatus(t, s, codes.Unset, false)
				wantAttrs(t, s, map[string]string{"http.response.body.size": "27"})
			}
		})
	})

	t.Run("client gone", func(t *testing.T) {
		both(t, func(t *testing.T, _ string, serve func(http.Handler) (string, *http.Client)) {
			c := newConduct(t, middleware.Config{})
			url, cl := serve(c.tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "begun")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})))
			ctx, cancel := context.WithCancel(t.Context())
			req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
			resp, err := traced(c.tracing, cl).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			io.ReadFull(resp.Body, make([]byte, 5))
			cancel()
			io.ReadAll(resp.Body)
			resp.Body.Close()
			s := c.span(server) // its status as it was written, and what happened
			wantStatus(t, s, codes.Unset, false)
			wantAttrs(t, s, map[string]string{"error.type": "context.Canceled", "http.response.status_code": "200"})
			wantStatus(t, c.span(client), codes.Unset, false)
		})
	})

	t.Run("body closed early", func(t *testing.T) {
		both(t, func(t *testing.T, _ string, serve func(http.Handler) (string, *http.Client)) {
			c := newConduct(t, middleware.Config{})
			url, cl := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					if _, err := w.Write(make([]byte, 1<<16)); err != nil {
						return
					}
				}
			}))
			resp, err := traced(c.tracing, cl).Get(url)
			if err != nil {
				t.Fatal(err)
			}
			io.ReadFull(resp.Body, make([]byte, 10))
			resp.Body.Close()
			if _, err := resp.Body.Read(make([]byte, 1)); err == nil {
				t.Error("a closed body still has bytes")
			}
			resp.Body.Close()
			s := c.span(client)
			wantStatus(t, s, codes.Unset, false) // the caller had enough
			wantAttrs(t, s, map[string]string{"http.response.body.size": "10", "error.type": "-"})
		})
	})

	t.Run("body closed long after its end", func(t *testing.T) {
		both(t, func(t *testing.T, _ string, serve func(http.Handler) (string, *http.Client)) {
			c := newConduct(t, middleware.Config{})
			url, cl := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "all") }))
			resp, err := traced(c.tracing, cl).Get(url)
			if err != nil {
				t.Fatal(err)
			}
			io.ReadAll(resp.Body)
			ended := c.span(client).EndTime()
			time.Sleep(5 * time.Millisecond)
			resp.Body.Close()
			if s := c.span(client); !s.EndTime().Equal(ended) {
				t.Errorf("the span ended at %v and again at %v", ended, s.EndTime())
			}
		})
	})

	t.Run("HEAD", func(t *testing.T) {
		both(t, func(t *testing.T, _ string, serve func(http.Handler) (string, *http.Client)) {
			c := newConduct(t, middleware.Config{})
			url, cl := serve(c.tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "1000")
			})))
			resp, err := traced(c.tracing, cl).Head(url)
			if err != nil {
				t.Fatal(err)
			}
			if resp.ContentLength != 1000 {
				t.Errorf("Content-Length = %d, want 1000", resp.ContentLength)
			}
			// Nobody reads or closes the body of an answer that has none.
			for _, kind := range []trace.SpanKind{server, client} {
				if s := c.span(kind); s.Name() != "HEAD" {
					t.Errorf("%v: name = %q, want HEAD", kind, s.Name())
				}
			}
		})
	})

	t.Run("pushed resources", func(t *testing.T) {
		both(t, func(t *testing.T, version string, serve func(http.Handler) (string, *http.Client)) {
			c := newConduct(t, middleware.Config{})
			url, cl := serve(c.tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				p, ok := w.(http.Pusher)
				if ok != (version == "2") {
					t.Errorf("the writer can push: %v, want HTTP/2 alone", ok)
				}
				if ok {
					if err := p.Push("/style.css", nil); err == nil {
						t.Error("Push = nil error, though net/http's client takes none")
					}
				}
			})))
			get(t, cl, url)
			c.span(server)
		})
	})

	t.Run("CONNECT", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		r := httptest.NewRequest("CONNECT", "db.example:5432", nil)
		c.tracing.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(httptest.NewRecorder(), r)
		s := c.span(server)
		if s.Name() != "CONNECT" {
			t.Errorf("name = %q, want CONNECT", s.Name())
		}
		wantAttrs(t, s, map[string]string{"url.path": "-", "server.address": "db.example", "server.port": "5432"})
	})
}
