package exporter

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshtrace/meshtrace/internal/collectortest"
	"github.com/meshtrace/meshtrace/internal/otlpreceiver"
	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// F1: the collector comes up five seconds after the program. Nothing is lost, and it
// hears of the spans within a second.
func TestDownAtStart(t *testing.T) {
	inLab(t, inFull(1, 10), func(t *testing.T, p Protocol, seed int) {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		_, c, cfg := onNetwork(t, p)
		c.Refuse()
		e := start(t, cfg)
		spans := inFull(30_000, 100_000)
		var producer sync.WaitGroup
		producer.Go(func() { produce(t, e, 0, spans, 10_000) })
		time.Sleep(5*time.Second + time.Duration(r.Int64N(int64(time.Second))))
		c.Reopen()
		up := time.Now()
		c.Wait(1)
		if d := time.Since(up); d > time.Second {
			t.Errorf("seed %d: first delivery %v after the collector came up", seed, d)
		}
		producer.Wait()
		c.Wait(spans)
		all(t, e, c, spans)
		if l := logged(e); len(l) != 2 || !strings.Contains(l[0], "refuses the connection") || !strings.Contains(l[1], "again") {
			t.Errorf("lines: %q", l)
		}
	})
}

// F2: the collector is killed in mid-stream and comes back after three seconds. What it
// took and did not acknowledge comes twice: no more than was in flight.
func TestCollectorKilled(t *testing.T) {
	inLab(t, inFull(3, 20), func(t *testing.T, p Protocol, seed int) {
		r := rand.New(rand.NewPCG(uint64(seed), 2))
		_, c, cfg := onNetwork(t, p, collectortest.Faulty(collectortest.Fault{Delay: 20 * time.Millisecond}))
		cfg.RequestBytes = 64 << 10
		e := start(t, cfg)
		spans := inFull(10_000, 60_000)
		var producer sync.WaitGroup
		producer.Go(func() { produce(t, e, 0, spans, 10_000) })
		time.Sleep(time.Duration(r.Int64N(int64(spans) * int64(time.Second) / 10_000)))
		c.Refuse()
		time.Sleep(3 * time.Second)
		c.Reopen()
		up := time.Now()
		producer.Wait()
		c.Wait(spans)
		if d := time.Since(up); d > 5*time.Second {
			t.Errorf("seed %d: all delivered %v after the collector was back", seed, d)
		}
		st := all(t, e, c, spans)
		most := 0
		for _, req := range c.Requests() {
			most = max(most, req.Spans)
		}
		if d := c.Duplicates(); d > 4*most {
			t.Errorf("seed %d: %d spans came twice, more than can have been in flight (%d)", seed, d, 4*most)
		}
		_ = st
	})
}

// F4: whatever hangs for twelve seconds, nothing is lost and nobody who ends a span waits.
func TestHangs(t *testing.T) {
	const hang = 12 * time.Second
	modes := map[string]struct {
		begin, end func(n *network, c *collectortest.Collector)
		after      time.Duration // the hang, until all is delivered, at most
	}{
		"request held": {
			func(n *network, c *collectortest.Collector) { c.Set(collectortest.Fault{Hang: true}) },
			func(n *network, c *collectortest.Collector) { c.Set(collectortest.Fault{}) },
			2 * time.Second,
		},
		"black hole": {
			func(n *network, c *collectortest.Collector) { n.hole.Store(true) },
			func(n *network, c *collectortest.Collector) { n.hole.Store(false) },
			dialTimeout + time.Second, // that of a connection attempt which began before
		},
		"half-open": { // connections died without a word; new ones are good
			func(n *network, c *collectortest.Collector) {
				n.silent.Store(true)
				time.Sleep(100 * time.Millisecond)
				n.silent.Store(false)
			},
			func(n *network, c *collectortest.Collector) {},
			2 * time.Second, // a request's time limit passes, and the next has a new connection
		},
		"reset per request": {
			func(n *network, c *collectortest.Collector) { c.Set(collectortest.Fault{Reset: true}) },
			func(n *network, c *collectortest.Collector) { c.Set(collectortest.Fault{}) },
			2 * time.Second,
		},
		"GOAWAY storm": {
			func(n *network, c *collectortest.Collector) { c.Set(collectortest.Fault{GoAway: true}) },
			func(n *network, c *collectortest.Collector) { c.Set(collectortest.Fault{}) },
			time.Second,
		},
		"one byte a second": {
			func(n *network, c *collectortest.Collector) { n.drip.Store(true) },
			func(n *network, c *collectortest.Collector) { n.drip.Store(false) },
			2 * time.Second,
		},
	}
	overAll(t, func(t *testing.T, p Protocol) {
		for name, mode := range modes {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n, c, cfg := onNetwork(t, p)
					cfg.Delay = 100 * time.Millisecond
					e := start(t, cfg)
					rate := inFull(500, 5000)
					produce(t, e, 0, rate, rate)
					c.Wait(rate)
					var producer sync.WaitGroup
					producer.Go(func() { produce(t, e, rate, 12*rate, rate) })
					began := time.Now()
					mode.begin(n, c)
					time.Sleep(hang - time.Since(began))
					mode.end(n, c)
					producer.Wait()
					c.Wait(13 * rate)
					if d := time.Since(began) - hang; d > mode.after {
						t.Errorf("all delivered %v after the hang, want %v at most", d, mode.after)
					}
					all(t, e, c, 13*rate)
					if name == "GOAWAY storm" && (c.Duplicates() > 0 || len(logged(e)) > 0) {
						t.Errorf("%d spans came twice; lines %q", c.Duplicates(), logged(e))
					}
				})
			})
		}
	})
}

