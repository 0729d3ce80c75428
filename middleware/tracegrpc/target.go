package tracegrpc

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"

	"github.com/meshtrace/meshtrace/internal/semconv"
)

// targetAttributes returns server.address and server.port of a dial target, as far as
// it has them.
//
//	dns:///host:port, dns:host, host:port       host, port
//	passthrough:///…, xds:///…                  the same
//	unix:path, unix:///path, unix-abstract:name the path, @name
//	other://…                                   the target as it stands, without user and query
//
// The address is never the one that the name resolves to. Semantic conventions 1.43,
// "gRPC", server.address.
func targetAttributes(target string) []attribute.KeyValue {
	host, port := parseTarget(target)
	return appendServer(nil, host, port)
}

// appendServer appends server.address and server.port, as far as they are known.
func appendServer(attrs []attribute.KeyValue, host string, port int) []attribute.KeyValue {
	if host = bounded(host); host == "" {
		return attrs
	}
	attrs = append(attrs, semconv.ServerAddress.String(host))
	if port != 0 {
		attrs = append(attrs, semconv.ServerPort.Int(port))
	}
	return attrs
}

// maxTarget bounds the targets that are looked at, in bytes; longer ones are cut.
const maxTarget = 4 << 10

// parseTarget splits a dial target into address and port, 0 where it has none.
// https://github.com/grpc/grpc/blob/master/doc/naming.md
func parseTarget(target string) (host string, port int) {
	if len(target) > maxTarget {
		target = target[:maxTarget]
	}
	scheme, rest, ok := strings.Cut(target, ":")
	if !ok {
		return splitHostPort(target)
	}
	switch scheme = strings.ToLower(scheme); scheme {
	case "unix":
		return strings.TrimPrefix(rest, "//"), 0
	case "unix-abstract":
		return "@" + strings.TrimPrefix(rest, "//"), 0
	case "dns", "passthrough", "xds":
		return endpoint(scheme, rest)
	}
	if strings.HasPrefix(rest, "//") {
		return withoutSecrets(scheme, rest[2:]), 0 // some resolver of the program's own
	}
	return splitHostPort(target) // gRPC takes what is no scheme for host:port as well
}

// endpoint reads what follows "dns:" and its like: "//authority/endpoint" or the
// endpoint alone. The authority is a name server or a control plane, not the server.
func endpoint(scheme, rest string) (host string, port int) {
	if authority, ok := strings.CutPrefix(rest, "//"); ok {
		_, rest, _ = strings.Cut(authority, "/")
	}
	rest, _, _ = strings.Cut(rest, "?")
	if decoded, err := url.PathUnescape(rest); err == nil {
		rest = decoded
	}
	if path, ok := strings.CutPrefix(rest, "unix:"); ok && scheme == "passthrough" {
		return strings.TrimPrefix(path, "//"), 0 // gRPC's dialer knows unix too
	}
	return splitHostPort(rest)
}

// withoutSecrets is a target of an unknown scheme without user, password and query.
func withoutSecrets(scheme, rest string) string {
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i]
	}
	authority, path, slash := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	if slash {
		path = "/" + path
	}
	return scheme + "://" + authority + path
}

// splitHostPort splits "host:port", "host", "[v6]:port", "v6". A host that is left out
// is this machine, as in net.Dial.
func splitHostPort(s string) (host string, port int) {
	if strings.IndexByte(s, ':') < 0 { // the error would cost
		return strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), 0
	}
	host, service, err := net.SplitHostPort(s)
	if err != nil {
		return strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), 0
	}
	if n, err := strconv.ParseUint(service, 10, 16); err == nil {
		port = int(n)
	}
	if host == "" && service != "" {
		host = "localhost"
	}
	return host, port
}
