package middleware

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
)

const (
	strangersTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	strangersID    = "125a4afb-6f55-44ba-ad80-413f09f48a28"
)

var (
	ten = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	lb  = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} // of a load balancer
)

func TestEdgeOrigin(t *testing.T) {
	tests := []struct {
		rule     string
		edge     Edge
		peer     string
		xff      []string
		client   string
		internal bool
		atEdge   bool
	}{
		{"ED-1 plain external", Edge{Internal: ten}, "12.12.12.12", nil, "12.12.12.12", false, true},
		{"ED-1 internal", Edge{Internal: ten}, "10.0.0.1", nil, "10.0.0.1", true, false},
		{"ED-1 private peer with xff", Edge{Internal: ten}, "10.0.0.1", []string{"10.0.0.2"}, "10.0.0.1", false, true},
		{"ED-1 empty xff counts", Edge{Internal: ten}, "10.0.0.1", []string{""}, "10.0.0.1", false, true},
		{"ED-3 allowed, but not among the internal ones", Edge{Internal: ten}, "192.168.0.1", nil, "192.168.0.1", false, true},
		{"ED-1 two hops", Edge{Hops: 2}, "192.0.2.5", []string{"198.51.100.1,203.0.113.10,203.0.113.1"}, "203.0.113.10", false, true},
		{"ED-1 too few hops", Edge{Hops: 2}, "192.0.2.5", []string{"203.0.113.1"}, "192.0.2.5", false, true},
		{"ED-1 no bare address", Edge{Hops: 1}, "192.0.2.5", []string{"198.51.100.7:8080"}, "192.0.2.5", false, true},
		{"ED-2 one internal address", Edge{Inner: true, Internal: ten}, "10.0.0.3", []string{"10.0.0.1"}, "10.0.0.1", true, false},
		{"ED-2 spaces are cut", Edge{Inner: true, Internal: ten}, "10.0.0.3", []string{" 10.0.0.1\t"}, "10.0.0.1", true, false},
		{"ED-2 two addresses", Edge{Inner: true, Internal: ten}, "10.0.0.3", []string{"10.0.0.2,10.0.0.1"}, "10.0.0.1", false, false},
		{"ED-2 none", Edge{Inner: true, Internal: ten}, "10.0.0.3", nil, "10.0.0.3", false, false},
		{"ED-2 empty last", Edge{Inner: true, Internal: ten}, "10.0.0.3", []string{"10.0.0.1,"}, "10.0.0.3", false, false},
		{"ED-2 zone", Edge{Inner: true, Internal: []netip.Prefix{netip.MustParsePrefix("fd00::/8")}}, "192.0.2.5", []string{"fd00::1%any text"}, "192.0.2.5", false, false},
		{"ED-1 zone", Edge{Hops: 1}, "192.0.2.5", []string{"fe80::1%<script>"}, "192.0.2.5", false, true},
		{"ED-2 IPv4 in IPv6's form is another address", Edge{Inner: true, Internal: ten}, "192.0.2.5", []string{"::ffff:10.0.0.1"}, "::ffff:10.0.0.1", false, false},
		{"ED-8 zone", Edge{Proxies: lb}, "198.51.100.1", []string{"2001:db8::1%x"}, "198.51.100.1", false, true},
		{"ED-2 hops", Edge{Inner: true, Internal: ten, Hops: 1}, "10.0.0.3", []string{"10.0.0.1,10.0.0.2"}, "10.0.0.1", false, false},
		{"ED-4 inner is no edge", Edge{Inner: true}, "203.0.113.9", []string{"34.0.0.1"}, "34.0.0.1", false, false},
		{"ED-5 nobody by default", Edge{}, "10.0.0.1", nil, "10.0.0.1", false, true},
		{"O-4 lines joined", Edge{Inner: true, Internal: ten}, "10.0.0.3", []string{"", "10.0.0.1"}, "10.0.0.1", true, false},
		{"ED-8 the last that is no proxy's", Edge{Proxies: lb}, "198.51.100.1", []string{"10.0.0.7, 203.0.113.9,198.51.100.2"}, "203.0.113.9", false, true},
		{"ED-8 a peer that is no proxy", Edge{Proxies: lb}, "192.0.2.5", []string{"203.0.113.9"}, "192.0.2.5", false, true},
		{"ED-8 no such peer is internal", Edge{Proxies: lb, Internal: ten}, "10.0.0.1", []string{"10.0.0.2"}, "10.0.0.1", false, true},
		{"ED-8 without xff one is", Edge{Proxies: lb, Internal: ten}, "10.0.0.1", nil, "10.0.0.1", true, false},
		{"ED-8 a proxy without xff", Edge{Proxies: lb}, "198.51.100.1", nil, "198.51.100.1", false, true},
		{"ED-8 all are proxies", Edge{Proxies: lb}, "198.51.100.1", []string{"198.51.100.3,198.51.100.2"}, "198.51.100.3", false, true},
		{"ED-8 no bare address", Edge{Proxies: lb}, "198.51.100.1", []string{"203.0.113.9, a.b.c.d, 198.51.100.2"}, "198.51.100.1", false, true},
		{"ED-8 behind the last it does not matter", Edge{Proxies: lb}, "198.51.100.1", []string{"a.b.c.d, 203.0.113.9"}, "203.0.113.9", false, true},
		{"ED-8 more proxies than anybody has", Edge{Proxies: lb}, "198.51.100.1", []string{"203.0.113.9" + strings.Repeat(",198.51.100.2", maxHops)}, "198.51.100.1", false, true},
		{"ED-8 empty entries", Edge{Proxies: lb, Internal: ten}, "198.51.100.1", []string{", ,10.0.0.1, ,"}, "10.0.0.1", true, false},
		{"ED-8 empty xff", Edge{Proxies: lb}, "198.51.100.1", []string{""}, "198.51.100.1", false, true},
		{"ED-8 one internal address", Edge{Proxies: lb, Internal: ten}, "198.51.100.1", []string{"10.0.0.1"}, "10.0.0.1", true, false},
		{"ED-8 one of two is none", Edge{Proxies: lb, Internal: ten}, "198.51.100.1", []string{"10.0.0.1,198.51.100.2"}, "10.0.0.1", false, true},
		{"ED-8 nor the last of two", Edge{Proxies: lb, Internal: ten}, "198.51.100.1", []string{"203.0.113.9,10.0.0.1"}, "10.0.0.1", false, true},
		{"ED-8 inner", Edge{Proxies: lb, Inner: true}, "198.51.100.1", []string{"203.0.113.9,198.51.100.2"}, "203.0.113.9", false, false},
		{"ED-8 inner, no proxy", Edge{Proxies: lb, Inner: true, Internal: ten}, "10.0.0.1", []string{"10.0.0.2"}, "10.0.0.1", false, false},
		{"ED-8 inner, without xff", Edge{Proxies: ten, Inner: true, Internal: ten}, "10.0.0.1", nil, "10.0.0.1", false, false},
		{"IPv6 in IPv4's form", Edge{Internal: ten}, "::ffff:10.0.0.1", nil, "::ffff:10.0.0.1", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			want := origin{client: netip.MustParseAddr(tt.client), internal: tt.internal, edge: tt.atEdge}
			if got := tt.edge.origin(netip.MustParseAddr(tt.peer), false, tt.xff); got != want {
				t.Errorf("origin(%s, %q) = %+v, want %+v", tt.peer, tt.xff, got, want)
			}
		})
	}
}

