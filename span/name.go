package span

import (
	"strings"

	"github.com/meshtrace/meshtrace/internal/semconv"
)

// maxName bounds span names in bytes.
const maxName = 256

// Decorator is the operation of a route, as Envoy's route decorator, Gloo's
// routeDescriptor and Istio's routes state it: a fixed name for the spans of its
// requests. The zero value is none (N-4).
type Decorator struct {
	// Operation names the span of the request; "" is no decorator. It is not to hold
	// what a request says, or every request has a name of its own.
	Operation string
	// Private keeps the operation from x-envoy-decorator-operation, by which a gateway
	// tells its peers: Envoy's propagate: false. It says nothing of trace context.
	Private bool
}

// HTTPName returns the name of an HTTP span: "{method} {route}", or "{method}"
// where route is "". route may be a pattern of http.ServeMux: a method and a host
// in front of the path are cut off. The methods of RFC 9110, PATCH and QUERY are
// known, "" is GET as in an http.Request, all others are "HTTP", so that no stranger
// adds names. A name is at most 256 bytes. Semantic conventions, "HTTP spans", Name.
func HTTPName(method, route string) string {
	name, known := semconv.Method(method)
	if !known {
		name = "HTTP"
	}
	if route = semconv.Route(route); route == "" {
		return name
	}
	return name + " " + semconv.Cut(route, maxName-len(name)-1)
}

// RPCName returns the name of a gRPC span: "package.Service/Method" of the full
// method "/package.Service/Method", with or without the first slash. What has
// another shape is "grpc": an empty part, more than two parts, a byte outside
// printable ASCII, more than 256 bytes. It does not allocate. Semantic conventions,
// "gRPC", Name.
func RPCName(fullMethod string) string {
	const unknown = "grpc"
	name := strings.TrimPrefix(fullMethod, "/")
	if len(name) > maxName {
		return unknown
	}
	slash := strings.IndexByte(name, '/')
	if slash <= 0 || slash == len(name)-1 || strings.IndexByte(name[slash+1:], '/') >= 0 {
		return unknown
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' {
			return unknown
		}
	}
	return name
}
