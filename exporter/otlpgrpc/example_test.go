package otlpgrpc_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/exporter/otlpgrpc"
	"github.com/meshtrace/meshtrace/internal/otlpreceiver"
)

// A program that dials by itself, and a collector in the same process.
func Example() {
	collector, stop := startCollector()
	defer stop()

	cc, err := grpc.NewClient(collector,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}))
	if err != nil {
		log.Fatal(err)
	}
	defer cc.Close() // after the Exporter has sent what it held

	exp, err := exporter.New(exporter.Config{Sender: otlpgrpc.New(cc)})
	if err != nil {
		log.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(exp))
	for range 100 {
		_, span := provider.Tracer("shop").Start(context.Background(), "checkout")
		span.End()
	}
	if err := exp.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	st := exp.Stats()
	fmt.Println(st.Ended, st.Delivered, st.Kept.Memory, st.Balanced())
	// Output: 100 100 0 true
}

func startCollector() (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := otlpreceiver.Serve(ctx, l, &otlpreceiver.Handler{Accept: func([]byte) error { return nil }}); err != nil {
			log.Print(err)
		}
	}()
	return l.Addr().String(), func() { cancel(); <-done }
}
