//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/meshtrace/meshtrace/internal/collectortest"
	"github.com/meshtrace/meshtrace/internal/tracetree"
)

// TestMain is the program itself where a test starts this binary again.
func TestMain(m *testing.M) {
	if os.Getenv("EXAMPLE") == "run" {
		main()
		return
	}
	os.Exit(m.Run())
}

// Every call that was answered is one trace of two spans, the last ones included when
// SIGTERM ends the program.
func TestCallsAreTraced(t *testing.T) {
	collector := collectortest.Start(t)
	cmd := exec.Command(os.Args[0])
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OTEL_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "EXAMPLE=run", "ADDR=127.0.0.1:0", "OTEL_BSP_SCHEDULE_DELAY=50",
		"OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL(), "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	collector.Wait(4) // two calls
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v, want exit code 0:\n%s", err, &stderr)
	}

	answered := strings.Count(stderr.String(), ": SERVING, error <nil>")
	complete := 0
	for _, tr := range tracetree.Build(collector.Spans()) {
		root := tr.Roots[0]
		if root.Name != "grpc.health.v1.Health/Check" || root.KindName() != "client" || root.Service() != "stock" {
			t.Errorf("first span of a trace = %s %s of %s", root.KindName(), root.Name, root.Service())
		}
		if tr.Spans == 2 && tr.Depth == 2 && tr.Errors == 0 && root.Children[0].KindName() == "server" {
			complete++
		}
	}
	if answered < 2 || complete < answered {
		t.Errorf("%d calls answered, %d complete traces, want one for each:\n%s", answered, complete, &stderr)
	}
	for _, r := range collector.Requests() {
		if !r.GRPC {
			t.Error("spans came over HTTP, OTEL_EXPORTER_OTLP_PROTOCOL says grpc")
		}
	}
}
