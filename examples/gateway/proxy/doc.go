// Package proxy is a small HTTP gateway as its operator describes it in one file:
// clusters, routes with retries and timeouts, and tracing as an Envoy's. It is
// net/http/httputil's ReverseProxy with meshtrace around it.
//
// Where to look for what meshtrace needs:
//
//	tracing.go   the file's words as a middleware.Config and a middleware.Route
//	gateway.go   tracing.Handler around all, and flags of what is refused here
//	router.go    tracing.Transport below the retries, and where each attempt goes
//
// A Config comes out of Parse, which tells every mistake at once, or is built by a
// program; New checks it either way.
package proxy
