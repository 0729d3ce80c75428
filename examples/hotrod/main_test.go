package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain is the program itself where a test starts this binary again.
func TestMain(m *testing.M) {
	if os.Getenv("EXAMPLE") == "run" {
		os.Args = append(os.Args[:1], strings.Fields(os.Getenv("EXAMPLE_ARGS"))...)
		main()
	}
	flag.Parse()
	flag.Set("test.parallel", "12") // rides wait more than they compute
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// deadAddr is where nobody listens. A port that was free a moment ago may be taken by
// another test.
const deadAddr = "127.0.0.1:1"

// output is what a program prints, readable while it runs.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// log returns the lines that are JSON objects.
func (o *output) log(t *testing.T) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(o.String()) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("log line %q: %v", line, err)
		}
		lines = append(lines, m)
	}
	return lines
}

// waitFor waits until o holds a match of pattern and returns its first group.
func (o *output) waitFor(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if m := re.FindStringSubmatch(o.String()); m != nil {
			return m[len(m)-1]
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q within %v in:\n%s", pattern, patience, o.String())
		}
	}
}

// patience is for what has to happen on a machine that may be busy with other tests.
const patience = 30 * time.Second

// attempts calls f until it succeeds, at most three times: for what depends on how
// fast the machine is.
func attempts(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for range 3 {
		if err = f(); err == nil {
			return
		}
		t.Logf("attempt: %v", err)
	}
	t.Error("no attempt succeeded")
}

// program is a running hotrod.
type program struct {
	out, errOut output
	addr        string
	interrupt   context.CancelFunc // as Ctrl-C does
	exit        chan int
}

// start runs hotrod in this process, as a command line would, until the test ends.
func start(t *testing.T, env map[string]string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &program{interrupt: cancel, exit: make(chan int, 1)}
	go func() { p.exit <- run(ctx, args, &p.out, &p.errOut, getenv(env)) }()
	t.Cleanup(func() {
		if p.stop(t); t.Failed() {
			t.Logf("hotrod %v printed:\n%s%s", args, &p.out, &p.errOut)
		}
	})
	p.addr = p.out.waitFor(t, `(?:open http://|: (?:frontend|customer|driver|route) listens on )([^/\s]+)(?:/ and|\n$)`)
	return p
}

// stop interrupts the program once and returns its exit code.
func (p *program) stop(t *testing.T) int {
	t.Helper()
	p.interrupt()
	select {
	case code := <-p.exit:
		p.exit <- code
		return code
	case <-time.After(patience):
		t.Fatalf("hotrod did not end within %v of Ctrl-C", patience)
		return -1
	}
}

func getenv(env map[string]string) func(string) string {
	return func(name string) string { return env[name] }
}

// once runs hotrod to its end.
func once(t *testing.T, env map[string]string, args ...string) (code int, out, errOut *output) {
	t.Helper()
	out, errOut = new(output), new(output)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	return run(ctx, args, out, errOut, getenv(env)), out, errOut
}

// dispatch asks for a ride.
func dispatch(t *testing.T, addr, query string, header http.Header) (int, ride) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/dispatch?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ride{}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var r ride
	if err != nil || json.Unmarshal(body, &r) != nil {
		t.Errorf("GET /dispatch?%s = %s, %q, %v", query, resp.Status, body, err)
	}
	return resp.StatusCode, r
}
