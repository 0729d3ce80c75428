package envoymodel

import "net/netip"

// Listener is the configuration of an HTTP connection manager and of the one
// route that its requests take. The zero value is Envoy's default: no tracing,
// the peer not trusted to be the client, nothing internal. A Listener is never
// written to, so it may be used by several goroutines.
type Listener struct {
	// Addresses: ED-1 to ED-8.
	UseRemoteAddress    bool
	XFFNumTrustedHops   int            // 0 or more
	InternalCIDRs       []netip.Prefix // nil: not configured, nothing is internal; empty: the private ranges (ED-5)
	SkipXFFAppend       bool           // of UseRemoteAddress
	XFFExtensionAppends bool           // skip_xff_append false in the XFF extension, for when UseRemoteAddress is off
	LocalAddress        netip.Addr     // the proxy's own, for ED-8

	// The request id: RID-1 to RID-19. What Envoy switches on by default is named
	// by its opposite here.
	GenerateOff          bool // generate_request_id: false
	PreserveExternal     bool // preserve_external_request_id
	AlwaysSetInResponse  bool // always_set_request_id_in_response
	PackOff              bool // pack_trace_reason: false
	SampleByRequestIDOff bool // use_request_id_for_trace_sampling: false

	// Headers: ED-9 to ED-14.
	InternalOnlyHeaders []string // of the route configuration, in any case
	AddUserAgent        bool
	NodeID, NodeCluster string // the proxy's names, written by AddUserAgent
	HeaderPrefix        string // "": x-envoy

	// The decision: D-1 to D-28.
	Tracing         *Tracing // nil: no tracing block (O-1)
	Route           Route
	RefreshedRoute  *Route // a filter clears the route cache and this one is found (D-24); nil: none does
	Runtime         Runtime
	HealthCheckPath string // :path, query included, of which the health-check filter takes a request for a health check; "": no filter
	Egress          bool   // traffic direction OUTBOUND (N-1)
}

// Tracing is the tracing block of the connection manager. Percentages are 0 to
// 100, nil is 100 (D-21).
type Tracing struct {
	Client, Random, Overall *float64
	Operation               bool // there is an operation formatter (N-15)
}

// Route is what a request finds. The zero value has neither block, as has a
// request that finds no route.
type Route struct {
	Tracing   *RouteTracing
	Decorator *Decorator
}

// RouteTracing is the tracing block of a route; nil fractions are 100 % (D-5, D-21).
type RouteTracing struct {
	Client, Random, Overall *Fraction
	Operation               bool // there is an operation formatter (N-15)
}

// Decorator is the decorator of a route (N-4).
type Decorator struct {
	Operation    string
	PropagateOff bool
}

// Runtime holds the runtime keys tracing.client_enabled,
// tracing.random_sampling and tracing.global_enabled; nil is unset (D-22).
// A key with an integer n is Fraction{n, 100}.
type Runtime struct {
	Client, Random, Overall *Fraction
}

// Request is one request as it arrives, with what chance and the upstream add.
type Request struct {
	Peer   netip.Addr // the address that the connection comes from
	Method string     // "" is GET
	Path   string     // :path with query
	Lines  []Line     // header lines in order, duplicates and empty values included
	// Refused says that the codec refuses the request for a reason other than
	// the value of a header: no host (400), HTTP/1.0 not accepted (426).
	Refused bool

	GeneratedID string // what the request id extension makes if it must (RID-1)
	ClientDraw  uint64 // the random number of the client check (D-13)

	NoResponseHeaders    bool // the caller goes away before there are any (D-27)
	RedirectedInternally bool // the upstream's answer is an internal redirect that is followed (D-23)
}

// Line is one header line.
type Line struct{ Name, Value string }

// Answer is what Envoy makes of a Request.
type Answer struct {
	Refused       bool       // refused before routing (O-5): of the rest only Reason and Counters say something
	ClientAddress netip.Addr // ED-1, ED-2
	Internal      bool       // ED-3
	Edge          bool       // ED-4
	// Upstream is the request's header on its way to the upstream, without what
	// the package comment leaves out. A retry and a followed internal redirect
	// send the same.
	Upstream Header
	// Reason is the decision that stands at the end. Traced is what it says to
	// the tracer (D-25); what the tracer makes of that is D-28.
	Reason   Reason
	Traced   bool
	Counters []Reason // which counters move, in order (D-27)
	// ResponseRequestID is the value that replaces every x-request-id of the
	// response; nil leaves the upstream's as they are (RID-18, RID-19).
	ResponseRequestID *string
}

