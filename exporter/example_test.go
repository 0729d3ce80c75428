package exporter_test

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log"
	"os"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/exporter"
)

// The Exporter takes the place of a batch processor and its OTLP exporter. It is
// shut down before the provider, so that it still hears of spans that end late.
func Example() {
	exp, err := exporter.New(exporter.Config{Endpoint: "collector:4317"})
	if err != nil {
		log.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(exp))
	defer provider.Shutdown(context.Background())
	defer exp.Shutdown(context.Background())

	_, span := provider.Tracer("shop").Start(context.Background(), "checkout")
	span.End()
}

// Every mistake in a Config is told at once.
func ExampleNew_mistakes() {
	_, err := exporter.New(exporter.Config{Endpoint: "ftp://collector", Timeout: -time.Second})
	fmt.Println(err)
	// Output:
	// exporter: Config.Endpoint is "ftp://collector" (unknown scheme): allowed is host:port, ip:port, [::1]:port, http://host:port, https://host:port, unix:/path or file:/path
	// exporter: Config.Timeout is -1s: allowed is 0 to 1h
}

// What is in force, and where each value came from.
func ExampleExporter_Settings() {
	environment := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://token@127.0.0.1:1"}
	exp, err := exporter.New(exporter.Config{
		Endpoint: "localhost:4318",
		Delay:    2 * time.Second,
		Getenv:   func(name string) string { return environment[name] },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer exp.Shutdown(context.Background())
	for _, s := range exp.Settings() {
		if s.Name == "Endpoint" || s.Name == "Delay" || s.Name == "Timeout" {
			fmt.Printf("%s = %s (%s)\n", s.Name, s.Value, s.Source)
		}
	}
	// Output:
	// Endpoint = https://127.0.0.1:1 (OTEL_EXPORTER_OTLP_ENDPOINT)
	// Timeout = 10s (default)
	// Delay = 2s (Config)
}

// memorySender counts requests in place of a collector.
type memorySender struct{ requests int }

func (s *memorySender) Send(_ context.Context, request []byte, spans int) (rejected int, err error) {
	s.requests++
	return 0, nil
}

func (s *memorySender) Close() error { return nil }

// A Sender of one's own, and the accounts at the end.
func ExampleSender() {
	exp, err := exporter.New(exporter.Config{Sender: &memorySender{}})
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

// A collector that refuses for good: Shutdown says what was lost and why.
func ExampleLossError() {
	exp, err := exporter.New(exporter.Config{Sender: refusing{}})
	if err != nil {
		log.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(exp))
	_, span := provider.Tracer("shop").Start(context.Background(), "checkout")
	span.End()

	var loss *exporter.LossError
	if err := exp.Shutdown(context.Background()); errors.As(err, &loss) {
		fmt.Println(loss.Lost, exp.Stats().Rejected)
		fmt.Println(loss)
	}
	// Output:
	// 1 map[PERMISSION_DENIED:1]
	// exporter: 1 span lost: the tenant is closed
}

type refusing struct{}

func (refusing) Send(context.Context, []byte, int) (int, error) {
	return 0, &exporter.SendError{Code: "PERMISSION_DENIED", Err: errors.New("the tenant is closed")}
}

func (refusing) Close() error { return nil }

// Spans as OTLP/JSON lines on standard output, for a Collector's otlpjsonfile receiver or
// whatever gathers a container's output. A file takes them by Endpoint "file:/path".
func ExampleJSONLines() {
	exp, err := exporter.New(exporter.Config{Sender: exporter.JSONLines(os.Stdout)})
	if err != nil {
		log.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(exp))
	defer provider.Shutdown(context.Background())
	defer exp.Shutdown(context.Background())
}

// The accounts among a program's variables, at /debug/vars.
func ExampleExporter_Stats() {
	exp, err := exporter.New(exporter.Config{Endpoint: "collector:4317"})
	if err != nil {
		log.Fatal(err)
	}
	expvar.Publish("spans", expvar.Func(func() any { return exp.Stats() }))
}

// Each finished trace as a tree on the terminal.
func ExampleConsole() {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(exporter.Console(os.Stderr)))
	defer provider.Shutdown(context.Background())

	ctx, root := provider.Tracer("shop").Start(context.Background(), "checkout")
	_, child := provider.Tracer("shop").Start(ctx, "charge card")
	child.End()
	root.End() // now the tree is written
}
