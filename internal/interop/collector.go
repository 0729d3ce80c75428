package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The Collectors' versions. The first is the newest whose load-balancing and Zipkin
// exporters can be had; the second a current one.
const (
	collectorVersion    = "0.111.0"
	collectorNowVersion = "0.155.0"
)

//go:embed collector/to-file.yaml
var toFileYAML []byte

// installCollector builds a Collector of a manifest. A cold build takes about two
// minutes on two cores.
func installCollector(ctx context.Context, work, target, version, manifest string) error {
	file, src := filepath.Join(work, "builder.yaml"), filepath.Join(work, "src")
	// The builder knows its output folder from the manifest alone.
	manifest = strings.Replace(manifest, "\ndist:\n", "\ndist:\n  output_path: "+src+"\n", 1)
	if err := os.WriteFile(file, []byte(manifest), 0o644); err != nil {
		return err
	}
	if err := command(ctx, work, []string{"GOBIN=" + work, "GOWORK=off"}, "go", "install", "go.opentelemetry.io/collector/cmd/builder@v"+version); err != nil {
		return err
	}
	// Sources only. Newer builders tidy their module all the same, which fails: tidy wants the
	// tests of every dependency, one of which is not published. By then the module is written.
	args := []string{filepath.Join(work, "builder"), "--config", file, "--skip-compilation"}
	// It leaves a folder behind where temporary ones are.
	generated := command(ctx, work, []string{"GOWORK=off", "TMPDIR=" + work}, args...)
	// Without a module of its own the build would take that of this repository, and the newest
	// version of everything.
	if _, err := os.Stat(filepath.Join(src, "go.mod")); err != nil {
		return errors.Join(err, generated)
	}
	if err := command(ctx, src, []string{"CGO_ENABLED=0", "GOWORK=off"}, "go", "build", "-mod=mod", "-o", target, "."); err != nil {
		return err
	}
	return nil
}

// checkCollector takes one ride for each protocol, each into a Collector of
// its own, and compares the Collector's file with what hotrod printed.
func checkCollector(ctx context.Context, root string) error {
	if there, err := collector.installed(root); err != nil {
		return err
	} else if !there {
		return fmt.Errorf("the Collector is missing; install it: %s", collector.command())
	}
	work, err := os.MkdirTemp("", "collector-check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	hotrod := filepath.Join(work, "hotrod")
	build := exec.CommandContext(ctx, "go", "build", "-o", hotrod, "./examples/hotrod")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building hotrod: %w\n%s", err, out)
	}
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		dir, err := os.MkdirTemp(work, "ride-")
		if err != nil {
			return err
		}
		began := time.Now()
		spans, err := ride(ctx, root, dir, hotrod, protocol)
		if err != nil {
			return fmt.Errorf("ride over %s: %w", protocol, err)
		}
		fmt.Printf("ok: a ride over %s: the Collector's file equals -json, %d spans, %.1f s\n",
			protocol, spans, time.Since(began).Seconds())
	}
	return nil
}

// ride runs a Collector and one ride, and returns the number of spans that
// both sides agree on.
func ride(ctx context.Context, root, dir, hotrod, protocol string) (spans int, err error) {
	config, out := filepath.Join(dir, "collector.yaml"), filepath.Join(dir, "traces.jsonl")
	if err := os.WriteFile(config, toFileYAML, 0o644); err != nil {
		return 0, err
	}
	grpcAddr, err := freeAddress()
	if err != nil {
		return 0, err
	}
	httpAddr, err := freeAddress()
	if err != nil {
		return 0, err
	}
	col, err := start(ctx, "collector",
		[]string{"GRPC=" + grpcAddr, "HTTP=" + httpAddr, "OUT=" + out},
		collector.path(root), "--config", config)
	if err != nil {
		return 0, err
	}
	running := true
	defer func() {
		if running {
			err = errors.Join(err, col.stop())
		}
	}()
	if err := col.listening(ctx, grpcAddr, httpAddr); err != nil {
		return 0, err
	}

	endpoint := httpAddr
	if protocol == "grpc" {
		endpoint = grpcAddr
	}
	printed, account, err := oneRide(ctx, hotrod, "http://"+endpoint, protocol)
	if err != nil {
		return 0, err
	}
	running = false
	if err := col.stop(); err != nil { // the file exporter writes out what it holds
		return 0, err
	}
	written, err := os.ReadFile(out)
	if err != nil {
		return 0, err
	}
	want, err := readSpans(printed)
	if err != nil {
		return 0, fmt.Errorf("hotrod's -json: %w", err)
	}
	got, err := readSpans(written)
	if err != nil {
		return 0, fmt.Errorf("the Collector's file: %w", err)
	}
	if len(want) == 0 {
		return 0, errors.New("hotrod's -json holds no span")
	}
	if diff := compare(want, got); len(diff) > 0 {
		return 0, fmt.Errorf("the Collector's file differs from -json in %d of %d spans:\n%s",
			len(diff), len(want), strings.Join(diff[:min(len(diff), 5)], "\n"))
	}
	if line := fmt.Sprintf("\ncollector: ended=%d delivered=%[1]d kept=0", len(want)); !strings.Contains("\n"+account, line) {
		return 0, fmt.Errorf("hotrod's account lacks the line %q:\n%s", line[1:], account)
	}
	return len(want), nil
}

// oneRide runs hotrod for one ride, unless flags say otherwise, and returns its spans as
// OTLP JSON, and the lines beside them: log and accounts. No protocol is the default.
func oneRide(ctx context.Context, hotrod, endpoint, protocol string, flags ...string) (spans []byte, account string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, hotrod, append([]string{"-once", "-json"}, flags...)...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OTEL_") { // the ride is set by this check alone
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "OTEL_EXPORTER_OTLP_ENDPOINT="+endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, "", fmt.Errorf("hotrod -once -json: %w\n%s", err, stderr.String())
	}
	return []byte(stdout.String()), stderr.String(), nil
}
