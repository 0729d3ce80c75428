package sampler

import (
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
)

func mustNew(t testing.TB, cfg Config) *Sampler {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatalf("New(%+v): %v", cfg, err)
	}
	return s
}

func TestNewReportsEveryMistake(t *testing.T) {
	_, err := New(Config{
		Client: Percent(-1), Random: Percent(math.NaN()), Overall: Of(1, 7),
		PerSecond: math.Inf(1), Use: 9,
		Rules: []Rule{
			{},
			{Method: "GET /x", Header: "X Tenant", PerSecond: -2, Shares: Shares{Random: Of(3, 0)}},
			{Header: ": gold", Drop: true, PerSecond: 1},
			{Header: "X-Tenant: "},
			{PerSecond: 1e-9},
		},
	})
	want := []string{
		"sampler: Client is Percent(-1), allowed is 0 to 100",
		"sampler: Random is Percent(NaN), allowed is 0 to 100",
		"sampler: Overall is Of(1, 7), allowed is Hundred, TenThousand or Million",
		"sampler: PerSecond is +Inf, allowed is 0 for no limit or a number from 1e-06 up",
		"sampler: Use is Use(9), allowed is PackAndSample, Sample, Pack or Ignore",
		"sampler: Rules[1].Shares.Random is Of(3, 0), allowed is Hundred, TenThousand or Million",
		"sampler: Rules[1].PerSecond is -2, allowed is 0 for no limit or a number from 1e-06 up",
		`sampler: Rules[1].Method is "GET /x", allowed is an HTTP method`,
		`sampler: Rules[1].Header is "X Tenant", allowed is Name or Name: value`,
		`sampler: Rules[2].Header is ": gold", allowed is Name or Name: value`,
		"sampler: Rules[2].Drop is true beside Shares or PerSecond, allowed is one of them",
		`sampler: Rules[3].Header is "X-Tenant: ", allowed is Name or Name: value`,
		"sampler: Rules[4].PerSecond is 1e-09, allowed is 0 for no limit or a number from 1e-06 up",
	}
	if err == nil {
		t.Fatal("New: no error")
	}
	if d := cmp.Diff(want, strings.Split(err.Error(), "\n")); d != "" {
		t.Errorf("New (-want +got):\n%s", d)
	}
}

func TestNewCopiesRules(t *testing.T) {
	rules := []Rule{{Route: "/livez", Drop: true}}
	s := mustNew(t, Config{Rules: rules})
	rules[0].Route = "/changed"
	if d := s.Decide(Request{ID: plain, Route: "/livez"}); d.Why != HealthCheck {
		t.Errorf("Decide after the caller changed its slice: %+v", d)
	}
}

func TestClientShareIsDrawn(t *testing.T) { // D-13
	s := mustNew(t, Config{Client: Percent(50), Random: none})
	const n = 10_000
	joined := 0
	for range n {
		if s.Decide(Request{ID: plain, Client: true}).Traced {
			joined++
		}
	}
	if joined < n/2-400 || joined > n/2+400 { // eight standard deviations
		t.Errorf("client 50 %%: %d of %d requests with one id joined", joined, n)
	}
}

// asked is a Base that keeps what it was asked.
type asked struct {
	result sdktrace.SamplingResult
	calls  []sdktrace.SamplingParameters
}

func (a *asked) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	a.calls = append(a.calls, p)
	return a.result
}

func (a *asked) Description() string { return "asked" }

