package tracegrpc_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/meshtrace/meshtrace/internal/metertest"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
	"github.com/meshtrace/meshtrace/middleware/tracingtest"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
)

const (
	serverDuration = "rpc.server.call.duration"
	clientDuration = "rpc.client.call.duration"
)

// wantMeasured waits for n measurements of an instrument.
func wantMeasured(t testing.TB, m *metertest.Provider, instrument string, n int) []metertest.Point {
	t.Helper()
	ctx := within(t)
	for len(m.Of(instrument)) < n && ctx.Err() == nil {
		pause()
	}
	points := m.Of(instrument)
	if len(points) != n {
		t.Fatalf("%s has %d measurements, want %d", instrument, len(points), n)
	}
	return points
}

// TestConduct holds what a common instrumentation of gRPC gets wrong: each subtest is
// a case that was seen there. Those of HTTP are in package middleware.
func TestConduct(t *testing.T) {
	t.Run("gRPC server and client span on failure", func(t *testing.T) {
		for _, tt := range []struct {
			code   codes.Code
			server string // error.type
		}{{codes.Internal, "INTERNAL"}, {codes.NotFound, "-"}} {
			meters := metertest.New()
			client, spans, _ := setup(t, middleware.Config{MeterProvider: meters}, &service{
				empty: func(context.Context) error { return status.Error(tt.code, "why") },
			})
			if _, err := client.EmptyCall(within(t), &pb.Empty{}); status.Code(err) != tt.code {
				t.Fatalf("the call ended with %v, want %v", err, tt.code)
			}
			c, s := sides(t, spans)
			name := map[codes.Code]string{codes.Internal: "INTERNAL", codes.NotFound: "NOT_FOUND"}[tt.code]
			wantAttrs(t, c, map[string]string{"error.type": name, "rpc.response.status_code": name})
			wantAttrs(t, s, map[string]string{"error.type": tt.server, "rpc.response.status_code": name})
			if got := wantMeasured(t, meters, clientDuration, 1)[0]; got.Attribute("error.type") != name || got.Span.SpanID() != c.SpanContext.SpanID() {
				t.Errorf("client's measurement is %v of span %v, want error.type=%s of %v", got, got.Span.SpanID(), name, c.SpanContext.SpanID())
			}
			want := "rpc.method=" + testEmpty + " rpc.system.name=grpc rpc.response.status_code=" + name
			if tt.server != "-" {
				want += " error.type=" + tt.server
			}
			wantMeasured(t, meters, serverDuration, 1)
			if got := meters.Want(t, serverDuration, want); got.Span.SpanID() != s.SpanContext.SpanID() {
				t.Errorf("server's measurement belongs to span %v, want %v", got.Span.SpanID(), s.SpanContext.SpanID())
			}
		}
	})

	t.Run("gRPC client to localhost:port", func(t *testing.T) {
		for _, scheme := range []string{"", "dns:///", "passthrough:///"} {
			meters := metertest.New()
			tracing, spans := tracingtest.New(t, middleware.Config{MeterProvider: meters})
			srv := grpc.NewServer()
			pb.RegisterTestServiceServer(srv, &service{})
			port := listen(t, srv)
			client := pb.NewTestServiceClient(dial(t, scheme+"localhost:"+port, tracegrpc.DialOptions(tracing)...))
			if _, err := client.EmptyCall(within(t), &pb.Empty{}); err != nil {
				t.Fatal(err)
			}
			spans.Wait(t, 1)
			wantAttrs(t, spans.All()[0], map[string]string{"server.address": "localhost", "server.port": port})
			meters.Want(t, clientDuration, "rpc.method="+testEmpty+" rpc.system.name=grpc rpc.response.status_code=OK server.address=localhost server.port="+port)
		}
	})

	t.Run("gRPC unknown service", func(t *testing.T) {
		meters := metertest.New()
		tracing, spans := tracingtest.New(t, middleware.Config{MeterProvider: meters})
		srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
		cc := dial(t, "passthrough:///127.0.0.1:"+listen(t, srv))
		if err := cc.Invoke(within(t), "/no.Such/Method", &pb.Empty{}, &pb.Empty{}); status.Code(err) != codes.Unimplemented {
			t.Fatalf("Invoke = %v, want UNIMPLEMENTED", err)
		}
		spans.Want(t, "SERVER grpc !UNIMPLEMENTED")
		wantAttrs(t, spans.All()[0], map[string]string{"rpc.method": "_OTHER", "rpc.method_original": "no.Such/Method"})
		meters.Want(t, serverDuration, "rpc.method=_OTHER rpc.system.name=grpc rpc.response.status_code=UNIMPLEMENTED error.type=UNIMPLEMENTED")
	})

	// There is no option for events that does nothing: messages are counted, always.
	t.Run("messages of a gRPC stream", func(t *testing.T) {
		client, spans, _ := setup(t, middleware.Config{}, &service{})
		s, err := client.StreamingOutputCall(within(t), &pb.StreamingOutputCallRequest{})
		for err == nil {
			_, err = s.Recv()
		}
		cs, ss := sides(t, spans)
		wantAttrs(t, cs, map[string]string{"meshtrace.rpc.messages.sent": "1", "meshtrace.rpc.messages.received": "3"})
		wantAttrs(t, ss, map[string]string{"meshtrace.rpc.messages.sent": "3", "meshtrace.rpc.messages.received": "1"})
	})
}

