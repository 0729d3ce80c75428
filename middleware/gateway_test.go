package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/span"
)

const operationHeader = "X-Envoy-Decorator-Operation"

// gateway returns the Config of a gateway whose every route is r.
func gateway(d middleware.Direction, r middleware.Route) middleware.Config {
	cfg := middleware.Envoy()
	cfg.Direction = d
	cfg.Route = func(*http.Request) middleware.Route { return r }
	return cfg
}

func TestDecorator(t *testing.T) {
	const none = "-"
	public, private := span.Decorator{Operation: "initOp"}, span.Decorator{Operation: "initOp", Private: true}
	tests := []struct {
		rule             string
		direction        middleware.Direction
		decorator        span.Decorator
		caller, callee   string // of the request and of the upstream's response; "-" absent
		name             string
		upstream, answer string // what goes on
	}{
		{"N-5 decorator", middleware.Ingress, public, none, none, "initOp", none, "initOp"},
		{"N-5 over the upstream's", middleware.Ingress, public, none, "testOp", "initOp", none, "initOp"},
		{"N-6 private", middleware.Ingress, private, none, none, "initOp", none, none},
		{"N-6 passes the upstream's", middleware.Ingress, private, none, "testOp", "initOp", none, "testOp"},
		{"N-7 caller", middleware.Ingress, public, "testOp", none, "testOp", none, none},
		{"N-7 passes the upstream's", middleware.Ingress, public, "testOp", "calleeOp", "testOp", none, "calleeOp"},
		{"N-8 empty", middleware.Ingress, public, "", none, "initOp", none, "initOp"},
		{"N-9 none", middleware.Ingress, span.Decorator{}, none, "testOp", "ingress", none, "testOp"},
		{"N-9 empty passes", middleware.Ingress, span.Decorator{}, none, "", "ingress", none, ""},
		{"N-10 decorator", middleware.Egress, public, "old", none, "initOp", "initOp", none},
		{"N-11 private", middleware.Egress, private, "old", none, "initOp", "old", none},
		{"N-11 none", middleware.Egress, span.Decorator{}, "old", none, "egress shop.example:8080", "old", none},
		{"N-12 callee", middleware.Egress, public, none, "testOp", "testOp", "initOp", none},
		{"N-12 empty", middleware.Egress, public, none, "", "initOp", "initOp", none},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			tracing, rec := setup(t, gateway(tt.direction, middleware.Route{Decorator: tt.decorator}))
			upstream := []string{none}
			h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if lines, ok := r.Header[operationHeader]; ok {
					upstream = lines
				}
				if tt.callee != none {
					w.Header()[operationHeader] = []string{tt.callee}
				}
			}))
			r, w := httptest.NewRequest("GET", "http://shop.example:8080/x", nil), httptest.NewRecorder()
			if tt.caller != none {
				r.Header[operationHeader] = []string{tt.caller}
			}
			h.ServeHTTP(w, r)
			answer, ok := w.Header()[operationHeader]
			if !ok {
				answer = []string{none}
			}
			if !slices.Equal(upstream, []string{tt.upstream}) || !slices.Equal(answer, []string{tt.answer}) {
				t.Errorf("operation upstream = %q, want %q; in the answer = %q, want %q", upstream, tt.upstream, answer, tt.answer)
			}
			if s := one(t, rec); s.Name() != tt.name {
				t.Errorf("span = %q, want %q", s.Name(), tt.name)
			}
		})
	}
}

// A request that is not traced follows the same table. // O-3
func TestDecoratorUntraced(t *testing.T) {
	cfg := gateway(middleware.Ingress, middleware.Route{Decorator: span.Decorator{Operation: "initOp"}})
	tracing, rec := setup(t, cfg)
	r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	r.Header.Set("Traceparent", strangersTraceUnsampled)
	tracing.Handler(http.NotFoundHandler()).ServeHTTP(w, r)
	if got := w.Header().Get(operationHeader); got != "initOp" || len(rec.Ended()) != 0 {
		t.Errorf("operation = %q, %d spans; want initOp, none", got, len(rec.Ended()))
	}
}

const strangersTraceUnsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"

