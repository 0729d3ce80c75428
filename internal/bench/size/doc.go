// Package size has three net/http programs that differ in nothing but tracing: plain has
// none, meshtrace has middleware, otel has otelhttp, the SDK and otlptracehttp. How much
// larger a program gets is the size of one less that of plain.
package size
