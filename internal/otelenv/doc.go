// Package otelenv reads OTEL_* variables by the rules of the OpenTelemetry
// specification ("Environment Variable Specification", "Parsing empty value" and
// what follows): empty is unset, and what cannot be understood is reported by
// name, value and what is allowed, and counts as unset.
//
//	env := otelenv.New(nil)
//	delay, ok := env.Millis("OTEL_BSP_SCHEDULE_DELAY", 0, time.Hour)
//	for _, p := range env.Problems() {
//		logger.Warn(p.Error())
//	}
package otelenv
