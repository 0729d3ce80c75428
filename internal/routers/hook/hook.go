// Package hook has what a router needs to tell meshtrace its routes: a few lines to
// copy for each.
package hook

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/gorilla/mux"
	echo4 "github.com/labstack/echo/v4"
	"github.com/labstack/echo/v5"

	"github.com/meshtrace/meshtrace/span"
)

// Chi is for Router.Use. A chi that leaves the whole pattern in http.Request.Pattern can
// have middleware.Pattern instead.
func Chi(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { span.SetRoute(r.Context(), chi.RouteContext(r.Context()).RoutePattern()) }()
		next.ServeHTTP(w, r)
	})
}

// Gorilla is for Router.Use.
func Gorilla(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if route, err := mux.CurrentRoute(r).GetPathTemplate(); err == nil {
			span.SetRoute(r.Context(), route)
		}
		next.ServeHTTP(w, r)
	})
}

// Gin is for Engine.Use.
func Gin(c *gin.Context) { span.SetRoute(c.Request.Context(), c.FullPath()) }

// Echo4 is for Echo.Use, of echo v4.
func Echo4(next echo4.HandlerFunc) echo4.HandlerFunc {
	return func(c echo4.Context) error {
		span.SetRoute(c.Request().Context(), c.Path())
		return next(c)
	}
}

// Echo is for Echo.Use, of echo v5.
func Echo(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		span.SetRoute(c.Request().Context(), c.Path())
		return next(c)
	}
}
