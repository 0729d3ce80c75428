package tracegrpc_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
	"github.com/meshtrace/meshtrace/middleware/tracingtest"
)

// TestHookPanics: a hook that panics fails no call, on either side, also beside a
// handler that panics. Nobody recovers on a gRPC server, nor where a stream ends on the
// transport's goroutine.
func TestHookPanics(t *testing.T) {
	for name, cfg := range map[string]middleware.Config{
		"SpanName": {SpanName: func(middleware.CallInfo, string) string { panic("hook") }},
		"Attributes": {
			Attributes:     func(middleware.CallInfo, []attribute.KeyValue) []attribute.KeyValue { panic("hook") },
			RequestHeaders: []string{"x-a"}, ResponseHeaders: []string{"x-b"},
		},
	} {
		for _, handlerPanics := range []bool{false, true} {
			t.Run(name+map[bool]string{true: "/handler panics too"}[handlerPanics], func(t *testing.T) {
				tracing, spans := tracingtest.New(t, cfg)
				var caught any
				recovering := []grpc.ServerOption{
					grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (_ any, err error) {
						defer func() {
							if caught = recover(); caught != nil {
								err = status.Error(codes.Internal, "recovered")
							}
						}()
						return h(ctx, req)
					}),
					grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
						defer func() {
							if caught = recover(); caught != nil {
								err = status.Error(codes.Internal, "recovered")
							}
						}()
						return h(srv, ss)
					}),
				}
				var value any
				if handlerPanics {
					value = "boom"
				}
				act := func() {
					if value != nil {
						panic(value)
					}
				}
				srv := grpc.NewServer(append(recovering, tracegrpc.ServerOptions(tracing)...)...)
				pb.RegisterTestServiceServer(srv, &service{
					empty:  func(context.Context) error { act(); return nil },
					output: func(grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error { act(); return nil },
				})
				client := pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:"+listen(t, srv), tracegrpc.DialOptions(tracing)...))
				want := codes.OK
				if handlerPanics {
					want = codes.Internal
				}
				if _, err := client.EmptyCall(within(t), &pb.Empty{}); status.Code(err) != want {
					t.Errorf("EmptyCall: %v, want %v", err, want)
				}
				spans.Wait(t, 2)
				if caught != value {
					t.Errorf("unary: the panic is %v, want the handler's %v", caught, value)
				}
				s, err := client.StreamingOutputCall(within(t), &pb.StreamingOutputCallRequest{})
				if err != nil {
					t.Fatal(err)
				}
				for err == nil {
					_, err = s.Recv()
				}
				if handlerPanics && status.Code(err) != want {
					t.Errorf("StreamingOutputCall: %v, want %v", err, want)
				}
				spans.Wait(t, 4)
				if caught != value {
					t.Errorf("stream: the panic is %v, want the handler's %v", caught, value)
				}
				for _, s := range spans.All() {
					if s.EndTime.IsZero() || s.Name != testEmpty && s.Name != testOutput {
						t.Errorf("span %q from %v to %v, want it whole under the method's name", s.Name, s.StartTime, s.EndTime)
					}
				}
			})
		}
	}
}

// TestErrorPanics: a handler's error that cannot be read fails the call and ends its span.
func TestErrorPanics(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	broken := fmt.Errorf("asking: %w", (*url.Error)(nil))
	_, err := tracegrpc.UnaryServerInterceptor(tracing)(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/" + testEmpty},
		func(context.Context, any) (any, error) { return nil, broken })
	if err != broken {
		t.Errorf("the interceptor returns %T, want the handler's error", err)
	}
	spans.Wait(t, 1)
	wantAttrs(t, spans.All()[0], map[string]string{"rpc.response.status_code": "UNKNOWN"})
}
