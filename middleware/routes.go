package middleware

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/internal/semconv"
)

// Pattern serves router, and tells the server span around it the pattern that router
// left in http.Request.Pattern. A middleware between Handler and router that copies
// the request, as http.StripPrefix and http.Request.WithContext do, hides the pattern
// otherwise:
//
//	tracing.Handler(authenticate(middleware.Pattern(mux)))
//
// What span.SetRoute said counts before it. Pattern panics when router is nil.
func Pattern(router http.Handler) http.Handler {
	if router == nil {
		panic("middleware: Pattern(nil): give the router, such as an *http.ServeMux")
	}
	return &patternTeller{router}
}

type patternTeller struct{ router http.Handler }

func (p *patternTeller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() { // also when the handler panics
		if r.Pattern == "" {
			return
		}
		if s := reqctx.From(r.Context()); s != nil && s.Route() == "" {
			s.SetRoute(r.Pattern)
		}
	}()
	p.router.ServeHTTP(w, r)
}

// MuxRoute returns a Config.Route that asks mux for the pattern of a request before
// its span starts. Sampling rules and shares by route need that; names do not, since
// the pattern is known afterwards anyway. It costs 2 allocations a request. It panics
// when mux is nil.
func MuxRoute(mux *http.ServeMux) func(*http.Request) Route {
	if mux == nil {
		panic("middleware: MuxRoute(nil): give the *http.ServeMux that serves")
	}
	return func(r *http.Request) Route {
		_, pattern := mux.Handler(r)
		return Route{Pattern: semconv.Route(pattern)}
	}
}

// RouteTable returns a Config.Route that finds the Route of a request by patterns of
// http.ServeMux, such as "GET /carts/{id}" or "shop.example/": the most specific one
// counts. A Route without a Pattern gets that of its key. A request that matches none
// has the zero Route. The error lists every pattern that is none, and those that are
// equally specific as another.
func RouteTable(table map[string]Route) (func(*http.Request) Route, error) {
	mux := http.NewServeMux()
	var errs []error
	for _, pattern := range slices.Sorted(maps.Keys(table)) {
		route := table[pattern]
		if route.Pattern == "" {
			route.Pattern = semconv.Route(pattern)
		}
		if err := register(mux, pattern, tableEntry{route: route}); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return func(r *http.Request) Route {
		h, _ := mux.Handler(r)
		if e, ok := h.(tableEntry); ok {
			return e.route
		}
		return Route{} // not found, or a redirect to a clean path
	}, nil
}

// register is mux.Handle with an error where that panics.
func register(mux *http.ServeMux, pattern string, h http.Handler) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("middleware: RouteTable: pattern %.80q: %.300v: allowed are patterns of http.ServeMux that do not conflict", pattern, v)
		}
	}()
	mux.Handle(pattern, h)
	return nil
}

// tableEntry is a Route as a mux holds it. It serves nothing.
type tableEntry struct{ route Route }

func (tableEntry) ServeHTTP(http.ResponseWriter, *http.Request) {}
