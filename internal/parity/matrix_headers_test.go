package parity_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/meshtrace/meshtrace/internal/parity/envoymodel"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

// TestMatrixHeaders holds what a gateway passes on, answers and counts against the model
// of package envoymodel, for random listeners and random header lines.
func TestMatrixHeaders(t *testing.T) {
	listeners, requests := 400, 25
	if testing.Short() {
		listeners = 80
	}
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	differences, seen := 0, make(map[string]int)
	for range listeners {
		model := randomListener(rnd)
		tracing, err := middleware.Setup(t.Context(), gatewayOf(model))
		if err != nil {
			t.Fatal(err)
		}
		for range requests {
			r := randomRequest(rnd, model)
			for _, d := range compareGateway(tracing, model, r, seen) {
				if differences++; differences <= 10 {
					t.Errorf("%+v\nrequest %+v\n%s", model, r, d)
				}
			}
		}
		if err := tracing.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
	fmt.Printf("matrix of random headers: seed %d, %d listeners, %d requests, %d differences; seen %v\n", seed, listeners, listeners*requests, differences, seen)
	for _, what := range []string{"edge", "internal", "neither", "refused", "id in the response", "empty id in the response"} {
		if seen[what] == 0 {
			t.Errorf("no request was %s: the rounds show nothing about it", what)
		}
	}
}

// pick returns one of list.
func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func randomListener(r *rand.Rand) envoymodel.Listener {
	ten := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/32")}
	l := envoymodel.Listener{
		UseRemoteAddress:     r.IntN(2) == 0,
		XFFNumTrustedHops:    pick(r, 0, 0, 1, 2),
		InternalCIDRs:        pick(r, nil, ten, ten),
		SkipXFFAppend:        r.IntN(4) == 0,
		XFFExtensionAppends:  r.IntN(4) == 0,
		LocalAddress:         netip.MustParseAddr("10.3.2.1"),
		GenerateOff:          r.IntN(3) == 0,
		PreserveExternal:     r.IntN(2) == 0,
		AlwaysSetInResponse:  r.IntN(2) == 0,
		PackOff:              r.IntN(4) == 0,
		SampleByRequestIDOff: r.IntN(8) == 0,
		AddUserAgent:         r.IntN(3) == 0,
		NodeCluster:          "mesh-1",
		NodeID:               pick(r, "", "node-1"),
		HeaderPrefix:         pick(r, "", "", "x-mesh"),
		HealthCheckPath:      pick(r, "", "/healthz"),
		Egress:               r.IntN(2) == 0,
	}
	if r.IntN(3) == 0 {
		l.InternalOnlyHeaders = []string{"X-Secret"}
	}
	if r.IntN(8) > 0 {
		share := func() *float64 { return pick(r, nil, new(0.0), new(50.0), new(12.34)) }
		l.Tracing = &envoymodel.Tracing{Client: pick(r, nil, new(0.0)), Random: share(), Overall: share()}
	}
	if r.IntN(3) == 0 {
		l.Route.Decorator = &envoymodel.Decorator{Operation: "op", PropagateOff: r.IntN(2) == 0}
	}
	return l
}

// gatewayOf returns the settings of a gateway that is to do as l.
func gatewayOf(l envoymodel.Listener) middleware.Config {
	cfg := middleware.Envoy()
	edge := middleware.EnvoyEdge()
	edge.Inner, edge.Hops, edge.Internal = !l.UseRemoteAddress, l.XFFNumTrustedHops, l.InternalCIDRs
	cfg.Edge = &edge
	cfg.Proxy = middleware.Proxy{
		Node: l.NodeID, Cluster: l.NodeCluster, AddUserAgent: l.AddUserAgent, Address: l.LocalAddress,
		KeepForwardedFor: l.SkipXFFAppend, AddForwardedFor: l.XFFExtensionAppends,
		InternalOnly: l.InternalOnlyHeaders, HeaderPrefix: l.HeaderPrefix,
	}
	u := use(!l.PackOff, !l.SampleByRequestIDOff)
	cfg.RequestID = policy(!l.GenerateOff, l.PreserveExternal, u)
	cfg.RequestID.InResponse = l.AlwaysSetInResponse
	if l.HealthCheckPath != "" {
		cfg.HealthChecks = []string{l.HealthCheckPath}
	}
	if l.Egress {
		cfg.Direction = middleware.Egress
	}
	if d := l.Route.Decorator; d != nil {
		cfg.Route = func(*http.Request) middleware.Route {
			return middleware.Route{Decorator: span.Decorator{Operation: d.Operation, Private: d.PropagateOff}}
		}
	}
	environment := map[string]string{"OTEL_TRACES_EXPORTER": "none"}
	if l.Tracing == nil {
		environment["OTEL_SDK_DISABLED"] = "true" // D-1
	} else {
		share := func(p *float64) sampler.Fraction {
			if p == nil {
				return sampler.Fraction{}
			}
			return sampler.Percent(*p)
		}
		cfg.Sampling.Client, cfg.Sampling.Random, cfg.Sampling.Overall = share(l.Tracing.Client), share(l.Tracing.Random), share(l.Tracing.Overall)
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Getenv = func(name string) string { return environment[name] }
	return cfg
}

// randomRequest returns a request with header lines that the rules speak of, some of
// them several times, empty, or under another prefix.
func randomRequest(r *rand.Rand, l envoymodel.Listener) envoymodel.Request {
	const uuid = "125a4afb-6f55-%c4ba-ad80-413f09f48a28"
	id := func() string {
		return pick(r, "", "my-request-id", "125a4afb", fmt.Sprintf(uuid, pick(r, '4', '9', 'a', 'b', '7')), fmt.Sprintf("%08x-6f55-%c4ba-ad80-413f09f48a28", r.Uint32(), pick(r, '4', '9', 'a')))
	}
	address := func() string {
		if r.IntN(3) == 0 {
			pieces := ""
			for range r.IntN(8) {
				pieces += pick(r, "10.0.0.1", "203.0.113.9", "2001:db8::1", "::1", "::ffff:10.0.0.1", ",", ",", ", ", " ", "\t", ".", ":80", "[", "]", "%eth0", "010.0.0.1", "1")
			}
			return pieces
		}
		return pick(r, "10.0.0.1", "198.51.100.7", "10.0.0.9, 203.0.113.9", "203.0.113.1,10.0.0.1,198.51.100.2", "", "unknown", "10.0.0.1:80", "2001:db8::1")
	}
	value := func() string { return pick(r, "", "1", "true", "a b") }
	prefix := func() string { return pick(r, "x-envoy-", "x-envoy-", "x-mesh-") }
	names := []string{
		"internal", "external-address", "force-trace", "decorator-operation", "downstream-service-cluster", "downstream-service-node",
		"original-path", "original-host", "original-url", "ip-tags", "expected-rq-timeout-ms", "attempt-count", "retriable-status-codes",
		"retriable-header-names", "retry-on", "retry-grpc-on", "max-retries", "upstream-alt-stat-name", "upstream-rq-timeout-ms",
		"upstream-rq-per-try-timeout-ms", "upstream-rq-timeout-alt-response", "hedge-on-per-try-timeout", "unknown-thing",
	}
	var lines []envoymodel.Line
	add := func(name, value string) { lines = append(lines, envoymodel.Line{Name: name, Value: value}) }
	for range r.IntN(10) {
		switch r.IntN(7) {
		case 0:
			add("x-request-id", id())
		case 1:
			add("x-forwarded-for", address())
		case 2:
			add(pick(r, "x-client-trace-id", "user-agent", "grpc-timeout", "x-secret", "x-other", "b3", "x-b3-sampled", "baggage"), value())
		case 3:
			add("connection", pick(r, "close", "x-request-id, X-Envoy-Force-Trace", "x-other,x-client-trace-id , b3", "x-mesh-internal"))
		default:
			add(prefix()+pick(r, names...), value())
		}
	}
	request := envoymodel.Request{
		Peer:   netip.MustParseAddr(pick(r, "203.0.113.9", "10.0.0.5", "127.0.0.1", "127.0.0.5")),
		Method: http.MethodGet, Path: pick(r, "/", "/healthz"), Lines: lines,
		NoResponseHeaders: r.IntN(10) == 0,
	}
	if r.IntN(30) == 0 {
		// Envoy answers it before the caller can go away.
		request.Method, request.Path, request.NoResponseHeaders = http.MethodOptions, "*", false
	}
	return request
}

// compareGateway takes r through a Handler and returns what the model says otherwise.
func compareGateway(tracing *middleware.Tracing, model envoymodel.Listener, r envoymodel.Request, seen map[string]int) []string {
	h := make(http.Header)
	for _, line := range r.Lines {
		h.Add(line.Name, line.Value)
	}
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	before := tracing.Sampler().Counts()
	var sent http.Header
	handler := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, served *http.Request) {
		sent = served.Header
		r.GeneratedID = string(requestid.FromContext(served.Context()).Canonical())
		if r.NoResponseHeaders {
			leave()
		}
		w.Header().Set("x-request-id", "from-upstream")
	}))
	req := httptest.NewRequestWithContext(ctx, r.Method, "/", nil)
	req.RequestURI, req.URL.Path, req.Header = r.Path, r.Path, h
	req.Proto, req.ProtoMajor, req.ProtoMinor = "HTTP/2.0", 2, 0 // nobody has cut spaces before
	req.RemoteAddr = netip.AddrPortFrom(r.Peer, 40000).String()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, req)

	want := model.Answer(r)
	var m mismatches
	counters := "none"
	if len(want.Counters) > 0 {
		var names []string
		for _, c := range want.Counters {
			names = append(names, string(c))
		}
		slices.Sort(names)
		counters = strings.Join(names, "+")
	}
	equal(&m, "counters that moved", moved(before, tracing.Sampler().Counts()), counters)
	switch {
	case want.Refused:
		seen["refused"]++
		return m // of the rest nobody says anything
	case want.Edge:
		seen["edge"]++
	case want.Internal:
		seen["internal"]++
	default:
		seen["neither"]++
	}
	got := lowerCase(sent)
	names := maps.Clone(want.Upstream)
	maps.Copy(names, got)
	delete(names, "x-forwarded-proto") // the model leaves it out
	delete(names, "connection")        // net/http's own matter
	for name := range names {
		if !slices.Equal(got[name], want.Upstream.Lines(name)) {
			m.addf("%s = %s, the model says %s", name, lines(got[name]), lines(want.Upstream.Lines(name)))
		}
	}
	answer := []string{"from-upstream"}
	if id := want.ResponseRequestID; id != nil {
		answer = []string{*id}
		seen["id in the response"]++
		if *id == "" {
			seen["empty id in the response"]++
		}
	}
	if got := w.Header()["X-Request-Id"]; !slices.Equal(got, answer) && !r.NoResponseHeaders {
		m.addf("x-request-id of the response = %q, the model says %q", got, answer)
	}
	return m
}
