package bench

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/meshtrace/meshtrace/exporter"
)

// collectorVariable makes the test binary a collector.
const collectorVariable = "BENCH_COLLECTOR"

func TestMain(m *testing.M) {
	if os.Getenv(collectorVariable) != "" {
		collect()
		return
	}
	os.Exit(m.Run())
}

// collect takes OTLP over gRPC and HTTP, keeps nothing, and says where. It ends with its
// standard input.
func collect() {
	byGRPC, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	byHTTP, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(16 << 20))
	collectorpb.RegisterTraceServiceServer(server, taking{})
	go server.Serve(byGRPC)
	go http.Serve(byHTTP, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	os.Stdout.WriteString(byGRPC.Addr().String() + " " + byHTTP.Addr().String() + "\n")
	io.Copy(io.Discard, os.Stdin)
}

type taking struct {
	collectorpb.UnimplementedTraceServiceServer
}

func (taking) Export(context.Context, *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// collector starts a collector in a process of its own, whose time is not counted.
func collector(b *testing.B) (byGRPC, byHTTP string) {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), collectorVariable+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	byGRPC, byHTTP, _ = strings.Cut(strings.TrimSpace(line), " ")
	return byGRPC, byHTTP
}

// batched is a span's way out as a program without meshtrace has it. Nobody drops a span
// here: what ends one waits for room.
func batched(client func() otlptrace.Client) func(b *testing.B) sdktrace.SpanProcessor {
	return func(b *testing.B) sdktrace.SpanProcessor {
		exp, err := otlptrace.New(b.Context(), client())
		if err != nil {
			b.Fatal(err)
		}
		return sdktrace.NewBatchSpanProcessor(exp, sdktrace.WithBlocking())
	}
}

func exporting(b *testing.B, cfg exporter.Config) *exporter.Exporter {
	b.Helper()
	cfg.Full, cfg.Block = exporter.Block, time.Minute
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Getenv = func(string) string { return "" }
	e, err := exporter.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// tenAttributes are those of every span here.
var tenAttributes = []attribute.KeyValue{
	attribute.String("http.request.method", "GET"), attribute.String("url.scheme", "https"),
	attribute.String("url.path", "/carts/7"), attribute.String("server.address", "shop.example"),
	attribute.String("network.protocol.version", "1.1"), attribute.String("client.address", "10.0.0.1"),
	attribute.Int("network.peer.port", 1234), attribute.String("user_agent.original", "curl/8"),
	attribute.Int("http.response.status_code", 200), attribute.Bool("shop.member", true),
}

// warmUp is how many spans were exported before the time is taken.
const warmUp = 50_000

// BenchmarkExport makes spans and sends them all to a collector; "creation" makes the
// spans alone.
func BenchmarkExport(b *testing.B) {
	byGRPC, byHTTP := collector(b)
	libraries := []struct {
		name      string
		processor func(b *testing.B) sdktrace.SpanProcessor
	}{
		{"creation", func(*testing.B) sdktrace.SpanProcessor { return drop{} }},
		{"meshtrace-grpc", func(b *testing.B) sdktrace.SpanProcessor {
			return exporting(b, exporter.Config{Endpoint: "http://" + byGRPC, Protocol: exporter.GRPC})
		}},
		{"meshtrace-http", func(b *testing.B) sdktrace.SpanProcessor {
			return exporting(b, exporter.Config{Endpoint: "http://" + byHTTP, Protocol: exporter.HTTPProtobuf})
		}},
		{"otlptracegrpc", batched(func() otlptrace.Client {
			return otlptracegrpc.NewClient(otlptracegrpc.WithEndpoint(byGRPC), otlptracegrpc.WithInsecure())
		})},
		{"otlptracehttp", batched(func() otlptrace.Client {
			return otlptracehttp.NewClient(otlptracehttp.WithEndpoint(byHTTP), otlptracehttp.WithInsecure())
		})},
	}
	if *reverse {
		slices.Reverse(libraries)
	}
	b.Run("ten-attributes", func(b *testing.B) {
		for _, l := range libraries {
			b.Run(l.name, func(b *testing.B) {
				provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(l.processor(b)))
				tracer := provider.Tracer("bench")
				one := func() {
					_, span := tracer.Start(context.Background(), "GET /carts/{id}")
					span.SetAttributes(tenAttributes...)
					span.End()
				}
				// Connections and memory are there in a program that runs: a run of 0.1 s
				// would measure little else.
				for range warmUp {
					one()
				}
				if err := provider.ForceFlush(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				before := cpu(b)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						one()
					}
				})
				if err := provider.Shutdown(context.Background()); err != nil {
					b.Error(err)
				}
				b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	})
}

// last is a processor that keeps the last span.
type last struct {
	drop
	span sdktrace.ReadOnlySpan
}

func (l *last) OnEnd(s sdktrace.ReadOnlySpan) { l.span = s }

// swallow is a Sender that takes everything at once.
type swallow struct{}

func (swallow) Send(context.Context, []byte, int) (int, error) { return 0, nil }
func (swallow) Close() error                                   { return nil }

// BenchmarkOnEnd takes the time of each OnEnd by itself, two looks at the clock included.
func BenchmarkOnEnd(b *testing.B) {
	kept := new(last)
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(kept))
	_, span := provider.Tracer("bench").Start(b.Context(), "GET /carts/{id}")
	span.SetAttributes(tenAttributes...)
	span.End()
	b.Run("ten-attributes", func(b *testing.B) {
		b.Run("meshtrace", func(b *testing.B) {
			e := exporting(b, exporter.Config{Sender: swallow{}})
			took := make([]time.Duration, 0, 1<<20)
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				e.OnEnd(kept.span)
				if d := time.Since(start); len(took) < cap(took) {
					took = append(took, d)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
			if err := e.Shutdown(context.Background()); err != nil {
				b.Error(err)
			}
		})
	})
}