// TestMetrics: all four kinds of calls are measured on both sides, traced or not.
func TestMetrics(t *testing.T) {
	for _, random := range []float64{100, 0} {
		meters := metertest.New()
		client, spans, _ := setup(t, middleware.Config{
			MeterProvider: meters,
			Sampling:      sampler.Config{Random: sampler.Percent(random)},
		}, &service{})
		ctx := within(t)
		if random == 0 {
			ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", unsampled)
		}
		if _, err := client.EmptyCall(ctx, &pb.Empty{}); err != nil {
			t.Fatal(err)
		}
		out, err := client.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{})
		for err == nil {
			_, err = out.Recv()
		}
		in, err := client.StreamingInputCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.CloseAndRecv(); err != nil {
			t.Fatal(err)
		}
		duplex, err := client.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		duplex.CloseSend()
		for err == nil {
			_, err = duplex.Recv()
		}
		for _, instrument := range []string{serverDuration, clientDuration} {
			var methods []string
			for _, p := range wantMeasured(t, meters, instrument, 4) {
				methods = append(methods, p.Attribute("rpc.method"))
				if p.Attribute("rpc.response.status_code") != "OK" || p.Value <= 0 {
					t.Errorf("%s = %v %v, want a duration of an OK", instrument, p.Value, p)
				}
			}
			slices.Sort(methods)
			if want := []string{testEmpty, testDuplex, testInput, testOutput}; !slices.Equal(methods, want) {
				t.Errorf("%s measured %q, want %q", instrument, methods, want)
			}
			if u := meters.Units()[instrument]; u != "s" {
				t.Errorf("%s is in %q, want s", instrument, u)
			}
			if b := meters.Buckets(instrument); len(b) != 14 || b[0] != 0.005 || b[13] != 10 {
				t.Errorf("%s has buckets %v, want the conventional 14", instrument, b)
			}
		}
		if random != 0 {
			spans.Wait(t, 8)
		}
	}
}

