package exporter

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// Under Block nothing is lost while the collector takes spans in time, and whoever ends
// one waits Config.Block at most where it does not.
func TestBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		f := newFake(func(int, call) (int, error) {
			if down.Load() {
				return 0, errAway
			}
			return 0, nil
		})
		f.hold = func(context.Context, int) { time.Sleep(50 * time.Millisecond) }
		e := start(t, Config{Sender: f, QueueBytes: 64 << 10, Full: Block, Block: 200 * time.Millisecond})
		var wg sync.WaitGroup
		for g := range 8 { // ten times what the queue holds
			wg.Go(func() { end(e, 1000*g, 1000*g+500, padding(100)) })
		}
		wg.Wait()
		time.Sleep(10 * time.Second)
		if st := checkAccounts(t, e, Kept{}); st.Delivered != 4000 {
			t.Errorf("delivered %d, dropped %v, want 4000", st.Delivered, st.Dropped)
		}
		down.Store(true)
		for n := 10000; e.Stats().Dropped[DropQueueFull] == 0; n++ {
			end(e, n, n+1, padding(100))
		}
		began := time.Now()
		end(e, 20000, 20005, padding(100))
		if d := time.Since(began); d != 5*200*time.Millisecond {
			t.Errorf("five spans wait %v, want 200 ms each", d)
		}
		checkAccounts(t, e, e.Stats().Kept)

		waits := make(chan time.Duration)
		go func() {
			began := time.Now()
			end(e, 30000, 30001, padding(100))
			waits <- time.Since(began)
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		e.Shutdown(ctx)
		if d := <-waits; d != 0 {
			t.Errorf("who waits for room is let go %v after Shutdown", d)
		}
		if st := checkAccounts(t, e, Kept{}); st.Dropped[DropQueueFull] != 6 {
			t.Errorf("dropped %v", st.Dropped)
		}
	})
}

// A span that no queue can hold does not wait.
func TestBlockTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, Config{Sender: newFake(nil), Full: Block, RequestBytes: 4 << 10})
		began := time.Now()
		e.OnEnd(makeSpan(0, manyAttributes(2000)...))
		if st := e.Stats(); st.Dropped[DropTooLarge] != 1 || time.Since(began) != 0 {
			t.Errorf("dropped %v after %v", st.Dropped, time.Since(began))
		}
	})
}

func manyAttributes(n int) []attribute.KeyValue {
	kvs := make([]attribute.KeyValue, n)
	for i := range kvs {
		kvs[i] = attribute.Int("number", i)
	}
	return kvs
}

// Spans that are lost now and then: one line a minute at most, and the lines' numbers add up.
func TestLossLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLines()
		e := start(t, Config{Sender: newFake(nil), RequestBytes: 4 << 10, Logger: slog.New(l)})
		lose := func(n int) {
			for range n {
				e.OnEnd(makeSpan(0, manyAttributes(2000)...))
			}
		}
		const tooLarge = "one is larger than a request may be (Config.RequestBytes, or the collector's limit)"
		at := time.Now()
		until := func(d time.Duration) { time.Sleep(d - time.Since(at)); synctest.Wait() }
		lose(1) // a loss of its own
		until(20 * time.Second)
		lose(2) // within a minute of the end of the first
		until(30 * time.Second)
		lose(3)
		until(3 * time.Minute)
		for range 150 { // one that lasts
			lose(1)
			time.Sleep(1003 * time.Millisecond) // beside the ticks
		}
		until(7 * time.Minute)
		lose(1)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		e.Shutdown(ctx)
		want := []string{
			"exporter: spans are being lost: " + tooLarge,
			"exporter: no more spans are lost; 1 was",
			"exporter: 5 spans were lost: " + tooLarge,
			"exporter: spans are being lost: " + tooLarge,
			"exporter: spans are being lost, 60 so far: " + tooLarge,
			"exporter: spans are being lost, 120 so far: " + tooLarge,
			"exporter: no more spans are lost; 150 were",
			"exporter: spans are being lost: " + tooLarge,
			"exporter: no more spans are lost; 1 was",
		}
		if got := l.all(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("lines:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
