package envoymodel

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/meshtrace/meshtrace/internal/parity"
)

// skippedHeaders are the upstream headers that the model says nothing of.
var skippedHeaders = map[string]string{
	"traceparent":                    "written by the tracer",
	"tracestate":                     "written by the tracer",
	"b3":                             "written by the tracer",
	"x-b3-traceid":                   "written by the tracer",
	"x-b3-spanid":                    "written by the tracer",
	"x-b3-parentspanid":              "written by the tracer",
	"x-b3-sampled":                   "written by the tracer",
	"x-forwarded-proto":              "written from the connection",
	":path":                          "recorded only where the request line or a redirect changes it",
	":authority":                     "recorded only where the request line changes it",
	"x-envoy-expected-rq-timeout-ms": "the router writes its own, from its timeouts",
}

// skippedAfterRedirect are those that a followed internal redirect changes besides.
var skippedAfterRedirect = map[string]string{
	"x-envoy-original-url": "written by the router",
}

// notRecorded are headers of a request that the recording leaves out.
var notRecorded = []string{"host", "content-length", "content-type", "accept-encoding", "connection", "te", "transfer-encoding", "upgrade"}

// Every recorded answer of Envoy is the model's. What the recording does not
// say, which id was made and which number the client check drew, is tried at
// both ends, so that no answer rests on it.
func TestLive(t *testing.T) {
	path := dataFile("MESHTRACE_LIVE", "envoy-live.json")
	live, err := parity.LoadLive(path)
	if err != nil {
		t.Fatalf("recorded answers, which MESHTRACE_LIVE may name: %v", err)
	}
	hostless, err := casesWithoutHost(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(live.Cases) != live.Meta.Total || len(live.Cases) == 0 {
		t.Fatalf("%d cases, the file says %d", len(live.Cases), live.Meta.Total)
	}
	var n tally
	used := make(map[string]bool)
	for _, c := range live.Cases {
		t.Run(c.Name, func(t *testing.T) { compareCase(t, c, hostless[c.Name], &n, used) })
	}
	if n.cases < len(live.Cases) {
		return // some are filtered out by -run, or have failed early
	}
	for _, table := range []map[string]string{skippedHeaders, skippedAfterRedirect} {
		for name, reason := range table {
			if !used[name] {
				t.Errorf("%q is skipped (%s) but does not occur", name, reason)
			}
		}
	}
	t.Logf("%d cases and %d further attempts compared: %d decisions, %d client addresses, %d upstream headers (%d of them absent), %d response headers, %d untraced requests without a span; %d upstream headers skipped",
		n.cases, n.attempts, n.decisions, n.clients, n.headers, n.absent, n.responses, n.untraced, n.skipped)
}

type tally struct{ cases, attempts, decisions, clients, headers, absent, responses, skipped, untraced int }

func compareCase(t *testing.T, c parity.Case, hostless bool, n *tally, used map[string]bool) {
	listener, err := listenerOf(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	for i, chance := range []struct {
		id   string
		draw uint64
	}{
		{"00000000-6f55-44ba-ad80-413f09f48a28", 0},
		{"0000270f-6f55-44ba-ad80-413f09f48a28", 999_999}, // number 9999, and a draw that no share below 100 % passes
	} {
		request := requestOf(c)
		request.Refused = hostless // 400
		request.GeneratedID, request.ClientDraw = chance.id, chance.draw
		answer := listener.Answer(request)

		compared := new(tally)
		compareAnswer(t, c, answer, chance.id, compared, used)
		if i == 0 {
			n.add(*compared)
		}
	}
}

func (n *tally) add(m tally) {
	n.cases++
	n.attempts += m.attempts
	n.decisions += m.decisions
	n.clients += m.clients
	n.headers += m.headers
	n.absent += m.absent
	n.responses += m.responses
	n.skipped += m.skipped
	n.untraced += m.untraced
}

func compareAnswer(t *testing.T, c parity.Case, answer Answer, generatedID string, n *tally, used map[string]bool) {
	n.decisions++
	if got, want := movedCounters(answer), c.Expect.Decision; got != want {
		t.Errorf("decision = %s, recorded %s", got, want)
	}
	if !answer.Traced && obeys(c.Config) {
		n.untraced++
		if len(c.Expect.Spans) > 0 {
			t.Errorf("not traced, but %d spans recorded", len(c.Expect.Spans))
		}
	}
	if want := c.Expect.ClientAddress; want != "" {
		n.clients++
		if got := answer.ClientAddress.String(); got != want {
			t.Errorf("client address = %s, recorded %s", got, want)
		}
	}
	if c.Expect.UpstreamRequestHeaders != nil {
		if answer.Refused {
			t.Error("refused, but the request reached the upstream")
		}
		compareUpstream(t, answer.Upstream, c.Expect.UpstreamRequestHeaders, []map[string]string{skippedHeaders}, generatedID, n, used)
	}
	skip := []map[string]string{skippedHeaders}
	if redirected(c) {
		skip = append(skip, skippedAfterRedirect)
	}
	for _, attempt := range c.Expect.LaterAttempts {
		n.attempts++
		compareUpstream(t, answer.Upstream, attempt, skip, generatedID, n, used)
	}
	if c.Expect.Response == nil {
		return
	}
	if want, ok := c.Expect.Response.Headers["x-request-id"]; ok {
		n.responses++
		var got []string
		switch {
		case answer.ResponseRequestID != nil:
			got = []string{*answer.ResponseRequestID}
		case c.Expect.UpstreamRequestHeaders != nil: // otherwise the proxy answered
			got = upstreamResponseLines(c.Upstream, "x-request-id")
		}
		if want := expand(want, generatedID); !slices.Equal(got, want) {
			t.Errorf("response x-request-id = %q, recorded %q", got, want)
		}
	}
}

// obeys reports whether the tracer exports no span of an untraced request: D-28
// of OpenTelemetry, but for a refresh (D-24) and a sampler's spawned child.
func obeys(p parity.Proxy) bool {
	return p.Tracer == "opentelemetry" && p.RouteAfterRefresh == nil && p.Sampler == nil
}

// compareUpstream compares every header that either side has.
func compareUpstream(t *testing.T, got Header, recorded map[string]parity.Lines, skips []map[string]string, generatedID string, n *tally, used map[string]bool) {
	names := make(map[string]bool)
	for name := range recorded {
		names[name] = true
	}
	for name := range got {
		if !slices.Contains(notRecorded, name) {
			names[name] = true
		}
	}
	for name := range names {
		if skipped(name, skips, used) {
			n.skipped++
			continue
		}
		n.headers++
		if recorded[name] == nil {
			n.absent++
		}
		if got, want := got.Lines(name), expand(recorded[name], generatedID); !slices.Equal(got, want) {
			t.Errorf("upstream %s = %q, recorded %q", name, got, want)
		}
	}
}

func skipped(name string, skips []map[string]string, used map[string]bool) bool {
	for _, table := range skips {
		if _, ok := table[name]; ok {
			used[name] = true
			return true
		}
	}
	return false
}

// movedCounters writes the counters as the recording does: in alphabetical order, none without any.
func movedCounters(a Answer) string {
	if len(a.Counters) == 0 {
		return "none"
	}
	var names []string
	for _, reason := range a.Counters {
		names = append(names, string(reason))
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "+")
}

var madeID = regexp.MustCompile(`\{\{uuid4:(.)\}\}`)

// expand puts an id that the proxy made in the place of its placeholder.
func expand(lines parity.Lines, generatedID string) []string {
	var out []string
	for _, line := range lines {
		out = append(out, madeID.ReplaceAllString(line, generatedID[:14]+"${1}"+generatedID[15:]))
	}
	return out
}

func upstreamResponseLines(up parity.Upstream, name string) []string {
	var lines []string
	for _, field := range up.Headers {
		if strings.EqualFold(field[0], name) {
			lines = append(lines, field[1])
		}
	}
	return lines
}

// listenerOf turns the configuration of a case into the model's.
func listenerOf(p parity.Proxy) (Listener, error) {
	l := Listener{
		UseRemoteAddress:     p.UseRemoteAddress,
		XFFNumTrustedHops:    p.XFFNumTrustedHops,
		LocalAddress:         netip.MustParseAddr("10.3.2.1"), // the recording's
		GenerateOff:          off(p.GenerateRequestID),
		PreserveExternal:     p.PreserveExternalRequestID,
		AlwaysSetInResponse:  p.AlwaysSetRequestIDInResponse,
		PackOff:              off(p.PackTraceReason),
		SampleByRequestIDOff: off(p.UseRequestIDForTraceSampling),
		InternalOnlyHeaders:  p.InternalOnlyHeaders,
		AddUserAgent:         p.AddUserAgent,
		NodeID:               "node-1", // the recording's, where a case has no proxy of its own
		NodeCluster:          "mesh-1",
		HeaderPrefix:         p.Node.HeaderPrefix,
		Route:                routeOf(p.Route),
		HealthCheckPath:      p.HealthCheckPath,
		Egress:               p.Direction == "egress",
	}
	if p.Node.Cluster != "" {
		l.NodeID, l.NodeCluster = p.Node.ID, p.Node.Cluster
	}
	if p.InternalCIDRs != nil {
		l.InternalCIDRs = cidrs(p.InternalCIDRs)
	}
	if p.Tracer != "none" {
		l.Tracing = &Tracing{Client: p.ClientSampling, Random: p.RandomSampling, Overall: p.OverallSampling, Operation: p.Operation != ""}
	}
	if p.RouteAfterRefresh != nil {
		l.RefreshedRoute = new(routeOf(*p.RouteAfterRefresh))
	}
	for key, value := range p.Node.Runtime {
		fraction, err := runtimeOf(value)
		switch key {
		case "tracing.client_enabled":
			l.Runtime.Client = fraction
		case "tracing.random_sampling":
			l.Runtime.Random = fraction
		case "tracing.global_enabled":
			l.Runtime.Overall = fraction
		default:
			continue // concerns the tracer
		}
		if err != nil {
			return Listener{}, fmt.Errorf("runtime key %s: %w", key, err)
		}
	}
	return l, nil
}

func off(setting *bool) bool { return setting != nil && !*setting }

func cidrs(texts []string) []netip.Prefix {
	ranges := []netip.Prefix{}
	for _, text := range texts {
		ranges = append(ranges, netip.MustParsePrefix(text))
	}
	return ranges
}

func routeOf(p parity.Route) Route {
	var r Route
	if p.NoRoute {
		return r
	}
	if t := p.Tracing; t != nil {
		r.Tracing = &RouteTracing{
			Client:    fractionOf(t.ClientSampling),
			Random:    fractionOf(t.RandomSampling),
			Overall:   fractionOf(t.OverallSampling),
			Operation: t.Operation != "",
		}
	}
	if d := p.Decorator; d != nil {
		r.Decorator = &Decorator{Operation: d.Operation, PropagateOff: off(d.Propagate)}
	}
	return r
}

func fractionOf(f *parity.Fraction) *Fraction {
	if f == nil {
		return nil
	}
	return &Fraction{uint64(f.Numerator), denominator(f.Denominator)}
}

// denominator reads Envoy's name of one; without a name it is HUNDRED.
func denominator(name string) uint64 {
	switch name {
	case "", "HUNDRED":
		return 100
	case "TEN_THOUSAND":
		return 10_000
	case "MILLION":
		return 1_000_000
	}
	panic("no denominator: " + name)
}

// runtimeOf reads a runtime value: an integer percentage or a fraction.
func runtimeOf(value json.RawMessage) (*Fraction, error) {
	var percent uint64
	if json.Unmarshal(value, &percent) == nil {
		return &Fraction{percent, 100}, nil
	}
	var f parity.Fraction
	if err := json.Unmarshal(value, &f); err != nil {
		return nil, err
	}
	return fractionOf(&f), nil
}

// requestOf turns the request of a case into the model's.
func requestOf(c parity.Case) Request {
	r := Request{
		Peer:                 netip.MustParseAddr("203.0.113.9"), // the recording's
		Method:               c.Request.Method,
		Path:                 c.Request.Path,
		NoResponseHeaders:    c.Request.AbortAfterMS != 0,
		RedirectedInternally: redirected(c),
	}
	if c.Request.Peer != "" {
		r.Peer = netip.MustParseAddr(c.Request.Peer)
	}
	for _, field := range c.Request.Headers {
		r.Lines = append(r.Lines, Line{Name: field[0], Value: field[1]})
	}
	return r
}

func redirected(c parity.Case) bool {
	return c.Config.Route.InternalRedirect && c.Upstream.Status == 302
}

// casesWithoutHost finds the requests that were sent with an empty host, which
// parity.Request cannot tell from a host left to its default.
func casesWithoutHost(path string) (map[string]bool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var live struct {
		Cases []struct {
			Name    string
			Request struct{ Host *string }
		}
	}
	if err := json.Unmarshal(b, &live); err != nil {
		return nil, err
	}
	found := make(map[string]bool)
	for _, c := range live.Cases {
		if host := c.Request.Host; host != nil && *host == "" {
			found[c.Name] = true
		}
	}
	return found, nil
}

// dataFile returns where a file of recorded data stands.
func dataFile(variable, name string) string {
	if path := os.Getenv(variable); path != "" {
		return path
	}
	return filepath.Join("..", "testdata", name)
}