func TestEdgeUnixSockets(t *testing.T) {
	for _, tt := range []struct {
		rule     string
		edge     Edge
		unix     bool
		xff      []string
		internal bool
	}{
		{"ED-5", Edge{UnixSockets: true}, true, nil, true},
		{"ED-5 not by default", Edge{}, true, nil, false},
		{"ED-5 no unknown peer", Edge{UnixSockets: true}, false, nil, false},
		{"ED-1 with x-forwarded-for", Edge{UnixSockets: true}, true, []string{"10.0.0.1"}, false},
		{"ED-2", Edge{UnixSockets: true, Inner: true}, true, nil, false},
		{"ED-2 whom a proxy speaks for", Edge{UnixSockets: true, Inner: true}, true, []string{"203.0.113.9"}, false},
		{"ED-8 no proxy", Edge{UnixSockets: true, Proxies: lb}, true, nil, true},
	} {
		if got := tt.edge.origin(netip.Addr{}, tt.unix, tt.xff); got.internal != tt.internal || got.edge == (tt.internal || tt.edge.Inner) {
			t.Errorf("%s: origin = %+v, want internal: %v", tt.rule, got, tt.internal)
		}
	}
}

// A server on a unix socket tells its peers from others.
func TestEdgeServesUnixSocket(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Skipf("no unix sockets here: %v", err)
	}
	tracing, err := Setup(t.Context(), Config{
		Edge: &Edge{UnixSockets: true}, Logger: slog.New(slog.DiscardHandler),
		Getenv: func(name string) string { return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name] },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tracing.Shutdown(t.Context())
	id := ""
	srv := &http.Server{Handler: tracing.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		id = string(requestid.FromContext(r.Context()))
	}))}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	defer func() { srv.Close(); <-done }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.Addr().String())
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://unix.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Request-Id", strangersID)
	resp, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if !requestid.Equal(requestid.ID(id), strangersID) {
		t.Errorf("request id %q: want the one that came, since the peer is inside", id)
	}
}

func FuzzEdgeOrigin(f *testing.F) {
	f.Add("10.0.0.1, 203.0.113.9", 1, true)
	f.Add(",,", 64, false)
	f.Fuzz(func(t *testing.T, xff string, hops int, inner bool) {
		e := Edge{Internal: ten, Hops: min(max(hops, 0), maxHops), Inner: inner}
		if hops < 0 {
			e.Proxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		}
		o := e.origin(netip.MustParseAddr("192.0.2.1"), false, []string{xff, xff})
		if o.internal && (o.edge || !within(e.Internal, o.client)) {
			t.Errorf("origin of %q = %+v", xff, o)
		}
	})
}

