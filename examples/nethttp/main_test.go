//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshtrace/meshtrace/internal/collectortest"
	"github.com/meshtrace/meshtrace/internal/tracetree"
	"github.com/meshtrace/meshtrace/requestid"
)

// TestMain is the program itself where a test starts this binary again.
func TestMain(m *testing.M) {
	if os.Getenv("EXAMPLE") == "run" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is the example as a process of its own.
type program struct {
	cmd    *exec.Cmd
	addr   string
	stderr bytes.Buffer // complete once the process ended
}

// start starts the example with variables added to an environment without OTEL_*.
func start(t *testing.T, env ...string) *program {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &program{addr: ln.Addr().String()}
	ln.Close()
	p.cmd = exec.Command(os.Args[0])
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "OTEL_") {
			p.cmd.Env = append(p.cmd.Env, kv)
		}
	}
	p.cmd.Env = append(p.cmd.Env, append(env, "EXAMPLE=run", "ADDR="+p.addr)...)
	p.cmd.Stderr = &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			conn.Close()
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("the program does not listen: %v", err)
		}
	}
}

// terminate sends SIGTERM and waits for the end, which has to be exit code 0.
func (p *program) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v, want exit code 0:\n%s", err, &p.stderr)
	}
}

func TestOneRequest(t *testing.T) {
	collector := collectortest.Start(t)
	p := start(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL())
	req, _ := http.NewRequest(http.MethodGet, "http://"+p.addr+"/orders/7", nil)
	req.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	req.Header.Set("X-Request-Id", "1a2b3c4d-0001-4000-8000-00000000000a")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || string(body) != "order 7 costs 42\n" {
		t.Errorf("GET /orders/7 = %s, %q", resp.Status, body)
	}
	p.terminate(t)

	traces := tracetree.Build(collector.Spans())
	if len(traces) != 1 || traces[0].ID.String() != "4bf92f3577b34da6a3ce929d0e0e4736" || traces[0].Spans != 3 || traces[0].Orphans != 0 {
		t.Fatalf("%d traces, want one of 3 spans, the caller's:\n%s", len(traces), printed(traces))
	}
	root := traces[0].Roots[0]
	if root.Name != "GET /orders/{id}" || root.Parent.String() != "00f067aa0ba902b7" || root.Service() != "orders" {
		t.Errorf("first span = %s of %s below %s", root.Name, root.Service(), root.Parent)
	}
	if traces[0].Depth != 3 || root.Children[0].Children[0].Name != "GET /prices" {
		t.Errorf("trace is not a chain that ends in GET /prices:\n%s", printed(traces))
	}
	for n := range traces[0].Walk() {
		if id := n.RequestID(); n.KindName() == "server" && !requestid.Equal(requestid.ID(id), "1a2b3c4d-0001-4000-8000-00000000000a") {
			t.Errorf("%s has request id %q", n.Name, id)
		}
	}
}

// Whoever got an answer has a span at the collector, though the program was asked to
// stop in the middle of the load.
func TestSIGTERMUnderLoadLosesNoSpan(t *testing.T) {
	const clients, load = 8, 300
	collector := collectortest.Start(t)
	prices := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(2 * time.Millisecond)
		fmt.Fprintln(w, "42")
	}))
	defer prices.Close()
	p := start(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL(), "PRICES_URL="+prices.URL)

	var (
		wg       sync.WaitGroup
		stopping atomic.Bool
		mu       sync.Mutex
		answered = make(map[requestid.ID]bool) // by their canonical form
		busy     = make(chan struct{})         // closed when load requests are answered
	)
	for range clients {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				id := requestid.New()
				req, _ := http.NewRequest(http.MethodGet, "http://"+p.addr+"/orders/7", nil)
				req.Header.Set("X-Request-Id", string(id))
				resp, err := client.Do(req)
				if err != nil {
					if !stopping.Load() {
						t.Error(err)
					}
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("GET /orders/7 = %s, %q, %v", resp.Status, body, err)
				}
				mu.Lock()
				if answered[id.Canonical()] = true; len(answered) == load {
					close(busy)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-busy:
	case <-time.After(20 * time.Second):
		t.Errorf("%d requests are not answered in 20 s", load)
	}
	stopping.Store(true)
	p.terminate(t)
	wg.Wait()

	servers := make(map[requestid.ID]int)
	calls := 0
	for _, tr := range tracetree.Build(collector.Spans()) {
		for n := range tr.Walk() {
			switch n.KindName() {
			case "server":
				servers[requestid.ID(n.RequestID()).Canonical()]++
			case "client":
				calls++
			}
		}
	}
	for id := range answered {
		if servers[id] != 1 {
			t.Errorf("request %s was answered and has %d spans", id, servers[id])
		}
	}
	if calls < len(answered) || collector.Duplicates() != 0 {
		t.Errorf("%d spans of calls and %d duplicates, want one for each of %d answers and none", calls, collector.Duplicates(), len(answered))
	}
	t.Logf("%d requests answered, %d spans at the collector", len(answered), collector.Unique())
}

func printed(traces []*tracetree.Trace) string {
	var b strings.Builder
	for _, tr := range traces {
		tr.Print(&b)
	}
	return b.String()
}
