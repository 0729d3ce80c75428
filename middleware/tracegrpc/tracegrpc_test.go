package tracegrpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
	"github.com/meshtrace/meshtrace/middleware/tracingtest"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

func TestUnary(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	var inside requestid.ID
	srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
	pb.RegisterTestServiceServer(srv, &service{empty: func(ctx context.Context) error {
		inside = requestid.FromContext(ctx)
		span.SetAttributes(ctx, attribute.String("set", "inside"))
		return nil
	}})
	port := listen(t, srv)
	client := pb.NewTestServiceClient(dial(t, "dns:///localhost:"+port, tracegrpc.DialOptions(tracing)...))
	ctx := requestid.NewContext(within(t), requestID)
	if _, err := client.EmptyCall(ctx, &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	spans.Want(t, "CLIENT "+testEmpty+"\n  SERVER "+testEmpty)
	c, s := sides(t, spans)
	both := map[string]string{
		"rpc.system.name":                 "grpc",
		"rpc.method":                      testEmpty,
		"rpc.method_original":             "-",
		"rpc.response.status_code":        "OK",
		"error.type":                      "-",
		"server.address":                  "localhost",
		"server.port":                     port,
		"meshtrace.rpc.messages.sent":     "-",
		"meshtrace.rpc.messages.received": "-",
	}
	wantAttrs(t, c, both)
	wantAttrs(t, s, both)
	wantAttrs(t, s, map[string]string{
		"set":                             "inside",
		"guid:x-request-id":               string(inside),
		"network.peer.address":            "127.0.0.1",
		"network.peer.port":               "*",
		"http.request.method":             "-",
		"meshtrace.rpc.previous_attempts": "-",
	})
	wantAttrs(t, c, map[string]string{"network.peer.address": "-"})
	if !requestid.Equal(inside, requestID) {
		t.Errorf("request id in the handler = %q, want %q", inside, requestID)
	}
	if !s.Parent.IsRemote() {
		t.Errorf("server's parent = %+v, want a remote one", s.Parent)
	}
}

// TestStreams: each kind of call is one span on each side, with its messages counted.
func TestStreams(t *testing.T) {
	for _, tt := range []struct {
		name           string
		call           func(context.Context, pb.TestServiceClient) error
		sent, received string // by the client
	}{
		{testOutput, func(ctx context.Context, c pb.TestServiceClient) error {
			s, err := c.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{})
			if err != nil {
				return err
			}
			for err == nil {
				_, err = s.Recv()
			}
			return err
		}, "1", "3"},
		{testInput, func(ctx context.Context, c pb.TestServiceClient) error {
			s, err := c.StreamingInputCall(ctx)
			for i := 0; i < 4 && err == nil; i++ {
				err = s.Send(&pb.StreamingInputCallRequest{})
			}
			if err != nil {
				return err
			}
			_, err = s.CloseAndRecv()
			return err
		}, "4", "1"},
		{testDuplex, func(ctx context.Context, c pb.TestServiceClient) error {
			s, err := c.FullDuplexCall(ctx)
			for i := 0; i < 2 && err == nil; i++ {
				if err = s.Send(&pb.StreamingOutputCallRequest{}); err == nil {
					_, err = s.Recv()
				}
			}
			if err != nil {
				return err
			}
			if err := s.CloseSend(); err != nil {
				return err
			}
			_, err = s.Recv()
			return err
		}, "2", "2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, spans, _ := setup(t, middleware.Config{}, &service{})
			if err := tt.call(within(t), client); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			spans.Want(t, "CLIENT "+tt.name+"\n  SERVER "+tt.name)
			c, s := sides(t, spans)
			wantAttrs(t, c, map[string]string{"meshtrace.rpc.messages.sent": tt.sent, "meshtrace.rpc.messages.received": tt.received, "rpc.response.status_code": "OK"})
			wantAttrs(t, s, map[string]string{"meshtrace.rpc.messages.sent": tt.received, "meshtrace.rpc.messages.received": tt.sent, "rpc.response.status_code": "OK"})
		})
	}
}

