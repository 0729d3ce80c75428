package parity_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/meshtrace/meshtrace/internal/parity"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
)

// denominator reads Envoy's name of one; without a name it is HUNDRED.
func denominator(name string) (sampler.Denominator, error) {
	for _, d := range []sampler.Denominator{sampler.Hundred, sampler.TenThousand, sampler.Million} {
		if name == d.String() {
			return d, nil
		}
	}
	if name == "" {
		return sampler.Hundred, nil
	}
	return 0, fmt.Errorf("no denominator %q", name)
}

// fraction returns a configured share; nil is not set.
func fraction(f *parity.Fraction) (sampler.Fraction, error) {
	if f == nil {
		return sampler.Fraction{}, nil
	}
	d, err := denominator(f.Denominator)
	return sampler.Of(f.Numerator, d), err
}

// share is a fraction as vectors write it: [numerator, name of the denominator].
type share struct{ sampler.Fraction }

func (s *share) UnmarshalJSON(b []byte) error {
	f := new(parity.Fraction)
	if err := json.Unmarshal(b, &[2]any{&f.Numerator, &f.Denominator}); err != nil {
		return err
	}
	var err error
	s.Fraction, err = fraction(f)
	return err
}

// percentOut is what a percentage becomes.
type percentOut struct {
	Numerator               *uint32         `json:"numerator"`
	Denominator             json.RawMessage `json:"denominator"` // number or name
	Effective               *int            `json:"effective_of_10000"`
	EffectiveInEnvoy        *int            `json:"effective_of_10000_in_envoy"`
	Nominal                 *float64        `json:"nominal_of_10000"` // what a reader expects, not what Envoy does
	Client, Random, Overall *[2]uint32      // of defaults
}

func checkPercent(v parity.Vector) error {
	var in struct {
		Percent      *float64        `json:"percent"`
		RuntimeValue *uint32         `json:"runtime_value"`
		Numerator    *uint32         `json:"numerator"`
		Denominator  json.RawMessage `json:"denominator"`
	}
	var config struct {
		Field   string   `json:"field"`
		Level   string   `json:"level"`
		Product string   `json:"product"`
		Keys    []string `json:"keys"`
	}
	var out percentOut
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	switch {
	case config.Product != "":
		return checkProductFraction(config.Product, in.Percent, in.Numerator, in.Denominator, out)
	case config.Field == "HttpConnectionManager.Tracing.random_sampling or overall_sampling":
		return checkListenerPercent(*in.Percent, out)
	case config.Field == "HttpConnectionManager.Tracing.client_sampling":
		return checkClientPercent(*in.Percent, out)
	case config.Field == "route.v3.Tracing.random_sampling or overall_sampling":
		f, err := named(*in.Numerator, in.Denominator)
		if err != nil {
			return err
		}
		return checkRouteShare(f, *out.Effective)
	case slices.Equal(config.Keys, []string{"tracing.random_sampling", "tracing.global_enabled"}):
		return checkRuntimeShare(sampler.Of(*in.RuntimeValue, sampler.Hundred), *out.Effective)
	case config.Level == "HttpConnectionManager.Tracing":
		return checkDefaults(sampler.Request{}, sampler.Config{}, out)
	case config.Level == "route.v3.Tracing":
		none := sampler.Of(0, sampler.Hundred) // of the listener, which the route's block replaces
		return checkDefaults(sampler.Request{Shares: new(sampler.Shares)}, sampler.Config{Client: none, Random: none, Overall: none}, out)
	}
	return fmt.Errorf("config %s is none that this topic knows", v.Config)
}

// named returns numerator of the denominator of a quoted name.
func named(numerator uint32, name json.RawMessage) (sampler.Fraction, error) {
	var s string
	if err := json.Unmarshal(name, &s); err != nil {
		return sampler.Fraction{}, err
	}
	return fraction(&parity.Fraction{Numerator: numerator, Denominator: s})
}

// checkListenerPercent tells the numerator by the numbers that hit (D-17).
func checkListenerPercent(percent float64, out percentOut) error {
	var m mismatches
	equal(&m, "denominator of the vector", string(out.Denominator), "10000")
	f := sampler.Percent(percent)
	for n := range uint32(20_000) {
		if got, want := f.Hit(n), n%10_000 < *out.Numerator; got != want {
			m.addf("%v hits %d: %v, want %v", f, n, got, want)
			break
		}
	}
	equal(&m, "traced of 10000", tracedOfAll(sampler.Request{}, sampler.Config{Random: f}), int(*out.Numerator))
	equal(&m, "traced of 10000", tracedOfAll(sampler.Request{}, sampler.Config{Overall: f}), int(*out.Numerator))
	return m.err()
}

