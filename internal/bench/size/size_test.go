package size

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestAdded holds how much larger tracing makes a program: half at most of what
// otelhttp and otlptracehttp add.
func TestAdded(t *testing.T) {
	dir := t.TempDir()
	size := func(program string) int64 {
		file := filepath.Join(dir, program)
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./"+program)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	plain := size("plain")
	ours, theirs := size("meshtrace")-plain, size("otel")-plain
	t.Logf("a program of %d bytes; meshtrace adds %d, otelhttp and otlptracehttp %d", plain, ours, theirs)
	if 2*ours > theirs {
		t.Errorf("meshtrace adds %d bytes, want at most half of %d", ours, theirs)
	}
}
