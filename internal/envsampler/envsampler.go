package envsampler

import (
	"strconv"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/internal/otelenv"
)

const (
	// Name is the variable that names a sampler.
	Name = "OTEL_TRACES_SAMPLER"
	// Arg is the variable that gives a ratio sampler its ratio.
	Arg = "OTEL_TRACES_SAMPLER_ARG"
)

// FromEnv returns the sampler that the environment names. It is false when Name
// is unset, and when one of the pair is not understood: env then has the Problem
// and the whole pair counts as unset. Arg is read for the ratio samplers only;
// without it their ratio is 1.
func FromEnv(env *otelenv.Reader) (base sdktrace.Sampler, ok bool) {
	name, ok := env.Enum(Name,
		"always_on", "always_off", "traceidratio",
		"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio")
	if !ok {
		return nil, false
	}
	switch name {
	case "always_on":
		return sdktrace.AlwaysSample(), true
	case "always_off":
		return sdktrace.NeverSample(), true
	case "parentbased_always_on":
		return sdktrace.ParentBased(sdktrace.AlwaysSample()), true
	case "parentbased_always_off":
		return sdktrace.ParentBased(sdktrace.NeverSample()), true
	}
	r, ok := ratio(env)
	if !ok {
		return nil, false
	}
	base = sdktrace.TraceIDRatioBased(r)
	if name == "parentbased_traceidratio" {
		base = sdktrace.ParentBased(base)
	}
	return base, true
}

// ratio returns the value of Arg, 1 if it is unset, and false if it is no number
// from 0 to 1.
func ratio(env *otelenv.Reader) (float64, bool) {
	before := len(env.Problems())
	v, set := env.String(Arg)
	if !set { // or too long to be read, which is a problem
		return 1, len(env.Problems()) == before
	}
	r, err := strconv.ParseFloat(v, 64)
	if err != nil || !(0 <= r && r <= 1) { // the negation refuses NaN too
		env.Reject(Arg, v, "a number from 0 to 1")
		return 0, false
	}
	return r, true
}
