package middleware

import (
	"fmt"
	"net/textproto"
	"strings"

	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/requestid"
)

// names are the headers of Envoy's own, under one prefix (ED-14). They are not changed.
type names struct {
	internal, externalAddress, forceTrace, operation headers.Name
	downstreamCluster, downstreamNode, originalPath  headers.Name

	// In canonical form:

	edge     []string // a stranger's request loses these on the edge alone // ED-9
	router   []string // Envoy's router takes these from every request, internal ones included // ED-10
	external []string // a stranger's request loses these beside the router's, on the edge or not // ED-10
	slots    []string // Envoy keeps one value of these // O-4

	marks []headers.Name // what an Envoy in front writes on each request
}

// envoyNames are those under the prefix that an Envoy has unless it is told another.
var envoyNames = newNames("X-Envoy")

func newNames(prefix string) *names {
	name := func(rest string) headers.Name {
		n := prefix + "-" + rest
		return headers.Name{Canonical: textproto.CanonicalMIMEHeaderKey(n), Lower: strings.ToLower(n)}
	}
	canonical := func(rest ...string) []string {
		for i := range rest {
			rest[i] = name(rest[i]).Canonical
		}
		return rest
	}
	n := &names{
		internal:          name("internal"),
		externalAddress:   name("external-address"),
		forceTrace:        name("force-trace"),
		operation:         name("decorator-operation"),
		downstreamCluster: name("downstream-service-cluster"),
		downstreamNode:    name("downstream-service-node"),
		originalPath:      name("original-path"),

		edge: canonical("decorator-operation", "downstream-service-cluster", "downstream-service-node", "original-path", "original-host"),
		router: canonical("retriable-status-codes", "retriable-header-names", "retry-on", "retry-grpc-on", "max-retries",
			"upstream-alt-stat-name", "upstream-rq-timeout-ms", "upstream-rq-per-try-timeout-ms", "upstream-rq-timeout-alt-response",
			"hedge-on-per-try-timeout"),
		external: canonical("expected-rq-timeout-ms", "force-trace", "ip-tags", "original-url"),
		marks:    []headers.Name{name("internal"), name("external-address"), name("expected-rq-timeout-ms"), name("attempt-count")},
	}
	n.slots = append([]string{requestid.HeaderClientTraceID, forwardedFor.Canonical, forwardedProto, "User-Agent", "Grpc-Timeout"},
		canonical("internal", "external-address", "attempt-count")...)
	n.slots = append(append(n.slots, n.edge...), n.external...)
	return n
}

const maxHeaderPrefix = 64

// namesOf returns the names under prefix; "" is Envoy's own.
func namesOf(prefix string) *names {
	if prefix == "" || strings.EqualFold(prefix, "x-envoy") {
		return envoyNames
	}
	return newNames(prefix)
}

// checkHeaderPrefix returns an error unless prefix can be that of a header's name.
func checkHeaderPrefix(prefix string) error {
	if prefix == "" || isHeaderName(prefix) && len(prefix) <= maxHeaderPrefix && !strings.HasSuffix(prefix, "-") {
		return nil
	}
	return fmt.Errorf("middleware: Config.Proxy.HeaderPrefix=%.80q: allowed is the beginning of a header's name such as x-mesh, without the last hyphen, at most %d bytes", prefix, maxHeaderPrefix)
}
