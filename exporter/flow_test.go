package exporter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

var (
	errAway  = errors.New("connection refused")
	errLater = &SendError{Status: 503, Code: "503", Retry: true, Err: errors.New("collector answers 503")}
)

// The first span goes after 100 ms, later ones after Delay.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(nil)
		e := start(t, Config{Sender: f})
		end(e, 0, 3)
		time.Sleep(5 * time.Second)
		end(e, 3, 5)
		time.Sleep(500 * time.Millisecond)
		end(e, 5, 6)
		time.Sleep(5 * time.Second)
		want := []call{{at: firstDelay, spans: 3}, {at: 6 * time.Second, spans: 3, first: 3}}
		got := f.all()
		for i := range got {
			got[i].bytes = 0
		}
		if !slices.Equal(got, want) {
			t.Errorf("requests %v, want %v", got, want)
		}
	})
}

// A full request goes at once; the rest waits its time.
func TestRequestBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(nil)
		e := start(t, Config{Sender: f, RequestBytes: 64 << 10, Delay: time.Hour})
		end(e, 0, 1)
		time.Sleep(time.Second)
		end(e, 1, 500, padding(500))
		time.Sleep(time.Second)
		calls := f.all()[1:]
		if len(calls) < 3 {
			t.Fatalf("%d requests for 280 KiB of spans", len(calls))
		}
		for _, c := range calls {
			if c.bytes > 64<<10 || c.bytes < 48<<10 || c.at > time.Second {
				t.Errorf("request of %d bytes after %v, want 48 to 64 KiB at once", c.bytes, c.at)
			}
		}
		if st := e.Stats(); st.Kept.Memory == 0 || st.Kept.Memory > 130 {
			t.Errorf("%d spans wait for company, want less than a request's and some", st.Kept.Memory)
		}
		if err := e.ForceFlush(context.Background()); err != nil {
			t.Error(err)
		}
		if n := f.unique(); n != 500 {
			t.Errorf("%d spans arrived, want 500", n)
		}
	})
}

func TestRequestSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(nil)
		e := start(t, Config{Sender: f, Getenv: env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10", "OTEL_BSP_SCHEDULE_DELAY", "2000")})
		end(e, 0, 1)
		time.Sleep(time.Second)
		end(e, 1, 36)
		time.Sleep(time.Second)
		end(e, 36, 37)
		time.Sleep(5 * time.Second)
		var got []int
		for _, c := range f.all() {
			got = append(got, c.spans)
		}
		slices.Sort(got)
		if !slices.Equal(got, []int{1, 6, 10, 10, 10}) {
			t.Errorf("requests of %v spans", got)
		}
	})
}

// Without an answer the exporter tries again for as long as it takes, and the
// collector hears of the spans within a second of its return.
func TestDownForTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const outage = 10 * time.Minute
		var f *fakeSender
		f = newFake(func(int, call) (int, error) {
			if time.Since(f.start) < outage {
				return 0, errAway
			}
			return 0, nil
		})
		e := start(t, Config{Sender: f})
		for n := range 600 {
			end(e, 10*n, 10*n+10)
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		st := checkAccounts(t, e, Kept{})
		if st.Delivered != 6000 || f.unique() != 6000 {
			t.Errorf("delivered %d, ledger %d, want 6000", st.Delivered, f.unique())
		}
		var last time.Duration
		for _, c := range f.all() {
			if gap := c.at - last; last > 0 && last < outage && gap > longestAway {
				t.Errorf("%v without an attempt at %v", gap, c.at)
			}
			if c.at > outage && last < outage && c.at > outage+time.Second {
				t.Errorf("first delivery %v after the collector was back", c.at-outage)
			}
			last = c.at
		}
		if st.Retries == 0 || st.Requests != uint64(len(f.all())) {
			t.Errorf("requests %d, retries %d, the ledger has %d", st.Requests, st.Retries, len(f.all()))
		}
	})
}

