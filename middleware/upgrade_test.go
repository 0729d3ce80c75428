package middleware_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

// upgrading is an upstream that switches to a protocol which sends back one line. Its
// answer has the headers besides.
func upgrading(t testing.TB, headers http.Header) string {
	t.Helper()
	address, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), headers)
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
		fmt.Fprint(rw, line)
		rw.Flush()
	}))
	return address
}

// switchOver asks for an upgrade, and returns the answer once a line went there and back.
func switchOver(t testing.TB, address string, headers http.Header) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req, _ := http.NewRequest("GET", address+"/chat", nil)
	maps.Copy(req.Header, headers)
	req.Header.Set("Upgrade", "echo")
	req.Header.Set("Connection", "Upgrade")
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return resp
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := in.ReadString('\n'); line != "hello\n" {
		t.Errorf("what came back is %q, %v", line, err)
	}
	io.Copy(io.Discard, in)
	return resp
}

// TestUpgradeOperation: an answer that httputil.ReverseProxy sends by itself follows the
// rules of all others (N-5 to N-12), whether the request is traced or not.
func TestUpgradeOperation(t *testing.T) {
	for _, tt := range []struct {
		rule      string
		direction middleware.Direction
		decorator span.Decorator
		asked     string // in the request
		answered  string // by the upstream; "-": nothing
		name      string
		want      string // in the answer; "-": nothing
	}{
		{"N-5", middleware.Ingress, span.Decorator{Operation: "testOp"}, "", "-", "testOp", "testOp"},
		{"N-5 replaces", middleware.Ingress, span.Decorator{Operation: "testOp"}, "", "upstreamOp", "testOp", "testOp"},
		{"N-6", middleware.Ingress, span.Decorator{Operation: "testOp", Private: true}, "", "-", "testOp", "-"},
		{"N-7", middleware.Ingress, span.Decorator{Operation: "initOp"}, "testOp", "-", "testOp", "-"},
		{"N-9", middleware.Ingress, span.Decorator{}, "", "upstreamOp", "ingress", "upstreamOp"},
		{"N-10", middleware.Egress, span.Decorator{Operation: "testOp"}, "", "-", "testOp", "-"},
		{"N-12", middleware.Egress, span.Decorator{Operation: "initOp"}, "", "testOp", "testOp", "-"},
		{"N-12 empty", middleware.Egress, span.Decorator{Operation: "initOp"}, "", "", "initOp", "-"},
	} {
		for _, traced := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/traced %v", tt.rule, traced), func(t *testing.T) {
				var headers http.Header
				if tt.answered != "-" {
					headers = http.Header{operationHeader: {tt.answered}}
				}
				upstream, _ := url.Parse(upgrading(t, headers))
				cfg := middleware.Config{
					Role: middleware.Gateway, Direction: tt.direction, SpawnUpstreamSpan: true,
					Route: func(*http.Request) middleware.Route { return middleware.Route{Decorator: tt.decorator} },
				}
				if !traced {
					cfg.Sampling = sampler.Config{Overall: sampler.Percent(0)}
				}
				tracing, rec := setup(t, cfg)
				proxy := httputil.NewSingleHostReverseProxy(upstream)
				proxy.Transport = tracing.Transport(nil)
				address, _ := serve(t, tracing.Handler(proxy))
				ask := http.Header{"X-Envoy-Internal": {"true"}}
				if tt.asked != "" {
					ask.Set(operationHeader, tt.asked)
				}
				resp := switchOver(t, address, ask)
				if resp.StatusCode != http.StatusSwitchingProtocols {
					t.Fatalf("status = %d, want 101", resp.StatusCode)
				}
				got := "-"
				if lines, ok := resp.Header[operationHeader]; ok {
					got = strings.Join(lines, ",")
				}
				if got != tt.want {
					t.Errorf("%s in the answer = %q, want %q", operationHeader, got, tt.want)
				}
				if !traced {
					return
				}
				for _, s := range waitEnded(t, rec, 2) {
					if s.SpanKind() == trace.SpanKindServer && s.Name() != tt.name {
						t.Errorf("the span's name is %q, want %q", s.Name(), tt.name)
					}
					wantAttrs(t, s, map[string]string{"http.status_code": "101"})
				}
			})
		}
	}
}

