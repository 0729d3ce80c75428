//go:build unix

package main

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// Ctrl-C and SIGTERM end the process with its accounting and exit code 0.
func TestSignals(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0])
			for _, kv := range os.Environ() {
				if !strings.HasPrefix(kv, "OTEL_") {
					cmd.Env = append(cmd.Env, kv)
				}
			}
			cmd.Env = append(cmd.Env, "EXAMPLE=run", "EXAMPLE_ARGS=-listen 127.0.0.1:0")
			var out output
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill() })
			addr := out.waitFor(t, `open http://([^/]+)/`)
			if code, r := dispatch(t, addr, "customer=123", nil); code != http.StatusOK {
				t.Errorf("ride = %d, %+v", code, r)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("after %v: %v, want exit code 0", sig, err)
			}
			out.waitFor(t, `(?m)^hotrod: stopped, ended=(39|40) delivered=(39|40) rejected=0 dropped=0 kept=0$`)
		})
	}
}
