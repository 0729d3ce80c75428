package envoymodel

import (
	"net/netip"
	"reflect"
	"testing"
)

// Rules that neither the recorded answers nor the vectors show: a change of the
// model here would otherwise go unseen.
func TestRulesBeyondTheData(t *testing.T) {
	const plain = "00000000-6f55-44ba-ad80-413f09f48a28"
	id := func(value string) []Line { return []Line{{"x-request-id", value}} }
	from := func(forwardedFor string) []Line { return []Line{{"x-forwarded-for", forwardedFor}} }
	behindProxy := Listener{InternalCIDRs: []netip.Prefix{}}
	healthChecks := insideListener()
	healthChecks.HealthCheckPath = "/healthz"
	untraced := healthChecks
	untraced.Tracing = nil
	millionth := insideListener()
	millionth.Route.Tracing = &RouteTracing{Random: &Fraction{1, 1_000_000}}
	percent := insideListener()
	percent.Tracing = &Tracing{Random: new(1.0)}
	remote := insideListener()
	oneHop := behindProxy
	oneHop.XFFNumTrustedHops = 1

	for _, tt := range []struct {
		rule     string
		listener Listener
		request  Request
		ask      func(Answer) any
		want     any
	}{
		{"O-5 delete is a control character", remote, Request{Lines: []Line{{"x-other", "a\x7fb"}}}, func(a Answer) any { return a.Refused }, true},
		{"O-5 a tab inside a value is none", remote, Request{Lines: []Line{{"x-other", "a\tb"}}}, func(a Answer) any { return a.Refused }, false},
		{"O-5 an untraced refusal counts nothing", Listener{}, Request{Refused: true}, func(a Answer) any { return len(a.Counters) }, 0},
		{"ED-1 an empty x-forwarded-for is one", remote, Request{Lines: from("")}, func(a Answer) any { return a.Internal }, false},
		{"ED-1 without one the same peer is internal", remote, Request{}, func(a Answer) any { return a.Internal }, true},
		{"ED-2 the only address is not internal with a trusted hop", oneHop, Request{Lines: from("10.0.0.1")}, func(a Answer) any { return a.Internal }, false},
		{"ED-2 one of two is not internal with a trusted hop", oneHop, Request{Lines: from("10.0.0.1,10.0.0.2")}, func(a Answer) any { return a.Internal }, false},
		{"ED-2 an address with a zone is not bare", behindProxy, Request{Lines: from("fd00::1%eth0")}, func(a Answer) any { return a.ClientAddress }, inside},
		{"ED-5 fd is private", behindProxy, Request{Lines: from("fd12::1")}, func(a Answer) any { return a.Internal }, true},
		{"ED-5 fc is not", behindProxy, Request{Lines: from("fc12::1")}, func(a Answer) any { return a.Internal }, false},
		{"RID-10 a digit in 37 characters is not read", percent, Request{Lines: id("0000270f-6f55-b4ba-ad80-413f09f48a288")}, func(a Answer) any { return a.Reason }, NotTraceable},
		{"RID-16 0x is read as hex", percent, Request{Lines: id("0x000063-6f55-44ba-ad80-413f09f48a28")}, func(a Answer) any { return a.Reason }, Sampling},
		{"RID-16 0X is read as hex", percent, Request{Lines: id("0X000063-6f55-44ba-ad80-413f09f48a28")}, func(a Answer) any { return a.Reason }, Sampling},
		{"RID-16 and its number counts", percent, Request{Lines: id("0x000064-6f55-44ba-ad80-413f09f48a28")}, func(a Answer) any { return a.Reason }, NotTraceable},
		{"RID-16 0x without digits is no number", remote, Request{Lines: id("0xyyyyyy-6f55-44ba-ad80-413f09f48a28")}, func(a Answer) any { return a.Reason }, NotTraceable},
		{"D-1 without tracing nothing is traceable", untraced, Request{Path: "/healthz", Lines: id(plain)}, func(a Answer) any { return a.Reason }, NotTraceable},
		{"D-4 10000 is 0 also to a share of a million", millionth, Request{Lines: id("00002710-6f55-44ba-ad80-413f09f48a28")}, func(a Answer) any { return a.Reason }, Sampling},
		{"D-25 a health check is not traced", healthChecks, Request{Path: "/healthz", Lines: id(plain)}, func(a Answer) any { return a.Traced }, false},
		{"D-25 its reason is HealthCheck", healthChecks, Request{Path: "/healthz", Lines: id(plain)}, func(a Answer) any { return a.Reason }, HealthCheck},
		{"D-26 its digit stays", healthChecks, Request{Path: "/healthz", Lines: id(plain)}, func(a Answer) any { return a.Upstream.Lines("x-request-id")[0][14] }, byte('9')},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			tt.request.Peer = inside
			if got := tt.ask(tt.listener.Answer(tt.request)); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
