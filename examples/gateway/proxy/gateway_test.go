package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/meshtrace/meshtrace/middleware"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serveFile serves a gateway by a file, with every $UP in it replaced by the address of
// an upstream, and returns its URL and the spans.
func serveFile(t *testing.T, file string, upstream http.Handler) (string, *tracetest.SpanRecorder) {
	t.Helper()
	up := httptest.NewServer(upstream)
	t.Cleanup(up.Close)
	cfg, err := Parse([]byte(strings.ReplaceAll(file, "$UP", up.Listener.Addr().String())))
	if err != nil {
		t.Fatal(err)
	}
	rec := tracetest.NewSpanRecorder()
	g, err := New(context.Background(), cfg, Options{
		Logger: slog.New(slog.DiscardHandler),
		Edit: func(m *middleware.Config) {
			m.Processors = []trace.SpanProcessor{rec}
			m.Getenv = func(name string) string { return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name] }
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g)
	t.Cleanup(func() {
		srv.Close()
		if err := g.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return srv.URL, rec
}

// ask sends a request and returns the answer with its body.
func ask(t *testing.T, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(answer)
}

const routed = `{"tracing": {"spawn_upstream_span": true}, "clusters": {"c": {"hosts": [{"address": "$UP"}]}}, "routes": [{"cluster": "c", %s}]}`

// A body is sent again with each try, and what is too long for that is sent once.
func TestRetryBody(t *testing.T) {
	var bodies []int
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		if bodies = append(bodies, int(n)); len(bodies) == 1 {
			w.WriteHeader(503)
		}
	})
	file := fmt.Sprintf(routed, `"retry": {"on": ["5xx"]}`)
	url, _ := serveFile(t, file, upstream)
	if resp, _ := ask(t, "POST", url, "abc"); resp.StatusCode != 200 || !slices.Equal(bodies, []int{3, 3}) {
		t.Errorf("%d after bodies of %v bytes, want 200 after 3 and 3", resp.StatusCode, bodies)
	}
	bodies = nil
	if resp, _ := ask(t, "POST", url, strings.Repeat("x", maxReplay+1)); resp.StatusCode != 503 || !slices.Equal(bodies, []int{maxReplay + 1}) {
		t.Errorf("%d after bodies of %v bytes, want 503 after one", resp.StatusCode, bodies)
	}
}

// What tries are made for.
func TestRetryOn(t *testing.T) {
	for _, tt := range []struct {
		on     string
		status int
		tries  int
	}{
		{"5xx", 500, 3}, {"5xx", 404, 1}, {"gateway-error", 500, 1}, {"gateway-error", 502, 3}, {"retriable-4xx", 409, 3},
		{"retriable-4xx", 404, 1}, {"reset", 503, 1}, {"connect-failure", 503, 1}, {"refused-stream", 503, 1},
	} {
		tries := 0
		url, rec := serveFile(t, fmt.Sprintf(routed, fmt.Sprintf(`"retry": {"on": [%q], "num_retries": 2}`, tt.on)), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			tries++
			w.WriteHeader(tt.status)
		}))
		ask(t, "GET", url, "")
		if tries != tt.tries {
			t.Errorf("retry on %s, status %d: %d tries, want %d", tt.on, tt.status, tries, tt.tries)
		}
		for deadline := time.Now().Add(5 * time.Second); len(rec.Ended()) < 1+tries && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		}
		if n := len(rec.Ended()); n != 1+tries {
			t.Errorf("%d spans, want %d", n, 1+tries)
		}
	}
}

// A try whose time is over ends as such over both protocols, and tells the upstream how
// long it was to be.
func TestPerTryTimeout(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		told := make(chan string, 2)
		up := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			told <- r.Header.Get(headerTimeout)
			<-r.Context().Done()
		}))
		up.Config.Protocols = new(http.Protocols)
		up.Config.Protocols.SetHTTP1(true)
		up.Config.Protocols.SetUnencryptedHTTP2(true)
		up.Start()
		t.Cleanup(up.Close)
		file := fmt.Sprintf(`{"tracing": {}, "clusters": {"c": {"hosts": [{"address": %q}], "http2": %t}},
			"routes": [{"cluster": "c", "retry": {"on": ["5xx"], "per_try_timeout_ms": 20}}]}`, up.Listener.Addr(), http2)
		url, _ := serveFile(t, file, http.NotFoundHandler())
		resp, body := ask(t, "GET", url, "")
		if resp.StatusCode != http.StatusGatewayTimeout || body != textTimeout || len(told) != 2 || <-told != "20" {
			t.Errorf("http2 %t: %d %q, want 504 %q after two tries of 20 ms", http2, resp.StatusCode, body, textTimeout)
		}
	}
}

// Hosts take turns, for retries as well.
func TestRoundRobin(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody serves here
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	file := `{"tracing": {}, "clusters": {"c": {"hosts": [{"address": "` + closed + `"}, {"address": "$UP"}]}},
		"routes": [{"cluster": "c", "retry": {"on": ["connect-failure"]}}]}`
	url, _ := serveFile(t, file, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for range 4 {
		if resp, _ := ask(t, "GET", url, ""); resp.StatusCode != 200 {
			t.Errorf("status %d, want 200 by the host that serves", resp.StatusCode)
		}
	}
}

// The circuit breaker refuses what is above its limit, and lets through again later.
func TestMaxRequests(t *testing.T) {
	arrived, leave := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	file := `{"tracing": {}, "clusters": {"c": {"hosts": [{"address": "$UP"}], "max_requests": 1}}, "routes": [{"cluster": "c"}]}`
	url, _ := serveFile(t, file, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if first.CompareAndSwap(false, true) {
			close(arrived)
			<-leave
		}
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		ask(t, "GET", url, "")
	}()
	<-arrived
	if resp, body := ask(t, "GET", url, ""); resp.StatusCode != 503 || !strings.HasSuffix(body, "overflow") {
		t.Errorf("above the limit: %d %q", resp.StatusCode, body)
	}
	close(leave)
	<-done
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if resp, _ := ask(t, "GET", url, ""); resp.StatusCode == 200 {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("nothing passes any more")
		}
	}
}