// Answers that mean later are repeated less often, with doubling pauses.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(func(int, call) (int, error) { return 0, errLater })
		e := start(t, Config{Sender: f})
		end(e, 0, 1)
		time.Sleep(time.Minute)
		calls := f.all()
		for i := 1; i < len(calls); i++ {
			longest := min(longestPause, firstPause<<(i-1))
			if gap := calls[i].at - calls[i-1].at; gap > longest || gap < longest/2 {
				t.Errorf("pause %d is %v, want %v to %v", i, gap, longest/2, longest)
			}
		}
		if len(calls) < 14 {
			t.Errorf("%d attempts in a minute", len(calls))
		}
		checkAccounts(t, e, Kept{Memory: 1})
	})
}

// While requests fail there is one at a time; otherwise up to InFlight.
func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		f := newFake(func(int, call) (int, error) {
			if down.Load() {
				return 0, errAway
			}
			return 0, nil
		})
		f.hold = func(ctx context.Context, _ int) {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		e := start(t, Config{Sender: f, RequestBytes: 4 << 10, InFlight: 3})
		end(e, 0, 500, padding(100))
		time.Sleep(10 * time.Second)
		if n := f.peak(); n != 3 {
			t.Errorf("%d requests at once, want 3", n)
		}
		down.Store(true)
		end(e, 500, 501)
		time.Sleep(5 * time.Second) // fails
		f.peak()
		end(e, 501, 1000, padding(100))
		time.Sleep(10 * time.Second)
		if n := f.peak(); n != 1 {
			t.Errorf("%d requests at once while the collector is away, want 1", n)
		}
		down.Store(false)
		time.Sleep(10 * time.Second)
		if st := checkAccounts(t, e, Kept{}); st.Delivered != 1000 {
			t.Errorf("delivered %d, want 1000", st.Delivered)
		}
	})
}

// No request goes out in the time that the collector asked for, whichever request
// it was that was told so; five minutes is the most.
func TestDelaysAreObeyed(t *testing.T) {
	for name, tt := range map[string]struct{ after, want time.Duration }{
		"2s":        {2 * time.Second, 2 * time.Second},
		"20s":       {20 * time.Second, 20 * time.Second},
		"100 years": {100 * 365 * 24 * time.Hour, longestTold},
		"negative":  {-time.Hour, firstPause / 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(func(n int, _ call) (int, error) {
					if n == 0 {
						return 0, &SendError{Status: 429, Code: "429", Retry: true, After: tt.after, Err: errors.New("slow down")}
					}
					return 0, nil
				})
				e := start(t, Config{Sender: f, RequestBytes: 4 << 10})
				end(e, 0, 1)
				time.Sleep(firstDelay)
				synctest.Wait()
				end(e, 1, 200, padding(100))
				time.Sleep(longestTold + time.Minute)
				calls := f.all()
				if len(calls) < 3 {
					t.Fatalf("requests: %v", calls)
				}
				if gap := calls[1].at - calls[0].at; gap < tt.want || gap > tt.want+time.Second {
					t.Errorf("next request %v after the answer, want %v", gap, tt.want)
				}
				capped := "slow down: it asks for no request for 876000h0m0s, of which 5m0s are obeyed"
				if l := logged(e); len(l) != 2 || strings.Contains(l[0], capped) != (tt.after > longestTold) {
					t.Errorf("lines %q", l)
				}
				checkAccounts(t, e, Kept{})
			})
		})
	}
}

// ForceFlush ends a pause of the exporter's own and respects one of the collector's.
func TestForceFlushHurries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		var after time.Duration
		f := newFake(func(int, call) (int, error) {
			if down.Load() {
				return 0, &SendError{Code: "UNAVAILABLE", Retry: true, After: after, Err: errors.New("away")}
			}
			return 0, nil
		})
		e := start(t, Config{Sender: f})
		end(e, 0, 5)
		time.Sleep(30 * time.Second)
		down.Store(false)
		began := time.Now()
		if err := e.ForceFlush(context.Background()); err != nil || time.Since(began) != 0 {
			t.Errorf("ForceFlush = %v after %v, want nil at once", err, time.Since(began))
		}
		down.Store(true)
		after = 3 * time.Second
		end(e, 5, 6)
		time.Sleep(time.Second)
		synctest.Wait()
		down.Store(false)
		began = time.Now()
		if err := e.ForceFlush(context.Background()); err != nil || time.Since(began) != after {
			t.Errorf("ForceFlush = %v after %v, want nil after %v", err, time.Since(began), after)
		}
	})
}

func TestForceFlushErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(func(n int, _ call) (int, error) {
			if n == 0 {
				return 0, &SendError{Status: 400, Code: "400", Err: errors.New("bad request")}
			}
			return 0, errAway
		})
		e := start(t, Config{Sender: f})
		if err := e.ForceFlush(context.Background()); err != nil {
			t.Errorf("ForceFlush of nothing: %v", err)
		}
		end(e, 0, 7)
		var loss *LossError
		var se *SendError
		if err := e.ForceFlush(context.Background()); !errors.As(err, &loss) || loss.Lost != 7 || !errors.As(err, &se) || se.Status != 400 {
			t.Errorf("ForceFlush of rejected spans: %v, want a LossError of 7 for 400", err)
		}
		end(e, 7, 12)
		began := time.Now()
		err := e.ForceFlush(context.Background())
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errAway) || errors.As(err, &loss) && loss.Lost > 0 && loss.Lost != 7 || !strings.Contains(err.Error(), "5 spans") {
			t.Errorf("ForceFlush of kept spans: %v", err)
		}
		if d := time.Since(began); d != patience {
			t.Errorf("ForceFlush without a deadline takes %v, want %v", d, patience)
		}
		checkAccounts(t, e, Kept{Memory: 5})
		settle(t, e)
		if err := e.ForceFlush(context.Background()); !errors.Is(err, ErrShutdown) {
			t.Errorf("ForceFlush after Shutdown: %v", err)
		}
	})
}

func TestRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []error{
			&SendError{Status: 400, Code: "400", Err: errors.New("x")},
			&SendError{Code: "INVALID_ARGUMENT", Err: errors.New("x")},
			&SendError{Status: 418, Err: errors.New("a Sender that gives no code")},
			nil,
		}
		f := newFake(func(n int, _ call) (int, error) { return 0, answers[n] })
		e := start(t, Config{Sender: f})
		for n := range answers {
			end(e, 10*n, 10*n+10)
			time.Sleep(2 * time.Second)
		}
		st := checkAccounts(t, e, Kept{})
		if want := map[string]uint64{"400": 10, "INVALID_ARGUMENT": 10, "418": 10}; fmt.Sprint(st.Rejected) != fmt.Sprint(want) {
			t.Errorf("rejected %v, want %v", st.Rejected, want)
		}
		if st.Delivered != 10 || st.Retries != 0 {
			t.Errorf("delivered %d, retries %d", st.Delivered, st.Retries)
		}
	})
}

// A hostile collector cannot fill the account of rejected spans with keys.
func TestRejectedCodesBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(func(n int, _ call) (int, error) {
			return 0, &SendError{Code: fmt.Sprintf("code\n%d%s", n, strings.Repeat("x", 1000)), Err: errors.New("x")}
		})
		e := start(t, Config{Sender: f})
		for n := range 200 {
			end(e, n, n+1)
			time.Sleep(2 * time.Second)
		}
		st := checkAccounts(t, e, Kept{})
		if len(st.Rejected) > maxCodes+1 || sum(st.Rejected) != 200 {
			t.Errorf("%d keys for %d spans", len(st.Rejected), sum(st.Rejected))
		}
		for k := range st.Rejected {
			if len(k) > 64 || strings.Contains(k, "\n") {
				t.Errorf("key %q", k)
			}
		}
	})
}

func TestRejectedSpansAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLines()
		f := newFake(func(n int, c call) (int, error) {
			switch n {
			case 0:
				return 3, &SendError{Code: CodePartialSuccess, Err: errors.New("span too old")}
			case 1:
				return 2, nil
			case 2:
				return 0, &SendError{Code: CodePartialSuccess, Err: errors.New("only a warning")}
			}
			return c.spans, nil
		})
		e := start(t, Config{Sender: f, Logger: slog.New(l)})
		for n := range 4 {
			end(e, 10*n, 10*n+10)
			time.Sleep(2 * time.Second)
			if n == 0 {
				var se *SendError
				if !errors.As(e.Stats().LastError, &se) || !strings.Contains(se.Error(), "span too old") {
					t.Errorf("LastError = %v, want the collector's words", e.Stats().LastError)
				}
			}
		}
		st := checkAccounts(t, e, Kept{})
		if st.Rejected[CodePartialSuccess] != 15 || st.Delivered != 25 || st.Retries != 0 {
			t.Errorf("rejected %v, delivered %d, retries %d", st.Rejected, st.Delivered, st.Retries)
		}
		if n := len(l.all()); n != 1 {
			t.Errorf("%d lines in a minute: %q", n, l.all())
		}
	})
}

