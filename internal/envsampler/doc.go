// Package envsampler reads OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG by the
// OpenTelemetry specification ("General SDK Configuration"), with one
// difference: what cannot be understood never becomes "sample everything".
//
//	env := otelenv.New(nil)
//	base, ok := envsampler.FromEnv(env)
//	if !ok && len(env.Problems()) > 0 {
//		// set, but not readable
//	}
//
// The samplers are those of the OpenTelemetry SDK. Jaeger's remote sampler and the
// vendors' are not among them.
package envsampler
