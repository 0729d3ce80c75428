package parity_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/internal/parity"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

// checkEnvoyGateway starts from the preset and sets what the product's API has set.
func checkEnvoyGateway(v parity.Vector) error {
	var in struct {
		Provider string           `json:"provider"`
		Rate     *float64         `json:"samplingRate"`
		Fraction *productFraction `json:"samplingFraction"`
		Client   *productFraction `json:"clientSamplingFraction"`
		Sampler  string           `json:"provider.openTelemetry.sampler"`
		SpanName struct {
			Client string `json:"client"`
			Server string `json:"server"`
		} `json:"spanName"`
		Policy *json.RawMessage `json:"backendTrafficPolicy.telemetry.tracing"`
	}
	var config struct{}
	var out struct {
		HCM   *gatewayTracing `json:"hcm"`
		Route *gatewayTracing `json:"route"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	cfg := middleware.EnvoyGateway()
	switch in.Provider { // EG-5
	case "", "OpenTelemetry":
	case "Zipkin":
		cfg = middleware.WithZipkin(cfg, middleware.Zipkin{})
	default:
		return fmt.Errorf("provider %q is none that this topic knows", in.Provider)
	}
	switch {
	case in.Sampler != "": // EG-6
		cfg.Sampling.Base = sdktrace.AlwaysSample() // of any kind: it is the shares that are asked for
	case in.Rate != nil:
		cfg.Sampling.Random = sampler.Percent(*in.Rate)
	case in.Fraction != nil:
		cfg.Sampling.Random = in.Fraction.percent()
	}
	var err1, err2 error
	cfg.Operation, err1 = span.ParseTemplate(in.SpanName.Client) // EG-3
	cfg.UpstreamOperation, err2 = span.ParseTemplate(in.SpanName.Server)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if in.Client != nil {
		cfg.Sampling.Client = in.Client.percent()
	}
	var m mismatches
	if out.HCM != nil {
		out.HCM.compare(&m, sampler.Request{}, cfg.Sampling)
		equal(&m, "operation", cfg.Operation.String(), out.HCM.Operation)
		equal(&m, "upstream_operation", cfg.UpstreamOperation.String(), out.HCM.UpstreamOperation)
		if out.HCM.Spawn != nil {
			equal(&m, "spawn_upstream_span", cfg.SpawnUpstreamSpan, *out.HCM.Spawn)
		}
	}
	if out.Route != nil {
		if in.Policy == nil {
			return errors.New("a route's tracing without a BackendTrafficPolicy")
		}
		out.Route.compare(&m, sampler.Request{Shares: new(middleware.EnvoyGatewayRoute())}, cfg.Sampling)
	}
	return m.err()
}

// productFraction is a fraction of the product's API.
type productFraction struct {
	Numerator   float64 `json:"numerator"`
	Denominator float64 `json:"denominator"` // 0: 100
}

func (f productFraction) percent() sampler.Fraction {
	if f.Denominator == 0 {
		f.Denominator = 100
	}
	return sampler.Percent(100 * f.Numerator / f.Denominator)
}

// gatewayTracing is a tracing block of Envoy's: of the listener with percentages, of
// a route with fractions.
type gatewayTracing struct {
	Client            json.RawMessage `json:"client_sampling"`
	Random            json.RawMessage `json:"random_sampling"`
	Overall           json.RawMessage `json:"overall_sampling"`
	EnvoyNumerator    *int            `json:"envoy_numerator_of_10000"`
	Spawn             *bool           `json:"spawn_upstream_span"`
	Operation         string          `json:"operation"`
	UpstreamOperation string          `json:"upstream_operation"`
}

func (g gatewayTracing) compare(m *mismatches, r sampler.Request, cfg sampler.Config) {
	for _, share := range []struct {
		name string
		want json.RawMessage
		of   int
		got  func() int
	}{
		{"client", g.Client, 100, func() int { return joinedOfAll(r, cfg) }},
		{"random", g.Random, 10_000, func() int {
			cfg := cfg
			cfg.Overall = sampler.Fraction{}
			return tracedOfAll(r, cfg)
		}},
		{"overall", g.Overall, 10_000, func() int {
			cfg := cfg
			cfg.Random = sampler.Fraction{}
			return tracedOfAll(r, cfg)
		}},
	} {
		if share.want == nil {
			continue
		}
		want, err := hitsOf(share.want, share.of)
		if err != nil {
			m.addf("%s: %v", share.name, err)
			continue
		}
		equal(m, fmt.Sprintf("%s share, of %d", share.name, share.of), share.got(), want)
	}
	if g.EnvoyNumerator != nil {
		equal(m, "random share of 10000", tracedOfAll(r, cfg), *g.EnvoyNumerator)
	}
}

// hitsOf returns how many of all numbers below of a share takes: a percentage, a
// fraction, or the words of one that is not set.
func hitsOf(share json.RawMessage, of int) (int, error) {
	var percent float64
	if json.Unmarshal(share, &percent) == nil {
		hits := 0
		for n := range of {
			if sampler.Percent(percent).Hit(uint32(n * (10_000 / of))) {
				hits++
			}
		}
		return hits, nil
	}
	var words string
	if json.Unmarshal(share, &words) == nil {
		if !slices.Contains([]string{"unset = 100%"}, words) {
			return 0, fmt.Errorf("share %q is none that this topic knows", words)
		}
		return of, nil
	}
	f := new(parity.Fraction)
	if err := json.Unmarshal(share, &[2]any{&f.Numerator, &f.Denominator}); err != nil {
		return 0, err
	}
	d, err := fraction(f)
	hits := 0
	for n := range of {
		if d.Hit(uint32(n)) {
			hits++
		}
	}
	return hits, err
}

// joinedOfAll counts the draws, of 0 to 99, with which a client joins.
func joinedOfAll(r sampler.Request, cfg sampler.Config) int {
	joined := 0
	r.ID, r.Client = "125a4afb", true
	cfg.Random = sampler.Fraction{}
	for draw := range uint32(100) {
		r.Draw = draw
		if sampler.Decide(r, cfg).Reason == requestid.ClientForced {
			joined++
		}
	}
	return joined
}
