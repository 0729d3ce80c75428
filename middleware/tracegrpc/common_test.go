package tracegrpc_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
	"github.com/meshtrace/meshtrace/middleware/tracingtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testUnary  = "grpc.testing.TestService/UnaryCall"
	testEmpty  = "grpc.testing.TestService/EmptyCall"
	testOutput = "grpc.testing.TestService/StreamingOutputCall"
	testInput  = "grpc.testing.TestService/StreamingInputCall"
	testDuplex = "grpc.testing.TestService/FullDuplexCall"

	traceHex    = "0af7651916cd43dd8448eb211c80319c"
	traceparent = "00-" + traceHex + "-b7ad6b7169203331-01"
	unsampled   = "00-" + traceHex + "-b7ad6b7169203331-00"
	requestID   = "7a3c4e9d-5d43-9b5e-8c11-2f1e60a86d2b"
)

// service is a TestService whose methods a test may replace.
type service struct {
	pb.UnimplementedTestServiceServer
	unary  func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error)
	empty  func(context.Context) error
	output func(grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error
	duplex func(grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error
}

func (s *service) EmptyCall(ctx context.Context, _ *pb.Empty) (*pb.Empty, error) {
	if s.empty != nil {
		return &pb.Empty{}, s.empty(ctx)
	}
	return &pb.Empty{}, nil
}

func (s *service) UnaryCall(ctx context.Context, req *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if s.unary != nil {
		return s.unary(ctx, req)
	}
	return &pb.SimpleResponse{}, nil
}

// StreamingOutputCall answers with three messages.
func (s *service) StreamingOutputCall(_ *pb.StreamingOutputCallRequest, ss grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	if s.output != nil {
		return s.output(ss)
	}
	for range 3 {
		if err := ss.Send(&pb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
	return nil
}

// StreamingInputCall reads all and answers once.
func (s *service) StreamingInputCall(ss grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	for {
		if _, err := ss.Recv(); err != nil {
			return ss.SendAndClose(&pb.StreamingInputCallResponse{})
		}
	}
}

// FullDuplexCall echoes.
func (s *service) FullDuplexCall(ss grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	if s.duplex != nil {
		return s.duplex(ss)
	}
	for {
		if _, err := ss.Recv(); err != nil {
			return nil
		}
		if err := ss.Send(&pb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

// listen serves srv on loopback and returns the port.
func listen(t testing.TB, srv *grpc.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// dial connects to a target.
func dial(t testing.TB, target string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cc.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return cc
}

// setup serves svc and returns a traced client of it, and the spans of both.
func setup(t testing.TB, cfg middleware.Config, svc pb.TestServiceServer, opts ...grpc.ServerOption) (pb.TestServiceClient, *tracingtest.Spans, *middleware.Tracing) {
	t.Helper()
	tracing, spans := tracingtest.New(t, cfg)
	srv := grpc.NewServer(append(tracegrpc.ServerOptions(tracing), opts...)...)
	pb.RegisterTestServiceServer(srv, svc)
	port := listen(t, srv)
	return pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:"+port, tracegrpc.DialOptions(tracing)...)), spans, tracing
}

// within returns a context that fails a hanging test.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// sides waits for the spans of one call and returns them.
func sides(t testing.TB, spans *tracingtest.Spans) (client, server tracetest.SpanStub) {
	t.Helper()
	spans.Wait(t, 2)
	all := spans.All()
	if len(all) != 2 {
		t.Fatalf("%d spans, want 2:\n%s", len(all), spans.Tree())
	}
	for _, s := range all {
		switch s.SpanKind {
		case trace.SpanKindClient:
			client = s
		case trace.SpanKindServer:
			server = s
		}
	}
	return client, server
}

// wantAttrs compares attributes by their text; "-" is none, "*" any.
func wantAttrs(t testing.TB, s tracetest.SpanStub, want map[string]string) {
	t.Helper()
	set := attribute.NewSet(s.Attributes...)
	for key, w := range want {
		got := "-"
		if v, ok := set.Value(attribute.Key(key)); ok {
			got = v.String()
		}
		if got != w && !(w == "*" && got != "-") {
			t.Errorf("%v %q: %s = %q, want %q", s.SpanKind, s.Name, key, got, w)
		}
	}
}

// statusText is a status as tests write it: "" for Unset, else the error type and the
// description.
func statusText(s tracetest.SpanStub) string {
	if s.Status.Code == codes.Unset {
		return ""
	}
	set := attribute.NewSet(s.Attributes...)
	v, _ := set.Value("error.type")
	return strings.TrimSpace(s.Status.Code.String() + " " + v.AsString() + " " + s.Status.Description)
}

// serveHTTP serves h by net/http, over HTTP/2 without TLS, and returns the port.
func serveHTTP(t testing.TB, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: h, Protocols: protocols}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-served
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// pause lets others run.
func pause() { time.Sleep(time.Millisecond) }
