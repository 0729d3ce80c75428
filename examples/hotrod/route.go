package main

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/span"
)

// routeTime is how long it takes to compute a route.
const routeTime = 50 * time.Millisecond

// route is the way from one place to another.
type route struct {
	Minutes int `json:"minutes"`
}

// newRoute returns the route service: GET /route?pickup=x,y&dropoff=x,y.
func newRoute(ctx context.Context, tel *telemetry) (http.Handler, error) {
	tracing, err := tel.Setup(ctx, middleware.Config{Service: "route"})
	if err != nil {
		return nil, err
	}

	log := tel.log.With("service", "route")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /route", func(w http.ResponseWriter, r *http.Request) {
		ctx, query := r.Context(), r.URL.Query()
		from, ok1 := parsePlace(query.Get("pickup"))
		to, ok2 := parsePlace(query.Get("dropoff"))
		if !ok1 || !ok2 {
			fail(w, http.StatusBadRequest, "Pickup and dropoff are x,y with numbers from 0 to 999.")
			return
		}
		if err := work(ctx, routeTime); err != nil {
			fail(w, http.StatusServiceUnavailable, "The route took too long.")
			return
		}
		found := route{Minutes: from.minutes(to)}
		span.SetAttributes(ctx, attribute.Int("route.minutes", found.Minutes))
		log.InfoContext(ctx, "computed a route", "pickup", from.String(), "dropoff", to.String(), "minutes", found.Minutes)
		reply(w, http.StatusOK, found)
	})
	return tracing.Handler(mux), nil
}

// place is a point of the map, which is 1000 by 1000.
type place struct{ x, y int }

// parsePlace reads "x,y".
func parsePlace(s string) (p place, ok bool) {
	xs, ys, _ := strings.Cut(s, ",")
	x, errX := strconv.ParseUint(xs, 10, 16)
	y, errY := strconv.ParseUint(ys, 10, 16)
	return place{x: int(x), y: int(y)}, errX == nil && errY == nil && x < 1000 && y < 1000
}

func (p place) String() string { return strconv.Itoa(p.x) + "," + strconv.Itoa(p.y) }

// minutes is how long the way along the streets takes.
func (p place) minutes(to place) int {
	return 2 + (abs(p.x-to.x)+abs(p.y-to.y))/60
}

func abs(n int) int { return max(n, -n) }
