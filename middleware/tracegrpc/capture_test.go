package tracegrpc_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
	"github.com/meshtrace/meshtrace/middleware/tracingtest"
)

// TestMetadataCapture: chosen metadata become attributes, on both sides, whichever way a
// handler sets them.
func TestMetadataCapture(t *testing.T) {
	cfg := middleware.Config{RequestHeaders: []string{"X-Tenant", "x-trace-bin"}, ResponseHeaders: []string{"x-answer", "x-late", "x-failed"}}
	one, two, late := metadata.Pairs("x-answer", "a"), metadata.Pairs("x-answer", "b"), metadata.Pairs("x-late", "c")
	tooLate := metadata.Pairs("x-failed", "after the headers went out")
	byContext := func(ctx context.Context) error {
		grpc.SetHeader(ctx, one)
		grpc.SendHeader(ctx, two)
		if grpc.SetHeader(ctx, tooLate) == nil {
			t.Error("headers can be set that went out already")
		}
		return grpc.SetTrailer(ctx, late)
	}
	byStream := func(ss grpc.ServerStream) error {
		ss.SetHeader(one)
		ss.SendHeader(two)
		if ss.SetHeader(tooLate) == nil {
			t.Error("headers can be set that went out already")
		}
		ss.SetTrailer(late)
		return nil
	}
	implicit := func(ctx context.Context) error { // the headers go out with the answer
		grpc.SetHeader(ctx, metadata.Join(one, two))
		grpc.SetTrailer(ctx, late)
		return nil
	}
	failing := func(ctx context.Context) error {
		implicit(ctx)
		return status.Error(codes.NotFound, "not here")
	}
	unary := func(f func(context.Context) error) *service { return &service{empty: f} }
	stream := func(f func(grpc.ServerStream) error) *service {
		return &service{output: func(ss grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error { return f(ss) }}
	}
	for _, tt := range []struct {
		name    string
		service *service
		stream  bool
	}{
		{"unary", unary(byContext), false},
		{"unary, with the answer", unary(implicit), false},
		{"unary, failed", unary(failing), false},
		{"stream", stream(byStream), true},
		{"stream, by its context", stream(func(ss grpc.ServerStream) error { return byContext(ss.Context()) }), true},
		{"stream, with the answer", stream(func(ss grpc.ServerStream) error {
			implicit(ss.Context())
			return ss.SendMsg(&pb.StreamingOutputCallResponse{})
		}), true},
		{"stream, failed", stream(func(ss grpc.ServerStream) error { return failing(ss.Context()) }), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, spans, _ := setup(t, cfg, tt.service)
			ctx := metadata.AppendToOutgoingContext(within(t), "x-tenant", "7", "x-trace-bin", "\x00\xff", "x-secret", "s")
			if tt.stream {
				out, err := client.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{})
				for err == nil {
					_, err = out.Recv()
				}
			} else {
				client.EmptyCall(ctx, &pb.Empty{})
			}
			c, s := sides(t, spans)
			for _, side := range []tracetest.SpanStub{c, s} {
				wantAttrs(t, side, map[string]string{
					"rpc.request.metadata.x-tenant":    `["7"]`,
					"rpc.request.metadata.x-trace-bin": `["AP8="]`,
					"rpc.request.metadata.x-secret":    "-",
					"rpc.response.metadata.x-answer":   `["a","b"]`,
					"rpc.response.metadata.x-late":     `["c"]`,
					"rpc.response.metadata.x-failed":   "-",
				})
			}
		})
	}
}

// TestCaptureKeepsStream: a handler finds gRPC's own stream in its context, which alone
// lets it choose a compressor, also where metadata are captured.
func TestCaptureKeepsStream(t *testing.T) {
	for _, cfg := range []middleware.Config{{}, {ResponseHeaders: []string{"x-answer"}}} {
		client, _, _ := setup(t, cfg, &service{
			empty: func(ctx context.Context) error { return grpc.SetSendCompressor(ctx, gzip.Name) },
			output: func(ss grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
				return grpc.SetSendCompressor(ss.Context(), gzip.Name)
			},
		})
		if _, err := client.EmptyCall(within(t), &pb.Empty{}); err != nil {
			t.Errorf("ResponseHeaders %q: unary: %v", cfg.ResponseHeaders, err)
		}
		out, err := client.StreamingOutputCall(within(t), &pb.StreamingOutputCallRequest{})
		if err == nil {
			_, err = out.Recv()
		}
		if err != io.EOF {
			t.Errorf("ResponseHeaders %q: stream: %v", cfg.ResponseHeaders, err)
		}
	}
}

