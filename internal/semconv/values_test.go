package semconv

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMethod(t *testing.T) {
	for in, want := range map[string]string{
		"GET": "GET", "": "GET", "QUERY": "QUERY", "PATCH": "PATCH", "CONNECT": "CONNECT",
		"get": "_OTHER", "BREW": "_OTHER", "GET ": "_OTHER",
	} {
		if got, known := Method(in); got != want || known != (want != "_OTHER") {
			t.Errorf("Method(%q) = %q, %v, want %q", in, got, known, want)
		}
	}
}

func TestRoute(t *testing.T) {
	for in, want := range map[string]string{
		"":             "",
		"GET /a/{b}":   "/a/{b}",
		"GET h.test/b": "/b",
		"/{$}":         "/{$}",
		"h.test/":      "/",
		"POST \t/x":    "/x",
		"custom-route": "custom-route",
		"/a b":         "/a b",
	} {
		if got := Route(in); got != want {
			t.Errorf("Route(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, s := range []string{"", "abc", strings.Repeat("é", 20), strings.Repeat("\xff", 20), strings.Repeat("€", 7)} {
		for n := range 12 {
			got := Cut(s, n)
			if len(got) > n || !strings.HasPrefix(s, got) || (utf8.ValidString(s) && !utf8.ValidString(got)) {
				t.Errorf("Cut(%q, %d) = %q", s, n, got)
			}
		}
	}
}
