// Package difftest compares meshtrace with the reference implementations: the
// OpenTelemetry propagators, contrib's b3, and protobuf-go over the OTLP schema.
//
// It holds tests alone and nobody imports it, so that what it needs (gRPC,
// protobuf) stays out of a user's go.sum:
//
//	go test ./internal/difftest
package difftest