// F5: no request goes out in the time that the collector asked for, by whatever words it
// asks; five minutes are the most, and that is said.
func TestThrottle(t *testing.T) {
	const window = 6 * time.Second
	for name, tt := range map[string]struct {
		delay func(now time.Time) string // as Retry-After
		wire  time.Duration              // in RetryInfo
		least time.Duration              // between a refusal and the next request
		said  bool
	}{
		"2 s":       {func(time.Time) string { return "2" }, 2 * time.Second, 2 * time.Second, false},
		"20 s":      {func(time.Time) string { return "20" }, 20 * time.Second, 20 * time.Second, false},
		"HTTP date": {func(now time.Time) string { return now.Add(3 * time.Second).UTC().Format(http.TimeFormat) }, 3 * time.Second, 2 * time.Second, false},
		"negative":  {func(time.Time) string { return "-5" }, -5 * time.Second, firstPause / 2, false},
		"100 years": {func(time.Time) string { return "3153600000" }, 3153600000 * time.Second, longestTold, true},
	} {
		t.Run(name, func(t *testing.T) {
			overAll(t, func(t *testing.T, p Protocol) {
				synctest.Test(t, func(t *testing.T) {
					began := time.Now()
					var mu sync.Mutex
					var refused, taken []time.Time
					n := &network{conns: make(map[*pipeConn]bool)}
					count := 0
					serveLab(t, n, func(w http.ResponseWriter, r *http.Request) {
						body, _ := io.ReadAll(r.Body)
						mu.Lock()
						defer mu.Unlock()
						now := time.Now()
						if now.Sub(began) < window {
							refused = append(refused, now)
							if p != GRPC {
								w.Header().Set("Retry-After", tt.delay(now))
								w.WriteHeader(http.StatusTooManyRequests)
								return
							}
							w.Header().Set("Content-Type", "application/grpc")
							w.Header().Set("Grpc-Status", "8")
							w.Header().Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(retryInfoOf(tt.wire)))
							return
						}
						taken = append(taken, now)
						count += spansOf(t, p, body)
						if p == GRPC {
							w.Header().Set("Content-Type", "application/grpc")
							w.Header().Set("Grpc-Status", "0")
						}
					})
					e := start(t, Config{Endpoint: "http://collector:4317", Protocol: p, dial: n.dial, Delay: 50 * time.Millisecond})
					spans := inFull(600, 6000)
					produce(t, e, 0, spans, spans/6)
					time.Sleep(longestTold)
					st := checkAccounts(t, e, Kept{})
					if count != spans || st.Delivered != uint64(spans) {
						t.Errorf("%d spans arrived, delivered %d, want %d", count, st.Delivered, spans)
					}
					last := time.Time{}
					for i, at := range append(refused, taken[0]) {
						if i > 0 && at.Sub(last) < tt.least {
							t.Errorf("request %d %v after a refusal, want %v at least", i, at.Sub(last), tt.least)
						}
						last = at
					}
					if said := strings.Contains(strings.Join(logged(e), "\n"), "of which 5m0s are obeyed"); said != tt.said {
						t.Errorf("lines %q", logged(e))
					}
				})
			})
		})
	}
}

