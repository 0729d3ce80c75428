package main

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshtrace/meshtrace/middleware"
)

// The README shows two whole programs, and they are those of examples/, which
// are built and run by tests.
func TestReadmeProgramsAreTheExamples(t *testing.T) {
	shown := programs(read(t, "README.md"))
	examples := []string{"examples/nethttp/main.go", "examples/grpc/main.go"}
	if len(shown) != len(examples) {
		t.Fatalf("README.md shows %d programs, want %d", len(shown), len(examples))
	}
	for i, path := range examples {
		if diff := cmp.Diff(read(t, path), shown[i]); diff != "" {
			t.Errorf("program %d of README.md differs from %s (-example +README):\n%s", i+1, path, diff)
		}
	}
}

func TestPrograms(t *testing.T) {
	const page = "# Title\n\n```go\nx := 1\n```\n\n```go\npackage main\n\nfunc main() {}\n```\ntext\n```sh\npackage main\n```\n\n```go\n// Two.\npackage main\n```\n"
	want := []string{"package main\n\nfunc main() {}\n", "// Two.\npackage main\n"}
	if got := programs(page); !slices.Equal(got, want) {
		t.Errorf("programs = %q, want %q", got, want)
	}
}

// The README's table names the variables that Setup asks for, and no others.
func TestReadmeNamesTheVariables(t *testing.T) {
	_, table, ok := strings.Cut(read(t, "README.md"), "\n## Environment\n")
	if !ok {
		t.Fatal("README.md has no section Environment")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	named := make(map[string]bool)
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| `") {
			cell, _, _ := strings.Cut(line[2:], " | ")
			for _, name := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(cell, -1) {
				named[name[1]] = true
			}
		}
	}

	var mu sync.Mutex
	asked := make(map[string]bool)
	getenv := func(name string) string {
		mu.Lock()
		defer mu.Unlock()
		// The README says once that the form for traces exists too.
		name = strings.Replace(name, "OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_", 1)
		switch {
		case name == "REQUEST_METHOD": // a web server's word to a CGI program, not a setting
		case strings.HasSuffix(name, "_proxy"): // the other case of the same
		default:
			asked[name] = true
		}
		switch name { // these make further variables count
		case "OTEL_TRACES_SAMPLER":
			return "traceidratio"
		case "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE":
			return "readme_test.go" // its key is asked for when the file can be read
		}
		return ""
	}
	tracing, err := middleware.Setup(t.Context(), middleware.Config{Service: "readme", Getenv: getenv, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := tracing.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(slices.Sorted(maps.Keys(asked)), slices.Sorted(maps.Keys(named))); diff != "" {
		t.Errorf("variables (-Setup asks for, +README.md names):\n%s", diff)
	}
}

// What the pages link to, and the commands they name, are there.
func TestPagesNameWhatExists(t *testing.T) {
	makefile, run := read(t, "Makefile"), read(t, ".ci/run")
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} {
		page := read(t, name)
		for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(page, -1) {
			if target := link[1]; !strings.Contains(target, "://") {
				if _, err := os.Stat("../../" + target); err != nil {
					t.Errorf("%s links to %s: %v", name, target, err)
				}
			}
		}
		for _, dir := range regexp.MustCompile(`(?:cd ([a-z0-9/]+) && )?go (?:run|test|generate) (?:-.* )?\./([a-z0-9/]+)`).FindAllStringSubmatch(page, -1) {
			if _, err := os.Stat(filepath.Join("../..", dir[1], dir[2])); err != nil {
				t.Errorf("%s names a command of %s: %v", name, filepath.Join(dir[1], dir[2]), err)
			}
		}
		for _, target := range regexp.MustCompile("(?m)(?:`|^)make ([a-z-]+)").FindAllStringSubmatch(page, -1) {
			if !strings.Contains(makefile, "\n"+target[1]+":") {
				t.Errorf("%s names make %s, which the Makefile has not", name, target[1])
			}
		}
		for _, step := range regexp.MustCompile(`\.ci/run ([a-z]+)`).FindAllStringSubmatch(page, -1) {
			if step[1] != "help" && !strings.Contains(run, "\nstep_"+step[1]+"()") {
				t.Errorf("%s names .ci/run %s, which is no step", name, step[1])
			}
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
