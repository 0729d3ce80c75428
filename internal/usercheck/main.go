// Usercheck does what a user does who has read the README: in an empty module it
// runs `go get github.com/meshtrace/meshtrace`, builds the README's HTTP program,
// sends it one request and asks it to stop.
//
//	go run ./internal/usercheck
//
// The module comes out of a file proxy that is made from this work tree, its
// dependencies from where `go env GOPROXY` says. The module cache is a new one,
// so that nothing counts which an earlier build left there.
//
// It fails when the program does not answer, when its trace is not the caller's,
// when it does not end with exit code 0, when it links a google.golang.org
// package, or when go.sum names gRPC or protobuf.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	modulePath    = "github.com/meshtrace/meshtrace"
	moduleVersion = "v0.0.1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "usercheck:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	began := time.Now()
	root, err := goOutput(ctx, ".", nil, "list", "-m", "-f", "{{.Dir}}", modulePath)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "usercheck-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	proxy := filepath.Join(work, "proxy")
	if err := writeProxy(ctx, proxy, root); err != nil {
		return err
	}
	program, err := httpProgram(filepath.Join(root, "README.md"))
	if err != nil {
		return err
	}
	user := filepath.Join(work, "user")
	if err := os.Mkdir(user, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(user, "main.go"), []byte(program), 0o644); err != nil {
		return err
	}
	env, err := userEnv(ctx, work, proxy)
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mod", "init", "example.org/orders"},
		{"get", modulePath},
		{"mod", "tidy"},
		{"build", "-o", "orders", "."},
	} {
		fmt.Println("+ go", strings.Join(args, " "))
		if _, err := goOutput(ctx, user, env, args...); err != nil {
			return err
		}
	}
	if err := noGRPC(ctx, user, env); err != nil {
		return err
	}
	if err := oneRequest(ctx, filepath.Join(user, "orders")); err != nil {
		return err
	}
	fmt.Printf("ok: an outside user's program answers, %.1f s\n", time.Since(began).Seconds())
	return nil
}

// userEnv returns variables of the go command for a user who has nothing yet.
func userEnv(ctx context.Context, work, proxy string) ([]string, error) {
	vars := make(map[string]string)
	for _, name := range []string{"GOPROXY", "GOMODCACHE", "GOFLAGS", "GONOSUMDB"} {
		v, err := goOutput(ctx, ".", nil, "env", name)
		if err != nil {
			return nil, err
		}
		vars[name] = v
	}
	return []string{
		"GOWORK=off",
		"GOMODCACHE=" + filepath.Join(work, "modcache"),
		// What this machine has downloaded already is not fetched again.
		"GOPROXY=file://" + proxy + ",file://" + vars["GOMODCACHE"] + "/cache/download," + vars["GOPROXY"],
		"GONOSUMDB=" + strings.TrimPrefix(vars["GONOSUMDB"]+","+modulePath, ","),
		"GOFLAGS=" + strings.TrimSpace(vars["GOFLAGS"]+" -modcacherw"),
	}, nil
}

// noGRPC checks that whoever imports middleware gets no gRPC and no protobuf.
func noGRPC(ctx context.Context, user string, env []string) error {
	deps, err := goOutput(ctx, user, env, "list", "-deps", ".")
	if err != nil {
		return err
	}
	for dep := range strings.Lines(deps) {
		if strings.HasPrefix(dep, "google.golang.org/") {
			return fmt.Errorf("the program links %s", strings.TrimSpace(dep))
		}
	}
	sums, err := os.ReadFile(filepath.Join(user, "go.sum"))
	if err != nil {
		return err
	}
	var named []string
	for line := range strings.Lines(string(sums)) {
		if strings.Contains(line, "grpc") || strings.Contains(line, "protobuf") {
			named = append(named, strings.Fields(line)[0])
		}
	}
	if len(named) > 0 {
		return fmt.Errorf("the user's go.sum names %s", strings.Join(named, ", "))
	}
	fmt.Printf("go.sum has %d lines, none of gRPC or protobuf\n", strings.Count(string(sums), "\n"))
	return nil
}

// oneRequest runs the program, asks it once as a traced caller would, and ends it.
func oneRequest(ctx context.Context, program string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	var output strings.Builder
	cmd := exec.CommandContext(ctx, program)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OTEL_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "ADDR="+addr, "OTEL_TRACES_EXPORTER=console")
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return err
	}
	const trace, id = "4bf92f3577b34da6a3ce929d0e0e4736", "125a4afb-6f55-44ba-ad80-413f09f48a28"
	body, asked := ask(ctx, "http://"+addr+"/orders/7", map[string]string{
		"Traceparent":  "00-" + trace + "-00f067aa0ba902b7-01",
		"X-Request-Id": id,
	})
	stopped := cmd.Process.Signal(syscall.SIGTERM)
	ended := cmd.Wait()
	if err := errors.Join(asked, stopped, ended); err != nil {
		return fmt.Errorf("the program: %w\n%s", err, output.String())
	}
	if body != "order 7 costs 42\n" {
		return fmt.Errorf("the program answers %q\n%s", body, output.String())
	}
	for _, want := range []string{trace, "GET /orders/{id}", "GET /prices"} {
		if !strings.Contains(output.String(), want) {
			return fmt.Errorf("the printed trace lacks %s:\n%s", want, output.String())
		}
	}
	return nil
}

// ask sends a GET until the program listens, and returns the body of a 200.
func ask(ctx context.Context, url string, headers map[string]string) (string, error) {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return "", err
		}
		for name, value := range headers {
			req.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(req)
		if errors.Is(err, syscall.ECONNREFUSED) && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(resp.Body)
		err = errors.Join(err, resp.Body.Close())
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("GET %s: %s: %s", url, resp.Status, body)
		}
		return string(body), err
	}
}

// goOutput runs the go command in dir and returns what it printed, trimmed.
func goOutput(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}
