package tracingtest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracingtest"
)

// In a test file this is func TestCart(t *testing.T).
func ExampleNew() {
	_ = func(t *testing.T) {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /carts/{id}", func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "no such cart", http.StatusNotFound)
		})

		tracing, spans := tracingtest.New(t, middleware.Config{})
		srv := httptest.NewServer(tracing.Handler(mux))
		defer srv.Close()

		client := &http.Client{Transport: tracing.Transport(srv.Client().Transport)}
		resp, err := client.Get(srv.URL + "/carts/7")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()

		spans.Want(t, `
			CLIENT GET !404
			  SERVER GET /carts/{id}
		`)
	}
}
