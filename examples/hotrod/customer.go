package main

import (
	"context"
	"net/http"
	"strings"

	"github.com/meshtrace/meshtrace/middleware"
)

// customer is somebody who wants a ride.
type customer struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Location string `json:"location"` // "x,y"
}

// newCustomer returns the customer service: GET /customers/{id}.
func newCustomer(ctx context.Context, tel *telemetry) (http.Handler, error) {
	tracing, err := tel.Setup(ctx, middleware.Config{Service: "customer"})
	if err != nil {
		return nil, err
	}
	db, err := newMySQL(ctx, tel)
	if err != nil {
		return nil, err
	}

	log := tel.log.With("service", "customer")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /customers/{id}", func(w http.ResponseWriter, r *http.Request) {
		ctx, id := r.Context(), r.PathValue("id")
		if !isCustomerID(id) {
			fail(w, http.StatusBadRequest, "A customer id is 1 to 9 digits.")
			return
		}
		log.InfoContext(ctx, "looking up the customer", "customer", id)
		c, found, err := db.customer(ctx, id)
		switch {
		case err != nil:
			log.ErrorContext(ctx, "no answer from mysql", "customer", id, "error", err)
			fail(w, http.StatusServiceUnavailable, "The customers cannot be read at the moment.")
		case !found:
			fail(w, http.StatusNotFound, "There is no customer "+id+". Known are "+strings.Join(db.ids(), ", ")+".")
		default:
			reply(w, http.StatusOK, c)
		}
	})
	return tracing.Handler(mux), nil
}

// isCustomerID tells whether s is 1 to 9 digits.
func isCustomerID(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 9
}
