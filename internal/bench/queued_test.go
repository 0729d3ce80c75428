package bench

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/exporter"
)

// away is a Sender whose collector is not there and says when to ask again.
type away struct{}

func (away) Send(context.Context, []byte, int) (int, error) {
	return 0, &exporter.SendError{Retry: true, After: time.Minute, Err: errors.New("not there")}
}
func (away) Close() error { return nil }

// BenchmarkQueued is OnEnd while the collector is away and that many spans wait: each
// one takes the place of the oldest.
func BenchmarkQueued(b *testing.B) {
	kept := new(last)
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(kept))
	_, span := provider.Tracer("bench").Start(b.Context(), "GET /carts/{id}")
	span.SetAttributes(tenAttributes...)
	span.End()
	for _, n := range []int{10, 1000, 100_000, 1_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.Run("meshtrace", func(b *testing.B) {
				e, err := exporter.New(exporter.Config{
					Sender: away{}, Full: exporter.DropOldest, QueueBytes: 1 << 30, Logger: slog.New(slog.DiscardHandler),
					Getenv: func(name string) string { return map[string]string{"OTEL_BSP_MAX_QUEUE_SIZE": strconv.Itoa(n)}[name] },
				})
				if err != nil {
					b.Fatal(err)
				}
				for range n {
					e.OnEnd(kept.span)
				}
				if st := e.Stats(); st.Kept.Memory != uint64(n) || !st.Balanced() {
					b.Fatalf("the accounts are %+v, want %d kept", st, n)
				}
				b.ReportAllocs()
				before := cpu(b)
				ended := 0
				for b.Loop() {
					e.OnEnd(kept.span)
					ended++
				}
				b.ReportMetric(float64(cpu(b)-before)/float64(ended), "cpu-ns/op")
				ctx, cancel := context.WithCancel(context.Background())
				cancel() // nobody will take them
				var loss *exporter.LossError
				if err := e.Shutdown(ctx); !errors.As(err, &loss) || loss.Lost != uint64(n) {
					b.Errorf("Shutdown: %v, want %d lost", err, n)
				}
			})
		})
	}
}
