package envoymodel_test

import (
	"fmt"
	"net/netip"

	"github.com/meshtrace/meshtrace/internal/parity/envoymodel"
)

// A stranger at the edge asks for a trace by x-client-trace-id, and tries to
// force one by a header that only internal callers may send.
func ExampleListener_Answer() {
	listener := envoymodel.Listener{
		UseRemoteAddress: true,
		InternalCIDRs:    []netip.Prefix{},
		Tracing:          &envoymodel.Tracing{Random: new(1.0)},
	}
	answer := listener.Answer(envoymodel.Request{
		Peer: netip.MustParseAddr("203.0.113.9"),
		Lines: []envoymodel.Line{
			{Name: "x-client-trace-id", Value: "c-1"},
			{Name: "x-envoy-force-trace", Value: "true"},
		},
		GeneratedID: "125a4afb-6f55-44ba-ad80-413f09f48a28",
	})
	fmt.Println(answer.Reason, answer.Traced, "edge:", answer.Edge)
	fmt.Println(answer.Upstream.Lines("x-request-id"))
	fmt.Println(answer.Upstream.Lines("x-envoy-force-trace"))
	// Output:
	// ClientForced true edge: true
	// [125a4afb-6f55-b4ba-ad80-413f09f48a28]
	// []
}
