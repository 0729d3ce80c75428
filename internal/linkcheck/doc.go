// Package linkcheck holds, as tests, what a program links when it imports a
// package of this module, and which package may import which.
//
// It has no code of its own. The rules:
//
//   - imports run one way: requestid, propagation, then sampler, span and
//     exporter beside each other, middleware, what completes it, examples;
//   - importing middleware links no google.golang.org package, so no gRPC and no
//     protobuf, and nothing that is for tests;
//   - importing requestid or propagation links no OpenTelemetry SDK;
//   - tests that need gRPC or protobuf stand in internal/difftest, because tests
//     beside the code lengthen the go.sum of every user.
package linkcheck
