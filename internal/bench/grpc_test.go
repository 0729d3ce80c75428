package bench

import (
	"context"
	"net"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
)

// unary is a prepare that makes one call after the other over a connection in memory,
// client and server in this process.
func unary(options func(b *testing.B) ([]grpc.ServerOption, []grpc.DialOption)) func(*testing.B) func() func() {
	return func(b *testing.B) func() func() {
		serverOptions, dialOptions := options(b)
		ln := bufconn.Listen(1 << 20)
		server := grpc.NewServer(serverOptions...)
		healthpb.RegisterHealthServer(server, health.NewServer())
		go server.Serve(ln)
		b.Cleanup(server.Stop)
		conn, err := grpc.NewClient("passthrough:///bench", append(dialOptions,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))...)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		client := healthpb.NewHealthClient(conn)
		return func() func() {
			return func() {
				if _, err := client.Check(context.Background(), &healthpb.HealthCheckRequest{}); err != nil {
					b.Error(err)
				}
			}
		}
	}
}

// BenchmarkUnary makes gRPC calls; what a library adds is the difference to nothing.
func BenchmarkUnary(b *testing.B) {
	b.Run("sampled", func(b *testing.B) {
		compare(b,
			library{"nothing", unary(func(*testing.B) ([]grpc.ServerOption, []grpc.DialOption) { return nil, nil })},
			library{"meshtrace", unary(func(b *testing.B) ([]grpc.ServerOption, []grpc.DialOption) {
				t := tracing(b)
				return tracegrpc.ServerOptions(t), tracegrpc.DialOptions(t)
			})},
			library{"otelgrpc", unary(func(b *testing.B) ([]grpc.ServerOption, []grpc.DialOption) { return otelOptions(provider(b)) })},
		)
	})
}

func otelOptions(tp *sdktrace.TracerProvider) ([]grpc.ServerOption, []grpc.DialOption) {
	opts := []otelgrpc.Option{
		otelgrpc.WithTracerProvider(tp), otelgrpc.WithPropagators(stock),
		otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()),
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(opts...))},
		[]grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(opts...))}
}