// A Sender that counts wrong cannot unbalance the accounts.
func TestRejectedCountClamped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &countSender{counts: []int{-5, 1000}}
		e := start(t, Config{Sender: f})
		end(e, 0, 10)
		time.Sleep(2 * time.Second)
		end(e, 10, 20)
		time.Sleep(2 * time.Second)
		if st := checkAccounts(t, e, Kept{}); st.Delivered != 10 || st.Rejected[CodePartialSuccess] != 10 {
			t.Errorf("%+v", st)
		}
	})
}

type countSender struct{ counts []int }

func (s *countSender) Send(context.Context, []byte, int) (int, error) {
	n := s.counts[0]
	s.counts = s.counts[1:]
	return n, nil
}
func (s *countSender) Close() error { return nil }

// A request that is too large is halved until its parts pass; a span that does not
// pass alone is dropped, and its neighbours arrive.
func TestTooLarge(t *testing.T) {
	const limit = 20 << 10
	for name, refusal := range map[string]*SendError{
		"413":                {Status: 413, Code: "413", Err: errors.New("too large")},
		"RESOURCE_EXHAUSTED": {Code: "RESOURCE_EXHAUSTED", Err: errors.New("grpc: received message larger than max (80000 vs. 20480)")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(func(_ int, c call) (int, error) {
					if c.bytes > limit {
						return 0, refusal
					}
					return 0, nil
				})
				e := start(t, Config{Sender: f})
				end(e, 0, 500, padding(100))
				end(e, 500, 501, padding(limit))
				end(e, 501, 1000, padding(100))
				time.Sleep(10 * time.Second)
				st := checkAccounts(t, e, Kept{})
				if st.Delivered != 999 || st.Dropped[DropTooLarge] != 1 {
					t.Errorf("delivered %d, dropped %v", st.Delivered, st.Dropped)
				}
				refusedBefore := len(f.all())
				end(e, 1000, 2000, padding(100))
				time.Sleep(10 * time.Second)
				for _, c := range f.all()[refusedBefore:] {
					if c.bytes > limit {
						t.Errorf("request of %d bytes after the limit of %d was learned", c.bytes, limit)
					}
				}
				checkAccounts(t, e, Kept{})
			})
		})
	}
}

// RESOURCE_EXHAUSTED that is about the rate and not the size is final without RetryInfo.
func TestExhaustedIsNotTooLarge(t *testing.T) {
	e := &SendError{Code: "RESOURCE_EXHAUSTED", Err: errors.New("quota exceeded")}
	if e.tooLarge() {
		t.Error("a quota counts as too large")
	}
}

// A batch to which the collector always answers "later" does not starve the others.
func TestPoisonStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(func(_ int, c call) (int, error) {
			if c.first < 10 {
				return 0, errLater
			}
			return 0, nil
		})
		e := start(t, Config{Sender: f, InFlight: 1})
		end(e, 0, 10)
		time.Sleep(30 * time.Second)
		for n := range 10 {
			end(e, 100+n, 101+n)
			time.Sleep(5 * time.Second)
		}
		time.Sleep(10 * time.Second)
		if st := checkAccounts(t, e, Kept{Memory: 10}); st.Delivered != 10 {
			t.Errorf("delivered %d of the 10 good spans", st.Delivered)
		}
	})
}