func TestBase(t *testing.T) {
	const random = requestid.Sampling
	for _, c := range []struct {
		rule   string
		r      Request
		cfg    Config
		yes    bool
		want   Decision
		called bool
	}{
		{"W-14 root, yes and yes", Request{ID: plain}, Config{}, true, Decision{true, random, true, BaseTraces}, true},
		{"W-14 root, no", Request{ID: plain}, Config{}, false, Decision{false, random, true, BaseDoesNot}, true},
		{"W-14 the shares' no is final", Request{ID: plain}, Config{Random: none}, true, Decision{false, 0, false, NotInRandom}, false},
		{"Base beats an unsampled caller", Request{ID: plain, Parent: parent(false)}, Config{}, true, Decision{true, random, true, BaseTraces}, true},
		{"Base beats a sampled caller", Request{ID: plain, Parent: parent(true)}, Config{}, false, Decision{false, random, true, BaseDoesNot}, true},
		{"W-14 caller and Base, but not the shares", Request{ID: plain, Parent: parent(true)}, Config{Random: none}, true, Decision{false, 0, false, Vetoed}, false},
		{"W-15", Request{ID: plain, Parent: parent(true)}, Config{Random: none, NoVeto: true}, true, Decision{true, 0, false, BaseTraces}, true},
		{"W-15 no", Request{ID: plain}, Config{NoVeto: true}, false, Decision{false, random, true, BaseDoesNot}, true},
		{"debug is not asked about", Request{ID: plain, Sampling: propagation.Debug}, Config{}, false, Decision{true, random, true, Debugged}, false},
		{"nor a denial without ids", Request{ID: plain, Sampling: propagation.Deny}, Config{}, true, Decision{false, random, true, Denied}, false},
		{"nor a health check", Request{ID: plain, HealthCheck: true}, Config{}, true, Decision{false, requestid.Sampling, true, HealthCheck}, false},
		{"deferred", Request{ID: plain, Sampling: propagation.Deferred, Parent: parent(false)}, Config{}, true, Decision{true, random, true, BaseTraces}, true},
	} {
		base := &asked{}
		if c.yes {
			base.result.Decision = sdktrace.RecordAndSample
		}
		c.cfg.Base = base
		if got := mustNew(t, c.cfg).Decide(c.r); got != c.want {
			t.Errorf("%s: Decide(%+v) = %+v, want %+v", c.rule, c.r, got, c.want)
		}
		if called := len(base.calls) > 0; called != c.called {
			t.Errorf("%s: Base asked: %v, want %v", c.rule, called, c.called)
		}
	}
}

func TestAskAlways(t *testing.T) {
	own, err := trace.ParseTraceState("own=1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		rule string
		r    Request
		cfg  Config
		want Why
	}{
		{"W-17 the shares hold back", Request{ID: plain, Parent: parent(true)}, Config{Random: none}, Vetoed},
		{"W-17 an earlier hop held back", Request{ID: plain}, Config{Overall: none}, NotInOverall},
		{"D-26", Request{ID: plain, HealthCheck: true}, Config{}, HealthCheck},
	} {
		for _, always := range []bool{false, true} {
			c.cfg.AskAlways, c.cfg.Base = always, &asked{result: sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: own}}
			v := mustNew(t, c.cfg).Judge(c.r)
			if v.Asked != always || (v.Base.Tracestate.Len() > 0) != always || v.Traced {
				t.Errorf("%s: Judge = %+v, want Base asked: %v", c.rule, v, always)
			}
			if want := c.want; v.Why != want && !(want == Vetoed && v.Why == NotInRandom) {
				t.Errorf("%s: Why = %v, want %v", c.rule, v.Why, want)
			}
		}
	}
	debug := mustNew(t, Config{AskAlways: true, Base: &asked{}}).Judge(Request{ID: plain, Sampling: propagation.Debug})
	if debug.Asked {
		t.Errorf("B-1 debug: Judge = %+v, want Base not asked", debug)
	}
}

// D-27: what Judge decided is counted by Count alone.
func TestCount(t *testing.T) {
	s := mustNew(t, Config{})
	for _, r := range []Request{{ID: plain}, {ID: plain, Force: true}, {ID: plain, HealthCheck: true}} {
		v := s.Judge(r)
		before := s.Counts()
		s.Count(v.Decision)
		after, want := s.Counts(), mustNew(t, Config{})
		if d := want.Decide(r); d != v.Decision {
			t.Errorf("Judge(%+v) = %+v, Decide = %+v", r, v.Decision, d)
		}
		for name, n := range want.Counts() {
			if after[name]-before[name] != n {
				t.Errorf("Count(%+v) moved %s by %d, Decide by %d", v.Decision, name, after[name]-before[name], n)
			}
		}
	}
}

