package parity_test

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/meshtrace/meshtrace/internal/parity"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
)

// use returns Envoy's two switches as one value.
func use(packs, samples bool) requestid.Use {
	switch {
	case packs && samples:
		return requestid.PackAndSample
	case samples:
		return requestid.Sample
	case packs:
		return requestid.Pack
	}
	return requestid.Ignore
}

// policy returns Envoy's switches for the ids that arrive.
func policy(generate, preserve bool, u requestid.Use) requestid.Policy {
	p := requestid.Policy{Use: u, AnyBytes: true}
	switch {
	case !generate:
		p.External = requestid.Disable
	case preserve:
		p.External = requestid.PreserveOrGenerate
	}
	return p
}

// decided returns the id with which a request goes on after a decision.
func decided(id requestid.ID, d sampler.Decision) requestid.ID {
	if d.Write {
		return id.WithReason(d.Reason)
	}
	return id
}

// reasonNamed returns the reason of that name in Envoy.
func reasonNamed(name string) (requestid.Reason, error) {
	for r := requestid.NotTraceable; r <= requestid.ClientForced; r++ {
		if r.String() == name {
			return r, nil
		}
	}
	return 0, fmt.Errorf("no reason %q", name)
}

func checkNumber(v parity.Vector) error {
	var in fields
	var config struct{}
	var out struct {
		Integer  *uint64 `json:"integer"`
		Mod100   *uint64 `json:"mod_100"`
		Mod10000 *uint64 `json:"mod_10000"`
	}
	if err := errors.Join(decode(v, &in, &config, &out), in.only("x-request-id")); err != nil {
		return err
	}
	value, _ := in.first("x-request-id")
	n, ok := requestid.ID(value).Number()
	var m mismatches
	equal(&m, "there is a number", ok, out.Integer != nil)
	if ok && out.Integer != nil {
		equal(&m, "number", uint64(n), *out.Integer)
		equal(&m, "number % 100", uint64(n)%100, *out.Mod100)
		equal(&m, "number % 10000", uint64(n)%10_000, *out.Mod10000)
	}
	return m.err()
}

// checkRequestIDSet cannot hand out Envoy's random number; an id that was made is
// known by its form and by Policy.Next's own word.
func checkRequestIDSet(v parity.Vector) error {
	var in fields
	var config struct {
		Edge      bool   `json:"edge_request"`
		Preserve  bool   `json:"preserve_external_request_id"`
		Pack      bool   `json:"pack_trace_reason"`
		Generated string `json:"generated"`
	}
	var out struct {
		RequestID *string `json:"x-request-id"`
		Generated bool    `json:"generated"`
	}
	if err := errors.Join(decode(v, &in, &config, &out), in.only("x-request-id")); err != nil {
		return err
	}
	value, present := in.first("x-request-id")
	policy := policy(true, config.Preserve, use(config.Pack, true))
	if old, err := before(v.Until, 34); err != nil {
		return err
	} else if old && present && value == "" {
		policy.External = requestid.Preserve // RID-2: an empty one stayed
	}
	if old, err := before(v.Until, 33); err != nil {
		return err
	} else if old && config.Preserve {
		policy.Use = requestid.Sample // RID-5: the digit stayed
	}
	id, change := policy.Next(value, config.Edge)
	made := change == requestid.Made || change == requestid.Replaced
	var m mismatches
	equal(&m, "a new id was made", made, out.Generated)
	switch {
	case made && !newID.MatchString(string(id)):
		m.addf("new id %q is no UUID of version 4 in lower case", id)
	case !made && out.RequestID == nil:
		equal(&m, "id", id, "")
	case !made:
		equal(&m, "id", string(id), *out.RequestID)
	}
	if made && out.RequestID != nil {
		equal(&m, "id of the vector", *out.RequestID, config.Generated)
	}
	return m.err()
}

