package span

import (
	"net"
	"strconv"
)

// IstioOperation returns the operation that Istio's control plane gives a route, for
// [Decorator]: "reviews.default.svc.cluster.local:9080/*". host and port are the only
// destination's; of several, the name of the virtual service and the port it listens
// on. path is what the route matches: a prefix with a * behind it, a whole path, or a
// regular expression; "" is all paths, "/*" (IS-1).
func IstioOperation(host string, port int, path string) string {
	if path == "" {
		path = "/*"
	}
	return net.JoinHostPort(host, strconv.Itoa(port)) + path
}