// TestStatus: the conventions' rule of errors, for unary calls and streams alike.
func TestStatus(t *testing.T) {
	serverErrors := map[codes.Code]bool{2: true, 4: true, 12: true, 13: true, 14: true, 15: true}
	var answer error
	client, spans, _ := setup(t, middleware.Config{}, &service{
		empty:  func(context.Context) error { return answer },
		output: func(grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error { return answer },
	})
	for code := codes.Code(1); code <= 17; code++ {
		for _, kind := range []string{"unary", "stream"} {
			spans.Reset()
			answer = status.Error(code, "why")
			var err error
			if kind == "unary" {
				_, err = client.EmptyCall(within(t), &pb.Empty{})
			} else {
				s, serr := client.StreamingOutputCall(within(t), &pb.StreamingOutputCallRequest{})
				if serr != nil {
					t.Fatal(serr)
				}
				_, err = s.Recv()
			}
			if status.Code(err) != code {
				t.Fatalf("%s: client got %v, want %v", kind, err, code)
			}
			name := span.GRPCCode(uint32(code))
			want := "Error " + name + " why"
			c, s := sides(t, spans)
			wantAttrs(t, c, map[string]string{"rpc.response.status_code": name})
			wantAttrs(t, s, map[string]string{"rpc.response.status_code": name})
			if got := statusText(c); got != want {
				t.Errorf("%s %v: client's status = %q, want %q", kind, code, got, want)
			}
			if !serverErrors[code] {
				want = ""
			}
			if got := statusText(s); got != want {
				t.Errorf("%s %v: server's status = %q, want %q", kind, code, got, want)
			}
		}
	}
}

// TestHandlerErrors: what carries no status is read as gRPC reads it.
func TestHandlerErrors(t *testing.T) {
	for _, tt := range []struct {
		name           string
		err            error
		server, client string
	}{
		{"plain", errors.New("boom"), "Error UNKNOWN boom", "Error UNKNOWN boom"},
		{"deadline", fmt.Errorf("db: %w", context.DeadlineExceeded), "Error DEADLINE_EXCEEDED db: context deadline exceeded", "Error DEADLINE_EXCEEDED db: context deadline exceeded"},
		{"cancelled", context.Canceled, "", "Error CANCELLED context canceled"},
		{"wrapped status", fmt.Errorf("db: %w", status.Error(codes.Internal, "broken")), "Error INTERNAL db: rpc error: code = Internal desc = broken", "Error INTERNAL db: rpc error: code = Internal desc = broken"},
		{"no message", status.Error(codes.Internal, ""), "Error INTERNAL", "Error INTERNAL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, spans, _ := setup(t, middleware.Config{}, &service{empty: func(context.Context) error { return tt.err }})
			if _, err := client.EmptyCall(within(t), &pb.Empty{}); err == nil {
				t.Fatal("the call did not fail")
			}
			c, s := sides(t, spans)
			if got := statusText(s); got != tt.server {
				t.Errorf("server's status = %q, want %q", got, tt.server)
			}
			if got := statusText(c); got != tt.client {
				t.Errorf("client's status = %q, want %q", got, tt.client)
			}
		})
	}
}

// TestStatusMap: Config.Status decides, not the interceptors.
func TestStatusMap(t *testing.T) {
	client, spans, _ := setup(t, middleware.Config{Status: span.AllErrors}, &service{empty: func(context.Context) error {
		return status.Error(codes.NotFound, "no such driver")
	}})
	if _, err := client.EmptyCall(within(t), &pb.Empty{}); err == nil {
		t.Fatal("the call did not fail")
	}
	if _, s := sides(t, spans); statusText(s) != "Error NOT_FOUND no such driver" {
		t.Errorf("server's status = %q, want an error", statusText(s))
	}
}

