package tracegrpc_test

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
	"github.com/meshtrace/meshtrace/requestid"
)

// Allocations of a unary call in the interceptors, the span included. Every one
// of them is a cost on each call of a user: a change that raises a constant says why
// in its commit.
const (
	serverTracedAllocs   = 5
	serverUntracedAllocs = 3
	clientTracedAllocs   = 8
	clientUntracedAllocs = 7
)

// exportless returns a Tracing whose spans go nowhere.
func exportless(tb testing.TB) *middleware.Tracing {
	tb.Helper()
	tracing, err := middleware.Setup(tb.Context(), middleware.Config{Getenv: func(name string) string {
		return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name]
	}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := tracing.Shutdown(context.Background()); err != nil {
			tb.Errorf("Shutdown: %v", err)
		}
	})
	return tracing
}

// served is the context of a call as gRPC's server makes it.
func served(ctx context.Context, traceparent string) context.Context {
	ctx = peer.NewContext(ctx, &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1234}})
	return metadata.NewIncomingContext(ctx, metadata.MD{
		":authority": {"route:9090"}, "content-type": {"application/grpc"}, "user-agent": {"grpc-go/1.82.1"},
		"grpc-accept-encoding": {"gzip"}, "traceparent": {traceparent}, "x-request-id": {requestID},
	})
}

func serverCall(tb testing.TB, traceparent string) func() {
	intercept := tracegrpc.UnaryServerInterceptor(exportless(tb))
	ctx := served(tb.Context(), traceparent)
	info := &grpc.UnaryServerInfo{FullMethod: "/" + testEmpty}
	handler := func(context.Context, any) (any, error) { return nil, nil }
	return func() {
		if _, err := intercept(ctx, nil, info, handler); err != nil {
			tb.Fatal(err)
		}
	}
}

// clientCall returns a call made while one with that traceparent is served.
func clientCall(tb testing.TB, traceparent string) func() {
	tracing := exportless(tb)
	intercept := tracegrpc.UnaryClientInterceptor(tracing)
	ctx, call := tracing.StartServer(tb.Context(), middleware.Incoming{Name: "x", Carrier: headers{"traceparent": traceparent, requestid.Header: requestID}})
	tb.Cleanup(func() { call.End(middleware.Outcome{}) })
	cc := dial(tb, "dns:///route:9090")
	invoker := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	return func() {
		if err := intercept(ctx, "/"+testEmpty, nil, nil, cc, invoker); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestAllocations(t *testing.T) {
	if raced {
		t.Skip("the race detector makes sync.Pool drop at random, so allocations cannot be counted: run without -race")
	}
	for _, tt := range []struct {
		name string
		call func()
		most float64
	}{
		{"server traced", serverCall(t, traceparent), serverTracedAllocs},
		{"server untraced", serverCall(t, unsampled), serverUntracedAllocs},
		{"client traced", clientCall(t, traceparent), clientTracedAllocs},
		{"client untraced", clientCall(t, unsampled), clientUntracedAllocs},
	} {
		got := testing.AllocsPerRun(1000, tt.call)
		if got > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, got, tt.most)
		}
		t.Logf("%s: %v allocations", tt.name, got)
	}
}

func BenchmarkInterceptors(b *testing.B) {
	for _, bb := range []struct {
		name string
		call func()
	}{
		{"server traced", serverCall(b, traceparent)},
		{"server untraced", serverCall(b, unsampled)},
		{"client traced", clientCall(b, traceparent)},
		{"client untraced", clientCall(b, unsampled)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bb.call()
			}
		})
	}
}
