// Package validate holds the tests of examples/deploy: every file there is decoded
// strictly, its values are compared with those of the other files, and what
// can be run is run.
//
//	cd examples/deploy/validate && go test .
//
// Kubernetes objects are decoded into the types of their projects, where the module
// proxy has these; the types in gloo.go, operator.go and config.go are of our own
// and name the fields that the files use, so that a mistyped one fails and a new one
// must be looked up. Objects of Envoy Gateway, Gateway API and Istio are checked
// against the CRDs in their modules, too, as an API server does. What a cluster adds
// beyond that (its own admission) is not evaluated.
//
// Tests that need Envoy, a Collector or Jaeger skip where these are not installed,
// and print the command that installs them; with MESHTRACE_INTEROP=1 they fail.
package validate