// retryInfoOf is a google.rpc.Status with a RetryInfo, of a negative delay too.
func retryInfoOf(d time.Duration) []byte {
	if d >= 0 {
		return otlpwire.AppendStatus(nil, otlpwire.Status{Code: 8, Message: "slow down", RetryInfo: true, RetryDelay: d})
	}
	// Status{8, details: Any{RetryInfo, Duration{seconds: -5}}}
	const url = "type.googleapis.com/google.rpc.RetryInfo"
	value := []byte{0x0a, 0x0b, 0x08, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}
	detail := append([]byte{0x0a, byte(len(url))}, url...)
	detail = append(append(detail, 0x12, byte(len(value))), value...)
	return append([]byte{0x08, 0x08, 0x1a, byte(len(detail))}, detail...)
}

// serveLab serves h in memory, over HTTP/1 and HTTP/2.
func serveLab(t *testing.T, n *network, h http.HandlerFunc) {
	t.Helper()
	l, _ := n.listen()
	srv := otlpreceiver.NewServer(h)
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); n.reset(); <-done })
}

// serveOne serves h in memory, over one protocol's version of HTTP alone.
func serveOne(t *testing.T, n *network, p Protocol, h http.HandlerFunc) {
	t.Helper()
	l, _ := n.listen()
	srv := otlpreceiver.NewServer(h)
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(p != GRPC)
	srv.Protocols.SetUnencryptedHTTP2(p == GRPC)
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); n.reset(); <-done })
}

// spansOf counts the spans of a request's body.
func spansOf(t *testing.T, p Protocol, body []byte) int {
	t.Helper()
	var err error
	switch p {
	case GRPC:
		body = body[5:]
	case HTTPJSON:
		if body, err = otlpwire.ReadJSON(body); err != nil {
			t.Error(err)
		}
	}
	spans, err := otlpwire.Decode(body)
	if err != nil {
		t.Error(err)
	}
	return len(spans)
}

// F6, as far as it needs no certificate: what is wrong is told within a second of New, in
// one line that names what to change, again once a minute, and the spans are kept. With
// golden lines, and over TLS: TestMisconfigured.
func TestMisconfiguredInTime(t *testing.T) {
	only := func(p Protocol, h http.HandlerFunc) func(t *testing.T, n *network) {
		return func(t *testing.T, n *network) { serveOne(t, n, p, h) }
	}
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }
	}
	for name, tt := range map[string]struct {
		as     Protocol
		at     func(t *testing.T, n *network)
		line   string
		spoils bool // the answer is final
	}{
		"gRPC to an HTTP port": {GRPC, only(HTTPProtobuf, answer(404)), "collector:4317 speaks HTTP/1, not gRPC: set Config.Protocol to HTTPProtobuf, or give its gRPC port (4317) in Config.Endpoint", false},
		"HTTP to a gRPC port":  {HTTPProtobuf, only(GRPC, answer(415)), "collector:4317/v1/traces speaks gRPC, not OTLP/HTTP: set Config.Protocol to GRPC, or give its HTTP port (4318) in Config.Endpoint", false},
		"JSON to a gRPC port":  {HTTPJSON, only(GRPC, answer(415)), "collector:4317/v1/traces speaks gRPC, not OTLP/HTTP: set Config.Protocol to GRPC, or give its HTTP port (4318) in Config.Endpoint", false},
		"404":                  {HTTPProtobuf, only(HTTPProtobuf, answer(404)), "collector:4317/v1/traces answers 404 Not Found: correct the path in Config.Endpoint", true},
		"401":                  {HTTPJSON, only(HTTPProtobuf, answer(401)), "collector:4317/v1/traces answers 401 Unauthorized: give credentials in OTEL_EXPORTER_OTLP_HEADERS (authorization=…)", true},
		"403 over gRPC":        {GRPC, only(GRPC, answer(403)), "collector:4317 answers 403 Forbidden and not gRPC: give credentials in OTEL_EXPORTER_OTLP_HEADERS (authorization=…)", true},
		"415 to JSON":          {HTTPJSON, only(HTTPProtobuf, answer(415)), "collector:4317/v1/traces answers 415 Unsupported Media Type: set Config.Protocol to HTTPProtobuf: it does not take JSON", true},
		"unknown host": {GRPC, func(t *testing.T, n *network) {
			n.fails.Store(&net.DNSError{Err: "no such host", Name: "collector", IsNotFound: true})
		}, "the host name collector does not exist: correct Config.Endpoint", false},
		"refused": {HTTPProtobuf, func(t *testing.T, n *network) { l, _ := n.listen(); l.Close() },
			"collector:4317/v1/traces refuses the connection: nothing listens there: start the collector or correct Config.Endpoint", false},
		"silent": {GRPC, func(t *testing.T, n *network) { n.hole.Store(true); n.listen() },
			"is it reachable? See Config.Endpoint", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{conns: make(map[*pipeConn]bool)}
				tt.at(t, n)
				l := newLines()
				e := start(t, Config{Endpoint: "http://collector:4317", Protocol: tt.as, dial: n.dial, Logger: slog.New(l)})
				const minutes = 3
				produce(t, e, 0, 100*minutes*60/100, 1)
				got := l.all()
				if len(got) < minutes || len(got) > minutes+1 {
					t.Errorf("%d lines in %d minutes: %q", len(got), minutes, got)
				}
				for i, line := range got {
					if !strings.HasSuffix(line, tt.line) || !strings.HasPrefix(line, "exporter: ") || len(line) > maxLine {
						t.Errorf("line %d: %q, want %q", i, line, tt.line)
					}
					if i > 0 && l.at[i]-l.at[i-1] < time.Minute {
						t.Errorf("line %d %v after the one before", i, l.at[i]-l.at[i-1])
					}
				}
				if len(got) > 0 && l.at[0] > time.Second {
					t.Errorf("told after %v", l.at[0])
				}
				st := checkAccounts(t, e, e.Stats().Kept)
				if tt.spoils == (sum(st.Rejected) == 0) || !tt.spoils && st.Kept.Memory != st.Ended {
					t.Errorf("kept %v, rejected %v of %d", st.Kept, st.Rejected, st.Ended)
				}
			})
		})
	}
}

