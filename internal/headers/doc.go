// Package headers reads headers out of any OpenTelemetry carrier: an http.Header
// without an allocation, others through their interface.
//
//	src := headers.NewSource(otelprop.HeaderCarrier(r.Header))
//	lines := src.Lines(&headers.RequestID)
//	ids := src.IDs() // x-request-id, x-client-trace-id, x-envoy-force-trace
package headers
