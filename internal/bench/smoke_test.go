package bench

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBenchmarks runs every benchmark once, so that none rots: each scenario must have
// worked and printed a line.
func TestBenchmarks(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), exe, "-test.run=^$", "-test.bench=.", "-test.benchtime=1x").CombinedOutput()
	if err != nil {
		t.Fatalf("the benchmarks: %v\n%s", err, out)
	}
	lines := 0
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Benchmark") && strings.Contains(line, "ns/op") {
			lines++
		}
	}
	if want := strings.Count(string(out), "\nBenchmark"); lines == 0 || lines != want {
		t.Errorf("%d of %d benchmarks have a result:\n%s", lines, want, out)
	}
}
