package difftest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcpb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshtrace/meshtrace/internal/otlpreceiver"
	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// receive serves accept until the test ends and returns its address.
func receive(t *testing.T, accept func([]byte) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- otlpreceiver.Serve(ctx, l, &otlpreceiver.Handler{Accept: accept, MaxBytes: 1 << 20})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(addr, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// TestReceiverWithGRPC: grpc-go's client finds a gRPC server in otlpreceiver.
func TestReceiverWithGRPC(t *testing.T) {
	var answer error
	var got []byte
	addr := receive(t, func(b []byte) error { got = b; return answer })
	client := coltracepb.NewTraceServiceClient(dial(t, addr))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()

	small := newGen(3)
	small.short = true
	request := small.request()
	for _, c := range []struct {
		name    string
		request *coltracepb.ExportTraceServiceRequest
		opts    []grpc.CallOption
		answer  error
		code    codes.Code
		text    string
		partial int64
		after   time.Duration // of RetryInfo
	}{
		{name: "export", request: request},
		{name: "gzip", request: request, opts: []grpc.CallOption{grpc.UseCompressor(gzip.Name)}},
		{name: "nothing", request: &coltracepb.ExportTraceServiceRequest{}},
		{name: "many frames", request: large(t, 900_000)},
		{name: "partial success", request: request, answer: otlpreceiver.Partial(3, "too old"), partial: 3},
		{name: "an error", request: request, answer: errors.New("100 % full\né"), code: codes.Unavailable, text: "100 % full\né"},
		{name: "throttled", request: request, answer: &otlpreceiver.Refusal{Code: otlpreceiver.ResourceExhausted, Message: "slowly", RetryAfter: 1500 * time.Millisecond},
			code: codes.ResourceExhausted, text: "slowly", after: 1500 * time.Millisecond},
		{name: "too large", request: large(t, 1_100_000), code: codes.ResourceExhausted, text: "more than 1048576 bytes"},
		{name: "bomb", request: large(t, 1_100_000), opts: []grpc.CallOption{grpc.UseCompressor(gzip.Name)}, code: codes.ResourceExhausted, text: "more than 1048576 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer, got = c.answer, nil
			res, err := client.Export(ctx, c.request, c.opts...)
			st := status.Convert(err)
			if st.Code() != c.code || !strings.Contains(st.Message(), c.text) {
				t.Fatalf("Export: %v %q, want %v %q", st.Code(), st.Message(), c.code, c.text)
			}
			if n := res.GetPartialSuccess().GetRejectedSpans(); n != c.partial {
				t.Errorf("%d spans rejected, want %d", n, c.partial)
			}
			var after time.Duration
			for _, d := range st.Details() {
				if info, ok := d.(*errdetails.RetryInfo); ok {
					after = info.RetryDelay.AsDuration()
				}
			}
			if after != c.after {
				t.Errorf("RetryInfo of %v, want %v", after, c.after)
			}
			if taken := c.code == codes.OK || c.answer != nil; taken {
				if m := unmarshal(t, got); !proto.Equal(m, c.request) {
					t.Errorf("accepted another request than was sent")
				}
			} else if got != nil {
				t.Errorf("accepted %d bytes of a request that was refused", len(got))
			}
		})
	}

	t.Run("unknown method", func(t *testing.T) {
		err := dial(t, addr).Invoke(ctx, "/opentelemetry.proto.collector.logs.v1.LogsService/Export", request, new(coltracepb.ExportTraceServiceResponse))
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("error = %v, want Unimplemented", err)
		}
	})
	t.Run("no message of the schema", func(t *testing.T) {
		err := dial(t, addr).Invoke(ctx, otlpreceiver.GRPCPath, durationpb.New(time.Second), new(coltracepb.ExportTraceServiceResponse))
		if st := status.Convert(err); st.Code() != codes.InvalidArgument || !strings.Contains(st.Message(), "no ExportTraceServiceRequest") {
			t.Errorf("error = %v, want InvalidArgument", err)
		}
	})
	t.Run("stream", func(t *testing.T) {
		stream, err := dial(t, addr).NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, otlpreceiver.GRPCPath)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SendMsg(request) // two messages for a unary method
		_ = stream.SendMsg(request)
		_ = stream.CloseSend()
		if err := stream.RecvMsg(new(coltracepb.ExportTraceServiceResponse)); status.Code(err) != codes.Internal {
			t.Errorf("error = %v, want Internal", err)
		}
	})
}

