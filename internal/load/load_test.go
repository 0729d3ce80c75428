package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// start runs a receiver until the test ends.
func start(t *testing.T) addresses {
	t.Helper()
	r, w := io.Pipe()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- receive(ctx, w) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("receive: %v", err)
		}
	})
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var at addresses
	if err := json.Unmarshal(line, &at); err != nil {
		t.Fatal(err)
	}
	return at
}

// Every exporter delivers what is far below its limits, once, and ours say so.
func TestSend(t *testing.T) {
	at := start(t)
	for _, name := range exporters {
		s := sending{Exporter: name, OTLP: at.OTLP, Control: at.Control, rate: 5000, n: 1001, producers: 3}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		m, err := s.run(ctx)
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := 1001
		if name == "none" {
			want = 0
		}
		if m.Arrived.Unique != want || m.Arrived.Twice != 0 || m.Arrived.Odd != 0 || m.Shutdown != "" || m.Ended != 1001 {
			t.Errorf("%s: %+v, want %d arrived", name, m, want)
		}
		if m.Balanced != strings.HasPrefix(name, "meshtrace") {
			t.Errorf("%s: Balanced is %v", name, m.Balanced)
		}
		if m.CPU <= 0 || m.Max < m.P99 || m.P99 < m.P50 || m.P50 <= 0 {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func TestLedger(t *testing.T) {
	request := func(numbers ...uint64) []byte {
		var spans []byte
		for _, n := range numbers {
			var s trace.SpanID
			binary.BigEndian.PutUint64(s[:], n)
			spans = append(spans, span(s)...)
		}
		return field(1, field(2, spans))
	}
	l := &ledger{}
	for _, r := range [][]byte{request(1, 2, 3), request(3, 4), request(100_000), request(0, maxNumber+1)} {
		if err := otlpwire.Scan(r, func(trace.TraceID, trace.SpanID) {}); err != nil {
			t.Fatal(err)
		}
		if err := l.accept(r); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := l.account(), (account{Unique: 5, Twice: 1, Odd: 2, Requests: 4}); got != want {
		t.Errorf("account = %+v, want %+v", got, want)
	}
	l.reset()
	if err := l.accept(request(3)); err != nil {
		t.Fatal(err)
	}
	if got, want := l.account(), (account{Unique: 1, Requests: 1}); got != want {
		t.Errorf("account after reset = %+v, want %+v", got, want)
	}
}

// span is a Span in ScopeSpans.spans: its ids alone.
func span(id trace.SpanID) []byte {
	tid := trace.TraceID{15: 1}
	return field(2, append(field(1, tid[:]), field(2, id[:])...))
}

func field(num byte, b []byte) []byte {
	return append(binary.AppendUvarint([]byte{num<<3 | 2}, uint64(len(b))), b...)
}

func TestMistakes(t *testing.T) {
	for _, args := range [][]string{nil, {"fly"}, {"send", "-n", "0"}, {"send", "-exporter", "pigeon"}, {"send", "-exporter", "stock-pigeon"}, {"send", "-rate", "-1"}} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("load %v succeeds, want an error", args)
		}
	}
}
