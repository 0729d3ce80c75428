package sampler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
)

const (
	plain  = requestid.ID("125a4afb-6f55-44ba-ad80-413f09f48a28") // result 7323
	nine   = requestid.ID("125a4afb-6f55-94ba-ad80-413f09f48a28")
	forceA = requestid.ID("125a4afb-6f55-a4ba-ad80-413f09f48a28")
	joinB  = requestid.ID("125a4afb-6f55-b4ba-ad80-413f09f48a28")
	seven  = requestid.ID("125a4afb-6f55-74ba-ad80-413f09f48a28")
	word   = requestid.ID("my-request-id")
)

var (
	all  = Percent(100)
	none = Percent(0)

	// 0x4bf92f3577b34da6 little-endian is …574475 of a million.
	traceID = trace.TraceID{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36}
	// A 64-bit id of B3: 0x4bf92f3577b34da6 again, in the other half.
	shortID = trace.TraceID{8: 0x4b, 9: 0xf9, 10: 0x2f, 11: 0x35, 12: 0x77, 13: 0xb3, 14: 0x4d, 15: 0xa6}
)

func parent(sampled bool) trace.SpanContext {
	c := trace.SpanContextConfig{TraceID: traceID, SpanID: trace.SpanID{7}, Remote: true}
	if sampled {
		c.TraceFlags = trace.FlagsSampled
	}
	c.TraceState, _ = trace.ParseTraceState("vendor=1")
	return trace.NewSpanContext(c)
}

