package w3ctest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/meshtrace/meshtrace/internal/w3ctest"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracingtest"
)

// TestService holds the service to what it answers when calls cannot be made.
func TestService(t *testing.T) {
	var called []string // paths with the bodies that came
	callee := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		called = append(called, r.URL.Path+" "+string(body))
		switch r.URL.Path {
		case "/fail":
			http.Error(w, "no", http.StatusServiceUnavailable)
		case "/redirect":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}
	}))
	t.Cleanup(callee.Close)
	tracing, _ := tracingtest.New(t, middleware.Config{})
	service := w3ctest.NewService(tracing)
	t.Cleanup(service.Close)

	to := func(path string) string {
		return fmt.Sprintf(`{"url": %q, "arguments": [1, {"a": "b"}]}`, callee.URL+path)
	}
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		answer                   string // part of it
		called                   []string
	}{
		{"two calls", "POST", "/test", "[" + to("/1") + "," + to("/2") + "]", 200, `{"calls": 2}`, []string{`/1 [1, {"a": "b"}]`, `/2 [1, {"a": "b"}]`}},
		{"no arguments", "POST", "/test", `[{"url": "` + callee.URL + `/1"}]`, 200, `{"calls": 1}`, []string{"/1 null"}},
		{"no calls", "POST", "/test", "[]", 200, `{"calls": 0}`, nil},
		{"a call fails", "POST", "/test", "[" + to("/1") + "," + to("/fail") + "," + to("/3") + "]", 502, "call 1: ", []string{`/1 [1, {"a": "b"}]`, `/fail [1, {"a": "b"}]`}},
		{"a call is redirected", "POST", "/test", "[" + to("/redirect") + "]", 502, "302", []string{`/redirect [1, {"a": "b"}]`}},
		{"another machine", "POST", "/test", `[{"url": "http://192.0.2.1/", "arguments": []}]`, 502, "loopback", nil},
		{"no address", "POST", "/test", `[{"url": "%", "arguments": []}]`, 502, "call 0: ", nil},
		{"no JSON", "POST", "/test", "calls", 400, "body: ", nil},
		{"no list", "POST", "/test", to("/1"), 400, "body: ", nil},
		{"empty", "POST", "/test", "", 400, "body: ", nil},
		{"too many calls", "POST", "/test", "[" + strings.Repeat(to("/1")+",", 32) + to("/1") + "]", 400, "33 calls", nil},
		{"too long", "POST", "/test", `[{"url": "` + strings.Repeat("a", 1<<20) + `"}]`, 400, "too large", nil},
		{"another method", "GET", "/test", "", 405, "", nil},
		{"another path", "POST", "/", "[]", 404, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			called = nil
			rec := httptest.NewRecorder()
			service.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader(tt.body)))
			if rec.Code != tt.status || !strings.Contains(rec.Body.String(), tt.answer) {
				t.Errorf("%s %s with %.80q = %d %q, want %d with %q", tt.method, tt.path, tt.body, rec.Code, rec.Body, tt.status, tt.answer)
			}
			if got, want := strings.Join(called, "\n"), strings.Join(tt.called, "\n"); got != want {
				t.Errorf("%s %s with %.80q made the calls\n%s\nwant\n%s", tt.method, tt.path, tt.body, got, want)
			}
		})
	}
}
