package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkresource "go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/internal/collectortest"
)

// throughYAML is a Collector that acknowledges what the next one has acknowledged: a
// batching or queueing one loses by itself what it has not sent when it is killed.
const throughYAML = `
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "${env:GRPC}"}
      http: {endpoint: "${env:HTTP}"}
exporters:
  otlphttp:
    endpoint: "${env:NEXT}"
    sending_queue: {enabled: false}
    retry_on_failure: {enabled: false}
service:
  telemetry: {logs: {level: fatal}, metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlphttp]}
`

// producer is a program that ends spans, with an exporter.
type producer struct {
	name     string
	ours     *exporter.Exporter // nil for the stock exporter
	provider *sdktrace.TracerProvider
}

// producers are meshtrace's exporter in its ways, and the SDK's batch processor with
// both exporters, all with their defaults.
func producers(t *testing.T, grpcAddr, httpAddr string) []*producer {
	t.Helper()
	provider := func(name string, p sdktrace.SpanProcessor) *sdktrace.TracerProvider {
		return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p), sdktrace.WithSampler(sdktrace.AlwaysSample()),
			sdktrace.WithResource(sdkresource.NewSchemaless(attribute.String("service.name", name))))
	}
	var all []*producer
	for _, w := range ways {
		if strings.Contains(w.name, "gzip") {
			continue
		}
		cfg := w.cfg(t, grpcAddr, httpAddr)
		cfg.Getenv = func(string) string { return "" }
		exp, err := exporter.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		name := "meshtrace " + w.name
		all = append(all, &producer{name, exp, provider(name, exp)})
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {})) // a line a request, which the table sums up
	g, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpoint(grpcAddr), otlptracegrpc.WithInsecure())
	if err != nil {
		t.Fatal(err)
	}
	h, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpoint(httpAddr), otlptracehttp.WithInsecure())
	if err != nil {
		t.Fatal(err)
	}
	return append(all,
		&producer{"stock otlptracegrpc", nil, provider("stock otlptracegrpc", sdktrace.NewBatchSpanProcessor(g))},
		&producer{"stock otlptracehttp", nil, provider("stock otlptracehttp", sdktrace.NewBatchSpanProcessor(h))})
}

// load ends rate spans a second for a time and returns how many.
func (p *producer) load(ctx context.Context, rate int, d time.Duration) (n int) {
	tracer := p.provider.Tracer("load")
	began := time.Now()
	for {
		since := min(time.Since(began), d)
		for ; n < int(since.Seconds()*float64(rate)); n++ {
			_, s := tracer.Start(ctx, "GET /orders/{id}")
			s.SetAttributes(attribute.Int("n", n), attribute.String("http.request.method", "GET"))
			s.End()
		}
		if since == d {
			return n
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// shutdown ends everything that the producer has, in our order.
func (p *producer) shutdown(ctx context.Context) error {
	if p.ours != nil {
		if err := p.ours.Shutdown(ctx); err != nil {
			return err
		}
	}
	return p.provider.Shutdown(ctx)
}

// TestRestarts kills a Collector under load, without warning, and starts it again 5 s
// later. Nothing of ours is lost; the stock exporter goes through the same.
func TestRestarts(t *testing.T) {
	for _, p := range []*peer{collector, collectorNow} {
		t.Run(p.name, func(t *testing.T) {
			root := need(t, p)
			shown := show(t, "Collector killed under load, away for 5 s", p.file)
			const rate, away = 2000, 5 * time.Second
			kills := count(1, 5)

			ledger := collectortest.Start(t)
			config := write(t, "collector.yaml", []byte(throughYAML))
			addrs := free(t, 2)
			run := func() *running {
				return began(t, p.name, addrs, []string{"GRPC=" + addrs[0], "HTTP=" + addrs[1], "NEXT=" + ledger.URL()},
					p.path(root), "--config", config)
			}
			c := run()

			all := producers(t, addrs[0], addrs[1])
			ended := make([]int, len(all))
			done := make(chan struct{})
			took := time.Duration(kills)*(away+3*time.Second) + 4*time.Second
			for i, p := range all {
				go func() {
					ended[i] = p.load(t.Context(), rate, took)
					done <- struct{}{}
				}()
			}
			for range kills {
				time.Sleep(3 * time.Second)
				c.kill()
				time.Sleep(away)
				c = run()
			}
			for range all {
				<-done
			}
			errs := make([]error, len(all))
			for i, p := range all {
				go func() {
					ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
					defer cancel()
					errs[i] = p.shutdown(ctx)
					done <- struct{}{}
				}()
			}
			for range all {
				<-done
			}

			arrived := make(map[string]int)
			for _, s := range ledger.Spans() { // each id once
				for _, kv := range s.Resource.Attributes {
					if kv.Key == "service.name" {
						arrived[kv.Value.AsString()]++
					}
				}
			}
			for i, p := range all {
				lost := ended[i] - arrived[p.name]
				shown("%s lost %d of %d (%.1f %%), Shutdown said %s", p.name, lost, ended[i], 100*float64(lost)/float64(ended[i]), said(errs[i]))
				if p.ours == nil {
					continue
				}
				st := p.ours.Stats()
				if lost != 0 || errs[i] != nil || !st.Balanced() || st.Delivered != uint64(ended[i]) || st.Ended != uint64(ended[i]) {
					t.Errorf("%s: %d ended, %d arrived, Shutdown %v, accounts %+v", p.name, ended[i], arrived[p.name], errs[i], st)
				}
			}
			shown("%d spans came twice", ledger.Duplicates())
		})
	}
}

func said(err error) string {
	if err == nil {
		return "nil"
	}
	return fmt.Sprintf("%.80q", err)
}
