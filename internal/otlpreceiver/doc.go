// Package otlpreceiver takes trace exports in, over OTLP/HTTP and OTLP/gRPC on one
// port, with net/http alone.
//
//	h := &otlpreceiver.Handler{Accept: func(request []byte) error {
//		spans, err := otlpwire.Decode(request)
//		if err != nil {
//			return err
//		}
//		return store(spans)
//	}}
//	l, err := net.Listen("tcp", "127.0.0.1:4318")
//	if err != nil { … }
//	err = otlpreceiver.Serve(ctx, l, h) // until ctx ends
//
// A request is an ExportTraceServiceRequest in protobuf; OTLP/JSON is refused. gRPC is
// what an exporter needs of it: unary calls, gzip or nothing, status in trailers, and
// google.rpc.RetryInfo. Deadlines that a client states are left to the client.
package otlpreceiver
