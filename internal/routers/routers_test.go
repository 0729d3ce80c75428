package routers

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/gorilla/mux"
	echo4 "github.com/labstack/echo/v4"
	"github.com/labstack/echo/v5"

	"github.com/meshtrace/meshtrace/internal/routers/hook"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracingtest"
)

// subject is a router with one route of each kind: found, failing and panicking.
type subject struct {
	name string
	make func(*testing.T) http.Handler
	want string // the name of /carts/7
}

func fail(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }

var subjects = []subject{
	{"http.ServeMux", func(*testing.T) http.Handler {
		m := http.NewServeMux()
		m.HandleFunc("GET /carts/{id}", func(http.ResponseWriter, *http.Request) {})
		m.HandleFunc("GET /fail/{id}", fail)
		m.HandleFunc("GET /panic/{id}", func(http.ResponseWriter, *http.Request) { panic("boom") })
		return m
	}, "GET /carts/{id}"},
	{"chi", func(*testing.T) http.Handler {
		r := chi.NewRouter()
		r.Use(hook.Chi)
		return chiRoutes(r)
	}, "GET /carts/{id}"},
	{"chi by r.Pattern", func(*testing.T) http.Handler {
		r := chi.NewRouter()
		r.Use(middleware.Pattern)
		return chiRoutes(r)
	}, "GET /carts/{id}"},
	{"gorilla", func(*testing.T) http.Handler {
		r := mux.NewRouter()
		r.Use(hook.Gorilla)
		r.HandleFunc("/carts/{id:[0-9]+}", func(http.ResponseWriter, *http.Request) {}).Methods("GET")
		r.HandleFunc("/fail/{id}", fail)
		r.HandleFunc("/panic/{id}", func(http.ResponseWriter, *http.Request) { panic("boom") })
		return r
	}, "GET /carts/{id:[0-9]+}"},
	{"gin", func(*testing.T) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		r := gin.New()
		r.Use(hook.Gin)
		r.GET("/carts/:id", func(*gin.Context) {})
		r.GET("/fail/:id", func(c *gin.Context) { c.Status(http.StatusServiceUnavailable) })
		r.GET("/panic/:id", func(*gin.Context) { panic("boom") })
		return r
	}, "GET /carts/:id"},
	{"echo v4", func(*testing.T) http.Handler {
		e := echo4.New()
		e.Logger.SetOutput(io.Discard)
		e.Use(hook.Echo4)
		e.GET("/carts/:id", func(c echo4.Context) error { return c.NoContent(200) })
		e.GET("/fail/:id", func(c echo4.Context) error { return c.NoContent(http.StatusServiceUnavailable) })
		e.GET("/panic/:id", func(c echo4.Context) error { panic("boom") })
		return e
	}, "GET /carts/:id"},
	{"echo v5", func(*testing.T) http.Handler {
		e := echo.New()
		e.Use(hook.Echo)
		e.GET("/carts/:id", func(c *echo.Context) error { return c.NoContent(200) })
		e.GET("/fail/:id", func(c *echo.Context) error { return c.NoContent(http.StatusServiceUnavailable) })
		e.GET("/panic/:id", func(c *echo.Context) error { panic("boom") })
		return e
	}, "GET /carts/:id"},
}

func chiRoutes(r chi.Router) http.Handler {
	r.Route("/carts", func(r chi.Router) {
		r.Get("/{id}", func(http.ResponseWriter, *http.Request) {})
	})
	r.Get("/fail/{id}", fail)
	r.Get("/panic/{id}", func(http.ResponseWriter, *http.Request) { panic("boom") })
	return r
}

// TestRouters: each router's template names the span and is its http.route, also where
// the handler fails or panics; a path without a route names nothing.
func TestRouters(t *testing.T) {
	for _, s := range subjects {
		t.Run(s.name, func(t *testing.T) {
			tracing, spans := tracingtest.New(t, middleware.Config{})
			h := tracing.Handler(s.make(t))
			get := func(path string) {
				defer func() { recover() }()
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
			}
			template := func(path string) string {
				return strings.NewReplacer("/carts/", path, "{id:[0-9]+}", "{id}").Replace(s.want)
			}
			for _, tt := range []struct{ path, want string }{
				{"/carts/7", "SERVER " + s.want},
				{"/fail/7", "SERVER " + template("/fail/") + " !503"},
				{"/panic/7", "SERVER " + template("/panic/") + " !panic"},
				{"/nowhere/7", "SERVER GET"},
			} {
				spans.Reset()
				get(tt.path)
				spans.Want(t, tt.want)
				var route string
				for _, kv := range spans.All()[0].Attributes {
					if kv.Key == "http.route" {
						route = kv.Value.AsString()
					}
				}
				name, _, _ := strings.Cut(strings.TrimPrefix(tt.want, "SERVER GET"), " !")
				if want := strings.TrimSpace(name); route != want {
					t.Errorf("%s: http.route = %q, want %q", tt.path, route, want)
				}
			}
		})
	}
}
