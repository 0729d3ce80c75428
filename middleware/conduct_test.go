package middleware_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/metertest"
	"github.com/meshtrace/meshtrace/middleware"
)

// conduct is a program under test: a server and a client, traced and measured, over
// real sockets.
type conduct struct {
	t       *testing.T
	tracing *middleware.Tracing
	spans   *tracetest.SpanRecorder
	metrics *metertest.Provider
}

func newConduct(t *testing.T, cfg middleware.Config) *conduct {
	c := &conduct{t: t, metrics: metertest.New()}
	cfg.MeterProvider = c.metrics
	c.tracing, c.spans = setup(t, cfg)
	return c
}

// span waits for the one span of a kind and its measurement.
func (c *conduct) span(kind trace.SpanKind) sdktrace.ReadOnlySpan {
	c.t.Helper()
	instrument := "http.server.request.duration"
	if kind == trace.SpanKindClient {
		instrument = "http.client.request.duration"
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		var found []sdktrace.ReadOnlySpan
		for _, s := range c.spans.Ended() {
			if s.SpanKind() == kind {
				found = append(found, s)
			}
		}
		points := c.metrics.Of(instrument)
		if len(found) == 1 && len(points) == 1 {
			if onSpan, onMetric := attr(found[0], "error.type").AsString(), points[0].Attribute("error.type"); onSpan != onMetric {
				c.t.Errorf("error.type = %q on the span, %q on the metric: want the same", onSpan, onMetric)
			}
			if points[0].Span.SpanID() != found[0].SpanContext().SpanID() {
				c.t.Errorf("the measurement belongs to span %v, want %v", points[0].Span.SpanID(), found[0].SpanContext().SpanID())
			}
			return found[0]
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%d %v spans and %d measurements, want one of each", len(found), kind, len(points))
		}
		time.Sleep(time.Millisecond)
	}
}

// wantStatus compares a span's status, and wants no description unless described.
func wantStatus(t *testing.T, s sdktrace.ReadOnlySpan, code codes.Code, described bool) {
	t.Helper()
	if got := s.Status(); got.Code != code || (got.Description != "") != described {
		t.Errorf("%v %q: status = %+v, want %v, described %v", s.SpanKind(), s.Name(), got, code, described)
	}
}

type copiedKey struct{}