func TestBaseIsAskedAboutTheSpan(t *testing.T) {
	base := &asked{}
	s := mustNew(t, Config{Base: base})
	s.Decide(Request{ID: plain, Parent: parent(true), Trace: shortID, Method: "GET", Route: "/carts/{id}"})
	s.Decide(Request{ID: plain, Trace: shortID})
	s.Decide(Request{ID: plain, Sampling: propagation.Deferred, Parent: parent(false)})
	s.Decide(Request{ID: plain})
	s.Decide(Request{ID: plain})
	if len(base.calls) != 5 {
		t.Fatalf("Base was asked %d times, want 5", len(base.calls))
	}
	child, root, deferred, r1, r2 := base.calls[0], base.calls[1], base.calls[2], base.calls[3], base.calls[4]
	if sc := trace.SpanContextFromContext(child.ParentContext); !sc.Equal(parent(true)) || child.TraceID != traceID {
		t.Errorf("with a caller: parent %v, trace %v", sc, child.TraceID)
	}
	if child.Kind != trace.SpanKindServer || child.Name != "GET /carts/{id}" || len(child.Attributes) != 2 ||
		child.Attributes[0].Value.AsString() != "GET" || child.Attributes[1].Value.AsString() != "/carts/{id}" {
		t.Errorf("with a caller: %+v", child)
	}
	if sc := trace.SpanContextFromContext(root.ParentContext); sc.IsValid() || root.TraceID != shortID {
		t.Errorf("without a caller: parent %v, trace %v, want none and %v", sc, root.TraceID, shortID)
	}
	if sc := trace.SpanContextFromContext(deferred.ParentContext); sc.IsValid() || deferred.TraceID != traceID {
		t.Errorf("deferred: parent %v, trace %v, want none and %v", sc, deferred.TraceID, traceID)
	}
	if !r1.TraceID.IsValid() || r1.TraceID == r2.TraceID {
		t.Errorf("without any trace id: %v and %v, want two random ones", r1.TraceID, r2.TraceID)
	}
}

func TestBaseRatioWithoutTraceID(t *testing.T) {
	s := mustNew(t, Config{Base: sdktrace.TraceIDRatioBased(0.25)})
	const n = 10_000
	traced := 0
	for range n {
		if s.Decide(Request{ID: plain}).Traced {
			traced++
		}
	}
	if traced < n/4-350 || traced > n/4+350 { // eight standard deviations
		t.Errorf("ratio 0.25: %d of %d", traced, n)
	}
}

func TestSetShares(t *testing.T) { // D-22
	s := mustNew(t, Config{Random: none, Rules: []Rule{
		{Route: "/rule", Shares: Shares{Random: Of(7323, TenThousand)}},
		{Route: "/overall", Shares: Shares{Overall: none}},
	}})
	why := func(route string) Why { return s.Decide(Request{ID: plain, Route: route}).Why }
	check := func(step string, want ...Why) {
		t.Helper()
		if got := []Why{why("/"), why("/rule"), why("/overall")}; !cmp.Equal(got, want) {
			t.Errorf("%s: %v, want %v", step, got, want)
		}
	}
	check("at first", NotInRandom, NotInRandom, NotInOverall)
	if err := s.SetShares(Shares{Random: Of(24, Hundred)}); err != nil { // 7323 % 100 = 23
		t.Fatal(err)
	}
	check("random set: both levels", InRandom, InRandom, NotInOverall)
	if err := s.SetShares(Shares{Overall: Of(101, Hundred)}); err != nil {
		t.Fatal(err)
	}
	check("overall set, random back", NotInRandom, NotInRandom, InRandom)
	if err := s.SetShares(Shares{Random: Percent(101), Client: Of(1, 0)}); err == nil ||
		err.Error() != "sampler: Client is Of(1, 0), allowed is Hundred, TenThousand or Million\nsampler: Random is Percent(101), allowed is 0 to 100" {
		t.Errorf("SetShares of mistakes: %v", err)
	}
	check("after an error", NotInRandom, NotInRandom, InRandom)
	if err := s.SetShares(Shares{}); err != nil {
		t.Fatal(err)
	}
	check("all back", NotInRandom, NotInRandom, NotInOverall)

	if err := s.SetShares(Shares{Client: none}); err != nil {
		t.Fatal(err)
	}
	if d := s.Decide(Request{ID: plain, Client: true, Draw: 100}); d.Traced {
		t.Errorf("client share set to none: %+v", d)
	}
}

