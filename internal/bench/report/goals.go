package main

// goal is a row of the README's table: what DESIGN asks of one library beside another.
type goal struct {
	what   string
	bench  string // scenario, such as "Server/sampled"
	ours   string // library of the scenario
	beside string // the other one; "" for a goal that is absolute
	over   string // library whose cost both have and that is taken off; "" for none
	metric string // "" is cpu-ns/op
	ratio  float64
	allocs int // most allocations of ours; noLimit for any
	max    float64
	unit   string // of an absolute goal
}

const noLimit = -1

// goals are those of the project's design, in its order.
var goals = []goal{
	{what: "HTTP server span, sampled", bench: "Server/sampled", ours: "meshtrace", beside: "otelhttp", ratio: 0.33, allocs: 14},
	{what: "HTTP server span, not sampled", bench: "Server/unsampled", ours: "meshtrace", beside: "otelhttp", ratio: 0.15, allocs: 6},
	{what: "HTTP client span, sampled", bench: "Client/sampled", ours: "meshtrace", beside: "otelhttp", over: "nothing", ratio: 0.4, allocs: noLimit},
	{what: "HTTP client span, not sampled", bench: "Client/unsampled", ours: "meshtrace", beside: "otelhttp", over: "nothing", ratio: 0.2, allocs: noLimit},
	{what: "gRPC unary call, both sides, added", bench: "Unary/sampled", ours: "meshtrace", beside: "otelgrpc", over: "nothing", ratio: 0.4, allocs: noLimit},
	{what: "extract traceparent", bench: "Extract/traceparent", ours: "meshtrace", beside: "otel", ratio: 0.4, allocs: 3},
	{what: "extract traceparent and tracestate", bench: "Extract/tracestate", ours: "meshtrace", beside: "otel", ratio: 0.4, allocs: noLimit},
	{what: "extract b3", bench: "Extract/b3", ours: "meshtrace", beside: "contrib-b3", ratio: 0.4, allocs: noLimit},
	{what: "extract x-b3-*", bench: "Extract/x-b3", ours: "meshtrace", beside: "contrib-b3", ratio: 0.4, allocs: noLimit},
	{what: "extract baggage", bench: "Extract/baggage", ours: "meshtrace", beside: "otel", ratio: 0.4, allocs: noLimit},
	{what: "extract, all formats and the id", bench: "Extract/default", ours: "meshtrace", beside: "otel", ratio: 0.4, allocs: noLimit},
	{what: "inject traceparent", bench: "Inject/traceparent", ours: "meshtrace", beside: "otel", ratio: 0.4, allocs: noLimit},
	{what: "inject traceparent and tracestate", bench: "Inject/tracestate", ours: "meshtrace", beside: "otel", ratio: 0.4, allocs: noLimit},
	{what: "inject b3", bench: "Inject/b3", ours: "meshtrace", beside: "contrib-b3", ratio: 0.4, allocs: noLimit},
	{what: "inject x-b3-*", bench: "Inject/x-b3", ours: "meshtrace", beside: "contrib-b3", ratio: 0.4, allocs: noLimit},
	{what: "inject baggage", bench: "Inject/baggage", ours: "meshtrace", beside: "otel", ratio: 0.4, allocs: noLimit},
	{what: "`ParseTraceparent`", bench: "Parse/traceparent", ours: "meshtrace", allocs: 0},
	{what: "`ParseB3`", bench: "Parse/b3", ours: "meshtrace", allocs: 0},
	{what: "`ParseB3Multi`", bench: "Parse/x-b3", ours: "meshtrace", allocs: 0},
	{what: "a new request id", bench: "NewID/version_4", ours: "meshtrace", beside: "google-uuid", ratio: 0.4, allocs: 1},
	{what: "export over gRPC, CPU a span beyond creating it", bench: "Export/ten-attributes", ours: "meshtrace-grpc", beside: "otlptracegrpc", over: "creation", ratio: 0.15, allocs: 0},
	{what: "export over HTTP, CPU a span beyond creating it", bench: "Export/ten-attributes", ours: "meshtrace-http", beside: "otlptracehttp", over: "creation", ratio: 0.15, allocs: 0},
	{what: "`OnEnd` of 10 attributes, median", bench: "OnEnd/ten-attributes", ours: "meshtrace", metric: "p50-ns", max: 400, unit: "ns", allocs: 0},
	{what: "`OnEnd` of 10 attributes, 99 of 100", bench: "OnEnd/ten-attributes", ours: "meshtrace", metric: "p99-ns", max: 3000, unit: "ns", allocs: 0},
	{what: "linked size of a net/http program, added", bench: "Size/stripped", ours: "meshtrace", beside: "otelhttp+otlptracehttp", over: "nothing", metric: "bytes", ratio: 0.5, allocs: noLimit},
}
