package sampler

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/internal/tally"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
)

// Sampler decides with limits, [Config].Base and counters. It is an
// sdktrace.Sampler and safe for concurrent use. New makes one; the zero value is
// not usable.
type Sampler struct {
	cfg        Config // not changed after New
	headerRule bool   // a rule asks for a header
	start      time.Time
	limit      limiter
	forced     limiter   // of strangers
	ruleLimit  []limiter // one a rule
	over       atomic.Pointer[Shares]
	counts     *tally.Tally               // by Why and Reason
	attributes [whys][]attribute.KeyValue // built once, so that a reason costs nothing
}

var _ sdktrace.Sampler = (*Sampler)(nil)

const reasons = requestid.ClientForced + 1

// New returns a Sampler. The error joins every mistake in cfg, each with the
// field, its value and what is allowed. cfg is copied; Base is shared.
func New(cfg Config) (*Sampler, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Sampler{cfg: cfg, start: time.Now(), ruleLimit: make([]limiter, len(cfg.Rules)), counts: tally.New(int(whys) * int(reasons))}
	s.cfg.Rules = slices.Clone(cfg.Rules)
	s.limit.set(cfg.PerSecond)
	if !math.IsInf(cfg.ForcedPerSecond, 1) {
		s.forced.set(cfg.ForcedPerSecond)
	}
	for i := range cfg.Rules {
		s.ruleLimit[i].set(cfg.Rules[i].PerSecond)
		s.headerRule = s.headerRule || cfg.Rules[i].Header != ""
	}
	for w := range whys {
		s.attributes[w] = []attribute.KeyValue{semconv.SamplingReason.String(w.String())}
	}
	return s, nil
}

// Decide is the function [Decide] with limits, Base, the shares of SetShares and
// counters. Call it once a request. Base is asked about a server span with
// r.Parent around it, as a trace of r.Trace; where neither has a trace id, of a
// random one. It does not allocate unless there is a Base.
func (s *Sampler) Decide(r Request) Decision {
	v := s.decide(&r, nil)
	s.Count(v.Decision)
	return v.Decision
}

// Verdict is a Decision with what Config.Base said to it.
type Verdict struct {
	Decision
	// Asked tells whether Base had a say.
	Asked bool
	// Base is its answer, zero unless Asked. The span, sampled or not, has the
	// tracestate in it, also an empty one (W-17), and the attributes.
	Base sdktrace.SamplingResult
}

// Judge is Decide for whoever starts the span and counts the decision itself, by
// Count, once the request was answered (D-27). Call it once a request.
func (s *Sampler) Judge(r Request) Verdict { return s.decide(&r, nil) }

// Count counts d as Decide would have.
func (s *Sampler) Count(d Decision) {
	if d.Why == HealthCheck {
		d.Reason = requestid.NotTraceable // D-27: and as health_check
	}
	s.counts.Add(counter(d.Why, d.Reason), unsafe.Pointer(&d))
}

// counter is where counts has a decision.
func counter(w Why, r requestid.Reason) int { return int(w)*int(reasons) + int(r) }

// decide asks Base by p, or makes one of r.
func (s *Sampler) decide(r *Request, p *sdktrace.SamplingParameters) Verdict {
	i := s.cfg.rule(r)
	if i >= 0 && s.cfg.Rules[i].Drop {
		return Verdict{Decision: Decision{Why: HealthCheck}}
	}
	if r.Client && r.Draw == 0 {
		r.Draw = rand.Uint32() // D-13
	}
	sh := s.cfg.shares(i, r.Shares).override(s.over.Load())
	if r.HealthCheck {
		v := Verdict{Decision: unsampled(decide(r, &s.cfg, &sh))}
		if s.cfg.Base != nil && s.cfg.AskAlways { // D-26: the trace is taken back afterwards
			v.Base, v.Asked = s.askBase(r, p), true
		}
		return v
	}
	v, own := s.ask(r, &sh, p)
	if r.Stranger && v.Traced && wants(r) {
		quiet := r.quiet()
		if q, _ := s.ask(&quiet, &sh, p); !q.Traced && !s.takeForced() {
			// The reason in its id goes, too, or the next hop would trace it.
			q.Write = q.Write || s.cfg.packs() && !says(r.ID, q.Reason)
			return q
		}
	}
	if v.Traced && isNew(r, own) && !s.take(i, isForced(r, own)) {
		return Verdict{Decision: Decision{Why: Limited}}
	}
	return v
}