func TestSetError(t *testing.T) {
	client, spans, _ := setup(t, middleware.Config{}, &service{empty: func(ctx context.Context) error {
		span.SetError(ctx, io.ErrUnexpectedEOF)
		return nil
	}})
	if _, err := client.EmptyCall(within(t), &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	if _, s := sides(t, spans); statusText(s) != "Error io.ErrUnexpectedEOF unexpected EOF" {
		t.Errorf("server's status = %q, want the handler's error", statusText(s))
	}
}

// TestPanic: the span is an error of the panic's type, and the panic goes on to the
// interceptor around ours.
func TestPanic(t *testing.T) {
	for _, tt := range []struct {
		name  string
		value any
		want  string
	}{
		{"text", "boom", "Error panic panic: boom"},
		{"error", fmt.Errorf("x: %w", io.ErrUnexpectedEOF), "Error io.ErrUnexpectedEOF panic: x: unexpected EOF"},
	} {
		for _, kind := range []string{"unary", "stream"} {
			t.Run(tt.name+"/"+kind, func(t *testing.T) {
				tracing, spans := tracingtest.New(t, middleware.Config{})
				var caught any
				recovering := []grpc.ServerOption{
					grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (_ any, err error) {
						defer func() { caught, err = recover(), status.Error(codes.Internal, "recovered") }()
						return h(ctx, req)
					}),
					grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
						defer func() { caught, err = recover(), status.Error(codes.Internal, "recovered") }()
						return h(srv, ss)
					}),
				}
				srv := grpc.NewServer(append(recovering, tracegrpc.ServerOptions(tracing)...)...)
				pb.RegisterTestServiceServer(srv, &service{
					empty:  func(context.Context) error { panic(tt.value) },
					output: func(grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error { panic(tt.value) },
				})
				client := pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:"+listen(t, srv)))
				var err error
				if kind == "unary" {
					_, err = client.EmptyCall(within(t), &pb.Empty{})
				} else {
					s, serr := client.StreamingOutputCall(within(t), &pb.StreamingOutputCallRequest{})
					if serr != nil {
						t.Fatal(serr)
					}
					_, err = s.Recv()
				}
				if status.Convert(err).Message() != "recovered" {
					t.Fatalf("client got %v, want what the interceptor outside made of the panic", err)
				}
				if caught != tt.value {
					t.Errorf("the panic is %v, want %v unchanged", caught, tt.value)
				}
				spans.Wait(t, 1)
				if got := statusText(spans.All()[0]); got != tt.want {
					t.Errorf("status = %q, want %q", got, tt.want)
				}
				wantAttrs(t, spans.All()[0], map[string]string{"rpc.response.status_code": "-"})
			})
		}
	}
}

// TestClientStreamEnds: however a stream ends, its span does, once.
func TestClientStreamEnds(t *testing.T) {
	hold := func(ss grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
		if err := ss.Send(&pb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
		<-ss.Context().Done()
		return ss.Context().Err()
	}
	type stream = grpc.BidiStreamingClient[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, s stream, cancel func(), srv *grpc.Server)
		want string
	}{
		{"cancelled, never read", func(_ *testing.T, _ stream, cancel func(), _ *grpc.Server) { cancel() },
			"Error CANCELLED context canceled"},
		{"cancelled while reading", func(t *testing.T, s stream, cancel func(), _ *grpc.Server) {
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
			cancel()
			if _, err := s.Recv(); status.Code(err) != codes.Canceled {
				t.Errorf("Recv = %v, want CANCELLED", err)
			}
		}, "Error CANCELLED context canceled"},
		{"server gone", func(t *testing.T, s stream, _ func(), srv *grpc.Server) {
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
			srv.Stop()
			if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
				t.Errorf("Recv = %v, want UNAVAILABLE", err)
			}
		}, "Error UNAVAILABLE error reading from server: "},
		{"sending what cannot be encoded", func(t *testing.T, s stream, _ func(), _ *grpc.Server) {
			if err := s.SendMsg("no message"); status.Code(err) != codes.Internal {
				t.Errorf("SendMsg = %v, want INTERNAL", err)
			}
		}, "Error INTERNAL grpc: error while marshaling: proto: failed to marshal, message is string, want proto.Message"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracing, spans := tracingtest.New(t, middleware.Config{})
			srv := grpc.NewServer()
			pb.RegisterTestServiceServer(srv, &service{duplex: hold})
			client := pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:"+listen(t, srv), tracegrpc.DialOptions(tracing)...))
			ctx, cancel := context.WithCancel(within(t))
			defer cancel()
			s, err := client.FullDuplexCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Header(); err != nil {
				t.Fatal(err)
			}
			tt.end(t, s, cancel, srv)
			spans.Wait(t, 1)
			cancel()
			for { // whatever comes after the end changes nothing
				if _, err := s.Recv(); err != nil {
					break
				}
			}
			if got := len(spans.All()); got != 1 {
				t.Fatalf("%d spans, want 1:\n%s", got, spans.Tree())
			}
			if got := statusText(spans.All()[0]); !strings.HasPrefix(got, tt.want) {
				t.Errorf("status = %q, want it to begin with %q", got, tt.want)
			}
		})
	}
}