func TestDecide(t *testing.T) {
	const (
		not     = requestid.NotTraceable
		random  = requestid.Sampling
		service = requestid.ServiceForced
		client  = requestid.ClientForced
	)
	for _, c := range []struct {
		rule string
		r    Request
		cfg  Config
		want Decision
	}{
		{"D-2 nothing else is looked at", Request{}, Config{Use: requestid.Pack, Random: none, Overall: none}, Decision{true, random, false, Unused}},
		{"D-2 digit not written", Request{ID: plain}, Config{Use: requestid.Ignore}, Decision{true, random, false, Unused}},
		{"D-2 digit not read", Request{ID: forceA}, Config{Use: requestid.Pack}, Decision{true, random, false, Unused}},
		{"D-3 no id", Request{}, Config{}, Decision{false, not, false, NoNumber}},
		{"D-3 forced all the same", Request{ID: word, Force: true, Client: true}, Config{}, Decision{false, not, false, NoNumber}},
		{"D-3 two characters", Request{ID: "bb", Force: true}, Config{}, Decision{false, not, false, NoNumber}},
		{"D-5 a rule's shares", Request{ID: plain}, Config{Random: none, Rules: []Rule{{Shares: Shares{Random: all}}}}, Decision{true, random, true, InRandom}},
		{"D-5 all three", Request{ID: plain}, Config{Overall: none, Rules: []Rule{{Shares: Shares{Client: none}}}}, Decision{true, random, true, InRandom}},
		{"D-5 none", Request{ID: plain}, Config{Random: none, Rules: []Rule{{PerSecond: 1}}}, Decision{false, not, false, NotInRandom}},
		{"D-6 sampled", Request{ID: nine}, Config{Random: none}, Decision{true, random, false, EarlierHop}},
		{"D-6 forced", Request{ID: forceA}, Config{Random: none}, Decision{true, service, false, EarlierHop}},
		{"D-6 joined", Request{ID: joinB}, Config{Random: none}, Decision{true, client, false, EarlierHop}},
		{"D-6 skips D-7 and D-8", Request{ID: nine, Client: true, Force: true}, Config{}, Decision{true, random, false, EarlierHop}},
		{"D-7", Request{ID: plain, Client: true}, Config{Random: none}, Decision{true, client, true, ClientJoined}},
		{"D-7 before D-8", Request{ID: plain, Client: true, Force: true}, Config{}, Decision{true, client, true, ClientJoined}},
		{"D-8", Request{ID: plain, Force: true}, Config{Random: none}, Decision{true, service, true, Forced}},
		{"D-9", Request{ID: plain}, Config{}, Decision{true, random, true, InRandom}},
		{"D-9 at the edge of the share", Request{ID: plain}, Config{Random: Of(7324, TenThousand)}, Decision{true, random, true, InRandom}},
		{"D-9 outside", Request{ID: plain}, Config{Random: Of(7323, TenThousand)}, Decision{false, not, false, NotInRandom}},
		{"D-9 outside: the digit stays", Request{ID: seven}, Config{Random: none}, Decision{false, not, false, NotInRandom}},
		{"D-10 random", Request{ID: plain}, Config{Overall: none}, Decision{false, not, false, NotInOverall}},
		{"D-10 forced", Request{ID: plain, Force: true}, Config{Overall: none}, Decision{false, not, false, NotInOverall}},
		{"D-10 an earlier hop's", Request{ID: joinB}, Config{Overall: none}, Decision{false, not, true, NotInOverall}},
		{"D-10 writes 4 over 7", Request{ID: seven}, Config{Overall: none}, Decision{false, not, true, NotInOverall}},
		{"D-12 to D-8", Request{ID: plain, Client: true, Force: true, Draw: 5}, Config{Client: none, Random: none}, Decision{true, service, true, Forced}},
		{"D-12 to D-9", Request{ID: plain, Client: true, Draw: 5}, Config{Client: none}, Decision{true, random, true, InRandom}},
		{"D-13 drawn below", Request{ID: plain, Client: true, Draw: 149}, Config{Client: Percent(50), Random: none}, Decision{true, client, true, ClientJoined}},
		{"D-13 drawn above", Request{ID: plain, Client: true, Draw: 150}, Config{Client: Percent(50), Random: none}, Decision{false, not, false, NotInRandom}},
		{"D-18", Request{ID: plain, Client: true, Draw: 0}, Config{Client: Percent(0.5), Random: none}, Decision{false, not, false, NotInRandom}},
		{"D-20 scaled", Request{ID: plain}, Config{Random: Of(10_000, Million)}, Decision{false, not, false, NotInRandom}},
		{"D-20 Envoy", Request{ID: plain}, Config{Random: Of(10_000, Million), EnvoyFractions: true}, Decision{true, random, true, InRandom}},
		{"D-26 digit of a forced health check", Request{ID: plain, HealthCheck: true, Force: true}, Config{}, Decision{false, requestid.ServiceForced, true, HealthCheck}},
		{"D-25 a rule", Request{ID: plain, Route: "/livez"}, Config{Rules: []Rule{{Route: "/livez", Drop: true}}}, Decision{false, not, false, HealthCheck}},
		{"RID-13 a health check is no reason", Request{ID: nine, HealthCheck: true}, Config{}, Decision{false, requestid.Sampling, false, HealthCheck}},
		{"D-25 beats the caller", Request{ID: plain, HealthCheck: true, Parent: parent(true)}, Config{NoVeto: true}, Decision{false, requestid.Sampling, true, HealthCheck}},
		{"D-25 beats debug", Request{ID: plain, HealthCheck: true, Sampling: propagation.Debug}, Config{}, Decision{false, requestid.Sampling, true, HealthCheck}},
		{"RID-11 not read", Request{ID: joinB}, Config{Use: requestid.Sample, Random: none}, Decision{false, not, false, NotInRandom}},
		{"RID-11 not written", Request{ID: plain}, Config{Use: requestid.Sample}, Decision{true, random, false, InRandom}},
		{"RID-12", Request{ID: "125a4afb"}, Config{}, Decision{true, random, false, InRandom}},
		{"O-4 two ids", Request{ID: nine + "," + nine}, Config{Random: none}, Decision{false, not, false, NotInRandom}},

		{"W-12", Request{ID: plain}, Config{}, Decision{true, random, true, InRandom}},
		{"W-13 yes", Request{ID: plain, Parent: parent(true)}, Config{}, Decision{true, random, true, CallerTraces}},
		{"W-13 no: the digit is Envoy's", Request{ID: plain, Parent: parent(false)}, Config{}, Decision{false, random, true, CallerDoesNot}},
		{"W-13 no, forced", Request{ID: plain, Parent: parent(false), Force: true}, Config{}, Decision{false, service, true, CallerDoesNot}},
		{"W-14", Request{ID: plain, Parent: parent(true)}, Config{Random: none}, Decision{false, not, false, Vetoed}},
		{"W-14 overall", Request{ID: nine, Parent: parent(true)}, Config{Overall: none}, Decision{false, not, true, Vetoed}},
		{"W-14 both say no", Request{ID: plain, Parent: parent(false)}, Config{Random: none}, Decision{false, not, false, NotInRandom}},
		{"W-14 no number", Request{ID: word, Parent: parent(true)}, Config{}, Decision{false, not, false, Vetoed}},
		{"W-15 yes", Request{ID: plain, Parent: parent(true)}, Config{Random: none, NoVeto: true}, Decision{true, not, false, CallerTraces}},
		{"W-15 no", Request{ID: plain, Parent: parent(false)}, Config{NoVeto: true}, Decision{false, random, true, CallerDoesNot}},
		{"W-15 root", Request{ID: plain}, Config{Random: none, NoVeto: true}, Decision{false, not, false, NotInRandom}},

		{"B-4 denied without ids", Request{ID: plain, Sampling: propagation.Deny}, Config{}, Decision{false, random, true, Denied}},
		{"B-4 denied beats force", Request{ID: plain, Sampling: propagation.Deny, Force: true}, Config{NoVeto: true}, Decision{false, service, true, Denied}},
		{"denied with ids is the flag", Request{ID: plain, Sampling: propagation.Deny, Parent: parent(false)}, Config{}, Decision{false, random, true, CallerDoesNot}},
		{"B-4 accepted without ids", Request{ID: plain, Sampling: propagation.Accept}, Config{}, Decision{true, random, true, CallerTraces}},
		{"B-4 accepted, W-14", Request{ID: plain, Sampling: propagation.Accept}, Config{Random: none}, Decision{false, not, false, Vetoed}},
		{"B-4 accepted, W-15", Request{ID: plain, Sampling: propagation.Accept}, Config{Random: none, NoVeto: true}, Decision{true, not, false, CallerTraces}},
		{"deferred is decided here: yes", Request{ID: plain, Sampling: propagation.Deferred, Parent: parent(false)}, Config{}, Decision{true, random, true, InRandom}},
		{"deferred is decided here: no", Request{ID: plain, Sampling: propagation.Deferred, Parent: parent(false)}, Config{Random: none}, Decision{false, not, false, NotInRandom}},
		{"B-1 debug", Request{ID: plain, Sampling: propagation.Debug}, Config{Random: none, Overall: none}, Decision{true, not, false, Debugged}},
		{"B-1 debug with ids", Request{ID: plain, Sampling: propagation.Debug, Parent: parent(true)}, Config{}, Decision{true, random, true, Debugged}},

		{"foreign id, trace id in", Request{ID: word, Trace: traceID}, Config{Random: Of(574_476, Million)}, Decision{true, random, false, TraceInRandom}},
		{"foreign id, trace id out", Request{ID: word, Trace: traceID}, Config{Random: Of(574_475, Million)}, Decision{false, not, false, TraceNotInRandom}},
		{"no id, trace id in", Request{Trace: traceID}, Config{Random: Of(4_476, TenThousand)}, Decision{true, random, false, TraceInRandom}},
		{"no id, trace id out", Request{Trace: traceID}, Config{Random: Of(75, Hundred)}, Decision{false, not, false, TraceNotInRandom}},
		{"64-bit trace id in", Request{Trace: shortID}, Config{Random: Of(76, Hundred)}, Decision{true, random, false, TraceInRandom}},
		{"64-bit trace id out", Request{Trace: shortID}, Config{Random: Of(75, Hundred)}, Decision{false, not, false, TraceNotInRandom}},
		{"foreign id, joined", Request{ID: word, Trace: traceID, Client: true}, Config{Random: none}, Decision{true, client, false, ClientJoined}},
		{"foreign id, forced", Request{ID: word, Trace: traceID, Force: true}, Config{Random: none}, Decision{true, service, false, Forced}},
		{"foreign id, overall", Request{ID: word, Trace: traceID, Force: true}, Config{Overall: none}, Decision{false, not, false, NotInOverall}},
		{"foreign id, the caller has decided", Request{ID: word, Trace: traceID, Parent: parent(true)}, Config{Random: none}, Decision{true, random, false, CallerTraces}},
		{"foreign id, the caller has denied", Request{ID: word, Trace: traceID, Parent: parent(false)}, Config{}, Decision{false, random, false, CallerDoesNot}},
		{"foreign id, W-14 by overall", Request{ID: word, Trace: traceID, Parent: parent(true)}, Config{Overall: none}, Decision{false, not, false, Vetoed}},
		{"an id with a number comes first", Request{ID: plain, Trace: traceID}, Config{Random: Of(7323, TenThousand)}, Decision{false, not, false, NotInRandom}},

		{"what New refuses: a share", Request{ID: plain}, Config{Random: Percent(101)}, Decision{false, not, false, NotInRandom}},
		{"what New refuses: a Use", Request{ID: plain}, Config{Use: 9}, Decision{}},
	} {
		if got := Decide(c.r, c.cfg); got != c.want {
			t.Errorf("%s: Decide(%+v, %+v)\n\t= %+v\n\twant %+v", c.rule, c.r, c.cfg, got, c.want)
		}
		s, err := New(c.cfg)
		if err != nil {
			continue // the last two
		}
		if c.r.Client && c.r.Draw == 0 {
			c.r.Draw = 100 // a Sampler would draw
		}
		if got := s.Decide(c.r); got != c.want {
			t.Errorf("%s: Sampler.Decide(%+v) = %+v, want %+v", c.rule, c.r, got, c.want)
		}
	}
}