// ask decides about r without any limit, and returns the shares' part of it, too.
func (s *Sampler) ask(r *Request, sh *Shares, p *sdktrace.SamplingParameters) (v Verdict, own Decision) {
	own = decide(r, &s.cfg, sh)
	base := silent
	if s.cfg.Base != nil && s.baseCounts(r, own) {
		v.Base, v.Asked = s.askBase(r, p), true
		if r.Sampling == propagation.Deferred && v.Base.Tracestate.Len() == 0 {
			v.Base.Tracestate = r.Parent.TraceState() // Base was not shown the parent
		}
		base = no
		if v.Base.Decision == sdktrace.RecordAndSample {
			base = yes
		}
	}
	v.Decision = settle(r, own, s.cfg.NoVeto, base)
	return v, own
}

// wants reports whether something in r asks for a trace.
func wants(r *Request) bool {
	return r.Client || r.Force || r.Sampling == propagation.Debug || r.Sampling == propagation.Accept ||
		r.Parent.IsSampled() || r.ID.Reason() != requestid.NotTraceable
}

// quiet returns r without what asks for a trace. The parent stays, and leaves the
// decision to this hop.
func (r *Request) quiet() Request {
	q := *r
	q.Client, q.Force = false, false
	q.ID = q.ID.WithReason(requestid.NotTraceable)
	q.Sampling = propagation.Unstated
	if q.Parent.IsValid() {
		q.Sampling = propagation.Deferred
		q.Parent = q.Parent.WithTraceFlags(q.Parent.TraceFlags() &^ trace.FlagsSampled)
	}
	return q
}

// takeForced takes room for a trace that a stranger asks for.
func (s *Sampler) takeForced() bool {
	switch {
	case s.cfg.ForcedPerSecond == 0:
		return false
	case s.forced.interval == 0:
		return true
	}
	return s.forced.take(int64(time.Since(s.start)), false)
}

// baseCounts reports whether Base's answer can change the decision, or is asked for
// all the same.
func (s *Sampler) baseCounts(r *Request, own Decision) bool {
	return (own.Traced || s.cfg.NoVeto || s.cfg.AskAlways) && r.Sampling != propagation.Debug && !denied(r)
}

// askBase asks Base by p, or by what r knows where p is nil.
func (s *Sampler) askBase(r *Request, p *sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if p == nil {
		p = parameters(r)
	}
	if r.Sampling == propagation.Deferred {
		// A parent that says neither yes nor no would be taken for a no.
		q := *p
		q.ParentContext = trace.ContextWithSpanContext(q.ParentContext, trace.SpanContext{})
		p = &q
	}
	return s.cfg.Base.ShouldSample(*p)
}

