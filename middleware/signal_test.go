//go:build unix

package middleware_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/middleware"
)

// child is the variable that makes this test program a victim of signals.
const child = "MESHTRACE_SIGNAL_CHILD"

func init() {
	if os.Getenv(child) == "" {
		return
	}
	tracing, err := middleware.Setup(context.Background(), middleware.Config{
		Service:       "victim",
		FlushOnSignal: true,
		Export:        exporter.Config{Delay: time.Hour}, // nothing leaves by itself
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	for range 10 {
		_, sp := tracing.TracerProvider().Tracer("test").Start(context.Background(), "work")
		sp.End()
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
	os.Exit(4)
}

// TestFlushOnSignal: a program without a shutdown of its own loses no span to a signal,
// and dies by it as it would have.
func TestFlushOnSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			var requests atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if n, _ := io.Copy(io.Discard, r.Body); n > 0 {
					requests.Add(1)
				}
			}))
			defer srv.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), child+"=1", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT="+srv.URL)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
				t.Fatalf("the child said %q, %v", line, err)
			}
			begun := time.Now()
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("the child ended with %v, want a signal", err)
			}
			if ws := exit.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != sig {
				t.Errorf("the child ended with %v after %v, want the effect of %v", err, time.Since(begun), sig)
			}
			if requests.Load() == 0 {
				t.Error("no span arrived")
			}
		})
	}
}

// TestFlushOnSignalEnds: Shutdown gives the signals back; goleak sees the rest.
func TestFlushOnSignalEnds(t *testing.T) {
	for range 2 {
		tracing, err := middleware.Setup(t.Context(), middleware.Config{FlushOnSignal: true, Getenv: noExport})
		if err != nil {
			t.Fatal(err)
		}
		if err := tracing.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := tracing.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	arrived := make(chan os.Signal, 1)
	signal.Notify(arrived, syscall.SIGTERM)
	defer signal.Stop(arrived)
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-arrived:
	case <-time.After(5 * time.Second):
		t.Error("no signal: somebody else took it")
	}
}
