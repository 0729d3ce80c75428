package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain prints the table of what was shown, after the tests' own lines.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	table.print(os.Stdout)
	os.Exit(code)
}

// table is what the scenarios showed.
var table rows

type rows struct {
	mu  sync.Mutex
	all []row
}

type row struct{ scenario, peers, shown, result string }

func (r *rows) print(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) == 0 {
		return
	}
	fmt.Fprintf(w, "\n| scenario | beside | shown | |\n|---|---|---|---|\n")
	for _, row := range r.all {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", row.scenario, row.peers, row.shown, row.result)
	}
	fmt.Fprintln(w)
}

// show enters what a scenario showed into the table, with its result and time, when
// the test ends.
func show(t *testing.T, scenario, peers string) (shown func(format string, args ...any)) {
	began := time.Now()
	var said []string
	t.Cleanup(func() {
		result := "ok"
		switch {
		case t.Failed():
			result = "FAILED"
		case t.Skipped():
			return // the test says why
		}
		table.mu.Lock()
		defer table.mu.Unlock()
		table.all = append(table.all, row{scenario, peers, strings.Join(said, "; "),
			fmt.Sprintf("%s, %.0f s", result, time.Since(began).Seconds())})
	})
	return func(format string, args ...any) {
		said = append(said, fmt.Sprintf(format, args...))
		t.Logf(format, args...)
	}
}

// need skips a scenario that lacks a peer and says how to install it; with
// MESHTRACE_INTEROP=1 it fails. It returns the root folder of the repository.
func need(t *testing.T, peers ...*peer) string {
	t.Helper()
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, p := range peers {
		there, err := p.installed(root)
		if err != nil {
			t.Fatal(err)
		}
		if !there {
			missing = append(missing, p.name)
		}
	}
	if len(missing) == 0 {
		return root
	}
	say := t.Skipf
	if os.Getenv("MESHTRACE_INTEROP") == "1" {
		say = t.Fatalf
	}
	say("missing: install with  cd internal/interop && go run . install %s", strings.Join(missing, " "))
	return ""
}

// running is a peer that runs until the test ends.
type running struct {
	*process
	t *testing.T
	// addrs are its loopback addresses, in the order they were asked for.
	addrs []string
}

// began starts a peer that listens on addrs and ends it with the test.
func began(t *testing.T, name string, addrs, env []string, path string, args ...string) *running {
	t.Helper()
	p, err := start(context.WithoutCancel(t.Context()), name, env, path, args...)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{process: p, t: t, addrs: addrs}
	t.Cleanup(r.end)
	if err := p.listening(t.Context(), addrs...); err != nil {
		t.Fatal(err)
	}
	return r
}

// end asks the peer to end and kills it when it has not in 5 s: some need long.
func (r *running) end() {
	select {
	case <-r.done:
		return
	default:
	}
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.done:
	case <-time.After(5 * time.Second):
		r.kill()
	}
}

// kill is kill -9.
func (r *running) kill() {
	_ = r.cmd.Process.Kill()
	<-r.done
}

// free returns n loopback addresses that are free. Their ports are below those that
// systems give to whoever asks for any, so that none is taken before a peer listens.
func free(t *testing.T, n int) []string {
	t.Helper()
	var addrs []string
	for tries := 0; len(addrs) < n; tries++ {
		if tries > 100*n {
			t.Fatal("no free ports between 12000 and 32000")
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000)))
		if err != nil {
			continue
		}
		defer l.Close() // all at once, so that no port is given twice
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// write writes a file into the test's folder and returns its path.
func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually waits until ok says nothing, at most a time, and fails with what it said last.
func eventually(t *testing.T, atMost time.Duration, ok func() string) {
	t.Helper()
	deadline := time.Now().Add(atMost)
	for {
		said := ok()
		if said == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %s", atMost, said)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// get reads a URL; "" and what is wrong when it cannot.
func get(url string) ([]byte, error) {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %.200s", url, resp.Status, body)
	}
	return body, nil
}

// getJSON reads into a pointer's value, which is emptied before: a slice that is read into
// again would keep what a field said that is no longer there.
func getJSON(url string, into any) error {
	reflect.ValueOf(into).Elem().SetZero()
	body, err := get(url)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return nil
}

// startCollector runs a Collector of either version with a configuration. Its
// addresses are OTLP/gRPC and OTLP/HTTP.
func startCollector(t *testing.T, root string, p *peer, config string, env ...string) *running {
	t.Helper()
	addrs := free(t, 2)
	env = append([]string{"GRPC=" + addrs[0], "HTTP=" + addrs[1]}, env...)
	return began(t, p.name, addrs, env, p.path(root), "--config", write(t, "collector.yaml", []byte(config)))
}

// startZipkin runs a Zipkin server. Its address has the API and the pages.
func startZipkin(t *testing.T, root string) *running {
	t.Helper()
	addrs := free(t, 1)
	z := began(t, "zipkin", nil, []string{"QUERY_PORT=" + port(t, addrs[0]), "SELF_TRACING_ENABLED=false"},
		"java", "-Xmx512m", "-Darmeria.defaultBindAddress=127.0.0.1", "-Dserver.address=127.0.0.1",
		"-jar", zipkin.path(root), "--armeria.ports[0].address=127.0.0.1", "--armeria.ports[0].port="+port(t, addrs[0]), "--armeria.ports[0].protocols[0]=http")
	z.addrs = addrs
	eventually(t, 4*time.Minute, func() string { // 10 s on a machine that does nothing else
		select {
		case <-z.done:
			return "Zipkin ended: " + z.output.String()
		default:
		}
		if _, err := get("http://" + addrs[0] + "/health"); err != nil {
			return err.Error()
		}
		return ""
	})
	return z
}

// startJaeger runs Jaeger's all-in-one. Its addresses are OTLP/gRPC, OTLP/HTTP and the API.
func startJaeger(t *testing.T, root string) *running {
	t.Helper()
	a := free(t, 12)
	args := []string{"--log-level=warn"}
	for i, flag := range []string{"collector.otlp.grpc", "collector.otlp.http", "query.http-server", "query.grpc-server", "admin.http",
		"collector.grpc-server", "collector.http-server"} {
		args = append(args, "--"+flag+".host-port="+a[i])
	}
	args = append(args, "--http-server.host-port="+a[7], "--processor.jaeger-binary.server-host-port="+a[8],
		"--processor.jaeger-compact.server-host-port="+a[9], "--processor.zipkin-compact.server-host-port="+a[10])
	return began(t, "jaeger", a[:3], nil, jaeger.path(root), args...)
}