// TestConduct holds what a common instrumentation gets wrong: each subtest is a case
// that was seen there. Those of gRPC are in middleware/tracegrpc.
func TestConduct(t *testing.T) {
	const server, client = trace.SpanKindServer, trace.SpanKindClient

	t.Run("GET through ServeMux", func(t *testing.T) {
		for _, tt := range []struct {
			name string
			wrap func(*http.ServeMux) http.Handler
		}{
			{"bare", func(mux *http.ServeMux) http.Handler { return mux }},
			{"a middleware copied the request", func(mux *http.ServeMux) http.Handler {
				inner := middleware.Pattern(mux)
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					inner.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), copiedKey{}, true)))
				})
			}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				c := newConduct(t, middleware.Config{})
				mux := http.NewServeMux()
				mux.HandleFunc("GET example.com/u/{id}", func(http.ResponseWriter, *http.Request) {})
				url, cl := serve(t, c.tracing.Handler(tt.wrap(mux)))
				req, _ := http.NewRequest("GET", url+"/u/7", nil)
				req.Host = "example.com"
				resp, err := cl.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				s := c.span(server)
				if s.Name() != "GET /u/{id}" {
					t.Errorf("name = %q, want %q", s.Name(), "GET /u/{id}")
				}
				wantAttrs(t, s, map[string]string{"http.route": "/u/{id}"})
				c.metrics.Want(t, "http.server.request.duration",
					"http.request.method=GET url.scheme=http http.route=/u/{id} http.response.status_code=200 network.protocol.version=1.1")
			})
		}
	})

	t.Run("secret in the query, server", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		url, cl := serve(t, c.tracing.Handler(http.NotFoundHandler()))
		get(t, cl, url+"/?b=c&sig=SECRET")
		wantAttrs(t, c.span(server), map[string]string{"url.query": "b=c&sig=REDACTED", "url.path": "/"})
	})

	t.Run("X-Forwarded-Proto and X-Forwarded-Host", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		url, cl := serve(t, c.tracing.Handler(http.NotFoundHandler()))
		get(t, cl, url, "X-Forwarded-Proto", "https", "X-Forwarded-Host", "shop.example")
		wantAttrs(t, c.span(server), map[string]string{"url.scheme": "https", "server.address": "shop.example", "server.port": "-"})
		c.metrics.Want(t, "http.server.request.duration",
			"http.request.method=GET url.scheme=https http.response.status_code=404 network.protocol.version=1.1")
	})

	t.Run("X-Forwarded-For from anyone", func(t *testing.T) {
		for _, tt := range []struct {
			name string
			edge *middleware.Edge
			want string
		}{
			{"nobody is trusted", nil, "127.0.0.1"},
			{"a stranger's word", &middleware.Edge{}, "127.0.0.1"},
			{"one trusted hop", &middleware.Edge{Hops: 1, Internal: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, "203.0.113.9"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				c := newConduct(t, middleware.Config{Edge: tt.edge})
				url, cl := serve(t, c.tracing.Handler(http.NotFoundHandler()))
				get(t, cl, url, "X-Forwarded-For", "198.51.100.1, 203.0.113.9")
				wantAttrs(t, c.span(server), map[string]string{"client.address": tt.want, "network.peer.address": "127.0.0.1"})
			})
		}
	})

	t.Run("handler returns 500", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		url, cl := serve(t, c.tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })))
		get(t, traced(c.tracing, cl), url)
		for _, kind := range []trace.SpanKind{server, client} {
			s := c.span(kind)
			wantStatus(t, s, codes.Error, false)
			wantAttrs(t, s, map[string]string{"error.type": "500", "http.response.status_code": "500"})
		}
	})

	t.Run("handler panics", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		mux := http.NewServeMux()
		mux.HandleFunc("/u/{id}", func(http.ResponseWriter, *http.Request) { panic("boom") })
		url, cl := serveQuietly(t, c.tracing.Handler(mux))
		if _, err := traced(c.tracing, cl).Get(url + "/u/7"); err == nil {
			t.Fatal("the client got an answer, want none: net/http ends the connection")
		}
		s := c.span(server)
		if s.Name() != "GET /u/{id}" {
			t.Errorf("name = %q, want %q", s.Name(), "GET /u/{id}")
		}
		wantStatus(t, s, codes.Error, true)
		wantAttrs(t, s, map[string]string{"error.type": "panic", "http.response.status_code": "500", "http.route": "/u/{id}"})
		cs := c.span(client)
		wantStatus(t, cs, codes.Error, true)
		wantAttrs(t, cs, map[string]string{"error.type": "io.EOF", "http.response.status_code": "-"})
	})

	t.Run("panic(http.ErrAbortHandler)", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		url, cl := serve(t, c.tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})))
		resp, err := traced(c.tracing, cl).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("the body ended well, want it broken off")
		}
		s := c.span(server)
		wantStatus(t, s, codes.Unset, false)
		wantAttrs(t, s, map[string]string{"error.type": "-", "http.response.status_code": "200"})
		if n := len(s.Events()); n != 0 {
			t.Errorf("%d events, want none: nothing went wrong", n)
		}
		cs := c.span(client)
		wantStatus(t, cs, codes.Error, true)
		wantAttrs(t, cs, map[string]string{"error.type": "io.ErrUnexpectedEOF", "http.response.status_code": "200"})
	})

	t.Run("client disconnects", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		started := make(chan struct{})
		url, cl := serve(t, c.tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(started)
			<-r.Context().Done()
			io.WriteString(w, "nobody reads this")
		})))
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-started; cancel() }()
		req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
		if _, err := cl.Do(req); !errors.Is(err, context.Canceled) {
			t.Fatalf("Do = %v, want %v", err, context.Canceled)
		}
		s := c.span(server)
		wantStatus(t, s, codes.Unset, false)
		wantAttrs(t, s, map[string]string{"error.type": "context.Canceled"})
	})

	t.Run("hijacked WebSocket", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		url, cl := serve(t, c.tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Errorf("Hijack: %v", err)
				return
			}
			defer conn.Close()
			line, _ := rw.ReadString('\n')
			rw.WriteString(line)
			rw.Flush()
		})))
		req, _ := http.NewRequest("GET", url, nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "websocket")
		resp, err := traced(c.tracing, cl).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		fmt.Fprintln(resp.Body.(io.Writer), "ping")
		if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "ping\n" {
			t.Errorf("echo = %q, %v", line, err)
		}
		for _, kind := range []trace.SpanKind{server, client} {
			s := c.span(kind)
			wantStatus(t, s, codes.Unset, false)
			wantAttrs(t, s, map[string]string{"http.response.status_code": "101"})
		}
	})

	t.Run("ServeFile of 1 MiB", func(t *testing.T) {
		c := newConduct(t, middleware.Config{Metrics: middleware.Metrics{BodySizes: true}})
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		url, cl := serve(t, c.tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, ok := w.(io.ReaderFrom); !ok {
				t.Errorf("the writer is no io.ReaderFrom: no sendfile")
			}
			http.ServeFile(w, r, file)
		})))
		get(t, traced(c.tracing, cl), url)
		for kind, side := range map[trace.SpanKind]string{server: "server", client: "client"} {
			wantAttrs(t, c.span(kind), map[string]string{"http.response.body.size": "1048576"})
			if p := c.metrics.Of("http." + side + ".response.body.size"); len(p) != 1 || p[0].Value != 1<<20 {
				t.Errorf("http.%s.response.body.size = %+v, want 1 MiB once", side, p)
			}
		}
	})

	t.Run("client GET", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		url, cl := serve(t, http.NotFoundHandler())
		get(t, traced(c.tracing, cl), url+"/some/path")
		if s := c.span(client); s.Name() != "GET" {
			t.Errorf("name = %q, want GET", s.Name())
		}
	})

	t.Run("client, connection refused", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		closed := httptest.NewServer(nil)
		closed.Close()
		if _, err := traced(c.tracing, &http.Client{}).Get(closed.URL); err == nil {
			t.Fatal("Get from a closed port: want an error")
		}
		s := c.span(client) // which compares span and metric
		wantStatus(t, s, codes.Error, true)
		wantAttrs(t, s, map[string]string{"error.type": "net.OpError"})
		host, port, _ := net.SplitHostPort(strings.TrimPrefix(closed.URL, "http://"))
		c.metrics.Want(t, "http.client.request.duration",
			"http.request.method=GET error.type=net.OpError server.address="+host+" server.port="+port)
	})

	t.Run("client, caller cancels", func(t *testing.T) {
		for _, when := range []string{"before the answer", "while reading"} {
			t.Run(when, func(t *testing.T) {
				c := newConduct(t, middleware.Config{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				url, cl := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if when == "while reading" {
						io.WriteString(w, "begun")
						w.(http.Flusher).Flush()
					} else {
						cancel()
					}
					<-r.Context().Done()
				}))
				req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
				resp, err := traced(c.tracing, cl).Do(req)
				if err == nil {
					io.ReadFull(resp.Body, make([]byte, 5))
					cancel()
					_, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("the call ended with %v, want %v", err, context.Canceled)
				}
				s := c.span(client)
				wantStatus(t, s, codes.Unset, false)
				wantAttrs(t, s, map[string]string{"error.type": "-"})
			})
		}
	})

	t.Run("secret in the query, client", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		url, cl := serve(t, http.NotFoundHandler())
		get(t, traced(c.tracing, cl), strings.Replace(url, "http://", "http://user:pass@", 1)+"/?sig=SECRET&AWSAccessKeyId=AK&b=c")
		wantAttrs(t, c.span(client), map[string]string{
			"url.full": strings.Replace(url, "http://", "http://REDACTED:REDACTED@", 1) + "/?sig=REDACTED&AWSAccessKeyId=REDACTED&b=c",
		})
	})

	t.Run("client, redirect or retry", func(t *testing.T) {
		url, cl := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/2" {
				http.Redirect(w, r, map[string]string{"/0": "/1", "/1": "/2"}[r.URL.Path], http.StatusFound)
			}
		}))
		for _, kind := range []string{"redirect", "retry"} {
			for _, parent := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, parent %v", kind, parent), func(t *testing.T) {
					c := newConduct(t, middleware.Config{})
					ctx := t.Context()
					if parent {
						var sp trace.Span
						ctx, sp = c.tracing.TracerProvider().Tracer("test").Start(ctx, "parent")
						defer sp.End()
					}
					if kind == "redirect" {
						send(ctx, t, traced(c.tracing, cl), url+"/0")
					} else {
						ctx = middleware.CountResends(ctx)
						for range 3 {
							send(ctx, t, traced(c.tracing, cl), url+"/2")
						}
					}
					spans := waitEnded(t, c.spans, 3)
					for i, want := range []string{"-", "1", "2"} {
						wantAttrs(t, spans[i], map[string]string{"http.request.resend_count": want})
						if i == 0 {
							continue
						}
						before, same := spans[i-1].SpanContext(), spans[i].SpanContext().TraceID() == spans[i-1].SpanContext().TraceID()
						if same != parent {
							t.Errorf("attempts in one trace: %v, want %v", same, parent)
						}
						linked := len(spans[i].Links()) == 1 && spans[i].Links()[0].SpanContext.SpanID() == before.SpanID()
						if linked == parent {
							t.Errorf("attempt %d has links %+v: want one to the attempt before where no trace joins them", i, spans[i].Links())
						}
					}
				})
			}
		}
	})

	t.Run("client, body never closed", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		url, cl := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Write(make([]byte, 1<<20))
		}))
		// A dropped body holds its connection until the request's context ends.
		req, _ := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		resp, err := traced(c.tracing, cl).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body = nil
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					runtime.GC()
				}
			}
		}()
		s := c.span(client)
		wantStatus(t, s, codes.Unset, false)
		wantAttrs(t, s, map[string]string{"http.response.status_code": "200", "meshtrace.body.dropped": "true"})
	})

	t.Run("server metric without server.address", func(t *testing.T) {
		c := newConduct(t, middleware.Config{})
		h := c.tracing.Handler(http.NotFoundHandler())
		seen := map[string]bool{}
		for i := range 5000 {
			r := httptest.NewRequest("GET", "/", nil)
			r.Host = fmt.Sprintf("h%d.example", i)
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
		points := c.metrics.Of("http.server.request.duration")
		for _, p := range points {
			seen[p.String()] = true
			if a := p.Attribute("server.address"); a != "" {
				t.Fatalf("server.address = %q, want none", a)
			}
		}
		if len(points) != 5000 || len(seen) != 1 {
			t.Errorf("%d measurements in %d series, want 5000 in 1", len(points), len(seen))
		}
	})
}

// send makes a request with ctx and reads the answer.
func send(ctx context.Context, t testing.TB, client *http.Client, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}
