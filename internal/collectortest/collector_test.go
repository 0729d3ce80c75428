package collectortest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/meshtrace/meshtrace/internal/collectortest"
	"github.com/meshtrace/meshtrace/internal/otlpreceiver"
	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spans is a request of n spans with the ids from on.
func spans(from, n int) []byte {
	var b otlpwire.Batch
	g := otlpwire.NewGroup(nil, "", otlpwire.AppendScope(nil, instrumentation.Scope{Name: "test"}), "")
	for i := range n {
		var cfg trace.SpanContextConfig
		cfg.TraceID[0] = 1
		binary.BigEndian.PutUint64(cfg.SpanID[:], uint64(from+i))
		s := tracetest.SpanStub{Name: fmt.Sprint("span ", from+i), SpanContext: trace.NewSpanContext(cfg)}
		body, _ := otlpwire.AppendSpan(nil, s.Snapshot())
		b.Add(g, body, 1<<30)
	}
	return b.AppendTo(nil)
}

// sender is a bare exporter: it sends a request once, by either protocol.
type sender struct {
	http.Client
	c    *collectortest.Collector
	grpc bool
}

func newSender(t *testing.T, c *collectortest.Collector, grpc bool, cfg *tls.Config) *sender {
	var p http.Protocols
	p.SetHTTP1(!grpc)
	p.SetHTTP2(grpc)
	p.SetUnencryptedHTTP2(grpc && cfg == nil)
	tr := &http.Transport{Protocols: &p, TLSClientConfig: cfg}
	t.Cleanup(tr.CloseIdleConnections)
	return &sender{http.Client{Transport: tr}, c, grpc}
}

// answer is what came back: "200", "grpc 0", with what else is told.
func (s *sender) send(ctx context.Context, request []byte) (status string, answer []byte, after string, err error) {
	url, media := s.c.TracesURL(), "application/x-protobuf"
	if s.grpc {
		url, media = s.c.URL()+otlpreceiver.GRPCPath, "application/grpc"
		request = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(request))), request...)
	}
	req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(request))
	if err != nil {
		return "", nil, "", err
	}
	req.Header.Set("Content-Type", media)
	res, err := s.Do(req)
	if err != nil {
		return "", nil, "", err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	if err != nil {
		return "", nil, "", err
	}
	if !s.grpc {
		return fmt.Sprint(res.StatusCode), answer, res.Header.Get("Retry-After"), nil
	}
	if code := res.Header.Get("Grpc-Status"); code != "" {
		return "grpc " + code, nil, res.Header.Get("Grpc-Status-Details-Bin"), nil
	}
	return "grpc " + res.Trailer.Get("Grpc-Status"), answer[5:], "", nil
}

// both runs f over either protocol against a collector of its own.
func both(t *testing.T, f func(t *testing.T, c *collectortest.Collector, s *sender)) {
	for _, grpc := range []bool{false, true} {
		t.Run(fmt.Sprintf("grpc=%v", grpc), func(t *testing.T) {
			c := collectortest.Start(t)
			f(t, c, newSender(t, c, grpc, nil))
		})
	}
}

func ok(s *sender) string {
	if s.grpc {
		return "grpc 0"
	}
	return "200"
}

// want sends a request and compares the status, "error" for none.
func want(t *testing.T, s *sender, request []byte, status string) (answer []byte, after string) {
	t.Helper()
	got, answer, after, err := s.send(context.Background(), request)
	if err != nil {
		got = "error"
	}
	if got != status {
		t.Fatalf("status %s (error %v), want %s", got, err, status)
	}
	return answer, after
}

func books(t *testing.T, c *collectortest.Collector, unique, duplicates, rejected, requests int) {
	t.Helper()
	if u, d, r, q := c.Unique(), c.Duplicates(), c.Rejected(), len(c.Requests()); u != unique || d != duplicates || r != rejected || q != requests {
		t.Errorf("unique %d, duplicates %d, rejected %d, requests %d; want %d, %d, %d, %d",
			u, d, r, q, unique, duplicates, rejected, requests)
	}
}

func TestLedger(t *testing.T) {
	both(t, func(t *testing.T, c *collectortest.Collector, s *sender) {
		want(t, s, spans(1, 10), ok(s))
		want(t, s, spans(6, 10), ok(s)) // five of them again
		c.Wait(15)
		books(t, c, 15, 5, 0, 2)
		got := c.Spans()
		if len(got) != 15 || got[0].Name != "span 1" || got[14].Name != "span 15" || got[0].ScopeName != "test" {
			t.Errorf("Spans() = %d spans, first %q of %q, last %q", len(got), got[0].Name, got[0].ScopeName, got[14].Name)
		}
		if n := c.Taken(got[6].TraceID, got[6].SpanID); n != 2 {
			t.Errorf("Taken(span 7) = %d, want 2", n)
		}
		if r := c.Requests()[1]; r.GRPC != s.grpc || r.Spans != 10 || r.Fault || !bytes.Equal(r.Body, spans(6, 10)) || r.Header.Get("Content-Type") == "" {
			t.Errorf("Requests()[1] = %+v", r)
		}
	})
}