// large is a request of about n bytes that compress well.
func large(t *testing.T, n int) *coltracepb.ExportTraceServiceRequest {
	t.Helper()
	g := newGen(1)
	g.short = true
	s := g.protoSpan()
	s.Name = strings.Repeat("x", n)
	m := new(coltracepb.ExportTraceServiceRequest)
	if err := proto.Unmarshal(concat(1, concat(2, concat(2, marshal(t, s)))), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func concat(num byte, b []byte) []byte {
	return append(protowire.AppendVarint([]byte{num<<3 | 2}, uint64(len(b))), b...)
}

// TestReceiverWithExporter: so does the SDK's exporter, which sends spans as users do.
func TestReceiverWithExporter(t *testing.T) {
	var got []byte
	addr := receive(t, func(b []byte) error { got = b; return nil })
	for _, compressor := range []string{"", "gzip"} {
		opts := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(addr), otlptracegrpc.WithInsecure()}
		if compressor != "" {
			opts = append(opts, otlptracegrpc.WithCompressor(compressor))
		}
		exp, err := otlptracegrpc.New(context.Background(), opts...)
		if err != nil {
			t.Fatal(err)
		}
		g := newGen(5)
		g.short = true
		spans := g.stubs(30).Snapshots()
		if err := exp.ExportSpans(context.Background(), spans); err != nil {
			t.Fatalf("otlptracegrpc %s: %v", compressor, err)
		}
		ours, _ := encode(t, spans)
		diffSDK(t, spans, unmarshal(t, ours), unmarshal(t, got))
		if err := exp.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// TestReceiverStatusBody: what OTLP/HTTP failures carry is a google.rpc.Status to
// protobuf-go.
func TestReceiverStatusBody(t *testing.T) {
	addr := receive(t, func([]byte) error {
		return &otlpreceiver.Refusal{Status: 429, Code: otlpreceiver.ResourceExhausted, Message: "slowly", RetryAfter: 2 * time.Second}
	})
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Post("http://"+addr+otlpreceiver.HTTPPath, "application/x-protobuf", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	want := &rpcpb.Status{Code: 8, Message: "slowly", Details: []*anypb.Any{mustAny(t, &errdetails.RetryInfo{RetryDelay: durationpb.New(2 * time.Second)})}}
	st := new(rpcpb.Status)
	if err := proto.Unmarshal(body.Bytes(), st); err != nil || !proto.Equal(st, want) {
		t.Errorf("body is %v, %v; want %v", st, err, want)
	}
}

func mustAny(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAnswers: our readers of answers agree with protobuf-go's writer.
func TestAnswers(t *testing.T) {
	for seed := range uint64(200) {
		g := newGen(seed)
		g.short = true
		rejected, why := max(0, g.integer()), g.text()
		b := marshal(t, &coltracepb.ExportTraceServiceResponse{
			PartialSuccess: &coltracepb.ExportTracePartialSuccess{RejectedSpans: rejected, ErrorMessage: why},
		})
		if n, message, err := otlpwire.ReadResponse(b); n != rejected || message != why || err != nil {
			t.Errorf("ReadResponse = %d, %q, %v; want %d, %q", n, message, err, rejected, why)
		}

		want := otlpwire.Status{Code: int32(g.IntN(17)), Message: g.text()}
		m := &rpcpb.Status{Code: want.Code, Message: want.Message}
		m.Details = append(m.Details, mustAny(t, &errdetails.DebugInfo{Detail: g.text(), StackEntries: []string{g.text()}}))
		if g.one(2) {
			want.RetryInfo, want.RetryDelay = true, time.Duration(g.Int64N(1e15))
			m.Details = append(m.Details, mustAny(t, &errdetails.RetryInfo{RetryDelay: durationpb.New(want.RetryDelay)}))
		}
		if got, err := otlpwire.ReadStatus(marshal(t, m)); got != want || err != nil {
			t.Errorf("ReadStatus = %+v, %v; want %+v", got, err, want)
		}

		m.Details = m.Details[1:] // what we write
		back := new(rpcpb.Status)
		if err := proto.Unmarshal(otlpwire.AppendStatus(nil, want), back); err != nil || !proto.Equal(back, m) {
			t.Errorf("AppendStatus is read as %v, %v; want %v", back, err, m)
		}
	}
}
