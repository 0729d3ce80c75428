package middleware_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/requestid"
)

// traced wraps the client's transport.
func traced(tracing *middleware.Tracing, client *http.Client) *http.Client {
	c := *client
	c.Transport = tracing.Transport(client.Transport)
	return &c
}

func TestTransportCarriesContext(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	var got http.Header
	url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }))
	out := traced(tracing, client)
	front := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), "GET", url+"/x?sig=SECRET&AWSAccessKeyId=AK", nil)
		req.Header.Set("X-Own", "1")
		resp, err := out.Do(req)
		if err != nil {
			t.Errorf("Do: %v", err)
			return
		}
		resp.Body.Close()
		if len(req.Header) != 1 {
			t.Errorf("the caller's request has headers %v, want its own alone", req.Header)
		}
	}))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Traceparent", traceparent)
	r.Header.Set("X-Request-Id", plainID)
	r.Header.Set("X-Client-Trace-Id", "abc")
	r.Header.Set("Baggage", "customer=123")
	front.ServeHTTP(httptest.NewRecorder(), r)

	spans := waitEnded(t, rec, 2)
	cl, sv := spans[0], spans[1]
	if cl.SpanKind() != trace.SpanKindClient || cl.Name() != "GET" || cl.Parent().SpanID() != sv.SpanContext().SpanID() {
		t.Errorf("client span = %q %v under %v, want GET CLIENT under %v", cl.Name(), cl.SpanKind(), cl.Parent().SpanID(), sv.SpanContext().SpanID())
	}
	want := map[string]string{
		"Traceparent":       "00-4bf92f3577b34da6a3ce929d0e0e4736-" + cl.SpanContext().SpanID().String() + "-01",
		"X-Request-Id":      "125a4afb-6f55-b4ba-ad80-413f09f48a28",
		"X-Client-Trace-Id": "abc",
		"Baggage":           "customer=123",
		"X-Own":             "1",
	}
	for k, w := range want {
		if v := got.Get(k); v != w {
			t.Errorf("%s = %q upstream, want %q", k, v, w)
		}
	}
	host, port, _ := strings.Cut(strings.TrimPrefix(url, "http://"), ":")
	wantAttrs(t, cl, map[string]string{
		"http.request.method":       "GET",
		"url.full":                  url + "/x?sig=REDACTED&AWSAccessKeyId=REDACTED",
		"server.address":            host,
		"server.port":               port,
		"http.response.status_code": "200",
		"network.protocol.version":  "1.1",
		"error.type":                "-",
	})
}

// TestTransportUntraced: ids and flag 00 travel though nothing is recorded (O-3).
func TestTransportUntraced(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	var got http.Header
	url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }))
	front := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), "GET", url, nil)
		resp, err := traced(tracing, client).Do(req)
		if err == nil {
			resp.Body.Close()
		}
	}))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Traceparent", unsampled)
	r.Header.Set("X-Request-Id", plainID)
	front.ServeHTTP(httptest.NewRecorder(), r)
	if len(rec.Ended()) != 0 {
		t.Errorf("%d spans, want none", len(rec.Ended()))
	}
	tp := got.Get("Traceparent")
	if !strings.HasPrefix(tp, "00-4bf92f3577b34da6a3ce929d0e0e4736-") || !strings.HasSuffix(tp, "-00") {
		t.Errorf("traceparent = %q, want the caller's trace with flag 00", tp)
	}
	if id := got.Get("X-Request-Id"); !requestid.Equal(requestid.ID(id), plainID) {
		t.Errorf("x-request-id = %q, want %q but for its digit", id, plainID)
	}
}

func TestTransportStatus(t *testing.T) {
	for _, tt := range []struct {
		code   int
		status codes.Code
		want   string
	}{{204, codes.Unset, "-"}, {304, codes.Unset, "-"}, {404, codes.Error, "404"}, {503, codes.Error, "503"}} {
		t.Run(fmt.Sprint(tt.code), func(t *testing.T) {
			tracing, rec := setup(t, middleware.Config{})
			url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(tt.code) }))
			get(t, traced(tracing, client), url)
			s := one(t, rec)
			if s.Status().Code != tt.status || s.Status().Description != "" {
				t.Errorf("status = %+v, want %v without description", s.Status(), tt.status)
			}
			wantAttrs(t, s, map[string]string{"http.response.status_code": fmt.Sprint(tt.code), "error.type": tt.want})
		})
	}
}

func TestTransportFailure(t *testing.T) {
	t.Run("connection refused", func(t *testing.T) {
		tracing, rec := setup(t, middleware.Config{})
		srv := httptest.NewServer(nil)
		url := srv.URL
		srv.Close()
		if _, err := traced(tracing, &http.Client{}).Get(url); err == nil {
			t.Fatal("Get from a closed port: want an error")
		}
		s := one(t, rec)
		if s.Status().Code != codes.Error || s.Status().Description == "" {
			t.Errorf("status = %+v, want Error with the reason", s.Status())
		}
		wantAttrs(t, s, map[string]string{"error.type": "net.OpError", "http.response.status_code": "-"})
	})
	t.Run("caller cancelled", func(t *testing.T) {
		tracing, rec := setup(t, middleware.Config{})
		ctx, cancel := context.WithCancel(context.Background())
		url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() }))
		req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
		if _, err := traced(tracing, client).Do(req); !errors.Is(err, context.Canceled) {
			t.Fatalf("Do = %v, want %v", err, context.Canceled)
		}
		s := one(t, rec)
		if s.Status().Code != codes.Unset {
			t.Errorf("status = %+v, want Unset: the caller did not want the answer", s.Status())
		}
		wantAttrs(t, s, map[string]string{"error.type": "-"})
	})
	t.Run("deadline", func(t *testing.T) {
		tracing, rec := setup(t, middleware.Config{})
		url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
		traced(tracing, client).Do(req)
		if s := one(t, rec); s.Status().Code != codes.Error {
			t.Errorf("status = %+v, want Error", s.Status())
		}
	})
}