// foreignStream is the stream of a server that is not gRPC's.
type foreignStream struct {
	method          string
	header, trailer metadata.MD
	closed          bool
}

func (s *foreignStream) Method() string { return s.method }

func (s *foreignStream) SetHeader(md metadata.MD) error {
	if s.closed {
		return errors.New("too late")
	}
	s.header = metadata.Join(s.header, md)
	return nil
}

func (s *foreignStream) SendHeader(md metadata.MD) error {
	err := s.SetHeader(md)
	s.closed = true
	return err
}

func (s *foreignStream) SetTrailer(md metadata.MD) error {
	s.trailer = metadata.Join(s.trailer, md)
	return nil
}

// foreignServerStream is the same for a stream's handler.
type foreignServerStream struct {
	grpc.ServerStream
	*foreignStream
	ctx context.Context
}

func (s *foreignServerStream) Context() context.Context        { return s.ctx }
func (s *foreignServerStream) SetHeader(md metadata.MD) error  { return s.foreignStream.SetHeader(md) }
func (s *foreignServerStream) SendHeader(md metadata.MD) error { return s.foreignStream.SendHeader(md) }
func (s *foreignServerStream) SetTrailer(md metadata.MD)       { s.foreignStream.SetTrailer(md) }

// TestCaptureOfForeignServer: a server of another kind, such as one inside the process,
// has a stream that tells nothing afterwards.
func TestCaptureOfForeignServer(t *testing.T) {
	const full = "/" + testEmpty
	act := func(ctx context.Context, byStream grpc.ServerStream) {
		set := func(md metadata.MD) error { return grpc.SetHeader(ctx, md) }
		if byStream != nil {
			set = byStream.SetHeader
		}
		set(metadata.Pairs("x-answer", "a"))
		grpc.SendHeader(ctx, metadata.Pairs("x-answer", "b"))
		set(metadata.Pairs("x-failed", "too late"))
		if byStream != nil {
			byStream.SetTrailer(metadata.Pairs("x-late", "c"))
			return
		}
		grpc.SetTrailer(ctx, metadata.Pairs("x-late", "c"))
	}
	for _, kind := range []string{"unary", "stream", "no stream"} {
		t.Run(kind, func(t *testing.T) {
			tracing, spans := tracingtest.New(t, middleware.Config{ResponseHeaders: []string{"x-answer", "x-late", "x-failed"}})
			stream := &foreignStream{method: full}
			ctx := grpc.NewContextWithServerTransportStream(t.Context(), stream)
			want := map[string]string{
				"rpc.response.metadata.x-answer": `["a","b"]`, "rpc.response.metadata.x-late": `["c"]`,
				"rpc.response.metadata.x-failed": "-",
			}
			switch kind {
			case "stream":
				tracegrpc.StreamServerInterceptor(tracing)(t, &foreignServerStream{foreignStream: stream, ctx: ctx}, &grpc.StreamServerInfo{FullMethod: full},
					func(_ any, ss grpc.ServerStream) error { act(ss.Context(), ss); return nil })
			case "no stream": // a test of a handler
				ctx, want = t.Context(), map[string]string{"rpc.response.metadata.x-answer": "-"}
				fallthrough
			default:
				tracegrpc.UnaryServerInterceptor(tracing)(ctx, nil, &grpc.UnaryServerInfo{FullMethod: full},
					func(ctx context.Context, _ any) (any, error) { act(ctx, nil); return nil, nil })
			}
			wantAttrs(t, spans.All()[0], want)
			if got := stream.header.Get("x-answer"); kind != "no stream" && !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("the stream's headers are %q, want what the handler set", got)
			}
		})
	}
}
