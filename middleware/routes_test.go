package middleware_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

// copies is a middleware that hides http.Request.Pattern.
func copies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), copiedKey{}, true)))
	})
}

// TestPattern: the route reaches the span whatever stands between.
func TestPattern(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/u/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/panic/{id}", func(http.ResponseWriter, *http.Request) { panic("boom") })
	mux.HandleFunc("/named/{id}", func(w http.ResponseWriter, r *http.Request) { span.SetRoute(r.Context(), "/by/{name}") })
	outer := http.NewServeMux()
	outer.Handle("/api/", http.StripPrefix("/api", middleware.Pattern(mux)))
	for _, tt := range []struct {
		name, path string
		handler    http.Handler
		want       string
	}{
		{"bare", "/u/1", mux, "GET /u/{id}"},
		{"copied without Pattern", "/u/1", copies(mux), "GET"},
		{"copied", "/u/1", copies(middleware.Pattern(mux)), "GET /u/{id}"},
		{"copied twice", "/u/1", copies(copies(middleware.Pattern(mux))), "GET /u/{id}"},
		{"panic", "/panic/1", copies(middleware.Pattern(mux)), "GET /panic/{id}"},
		{"SetRoute wins", "/named/1", copies(middleware.Pattern(mux)), "GET /by/{name}"},
		{"inner mux", "/api/u/1", outer, "GET /u/{id}"},
		{"no match", "/nowhere", copies(middleware.Pattern(mux)), "GET"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracing, rec := setup(t, middleware.Config{})
			func() {
				defer func() { recover() }()
				tracing.Handler(tt.handler).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", tt.path, nil))
			}()
			if s := one(t, rec); s.Name() != tt.want {
				t.Errorf("name = %q, want %q", s.Name(), tt.want)
			}
		})
	}
	t.Run("outside a request", func(t *testing.T) {
		middleware.Pattern(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/u/1", nil))
	})
}

// TestPatternReachesOutside: what wraps Handler sees the pattern, too.
func TestPatternReachesOutside(t *testing.T) {
	for _, tp := range []string{traceparent, unsampled} {
		tracing, _ := setup(t, middleware.Config{})
		mux := http.NewServeMux()
		mux.HandleFunc("/u/{id}", func(http.ResponseWriter, *http.Request) {})
		r := httptest.NewRequest("GET", "/u/1", nil)
		r.Header.Set("Traceparent", tp)
		tracing.Handler(mux).ServeHTTP(httptest.NewRecorder(), r)
		if r.Pattern != "/u/{id}" {
			t.Errorf("Pattern outside = %q, want %q", r.Pattern, "/u/{id}")
		}
	}
}

// TestMuxRoute: sampling goes by a route that is known beforehand.
func TestMuxRoute(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET shop.example/u/{id}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/quiet/{id}", func(http.ResponseWriter, *http.Request) {})
	tracing, rec := setup(t, middleware.Config{
		Route:    middleware.MuxRoute(mux),
		Sampling: sampler.Config{Rules: []sampler.Rule{{Route: "/quiet/{id}", Drop: true}}},
	})
	h := tracing.Handler(copies(mux)) // the span is named all the same
	for _, path := range []string{"http://shop.example/u/1", "/quiet/1"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	if s := one(t, rec); s.Name() != "GET /u/{id}" {
		t.Errorf("name = %q, want %q", s.Name(), "GET /u/{id}")
	}
}

func TestRouteTable(t *testing.T) {
	zero := sampler.Percent(0)
	route, err := middleware.RouteTable(map[string]middleware.Route{
		"GET /carts/{id}": {Decorator: span.Decorator{Operation: "carts"}},
		"/carts/{id}":     {Pattern: "/any"},
		"a.example/":      {Sampling: &sampler.Shares{Random: zero}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ method, url, pattern, operation string }{
		{"GET", "/carts/7", "/carts/{id}", "carts"},
		{"POST", "/carts/7", "/any", ""},
		{"GET", "http://a.example/x", "/", ""},
		{"GET", "/elsewhere", "", ""},
		{"GET", "/carts//7", "", ""}, // ServeMux sends it elsewhere
	} {
		r := httptest.NewRequest(tt.method, tt.url, nil)
		got := route(r)
		if got.Pattern != tt.pattern || got.Decorator.Operation != tt.operation || (got.Sampling != nil) != strings.Contains(tt.url, "a.example") {
			t.Errorf("%s %s: route = %+v, want pattern %q and operation %q", tt.method, tt.url, got, tt.pattern, tt.operation)
		}
		if r.Pattern != "" {
			t.Errorf("%s %s: the request was changed", tt.method, tt.url)
		}
	}
}

func TestRouteTableMistakes(t *testing.T) {
	_, err := middleware.RouteTable(map[string]middleware.Route{
		"/ok": {}, "no slash": {}, "/a/{x}/c": {}, "/a/b/{y}": {}, "/{": {},
	})
	if err == nil {
		t.Fatal("RouteTable = nil error")
	}
	for _, want := range []string{`"no slash"`, `"/{"`, `"/a/{x}/c"`, "conflict"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %s", err, want)
		}
	}
}

func TestRouteNil(t *testing.T) {
	for name, f := range map[string]func(){
		"Pattern": func() { middleware.Pattern(nil) }, "MuxRoute": func() { middleware.MuxRoute(nil) },
	} {
		func() {
			defer func() {
				if v := recover(); !strings.Contains(fmt.Sprint(v), "give the") {
					t.Errorf("%s(nil) = %v, want a panic that says what to give", name, v)
				}
			}()
			f()
		}()
	}
}

func ExamplePattern() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /carts/{id}", func(w http.ResponseWriter, r *http.Request) {})

	var tracing *middleware.Tracing // of middleware.Setup
	serve := func() http.Handler {
		return tracing.Handler(http.StripPrefix("/api", middleware.Pattern(mux)))
	}
	_ = serve
}

func ExampleRouteTable() {
	route, err := middleware.RouteTable(map[string]middleware.Route{
		"GET /carts/{id}": {Decorator: span.Decorator{Operation: "read cart"}},
		"/internal/":      {Sampling: &sampler.Shares{Random: sampler.Percent(1)}},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(route(httptest.NewRequest("GET", "/carts/7", nil)).Decorator.Operation)
	// Output: read cart
}