// edgeSetup returns a Tracing and the headers and context that its handler saw last.
func edgeSetup(t testing.TB, cfg Config) (*Tracing, *tracetest.SpanRecorder, func(peer string, h http.Header) (http.Header, context.Context)) {
	t.Helper()
	rec := tracetest.NewSpanRecorder()
	cfg.Processors = []sdktrace.SpanProcessor{rec}
	cfg.Getenv = func(name string) string { return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name] }
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	tracing, err := Setup(context.Background(), cfg)
	if err != nil {
		t.Fatalf("Setup: %v", err)
	}
	t.Cleanup(func() { tracing.Shutdown(context.Background()) })
	var seen http.Header
	var ctx context.Context
	h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen, ctx = r.Header, r.Context() }))
	return tracing, rec, func(peer string, header http.Header) (http.Header, context.Context) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(peer), 4711).String()
		r.Header = header
		before := fmt.Sprint(header)
		h.ServeHTTP(httptest.NewRecorder(), r)
		if fmt.Sprint(header) != before {
			t.Errorf("the headers that arrived were changed: %v, were %v", header, before)
		}
		return seen, ctx
	}
}

func TestEdgeHeaders(t *testing.T) {
	all := http.Header{"X-Own": {"1"}, envoyNames.internal.Canonical: {"true"}, envoyNames.externalAddress.Canonical: {"60.0.0.1"}, "X-Envoy-Unknown": {"stays"}}
	external := slices.Concat(envoyNames.router, envoyNames.external)
	for _, n := range slices.Concat(envoyNames.edge, external) {
		all[n] = []string{"x"}
	}
	for _, tt := range []struct {
		rule    string
		edge    Edge
		peer    string
		gone    []string
		kept    []string
		values  map[string]string
		replace bool
	}{
		{"ED-6, ED-7, ED-9, ED-10 edge", Edge{Internal: ten}, "50.0.0.1", slices.Concat([]string{envoyNames.internal.Canonical, "Custom"}, envoyNames.edge, external),
			[]string{"X-Own", "X-Envoy-Unknown"}, map[string]string{envoyNames.externalAddress.Canonical: "50.0.0.1"}, true},
		{"ED-10 not edge", Edge{Inner: true}, "50.0.0.1", slices.Concat([]string{envoyNames.internal.Canonical, "Custom"}, external), envoyNames.edge,
			map[string]string{envoyNames.externalAddress.Canonical: "60.0.0.1"}, false},
		{"ED-6, ED-7 internal", Edge{Internal: ten}, "10.0.0.1", nil, slices.Concat([]string{"Custom"}, envoyNames.edge, external),
			map[string]string{envoyNames.internal.Canonical: "true", envoyNames.externalAddress.Canonical: "60.0.0.1"}, false},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			_, _, serve := edgeSetup(t, Config{Edge: &tt.edge, Proxy: Proxy{InternalOnly: []string{"custom"}}})
			h := all.Clone()
			h["Custom"] = []string{"x"}
			h[requestid.Header] = []string{strangersID}
			got, ctx := serve(tt.peer, h)
			for _, n := range tt.gone {
				if _, ok := got[n]; ok {
					t.Errorf("%s is still there", n)
				}
			}
			for _, n := range tt.kept {
				if _, ok := got[n]; !ok {
					t.Errorf("%s is gone", n)
				}
			}
			for n, v := range tt.values {
				if got.Get(n) != v {
					t.Errorf("%s = %q, want %q", n, got.Get(n), v)
				}
			}
			if replaced := !requestid.Equal(requestid.FromContext(ctx), strangersID); replaced != tt.replace { // RID-3, RID-4
				t.Errorf("request id replaced: %v, want %v", replaced, tt.replace)
			}
		})
	}
}