// While others succeed, a batch that is answered "later" comes back at its own, growing pauses.
func TestPoisonIsPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(func(_ int, c call) (int, error) {
			if c.first < 10 {
				return 0, errLater
			}
			return 0, nil
		})
		e := start(t, Config{Sender: f, Delay: 10 * time.Millisecond})
		end(e, 0, 10)
		time.Sleep(time.Second)
		for n := range 1000 {
			end(e, 100+n, 101+n)
			time.Sleep(60 * time.Millisecond)
		}
		poison := 0
		for _, c := range f.all() {
			if c.first < 10 {
				poison++
			}
		}
		if poison < 10 || poison > 40 {
			t.Errorf("the batch was sent %d times in a minute", poison)
		}
		if st := checkAccounts(t, e, Kept{Memory: e.Stats().Kept.Memory}); st.Delivered < 990 {
			t.Errorf("delivered %d of the 1000 good spans", st.Delivered)
		}
	})
}

// A server that hangs up on large requests, without a word, gets smaller ones.
func TestCutOffRequestsAreHalved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(func(_ int, c call) (int, error) {
			if c.bytes > 40<<10 {
				return 0, &SendError{Retry: true, Err: io.ErrUnexpectedEOF, cut: true}
			}
			return 0, nil
		})
		e := start(t, Config{Sender: f})
		end(e, 0, 1000, padding(100))
		time.Sleep(time.Minute)
		if st := checkAccounts(t, e, Kept{}); st.Delivered != 1000 {
			t.Errorf("delivered %d, kept %d", st.Delivered, st.Kept.Memory)
		}
	})
}

// Who waits in ForceFlush while another shuts down is let go.
func TestShutdownReleasesForceFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, Config{Sender: newFake(func(int, call) (int, error) { return 0, errAway })})
		end(e, 0, 10)
		flushed := make(chan error)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			flushed <- e.ForceFlush(ctx)
		}()
		time.Sleep(time.Second)
		began := time.Now()
		e.Shutdown(withTimeout(t, time.Second))
		var loss *LossError
		if err := <-flushed; !errors.As(err, &loss) || loss.Lost != 10 || time.Since(began) > time.Second+grace {
			t.Errorf("ForceFlush = %v after %v", err, time.Since(began))
		}
	})
}

func TestQueueFull(t *testing.T) {
	for _, full := range []Full{DropNewest, DropOldest} {
		t.Run(full.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var down atomic.Bool
				down.Store(true)
				l := newLines()
				f := newFake(func(int, call) (int, error) {
					if down.Load() {
						return 0, errAway
					}
					return 0, nil
				})
				e := start(t, Config{Sender: f, QueueBytes: 64 << 10, Full: full, Logger: slog.New(l)})
				for n := range 2000 {
					end(e, n, n+1, padding(100))
					time.Sleep(10 * time.Millisecond)
				}
				if e.queue.bytes > 64<<10 {
					t.Errorf("the queue has %d bytes", e.queue.bytes)
				}
				down.Store(false)
				time.Sleep(time.Minute)
				st := checkAccounts(t, e, Kept{})
				if st.Dropped[DropQueueFull] == 0 || st.Delivered+st.Dropped[DropQueueFull] != 2000 || st.Delivered < 200 {
					t.Errorf("delivered %d, dropped %v", st.Delivered, st.Dropped)
				}
				calls := f.all()
				oldest := calls[len(calls)-1].first
				for _, c := range calls {
					if c.at > 20*time.Second {
						oldest = min(oldest, c.first)
					}
				}
				if (oldest == 0) != (full == DropNewest) {
					t.Errorf("oldest span delivered is %d", oldest)
				}
				lost := l.containing("lost")
				if len(lost) != 2 || !strings.Contains(lost[0], "queue is full") || !strings.Contains(lost[1], fmt.Sprintf("no more spans are lost; %d were", st.Dropped[DropQueueFull])) {
					t.Errorf("lines about the loss: %q", lost)
				}
			})
		})
	}
}

func TestQueueSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(func(int, call) (int, error) { return 0, errAway })
		e := start(t, Config{Sender: f, Getenv: env("OTEL_BSP_MAX_QUEUE_SIZE", "100")})
		end(e, 0, 250)
		time.Sleep(10 * time.Second)
		if st := checkAccounts(t, e, Kept{Memory: 100}); st.Dropped[DropQueueFull] != 150 {
			t.Errorf("dropped %v, want 150", st.Dropped)
		}
	})
}