// F7: spans of every size to a collector that takes 4 MiB: no request is larger, nothing
// is lost, and a span that is too large for any costs its neighbours nothing.
func TestOversize(t *testing.T) {
	inLab(t, 1, func(t *testing.T, p Protocol, _ int) {
		_, c, cfg := onNetwork(t, p)
		cfg.QueueBytes = 256 << 20
		l := newLines()
		cfg.Logger = slog.New(l)
		e := start(t, cfg)
		n := inFull(512, 5120)
		end(e, 0, n, padding(16<<10))
		c.Wait(n)
		for _, size := range []int{1, 100, 1 << 10, 64 << 10, 1 << 20, 3 << 20, 4<<20 - 65<<10, 4 << 20, 5 << 20, 8 << 20} {
			end(e, n, n+10)
			e.OnEnd(makeSpan(n+10, padding(size)))
			end(e, n+11, n+20)
			n += 20
			c.Wait(n)
		}
		st := all(t, e, c, n)
		if st.Cut != 3 || st.Dropped[DropTooLarge] != 0 || c.Duplicates() != 0 {
			t.Errorf("cut %d, dropped %v, twice %d; want the three above the limit cut", st.Cut, st.Dropped, c.Duplicates())
		}
		for _, r := range c.Requests() {
			if n, err := strconv.Atoi(r.Header.Get("Content-Length")); err != nil || n > 4<<20 {
				t.Errorf("request of %d bytes, %v", n, err)
			}
		}
		if len(l.all()) != 0 {
			t.Errorf("lines %q", l.all())
		}
	})
}

// F8: what the collector refuses of an accepted request is counted exactly, never sent
// again, and told once a minute with its words.
func TestPartialSuccess(t *testing.T) {
	inLab(t, 1, func(t *testing.T, p Protocol, _ int) {
		_, c, cfg := onNetwork(t, p, collectortest.Faulty(collectortest.Fault{Reject: 10, Why: "span too old"}))
		cfg.Getenv = env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512")
		l := newLines()
		cfg.Logger = slog.New(l)
		e := start(t, cfg)
		minutes := inFull(2, 10)
		produce(t, e, 0, minutes*60*100, 100)
		if err := e.ForceFlush(context.Background()); !errors.As(err, new(*LossError)) {
			t.Errorf("ForceFlush: %v", err)
		}
		st := checkAccounts(t, e, Kept{})
		ended := uint64(minutes * 60 * 100)
		rejected := 10 * st.Requests
		if st.Rejected[CodePartialSuccess] != rejected || int(rejected) != c.Rejected() || st.Delivered != ended-rejected || st.Retries != 0 || c.Duplicates() != 0 {
			t.Errorf("rejected %v of %d requests, the collector says %d; delivered %d, retries %d", st.Rejected, st.Requests, c.Rejected(), st.Delivered, st.Retries)
		}
		if n := len(l.all()); n < minutes || n > minutes+1 {
			t.Errorf("%d lines in %d minutes: %q", n, minutes, l.all())
		}
		for i, line := range l.all() {
			if !strings.Contains(line, `"span too old"`) || (i > 0) != strings.Contains(line, "since the last such line") {
				t.Errorf("line %d: %q", i, line)
			}
		}
	})
}

