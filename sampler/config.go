package sampler

import (
	"errors"
	"fmt"
	"math"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/requestid"
)

// Config says what is traced. The zero value traces everything that the caller
// did not decide, and follows the caller where it did.
type Config struct {
	// Client is the share of requests with x-client-trace-id that are traced for
	// it, drawn anew for each (D-7, D-13). A Percent is cut to whole percents
	// (D-18). Not set: 100 %.
	Client Fraction
	// Random is the share of requests that are traced though nobody asked (D-9).
	// Not set: 100 %.
	Random Fraction
	// Overall is the share of requests that may be traced at all, whoever asked
	// (D-10). Not set: 100 %.
	Overall Fraction
	// Rules single out requests. The first that matches counts, the others are not
	// looked at.
	Rules []Rule
	// PerSecond is the most new traces a second, 0 for no limit: a bucket that holds
	// one second's worth, at least one. A trace is new where neither the caller
	// nor an earlier hop has decided for it. Forced ones, by header or by B3 debug,
	// take from the bucket but are not held back.
	PerSecond float64
	// ForcedPerSecond is the most traces a second that requests of strangers may
	// force (Request.Stranger): by x-client-trace-id, a B3 debug or sampled flag, a
	// sampled parent or the reason in their id. 0 is none, math.Inf(1) has no limit.
	// Beyond it such a request is decided as if it had asked for nothing.
	ForcedPerSecond float64
	// Use says whether the request id decides and whether its digit is read and
	// written (D-2, RID-11). The zero value does both.
	Use requestid.Use
	// Base is asked as well; nil is nobody. Its answer stands in the place of the
	// caller's flag, and the no of the shares is final as with that (W-14). It sees
	// the caller as a parent, unless that deferred the decision.
	Base sdktrace.Sampler
	// NoVeto takes the last word from the shares: a caller's or Base's yes beats
	// their no, as in Envoy before 1.39 (W-15).
	NoVeto bool
	// AskAlways has Base asked whenever Envoy asks its tracer's sampler: also about a
	// request that the shares hold back, whose tracestate is Base's then (W-17), and
	// about the span of each call that a gateway passes on (W-16). The shares have no say
	// there, so a Base which always says yes has these exported without their parents.
	// The zero value asks where the answer decides; children follow their parent.
	AskAlways bool
	// EnvoyFractions keeps Envoy's way with a Million in Random and Overall, by
	// which 1 % of it and more are everything (D-20). The zero value scales it right.
	EnvoyFractions bool
}

// Shares are the three shares of an Envoy route (D-5). What is not set is 100 %
// where one of the three is set (D-21).
type Shares struct{ Client, Random, Overall Fraction }

// Rule says what becomes of the requests that it matches: those that agree with
// each of Method, Route and Header, where "" agrees with all.
type Rule struct {
	// Method is an HTTP method, in upper case.
	Method string
	// Route is a route template such as /carts/{id}, or /pkg.Service/Method for
	// gRPC. It is exact, or a prefix if it ends in *. It agrees only if the route is
	// known when the decision is made.
	Route string
	// Header is the name of a header that must be there with a value, or
	// "Name: value" for a certain value, or a prefix of it if it ends in *. The
	// value counts as it stands, upper and lower case apart.
	Header string

	// Shares replace those of the Config, all three (D-5). The zero value leaves
	// the Config's; so a rule with a limit alone does not lift its routes to 100 %.
	Shares Shares
	// PerSecond is the most new traces a second for this rule, 0 for no limit;
	// Config.PerSecond holds besides.
	PerSecond float64
	// Drop never traces, whoever asks, and counts as a health check (D-25). The
	// digit of the id stays as it came (RID-13).
	Drop bool
}

// minPerSecond is one trace in about eleven days; what is slower is a mistake.
const minPerSecond = 1e-6

