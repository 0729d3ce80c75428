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
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

const (
	traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unsampled   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	plainID     = "125a4afb-6f55-44ba-ad80-413f09f48a28"
	sampledID   = "125a4afb-6f55-94ba-ad80-413f09f48a28"
)

// waitEnded returns the n ended spans of rec, waiting for the server's side.
func waitEnded(t testing.TB, rec *tracetest.SpanRecorder, n int) []sdktrace.ReadOnlySpan {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for len(rec.Ended()) < n && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	ended := rec.Ended()
	if len(ended) != n {
		t.Fatalf("%d spans ended, want %d", len(ended), n)
	}
	return ended
}

func TestHandlerSpan(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{Service: "shop"})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /carts/{id}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "cart") })
	url, client := serve(t, tracing.Handler(mux))
	get(t, client, url+"/carts/7?b=c&sig=SECRET", "User-Agent", "test/1", "X-Request-Id", plainID, "X-Client-Trace-Id", "abc")

	s := waitEnded(t, rec, 1)[0]
	if s.Name() != "GET /carts/{id}" || s.SpanKind() != trace.SpanKindServer || s.Status().Code != codes.Unset {
		t.Errorf("span = %q %v %v, want %q %v %v", s.Name(), s.SpanKind(), s.Status().Code, "GET /carts/{id}", trace.SpanKindServer, codes.Unset)
	}
	wantAttrs(t, s, map[string]string{
		"http.request.method":       "GET",
		"http.route":                "/carts/{id}",
		"http.response.status_code": "200",
		"http.response.body.size":   "4",
		"url.path":                  "/carts/7",
		"url.query":                 "b=c&sig=REDACTED",
		"url.scheme":                "http",
		"server.address":            "127.0.0.1",
		"client.address":            "127.0.0.1",
		"network.peer.address":      "127.0.0.1",
		"network.protocol.version":  "1.1",
		"user_agent.original":       "test/1",
		"guid:x-request-id":         "125a4afb-6f55-b4ba-ad80-413f09f48a28", // D-7
		"guid:x-client-trace-id":    "abc",
		"error.type":                "-",
	})
	if got, _ := s.Resource().Set().Value("service.name"); got.AsString() != "shop" {
		t.Errorf("service.name = %q, want shop", got.AsString())
	}
}

// TestHandlerContinues holds the order of one request: the caller's trace goes on,
// its flag counts, and the digit tells the decision to the next hop.
func TestHandlerContinues(t *testing.T) {
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	tests := []struct {
		name    string
		headers []string
		cfg     sampler.Config
		spans   int
		id      string // as the handler sees it; "" for a made one
		trace   string
	}{
		{"W-13 sampled parent", []string{"Traceparent", traceparent, "X-Request-Id", plainID}, sampler.Config{}, 1, sampledID, traceID},
		{"W-13 unsampled parent", []string{"Traceparent", unsampled, "X-Request-Id", plainID}, sampler.Config{}, 0, plainID, traceID},
		{"W-14 veto", []string{"Traceparent", traceparent, "X-Request-Id", plainID}, sampler.Config{Random: sampler.Percent(0)}, 0, plainID, traceID},
		{"D-6 digit", []string{"X-Request-Id", sampledID}, sampler.Config{Random: sampler.Percent(0)}, 1, sampledID, ""},
		{"D-8 forced", []string{"X-Request-Id", plainID, "X-Envoy-Force-Trace", ""}, sampler.Config{Random: sampler.Percent(0)}, 1, "125a4afb-6f55-a4ba-ad80-413f09f48a28", ""},
		{"D-9 random", []string{"X-Request-Id", plainID}, sampler.Config{}, 1, sampledID, ""},
		{"RID-1 made", nil, sampler.Config{}, 1, "", ""},
		{"b3 single", []string{"B3", traceID + "-00f067aa0ba902b7-1", "X-Request-Id", plainID}, sampler.Config{}, 1, sampledID, traceID},
		{"x-b3", []string{"X-B3-Traceid", traceID, "X-B3-Spanid", "00f067aa0ba902b7", "X-B3-Sampled", "1", "X-Request-Id", plainID}, sampler.Config{}, 1, sampledID, traceID},
		{"b3 deny", []string{"B3", "0", "X-Request-Id", plainID}, sampler.Config{}, 0, plainID, ""},
		{"bad traceparent", []string{"Traceparent", "00-zz", "X-Request-Id", plainID}, sampler.Config{}, 1, sampledID, ""},
		{"foreign id", []string{"X-Request-Id", "my-request-id"}, sampler.Config{}, 1, "my-request-id", ""},
		{"hostile id", []string{"X-Request-Id", "a b\t<script>"}, sampler.Config{}, 1, "", ""},
		{"O-4 two ids", []string{"X-Request-Id", plainID, "X-Request-Id", sampledID}, sampler.Config{}, 1, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tracing, rec := setup(t, middleware.Config{Sampling: tt.cfg})
			var id requestid.ID
			var sc trace.SpanContext
			url, client := serve(t, tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				id = requestid.FromContext(r.Context())
				sc = trace.SpanContextFromContext(r.Context())
			})))
			get(t, client, url, tt.headers...)
			ended := waitEnded(t, rec, tt.spans)
			if tt.id != "" && id != requestid.ID(tt.id) {
				t.Errorf("request id = %q, want %q", id, tt.id)
			}
			if tt.id == "" {
				if u, ok := id.UUID(); !ok || u.Version() != 4 {
					t.Errorf("request id = %q, want a new version 4 UUID", id)
				}
			}
			if tt.trace != "" && sc.TraceID().String() != tt.trace {
				t.Errorf("trace id = %s, want %s", sc.TraceID(), tt.trace)
			}
			if !sc.IsValid() || sc.IsRemote() || sc.IsSampled() != (tt.spans == 1) {
				t.Errorf("span context = %+v, want a local one, sampled %v", sc, tt.spans == 1)
			}
			for _, s := range ended {
				if s.Parent().IsValid() != (tt.trace != "") || (tt.trace != "" && !s.Parent().IsRemote()) {
					t.Errorf("parent = %+v, want the caller's: %v", s.Parent(), tt.trace != "")
				}
			}
		})
	}
}

