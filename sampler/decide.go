package sampler

import (
	"encoding/binary"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
)

// Request is all that a decision is made from. The zero value is a request that
// brought nothing.
type Request struct {
	// ID is the travelling request id, "" for none.
	ID requestid.ID
	// Client and Force are the presence of x-client-trace-id and
	// x-envoy-force-trace, whatever their values (D-11).
	Client, Force bool
	// HealthCheck is a request that is never traced (D-25). Reason and Write of its
	// Decision are those of any other request (D-26): a service that does not want the
	// next hop to trace it leaves the digit as it came.
	HealthCheck bool
	// Stranger is a request from outside: what it asks for by itself takes from
	// Config.ForcedPerSecond.
	Stranger bool
	// Shares are the route's, in the place of the Config's and a Rule's (D-5); nil
	// where the route has none.
	Shares *Shares
	// Parent is the caller's span context; invalid for none.
	Parent trace.SpanContext
	// Sampling is what the caller's headers say beyond the flag of Parent.
	Sampling propagation.Sampling
	// Method and Route are what a Rule is matched with, "" where unknown.
	Method, Route string
	// Header returns a header of the request, "" if it is missing, for Rule.Header;
	// nil matches no such Rule.
	Header func(string) string
	// Draw is a random number for the client share (D-13). Decide takes it as it is;
	// a Sampler draws one in the place of 0.
	Draw uint32
	// Trace is the trace id that the request's span will have. Where the request id
	// has no sampling number the decision is made from Trace; if Trace is not valid,
	// such a request is not traced, as in Envoy (D-3): a gateway leaves it out.
	// Config.Base is asked about it, too.
	Trace trace.TraceID
}

// Decision is the answer. The zero value is an untraced, undecided request.
type Decision struct {
	// Traced says whether the request's span is recorded and sampled.
	Traced bool
	// Reason is what the request id is to say from here on. It is Envoy's own
	// decision, before the caller's flag or Base: NotTraceable may stand beside
	// Traced, and the reverse.
	Reason requestid.Reason
	// Write says that the digit of the id must change to Reason's.
	Write bool
	// Why is what settled it.
	Why Why
}

// Decide decides about r by D-1 to D-20 and W-12 to W-15, in their order. It is a
// pure function: limits and Base of cfg play no part, which [Sampler.Decide] adds.
// Of what New would refuse in cfg, a share hits nothing and a Use traces nothing.
// It does not allocate.
func Decide(r Request, cfg Config) Decision {
	i := cfg.rule(&r)
	if i >= 0 && cfg.Rules[i].Drop {
		return Decision{Why: HealthCheck}
	}
	sh := cfg.shares(i, r.Shares)
	if r.HealthCheck {
		return unsampled(decide(&r, &cfg, &sh))
	}
	return settle(&r, decide(&r, &cfg, &sh), cfg.NoVeto, silent)
}

// unsampled is the decision about a health check: Envoy decides, writes the digit, and
// takes the trace back afterwards (D-25, D-26). The digit never says health check
// (RID-13).
func unsampled(own Decision) Decision {
	own.Traced, own.Why = false, HealthCheck
	return own
}

// decide is Envoy's own decision. D-1, no tracing at all, is to have no Config.
func decide(r *Request, cfg *Config, sh *Shares) Decision {
	packs := cfg.packs()
	switch cfg.Use {
	case requestid.PackAndSample, requestid.Sample:
	case requestid.Pack, requestid.Ignore: // D-2: not even the overall share is looked at
		return Decision{Traced: true, Reason: requestid.Sampling, Why: Unused}
	default:
		return Decision{}
	}
	number, ok := r.ID.Number()
	if !ok {
		return decideByTrace(r, sh)
	}
	packed := requestid.NotTraceable
	if packs {
		packed = r.ID.Reason()
	}
	var d Decision
	switch {
	case packed != requestid.NotTraceable: // D-6
		d = Decision{Reason: packed, Why: EarlierHop}
	case r.Client && sh.Client.hitDraw(r.Draw): // D-7
		d = Decision{Reason: requestid.ClientForced, Why: ClientJoined}
	case r.Force: // D-8; D-12: also when the client share was missed
		d = Decision{Reason: requestid.ServiceForced, Why: Forced}
	case sh.Random.hitRequest(number, cfg.EnvoyFractions): // D-9
		d = Decision{Reason: requestid.Sampling, Why: InRandom}
	default: // no reason, so none is written: the digit stays as it came
		return Decision{Why: NotInRandom}
	}
	if !sh.Overall.hitRequest(number, cfg.EnvoyFractions) { // D-10
		d = Decision{Reason: requestid.NotTraceable, Why: NotInOverall}
	}
	d.Traced = d.Reason != requestid.NotTraceable
	d.Write = packs && !says(r.ID, d.Reason)
	return d
}

