// Package otlpgrpc sends an Exporter's requests over a gRPC connection that the program
// has already.
//
//	cc, err := grpc.NewClient("dns:///collector:4317", grpc.WithTransportCredentials(creds))
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer cc.Close() // runs last
//	exp, err := exporter.New(exporter.Config{Sender: otlpgrpc.New(cc)})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer exp.Shutdown(context.Background())
//
// It is for programs whose connections are made in one place: their own credentials,
// resolver, balancer, proxy or keepalive. Others need no gRPC at all: an Endpoint with
// protocol grpc speaks OTLP/gRPC over net/http. This is the only package beside
// middleware/tracegrpc that links gRPC.
//
// # The connection
//
// Credentials, keepalive, compression ([grpc.UseCompressor] as a default call option)
// and per-call headers are the connection's. Give it keepalive parameters: without
// them a connection that a firewall has forgotten is noticed by the time limit of a
// request alone. Do not trace it: each export would make a span to export.
//
// While a connection cannot be made, grpc-go waits longer and longer between its
// attempts, two minutes in the end. A Sender asks it to try again at once before each
// request, at most about once a second, so that a collector that comes back has the
// spans within a second. It does so where the connection is a [grpc.ClientConn], and
// other users of the same connection see it reconnect as soon.
//
// # Limits
//
// Requests are bytes when they reach gRPC: interceptors see a message that is no
// proto.Message. A request takes at most 10 s, the default of OTLP. The variables
// OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS, _TIMEOUT and _CERTIFICATE do not change a
// connection that is there.
package otlpgrpc
