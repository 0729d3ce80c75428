// Package exporter sends finished spans to an OpenTelemetry collector and accounts
// for every one of them.
//
//	exp, err := exporter.New(exporter.Config{Endpoint: "collector:4317"}) // OTEL_* variables win
//	if err != nil {
//		log.Fatal(err)
//	}
//	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(exp))
//	defer provider.Shutdown(context.Background())
//	defer exp.Shutdown(context.Background()) // runs first, see below
//
// An [Exporter] takes the place of the SDK's batch processor and its OTLP exporter at
// once. Each span that ends is encoded into a queue whose bound is one of memory; no
// span object is kept. Batches go out as OTLP/HTTP or OTLP/gRPC, both over net/http,
// up to [Config].InFlight at a time, and what fails is sent again for as long as the
// queue holds it. A file takes them as lines of OTLP/JSON, by an endpoint file:path or
// by [JSONLines]; [Console] is for the eyes.
//
// # The accounts
//
// At every moment, in every snapshot that [Exporter.Stats] gives:
//
//	ended + recovered = delivered + rejected{answer} + dropped{reason} + kept
//
// A span enters ended in the same critical section that puts it into the queue or
// counts why it is not there. A batch leaves kept in the one that counts what became
// of it. Both sides are counted, none is derived, and [Stats.Balanced] compares them.
//
//   - ended: sampled spans that ended. Those not sampled are nobody's business;
//     those started and not ended are [Stats].Live, beside the accounts.
//   - recovered: found in a queue directory. There is none yet, so it is 0.
//   - delivered: a request with them was accepted. If an answer is lost on its way
//     the spans go again: the collector may see a span twice, it counts once here.
//   - rejected: the collector refused them for good, by its answer: an HTTP status,
//     a gRPC code, or "partial_success" for those it picked out of an accepted request.
//   - dropped: given up here, by reason: [DropQueueFull], [DropShutdown],
//     [DropTooLarge], [DropPanic].
//   - kept: in the queue, waiting to be sent again, or in flight.
//
// # Failures
//
// Nothing here fails or slows the program, or blocks it unless Config.Full is [Block].
// A request is repeated as OTLP has
// it: when there was no answer or one that means later (429, 502, 503, 504;
// CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS, and
// RESOURCE_EXHAUSTED with RetryInfo), after a pause that doubles and is half chance:
// at most 0.9 s without an answer, so that a collector that comes back hears of the
// spans within a second, at most 5 s with one. Retry-After and RetryInfo are obeyed,
// up to 5 minutes. While requests fail there is one at a time. A request that is too
// large is sent in halves.
//
// One line says where spans go and which setting came from where. A failed contact takes
// its place within a second of [New], in one line that names the option or variable to
// change; then at most one line a minute for each kind of trouble, and one when it heals:
//
//	exporter: localhost:4318 speaks HTTP/1, not gRPC: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or give its gRPC port (4317) in OTEL_EXPORTER_OTLP_ENDPOINT
//
// Spans that are dropped are told when that begins, once a minute while it lasts, and
// when it is over, with their number.
//
// # Shutdown
//
// Shut the Exporter down before the SDK's provider: a provider that was shut down no
// longer tells its processors of spans that end late, and they would be missing from the
// accounts. [Exporter.Shutdown] returns by its context's deadline, or within 5 s, and
// says in a [LossError] how many spans it had to give up.
//
// # Limits
//
// The queue is memory: a killed process loses what is in it, up to [Config].Delay of
// spans when all is well. An endpoint's answer is read up to 4 MiB, its header and
// trailer up to 64 KiB each. Redirects are not followed. A span larger than a request
// is cut string by string, and dropped if that does not help.
package exporter
