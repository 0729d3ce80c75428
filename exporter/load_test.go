package exporter

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/collectortest"
)

// residentPeak is the largest resident size of this process in MiB, 0 where the system does not tell.
func residentPeak() int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			return n >> 10
		}
	}
	return 0
}

// numbered is a span with ids of its own, made in no time.
type numbered struct {
	sdktrace.ReadOnlySpan
	sc trace.SpanContext
}

func (s *numbered) SpanContext() trace.SpanContext { return s.sc }

// L1: a steady load to a real collector on loopback; nothing is lost, the accounts balance
// in every snapshot that a second goroutine takes. What a single OnEnd takes is logged:
// it is the machine's as much as ours.
func TestSteady200k(t *testing.T) {
	rate, seconds := 200_000, inFull(1, 60)
	if raceEnabled {
		rate = 20_000
	}
	for _, p := range []Protocol{GRPC, HTTPProtobuf} {
		t.Run(strings.ReplaceAll(p.String(), "/", "-"), func(t *testing.T) {
			spans := rate * seconds
			c := collectortest.Start(t, collectortest.Numbered(spans), collectortest.Patience(2*time.Minute))
			e := start(t, Config{Endpoint: c.URL(), Protocol: p})
			var stop atomic.Bool
			var watch sync.WaitGroup
			snapshots := 0
			watch.Go(func() {
				for !stop.Load() {
					if st := e.Stats(); !st.Balanced() {
						t.Errorf("not balanced: %+v", st)
						return
					}
					snapshots++
					time.Sleep(100 * time.Microsecond)
				}
			})
			base := makeSpan(0)
			took := make([]time.Duration, 0, spans/16+1)
			began := time.Now()
			for n := 0; n < spans; {
				due := min(spans, int(time.Since(began).Seconds()*float64(rate)))
				for ; n < due; n++ {
					s := &numbered{base, spanContext(n)}
					if n%16 != 0 {
						e.OnEnd(s)
						continue
					}
					at := time.Now()
					e.OnEnd(s)
					took = append(took, time.Since(at))
				}
				time.Sleep(time.Millisecond)
			}
			lasted := time.Since(began)
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			if err := e.ForceFlush(ctx); err != nil {
				t.Errorf("ForceFlush: %v", err)
			}
			stop.Store(true)
			watch.Wait()
			st := all(t, e, c, spans)
			slices.Sort(took)
			at := func(q float64) time.Duration { return took[int(float64(len(took)-1)*q)] }
			t.Logf("%d spans in %v (%.0f/s), %d requests, %d snapshots balanced; OnEnd p50 %v, p99 %v, max %v; resident at most %d MiB with the collector's ledger",
				spans, lasted.Round(time.Millisecond), float64(spans)/lasted.Seconds(), st.Requests, snapshots, at(.5), at(.99), at(1), residentPeak())
		})
	}
}

// L3: a burst that memory cannot hold: what is dropped is counted exactly, and told in one
// line when it begins and one when it is over.
func TestBurstMemoryOnly(t *testing.T) {
	spans := inFull(100_000, 1_000_000)
	bytes := int64(inFull(2<<20, 64<<20))
	delay := time.Duration(inFull(50, 2000)) * time.Millisecond
	l := newLines()
	c := collectortest.Start(t, collectortest.Numbered(spans), collectortest.Faulty(collectortest.Fault{Delay: delay}))
	e := start(t, Config{Endpoint: c.URL(), Protocol: GRPC, QueueBytes: bytes, Logger: slog.New(l)})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			base := makeSpan(0, padding(100))
			for n := g * spans / 8; n < (g+1)*spans/8; n++ {
				e.OnEnd(&numbered{base, spanContext(n)})
			}
		})
	}
	wg.Wait()
	if st := e.Stats(); !st.Balanced() || st.Ended != uint64(spans) {
		t.Errorf("after the burst: %+v", st)
	}
	var loss *LossError
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.ForceFlush(ctx); err != nil && !errors.As(err, &loss) {
		t.Errorf("ForceFlush: %v", err)
	}
	for deadline := time.Now().Add(lossOver + 2*lossTick + slack); len(l.all()) < 2 && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	st := agree(t, e, c)
	dropped := st.Dropped[DropQueueFull]
	if dropped == 0 || int(dropped) != spans-c.Unique() || c.Duplicates() != 0 {
		t.Errorf("dropped %d of %d, the ledger has %d (%d twice)", dropped, spans, c.Unique(), c.Duplicates())
	}
	got := l.all()
	if len(got) != 2 || !strings.HasPrefix(got[0], "exporter: spans are being lost: the queue is full") ||
		got[1] != "exporter: no more spans are lost; "+strconv.FormatUint(dropped, 10)+" were" {
		t.Errorf("lines %q, dropped %d", got, dropped)
	}
	t.Logf("%d spans at once into %d MiB: %d dropped and counted; resident at most %d MiB with the collector's ledger", spans, bytes>>20, dropped, residentPeak())
}
