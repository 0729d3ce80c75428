// Report runs the benchmarks of this module several times, the libraries in alternating
// order, and writes medians: the README's table of goals, and every scenario and library
// into RESULTS.md. Run it in the folder of the module:
//
//	go run ./report                # 10 times, 0.3 s for each library
//	go run ./report -count 3 -benchtime 100ms -bench Server -print
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("report: ")
	var opt options
	flag.IntVar(&opt.count, "count", 10, "how often each benchmark runs")
	flag.StringVar(&opt.time, "benchtime", "0.3s", "how long a library runs each time, as go test has it")
	flag.StringVar(&opt.bench, "bench", ".", "which benchmarks, as go test has it; the files are written for all of them alone")
	readme := flag.String("readme", "../../README.md", "the file whose table is replaced")
	results := flag.String("results", "RESULTS.md", "the file for all scenarios")
	print := flag.Bool("print", false, "print and write no file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, opt, *readme, *results, *print || opt.bench != "."); err != nil {
		log.Fatal(err)
	}
}

type options struct {
	count       int
	time, bench string
}

func run(ctx context.Context, opt options, readme, results string, print bool) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var s samples
	if err := s.sizes(ctx, dir); err != nil {
		return err
	}
	binary := filepath.Join(dir, "bench.test")
	if err := command(ctx, io.Discard, "go", "test", "-c", "-o", binary, ".").Run(); err != nil {
		return fmt.Errorf("building the benchmarks: %w", err)
	}
	for i := range opt.count {
		log.Printf("run %d of %d", i+1, opt.count)
		var out bytes.Buffer
		args := []string{"-test.run=^$", "-test.bench=" + opt.bench, "-test.benchtime=" + opt.time, "-test.timeout=1h", fmt.Sprintf("-reverse=%t", i%2 == 1)}
		if err := command(ctx, &out, binary, args...).Run(); err != nil {
			return fmt.Errorf("run %d: %w\n%s", i+1, err, out.Bytes())
		}
		if err := s.add(out.String()); err != nil {
			return err
		}
	}
	about := fmt.Sprintf("%s, %s/%s, %s, GOMAXPROCS %d; CPU time, medians of %d runs of %s, the libraries in alternating order. %s.",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, s.cpu, runtime.GOMAXPROCS(0), opt.count, opt.time, versions(ctx))
	table := about + "\n\n" + s.goalTable(goals)
	all := resultsHead + about + "\n\n" + s.table()
	if print {
		fmt.Print(table, "\n", s.table())
		return nil
	}
	if err := os.WriteFile(results, []byte(all), 0o644); err != nil {
		return err
	}
	return replace(readme, table)
}

const resultsHead = `# Every scenario and library

Written by ` + "`go run ./report`" + ` in internal/bench. A number is the median of all runs. CPU is the time that the process worked for one
operation, in all its threads; the spread is that of the middle half of the runs; elapsed is what the clock said, shared among the
operations under way. Machines differ: compare libraries within a scenario, and nothing else.

`

// command is a program of ours whose errors are shown as they are.
func command(ctx context.Context, out io.Writer, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	return cmd
}

// peers are the modules whose versions the tables name.
var peers = []string{
	"go.opentelemetry.io/otel", "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp",
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc", "go.opentelemetry.io/contrib/propagators/b3",
	"github.com/DataDog/dd-trace-go/v2", "github.com/openzipkin/zipkin-go", "github.com/google/uuid", "google.golang.org/grpc",
}

// versions returns the versions of peers in one line.
func versions(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "go", append([]string{"list", "-m", "-f", "{{.Path}} {{.Version}}"}, peers...)...).Output()
	if err != nil {
		return "versions unknown: " + err.Error()
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		path, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		path = strings.TrimSuffix(path, "/v2")
		list = append(list, path[strings.LastIndexByte(path, '/')+1:]+" "+version)
	}
	return strings.Join(list, ", ")
}

// sizes builds the programs of package size and keeps how large they are.
func (s *samples) sizes(ctx context.Context, dir string) error {
	for program, library := range map[string]string{"plain": "nothing", "meshtrace": "meshtrace", "otel": "otelhttp+otlptracehttp"} {
		file := filepath.Join(dir, program)
		if err := command(ctx, io.Discard, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./size/"+program).Run(); err != nil {
			return fmt.Errorf("building size/%s: %w", program, err)
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		s.put("Size/stripped", library, "bytes", float64(info.Size()))
	}
	return nil
}

const (
	begin = "<!-- written by internal/bench/report -->"
	end   = "<!-- end -->"
)

// replace puts text between the two marks of file.
func replace(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(old), begin+"\n")
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return errors.New(file + " lacks the line " + begin + " or, behind it, " + end)
	}
	return os.WriteFile(file, []byte(head+begin+"\n"+text+end+tail), 0o644)
}
