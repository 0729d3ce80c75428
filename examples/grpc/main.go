// Grpc is a gRPC service and a client of it, traced on both sides: the client's call
// and the server's are one trace under one request id, and an answer other than OK
// is on the spans.
//
//	OTEL_TRACES_EXPORTER=console go run ./examples/grpc
package main

import (
	"cmp"
	"context"
	"errors"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	tracing, err := middleware.Setup(ctx, middleware.Config{
		Service: "stock",
		// gRPC's health service stands in for a service of yours. Its calls are not
		// traced by default; an empty list says that they are.
		HealthChecks: []string{},
	})
	if err != nil {
		log.Fatal(err)
	}

	ln, err := net.Listen("tcp", cmp.Or(os.Getenv("ADDR"), "127.0.0.1:9090"))
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(tracegrpc.ServerOptions(tracing)...)
	healthpb.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()

	conn, err := grpc.NewClient(ln.Addr().String(), append(tracegrpc.DialOptions(tracing),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		log.Fatal(err)
	}
	client := healthpb.NewHealthClient(conn)
	for tick := time.Tick(time.Second); ctx.Err() == nil; {
		answer, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
		log.Printf("asked %s: %v, error %v", ln.Addr(), answer.GetStatus(), err)
		select {
		case <-tick:
		case <-ctx.Done(): // SIGTERM or Ctrl-C: finish what is under way
		}
	}

	server.GracefulStop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := errors.Join(<-served, conn.Close(), tracing.Shutdown(ctx)); err != nil {
		log.Fatal(err)
	}
}
