// Package size holds, as a test, what tracing adds to the size of a program: the
// same net/http server without it, by meshtrace, and by otelhttp with otlptracehttp.
//
//	go test -v ./size
package size
