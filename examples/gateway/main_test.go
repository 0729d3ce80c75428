package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lockedBuffer is a bytes.Buffer that the program writes while the test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestDefault runs the program as `go run ./examples/gateway` does, asks each route, and
// ends it.
func TestDefault(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var out, logs lockedBuffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"-listen", "127.0.0.1:0", "-admin", "127.0.0.1:0"}, &out, &logs, func(name string) string {
			return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name]
		})
	}()
	var address, admin string
	for deadline := time.Now().Add(10 * time.Second); admin == ""; time.Sleep(time.Millisecond) {
		if line, rest, ok := strings.Cut(out.String(), "\ntraces: "); ok && strings.HasSuffix(rest, "\n") {
			address, admin = strings.TrimPrefix(line, "gateway: "), strings.TrimSuffix(rest, "\n")
		} else if time.Now().After(deadline) {
			t.Fatalf("the program does not say where it listens: %s%s", out.String(), logs.String())
		}
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	fetch := func(url string) (*http.Response, string) {
		t.Helper()
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	get := func(path string) (*http.Response, string) { t.Helper(); return fetch(address + path) }
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/carts/7?a=b": {200, `"url": "/7?a=b"`},
		"/flaky":       {200, `"method": "GET"`}, // the second try
		"/slow":        {504, "upstream request timeout"},
		"/closed":      {503, "no healthy upstream"},
		"/fault":       {503, "fault filter abort"},
		"/robots.txt":  {200, "Disallow"},
		"/old":         {301, ""},
		"/healthz":     {200, ""},
		"/else":        {200, "Traceparent"},
	} {
		resp, body := get(path)
		if resp.StatusCode != want.status || !strings.Contains(body, want.body) {
			t.Errorf("GET %s: %d %q, want %d and %q", path, resp.StatusCode, body, want.status, want.body)
		}
		if path != "/healthz" && resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("GET %s: no request id in the response", path)
		}
	}
	resp, body := get("/carts/7")
	var echoed struct{ Header http.Header }
	if err := json.Unmarshal([]byte(body), &echoed); err != nil {
		t.Fatal(err)
	}
	if id := resp.Header.Get("X-Request-Id"); echoed.Header.Get("X-Request-Id") != id || resp.Header.Get("X-Envoy-Decorator-Operation") != "shop.carts" {
		t.Errorf("ids %q upstream and %q back; response %v", echoed.Header.Get("X-Request-Id"), id, resp.Header)
	}
	if resp, body := fetch(admin); resp.StatusCode != 200 || !strings.Contains(body, "<html") {
		t.Errorf("the debug page: %d %.80q", resp.StatusCode, body)
	}
	if _, body := get("/debug/traces/"); strings.Contains(body, "<html") {
		t.Error("strangers reach the debug page")
	}
	cancel()
	select {
	case c := <-code:
		if c != 0 {
			t.Errorf("exit code %d: %s", c, logs.String())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the program does not end")
	}
}

func TestCheck(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte(`{"routes": [{"prefx": "/"}], "listen": 80}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-check", "gateway.json"}, 0, "is right"},
		{[]string{"-check", bad}, 2, "2 mistakes"},
		{[]string{"-config", "none.json"}, 2, "none.json"},
		{[]string{"-nothing"}, 2, "-nothing"},
		{[]string{"more"}, 2, "-help"},
		{[]string{"-help"}, 0, "address"},
	} {
		var out bytes.Buffer
		if code := run(context.Background(), tt.args, &out, &out, func(string) string { return "" }); code != tt.code || !strings.Contains(out.String(), tt.says) {
			t.Errorf("gateway %q = %d: %s; want %d and %q", tt.args, code, out.String(), tt.code, tt.says)
		}
	}
}