func TestHandlerStatus(t *testing.T) {
	tests := []struct {
		name      string
		handler   http.HandlerFunc
		code      string
		status    codes.Code
		errorType string
	}{
		{"nothing written", func(http.ResponseWriter, *http.Request) {}, "200", codes.Unset, "-"},
		{"not found", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, "404", codes.Unset, "-"},
		{"500", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }, "500", codes.Error, "500"},
		{"103 then 204", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(103); w.WriteHeader(204) }, "204", codes.Unset, "-"},
		{"SetError", func(w http.ResponseWriter, r *http.Request) {
			span.SetError(r.Context(), context.DeadlineExceeded)
		}, "200", codes.Error, "context.DeadlineExceeded"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tracing, rec := setup(t, middleware.Config{})
			url, client := serve(t, tracing.Handler(tt.handler))
			get(t, client, url)
			s := waitEnded(t, rec, 1)[0]
			if s.Name() != "GET" {
				t.Errorf("name = %q, want GET", s.Name())
			}
			if s.Status().Code != tt.status {
				t.Errorf("status = %v, want %v", s.Status(), tt.status)
			}
			wantAttrs(t, s, map[string]string{"http.response.status_code": tt.code, "error.type": tt.errorType})
		})
	}
}

type myError struct{}

func (myError) Error() string { return "mine" }

func TestHandlerPanic(t *testing.T) {
	tests := []struct {
		name      string
		value     any
		status    codes.Code
		errorType string
	}{
		{"string", "boom", codes.Error, "panic"},
		{"error", myError{}, codes.Error, "middleware_test.myError"},
		{"http.ErrAbortHandler", http.ErrAbortHandler, codes.Unset, "-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tracing, rec := setup(t, middleware.Config{})
			h := tracing.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(tt.value) }))
			func() {
				defer func() {
					if got := recover(); got != tt.value {
						t.Errorf("panic = %v, want the handler's %v", got, tt.value)
					}
				}()
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			}()
			s := one(t, rec)
			if s.Status().Code != tt.status {
				t.Errorf("status = %v, want %v", s.Status(), tt.status)
			}
			want := map[string]string{"error.type": tt.errorType, "http.response.status_code": "500"}
			if tt.status == codes.Unset {
				want["http.response.status_code"] = "-"
			}
			wantAttrs(t, s, want)
		})
	}
}

func TestHandlerClientLeft(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	started := make(chan struct{})
	url, client := serve(t, tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	})))
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-started; cancel() }()
	req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
	if _, err := client.Do(req); !errors.Is(err, context.Canceled) {
		t.Fatalf("Do = %v, want %v", err, context.Canceled)
	}
	s := waitEnded(t, rec, 1)[0]
	if s.Status().Code != codes.Unset {
		t.Errorf("status = %v, want Unset", s.Status())
	}
	wantAttrs(t, s, map[string]string{"error.type": "context.Canceled", "http.response.status_code": "-"})
}

func TestHandlerUpgrade(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	url, _ := serve(t, tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Upgrade", "echo")
		w.Header().Set("Connection", "Upgrade")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("Hijack: %v", err)
			return
		}
		conn.Close()
	})))
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.Contains(line, "101") {
		t.Fatalf("answer = %q, %v, want 101", line, err)
	}
	wantAttrs(t, waitEnded(t, rec, 1)[0], map[string]string{"http.response.status_code": "101"})
}

