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
	p.addr = p.out.waitFor(t, addressOf(args))
	return p
}

// addressOf is the pattern of the address to call. Of all services together it is the
// frontend's, whose line is the last one.
func addressOf(args []string) string {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && args[0] != "all" {
		return `: ` + args[0] + ` listens on (\S+)\n`
	}
	return `: open http://([^/\s]+)/ and `
}

// writes keeps what is written, one entry a call.
type writes struct {
	mu   sync.Mutex
	list []string
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, string(p))
	return len(p), nil
}

// TestAnnouncesAtOnce: whoever waits for the address of the frontend and reads while it
// is being told must not take that of the customer service, which answers 404.
func TestAnnouncesAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	var out writes
	var errOut output
	exit := make(chan int, 1)
	go func() { exit <- run(ctx, []string{"-listen", "127.0.0.1:0"}, &out, &errOut, getenv(nil)) }()
	var said string
	for deadline := time.Now().Add(patience); said == "" && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		out.mu.Lock()
		for _, w := range out.list {
			if strings.Contains(w, " listens on ") {
				said = w
			}
		}
		out.mu.Unlock()
	}
	cancel()
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d: %s", code, &errOut)
	}
	if strings.Count(said, " listens on ") != 3 || !regexp.MustCompile(addressOf(nil)).MatchString(said) {
		t.Errorf("the write that tells addresses is %q, want all of them in it", said)
	}
	if first, _, _ := strings.Cut(said, "\n"); regexp.MustCompile(addressOf(nil)).MatchString(first + "\n") {
		t.Errorf("the address is taken from %q", first)
	}
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