// ED-9, N-13: at the edge a stranger renames nothing.
func TestDecoratorStranger(t *testing.T) {
	cfg := gateway(middleware.Ingress, middleware.Route{})
	cfg.Edge = &middleware.Edge{Internal: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for peer, want := range map[string]string{"203.0.113.9:1": "ingress", "10.0.0.1:1": "callerOp"} {
		tracing, rec := setup(t, cfg)
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		r.Header.Set(operationHeader, "callerOp")
		tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
		if s := one(t, rec); s.Name() != want {
			t.Errorf("from %s: span = %q, want %q", peer, s.Name(), want)
		}
	}
}

// T-21.
func TestGatewayKind(t *testing.T) {
	for _, tt := range []struct {
		direction middleware.Direction
		spawn     bool
		want      trace.SpanKind
	}{
		{middleware.Ingress, false, trace.SpanKindServer},
		{middleware.Egress, false, trace.SpanKindClient},
		{middleware.Ingress, true, trace.SpanKindServer},
		{middleware.Egress, true, trace.SpanKindServer},
	} {
		cfg := gateway(tt.direction, middleware.Route{})
		cfg.SpawnUpstreamSpan = tt.spawn
		tracing, rec := setup(t, cfg)
		tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		if s := one(t, rec); s.SpanKind() != tt.want {
			t.Errorf("%v, spawn %v: kind = %v, want %v", tt.direction, tt.spawn, s.SpanKind(), tt.want)
		}
	}
}

// A service's decorator names its span, and no router renames it. // API: Route.Decorator
func TestDecoratorService(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{Route: func(*http.Request) middleware.Route {
		return middleware.Route{Pattern: "/carts/{id}", Decorator: span.Decorator{Operation: "carts.read"}}
	}})
	tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		span.SetRoute(r.Context(), "/other")
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/carts/7", nil))
	s := one(t, rec)
	if s.Name() != "carts.read" {
		t.Errorf("span = %q, want carts.read", s.Name())
	}
	wantAttrs(t, s, map[string]string{"http.route": "/other"})
}

// A service's caller names its span only where Config says so, and never from outside.
func TestDecoratorHeader(t *testing.T) {
	for _, tt := range []struct {
		on, stranger bool
		header, want string
	}{{true, false, "callerOp", "callerOp"}, {true, false, "", "carts.read"}, {false, false, "callerOp", "carts.read"}, {true, true, "callerOp", "carts.read"}} {
		cfg := middleware.Config{DecoratorHeader: tt.on, Route: func(*http.Request) middleware.Route {
			return middleware.Route{Decorator: span.Decorator{Operation: "carts.read"}}
		}}
		if tt.stranger {
			cfg.Edge = &middleware.Edge{}
		}
		tracing, rec := setup(t, cfg)
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set(operationHeader, tt.header)
		tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
		if s := one(t, rec); s.Name() != tt.want {
			t.Errorf("%+v: span = %q", tt, s.Name())
		}
	}
}

// Config.Status counts for a gateway as well: 4xx on both sides is the rule that older
// pages tell. // S-7
func TestGatewayAllErrors(t *testing.T) {
	cfg := gateway(middleware.Ingress, middleware.Route{})
	cfg.Status = span.AllErrors
	tracing, rec := setup(t, cfg)
	tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	s := one(t, rec)
	if s.Status().Code != codes.Error {
		t.Errorf("status of a 404 = %v, want Error", s.Status())
	}
	wantAttrs(t, s, map[string]string{"error": "-", "http.status_code": "404"}) // E-1 is not the status
}

// A stranger's header makes no attribute of any size.
func TestGatewayTagsBounded(t *testing.T) {
	tracing, rec := setup(t, gateway(middleware.Ingress, middleware.Route{}))
	r := httptest.NewRequest("GET", "/"+strings.Repeat("p", 1<<16), nil)
	r.Host = strings.Repeat("h", 1<<16)
	for _, name := range []string{"User-Agent", "X-Envoy-Downstream-Service-Cluster", "Content-Type", "Grpc-Timeout", operationHeader, "X-Client-Trace-Id"} {
		r.Header.Set(name, "application/grpc+"+strings.Repeat("v", 1<<16))
	}
	tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
	s := one(t, rec)
	if len(s.Name()) > 1<<10 {
		t.Errorf("a name of %d bytes", len(s.Name()))
	}
	for _, kv := range s.Attributes() {
		if n := len(kv.Value.String()); n > 8<<10 {
			t.Errorf("%s has %d bytes", kv.Key, n)
		}
	}
}
