// Package validate holds the tests of examples/deploy: every file there is decoded
// strictly, its values are compared with those of the other files, and what
// can be run is run.
//
//	cd examples/deploy/validate && go test .
//
// Kubernetes objects are decoded into the types of their projects, where the module
// proxy has these; the types in gloo.go, operator.go and config.go are of our own
// and name the fields that the files use, so that a mistyped one fails and a new one
// must be looked up. Rules that a cluster adds to types (admission, CEL in CRDs)
// are not evaluated.
//
// Tests that need Envoy, a Collector or Jaeger skip where these are not installed,
// and print the command that installs them; with MESHTRACE_INTEROP=1 they fail.
package validate