// TestUpgradeAnswer: the rest of what is written into an answer and read of it.
func TestUpgradeAnswer(t *testing.T) {
	upstream, _ := url.Parse(upgrading(t, http.Header{"X-Answer": {"a"}, "X-Request-Id": {"the upstream's"}}))
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan = true
	cfg.RequestID.InResponse = true
	cfg.TraceResponse, cfg.FirstByte = true, true
	cfg.ResponseHeaders = []string{"X-Answer", "X-Request-Id"}
	cfg.Tags = []span.Tag{span.Formatted("id", span.MustTemplate("%RESP(x-request-id)%"))}
	tracing, rec := setup(t, cfg)
	proxy := httputil.NewSingleHostReverseProxy(upstream)
	proxy.Transport = tracing.Transport(nil)
	address, _ := serve(t, tracing.Handler(proxy))
	resp := switchOver(t, address, http.Header{"X-Request-Id": {plainID}})
	id := resp.Header.Get("X-Request-Id")
	if len(resp.Header["X-Request-Id"]) != 1 || len(id) != len(plainID) || id[:14] != plainID[:14] { // RID-18
		t.Errorf("x-request-id in the answer = %q, want %s", resp.Header["X-Request-Id"], plainID)
	}
	if resp.Header.Get("Traceresponse") == "" {
		t.Error("no traceresponse in the answer")
	}
	for _, s := range waitEnded(t, rec, 2) {
		want := map[string]string{"http.response.header.x-answer": `["a"]`, "id": "the upstream's"}
		if s.SpanKind() == trace.SpanKindServer {
			want["id"] = id
			want["http.response.header.x-request-id"] = `["` + id + `"]`
			if n := len(s.Events()); n != 1 {
				t.Errorf("%d events, want the first byte: %v", n, s.Events())
			}
		}
		wantAttrs(t, s, want)
	}
	if got := tracing.Sampler().Counts()["random_sampling"]; got != 1 { // D-27
		t.Errorf("the decision was counted %d times, want once", got)
	}
}

// TestUpgradeRefused: an answer that switches to another protocol than was asked for
// goes to nobody, and names nothing.
func TestUpgradeRefused(t *testing.T) {
	upstream, _ := url.Parse("http://shop.example")
	tracing, rec := setup(t, middleware.Config{Role: middleware.Gateway, Direction: middleware.Egress, SpawnUpstreamSpan: true})
	proxy := httputil.NewSingleHostReverseProxy(upstream)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.Transport = tracing.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusSwitchingProtocols, Body: http.NoBody, Request: r,
			Header: http.Header{"Upgrade": {"other"}, "Connection": {"Upgrade"}, operationHeader: {"calleeOp"}}}, nil
	}))
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "http://in.example/", nil)
	r.Header = http.Header{"Upgrade": {"echo"}, "Connection": {"Upgrade"}}
	tracing.Handler(proxy).ServeHTTP(w, r)
	if w.Code != http.StatusBadGateway || w.Header().Get(operationHeader) != "" {
		t.Errorf("status = %d, operation %q, want 502 and none", w.Code, w.Header().Get(operationHeader))
	}
	for _, s := range rec.Ended() {
		if s.SpanKind() == trace.SpanKindServer && s.Name() != "egress in.example" {
			t.Errorf("the span's name is %q, want the default", s.Name())
		}
	}
}

// TestUpgradeByRouter: a router that sends the answer on through its ResponseWriter has
// it edited once.
func TestUpgradeByRouter(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{Role: middleware.Gateway, Direction: middleware.Egress, SpawnUpstreamSpan: true})
	out := tracing.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusSwitchingProtocols, Body: http.NoBody, Request: r,
			Header: http.Header{"Upgrade": {"echo"}, "Connection": {"Upgrade"}, operationHeader: {"calleeOp"}}}, nil
	}))
	w := httptest.NewRecorder()
	tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), "GET", "http://shop.example/", nil)
		resp, err := out.RoundTrip(req)
		if err != nil {
			t.Error(err)
			return
		}
		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
	})).ServeHTTP(w, httptest.NewRequest("GET", "http://in.example/", nil))
	if w.Code != http.StatusSwitchingProtocols || w.Header().Get(operationHeader) != "" {
		t.Errorf("status = %d, operation %q, want 101 and none", w.Code, w.Header().Get(operationHeader))
	}
	for _, s := range rec.Ended() {
		if s.SpanKind() == trace.SpanKindServer && s.Name() != "calleeOp" { // N-12
			t.Errorf("the span's name is %q, want the callee's", s.Name())
		}
	}
}