// parameters describes r as the SDK would describe its server span.
func parameters(r *Request) *sdktrace.SamplingParameters {
	p := &sdktrace.SamplingParameters{
		ParentContext: trace.ContextWithRemoteSpanContext(context.Background(), r.Parent),
		TraceID:       r.Trace,
		Name:          strings.TrimSpace(r.Method + " " + r.Route),
		Kind:          trace.SpanKindServer,
	}
	if r.Parent.IsValid() {
		p.TraceID = r.Parent.TraceID()
	}
	for !p.TraceID.IsValid() { // an id of zeros would be within every ratio
		binary.NativeEndian.PutUint64(p.TraceID[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(p.TraceID[8:], rand.Uint64())
	}
	if r.Method != "" {
		p.Attributes = append(p.Attributes, semconv.HTTPRequestMethod.String(r.Method))
	}
	if r.Route != "" {
		p.Attributes = append(p.Attributes, semconv.HTTPRoute.String(r.Route))
	}
	return p
}

// isNew reports whether nobody has traced the request before.
func isNew(r *Request, own Decision) bool {
	return own.Why != EarlierHop && !(r.Parent.IsValid() && r.Parent.IsSampled())
}

// isForced reports whether somebody asked for this trace.
func isForced(r *Request, own Decision) bool {
	return own.Reason == requestid.ClientForced || own.Reason == requestid.ServiceForced ||
		r.Sampling == propagation.Debug || r.Sampling == propagation.Accept
}

// take takes room for a new trace out of the limits of rule i and of all.
func (s *Sampler) take(i int, forced bool) bool {
	var own *limiter
	if i >= 0 {
		own = &s.ruleLimit[i]
	}
	if s.limit.interval == 0 && (own == nil || own.interval == 0) {
		return true // without asking the clock
	}
	now := int64(time.Since(s.start))
	if own != nil && !own.take(now, forced) {
		return false
	}
	if !s.limit.take(now, forced) {
		if own != nil {
			own.giveBack()
		}
		return false
	}
	return true
}

// SetShares replaces shares while requests are served, those of the Config and of
// all Rules alike, as Envoy's runtime keys tracing.client_enabled,
// tracing.random_sampling and tracing.global_enabled do (D-22). A share that is
// not set goes back to what the Config and its Rules say. An integer of a runtime
// key is Of(n, Hundred). After an error, which joins every mistake, nothing has
// changed.
func (s *Sampler) SetShares(sh Shares) error {
	if err := sh.check(""); err != nil {
		return err
	}
	if sh == (Shares{}) {
		s.over.Store(nil)
		return nil
	}
	s.over.Store(&sh)
	return nil
}

// Counts returns how many decisions were made, in a new map: by Why, under its
// String, where there were any, and under Envoy's five names (D-27):
// client_enabled, random_sampling, service_forced, not_traceable, which count the
// reason, and health_check, which is counted as not_traceable too. The middleware of a
// gateway counts a decision when the response's headers go out. A decision
// that was taken over from the parent span in this process is not counted. The
// numbers are each exact, but not of one instant.
func (s *Sampler) Counts() map[string]uint64 {
	var byReason [reasons]uint64
	m := make(map[string]uint64, int(whys)+5)
	for w := range whys {
		var n uint64
		for r := range reasons {
			c := s.counts.Load(counter(w, r))
			n += c
			byReason[r] += c
		}
		if n > 0 {
			m[w.String()] = n
		}
	}
	m["client_enabled"] = byReason[requestid.ClientForced]
	m["random_sampling"] = byReason[requestid.Sampling]
	m["service_forced"] = byReason[requestid.ServiceForced]
	m["not_traceable"] = byReason[requestid.NotTraceable]
	m["health_check"] = m[HealthCheck.String()]
	return m
}

// Description names the sampler and what it does now, SetShares included.
func (s *Sampler) Description() string {
	sh := s.cfg.shares(-1, nil).override(s.over.Load())
	var b strings.Builder
	fmt.Fprintf(&b, "meshtrace{client:%v,random:%v,overall:%v", sh.Client, sh.Random, sh.Overall)
	if n := len(s.cfg.Rules); n > 0 {
		fmt.Fprintf(&b, ",rules:%d", n)
	}
	if s.cfg.PerSecond > 0 {
		fmt.Fprintf(&b, ",perSecond:%v", s.cfg.PerSecond)
	}
	if s.cfg.Use != requestid.PackAndSample {
		fmt.Fprintf(&b, ",use:%v", s.cfg.Use)
	}
	if s.cfg.Base != nil {
		fmt.Fprintf(&b, ",base:%s", s.cfg.Base.Description())
	}
	if s.cfg.NoVeto {
		b.WriteString(",noVeto")
	}
	b.WriteByte('}')
	return b.String()
}