func TestClientFails(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	client := pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:1", tracegrpc.DialOptions(tracing)...))
	deadline, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name, want string
		ctx        context.Context
	}{
		{"refused", "UNAVAILABLE", within(t)},
		{"deadline", "DEADLINE_EXCEEDED", deadline},
		{"cancelled", "CANCELLED", cancelled},
	} {
		for _, kind := range []string{"unary", "stream"} {
			spans.Reset()
			var err error
			if kind == "unary" {
				_, err = client.EmptyCall(tt.ctx, &pb.Empty{})
			} else {
				_, err = client.FullDuplexCall(tt.ctx)
			}
			if err == nil {
				t.Fatalf("%s %s did not fail", tt.name, kind)
			}
			spans.Wait(t, 1)
			if got := spans.All(); len(got) != 1 || !strings.HasPrefix(statusText(got[0]), "Error "+tt.want) {
				t.Errorf("%s %s: %d spans, status %q, want 1, %s", tt.name, kind, len(got), statusText(got[0]), tt.want)
			}
			wantAttrs(t, spans.All()[0], map[string]string{"rpc.response.status_code": tt.want, "server.address": "127.0.0.1", "server.port": "1"})
		}
	}
}

// TestUnknownMethod: a stranger's words become no names.
func TestUnknownMethod(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
	pb.RegisterTestServiceServer(srv, &service{})
	cc := dial(t, "passthrough:///127.0.0.1:"+listen(t, srv))
	for _, tt := range []struct{ method, original string }{
		{"/no.Such/Method", "no.Such/Method"},
		{"/grpc.testing.TestService/NoSuch", "grpc.testing.TestService/NoSuch"},
		{"/a/b/c", "a/b/c"},
		{"/x.Y/" + strings.Repeat("z", 5000), ("x.Y/" + strings.Repeat("z", 5000))[:255]},
	} {
		spans.Reset()
		err := cc.Invoke(within(t), tt.method, &pb.Empty{}, &pb.Empty{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%.40s: client got %v, want UNIMPLEMENTED", tt.method, err)
		}
		if got := len(status.Convert(err).Message()); got > 400 {
			t.Errorf("%.40s: the message has %d bytes, want it bounded", tt.method, got)
		}
		spans.Want(t, "SERVER grpc !UNIMPLEMENTED")
		wantAttrs(t, spans.All()[0], map[string]string{"rpc.method": "_OTHER", "rpc.method_original": tt.original, "rpc.system.name": "grpc"})
	}
}

// TestProxy: methods that a handler of the program's own answers are methods; what
// nobody implements is none.
func TestProxy(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	srv := grpc.NewServer(append(tracegrpc.ServerOptions(tracing), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
		full, _ := grpc.MethodFromServerStream(ss)
		if full != "/known.Backend/Get" {
			return status.Error(codes.Unimplemented, "not here")
		}
		if err := ss.RecvMsg(&pb.Empty{}); err != nil {
			return err
		}
		return ss.SendMsg(&pb.Empty{})
	}))...)
	cc := dial(t, "passthrough:///127.0.0.1:"+listen(t, srv))
	if err := cc.Invoke(within(t), "/known.Backend/Get", &pb.Empty{}, &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	spans.Want(t, "SERVER known.Backend/Get")
	wantAttrs(t, spans.All()[0], map[string]string{"rpc.method": "known.Backend/Get", "rpc.method_original": "-"})
	spans.Reset()
	if err := cc.Invoke(within(t), "/other.Backend/Get", &pb.Empty{}, &pb.Empty{}); err == nil {
		t.Fatal("the call did not fail")
	}
	spans.Want(t, "SERVER grpc !UNIMPLEMENTED")
}