// checkClientPercent tells the numerator by the draws that hit (D-18).
func checkClientPercent(percent float64, out percentOut) error {
	var m mismatches
	equal(&m, "denominator of the vector", string(out.Denominator), "100")
	cfg := sampler.Config{Client: sampler.Percent(percent), Random: sampler.Of(0, sampler.Hundred)}
	for draw := range uint32(200) {
		d := sampler.Decide(sampler.Request{ID: "125a4afb", Client: true, Draw: draw}, cfg)
		if got, want := d.Reason == requestid.ClientForced, draw%100 < *out.Numerator; got != want {
			m.addf("%v hits %d: %v, want %v", cfg.Client, draw, got, want)
			break
		}
	}
	return m.err()
}

// checkRouteShare counts what a share of a route lets through (D-20).
func checkRouteShare(f sampler.Fraction, effective int) error {
	var m mismatches
	cfg := sampler.Config{EnvoyFractions: true}
	equal(&m, "traced of 10000 by random", tracedOfAll(sampler.Request{Shares: &sampler.Shares{Random: f}}, cfg), effective)
	equal(&m, "traced of 10000 by overall", tracedOfAll(sampler.Request{Shares: &sampler.Shares{Overall: f}}, cfg), effective)
	return m.err()
}

// checkRuntimeShare counts what a share set while running lets through, over the
// listener's and the route's (D-22).
func checkRuntimeShare(f sampler.Fraction, effective int) error {
	var m mismatches
	none := sampler.Of(0, sampler.Hundred)
	for _, tt := range []struct {
		name string
		cfg  sampler.Config
		set  sampler.Shares
	}{
		{"random", sampler.Config{Random: none}, sampler.Shares{Random: f}},
		{"overall", sampler.Config{Overall: none}, sampler.Shares{Overall: f}},
	} {
		s, err := sampler.New(tt.cfg)
		if err != nil {
			return err
		}
		if err := s.SetShares(tt.set); err != nil {
			return err
		}
		traced := 0
		for result := range 10_000 {
			id := requestid.ID(fmt.Sprintf("%08x-0000-4000-8000-000000000000", result))
			if s.Decide(sampler.Request{ID: id}).Traced {
				traced++
			}
		}
		equal(&m, "traced of 10000 by "+tt.name, traced, effective)
	}
	return m.err()
}

// checkDefaults tells shares that are 100 % by the requests that pass them (D-21).
func checkDefaults(r sampler.Request, cfg sampler.Config, out percentOut) error {
	var m mismatches
	for _, s := range []*[2]uint32{out.Client, out.Random, out.Overall} {
		equal(&m, "share of the vector", s[0], s[1])
	}
	equal(&m, "traced of 10000", tracedOfAll(r, cfg), 10_000)
	r.ID, r.Client = "125a4afb", true
	for draw := range uint32(100) {
		r.Draw = draw
		equal(&m, "reason", sampler.Decide(r, cfg).Reason, requestid.ClientForced)
	}
	return m.err()
}

// checkProductFraction holds the fraction that a product makes, and what Envoy makes
// of that.
func checkProductFraction(product string, percent *float64, numerator *uint32, denominator json.RawMessage, out percentOut) error {
	want, err := named(*out.Numerator, out.Denominator)
	if err != nil {
		return err
	}
	var got sampler.Fraction
	switch {
	case product == "gloo" && percent != nil:
		got = sampler.GlooRoutePercent(*percent)
	case product == "envoy-gateway" && numerator != nil:
		var of *uint32 // null: 100
		if err := json.Unmarshal(denominator, &of); err != nil {
			return err
		}
		if of == nil {
			of = new(uint32(0))
		}
		got = sampler.EnvoyGatewayFraction(*numerator, *of)
	default:
		return fmt.Errorf("product %q is none that this topic knows", product)
	}
	var m mismatches
	equal(&m, "fraction", got, want)
	return errors.Join(m.err(), checkRouteShare(got, *out.EffectiveInEnvoy))
}