func TestSetSharesWhileServing(t *testing.T) {
	s := mustNew(t, Config{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2_000 {
				if d := s.Decide(Request{ID: plain}); d.Why != InRandom && d.Why != NotInRandom {
					t.Errorf("Decide: %+v", d)
					return
				}
			}
		})
	}
	for i := range 1_000 {
		if err := s.SetShares(Shares{Random: Of(uint32(i%2*100), Hundred)}); err != nil {
			t.Error(err)
		}
		_ = s.Counts()
		_ = s.Description()
	}
	wg.Wait()
	if n := s.Counts(); n["random_sampling"]+n["not_traceable"] != 8_000 {
		t.Errorf("Counts() = %v, want 8000 in all", n)
	}
}

// traced counts how many of n requests are traced.
func traced(s *Sampler, n int, r Request) int {
	c := 0
	for range n {
		if s.Decide(r).Traced {
			c++
		}
	}
	return c
}

func TestPerSecond(t *testing.T) {
	for _, c := range []struct {
		perSecond float64
		first     int // at once
		after     []time.Duration
		then      []int
	}{
		{10, 10, []time.Duration{99 * time.Millisecond, time.Millisecond, time.Second, time.Hour}, []int{0, 1, 10, 10}},
		{7, 7, []time.Duration{time.Second}, []int{7}},
		{2.5, 2, []time.Duration{400 * time.Millisecond, 400 * time.Millisecond, 10 * time.Second}, []int{1, 1, 2}},
		{1, 1, []time.Duration{999 * time.Millisecond, time.Millisecond}, []int{0, 1}},
		{0.1, 1, []time.Duration{9 * time.Second, time.Second}, []int{0, 1}},
		{1e4, 10_000, []time.Duration{100 * time.Microsecond}, []int{1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := mustNew(t, Config{PerSecond: c.perSecond})
			r := Request{ID: plain}
			n := 2*c.first + 10
			if got := traced(s, n, r); got != c.first {
				t.Errorf("PerSecond %v: %d traced at once, want %d", c.perSecond, got, c.first)
			}
			for i, d := range c.after {
				time.Sleep(d)
				if got := traced(s, n, r); got != c.then[i] {
					t.Errorf("PerSecond %v: %d traced %v later (step %d), want %d", c.perSecond, got, d, i, c.then[i])
				}
			}
		})
	}
}

func TestPerSecondOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustNew(t, Config{PerSecond: 10})
		n := 0
		for range 20_000 { // 20 s at 1000 a second
			n += traced(s, 1, Request{ID: plain})
			time.Sleep(time.Millisecond)
		}
		if want := 10 + 20*10; n < want-1 || n > want {
			t.Errorf("PerSecond 10 over 20 s: %d traced, want %d", n, want)
		}
	})
}

func TestPerSecondHoldsBackNewTracesOnly(t *testing.T) {
	limited := Decision{Why: Limited}
	for _, c := range []struct {
		name    string
		r       Request
		cfg     Config
		counted bool // takes from the bucket
		held    bool // is refused by an empty one
	}{
		{"random", Request{ID: plain}, Config{}, true, true},
		{"by trace id", Request{ID: word, Trace: traceID}, Config{}, true, true},
		{"D-2", Request{ID: plain}, Config{Use: requestid.Ignore}, true, true},
		{"deferred", Request{ID: plain, Parent: parent(false), Sampling: propagation.Deferred}, Config{}, true, true},
		{"Base", Request{ID: plain}, Config{Base: sdktrace.AlwaysSample()}, true, true},
		{"forced", Request{ID: plain, Force: true}, Config{}, true, false},
		{"joined", Request{ID: plain, Client: true}, Config{}, true, false},
		{"debug without ids", Request{ID: plain, Sampling: propagation.Debug}, Config{}, true, false},
		{"accepted without ids", Request{ID: plain, Sampling: propagation.Accept}, Config{}, true, false},
		{"an earlier hop's", Request{ID: nine}, Config{}, false, false},
		{"the caller's", Request{ID: plain, Parent: parent(true)}, Config{}, false, false},
		{"the caller's, by trace id", Request{ID: word, Trace: traceID, Parent: parent(true)}, Config{}, false, false},
		{"forced, in the caller's trace", Request{ID: plain, Parent: parent(true), Force: true}, Config{}, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			c.cfg.PerSecond = 1
			s := mustNew(t, c.cfg)
			if d := s.Decide(c.r); !d.Traced {
				t.Errorf("%s: first %+v", c.name, d)
			}
			took := s.Decide(Request{ID: plain}) == limited
			if took != c.counted {
				t.Errorf("%s: takes from the bucket: %v, want %v", c.name, took, c.counted)
			}
			// By now the bucket is empty.
			if d := s.Decide(c.r); (d == limited) != c.held || d.Traced == c.held {
				t.Errorf("%s: out of an empty bucket %+v, want held back: %v", c.name, d, c.held)
			}
			// Forced ones make no debt.
			for range 100 {
				s.Decide(c.r)
			}
			time.Sleep(time.Second)
			if d := s.Decide(Request{ID: plain}); !d.Traced {
				t.Errorf("%s: a second later %+v", c.name, d)
			}
		})
	}
}

func TestRulePerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustNew(t, Config{PerSecond: 5, Rules: []Rule{
			{Route: "/a", PerSecond: 2},
			{Route: "/b", PerSecond: 100},
		}})
		if got := traced(s, 10, Request{ID: plain, Route: "/a"}); got != 2 {
			t.Errorf("/a: %d traced, want 2", got)
		}
		if got := traced(s, 10, Request{ID: plain}); got != 3 {
			t.Errorf("others: %d traced, want what /a left: 3", got)
		}
		if got := traced(s, 10, Request{ID: plain, Route: "/b"}); got != 0 {
			t.Errorf("/b: %d traced, want 0", got)
		}
		// What the common limit refused, the rule's bucket has still.
		if left := s.ruleLimit[1].full.Load(); left > int64(time.Since(s.start)) {
			t.Errorf("/b: the refused ones cost %v of its bucket", time.Duration(left))
		}
	})
}

func TestPerSecondConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustNew(t, Config{PerSecond: 1000})
		var wg sync.WaitGroup
		var mu sync.Mutex
		sum := 0
		for range 8 {
			wg.Go(func() {
				n := traced(s, 500, Request{ID: plain})
				mu.Lock()
				sum += n
				mu.Unlock()
			})
		}
		wg.Wait()
		if sum != 1000 {
			t.Errorf("%d traced, want 1000", sum)
		}
	})
}

func TestLimitedWritesNothing(t *testing.T) {
	s := mustNew(t, Config{PerSecond: 1})
	s.Decide(Request{ID: plain})
	for _, id := range []requestid.ID{plain, seven} {
		if d := s.Decide(Request{ID: id}); d != (Decision{Why: Limited}) {
			t.Errorf("Decide(%q) = %+v", id, d)
		}
	}
}

func TestCounts(t *testing.T) { // D-27
	s := mustNew(t, Config{Random: Of(7324, TenThousand), Rules: []Rule{{Route: "/livez", Drop: true}}})
	if got, want := s.Counts(), map[string]uint64{"client_enabled": 0, "random_sampling": 0, "service_forced": 0, "not_traceable": 0, "health_check": 0}; !cmp.Equal(got, want) {
		t.Errorf("Counts() = %v, want %v", got, want)
	}
	for range 2 {
		s.Decide(Request{ID: plain})
	}
	s.Decide(Request{ID: "ffffffff"}) // 7295
	s.Decide(Request{ID: "00002700"}) // 9984
	s.Decide(Request{ID: plain, Client: true})
	s.Decide(Request{ID: plain, Force: true})
	s.Decide(Request{ID: joinB})
	s.Decide(Request{ID: word})
	s.Decide(Request{ID: plain, Route: "/livez"})
	s.Decide(Request{ID: plain, HealthCheck: true})
	s.Decide(Request{ID: plain, Parent: parent(false)})
	want := map[string]uint64{
		"client_enabled": 2, "random_sampling": 4, "service_forced": 1, "not_traceable": 4, "health_check": 2,
		InRandom.String(): 3, NotInRandom.String(): 1, ClientJoined.String(): 1, Forced.String(): 1, EarlierHop.String(): 1,
		NoNumber.String(): 1, HealthCheck.String(): 2, CallerDoesNot.String(): 1,
	}
	got := s.Counts()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Counts() (-want +got):\n%s", d)
	}
	got["random_sampling"] = 99
	if s.Counts()["random_sampling"] != 4 {
		t.Error("Counts() hands out its own map")
	}
}