// One line for the first failure, one a minute while it lasts, one when it is over.
func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f *fakeSender
		l := newLines()
		f = newFake(func(int, call) (int, error) {
			if time.Since(f.start) < 150*time.Second {
				return 0, errAway
			}
			return 0, nil
		})
		e := start(t, Config{Sender: f, Logger: slog.New(l)})
		for n := range 200 {
			end(e, n, n+1)
			time.Sleep(time.Second)
		}
		got := l.all()
		if len(got) != 4 || !strings.Contains(got[0], "refused") || got[1] != got[0] || got[2] != got[0] || !strings.Contains(got[3], "accepts spans again") {
			t.Errorf("lines: %q", got)
		}
		if l.at[0] > time.Second {
			t.Errorf("first line after %v", l.at[0])
		}
		checkAccounts(t, e, Kept{Memory: e.Stats().Kept.Memory})
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(nil)
		e := start(t, Config{Sender: f, Delay: time.Hour})
		end(e, 0, 1)
		time.Sleep(time.Second)
		end(e, 1, 100)
		began := time.Now()
		if err := e.Shutdown(context.Background()); err != nil || time.Since(began) != 0 {
			t.Errorf("Shutdown = %v after %v, want nil at once", err, time.Since(began))
		}
		if st := checkAccounts(t, e, Kept{}); st.Delivered != 100 {
			t.Errorf("delivered %d, want 100", st.Delivered)
		}
		if f.closed != 1 {
			t.Errorf("the Sender was closed %d times", f.closed)
		}
		if err := e.Shutdown(context.Background()); err != nil {
			t.Errorf("second Shutdown: %v", err)
		}
		end(e, 100, 105)
		if st := checkAccounts(t, e, Kept{}); st.Dropped[DropShutdown] != 5 || st.Ended != 105 {
			t.Errorf("late spans: %+v", st)
		}
		time.Sleep(time.Hour)
		if n := len(f.all()); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

func TestShutdownDeadCollector(t *testing.T) {
	for name, tt := range map[string]struct {
		ctx  func() (context.Context, context.CancelFunc)
		want time.Duration
	}{
		"no deadline": {func() (context.Context, context.CancelFunc) { return context.Background(), func() {} }, patience},
		"2 s": {func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 2*time.Second)
		}, 2 * time.Second},
		"30 s": {func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 30*time.Second)
		}, 30 * time.Second},
		"cancelled": {func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx, cancel
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLines()
				f := newFake(func(int, call) (int, error) { return 0, errAway })
				e := start(t, Config{Sender: f, Logger: slog.New(l)})
				end(e, 0, 2000)
				time.Sleep(3 * time.Second)
				ctx, cancel := tt.ctx()
				defer cancel()
				began := time.Now()
				err := e.Shutdown(ctx)
				if d := time.Since(began); d != tt.want {
					t.Errorf("Shutdown takes %v, want %v", d, tt.want)
				}
				var loss *LossError
				if !errors.As(err, &loss) || loss.Lost != 2000 || !errors.Is(err, errAway) || !strings.Contains(err.Error(), "2000 spans lost") {
					t.Errorf("Shutdown: %v", err)
				}
				if st := checkAccounts(t, e, Kept{}); st.Dropped[DropShutdown] != 2000 {
					t.Errorf("dropped %v", st.Dropped)
				}
				n := len(f.all())
				time.Sleep(time.Hour)
				if len(f.all()) != n {
					t.Error("requests after Shutdown")
				}
				if len(l.containing("2000 spans lost")) != 1 {
					t.Errorf("lines: %q", l.all())
				}
			})
		})
	}
}

// A request under way when time is up is cancelled; a Sender that does not care
// costs the grace and no more.
func TestShutdownHangingSender(t *testing.T) {
	for _, obedient := range []bool{true, false} {
		t.Run(fmt.Sprintf("obedient=%v", obedient), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				f := newFake(nil)
				f.hold = func(ctx context.Context, _ int) {
					if obedient {
						<-ctx.Done()
					} else {
						<-release
					}
				}
				e := start(t, Config{Sender: f})
				end(e, 0, 10)
				time.Sleep(time.Second)
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				defer cancel()
				began := time.Now()
				var loss *LossError
				if err := e.Shutdown(ctx); !errors.As(err, &loss) || loss.Lost != 10 {
					t.Errorf("Shutdown: %v", err)
				}
				if d := time.Since(began); d < 2*time.Second || d > 2*time.Second+grace {
					t.Errorf("Shutdown takes %v", d)
				}
				before := checkAccounts(t, e, Kept{})
				close(release) // a late answer changes nothing
				synctest.Wait()
				if after := checkAccounts(t, e, Kept{}); after.Delivered != before.Delivered {
					t.Errorf("delivered %d after Shutdown said %d", after.Delivered, before.Delivered)
				}
			})
		})
	}
}

