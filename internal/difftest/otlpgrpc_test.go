package difftest

import (
	"context"
	"net"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/meshtrace/meshtrace/exporter/otlpgrpc"
)

// TestOTLPGRPCAgreesWithOTLPTraceGRPC: the service that protobuf's compiler generated
// gets the same message from exporter/otlpgrpc as from the SDK's exporter.
func TestOTLPGRPCAgreesWithOTLPTraceGRPC(t *testing.T) {
	col := &capture{got: make(chan *coltracepb.ExportTraceServiceRequest, 1)}
	srv := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(srv, col)
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
	sender := otlpgrpc.New(dial(t, l.Addr().String()))
	theirs := reference(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for seed := range uint64(50) {
		g := newGen(seed)
		g.short = true
		spans := g.stubs(20).Snapshots()
		request, _ := encode(t, spans)
		if rejected, err := sender.Send(ctx, request, len(spans)); rejected != 0 || err != nil {
			t.Fatalf("seed %d: Send = %d, %v", seed, rejected, err)
		}
		diffSDK(t, spans, <-col.got, theirs(spans))
	}
}
