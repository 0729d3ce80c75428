package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const output = `goos: linux
cpu: A Processor
BenchmarkServer/sampled/nothing-2         	  100	   1 ns/op	   10 cpu-ns/op	   0 B/op	   0 allocs/op
BenchmarkServer/sampled/meshtrace-2       	  100	   1 ns/op	   %s cpu-ns/op	  20 B/op	  11 allocs/op
BenchmarkServer/sampled/otelhttp-2        	  100	  1 ns/op	  110 cpu-ns/op	  30 B/op	  42 allocs/op
BenchmarkOnEnd/ten-attributes/meshtrace-2 	  100	   40 ns/op	  30.5 p50-ns	  400 p99-ns	  0 B/op	  0 allocs/op
PASS
`

func read(t *testing.T, times ...string) *samples {
	t.Helper()
	var s samples
	for _, v := range times {
		if err := s.add(strings.Replace(output, "%s", v, 1)); err != nil {
			t.Fatal(err)
		}
	}
	return &s
}

func TestAdd(t *testing.T) {
	s := read(t, "50", "30.5")
	if s.cpu != "A Processor" || len(s.scenarios) != 2 || len(s.libraries["Server/sampled"]) != 3 {
		t.Errorf("cpu %q, scenarios %q, libraries %q", s.cpu, s.scenarios, s.libraries)
	}
	if got := s.values["Server/sampled"]["meshtrace"]["cpu-ns/op"]; len(got) != 2 || got[0] != 50 || got[1] != 30.5 {
		t.Errorf("times are %v", got)
	}
	for _, bad := range []string{"BenchmarkX-2 1 2 ns/op", "BenchmarkX/y-2 1 two ns/op"} {
		if err := new(samples).add(bad); err == nil {
			t.Errorf("add(%q) is no error", bad)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		list []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(tt.list); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", tt.list, got, tt.want)
		}
	}
}

// TestRatios takes ratios within a run: a run in which all were slow counts like another.
func TestRatios(t *testing.T) {
	if got := median(ratios([]float64{20, 200, 30}, []float64{100, 1000, 100}, nil)); got != 0.2 {
		t.Errorf("the median of 0.2, 0.2 and 0.3 is %v", got)
	}
	if got := ratios([]float64{30, 30}, []float64{50, 10}, []float64{10, 10}); len(got) != 1 || got[0] != 0.5 {
		t.Errorf("ratios beyond 10 = %v, want 0.5 alone", got)
	}
}

func TestGoalRow(t *testing.T) {
	server := goal{what: "w", bench: "Server/sampled", ours: "meshtrace", beside: "otelhttp", over: "nothing", ratio: 0.4, allocs: 14}
	for name, tt := range map[string]struct {
		s    *samples
		g    goal
		want string
	}{
		"met":       {read(t, "50", "50", "10"), server, "| w | 40 ns, 11 allocs | otelhttp 100 ns, 42 allocs | 0.40 | ≤ 0.40, ≤ 14 allocs | yes |\n"},
		"too slow":  {read(t, "60"), server, "| w | 50 ns, 11 allocs | otelhttp 100 ns, 42 allocs | 0.50 | ≤ 0.40, ≤ 14 allocs | **no** |\n"},
		"allocates": {read(t, "20"), goal{what: "w", bench: "Server/sampled", ours: "meshtrace", allocs: 1}, "| w | 20 ns, 11 allocs |  |  | ≤ 1 alloc | **no** |\n"},
		"absolute": {read(t, "20"), goal{what: "w", bench: "OnEnd/ten-attributes", ours: "meshtrace", metric: "p99-ns", max: 300, unit: "ns", allocs: 0},
			"| w | 400 ns, 0 allocs |  |  | ≤ 300 ns, ≤ 0 allocs | **no** |\n"},
		"not measured": {read(t, "20"), goal{bench: "Other", ours: "meshtrace"}, ""},
	} {
		if got := tt.s.goalRow(tt.g); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tt.want)
		}
	}
}

func TestReplace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(file, []byte("a\n"+begin+"\nold\n"+end+"\nz\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := replace(file, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if want := "a\n" + begin + "\nnew\n" + end + "\nz\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if err := os.WriteFile(file, []byte("no marks"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replace(file, "x"); err == nil {
		t.Error("a file without marks is no error")
	}
}

// TestGoals holds that the README has the marks, and that every goal names a scenario
// and libraries that exist: those of the last run.
func TestGoals(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), begin)
	table, _, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatal("README.md has no table between the marks")
	}
	for _, g := range goals {
		if !strings.Contains(table, "| "+g.what+" |") {
			t.Errorf("%q is not in the README's table: nothing measures it", g.what)
		}
	}
}
