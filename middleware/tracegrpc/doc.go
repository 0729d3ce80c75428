// Package tracegrpc traces gRPC servers and clients, by interceptors.
//
//	tracing, err := middleware.Setup(ctx, middleware.Config{Service: "driver"})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer tracing.Shutdown(context.Background())
//
//	srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
//	cc, err := grpc.NewClient("dns:///route:9090", tracegrpc.DialOptions(tracing)...)
//
// A call has one span on each side, whatever its kind: unary, client stream, server
// stream, both. Its name is the method, "package.Service/Method". Request id, trace
// context and baggage travel in metadata; handlers need no change.
//
// # When a span ends
//
// On the server with the handler, also when it panics; the panic goes on. On the
// client with the call's status: the unary call returns, or the stream ends by its
// last message, an error, its context or its connection. A stream that is neither
// read to its end nor cancelled has no end, for gRPC either.
//
// # Attributes
//
// rpc.system.name, rpc.method, rpc.response.status_code; error.type where the status
// is an error of that side, see [span.StatusMap]; server.address and server.port, on
// the client from the dial target and never from the address it resolved to, on the
// server from what the caller asked for; network.peer.address and network.peer.port
// on the server; the number of messages of a stream; the attempts before this one
// where the client states them. Metadata that Config.RequestHeaders and
// Config.ResponseHeaders name becomes rpc.request.metadata.<key> and
// rpc.response.metadata.<key>, values of keys that end in -bin in base64.
//
// With a Config.MeterProvider every call is measured as rpc.server.call.duration or
// rpc.client.call.duration, traced or not.
//
// # Limits
//
// Interceptors see calls, not attempts: a call that gRPC retries by itself is one
// span of the client, with a span of the server for each attempt. They do not see
// messages that cannot be decoded or are too large, nor a path that is no method.
// A method that nobody registered has a span named "grpc" with rpc.method "_OTHER",
// so that no stranger adds names; that takes [ServerOptions], since interceptors
// alone are not asked.
//
// [span.StatusMap]: https://pkg.go.dev/github.com/meshtrace/meshtrace/span#StatusMap
package tracegrpc
