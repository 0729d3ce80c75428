// Package routers shows the four lines by which a router that is not net/http's tells
// meshtrace its routes, and runs them: chi, gorilla/mux, gin and echo, each beside a
// plain http.ServeMux.
package routers