// check returns all mistakes of the Config, joined.
func (cfg *Config) check() error {
	errs := []error{
		Shares{cfg.Client, cfg.Random, cfg.Overall}.check(""),
		checkPerSecond("PerSecond", cfg.PerSecond),
	}
	if !math.IsInf(cfg.ForcedPerSecond, 1) {
		errs = append(errs, checkPerSecond("ForcedPerSecond", cfg.ForcedPerSecond))
	}
	if cfg.Use > requestid.Ignore {
		errs = append(errs, fmt.Errorf("sampler: Use is %v, allowed is PackAndSample, Sample, Pack or Ignore", cfg.Use))
	}
	for i := range cfg.Rules {
		errs = append(errs, cfg.Rules[i].check(fmt.Sprintf("Rules[%d].", i)))
	}
	return errors.Join(errs...)
}

func (r *Rule) check(at string) error {
	errs := []error{
		r.Shares.check(at + "Shares."),
		checkPerSecond(at+"PerSecond", r.PerSecond),
	}
	if !isToken(r.Method) {
		errs = append(errs, fmt.Errorf("sampler: %sMethod is %q, allowed is an HTTP method", at, r.Method))
	}
	if name, value, valued := strings.Cut(r.Header, ":"); !isToken(name) ||
		name == "" && r.Header != "" || valued && strings.Trim(value, " \t") == "" {
		errs = append(errs, fmt.Errorf("sampler: %sHeader is %q, allowed is Name or Name: value", at, r.Header))
	}
	if r.Drop && (r.Shares != Shares{} || r.PerSecond != 0) {
		errs = append(errs, fmt.Errorf("sampler: %sDrop is true beside Shares or PerSecond, allowed is one of them", at))
	}
	return errors.Join(errs...)
}

func (sh Shares) check(at string) error {
	return errors.Join(sh.Client.check(at+"Client"), sh.Random.check(at+"Random"), sh.Overall.check(at+"Overall"))
}

func checkPerSecond(name string, v float64) error {
	if v == 0 || v >= minPerSecond && !math.IsInf(v, 1) {
		return nil
	}
	return fmt.Errorf("sampler: %s is %v, allowed is 0 for no limit or a number from %v up", name, v, minPerSecond)
}

// isToken reports whether s holds only what names of methods and headers are
// made of (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// rule returns the index of the first rule that matches, -1 for none.
func (cfg *Config) rule(r *Request) int {
	for i := range cfg.Rules {
		if cfg.Rules[i].matches(r) {
			return i
		}
	}
	return -1
}

func (r *Rule) matches(q *Request) bool {
	return (r.Method == "" || r.Method == q.Method) &&
		(r.Route == "" || agrees(r.Route, q.Route)) &&
		(r.Header == "" || r.matchesHeader(q.Header))
}

func (r *Rule) matchesHeader(get func(string) string) bool {
	if get == nil {
		return false
	}
	name, want, valued := strings.Cut(r.Header, ":")
	got := get(name)
	if !valued {
		return got != ""
	}
	return agrees(strings.Trim(want, " \t"), got)
}

// agrees compares s with a pattern that may end in *.
func agrees(pattern, s string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(s, prefix)
	}
	return s == pattern
}

// shares returns those that hold for a request under rule i, or under none, on a
// route with shares of its own, or nil.
func (cfg *Config) shares(i int, route *Shares) Shares {
	if route != nil {
		return *route // D-5: all three, and what is not set is 100 %
	}
	if i >= 0 && cfg.Rules[i].Shares != (Shares{}) {
		return cfg.Rules[i].Shares // D-5
	}
	return Shares{cfg.Client, cfg.Random, cfg.Overall}
}

// override puts those of over that are set in the place of sh's (D-22).
func (sh Shares) override(over *Shares) Shares {
	if over == nil {
		return sh
	}
	if over.Client != (Fraction{}) {
		sh.Client = over.Client
	}
	if over.Random != (Fraction{}) {
		sh.Random = over.Random
	}
	if over.Overall != (Fraction{}) {
		sh.Overall = over.Overall
	}
	return sh
}