// TestHealth: health checks are served, and never traced; ids travel all the same.
func TestHealth(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
	checker := health.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, checker)
	cc := dial(t, "passthrough:///127.0.0.1:"+listen(t, srv))
	client := grpc_health_v1.NewHealthClient(cc)
	resp, err := client.Check(within(t), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || resp.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("Check = %v, %v, want SERVING", resp, err)
	}
	ctx, cancel := context.WithCancel(within(t))
	watch, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	checker.Shutdown()
	srv.GracefulStop() // every handler has returned
	if got := spans.Tree(); got != "" {
		t.Errorf("spans =\n%s\nwant none", got)
	}
}

// TestResponseID: the policy puts the id into the headers, never into trailers.
func TestResponseID(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  middleware.Config
		send []string
		want bool
	}{
		{"default", middleware.Config{}, nil, false},
		{"RID-18 policy", middleware.Config{RequestID: requestid.Policy{InResponse: true}}, nil, true},
		{"RID-18 forced", middleware.Config{}, []string{"x-envoy-force-trace", "1"}, true},
	} {
		for _, fails := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/fails %v", tt.name, fails), func(t *testing.T) {
				var inside requestid.ID
				client, _, _ := setup(t, tt.cfg, &service{empty: func(ctx context.Context) error {
					inside = requestid.FromContext(ctx)
					if fails {
						return status.Error(codes.NotFound, "")
					}
					return nil
				}})
				var header, trailer metadata.MD
				ctx := metadata.AppendToOutgoingContext(within(t), tt.send...)
				if _, err := client.EmptyCall(ctx, &pb.Empty{}, grpc.Header(&header), grpc.Trailer(&trailer)); (err != nil) != fails {
					t.Fatal(err)
				}
				want := []string(nil)
				if tt.want {
					want = []string{string(inside)}
				}
				if got := header.Get("x-request-id"); fmt.Sprint(got) != fmt.Sprint(want) || inside == "" {
					t.Errorf("x-request-id in the headers = %q, want %q", got, want)
				}
				if got := trailer.Get("x-request-id"); got != nil {
					t.Errorf("x-request-id in the trailers = %q, want none", got)
				}
			})
		}
	}
}