func checkReasonDigit(v parity.Vector) error {
	var in struct {
		RequestID requestid.ID `json:"x-request-id"`
		Reason    *string      `json:"reason"` // of a write
	}
	var config struct {
		Pack bool `json:"pack_trace_reason"`
	}
	var out struct {
		RequestID *requestid.ID `json:"x-request-id"` // of a write
		Reason    *string       `json:"reason"`       // of a read
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	var m mismatches
	switch {
	case in.Reason == nil && out.Reason != nil: // read
		// By the decision, where nothing else gives a reason: with packing off it must not look.
		never := sampler.Config{Use: use(config.Pack, true), Random: sampler.Of(0, sampler.Hundred)}
		if _, numbered := in.RequestID.Number(); numbered {
			equal(&m, "reason by Decide", sampler.Decide(sampler.Request{ID: in.RequestID}, never).Reason.String(), *out.Reason)
		}
		if config.Pack {
			equal(&m, "reason", in.RequestID.Reason().String(), *out.Reason)
		}
	case in.Reason != nil && out.RequestID != nil: // write
		if config.Pack {
			r, err := reasonNamed(*in.Reason)
			if *in.Reason == "HealthCheck" {
				r, err = requestid.ClientForced+1, nil // RID-13: it has no digit
			}
			if err != nil {
				return err
			}
			equal(&m, "id", in.RequestID.WithReason(r), *out.RequestID)
			break
		}
		d, err := decisionFor(*in.Reason, in.RequestID, use(config.Pack, true))
		if err != nil {
			return err
		}
		equal(&m, "id", decided(in.RequestID, d), *out.RequestID)
	default:
		return errors.New("neither a read nor a write")
	}
	return m.err()
}

// decisionFor returns a decision about id with the reason of that name.
func decisionFor(reason string, id requestid.ID, u requestid.Use) (sampler.Decision, error) {
	r, cfg := sampler.Request{ID: id}, sampler.Config{Use: u}
	switch reason {
	case "NotTraceable":
		cfg.Overall = sampler.Of(0, sampler.Hundred)
	case "Sampling":
	case "ServiceForced":
		r.Force = true
	case "ClientForced":
		r.Client = true
	default:
		return sampler.Decision{}, fmt.Errorf("no reason %q", reason)
	}
	d := sampler.Decide(r, cfg)
	if got := d.Reason.String(); got != reason {
		return d, fmt.Errorf("decision = %s, want %s", got, reason)
	}
	return d, nil
}

func checkResponseRequestID(v parity.Vector) error {
	var in struct {
		Request  fields `json:"request"`
		Response fields `json:"response"`
	}
	var config struct {
		Always bool `json:"always_set_request_id_in_response"`
	}
	var out struct {
		Response fields `json:"response"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	if err := errors.Join(in.Request.only("x-request-id", "x-envoy-force-trace"), out.Response.only("x-request-id")); err != nil {
		return err
	}
	// The request is as it is after sanitising, so its headers are believed, and none is added to it.
	answer, err := send(parity.Case{
		Config: parity.Proxy{
			Tracer:                       "opentelemetry",
			GenerateRequestID:            new(false),
			AlwaysSetRequestIDInResponse: config.Always,
			UseRemoteAddress:             true,
			InternalCIDRs:                []string{"10.0.0.0/8"},
		},
		Request:  parity.Request{Headers: in.Request.lines(), Peer: "10.0.0.5"},
		Upstream: parity.Upstream{Headers: in.Response.lines()},
	})
	if err != nil {
		return err
	}
	var m mismatches
	want := out.Response["x-request-id"]
	equal(&m, "x-request-id of the response", fmt.Sprintf("%q", answer.response["x-request-id"]), fmt.Sprintf("%q", []string(want)))
	return m.err()
}

func checkDecision(v parity.Vector) error {
	var in fields
	var config struct {
		Tracing    bool  `json:"tracing_configured"`
		ClientRoll *bool `json:"client_roll"` // nil: must not be asked
		Random     share `json:"random_sampling"`
		Overall    share `json:"overall_sampling"`
		UseID      bool  `json:"use_request_id_for_trace_sampling"`
		Pack       bool  `json:"pack_trace_reason"`
	}
	var out struct {
		Reason    string  `json:"reason"`
		Traced    bool    `json:"traced"`
		RequestID *string `json:"x-request-id"`
	}
	if err := errors.Join(decode(v, &in, &config, &out), in.only("x-request-id", "x-client-trace-id", "x-envoy-force-trace")); err != nil {
		return err
	}
	id, _ := in.first("x-request-id")
	_, client := in.first("x-client-trace-id")
	_, force := in.first("x-envoy-force-trace")
	want := ""
	if out.RequestID != nil {
		want = *out.RequestID
	}
	if !config.Tracing {
		return checkUntraced(in, out.Reason, want)
	}
	var m mismatches
	for _, roll := range []bool{true, false} {
		if config.ClientRoll != nil && *config.ClientRoll != roll {
			continue
		}
		r := sampler.Request{ID: requestid.ID(id), Client: client, Force: force, Draw: math.MaxUint32 - math.MaxUint32%100 - 1}
		if roll {
			r.Draw = 0
		}
		d := sampler.Decide(r, sampler.Config{
			Client:         sampler.Of(50, sampler.Hundred),
			Random:         config.Random.Fraction,
			Overall:        config.Overall.Fraction,
			Use:            use(config.Pack, config.UseID),
			EnvoyFractions: true,
		})
		equal(&m, "reason", d.Reason.String(), out.Reason)
		equal(&m, "traced", d.Traced, out.Traced)
		equal(&m, "id", string(decided(r.ID, d)), want)
	}
	return m.err()
}

// checkUntraced puts the request to a gateway without tracing, where nobody decides (D-1).
func checkUntraced(in fields, reason, id string) error {
	a, err := send(parity.Case{
		Config:  parity.Proxy{Tracer: "none", UseRemoteAddress: true, InternalCIDRs: []string{"10.0.0.0/8"}, GenerateRequestID: new(false)},
		Request: parity.Request{Peer: "10.0.0.5", Headers: in.lines()},
	})
	if err != nil {
		return err
	}
	if len(a.attempts) != 1 {
		return fmt.Errorf("%d requests reached the upstream, want 1", len(a.attempts))
	}
	var m mismatches
	equal(&m, "reason", reason, requestid.NotTraceable.String())
	equal(&m, "counters that moved", a.decision, "none")
	equal(&m, "spans", len(a.spans), 0)
	equal(&m, "id", strings.Join(a.attempts[0].headers["x-request-id"], " "), id)
	return m.err()
}

func checkStableSampling(v parity.Vector) error {
	var in struct {
		RequestID  *requestid.ID `json:"x-request-id"`
		AllResults *string       `json:"all_results"` // instead: every result in this range
	}
	var config struct {
		Random  share `json:"random_sampling"`
		Overall share `json:"overall_sampling"`
	}
	var out struct {
		Result    *uint32       `json:"result"`
		Traced    *bool         `json:"traced"`
		RequestID *requestid.ID `json:"x-request-id"`
		TracedOf  *int          `json:"traced_of_10000"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	cfg := sampler.Config{Random: config.Random.Fraction, Overall: config.Overall.Fraction, EnvoyFractions: true}
	var m mismatches
	switch {
	case in.AllResults != nil && *in.AllResults == "0..9999" && out.TracedOf != nil:
		equal(&m, "traced of 10000", tracedOfAll(sampler.Request{}, cfg), *out.TracedOf)
	case in.RequestID != nil && out.Result != nil && out.Traced != nil && out.RequestID != nil:
		n, ok := in.RequestID.Number()
		equal(&m, "there is a number", ok, true)
		equal(&m, "number % 10000", n%10_000, *out.Result)
		d := sampler.Decide(sampler.Request{ID: *in.RequestID}, cfg)
		equal(&m, "traced", d.Traced, *out.Traced)
		equal(&m, "id", decided(*in.RequestID, d), *out.RequestID)
	default:
		return fmt.Errorf("neither one id nor the range 0..9999: %s", v.In)
	}
	return m.err()
}

// tracedOfAll counts the ids that are traced, one for each result from 0 to 9999.
func tracedOfAll(r sampler.Request, cfg sampler.Config) int {
	traced := 0
	for result := range 10_000 {
		r.ID = requestid.ID(fmt.Sprintf("%08x-0000-4000-8000-000000000000", result))
		if sampler.Decide(r, cfg).Traced {
			traced++
		}
	}
	return traced
}