// Whatever panics, the spans are counted and export goes on.
func TestContained(t *testing.T) {
	t.Run("Sender", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(func(n int, _ call) (int, error) {
				if n == 0 {
					panic("boom")
				}
				return 0, nil
			})
			e := start(t, Config{Sender: f})
			end(e, 0, 5)
			time.Sleep(2 * time.Second)
			end(e, 5, 10)
			time.Sleep(2 * time.Second)
			if st := checkAccounts(t, e, Kept{}); st.Delivered != 5 || st.Dropped[DropPanic] != 5 || st.Panics != 1 {
				t.Errorf("%+v", st)
			}
		})
	})
	t.Run("Close", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := start(t, Config{Sender: panickyCloser{}})
			if err := e.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if st := e.Stats(); st.Panics != 1 {
				t.Errorf("%d panics", st.Panics)
			}
		})
	})
	t.Run("Logger", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(func(n int, _ call) (int, error) {
				if n < 3 {
					return 0, errAway
				}
				return 0, nil
			})
			e := start(t, Config{Sender: f, Logger: slog.New(panickyHandler{})})
			end(e, 0, 5)
			time.Sleep(10 * time.Second)
			if st := checkAccounts(t, e, Kept{}); st.Delivered != 5 || st.Panics == 0 {
				t.Errorf("%+v", st)
			}
		})
	})
	t.Run("span", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := start(t, Config{Sender: newFake(nil)})
			e.OnEnd(panickySpan{makeSpan(0)})
			end(e, 1, 5)
			time.Sleep(2 * time.Second)
			if st := checkAccounts(t, e, Kept{}); st.Delivered != 4 || st.Dropped[DropPanic] != 1 || st.Panics != 1 {
				t.Errorf("%+v", st)
			}
		})
	})
}

// MeterProviders that panic, at once or when something is measured.
func TestContainedMeterProvider(t *testing.T) {
	for name, mp := range map[string]metric.MeterProvider{
		"Meter": panickyMeters{}, "Record": panickyRecords{}, "Unregister": panickyRegistration{},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := start(t, Config{Sender: newFake(nil), MeterProvider: mp})
				tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(e))
				for range 5 {
					_, s := tp.Tracer("").Start(context.Background(), "s")
					s.End()
					time.Sleep(2 * time.Second)
				}
				if err := e.Shutdown(context.Background()); err != nil {
					t.Error(err)
				}
				if st := checkAccounts(t, e, Kept{}); st.Delivered != 5 || st.Panics == 0 {
					t.Errorf("delivered %d, %d panics", st.Delivered, st.Panics)
				}
				if l := logged(e); len(l) == 0 || !strings.Contains(l[0], "panicked: boom") {
					t.Errorf("lines %q", l)
				}
			})
		})
	}
}

type panickyMeters struct{ noop.MeterProvider }

func (panickyMeters) Meter(string, ...metric.MeterOption) metric.Meter { panic("boom") }

type panickyRecords struct{ noop.MeterProvider }

func (panickyRecords) Meter(string, ...metric.MeterOption) metric.Meter { return panickyMeter{} }

type panickyMeter struct{ noop.Meter }

func (panickyMeter) Float64Histogram(string, ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return panickyHistogram{}, nil
}

type panickyHistogram struct{ noop.Float64Histogram }

func (panickyHistogram) Record(context.Context, float64, ...metric.RecordOption) { panic("boom") }

type panickyRegistration struct{ noop.MeterProvider }

func (panickyRegistration) Meter(string, ...metric.MeterOption) metric.Meter {
	return registrationMeter{}
}

type registrationMeter struct{ noop.Meter }

func (registrationMeter) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	return badRegistration{}, nil
}

