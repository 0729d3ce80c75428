package tracegrpc_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
)

// A whole server, and a plain client that asks whether it is healthy. Health checks are
// served and not traced, so this example needs no collector.
func Example() {
	tracing, err := middleware.Setup(context.Background(), middleware.Config{Service: "driver"})
	if err != nil {
		log.Fatal(err)
	}
	defer tracing.Shutdown(context.Background())

	srv := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
	grpc_health_v1.RegisterHealthServer(srv, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go srv.Serve(listener)
	defer srv.Stop()

	cc, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer cc.Close()

	resp, err := grpc_health_v1.NewHealthClient(cc).Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.Status)
	// Output: SERVING
}

// Interceptors of the program's own run inside the span when they stand after ours.
func ExampleServerOptions() {
	tracing, err := middleware.Setup(context.Background(), middleware.Config{Service: "driver"})
	if err != nil {
		log.Fatal(err)
	}
	defer tracing.Shutdown(context.Background())

	auth := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		return next(ctx, req)
	}
	srv := grpc.NewServer(append(tracegrpc.ServerOptions(tracing), grpc.ChainUnaryInterceptor(auth))...)
	defer srv.Stop()
}

func ExampleDialOptions() {
	tracing, err := middleware.Setup(context.Background(), middleware.Config{Service: "frontend"})
	if err != nil {
		log.Fatal(err)
	}
	defer tracing.Shutdown(context.Background())

	opts := append(tracegrpc.DialOptions(tracing), grpc.WithTransportCredentials(insecure.NewCredentials()))
	cc, err := grpc.NewClient("dns:///driver:9090", opts...)
	if err != nil {
		log.Fatal(err)
	}
	defer cc.Close()
}
