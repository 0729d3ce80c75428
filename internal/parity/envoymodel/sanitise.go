package envoymodel

import (
	"slices"
	"strings"
)

// removedAtEdge are the x-envoy-* headers that only requests at the edge lose (ED-9).
var removedAtEdge = []string{
	"decorator-operation",
	"downstream-service-cluster",
	"downstream-service-node",
	"original-path",
	"original-host",
}

// removedFromOutside are the x-envoy-* headers that every request which is not
// internal loses (ED-10).
var removedFromOutside = slices.Concat(eatenByRouter, []string{
	"expected-rq-timeout-ms",
	"force-trace",
	"ip-tags",
	"original-url",
})

// eatenByRouter are those of ED-10 that internal requests keep as far as the
// router, which obeys and removes them.
var eatenByRouter = []string{
	"retriable-status-codes",
	"retriable-header-names",
	"retry-on",
	"retry-grpc-on",
	"max-retries",
	"upstream-alt-stat-name",
	"upstream-rq-timeout-ms",
	"upstream-rq-per-try-timeout-ms",
	"upstream-rq-timeout-alt-response",
	"hedge-on-per-try-timeout",
}

// sanitise removes what a request that is not internal may not say. Other
// headers pass, those of trace contexts included (ED-11).
func (l Listener) sanitise(h Header, edge bool) {
	if edge {
		for _, suffix := range removedAtEdge { // ED-9
			h.remove(l.envoyHeader(suffix))
		}
	}
	for _, suffix := range removedFromOutside { // ED-10
		h.remove(l.envoyHeader(suffix))
	}
	for _, name := range l.InternalOnlyHeaders { // ED-10
		h.remove(strings.ToLower(name))
	}
}

// addUserAgent writes the names of the proxy (ED-13).
func (l Listener) addUserAgent(h Header) {
	if !l.AddUserAgent {
		return
	}
	h.set(l.envoyHeader("downstream-service-cluster"), l.NodeCluster)
	if h.get("user-agent") == "" {
		h.set("user-agent", l.NodeCluster)
	}
	if l.NodeID != "" {
		h.set(l.envoyHeader("downstream-service-node"), l.NodeID)
	}
}

// routerEats removes from an internal request what the router has obeyed (ED-10).
func (l Listener) routerEats(h Header) {
	for _, suffix := range eatenByRouter {
		h.remove(l.envoyHeader(suffix))
	}
}