// A gRPC caller gets a local reply that it can read.
func TestReplyGRPC(t *testing.T) {
	file := `{"tracing": {}, "clusters": {"c": {"hosts": []}}, "routes": [{"path": "/pkg.S/M", "cluster": "c"}, {"path": "/pkg.S/F", "cluster": "c", "fault": {"abort": 403}}]}`
	url, _ := serveFile(t, file, http.NotFoundHandler())
	for path, want := range map[string][2]string{"/pkg.S/M": {"14", textNoHost}, "/none": {"12", ""}, "/pkg.S/F": {"7", textFault}} {
		resp, body := ask(t, "POST", url+path, "", "Content-Type", "application/grpc")
		if got := [2]string{resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")}; resp.StatusCode != 200 || got != want || body != "" {
			t.Errorf("%s: %d %q %q, want 200 %q", path, resp.StatusCode, got, body, want)
		}
	}
	for status, code := range map[int]int{400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 504: 14, 418: 2} {
		if got := grpcStatus(status); got != code {
			t.Errorf("grpcStatus(%d) = %d, want %d", status, got, code)
		}
	}
}

// Rewrites, redirects and the timeout that the upstream is told.
func TestRewrite(t *testing.T) {
	got := make(chan *http.Request, 1)
	file := `{"tracing": {}, "clusters": {"c": {"hosts": [{"address": "$UP"}]}}, "routes": [
		{"prefix": "/old", "redirect": {"host": "new.example", "path": "/new"}},
		{"prefix": "/a/", "cluster": "c", "prefix_rewrite": "/b/", "host_rewrite": "inside", "timeout_ms": 1500}]}`
	url, _ := serveFile(t, file, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	ask(t, "GET", url+"/a/x?y=z", "")
	r := <-got
	if r.URL.String() != "/b/x?y=z" || r.Host != "inside" || r.Header.Get("X-Envoy-Original-Path") != "/a/x?y=z" || r.Header.Get(headerTimeout) != "1500" {
		t.Errorf("upstream got %s of %s with %v", r.URL, r.Host, r.Header)
	}
	if resp, _ := ask(t, "GET", url+"/old/x", ""); resp.StatusCode != 301 || resp.Header.Get("Location") != "http://new.example/new" {
		t.Errorf("redirect: %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if resp, _ := ask(t, "QUERY", url+"/a/", ""); resp.StatusCode != 400 { // T-22
		t.Errorf("QUERY without a content type: %d, want 400", resp.StatusCode)
	}
}

// Without a tracing block ids are made and kept, and that is all. // D-1, O-1
func TestWithoutTracing(t *testing.T) {
	got := make(chan http.Header, 1)
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	defer up.Close()
	cfg, err := Parse([]byte(`{"clusters": {"c": {"hosts": [{"address": "` + up.Listener.Addr().String() + `"}]}}, "routes": [{"cluster": "c"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(context.Background(), cfg, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close(context.Background())
	g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if h := <-got; h.Get("X-Request-Id") == "" || h.Get("Traceparent") != "" {
		t.Errorf("upstream got %v, want an id and no trace", h)
	}
}

// Mistakes that only Setup knows are told by New.
func TestNewMistakes(t *testing.T) {
	cfg, err := Parse([]byte(`{"tracing": {"propagation": ["smoke"]}, "routes": []}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(context.Background(), cfg, Options{}); err == nil || !strings.Contains(err.Error(), "smoke") {
		t.Errorf("New: %v, want smoke in it", err)
	}
	cfg.Routes = []Route{{Path: "no"}}
	if _, err := New(context.Background(), cfg, Options{}); err == nil || !strings.Contains(err.Error(), "routes[0].path") {
		t.Errorf("New: %v, want routes[0].path in it", err)
	}
}

// A connection that changes its protocol passes, in both directions.
func TestUpgrade(t *testing.T) {
	url, rec := serveFile(t, fmt.Sprintf(routed, `"timeout_ms": 5000`), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(conn, "echo "+line)
	}))
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	if err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 101") {
		t.Fatalf("answer %q, %v", answer[:n], err)
	}
	io.WriteString(conn, "hello\n")
	if n, err = conn.Read(answer); string(answer[:n]) != "echo hello\n" {
		t.Errorf("after the upgrade: %q, %v", answer[:n], err)
	}
	conn.Close()
	for deadline := time.Now().Add(5 * time.Second); len(rec.Ended()) < 2 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	for _, s := range rec.Ended() {
		for _, kv := range s.Attributes() {
			if kv.Key == "http.status_code" && kv.Value.AsString() != "101" {
				t.Errorf("%s: http.status_code = %s, want 101", s.Name(), kv.Value.AsString())
			}
		}
	}
	if n := len(rec.Ended()); n != 2 {
		t.Errorf("%d spans, want 2", n)
	}
}