func TestRuleMatch(t *testing.T) {
	header := func(m map[string]string) func(string) string {
		return func(name string) string { return m[name] }
	}
	for _, c := range []struct {
		rule Rule
		r    Request
		want bool
	}{
		{Rule{}, Request{}, true},
		{Rule{}, Request{Method: "GET", Route: "/a"}, true},
		{Rule{Method: "GET"}, Request{Method: "GET"}, true},
		{Rule{Method: "GET"}, Request{Method: "POST"}, false},
		{Rule{Method: "GET"}, Request{Method: "get"}, false},
		{Rule{Method: "GET"}, Request{}, false},
		{Rule{Route: "/a"}, Request{Route: "/a"}, true},
		{Rule{Route: "/a"}, Request{Route: "/ab"}, false},
		{Rule{Route: "/a"}, Request{}, false},
		{Rule{Route: "/a*"}, Request{Route: "/ab"}, true},
		{Rule{Route: "/a*"}, Request{Route: "/a"}, true},
		{Rule{Route: "/a/*"}, Request{Route: "/a"}, false},
		{Rule{Route: "/a/*"}, Request{Route: "/a/*"}, true},
		{Rule{Route: "*"}, Request{}, true},
		{Rule{Route: "/{id:[0-9]*}/x"}, Request{Route: "/{id:[0-9]*}/x"}, true},
		{Rule{Route: "/{id:[0-9]*}/x"}, Request{Route: "/{id:[0-9]12}/x"}, false},
		{Rule{Route: "/pkg.Service/Method"}, Request{Route: "/pkg.Service/Method"}, true},
		{Rule{Route: "/pkg.Service/*"}, Request{Route: "/pkg.Service/Method"}, true},
		{Rule{Header: "X-Tenant"}, Request{}, false},
		{Rule{Header: "X-Tenant"}, Request{Header: header(nil)}, false},
		{Rule{Header: "X-Tenant"}, Request{Header: header(map[string]string{"X-Tenant": "a"})}, true},
		{Rule{Header: "X-Tenant: gold"}, Request{Header: header(map[string]string{"X-Tenant": "gold"})}, true},
		{Rule{Header: "X-Tenant: gold"}, Request{Header: header(map[string]string{"X-Tenant": "golden"})}, false},
		{Rule{Header: "X-Tenant: gold"}, Request{Header: header(map[string]string{"X-Tenant": "Gold"})}, false},
		{Rule{Header: "X-Tenant:gold*"}, Request{Header: header(map[string]string{"X-Tenant": "golden"})}, true},
		{Rule{Header: "X-Tenant: gold"}, Request{Header: header(nil)}, false},
		{Rule{Method: "GET", Route: "/a"}, Request{Method: "GET", Route: "/b"}, false},
		{Rule{Method: "GET", Route: "/a"}, Request{Method: "GET", Route: "/a"}, true},
	} {
		if got := c.rule.matches(&c.r); got != c.want {
			t.Errorf("%+v matches %+v: %v, want %v", c.rule, c.r, got, c.want)
		}
		c.rule.Drop = true
		d := Decide(c.r, Config{Rules: []Rule{c.rule}})
		if (d.Why == HealthCheck) != c.want {
			t.Errorf("%+v: Decide(%+v) = %+v, want a drop: %v", c.rule, c.r, d, c.want)
		}
	}
}