// packs reports whether the digit of the request id is read and written.
func (cfg *Config) packs() bool { return cfg.Use == requestid.PackAndSample }

// says reports whether the digit of id is r's, or has no place in it (RID-12).
// Reason does not tell 4 from the 7 of a UUID of that version, which D-10 rewrites.
func says(id requestid.ID, r requestid.Reason) bool {
	const length, index = 36, 14
	if len(id) != length {
		return true
	}
	if r == requestid.NotTraceable {
		return id[index] == '4'
	}
	return id.Reason() == r
}

// decideByTrace decides about a request whose id has no sampling number. Envoy
// never traces it (D-3). With a trace id the same questions are asked of that, as
// Envoy's ratio sampler asks them, except that a caller who traces has
// decided already, as a reason in the id would say (D-6): the random share is for
// what nobody decided. No digit is read or written (RID-12).
func decideByTrace(r *Request, sh *Shares) Decision {
	if !r.Trace.IsValid() { // D-3
		return Decision{Why: NoNumber}
	}
	number := traceNumber(r.Trace)
	var d Decision
	switch {
	case r.Parent.IsValid() && r.Parent.IsSampled():
		d = Decision{Reason: requestid.Sampling, Why: CallerTraces}
	case r.Client && sh.Client.hitDraw(r.Draw): // D-7
		d = Decision{Reason: requestid.ClientForced, Why: ClientJoined}
	case r.Force: // D-8
		d = Decision{Reason: requestid.ServiceForced, Why: Forced}
	case sh.Random.hit(number): // D-9
		d = Decision{Reason: requestid.Sampling, Why: TraceInRandom}
	default:
		return Decision{Why: TraceNotInRandom}
	}
	if !sh.Overall.hit(number) { // D-10
		return Decision{Why: NotInOverall}
	}
	d.Traced = true
	return d
}

// traceNumber is the sampling number of a trace id. An id of 64 bits,
// padded with zeros on the left as B3 has it, would always be 0: it is read from
// its other half.
func traceNumber(id trace.TraceID) uint64 {
	if n := binary.LittleEndian.Uint64(id[:8]); n != 0 {
		return n
	}
	return binary.LittleEndian.Uint64(id[8:])
}

// answer is what Base says; silent where there is none or it was not asked.
type answer uint8

const (
	silent answer = iota
	no
	yes
)

// settle joins Envoy's own decision with what the caller or Base says.
func settle(r *Request, own Decision, noVeto bool, base answer) Decision {
	final := base
	if final == silent {
		final = caller(r)
	}
	d := own
	switch {
	case r.Sampling == propagation.Debug: // B-5: the header beats the shares
		d.Traced, d.Why = true, Debugged
	case denied(r): // B-4
		d.Traced, d.Why = false, Denied
	case final == silent: // W-12
	case !own.Traced && !noVeto && final == no: // all say no: own knows best why
	case !own.Traced && !noVeto: // W-14
		d.Why = Vetoed
	case base == yes:
		d.Traced, d.Why = true, BaseTraces
	case base == no:
		d.Traced, d.Why = false, BaseDoesNot
	case final == yes: // W-13; W-15 where own says no
		d.Traced, d.Why = true, CallerTraces
	default: // W-13
		d.Traced, d.Why = false, CallerDoesNot
	}
	return d
}

// caller returns what the caller's headers say.
func caller(r *Request) answer {
	switch {
	case r.Sampling == propagation.Deferred: // the decision is left to this hop
		return silent
	case r.Parent.IsValid() && r.Parent.IsSampled():
		return yes
	case r.Parent.IsValid():
		return no
	case r.Sampling == propagation.Accept: // B-4: on a new trace, too
		return yes
	}
	return silent
}

// denied reports a no without ids, which Base cannot see in the parent (B-4).
func denied(r *Request) bool {
	return r.Sampling == propagation.Deny && !r.Parent.IsValid()
}
