package main

import (
	"net"
	"strings"
	"testing"
)

func TestProcessEndsWhatItStarted(t *testing.T) {
	p, err := start(t.Context(), "sleeper", []string{"WORD=started"}, "sh", "-c", `trap 'exit 0' TERM; echo $WORD; while :; do sleep 0.02; done`)
	if err != nil {
		t.Fatal(err)
	}
	for p.output.String() != "started" {
		select {
		case <-p.done:
			t.Fatalf("ended early: %v", p.err)
		default:
		}
	}
	if err := p.stop(); err != nil {
		t.Fatalf("stop() = %v", err)
	}
	if p.cmd.ProcessState == nil {
		t.Error("stop returned before the process had ended")
	}
}

func TestProcessThatEndedByItself(t *testing.T) {
	p, err := start(t.Context(), "failing", nil, "sh", "-c", "echo no such thing >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	err = p.listening(t.Context(), addr)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("listening() = %v, want the exit status and the last output", err)
	}
	if err := p.stop(); err == nil {
		t.Error("stop() of a process that failed = nil")
	}
}

func TestFreeAddress(t *testing.T) {
	addr, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("net.Listen(%q): %v", addr, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	w := &tail{max: 4}
	for _, s := range []string{"ab", "cdef", "g"} {
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("Write(%q) = %d, %v", s, n, err)
		}
	}
	if got := w.String(); got != "defg" {
		t.Errorf("String() = %q, want %q", got, "defg")
	}
}