// echo returns the metadata that a call brings to the server.
func echo(t *testing.T, tracing *middleware.Tracing, ctx context.Context) metadata.MD {
	t.Helper()
	var got metadata.MD
	srv := grpc.NewServer()
	pb.RegisterTestServiceServer(srv, &service{empty: func(ctx context.Context) error {
		got, _ = metadata.FromIncomingContext(ctx)
		return nil
	}})
	client := pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:"+listen(t, srv), tracegrpc.DialOptions(tracing)...))
	if _, err := client.EmptyCall(ctx, &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestOutgoing: what goes out of a request, beside and instead of what a program
// put into the metadata itself.
func TestOutgoing(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   metadata.MD // outgoing metadata of the program
		want map[string]string
	}{
		{"nothing there", nil, map[string]string{"x-request-id": requestID, "b3": ""}},
		{"beside", metadata.MD{"authorization": {"secret"}, "k": {"a", "b"}},
			map[string]string{"x-request-id": requestID, "authorization": "secret", "k": "a,b"}},
		{"forwarded", metadata.MD{"traceparent": {traceparent}, "b3": {"0"}, "x-b3-traceid": {traceHex}},
			map[string]string{"x-request-id": requestID, "b3": "", "x-b3-traceid": ""}}, // B-13
		{"binary", metadata.MD{"x-bin": {"\x00\xff"}}, map[string]string{"x-bin": "\x00\xff"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracing, spans := tracingtest.New(t, middleware.Config{})
			ctx, call := tracing.StartServer(within(t), middleware.Incoming{Name: "x", Carrier: headers{"x-request-id": requestID, "traceparent": traceparent}})
			if tt.in != nil {
				ctx = metadata.NewOutgoingContext(ctx, tt.in)
			}
			md := echo(t, tracing, ctx)
			call.End(middleware.Outcome{})
			client := spans.Named(t, testEmpty).SpanContext
			want := fmt.Sprintf("00-%s-%s-01", traceHex, client.SpanID())
			if got := md.Get("traceparent"); len(got) != 1 || got[0] != want {
				t.Errorf("traceparent = %q, want %q alone", got, want)
			}
			for key, want := range tt.want {
				if got := strings.Join(md.Get(key), ","); got != want {
					t.Errorf("%s = %q, want %q", key, got, want)
				}
			}
		})
	}
}

// headers is a carrier of a test.
type headers map[string]string

func (h headers) Get(key string) string { return h[key] }
func (h headers) Set(key, value string) { h[key] = value }
func (h headers) Keys() []string        { return nil }

// TestCallerContext: the metadata of a caller, in every format, leads into its trace.
func TestCallerContext(t *testing.T) {
	for _, tt := range []struct {
		name  string
		send  []string
		spans int
	}{
		{"traceparent", []string{"traceparent", traceparent}, 1},
		{"traceparent unsampled", []string{"traceparent", unsampled}, 0},
		{"b3", []string{"b3", traceHex + "-b7ad6b7169203331-1"}, 1},
		{"x-b3", []string{"x-b3-traceid", traceHex, "x-b3-spanid", "b7ad6b7169203331", "x-b3-sampled", "1"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracing, spans := tracingtest.New(t, middleware.Config{})
			var inside trace.SpanContext
			var id requestid.ID
			var bag string
			srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
			pb.RegisterTestServiceServer(srv, &service{empty: func(ctx context.Context) error {
				inside, id = trace.SpanContextFromContext(ctx), requestid.FromContext(ctx)
				bag = baggage.FromContext(ctx).Member("customer").Value()
				return nil
			}})
			client := pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:"+listen(t, srv)))
			ctx := metadata.AppendToOutgoingContext(within(t), append(tt.send, "x-request-id", requestID, "baggage", "customer=123")...)
			if _, err := client.EmptyCall(ctx, &pb.Empty{}); err != nil {
				t.Fatal(err)
			}
			srv.GracefulStop()
			if inside.TraceID().String() != traceHex || inside.IsSampled() != (tt.spans == 1) {
				t.Errorf("span context in the handler = %+v, want trace %s, sampled %v", inside, traceHex, tt.spans == 1)
			}
			if !requestid.Equal(id, requestID) || bag != "123" {
				t.Errorf("request id, baggage = %q, %q, want %q, 123", id, bag, requestID)
			}
			if got := spans.All(); len(got) != tt.spans {
				t.Errorf("%d spans, want %d", len(got), tt.spans)
			}
		})
	}
}

// TestBadMetadata: no header of any kind fails a call.
func TestBadMetadata(t *testing.T) {
	client, spans, _ := setup(t, middleware.Config{RequestID: requestid.Policy{AnyBytes: true, InResponse: true}}, &service{})
	for _, send := range [][]string{
		{"traceparent", "x"}, {"traceparent", traceparent, "traceparent", traceparent},
		{"b3", "---"}, {"x-b3-traceid", strings.Repeat("f", 9000)}, {"x-ot-span-context", "%%%"},
		{"baggage", ";;,,=" + strings.Repeat("a=b,", 2000)}, {"x-request-id", strings.Repeat("x", 4000)},
		{"x-request-id", ""}, {"tracestate", "=,=,"}, {"x-client-trace-id", strings.Repeat("y", 4000)},
		{"grpc-previous-rpc-attempts", "-1"},
	} {
		spans.Reset()
		if _, err := client.EmptyCall(metadata.AppendToOutgoingContext(within(t), send...), &pb.Empty{}); err != nil {
			t.Errorf("%.40q: %v", send, err)
		}
		spans.Wait(t, 2)
	}
}

// TestUnsendable: ids and baggage that metadata cannot carry are left out; the call
// goes on.
func TestUnsendable(t *testing.T) {
	for name, in := range map[string]metadata.MD{"nothing there": nil, "beside": {"k": {"v"}}} {
		t.Run(name, func(t *testing.T) {
			tracing, _ := tracingtest.New(t, middleware.Config{})
			ctx := requestid.NewContext(within(t), "caf\xe9\n")
			if in != nil {
				ctx = metadata.NewOutgoingContext(ctx, in)
			}
			md := echo(t, tracing, ctx)
			if got := md.Get("x-request-id"); got != nil {
				t.Errorf("x-request-id = %q, want none", got)
			}
			if got := md.Get("traceparent"); len(got) != 1 {
				t.Errorf("traceparent = %q, want one", got)
			}
		})
	}
}

// TestNested: a call made while serving one is in the same trace, and its id is the
// same byte for byte.
func TestNested(t *testing.T) {
	var ids []requestid.ID
	inner, spans, tracing := setup(t, middleware.Config{}, &service{empty: func(ctx context.Context) error {
		ids = append(ids, requestid.FromContext(ctx))
		return nil
	}})
	srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
	pb.RegisterTestServiceServer(srv, &service{unary: func(ctx context.Context, _ *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		ids = append(ids, requestid.FromContext(ctx))
		_, err := inner.EmptyCall(ctx, &pb.Empty{})
		return &pb.SimpleResponse{}, err
	}})
	outer := pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:"+listen(t, srv), tracegrpc.DialOptions(tracing)...))
	if _, err := outer.UnaryCall(within(t), &pb.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	spans.Want(t, `
		CLIENT `+testUnary+`
		  SERVER `+testUnary+`
		    CLIENT `+testEmpty+`
		      SERVER `+testEmpty+`
	`)
	if len(ids) != 2 || ids[0] != ids[1] || ids[0] == "" {
		t.Errorf("request ids = %q, want the same twice", ids)
	}
}

// TestUntraced: a request that is not traced has no spans anywhere, and its context
// and id travel through streams too.
func TestUntraced(t *testing.T) {
	var got []trace.SpanContext
	client, spans, tracing := setup(t, middleware.Config{}, &service{
		empty: func(ctx context.Context) error {
			got = append(got, trace.SpanContextFromContext(ctx))
			return nil
		},
		output: func(ss grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
			got = append(got, trace.SpanContextFromContext(ss.Context()))
			return nil
		},
	})
	ctx, call := tracing.StartServer(within(t), middleware.Incoming{Name: "x", Carrier: headers{"traceparent": unsampled, "x-request-id": requestID}})
	if _, err := client.EmptyCall(ctx, &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	s, err := client.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != io.EOF {
		t.Fatal(err)
	}
	call.End(middleware.Outcome{})
	for _, sc := range got {
		if sc.TraceID().String() != traceHex || sc.IsSampled() {
			t.Errorf("span context = %+v, want trace %s, not sampled", sc, traceHex)
		}
	}
	if len(got) != 2 || spans.Tree() != "" {
		t.Errorf("%d calls, spans:\n%s\nwant 2, none", len(got), spans.Tree())
	}
}

// TestSamplingRule: a rule by method reaches gRPC.
func TestSamplingRule(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{Sampling: sampler.Config{
		Rules: []sampler.Rule{{Route: "/" + testEmpty, Drop: true}},
	}})
	srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
	pb.RegisterTestServiceServer(srv, &service{})
	client := pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:"+listen(t, srv)))
	if _, err := client.EmptyCall(within(t), &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.UnaryCall(within(t), &pb.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	srv.GracefulStop()
	spans.Want(t, "SERVER "+testUnary)
}

// TestRetry: gRPC's own retries are one span of the client and one of the server for
// each attempt, which says how many came before.
func TestRetry(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	attempts := 0
	srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
	pb.RegisterTestServiceServer(srv, &service{empty: func(context.Context) error {
		if attempts++; attempts < 3 {
			return status.Error(codes.Unavailable, "busy")
		}
		return nil
	}})
	client := pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:"+listen(t, srv), append(tracegrpc.DialOptions(tracing),
		grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3,
			"initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`))...))
	if _, err := client.EmptyCall(within(t), &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	spans.Want(t, `
		CLIENT `+testEmpty+`
		  SERVER `+testEmpty+` !UNAVAILABLE
		  SERVER `+testEmpty+` !UNAVAILABLE
		  SERVER `+testEmpty+`
	`)
	before := map[string]bool{}
	for _, s := range spans.All() {
		if s.SpanKind == trace.SpanKindServer {
			set := attribute.NewSet(s.Attributes...)
			v, _ := set.Value("meshtrace.rpc.previous_attempts")
			before[v.String()] = true
		}
	}
	if fmt.Sprint(before) != fmt.Sprint(map[string]bool{"": true, "1": true, "2": true}) {
		t.Errorf("previous attempts = %v, want none, 1, 2", before)
	}
}

// TestBehindNetHTTP: a gRPC server inside net/http, and inside our HTTP middleware.
func TestBehindNetHTTP(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
	defer srv.Stop()
	pb.RegisterTestServiceServer(srv, &service{})
	port := serveHTTP(t, tracing.Handler(srv))
	client := pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:"+port, tracegrpc.DialOptions(tracing)...))
	if _, err := client.EmptyCall(within(t), &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	spans.Want(t, "CLIENT "+testEmpty+"\n  SERVER POST\n    SERVER "+testEmpty)
	for _, s := range spans.All() {
		if s.SpanKind == trace.SpanKindServer {
			wantAttrs(t, s, map[string]string{"network.peer.address": "127.0.0.1", "network.peer.port": "*", "server.address": "127.0.0.1", "server.port": port})
		}
	}
}

// TestInterceptors: the four can be given one by one.
func TestInterceptors(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	srv := grpc.NewServer(grpc.UnaryInterceptor(tracegrpc.UnaryServerInterceptor(tracing)), grpc.StreamInterceptor(tracegrpc.StreamServerInterceptor(tracing)))
	pb.RegisterTestServiceServer(srv, &service{})
	client := pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:"+listen(t, srv),
		grpc.WithUnaryInterceptor(tracegrpc.UnaryClientInterceptor(tracing)), grpc.WithStreamInterceptor(tracegrpc.StreamClientInterceptor(tracing))))
	if _, err := client.EmptyCall(within(t), &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	s, err := client.StreamingOutputCall(within(t), &pb.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = s.Recv()
	}
	spans.Want(t, `
		CLIENT `+testEmpty+`
		  SERVER `+testEmpty+`
		CLIENT `+testOutput+`
		  SERVER `+testOutput+`
	`)
}

func TestNilTracing(t *testing.T) {
	for name, f := range map[string]func(){
		"ServerOptions":           func() { tracegrpc.ServerOptions(nil) },
		"DialOptions":             func() { tracegrpc.DialOptions(nil) },
		"UnaryServerInterceptor":  func() { tracegrpc.UnaryServerInterceptor(nil) },
		"StreamServerInterceptor": func() { tracegrpc.StreamServerInterceptor(nil) },
		"UnaryClientInterceptor":  func() { tracegrpc.UnaryClientInterceptor(nil) },
		"StreamClientInterceptor": func() { tracegrpc.StreamClientInterceptor(nil) },
	} {
		func() {
			defer func() {
				if v := recover(); !strings.Contains(fmt.Sprint(v), "middleware.Setup") {
					t.Errorf("%s(nil) = %v, want a panic that says what to give", name, v)
				}
			}()
			f()
		}()
	}
}

// TestConcurrent has many streams at once; the race detector looks on.
func TestConcurrent(t *testing.T) {
	client, spans, _ := setup(t, middleware.Config{}, &service{})
	const calls, messages = 16, 20
	done := make(chan error, calls)
	for range calls {
		go func() {
			s, err := client.FullDuplexCall(within(t))
			if err != nil {
				done <- err
				return
			}
			go func() {
				for range messages {
					if s.Send(&pb.StreamingOutputCallRequest{}) != nil {
						return
					}
				}
				s.CloseSend()
			}()
			for err == nil {
				_, err = s.Recv()
			}
			done <- err
		}()
	}
	for range calls {
		if err := <-done; err != io.EOF {
			t.Error(err)
		}
	}
	spans.Wait(t, 2*calls)
	for _, s := range spans.All() {
		wantAttrs(t, s, map[string]string{"meshtrace.rpc.messages.sent": strconv.Itoa(messages), "meshtrace.rpc.messages.received": strconv.Itoa(messages)})
	}
}