type badRegistration struct{ noop.Registration }

func (badRegistration) Unregister() error { panic("boom") }

// A clock that steps by an hour in mid-span, either way: the span arrives as it is, and
// nothing here runs by the wall.
func TestContainedClockSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []otlpwire.Span
		e := start(t, Config{Sender: sendFunc(func(request []byte) {
			spans, err := otlpwire.Decode(request)
			if err != nil {
				t.Error(err)
			}
			got = append(got, spans...)
		})})
		at := time.Now().Round(0)
		for i, step := range []time.Duration{time.Hour, -time.Hour, 1 << 62, -1 << 62} {
			stub := tracetest.SpanStubFromReadOnlySpan(makeSpan(i))
			stub.StartTime, stub.EndTime = at, at.Add(step)
			e.OnEnd(stub.Snapshot())
		}
		if err := e.ForceFlush(context.Background()); err != nil {
			t.Error(err)
		}
		if len(got) != 4 || got[1].End >= got[1].Start || got[0].End != uint64(at.Add(time.Hour).UnixNano()) {
			t.Errorf("spans %+v", got)
		}
	})
}

type sendFunc func(request []byte)

func (f sendFunc) Send(_ context.Context, request []byte, _ int) (int, error) {
	f(request)
	return 0, nil
}
func (sendFunc) Close() error { return nil }

type panickyCloser struct{ discard }

func (panickyCloser) Close() error { panic("boom") }

type panickyHandler struct{}

func (panickyHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (h panickyHandler) WithAttrs([]slog.Attr) slog.Handler      { return h }
func (h panickyHandler) WithGroup(string) slog.Handler           { return h }
func (panickyHandler) Handle(context.Context, slog.Record) error { panic("boom") }

type panickySpan struct{ sdktrace.ReadOnlySpan }

func (panickySpan) Name() string { panic("boom") }

// A span larger than a request is cut string by string, and dropped if it has too much else.
func TestShorten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(nil)
		e := start(t, Config{Sender: f, RequestBytes: 64 << 10})
		end(e, 0, 1, padding(1<<20))
		end(e, 1, 2)
		time.Sleep(time.Second)
		st := checkAccounts(t, e, Kept{})
		if st.Cut != 1 || st.Delivered != 2 {
			t.Errorf("cut %d, delivered %d", st.Cut, st.Delivered)
		}
		for _, c := range f.all() {
			if c.bytes > 64<<10 {
				t.Errorf("request of %d bytes", c.bytes)
			}
		}
		kvs := make([]attribute.KeyValue, 20000)
		for i := range kvs {
			kvs[i] = padding(1)
		}
		e.OnEnd(makeSpan(2, kvs...))
		end(e, 3, 4)
		time.Sleep(2 * time.Second)
		st = checkAccounts(t, e, Kept{})
		if st.Dropped[DropTooLarge] != 1 || st.Delivered != 3 {
			t.Errorf("dropped %v, delivered %d", st.Dropped, st.Delivered)
		}
	})
}

func TestUnsampledAndLive(t *testing.T) {
	f := newFake(nil)
	e := start(t, Config{Sender: f})
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(e), sdktrace.WithSampler(recordOnly{}))
	_, recorded := tp.Tracer("").Start(context.Background(), "recorded, not sampled")
	if st := e.Stats(); st.Live != 1 {
		t.Errorf("live %d, want 1", st.Live)
	}
	recorded.End()
	if st := e.Stats(); st.Live != 0 || st.Ended != 0 {
		t.Errorf("live %d, ended %d, want none: it was not sampled", st.Live, st.Ended)
	}
	tp = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(e))
	_, a := tp.Tracer("").Start(context.Background(), "a")
	_, b := tp.Tracer("").Start(context.Background(), "b")
	a.End()
	if st := e.Stats(); st.Live != 1 || st.Ended != 1 {
		t.Errorf("live %d, ended %d, want 1 and 1", st.Live, st.Ended)
	}
	b.End()
	if err := e.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

type recordOnly struct{}

func (recordOnly) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return sdktrace.SamplingResult{Decision: sdktrace.RecordOnly}
}
func (recordOnly) Description() string { return "recordOnly" }