// TestEdge: a stranger's trace is linked and not continued, and its id is replaced; a
// friend's goes on.
func TestEdge(t *testing.T) {
	for _, friend := range []bool{false, true} {
		edge := &middleware.Edge{}
		if friend {
			edge.Internal = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		tracing, spans := tracingtest.New(t, middleware.Config{Edge: edge})
		var inside requestid.ID
		srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
		pb.RegisterTestServiceServer(srv, &service{empty: func(ctx context.Context) error {
			inside = requestid.FromContext(ctx)
			return nil
		}})
		client := pb.NewTestServiceClient(dial(t, "passthrough:///127.0.0.1:"+listen(t, srv)))
		ctx := metadata.AppendToOutgoingContext(within(t), "traceparent", traceparent, "x-request-id", requestID)
		if _, err := client.EmptyCall(ctx, &pb.Empty{}); err != nil {
			t.Fatal(err)
		}
		spans.Wait(t, 1)
		s := spans.All()[0]
		if got := s.SpanContext.TraceID().String() == traceHex; got != friend {
			t.Errorf("friend %v: the caller's trace goes on: %v", friend, got)
		}
		if linked := len(s.Links) == 1 && s.Links[0].SpanContext.TraceID().String() == traceHex; linked == friend {
			t.Errorf("friend %v: links = %+v", friend, s.Links)
		}
		if kept := requestid.Equal(inside, requestID); kept != friend {
			t.Errorf("friend %v: request id = %q", friend, inside)
		}
	}
}

// TestReflectionExcluded: one list has what is served and never traced.
func TestReflectionExcluded(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{
		HealthChecks: append(middleware.DefaultHealthChecks(), "/grpc.reflection.*", "/grpc.testing.TestService/EmptyCall"),
	})
	srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
	reflection.Register(srv)
	pb.RegisterTestServiceServer(srv, &service{})
	cc := dial(t, "passthrough:///127.0.0.1:"+listen(t, srv))
	stream, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(within(t))
	if err != nil {
		t.Fatal(err)
	}
	stream.CloseSend()
	for err == nil {
		_, err = stream.Recv()
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	client := pb.NewTestServiceClient(cc)
	if _, err := client.EmptyCall(within(t), &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.UnaryCall(within(t), &pb.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	spans.Want(t, "SERVER "+testUnary)
}

// TestLongStreamVisible: a stream is on the debug page of both sides while it runs.
func TestLongStreamVisible(t *testing.T) {
	release := make(chan struct{})
	client, _, tracing := setup(t, middleware.Config{}, &service{
		duplex: func(ss grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
			if err := ss.Send(&pb.StreamingOutputCallResponse{}); err != nil {
				return err
			}
			<-release
			return nil
		},
	})
	page := tracing.DebugHandler()
	running := func() string {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest("GET", "/api/status", nil))
		var status struct {
			Programs []struct {
				Running []struct{ Kind, Name, Target string }
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil || len(status.Programs) != 1 {
			t.Fatalf("api/status = %s, %v", w.Body, err)
		}
		var list []string
		for _, c := range status.Programs[0].Running {
			list = append(list, c.Kind+" "+c.Name+" "+c.Target)
		}
		slices.Sort(list)
		return strings.Join(list, ", ")
	}
	s, err := client.FullDuplexCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	if got, want := running(), "CLIENT "+testDuplex+" "+testDuplex+", SERVER "+testDuplex+" "+testDuplex; got != want {
		t.Errorf("under way are %q, want %q", got, want)
	}
	close(release)
	if _, err := s.Recv(); err != io.EOF {
		t.Fatal(err)
	}
	for ctx := within(t); running() != "" && ctx.Err() == nil; {
		pause()
	}
	if got := running(); got != "" {
		t.Errorf("after the end %q is under way", got)
	}
}

// TestHooks: names and attributes are the program's to change, on both sides.
func TestHooks(t *testing.T) {
	cfg := middleware.Config{
		SpanName: func(info middleware.CallInfo, name string) string {
			return strings.ToUpper(info.Kind.String()) + info.Method + " was " + name
		},
		Attributes: func(info middleware.CallInfo, attrs []attribute.KeyValue) []attribute.KeyValue {
			attrs = slices.DeleteFunc(attrs, func(kv attribute.KeyValue) bool {
				return kv.Key == "rpc.system.name" || kv.Key == "server.port" || kv.Key == "meshtrace.rpc.messages.sent"
			})
			if info.Request != nil {
				t.Error("a gRPC call has an http.Request")
			}
			return append(attrs, attribute.String("hook", info.Method))
		},
	}
	client, spans, _ := setup(t, cfg, &service{})
	check := func(method string) {
		c, s := sides(t, spans)
		for _, stub := range []tracetest.SpanStub{c, s} {
			if want := strings.ToUpper(stub.SpanKind.String()) + "/" + method + " was " + method; stub.Name != want {
				t.Errorf("name = %q, want %q", stub.Name, want)
			}
			wantAttrs(t, stub, map[string]string{"hook": "/" + method, "rpc.system.name": "-", "server.port": "-", "meshtrace.rpc.messages.sent": "-", "rpc.method": method})
		}
		spans.Reset()
	}
	if _, err := client.EmptyCall(within(t), &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	check(testEmpty)
	out, err := client.StreamingOutputCall(within(t), &pb.StreamingOutputCallRequest{})
	for err == nil {
		_, err = out.Recv()
	}
	check(testOutput)
}