func TestLedgerOnly(t *testing.T) {
	c := collectortest.Start(t, collectortest.LedgerOnly())
	want(t, newSender(t, c, false, nil), spans(1, 10), "200")
	books(t, c, 10, 0, 0, 1)
	if c.Spans() != nil || c.Requests()[0].Body != nil {
		t.Errorf("LedgerOnly keeps %d spans and a body of %d bytes", len(c.Spans()), len(c.Requests()[0].Body))
	}
}

func TestWaitFails(t *testing.T) {
	failed := &fatal{TB: t}
	var wg sync.WaitGroup
	wg.Go(func() {
		c := collectortest.Start(failed, collectortest.Patience(50*time.Millisecond))
		defer c.Close()
		c.Wait(1)
	})
	wg.Wait()
	if !strings.Contains(failed.text, "0 spans after 50ms, want 1") {
		t.Errorf("Wait failed with %q", failed.text)
	}
}

// fatal ends the goroutine in place of the test.
type fatal struct {
	testing.TB
	text string
}

func (f *fatal) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestRefusals(t *testing.T) {
	both(t, func(t *testing.T, c *collectortest.Collector, s *sender) {
		c.Set(collectortest.Throttle(3 * time.Second))
		if s.grpc {
			_, details := want(t, s, spans(1, 1), "grpc 14")
			b := decode64(t, details)
			if st, err := otlpwire.ReadStatus(b); err != nil || !st.RetryInfo || st.RetryDelay != 3*time.Second || st.Code != 14 {
				t.Errorf("ReadStatus = %+v, %v; want a delay of 3 s", st, err)
			}
		} else if _, after := want(t, s, spans(1, 1), "503"); after != "3" {
			t.Errorf("Retry-After = %q, want 3", after)
		}
		c.Set(collectortest.Status(404, otlpreceiver.Unimplemented))
		want(t, s, spans(1, 1), map[bool]string{true: "grpc 12", false: "404"}[s.grpc])
		c.Set(collectortest.Fault{})
		want(t, s, spans(1, 1), ok(s))
		books(t, c, 1, 0, 0, 3)
		if r := c.Requests(); !r[0].Fault || !r[1].Fault || r[2].Fault {
			t.Errorf("faults = %v, %v, %v; want true, true, false", r[0].Fault, r[1].Fault, r[2].Fault)
		}
	})
}

func TestRequestsBoundFault(t *testing.T) {
	both(t, func(t *testing.T, c *collectortest.Collector, s *sender) {
		f := collectortest.Status(503, otlpreceiver.Unavailable)
		f.Requests, f.Recorded = 2, true
		c.Set(f)
		for _, status := range []string{"503", "503", "200"} {
			if s.grpc {
				status = map[string]string{"503": "grpc 14", "200": "grpc 0"}[status]
			}
			want(t, s, spans(1, 5), status)
		}
		books(t, c, 5, 10, 0, 3) // taken each time
	})
}

func TestPartialSuccess(t *testing.T) {
	both(t, func(t *testing.T, c *collectortest.Collector, s *sender) {
		c.Set(collectortest.Fault{Reject: 3, Why: "too old"})
		answer, _ := want(t, s, spans(1, 10), ok(s))
		if n, why, err := otlpwire.ReadResponse(answer); n != 3 || why != "too old" || err != nil {
			t.Errorf("ReadResponse = %d, %q, %v; want 3, too old", n, why, err)
		}
		books(t, c, 7, 0, 3, 1)
		answer, _ = want(t, s, spans(20, 2), ok(s)) // fewer than are refused
		if n, _, _ := otlpwire.ReadResponse(answer); n != 2 {
			t.Errorf("rejected %d of 2", n)
		}
		books(t, c, 7, 0, 5, 2)
	})
}

func TestAnswer(t *testing.T) {
	both(t, func(t *testing.T, c *collectortest.Collector, s *sender) {
		c.Set(collectortest.Fault{Answer: bytes.Repeat([]byte{0xff}, 8<<20)})
		if answer, _ := want(t, s, spans(1, 1), ok(s)); len(answer) != 8<<20 || answer[0] != 0xff {
			t.Errorf("answer of %d bytes, want 8 MiB", len(answer))
		}
		books(t, c, 1, 0, 0, 1)
	})
}