// Reason is why a request is traced or not, by the name that Envoy's sources use.
type Reason string

// The reasons, in the order of RID-9, and that of the health-check filter.
const (
	NotTraceable  Reason = "NotTraceable"
	Sampling      Reason = "Sampling"
	ServiceForced Reason = "ServiceForced"
	ClientForced  Reason = "ClientForced"
	HealthCheck   Reason = "HealthCheck"
)

// Answer takes r through the steps of a connection manager in their order.
func (l Listener) Answer(r Request) Answer {
	if refused(r) {
		// O-5: before routing, so no header was looked at.
		a := Answer{Refused: true, Reason: NotTraceable}
		if l.Tracing != nil {
			a.Counters = []Reason{NotTraceable}
		}
		return a
	}

	// Step 1: the header is read, and loses what is not for the next hop.
	h := readHeader(r.Lines, l.fixedSlots())
	removeHopByHop(h)
	h.remove(l.envoyHeader("internal")) // ED-6

	// Step 2: the client address.
	client, mayBeInternal := l.clientAddress(h, r.Peer)
	l.appendForwardedFor(h, r.Peer)

	// Step 3: internal and edge.
	internal := mayBeInternal && l.isInternal(client) // ED-3
	edge := !internal && l.UseRemoteAddress           // ED-4

	// Step 4: x-envoy-internal, or sanitising.
	if internal {
		h.set(l.envoyHeader("internal"), "true") // ED-6
	} else {
		l.sanitise(h, edge)
	}

	// Step 5: what the proxy says of itself and of the client.
	l.addUserAgent(h)
	if edge {
		h.set(l.envoyHeader("external-address"), client.String()) // ED-7
	}

	// Step 6: the request id.
	l.setRequestID(h, edge, r.GeneratedID)

	// Steps 7, 8 and 10, again after each change of the route (D-24).
	reason := NotTraceable // D-1
	routes := []Route{l.Route}
	if l.RefreshedRoute != nil {
		routes = append(routes, *l.RefreshedRoute)
	}
	for _, route := range routes {
		if l.Tracing == nil { // O-1
			break
		}
		reason = l.decide(h, route, r.ClientDraw)
		l.decorate(h, route)
	}

	// Step 11: the health-check filter and the router. The digit is written by
	// now, so it stays (D-26).
	healthCheck := l.HealthCheckPath != "" && r.Path == l.HealthCheckPath
	if internal {
		l.routerEats(h)
	}

	a := Answer{
		ClientAddress:     client,
		Internal:          internal,
		Edge:              edge,
		Upstream:          h,
		Reason:            reason,
		ResponseRequestID: l.responseRequestID(h), // step 13
	}
	if healthCheck && l.Tracing != nil {
		a.Reason = HealthCheck
	}
	a.Traced = shouldTrace(a.Reason)
	if l.Tracing != nil {
		a.Counters = counters(r, reason, healthCheck)
	}
	return a
}

// refused reports whether O-5 ends r before it is routed.
func refused(r Request) bool {
	if r.Refused || r.Method == "OPTIONS" && r.Path == "*" {
		return true
	}
	for _, line := range r.Lines {
		if hasControlCharacter(line.Value) {
			return true
		}
	}
	return false
}

// counters lists the counters that move once the decision is made (D-27).
func counters(r Request, reason Reason, healthCheck bool) []Reason {
	if r.NoResponseHeaders {
		return nil
	}
	var moved []Reason
	if healthCheck {
		moved = append(moved, NotTraceable, HealthCheck) // at response headers, and when the stream ends
	} else {
		moved = append(moved, reason)
	}
	if r.RedirectedInternally {
		moved = append(moved, NotTraceable) // D-23: the second stream, whatever the first was
	}
	return moved
}