func TestDescription(t *testing.T) {
	s := mustNew(t, Config{
		Random: Percent(1), PerSecond: 50, NoVeto: true, Use: requestid.Sample,
		Rules: []Rule{{Drop: true}}, Base: sdktrace.AlwaysSample(),
	})
	if err := errors.Join(s.SetShares(Shares{Overall: Of(50, Hundred)})); err != nil {
		t.Fatal(err)
	}
	want := "meshtrace{client:unset,random:1% (100/10000),overall:50% (50/100),rules:1,perSecond:50,use:Sample,base:AlwaysOnSampler,noVeto}"
	if got := s.Description(); got != want {
		t.Errorf("Description() = %q, want %q", got, want)
	}
	if got, want := mustNew(t, Config{}).Description(), "meshtrace{client:unset,random:unset,overall:unset}"; got != want {
		t.Errorf("Description() = %q, want %q", got, want)
	}
}

func TestDecideAllocs(t *testing.T) {
	cfg := Config{PerSecond: 1e6, Random: Percent(90), Rules: []Rule{{Route: "/livez", Drop: true}, {Header: "X-Tenant: gold", PerSecond: 1e6}}}
	s := mustNew(t, cfg)
	get := func(string) string { return "gold" }
	for _, r := range []Request{
		{ID: plain},
		{ID: plain, Client: true, Parent: parent(true), Method: "GET", Route: "/x", Header: get},
		{ID: word, Trace: traceID},
		{ID: plain, Route: "/livez"},
	} {
		if n := testing.AllocsPerRun(100, func() { sinkDecision = Decide(r, cfg) }); n != 0 {
			t.Errorf("Decide(%+v): %v allocations", r, n)
		}
		if n := testing.AllocsPerRun(100, func() { sinkDecision = s.Decide(r) }); n != 0 {
			t.Errorf("Sampler.Decide(%+v): %v allocations", r, n)
		}
	}
}

// TestStranger: what strangers ask for costs at most the budget, and what is over it
// is decided as if they had not asked. The digit of their id goes, too.
func TestStranger(t *testing.T) {
	const (
		id      = requestid.ID("125a4afb-6f55-44ba-ad80-413f09f48a28")
		sampled = requestid.ID("125a4afb-6f55-94ba-ad80-413f09f48a28")
	)
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled})
	asking := map[string]Request{
		"D-7 client":  {ID: id, Client: true},
		"D-8 force":   {ID: id, Force: true},
		"D-6 digit":   {ID: sampled},
		"W-13 parent": {ID: id, Parent: parent},
		"B-1 debug":   {ID: id, Sampling: propagation.Debug},
		"B-4 accept":  {ID: id, Sampling: propagation.Accept},
	}
	for name, r := range asking {
		r.Stranger = true
		for _, tt := range []struct {
			budget   float64
			min, max int
		}{{0, 0, 0}, {10, 10, 11}, {math.Inf(1), 500, 500}} {
			// Without the veto each of the six is traced when nobody holds it back.
			s, err := New(Config{Random: Percent(0), NoVeto: true, ForcedPerSecond: tt.budget})
			if err != nil {
				t.Fatal(err)
			}
			traced := 0
			for range 500 {
				d := s.Decide(r)
				if d.Traced {
					traced++
				} else if r.ID == sampled && !d.Write {
					t.Errorf("%s: a trace that was refused keeps its digit: %+v", name, d)
				}
			}
			if traced < tt.min || traced > tt.max {
				t.Errorf("%s, budget %v: %d of 500 traced, want %d to %d", name, tt.budget, traced, tt.min, tt.max)
			}
		}
	}
	// Within the random share nobody's wish is needed.
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if d := s.Decide(Request{ID: id, Stranger: true, Client: true}); !d.Traced {
		t.Errorf("a stranger within the random share: %+v, want it traced", d)
	}
}

// TestRouteShares is D-5: a route's shares replace all three, and what is unset in
// them is 100 %.
func TestRouteShares(t *testing.T) {
	r := Request{ID: "125a4afb-6f55-44ba-ad80-413f09f48a28", Shares: &Shares{}}
	if d := Decide(r, Config{Random: Percent(0), Overall: Percent(0)}); !d.Traced {
		t.Errorf("route without shares of its own: %+v, want 100 %%", d)
	}
	r.Shares = &Shares{Random: Percent(0)}
	if d := Decide(r, Config{}); d.Traced {
		t.Errorf("route with 0 %%: %+v, want no trace", d)
	}
}
