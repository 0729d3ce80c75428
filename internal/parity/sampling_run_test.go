package parity_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/parity"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/sampler"
)

// before tells whether release, such as 1.38, is older than 1.minor; "" is the reference.
func before(release string, minor int) (bool, error) {
	if release == "" {
		return false, nil
	}
	major, rest, found := strings.Cut(release, ".")
	n, _, _ := strings.Cut(rest, ".")
	of, err := strconv.Atoi(n)
	if major != "1" || !found || err != nil {
		return false, fmt.Errorf("release %q is none that this runner knows", release)
	}
	return of < minor, nil
}

// asOf returns what gives a gateway the ways of an older Envoy; "" is the reference.
func asOf(release string) (func(*middleware.Config), error) {
	old, err := before(release, 39)
	return func(cfg *middleware.Config) {
		if old {
			cfg.Sampling.NoVeto = true // W-15
		}
	}, err
}

const sampledParent = "00-00000000000000000000000000000001-0000000000000002-0"

// checkOTelSampling asks the sampler, and a whole gateway.
func checkOTelSampling(v parity.Vector) error {
	var in struct {
		Traceparent   *string `json:"traceparent"`
		ParentSampled *bool   `json:"traceparent_sampled"` // nil: no parent
		EnvoyDecision bool    `json:"envoy_decision"`
	}
	var config struct {
		Envoy       string `json:"envoy"`
		SamplerSays *bool  `json:"sampler_says"` // nil: no sampler
		Sampler     string `json:"sampler"`
		Spawn       bool   `json:"spawn_upstream_span"`
	}
	var out struct {
		Sampled       *bool  `json:"sampled"`
		Exported      *bool  `json:"exported"`
		LocalDecision *bool  `json:"use_local_decision"` // whether a refresh of the route changes it (D-24)
		Span          string `json:"span"`
		ParentSampled *bool  `json:"parent_sampled"`
		ChildSampled  *bool  `json:"child_sampled"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	edit, err := asOf(config.Envoy)
	if err != nil {
		return err
	}
	var base sdktrace.Sampler
	switch {
	case config.Sampler == "parent_based(always_on)":
		base = sdktrace.ParentBased(sdktrace.AlwaysSample())
	case config.Sampler != "":
		return fmt.Errorf("sampler %q is none that this topic knows", config.Sampler)
	case config.SamplerSays != nil && *config.SamplerSays:
		base = sdktrace.AlwaysSample()
	case config.SamplerSays != nil:
		base = sdktrace.NeverSample()
	}
	c := parity.Case{Config: parity.Proxy{Tracer: "opentelemetry", SpawnUpstreamSpan: config.Spawn || out.ChildSampled != nil}}
	if !in.EnvoyDecision {
		c.Config.RandomSampling = new(0.0)
	}
	switch {
	case in.Traceparent != nil:
		c.Request.Headers = []parity.Field{{"traceparent", *in.Traceparent}}
	case in.ParentSampled != nil && *in.ParentSampled:
		c.Request.Headers = []parity.Field{{"traceparent", sampledParent + "1"}}
	case in.ParentSampled != nil:
		c.Request.Headers = []parity.Field{{"traceparent", sampledParent + "0"}}
	}
	a, err := send(c, edit, func(cfg *middleware.Config) { cfg.Sampling.Base = base })
	if err != nil {
		return err
	}
	if len(a.attempts) != 1 || len(a.attempts[0].headers["traceparent"]) != 1 {
		return fmt.Errorf("what reached the upstream: %v", a.attempts)
	}
	sent := a.attempts[0].headers["traceparent"][0]
	var m mismatches
	switch {
	case out.Span == "null": // W-6
		equal(&m, "traceparent", sent, *in.Traceparent)
		equal(&m, "spans", len(a.spans), 0)
	case out.ChildSampled != nil && out.ParentSampled != nil:
		equal(&m, "child sampled", strings.HasSuffix(sent, "-01"), *out.ChildSampled)
		equal(&m, "parent sampled", kinds(a)[trace.SpanKindServer] > 0, *out.ParentSampled)
	case out.Sampled != nil && out.Exported != nil && out.LocalDecision != nil:
		equal(&m, "sampled", strings.HasSuffix(sent, "-01"), *out.Sampled)
		equal(&m, "exported", exported(a), *out.Exported)
	default:
		return errors.New("no expectation that this topic knows")
	}
	return m.err()
}

// kinds counts the exported spans by kind.
func kinds(a answer) map[trace.SpanKind]int {
	n := make(map[trace.SpanKind]int)
	for _, s := range a.spans {
		if s.SpanContext().IsSampled() {
			n[s.SpanKind()]++
		}
	}
	return n
}

// checkTraceIDRatio tells the value of a trace id by the shares that take it.
func checkTraceIDRatio(v parity.Vector) error {
	var in struct {
		TraceID string `json:"trace_id"`
	}
	var config struct {
		Numerator   *uint32 `json:"numerator"`
		Denominator string  `json:"denominator"`
	}
	var out struct {
		Value       string  `json:"value"`
		Mod100      *uint32 `json:"mod_100"`
		Mod10000    *uint32 `json:"mod_10000"`
		Mod1000000  *uint32 `json:"mod_1000000"`
		At50Of100   *bool   `json:"sampled_at_50_of_100"`
		At157OfMill *bool   `json:"sampled_at_157_of_1000000"`
		Sampled     *bool   `json:"sampled"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	// An id of another form has no place in the SDK; Envoy takes it for zeros.
	var ids []trace.TraceID
	if id, err := trace.TraceIDFromHex(in.TraceID); err == nil {
		ids = append(ids, id)
	} else if in.TraceID == "any" {
		for b := range byte(255) {
			ids = append(ids, trace.TraceID{b, 1, 255 - b, 0, b, 7, b, 128, 1})
		}
	} else {
		ids = append(ids, trace.TraceID{})
	}
	var m mismatches
	for _, id := range ids {
		ask := func(n uint32, d sampler.Denominator, want bool) {
			got := sampler.EnvoyTraceIDRatio(sampler.Of(n, d)).ShouldSample(sdktrace.SamplingParameters{TraceID: id}).Decision == sdktrace.RecordAndSample
			equal(&m, fmt.Sprintf("%s at %d of %v", id, n, d), got, want)
		}
		for _, mod := range []struct {
			value *uint32
			of    sampler.Denominator
		}{{out.Mod100, sampler.Hundred}, {out.Mod10000, sampler.TenThousand}, {out.Mod1000000, sampler.Million}} {
			if mod.value != nil { // the remainder is the largest share that does not take it
				ask(*mod.value, mod.of, false)
				ask(*mod.value+1, mod.of, true)
			}
		}
		if out.At50Of100 != nil && out.At157OfMill != nil {
			ask(50, sampler.Hundred, *out.At50Of100)
			ask(157, sampler.Million, *out.At157OfMill)
		}
		if config.Numerator != nil && out.Sampled != nil {
			d, err := denominator(config.Denominator)
			if err != nil {
				return err
			}
			ask(*config.Numerator, d, *out.Sampled)
		}
	}
	return m.err()
}