// TestHandlerResponseID is RID-18: the id goes back on request or by policy.
func TestHandlerResponseID(t *testing.T) {
	for _, tt := range []struct {
		name    string
		policy  requestid.Policy
		headers []string
		want    string
	}{
		{"neither", requestid.Policy{}, []string{"X-Request-Id", sampledID}, ""},
		{"always", requestid.Policy{InResponse: true}, []string{"X-Request-Id", sampledID}, sampledID},
		{"always, not traced", requestid.Policy{InResponse: true}, []string{"X-Request-Id", sampledID, "B3", "0"}, sampledID},
		{"forced", requestid.Policy{}, []string{"X-Request-Id", sampledID, "X-Envoy-Force-Trace", "false"}, sampledID},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracing, _ := setup(t, middleware.Config{RequestID: tt.policy})
			url, client := serve(t, tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})))
			resp, _ := get(t, client, url, tt.headers...)
			if got := resp.Header.Get("X-Request-Id"); got != tt.want {
				t.Errorf("x-request-id in the response = %q, want %q", got, tt.want)
			}
		})
	}
}

// TestHandlerHealthCheck holds D-25 and RID-13: not traced, digit as it came, ids on.
func TestHandlerHealthCheck(t *testing.T) {
	for _, tt := range []struct {
		path  string
		list  []string
		spans int
	}{
		{"/healthz", nil, 0},
		{"/readyz", nil, 0},
		{"/healthz", []string{}, 1},
		{"/internal/up", []string{"/internal/*"}, 0},
		{"/healthzz", nil, 1},
	} {
		t.Run(fmt.Sprint(tt.path, tt.list), func(t *testing.T) {
			tracing, rec := setup(t, middleware.Config{HealthChecks: tt.list})
			var id requestid.ID
			url, client := serve(t, tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				id = requestid.FromContext(r.Context())
			})))
			get(t, client, url+tt.path, "X-Request-Id", plainID)
			waitEnded(t, rec, tt.spans)
			if want := map[int]requestid.ID{0: plainID, 1: sampledID}[tt.spans]; id != want {
				t.Errorf("request id = %q, want %q", id, want)
			}
		})
	}
}

func TestHandlerWrappedTwice(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	h := tracing.Handler(tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	one(t, rec)
}

// TestHandlerUnderOtherSpan: beside other instrumentation there is one tree.
func TestHandlerUnderOtherSpan(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	ctx, outer := tracing.TracerProvider().Tracer("other").Start(context.Background(), "outer")
	r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
	r.Header.Set("Traceparent", traceparent)
	tracing.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(httptest.NewRecorder(), r)
	outer.End()
	if s := rec.Ended()[0]; s.Parent().SpanID() != outer.SpanContext().SpanID() {
		t.Errorf("parent = %v, want the span around it %v", s.Parent().SpanID(), outer.SpanContext().SpanID())
	}
}

func TestHandlerRoute(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	mux := http.NewServeMux()
	mux.HandleFunc("/x/{y}", func(w http.ResponseWriter, r *http.Request) { span.SetRoute(r.Context(), "/named/{z}") })
	tracing.Handler(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("BREW", "/x/1", nil))
	s := one(t, rec)
	if s.Name() != "HTTP /named/{z}" {
		t.Errorf("name = %q, want %q", s.Name(), "HTTP /named/{z}")
	}
	wantAttrs(t, s, map[string]string{"http.route": "/named/{z}", "http.request.method": "_OTHER", "http.request.method_original": "BREW"})
}

// TestHandlerForwarded: behind a proxy, scheme and host are those the client used.
func TestHandlerForwarded(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{})
	r := httptest.NewRequest("GET", "http://10.0.0.1:8080/", nil)
	r.RemoteAddr = "[::ffff:10.1.2.3]:4711"
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set("X-Forwarded-Host", "shop.example:8443, inner")
	r.Header.Set("X-Forwarded-For", "203.0.113.9") // nobody vouches for it
	tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
	wantAttrs(t, one(t, rec), map[string]string{
		"url.scheme": "https", "server.address": "shop.example", "server.port": "8443",
		"client.address": "10.1.2.3", "network.peer.port": "4711",
	})
}

func TestHandlerNil(t *testing.T) {
	tracing, _ := setup(t, middleware.Config{})
	defer func() {
		if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "give the handler") {
			t.Errorf("Handler(nil) = %v, want a panic that says what to give", v)
		}
	}()
	tracing.Handler(nil)
}

// TestHandlerRouteShares is D-5: a route known beforehand has shares of its own, and
// names the span.
func TestHandlerRouteShares(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{
		Sampling: sampler.Config{Random: sampler.Percent(0)},
		Route: func(r *http.Request) middleware.Route {
			if r.URL.Path == "/pay" {
				return middleware.Route{Pattern: "/pay", Sampling: &sampler.Shares{}}
			}
			return middleware.Route{}
		},
	})
	h := tracing.Handler(http.NotFoundHandler())
	for _, path := range []string{"/pay", "/other"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", path, nil))
	}
	if s := one(t, rec); s.Name() != "POST /pay" {
		t.Errorf("name = %q, want POST /pay", s.Name())
	}
}