// TestGatewayHeaders: what a gateway writes for the next hop.
func TestGatewayHeaders(t *testing.T) {
	tests := []struct {
		rule string
		cfg  Config
		peer string
		in   http.Header
		want map[string]string
	}{
		{"ED-8 appended", Config{Edge: &Edge{}}, "192.0.2.5", http.Header{"X-Forwarded-For": {"203.0.113.1", ""}}, map[string]string{"X-Forwarded-For": "203.0.113.1,192.0.2.5"}},
		{"ED-8 loopback", Config{Edge: &Edge{}, Proxy: Proxy{Address: netip.MustParseAddr("10.3.2.1")}}, "127.0.0.1", http.Header{}, map[string]string{"X-Forwarded-For": "10.3.2.1"}},
		{"ED-8 only that one", Config{Edge: &Edge{}, Proxy: Proxy{Address: netip.MustParseAddr("10.3.2.1")}}, "127.0.0.5", http.Header{}, map[string]string{"X-Forwarded-For": "127.0.0.5"}},
		{"ED-8 kept", Config{Edge: &Edge{}, Proxy: Proxy{KeepForwardedFor: true}}, "192.0.2.5", http.Header{"X-Forwarded-For": {"203.0.113.1"}}, map[string]string{"X-Forwarded-For": "203.0.113.1"}},
		{"ED-8 inner", Config{Edge: &Edge{Inner: true}}, "192.0.2.5", http.Header{"X-Forwarded-For": {"203.0.113.1"}}, map[string]string{"X-Forwarded-For": "203.0.113.1"}},
		{"ED-8 extension", Config{Edge: &Edge{Inner: true}, Proxy: Proxy{AddForwardedFor: true}}, "192.0.2.5", http.Header{"X-Forwarded-For": {"203.0.113.1"}}, map[string]string{"X-Forwarded-For": "203.0.113.1,192.0.2.5"}},
		{"ED-8 extension, loopback", Config{Edge: &Edge{Inner: true}, Proxy: Proxy{AddForwardedFor: true, Address: netip.MustParseAddr("10.3.2.1")}}, "127.0.0.1", http.Header{}, map[string]string{"X-Forwarded-For": "10.3.2.1"}},
		{"ED-8 a proxy passes on", Config{Edge: &Edge{Inner: true, Proxies: lb}}, "198.51.100.1", http.Header{"X-Forwarded-For": {"203.0.113.1"}}, map[string]string{"X-Forwarded-For": "203.0.113.1"}},
		{"ED-8 no proxy is added", Config{Edge: &Edge{Inner: true, Proxies: lb}}, "192.0.2.5", http.Header{"X-Forwarded-For": {"203.0.113.1"}}, map[string]string{"X-Forwarded-For": "203.0.113.1,192.0.2.5"}},
		{"O-4 x-forwarded-for", Config{}, "192.0.2.5", http.Header{"X-Forwarded-For": {"203.0.113.1", "", "203.0.113.2"}}, map[string]string{"X-Forwarded-For": "203.0.113.1,203.0.113.2"}},
		{"ED-13", Config{Proxy: Proxy{AddUserAgent: true, Cluster: "mesh-1", Node: "node-1"}}, "192.0.2.5", http.Header{"User-Agent": {""}},
			map[string]string{"User-Agent": "mesh-1", "X-Envoy-Downstream-Service-Cluster": "mesh-1", "X-Envoy-Downstream-Service-Node": "node-1"}},
		{"ED-13 agent stays", Config{Proxy: Proxy{AddUserAgent: true, Cluster: "mesh-1"}}, "192.0.2.5", http.Header{"User-Agent": {"x"}, "X-Envoy-Downstream-Service-Node": {"n"}},
			map[string]string{"User-Agent": "x", "X-Envoy-Downstream-Service-Cluster": "mesh-1", "X-Envoy-Downstream-Service-Node": "n"}},
		{"O-5", Config{}, "192.0.2.5", http.Header{"Connection": {"close, x-request-id, traceparent"}, "X-Request-Id": {strangersID}, "Traceparent": {strangersTrace}},
			map[string]string{"Traceparent": ""}},
		{"O-5 but not where it comes from", Config{Edge: &Edge{Hops: 1}}, "192.0.2.5", http.Header{"Connection": {"x-forwarded-for, X-Forwarded-Proto"}, "X-Forwarded-For": {"203.0.113.1"}, "X-Forwarded-Proto": {"https"}},
			map[string]string{"X-Forwarded-For": "203.0.113.1,192.0.2.5", "X-Forwarded-Proto": "https", "X-Envoy-External-Address": "203.0.113.1"}},
		{"scheme of the connection", Config{}, "192.0.2.5", http.Header{}, map[string]string{"X-Forwarded-Proto": "http"}},
		{"scheme from a proxy in front", Config{}, "192.0.2.5", http.Header{"X-Forwarded-Proto": {"https"}}, map[string]string{"X-Forwarded-Proto": "https"}},
		{"scheme, O-4", Config{}, "192.0.2.5", http.Header{"X-Forwarded-Proto": {"https", "http"}}, map[string]string{"X-Forwarded-Proto": "https,http"}},
		{"scheme that a stranger claims", Config{Edge: &Edge{}}, "192.0.2.5", http.Header{"X-Forwarded-Proto": {"https"}}, map[string]string{"X-Forwarded-Proto": "http"}},
		{"scheme from an edge in front", Config{Edge: &Edge{Inner: true}}, "192.0.2.5", http.Header{"X-Forwarded-Proto": {"https"}}, map[string]string{"X-Forwarded-Proto": "https"}},
		{"scheme from a trusted proxy", Config{Edge: &Edge{Proxies: lb}}, "198.51.100.1", http.Header{"X-Forwarded-Proto": {"https"}}, map[string]string{"X-Forwarded-Proto": "https"}},
		{"scheme from no trusted proxy", Config{Edge: &Edge{Proxies: lb}}, "192.0.2.5", http.Header{"X-Forwarded-Proto": {"https"}}, map[string]string{"X-Forwarded-Proto": "http"}},
		{"RID-12 digit", Config{}, "192.0.2.5", http.Header{"X-Request-Id": {strangersID}}, map[string]string{"X-Request-Id": "125a4afb-6f55-94ba-ad80-413f09f48a28"}},
		{"O-4 one value", Config{}, "192.0.2.5", http.Header{"X-Client-Trace-Id": {"a", "", "b"}, "X-Envoy-Original-Path": {"/a", "/b"}},
			map[string]string{"X-Client-Trace-Id": "a,b", "X-Envoy-Original-Path": "/a,/b"}},
		{"O-4 without an edge", Config{}, "192.0.2.5", http.Header{"X-Envoy-Internal": {"1", "2"}, "X-Envoy-External-Address": {"1", "2"}, "X-Envoy-Force-Trace": {"", ""}, "User-Agent": {"a", "b"}},
			map[string]string{"X-Envoy-Internal": "1,2", "X-Envoy-External-Address": "1,2", "X-Envoy-Force-Trace": "", "User-Agent": "a,b"}},
		{"ED-14 edge", Config{Edge: &Edge{}, Proxy: Proxy{HeaderPrefix: "x-mesh", AddUserAgent: true, Cluster: "mesh-1"}}, "192.0.2.5",
			http.Header{"X-Mesh-Internal": {"true"}, "X-Envoy-Internal": {"spoof"}, "X-Mesh-Retry-On": {"5xx"}, "X-Envoy-Retry-On": {"5xx"}, "X-Mesh-Original-Path": {"/"}, "X-Mesh-Decorator-Operation": {"op"}, "X-Envoy-Decorator-Operation": {"op2"}},
			map[string]string{"X-Mesh-Internal": "", "X-Envoy-Internal": "spoof", "X-Mesh-Retry-On": "", "X-Envoy-Retry-On": "5xx", "X-Mesh-Original-Path": "",
				"X-Mesh-Decorator-Operation": "", "X-Envoy-Decorator-Operation": "op2", "X-Mesh-External-Address": "192.0.2.5", "X-Envoy-External-Address": "",
				"X-Mesh-Downstream-Service-Cluster": "mesh-1", "X-Envoy-Downstream-Service-Cluster": ""}},
		{"ED-14 internal", Config{Edge: &Edge{Internal: ten}, Proxy: Proxy{HeaderPrefix: "X-MESH"}}, "10.0.0.1", http.Header{"X-Envoy-Internal": {"a", "b"}},
			map[string]string{"X-Mesh-Internal": "true"}},
		{"ED-14 the same", Config{Edge: &Edge{Internal: ten}, Proxy: Proxy{HeaderPrefix: "X-Envoy"}}, "10.0.0.1", http.Header{}, map[string]string{"X-Envoy-Internal": "true"}},
		{"ED-10 the router's", Config{}, "192.0.2.5", http.Header{"X-Envoy-Retry-On": {"5xx"}, "X-Envoy-Ip-Tags": {"t"}},
			map[string]string{"X-Envoy-Retry-On": "", "X-Envoy-Ip-Tags": "t"}},
		{"D-3", Config{}, "192.0.2.5", http.Header{"X-Request-Id": {"my-request-id"}}, map[string]string{"X-Request-Id": "my-request-id"}},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			tt.cfg.Role = Gateway
			_, rec, serve := edgeSetup(t, tt.cfg)
			got, ctx := serve(tt.peer, tt.in)
			for n, v := range tt.want {
				if got.Get(n) != v || len(got[n]) > 1 {
					t.Errorf("%s = %q, want %q", n, got[n], v)
				}
			}
			if tt.rule == "O-5" && requestid.Equal(requestid.FromContext(ctx), strangersID) {
				t.Error("an id that Connection names is still the request's")
			}
			if traced := len(rec.Ended()) == 1; traced == (tt.rule == "D-3") {
				t.Errorf("traced: %v", traced)
			}
		})
	}
}

