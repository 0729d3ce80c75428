package middleware

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/meshtrace/meshtrace/internal/reqctx"
	"github.com/meshtrace/meshtrace/span"
)

// Upstream is where a proxy sends a call. What is unknown is left out.
type Upstream struct {
	// Cluster is the name of the group of hosts; "" is unknown.
	Cluster string
	// ClusterName is the name by which the cluster is observed, Envoy's
	// alt_stat_name; "" is Cluster.
	ClusterName string
	// Address is the host as ip:port; "" when none is chosen. Transport finds out what
	// it connected to.
	Address string
	// Attempt counts from 1; above it the call is a retry. 0 lets Transport count the
	// calls of a request.
	Attempt int
	// Own is a call of the gateway's own on the way, as to an authorization service: it
	// is no attempt at the request, and its span is "async <cluster> egress", or "async
	// <service>.<method> egress" of a gRPC call (N-3).
	Own bool
	// ClusterMetadata and HostMetadata are for span.MetadataTag.
	ClusterMetadata, HostMetadata span.Metadata
}

// over returns u with what is unknown in it from def.
func (u Upstream) over(def Upstream) Upstream {
	if u.Cluster == "" {
		u.Cluster, u.ClusterName, u.ClusterMetadata = def.Cluster, def.ClusterName, def.ClusterMetadata
	}
	if u.Address == "" {
		u.Address = def.Address
	}
	if u.Attempt == 0 {
		u.Attempt = def.Attempt
	}
	u.Own = u.Own || def.Own
	if u.ClusterMetadata == nil {
		u.ClusterMetadata = def.ClusterMetadata
	}
	if u.HostMetadata == nil {
		u.HostMetadata = def.HostMetadata
	}
	return u
}

// observed returns the name by which the cluster is observed.
func (u *Upstream) observed() string {
	if u.ClusterName != "" {
		return u.ClusterName
	}
	return u.Cluster
}

type upstreamKey struct{}

// WithUpstream returns a context that tells Transport where the next call goes, in a
// program of role Gateway: a router sets it for each attempt. What u leaves out is taken
// from the route.
//
//	req = req.WithContext(middleware.WithUpstream(req.Context(), middleware.Upstream{Address: host}))
func WithUpstream(ctx context.Context, u Upstream) context.Context {
	return context.WithValue(ctx, upstreamKey{}, &u)
}

// upstreamOf returns what WithUpstream put into ctx.
func upstreamOf(ctx context.Context) Upstream {
	if u, ok := ctx.Value(upstreamKey{}).(*Upstream); ok {
		return *u
	}
	return Upstream{}
}

// SetUpstream tells where the request around ctx goes, for a gateway that finds out
// after the span has started; Route.Upstream is for the others. The last call before
// the end counts. It may be called concurrently, and does nothing outside of a
// gateway's request.
func SetUpstream(ctx context.Context, u Upstream) {
	if p := proxiedFrom(ctx); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.upstream = u.over(p.upstream)
	}
}

// Limits of what a program tells of a request.
const (
	maxFlags    = 32
	maxFlagLen  = 16
	maxMetadata = 64 // keys
)

// AddResponseFlags sets response flags of the request around ctx, in a program of role
// Gateway: what its own filters and router know, such as FlagNoRoute, or
// FlagUpstreamRetryLimit once no further try is allowed. Flags of a failed call upstream
// and of a caller who left are added by Transport and Handler, behind these (T-7). What is set
// already stays in its place; at most 32 flags are kept, and a code has 1 to 16 of A to
// Z. It may be called concurrently, and does nothing outside of a gateway's request.
func AddResponseFlags(ctx context.Context, flags ...string) {
	if p := proxiedFrom(ctx); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.flags = addFlags(p.flags, flags...)
	}
}

// addFlags appends what is missing in list.
func addFlags(list []string, flags ...string) []string {
	for _, f := range flags {
		if isFlag(f) && len(list) < maxFlags && !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	return list
}

func isFlag(f string) bool {
	for i := range len(f) {
		if f[i] < 'A' || f[i] > 'Z' {
			return false
		}
	}
	return f != "" && len(f) <= maxFlagLen
}

// flagText is the value of response_flags.
func flagText(flags []string) string {
	if len(flags) == 0 {
		return "-"
	}
	return strings.Join(flags, ",")
}

// SetMetadata tells under key what a filter found out about the request around ctx, for
// span.MetadataTag of kind span.RequestMetadata: any of the forms of span.Metadata,
// which nobody changes afterwards. At most 64 keys are kept. It may be called
// concurrently, and does nothing outside of a gateway's request.
func SetMetadata(ctx context.Context, key string, value any) {
	p := proxiedFrom(ctx)
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.metadata[key]; !ok && len(p.metadata) >= maxMetadata {
		return
	}
	if p.metadata == nil {
		p.metadata = make(span.Metadata)
	}
	p.metadata[key] = value
}

// proxiedFrom returns what a gateway knows of the request around ctx; nil outside one.
func proxiedFrom(ctx context.Context) *proxied {
	if s := reqctx.From(ctx); s != nil {
		p, _ := s.Gateway.(*proxied)
		return p
	}
	return nil
}

// progress is what became of a request on its way upstream, written by the goroutines of
// its attempts and read when its span ends.
type progress struct {
	mu       sync.Mutex
	upstream Upstream // the route's, or of SetUpstream
	flags    []string // in the order in which the program set them
	metadata span.Metadata
	attempts int
	last     *attempt // the last one that was begun; nil: none
	upgrade  *upgrade // the last answer that switches protocols; nil: none
}