func TestFirstRuleCounts(t *testing.T) {
	cfg := Config{Random: none, Rules: []Rule{
		{Method: "GET", Route: "/a", Shares: Shares{Random: none}},
		{Route: "/a*", Shares: Shares{Random: all}},
		{Drop: true},
	}}
	for _, c := range []struct {
		method, route string
		want          Why
	}{
		{"GET", "/a", NotInRandom},
		{"POST", "/a", InRandom},
		{"GET", "/ab", InRandom},
		{"GET", "/b", HealthCheck},
	} {
		if d := Decide(Request{ID: plain, Method: c.method, Route: c.route}, cfg); d.Why != c.want {
			t.Errorf("%s %s: %v, want %v", c.method, c.route, d.Why, c.want)
		}
	}
}

// TestShares walks all results for pairs of random and overall shares.
func TestShares(t *testing.T) {
	ids := make([]requestid.ID, 10_000)
	for i := range ids {
		// The result is that of any number of the same last four digits.
		ids[i] = requestid.ID(fmt.Sprintf("%08x-6f55-44ba-ad80-413f09f48a28", i+10_000*(i%7)))
	}
	traced := func(cfg Config) (n uint32) {
		for _, id := range ids {
			if Decide(Request{ID: id}, cfg).Traced {
				n++
			}
		}
		return n
	}
	for _, a := range []uint32{0, 1, 100, 1_000, 2_525, 5_000, 9_999, 10_000, 10_001} {
		for _, b := range []uint32{0, 1, 99, 5_000, 10_000} { // D-15
			if got, want := traced(Config{Random: Of(a, TenThousand), Overall: Of(b, TenThousand)}), min(a, b, 10_000); got != want {
				t.Errorf("D-15: random %d and overall %d of 10000: %d, want %d", a, b, got, want)
			}
		}
		for _, b := range []uint32{0, 1, 10, 50, 99, 100, 101} { // D-16
			a, b := min(a, 10_000), min(b, 100)
			want := a/100*b + min(a%100, b)
			if got := traced(Config{Random: Of(a, TenThousand), Overall: Of(b, Hundred)}); got != want {
				t.Errorf("D-16: random %d of 10000 and overall %d of 100: %d, want %d", a, b, got, want)
			}
			if got := traced(Config{Random: Of(b, Hundred), Overall: Of(a, TenThousand)}); got != want {
				t.Errorf("D-16: random %d of 100 and overall %d of 10000: %d, want %d", b, a, got, want)
			}
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Fuzz(func(t *testing.T, id, method, route, header string, bits uint32, random, overall, draw uint32) {
		bit := func(i int) bool { return bits>>i&1 != 0 }
		r := Request{
			ID: requestid.ID(id), Method: method, Route: route, Draw: draw,
			Client: bit(0), Force: bit(1), HealthCheck: bit(2),
			Sampling: propagation.Sampling(bits >> 8 % 6),
			Header:   func(string) string { return header },
		}
		if bit(3) {
			r.Parent = parent(bit(4))
		}
		if bit(5) {
			r.Trace = traceID
		}
		cfg := Config{
			Use: requestid.Use(bits >> 16 % 4), NoVeto: bit(6), EnvoyFractions: bit(7),
			Client: Percent(50), Random: Of(random, 1+Denominator(bits>>18%3)), Overall: Of(overall, 1+Denominator(bits>>20%3)),
			Rules: []Rule{{Method: method, Route: route, Header: "X: " + header, PerSecond: 1}, {Route: "/x*", Drop: true}},
		}
		laws(t, r, cfg)
	})
}

// laws checks what holds for every decision.
func laws(t *testing.T, r Request, cfg Config) {
	t.Helper()
	d := Decide(r, cfg)
	if d != Decide(r, cfg) {
		t.Fatalf("Decide(%+v, %+v) is not a function", r, cfg)
	}
	next := r.ID
	if d.Write {
		next = r.ID.WithReason(d.Reason)
		if next == r.ID || next.Reason() != d.Reason || cfg.Use != requestid.PackAndSample {
			t.Fatalf("Decide(%+v, %+v) = %+v: nothing to write", r, cfg, d)
		}
	}
	switch {
	case d.Why == Undecided || d.Why >= whys:
		t.Fatalf("Decide(%+v, %+v) = %+v: no Why", r, cfg, d)
	case d.Traced && (d.Why == HealthCheck || d.Why == Denied || d.Why == CallerDoesNot || d.Why == NotInOverall || d.Why == NotInRandom):
		t.Fatalf("Decide(%+v, %+v) = %+v: traced", r, cfg, d)
	case d.Traced && d.Reason == requestid.NotTraceable && !cfg.NoVeto && r.Sampling != propagation.Debug: // W-14
		t.Fatalf("Decide(%+v, %+v) = %+v: no veto", r, cfg, d)
	case !d.Traced && r.Sampling == propagation.Debug && d.Why != HealthCheck:
		t.Fatalf("Decide(%+v, %+v) = %+v: debug untraced", r, cfg, d)
	}
	// The hop behind comes to the same reason by the id alone.
	if _, ok := r.ID.Number(); !ok || d.Why == HealthCheck || cfg.Use != requestid.PackAndSample || len(r.ID) != 36 {
		return
	}
	behind := Decide(Request{ID: next, Method: r.Method, Route: r.Route, Header: r.Header}, cfg)
	if behind.Reason != d.Reason || behind.Write {
		t.Fatalf("Decide(%+v, %+v) = %+v, but the hop behind has %+v", r, cfg, d, behind)
	}
}

func TestLaws(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	ids := []requestid.ID{"", word, "125a4afb", plain, nine, forceA, joinB, seven}
	for range 50_000 {
		id := ids[rnd.IntN(len(ids))]
		if rnd.IntN(2) == 0 {
			id = requestid.New().WithReason(requestid.Reason(rnd.IntN(4)))
		}
		r := Request{
			ID: id, Client: rnd.IntN(4) == 0, Force: rnd.IntN(4) == 0, HealthCheck: rnd.IntN(8) == 0,
			Sampling: propagation.Sampling(rnd.IntN(5)), Draw: rnd.Uint32(),
		}
		if rnd.IntN(2) == 0 {
			r.Parent = parent(rnd.IntN(2) == 0)
		}
		if rnd.IntN(2) == 0 {
			r.Trace = traceID
		}
		share := func() Fraction { return Of(rnd.Uint32N(11_000), Denominator(1+rnd.IntN(3))) }
		laws(t, r, Config{
			Client: share(), Random: share(), Overall: share(),
			Use: requestid.Use(rnd.IntN(4)), NoVeto: rnd.IntN(4) == 0, EnvoyFractions: rnd.IntN(2) == 0,
		})
	}
}

func TestWhyStrings(t *testing.T) {
	var seen []string
	for w := range whys {
		s := w.String()
		if s == "" || len(s) > 80 || slices.Contains(seen, s) {
			t.Errorf("Why(%d).String() = %q", w, s)
		}
		seen = append(seen, s)
	}
	if got := Why(200).String(); got != "Why(200)" {
		t.Errorf("Why(200).String() = %q", got)
	}
}
