// Package examples holds programs that run with "go run", without a container and
// without a collector:
//
//	go run ./examples/hotrod     // six services, a page to click on, a trace behind each ride
//	go run ./examples/nethttp    // the smallest net/http service that ends gracefully
//	go run ./examples/grpc       // the same for gRPC, server and client
//	go run ./examples/gateway    // a gateway in an Envoy's place, by a file
//
// Examples/bring-your-own is a module of its own, run by "go run ." in its folder: a
// program that has a TracerProvider, otelhttp and otelsql already.
//
// Nethttp and grpc send to the collector that the OTEL_* variables name, and to a
// collector on this machine where they name none. OTEL_TRACES_EXPORTER=console
// prints their traces instead.
//
// The lines that begin with tracing, and tracegrpc's options, are the whole
// integration, and the same in all of them. Examples are there to be copied; they
// are no part of the library's promise of compatibility.
package examples