// O-5: HTTP/2 leaves the spaces around a value to us.
func TestWithoutSpaces(t *testing.T) {
	in := http.Header{"A": {"a", " b\t", "c"}, "B": {"x y"}, "C": {"\t \t"}, "D": {""}}
	before := fmt.Sprint(in)
	want := http.Header{"A": {"a", "b", "c"}, "B": {"x y"}, "C": {""}, "D": {""}}
	for _, copied := range []bool{false, true} {
		h := in
		if copied {
			h = maps.Clone(in)
		}
		got, changed := withoutSpaces(h, copied)
		if !reflect.DeepEqual(got, want) || !changed || fmt.Sprint(in) != before {
			t.Errorf("withoutSpaces = %q, %v, want %q; the headers that arrived are %v", got, changed, want, in)
		}
	}
	clean := http.Header{"A": {"a", ""}, "B": {"x y"}}
	if got, changed := withoutSpaces(clean, false); changed || reflect.ValueOf(got).Pointer() != reflect.ValueOf(clean).Pointer() {
		t.Errorf("withoutSpaces copies what it need not change: %q", got)
	}
	if n := testing.AllocsPerRun(100, func() { withoutSpaces(clean, false) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// RID-18, ED-14: the wish for a trace has the prefix, too.
func TestForceTraceUnderAPrefix(t *testing.T) {
	for _, tt := range []struct {
		header string
		forced bool
	}{{"X-Mesh-Force-Trace", true}, {"X-Envoy-Force-Trace", false}} {
		tracing, _, serve := edgeSetup(t, Config{Role: Gateway, Proxy: Proxy{HeaderPrefix: "x-mesh"}, Sampling: sampler.Config{Random: sampler.Percent(0)}})
		got, _ := serve("10.0.0.1", http.Header{tt.header: {"1"}, "X-Request-Id": {strangersID}})
		if n := tracing.Sampler().Counts()["service_forced"]; (n == 1) != tt.forced || (got["X-Request-Id"][0][14] == 'a') != tt.forced {
			t.Errorf("%s: service_forced = %d, id %s, want forced: %v", tt.header, n, got["X-Request-Id"], tt.forced)
		}
	}
}

// RID-19: an id that is there and empty, and stays so.
func TestEmptyID(t *testing.T) {
	for _, tt := range []struct {
		name   string
		in     []string
		policy requestid.Policy
		want   []string // upstream and in the response; nil is none
		answer []string
	}{
		{"empty", []string{""}, requestid.Policy{External: requestid.Disable, InResponse: true}, []string{""}, []string{""}},
		{"lines that are empty", []string{"", ""}, requestid.Policy{External: requestid.Disable, InResponse: true}, []string{""}, []string{""}},
		{"not in the response", []string{""}, requestid.Policy{External: requestid.Disable}, []string{""}, []string{"from-upstream"}},
		{"absent", nil, requestid.Policy{External: requestid.Disable, InResponse: true}, nil, []string{"from-upstream"}},
		{"refused", []string{"a b"}, requestid.Policy{External: requestid.Disable, InResponse: true}, nil, []string{"from-upstream"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracing, err := Setup(t.Context(), Config{Role: Gateway, RequestID: tt.policy, Logger: slog.New(slog.DiscardHandler), Getenv: func(name string) string {
				return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name]
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer tracing.Shutdown(t.Context())
			var got []string
			h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = r.Header["X-Request-Id"]
				w.Header().Set("X-Request-Id", "from-upstream")
			}))
			r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
			if tt.in != nil {
				r.Header["X-Request-Id"] = tt.in
			}
			h.ServeHTTP(w, r)
			if answer := w.Header()["X-Request-Id"]; !slices.Equal(got, tt.want) || !slices.Equal(answer, tt.answer) {
				t.Errorf("upstream %q, response %q, want %q, %q", got, answer, tt.want, tt.answer)
			}
		})
	}
}

// TestEdgeContext: what becomes of a stranger's trace and baggage.
func TestEdgeContext(t *testing.T) {
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	for _, tt := range []struct {
		name    string
		edge    Edge
		peer    string
		same    bool
		links   int
		baggage string
	}{
		{"restart", Edge{Internal: ten, ForcedPerSecond: 1}, "203.0.113.9", false, 1, ""},
		{"ignore", Edge{Internal: ten, Context: Ignore, Baggage: []string{"b"}}, "203.0.113.9", false, 0, "b=2"},
		{"ED-11 continue", Edge{Internal: ten, Context: Continue, ForcedPerSecond: math.Inf(1), Baggage: []string{"*"}}, "203.0.113.9", true, 0, "a=1,b=2"},
		{"EnvoyEdge", EnvoyEdge(), "203.0.113.9", true, 0, "a=1,b=2"},
		{"internal", Edge{Internal: ten}, "10.0.0.1", true, 0, "a=1,b=2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, rec, serve := edgeSetup(t, Config{Edge: &tt.edge})
			_, ctx := serve(tt.peer, http.Header{"Traceparent": {strangersTrace}, "Tracestate": {"x=y"}, "Baggage": {"a=1,b=2"}})
			s := rec.Ended()[0]
			if same := s.SpanContext().TraceID().String() == traceID; same != tt.same {
				t.Errorf("trace %s continued: %v, want %v", traceID, same, tt.same)
			}
			if ts := s.SpanContext().TraceState().String(); (ts != "") != tt.same {
				t.Errorf("tracestate = %q, want the stranger's: %v", ts, tt.same)
			}
			if len(s.Links()) != tt.links {
				t.Errorf("%d links, want %d", len(s.Links()), tt.links)
			}
			for _, l := range s.Links() {
				if l.SpanContext.TraceID().String() != traceID || l.SpanContext.TraceState().Len() != 0 {
					t.Errorf("link = %+v, want the stranger's span without its tracestate", l.SpanContext)
				}
			}
			got := strings.Split(baggage.FromContext(ctx).String(), ",")
			want := strings.Split(tt.baggage, ",")
			if len(got) > 1 && got[0] > got[1] {
				got[0], got[1] = got[1], got[0]
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("baggage = %q, want %q", got, want)
			}
		})
	}
}

// TestEdgeSpoof: strangers who ask for traces by every header there is cost at most
// the budget, and nothing of theirs goes on.
func TestEdgeSpoof(t *testing.T) {
	const requests, budget = 100000, 10
	tracing, rec, serve := edgeSetup(t, Config{
		Edge:     &Edge{Internal: ten, ForcedPerSecond: budget},
		Sampling: samplingOff,
	})
	asks := []http.Header{
		{"Traceparent": {strangersTrace}, "Tracestate": {"evil=1"}, "Baggage": {"evil=1"}},
		{"B3": {"463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-d"}},
		{"B3": {"d"}},
		{"X-B3-Sampled": {"1"}},
		{"X-B3-Flags": {"1"}},
		{"X-B3-Traceid": {"463ac35c9f6413ad"}, "X-B3-Spanid": {"a2fb4a1d1a96d312"}, "X-B3-Sampled": {"1"}},
		{"X-Envoy-Force-Trace": {"true"}},
		{"X-Client-Trace-Id": {"evil"}},
		{"X-Request-Id": {"125a4afb-6f55-a4ba-ad80-413f09f48a28"}},
	}
	began := time.Now()
	for i := range requests {
		_, ctx := serve("203.0.113.9", asks[i%len(asks)])
		out := http.Header{}
		tracing.Propagator().Inject(ctx, carrierOf(out))
		for name, lines := range out {
			if name != requestid.HeaderClientTraceID && (strings.Contains(fmt.Sprint(lines), "evil") || strings.Contains(fmt.Sprint(lines), "4bf92f35") || strings.Contains(fmt.Sprint(lines), "463ac35c")) {
				t.Fatalf("%s: %q of a stranger's goes on", name, lines)
			}
		}
		if id := requestid.ID(out.Get(requestid.Header)); id.Reason() == requestid.ServiceForced {
			t.Fatalf("x-request-id %q goes on with a stranger's reason", id)
		}
	}
	// The bucket holds one second's worth at the start.
	most := budget * (2 + int(time.Since(began)/time.Second))
	if n := len(rec.Ended()); n == 0 || n > most {
		t.Errorf("%d of %d requests traced, want 1 to %d: the budget is %d a second", n, requests, most, budget)
	}
}

// TestEdgePassesNothingForeign: nor does anything of theirs go through a gateway that
// passes on the headers of a request, in whatever formats it reads and writes.
func TestEdgePassesNothingForeign(t *testing.T) {
	foreign := http.Header{
		"Traceparent": {strangersTrace, strangersTrace}, "Tracestate": {"evil=1"}, "Baggage": {"evil=1,kept=2"},
		"B3": {"463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-d"}, "X-B3-Traceid": {"463ac35c9f6413ad"}, "X-B3-Spanid": {"a2fb4a1d1a96d312"},
		"X-B3-Parentspanid": {"a2fb4a1d1a96d312"}, "X-B3-Sampled": {"evil"}, "X-B3-Flags": {"evil"}, "X-Ot-Span-Context": {"evil"},
		"Ot-Tracer-Traceid": {"463ac35c9f6413ad"}, "Ot-Tracer-Spanid": {"a2fb4a1d1a96d312"}, "Ot-Tracer-Sampled": {"evil"}, "Ot-Baggage-Evil": {"evil"},
		"Uber-Trace-Id": {"463ac35c9f6413ad:a2fb4a1d1a96d312:0:1"}, "Jaeger-Debug-Id": {"evil"}, "Jaeger-Baggage": {"evil=1"}, "Uberctx-Evil": {"evil"},
		"X-Envoy-Force-Trace": {"evil"}, "X-Envoy-Decorator-Operation": {"evil"}, "X-Envoy-Original-Path": {"/evil"},
		"X-Request-Id": {"125a4afb-6f55-a4ba-ad80-413f09f48a28"},
	}
	strict := Envoy().Propagation
	dual := WithZipkin(Envoy(), Zipkin{})
	for _, tt := range []struct {
		name        string
		propagation propagation.Config
		zipkin      *Zipkin
		keep        []string
		baggage     string
	}{
		{"W3C", propagation.Config{}, nil, nil, ""},
		{"W3C with a key of baggage", propagation.Config{}, nil, []string{"kept"}, "kept=2"},
		{"all", propagation.Config{Extract: allFormats, Inject: allFormats}, nil, nil, ""},
		{"none", propagation.Config{Extract: []propagation.Format{}, Inject: []propagation.Format{}}, nil, nil, ""},
		{"as Envoy's OpenTelemetry tracer", strict, nil, nil, ""},
		{"as Envoy's Zipkin tracer", dual.Propagation, dual.Zipkin, nil, ""},
	} {
		for _, context := range []EdgeContext{Restart, Ignore} {
			t.Run(tt.name+" "+context.String(), func(t *testing.T) {
				tracing, rec, serve := edgeSetup(t, Config{
					Role: Gateway, Edge: &Edge{Internal: ten, Context: context, Baggage: tt.keep}, Sampling: samplingOff, Propagation: tt.propagation, Zipkin: tt.zipkin,
				})
				sent, ctx := serve("203.0.113.9", foreign)
				sent = sent.Clone()
				tracing.Propagator().Inject(ctx, otelprop.HeaderCarrier(sent))
				for name, lines := range sent {
					for _, mark := range []string{"evil", "4bf92f35", "00f067aa0ba902b7", "463ac35c", "a2fb4a1d", "125a4afb"} {
						if strings.Contains(fmt.Sprint(lines), mark) {
							t.Errorf("%s: %q of a stranger's goes on", name, lines)
						}
					}
				}
				if got := sent.Get("Baggage"); got != tt.baggage || len(rec.Ended()) > 0 {
					t.Errorf("baggage %q and %d spans, want %q and none", got, len(rec.Ended()), tt.baggage)
				}
				if sent, _ = serve("10.0.0.1", http.Header{"Baggage": {"evil=1"}}); sent.Get("Baggage") != "evil=1" {
					t.Errorf("baggage of the mesh = %q, want what came", sent.Get("Baggage"))
				}
			})
		}
	}
}

var allFormats = []propagation.Format{propagation.TraceContext, propagation.B3, propagation.B3Multi, propagation.OTSpanContext, propagation.OTTrace, propagation.Jaeger, propagation.Baggage}

// TestEdgeClientAddress: client.address is what the trusted hops say, and nobody else.
func TestEdgeClientAddress(t *testing.T) {
	for hops, want := range []string{"192.0.2.5", "203.0.113.1", "203.0.113.10"} {
		_, rec, serve := edgeSetup(t, Config{Edge: &Edge{Hops: hops}})
		serve("192.0.2.5", http.Header{"X-Forwarded-For": {"6.6.6.6, 203.0.113.10,203.0.113.1"}})
		for _, kv := range rec.Ended()[0].Attributes() {
			if kv.Key == "client.address" && kv.Value.AsString() != want {
				t.Errorf("%d hops: client.address = %s, want %s", hops, kv.Value.AsString(), want)
			}
			if kv.Key == "network.peer.address" && kv.Value.AsString() != "192.0.2.5" {
				t.Errorf("network.peer.address = %s, want the peer", kv.Value.AsString())
			}
		}
	}
}

func TestEdgeMistakes(t *testing.T) {
	_, err := Setup(context.Background(), Config{
		Role: 7,
		Edge: &Edge{Internal: []netip.Prefix{{}}, Hops: -1, Proxies: []netip.Prefix{{}}, Context: 9, ForcedPerSecond: math.NaN(), Baggage: []string{"*", "a"}},
		Proxy: Proxy{
			InternalOnly: []string{"a b"},
			HeaderPrefix: "x-mesh-",
		},
	})
	if err == nil {
		t.Fatal("Setup: want an error")
	}
	for _, want := range []string{"Role(7)", "Edge.Internal[0]", "Edge.Hops", "Edge.Context", "Edge.ForcedPerSecond", "Edge.Baggage", "InternalOnly[0]", "Edge.Proxies[0]", "beside Proxies", "HeaderPrefix"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
}

// TestStrangerReported: without an Edge the first stranger is reported, once.
func TestStrangerReported(t *testing.T) {
	var log bytes.Buffer
	tracing, _, serve := edgeSetup(t, Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	for _, quiet := range []struct {
		peer string
		h    http.Header
	}{{"10.0.0.1", nil}, {"127.0.0.1", nil}, {"203.0.113.9", http.Header{"X-Forwarded-For": {"1.1.1.1"}}}, {"203.0.113.9", http.Header{"X-Envoy-External-Address": {"1.1.1.1"}}}} {
		serve(quiet.peer, quiet.h)
	}
	if log.Len() > 0 {
		t.Errorf("log = %q, want nothing yet", &log)
	}
	serve("203.0.113.9", http.Header{})
	serve("203.0.113.9", http.Header{})
	if n := strings.Count(log.String(), "Config.Edge"); n != 1 {
		t.Errorf("log = %q, want one line that names Config.Edge", &log)
	}
	if notes := tracing.debugInfo().Notes; len(notes) != 1 || notes[0] != strangerNote {
		t.Errorf("notes = %q, want the stranger", notes)
	}
}

// samplingOff traces nothing that nobody asked for.
var samplingOff = sampler.Config{Random: sampler.Percent(0), NoVeto: true}

func carrierOf(h http.Header) otelprop.HeaderCarrier { return otelprop.HeaderCarrier(h) }