func TestDelay(t *testing.T) {
	both(t, func(t *testing.T, c *collectortest.Collector, s *sender) {
		c.Set(collectortest.Fault{Delay: 50 * time.Millisecond})
		began := time.Now()
		want(t, s, spans(1, 1), ok(s))
		if d := time.Since(began); d < 50*time.Millisecond {
			t.Errorf("answered after %v, want at least 50ms", d)
		}
		books(t, c, 1, 0, 0, 1)
	})
}

func TestHang(t *testing.T) {
	both(t, func(t *testing.T, c *collectortest.Collector, s *sender) {
		c.Set(collectortest.Fault{Hang: true})
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, _, _, err := s.send(ctx, spans(1, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v, want a deadline", err)
		}
		time.AfterFunc(50*time.Millisecond, func() { c.Set(collectortest.Fault{}) })
		if status, _, _, err := s.send(context.Background(), spans(1, 1)); err == nil {
			t.Errorf("status %s of a request that hung, want none", status)
		}
		want(t, s, spans(1, 1), ok(s))
		books(t, c, 1, 0, 0, 3)
	})
}

func TestCloseWhileHanging(t *testing.T) {
	c := collectortest.Start(t, collectortest.Faulty(collectortest.Fault{Hang: true}))
	s := newSender(t, c, true, nil)
	failed := make(chan error, 1)
	go func() {
		_, _, _, err := s.send(context.Background(), spans(1, 1))
		failed <- err
	}()
	for len(c.Requests()) == 0 {
		time.Sleep(time.Millisecond)
	}
	c.Close()
	if err := <-failed; err == nil {
		t.Error("a hanging request was answered by Close")
	}
}

func TestDropped(t *testing.T) {
	both(t, func(t *testing.T, c *collectortest.Collector, s *sender) {
		c.Set(collectortest.Fault{Reset: true, Requests: 1})
		_, _, _, err := s.send(context.Background(), spans(1, 1))
		if err == nil || !s.grpc && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("error = %v, want a reset connection", err)
		}
		c.Set(collectortest.Fault{Cut: true, Recorded: true, Requests: 1})
		if _, _, _, err := s.send(context.Background(), spans(1, 1)); err == nil || errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("error = %v, want a closed connection", err)
		}
		books(t, c, 1, 0, 0, 2)
		want(t, s, spans(1, 1), ok(s))
		books(t, c, 1, 1, 0, 3)
	})
}

func TestRefuseAndReopen(t *testing.T) {
	both(t, func(t *testing.T, c *collectortest.Collector, s *sender) {
		want(t, s, spans(1, 1), ok(s))
		c.Refuse()
		c.Refuse()               // nothing happens
		s.CloseIdleConnections() // those that were cut
		if _, _, _, err := s.send(context.Background(), spans(2, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("error = %v, want a refused connection", err)
		}
		c.Reopen()
		want(t, s, spans(2, 1), ok(s))
		books(t, c, 2, 0, 0, 2)
	})
}

func TestTLS(t *testing.T) {
	for _, grpc := range []bool{false, true} {
		t.Run(fmt.Sprintf("grpc=%v", grpc), func(t *testing.T) {
			cert, roots := collectortest.SelfSigned(t, time.Now().Add(time.Hour))
			c := collectortest.Start(t, collectortest.WithTLS(&tls.Config{Certificates: []tls.Certificate{cert}}))
			s := newSender(t, c, grpc, &tls.Config{RootCAs: roots})
			want(t, s, spans(1, 1), ok(s))
			c.Set(collectortest.Fault{Reset: true, Requests: 1})
			want(t, s, spans(1, 1), "error")
			c.Refuse()
			c.Reopen()
			want(t, s, spans(1, 1), ok(s))
			books(t, c, 1, 1, 0, 3)

			old, roots := collectortest.SelfSigned(t, time.Now().Add(-time.Hour))
			c = collectortest.Start(t, collectortest.WithTLS(&tls.Config{Certificates: []tls.Certificate{old}}))
			_, _, _, err := newSender(t, c, grpc, &tls.Config{RootCAs: roots}).send(context.Background(), spans(1, 1))
			if err == nil || !strings.Contains(err.Error(), "expired") {
				t.Errorf("error = %v, want an expired certificate", err)
			}
		})
	}
}

func TestMaxBytes(t *testing.T) {
	c := collectortest.Start(t, collectortest.MaxBytes(100))
	want(t, newSender(t, c, false, nil), spans(1, 10), "413")
	want(t, newSender(t, c, true, nil), spans(1, 10), "grpc 8")
	books(t, c, 0, 0, 0, 0)
}

func decode64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
