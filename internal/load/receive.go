package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpreceiver"
	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// ledger knows which spans arrived, by the number in their span id. Numbers begin at 1.
type ledger struct {
	mu                 sync.Mutex
	seen               []uint64 // a bit a number
	unique, twice, odd int      // odd: numbers that nobody gives
	requests           int
}

// maxNumber bounds the memory of a ledger: 16 MiB.
const maxNumber = 128 << 20

// account is what a ledger says.
type account struct {
	Unique   int `json:"unique"`
	Twice    int `json:"twice"`
	Odd      int `json:"odd"`
	Requests int `json:"requests"`
}

// accept enters a request.
func (l *ledger) accept(request []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	return otlpwire.Scan(request, func(_ trace.TraceID, id trace.SpanID) {
		n := binary.BigEndian.Uint64(id[:])
		if n == 0 || n > maxNumber {
			l.odd++
			return
		}
		for uint64(len(l.seen)) <= n/64 {
			l.seen = append(l.seen, make([]uint64, 1+len(l.seen))...)
		}
		if l.seen[n/64]&(1<<(n%64)) != 0 {
			l.twice++
			return
		}
		l.seen[n/64] |= 1 << (n % 64)
		l.unique++
	})
}

func (l *ledger) account() account {
	l.mu.Lock()
	defer l.mu.Unlock()
	return account{l.unique, l.twice, l.odd, l.requests}
}

// reset empties the ledger for the next sender.
func (l *ledger) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.seen)
	l.unique, l.twice, l.odd, l.requests = 0, 0, 0, 0
}

// ServeHTTP gives the account, and empties the ledger on POST.
func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		l.reset()
	}
	_ = json.NewEncoder(w).Encode(l.account())
}

// addresses is what a receiver prints.
type addresses struct {
	OTLP    string `json:"otlp"`    // OTLP/HTTP and OTLP/gRPC
	Control string `json:"control"` // GET: the account; POST: begin anew
}

// receive runs a receiver until ctx ends.
func receive(ctx context.Context, stdout io.Writer) error {
	var at addresses
	var listeners []net.Listener
	for _, to := range []*string{&at.OTLP, &at.Control} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		*to = l.Addr().String()
		listeners = append(listeners, l)
	}
	l := &ledger{}
	failed := make(chan error, 2)
	go func() {
		failed <- otlpreceiver.Serve(ctx, listeners[0], &otlpreceiver.Handler{Accept: l.accept, MaxBytes: 64 << 20})
	}()
	control := &http.Server{Handler: l, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := control.Serve(listeners[1]); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
	defer control.Close()
	if err := json.NewEncoder(stdout).Encode(at); err != nil {
		return err
	}
	return <-failed
}

// ask reads the account of a receiver.
func ask(ctx context.Context, method, control string) (a account, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+control+"/", nil)
	if err != nil {
		return a, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("the receiver answers %s", resp.Status)
	}
	return a, json.NewDecoder(resp.Body).Decode(&a)
}
