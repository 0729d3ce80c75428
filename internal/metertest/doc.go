// Package metertest is a MeterProvider for tests that keeps every measurement.
//
//	meters := metertest.New()
//	tracing, err := middleware.Setup(ctx, middleware.Config{MeterProvider: meters})
//	…
//	meters.Want(t, "http.server.request.duration", "http.request.method=GET url.scheme=http")
//
// It needs OpenTelemetry's API alone, so that tests beside the code add nothing to a
// user's go.sum; internal/difftest measures with OpenTelemetry's SDK.
package metertest