// F14: two thousand spans and a collector that is away or hangs: Shutdown keeps its time,
// states the number, leaves no goroutine (virtual time would stand still) and is silent
// afterwards.
func TestShutdownOverTheWire(t *testing.T) {
	for name, prepare := range map[string]func(n *network, c *collectortest.Collector){
		"away":       func(_ *network, c *collectortest.Collector) { c.Refuse() },
		"hangs":      func(_ *network, c *collectortest.Collector) { c.Set(collectortest.Fault{Hang: true}) },
		"black hole": func(n *network, _ *collectortest.Collector) { n.hole.Store(true) },
		"refuses":    func(_ *network, c *collectortest.Collector) { c.Set(collectortest.Throttle(0)) },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, 1, func(t *testing.T, p Protocol, _ int) {
				n, c, cfg := onNetwork(t, p)
				prepare(n, c)
				e := start(t, cfg)
				end(e, 0, 2000)
				time.Sleep(3 * time.Second)
				began := time.Now()
				err := e.Shutdown(withTimeout(t, 2*time.Second))
				if d := time.Since(began); d > 2100*time.Millisecond {
					t.Errorf("Shutdown takes %v", d)
				}
				var loss *LossError
				if !errors.As(err, &loss) || loss.Lost != 2000 || !strings.Contains(err.Error(), "2000 spans lost") {
					t.Errorf("Shutdown: %v", err)
				}
				n.mu.Lock()
				dials := len(n.dials)
				n.mu.Unlock()
				requests := len(c.Requests())
				time.Sleep(time.Minute)
				n.mu.Lock()
				defer n.mu.Unlock()
				if len(n.dials) != dials || len(c.Requests()) != requests {
					t.Errorf("%d connections and %d requests after Shutdown", len(n.dials)-dials, len(c.Requests())-requests)
				}
			})
		})
	}
}

// F19: two hundred exporters lose one collector: they come back spread.
func TestReconnectsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const exporters = 200
		n, c, cfg := onNetwork(t, GRPC)
		list := make([]*Exporter, exporters)
		for i := range list {
			list[i] = start(t, cfg)
			end(list[i], i, i+1)
		}
		c.Wait(exporters)
		c.Refuse()
		n.mu.Lock()
		n.dials = nil
		n.mu.Unlock()
		began := time.Now()
		for i, e := range list {
			end(e, exporters+i, exporters+i+1)
		}
		time.Sleep(time.Minute)
		const tenths = 600
		var per [tenths]int // attempts by tenth of a second
		n.mu.Lock()
		for _, at := range n.dials {
			if i := int(at.Sub(began) / (100 * time.Millisecond)); i < tenths {
				per[i]++
			}
		}
		n.mu.Unlock()
		total, peak, sharp := 0, 0, 0
		for i := 20; i+10 <= tenths; i++ { // settled; any second
			in := 0
			for _, k := range per[i : i+10] {
				in += k
			}
			peak, sharp = max(peak, in), max(sharp, per[i])
			total += per[i]
		}
		mean := float64(total) / float64(tenths-30) * 10
		t.Logf("%d exporters: %.0f attempts a second, at most %d in any", exporters, mean, peak)
		if total == 0 || float64(peak) > 3*mean || float64(sharp) > 3*mean/10 {
			t.Errorf("at most %d attempts in a second and %d in a tenth, mean %.0f a second", peak, sharp, mean)
		}
		c.Reopen()
		up := time.Now()
		c.Wait(2 * exporters)
		if d := time.Since(up); d > time.Second {
			t.Errorf("the last of them is back after %v", d)
		}
	})
}

// L4: a slow collector is kept up with by requests in parallel.
func TestSlowCollector(t *testing.T) {
	for _, tt := range []struct {
		delay time.Duration
		rate  int
	}{{100 * time.Millisecond, 10_000}, {500 * time.Millisecond, 2000}} {
		t.Run(fmt.Sprint(tt.delay), func(t *testing.T) {
			inLab(t, 1, func(t *testing.T, p Protocol, _ int) {
				_, c, cfg := onNetwork(t, p, collectortest.Faulty(collectortest.Fault{Delay: tt.delay}))
				e := start(t, cfg)
				spans := tt.rate * inFull(3, 60)
				produce(t, e, 0, spans, tt.rate)
				c.Wait(spans)
				st := all(t, e, c, spans)
				if st.Retries != 0 || c.Duplicates() != 0 || len(logged(e)) != 0 {
					t.Errorf("%d retries, %d twice, lines %q", st.Retries, c.Duplicates(), logged(e))
				}
			})
		})
	}
}