// TestTransportBody: the span ends with the body, whatever becomes of it.
func TestTransportBody(t *testing.T) {
	start := func(t *testing.T) (*tracetest.SpanRecorder, *http.Response) {
		tracing, rec := setup(t, middleware.Config{})
		url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "hello")
			w.(http.Flusher).Flush()
			io.WriteString(w, " world")
		}))
		// A dropped body holds its connection until the request's context ends.
		req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := traced(tracing, client).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(rec.Ended()); n != 0 {
			t.Fatalf("%d spans ended before the body, want 0", n)
		}
		return rec, resp
	}
	t.Run("read to its end", func(t *testing.T) {
		rec, resp := start(t)
		io.Copy(io.Discard, resp.Body)
		wantAttrs(t, one(t, rec), map[string]string{"http.response.body.size": "11"})
		resp.Body.Close()
		one(t, rec)
	})
	t.Run("closed", func(t *testing.T) {
		rec, resp := start(t)
		resp.Body.Close()
		if s := one(t, rec); s.Status().Code != codes.Unset {
			t.Errorf("status = %+v, want Unset", s.Status())
		}
	})
	t.Run("dropped", func(t *testing.T) {
		rec, resp := start(t)
		resp.Body = nil // the response stays reachable, its body does not
		defer runtime.KeepAlive(resp)
		deadline := time.Now().Add(5 * time.Second)
		for len(rec.Ended()) == 0 && time.Now().Before(deadline) {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		wantAttrs(t, one(t, rec), map[string]string{"meshtrace.body.dropped": "true"})
	})
}

func TestTransportSwitchingProtocols(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Upgrade", "echo")
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
	}))
	req, _ := http.NewRequest("GET", url, nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := traced(tracing, client).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	conn, ok := resp.Body.(io.ReadWriter)
	if !ok {
		t.Fatalf("body of a 101 is %T, want an io.ReadWriter", resp.Body)
	}
	fmt.Fprintln(conn, "ping")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "ping\n" {
		t.Errorf("echo = %q, %v", line, err)
	}
	wantAttrs(t, one(t, rec), map[string]string{"http.response.status_code": "101"})
}

func TestTransportRedirect(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/2" {
			http.Redirect(w, r, map[string]string{"/0": "/1", "/1": "/2"}[r.URL.Path], http.StatusFound)
		}
	}))
	get(t, traced(tracing, client), url+"/0")
	spans := waitEnded(t, rec, 3)
	for i, want := range []string{"-", "1", "2"} {
		wantAttrs(t, spans[i], map[string]string{"http.request.resend_count": want})
	}
}

// TestTransportKeepsCallersID: an id that a caller sets itself is its own affair,
// unless it is the travelling one.
func TestTransportKeepsCallersID(t *testing.T) {
	tracing, _ := setup(t, middleware.Config{})
	var got string
	url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Get("X-Request-Id") }))
	for _, tt := range []struct{ set, want string }{{plainID, sampledID}, {"my-own", "my-own"}} {
		front := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			req, _ := http.NewRequestWithContext(r.Context(), "GET", url, nil)
			req.Header.Set("X-Request-Id", tt.set)
			if resp, err := traced(tracing, client).Do(req); err == nil {
				resp.Body.Close()
			}
		}))
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-Request-Id", plainID)
		front.ServeHTTP(httptest.NewRecorder(), r)
		if got != tt.want {
			t.Errorf("x-request-id %q set by the caller went out as %q, want %q", tt.set, got, tt.want)
		}
	}
}

// TestTransportSendTo: a host that is not ours learns nothing.
func TestTransportSendTo(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{SendTo: func(r *http.Request) bool { return r.URL.Path != "/stranger" }})
	var got http.Header
	url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }))
	for path, want := range map[string]bool{"/stranger": false, "/ours": true} {
		get(t, traced(tracing, client), url+path)
		if sent := got.Get("Traceparent") != ""; sent != want {
			t.Errorf("%s: traceparent sent: %v, want %v", path, sent, want)
		}
	}
	if n := len(rec.Ended()); n != 2 {
		t.Errorf("%d client spans, want 2: a call to a stranger is a call", n)
	}
}

// TestTransportGateway is T-21: without a span of its own the upstream call carries
// the server span's context; with one, that span's.
func TestTransportGateway(t *testing.T) {
	for _, spawn := range []bool{false, true} {
		tracing, rec := setup(t, middleware.Config{Role: middleware.Gateway, SpawnUpstreamSpan: spawn})
		var got string
		url, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Get("Traceparent") }))
		front := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			req, _ := http.NewRequestWithContext(r.Context(), "GET", url, nil)
			if resp, err := traced(tracing, client).Do(req); err == nil {
				resp.Body.Close()
			}
		}))
		front.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		spans := rec.Ended()
		if want := map[bool]int{false: 1, true: 2}[spawn]; len(spans) != want {
			t.Fatalf("spawn %v: %d spans, want %d", spawn, len(spans), want)
		}
		if sender := spans[0].SpanContext().SpanID().String(); !strings.Contains(got, sender) {
			t.Errorf("spawn %v: traceparent = %q, want span %s", spawn, got, sender)
		}
	}
}
