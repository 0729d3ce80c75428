package w3ctest_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshtrace/meshtrace/internal/w3ctest"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracingtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connectionTimeout bounds each exchange on a connection, whatever goes wrong.
const connectionTimeout = 10 * time.Second

// harness drives a service and records the calls it makes.
type harness struct {
	service  string // address
	recorder *recorder
	requests int
}

// newHarness starts a service and what it calls; both end with t. around, unless
// nil, stands between the middleware and the service, where an application does.
func newHarness(t *testing.T, around func(http.Handler) http.Handler) *harness {
	t.Helper()
	tracing, _ := tracingtest.New(t, middleware.Config{Service: "w3ctest"})
	service := w3ctest.NewService(tracing)
	t.Cleanup(service.Close)
	var next http.Handler = service
	if around != nil {
		next = around(next)
	}
	server := httptest.NewServer(tracing.Handler(next))
	t.Cleanup(server.Close)
	return &harness{service: server.Listener.Addr().String(), recorder: newRecorder(t)}
}

// field is a header line. Only white space around its value is gone.
type field struct{ name, value string }

// values returns the values of all lines with that name, in any case, in their order.
func values(fields []field, name string) []string {
	var list []string
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			list = append(list, f.value)
		}
	}
	return list
}

// exchange sends the service a request with these header lines, exactly as they are,
// that asks for n calls, and returns the header of each.
func (h *harness) exchange(t *testing.T, lines []string, n int) [][]field {
	t.Helper()
	h.requests++
	type call struct {
		URL       string `json:"url"`
		Arguments []any  `json:"arguments"`
	}
	var (
		calls []call
		paths []string
	)
	for i := range n {
		path := fmt.Sprintf("/%d/%d", h.requests, i)
		paths = append(paths, path)
		calls = append(calls, call{"http://" + h.recorder.address() + path, []any{path}})
	}
	body, err := json.Marshal(calls)
	if err != nil {
		t.Fatal(err)
	}

	var request bytes.Buffer
	fmt.Fprintf(&request, "POST /test HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", h.service, len(body))
	for _, line := range lines {
		request.WriteString(line + "\r\n")
	}
	request.WriteString("Connection: close\r\n\r\n")
	request.Write(body)

	conn, err := net.DialTimeout("tcp", h.service, connectionTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(connectionTimeout))
	if _, err := conn.Write(request.Bytes()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("answer to %q: %v", lines, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("answer to %q: %s, %q, %v", lines, resp.Status, answer, err)
	}

	var headers [][]field
	for _, path := range paths {
		got, ok := h.recorder.take(path)
		if want := `["` + path + `"]`; !ok || got.body != want {
			t.Fatalf("call of %s: arrived %v with arguments %s, want %s", path, ok, got.body, want)
		}
		headers = append(headers, got.fields)
	}
	return headers
}

// recorder answers every HTTP/1.1 request with 200 and keeps its header lines, which
// net/http's server would sort into a map.
type recorder struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu     sync.Mutex
	calls  map[string]recorded
	open   map[net.Conn]bool
	closed bool
}

// recorded is a call that arrived.
type recorded struct {
	fields []field
	body   string
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{listener: listener, calls: map[string]recorded{}, open: map[net.Conn]bool{}}
	r.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the listener is closed
			}
			r.track(conn, true)
			r.serving.Go(func() {
				defer r.track(conn, false)
				if err := r.serve(conn); err != nil {
					t.Errorf("recorder: %v", err)
				}
			})
		}
	})
	t.Cleanup(r.close)
	return r
}

func (r *recorder) address() string { return r.listener.Addr().String() }

// take returns the call of path and forgets it.
func (r *recorder) take(path string) (recorded, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.calls[path]
	delete(r.calls, path)
	return c, ok
}

// close ends the connections that the service keeps, too.
func (r *recorder) close() {
	r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for conn := range r.open {
		conn.Close()
	}
	r.mu.Unlock()
	r.serving.Wait()
}

// track notes an open connection, or closes it.
func (r *recorder) track(conn net.Conn, open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if open && !r.closed {
		r.open[conn] = true
		return
	}
	conn.Close()
	delete(r.open, conn)
}

// serve answers the requests of one connection until it ends between two of them.
func (r *recorder) serve(conn net.Conn) error {
	in := bufio.NewReader(conn)
	for {
		conn.SetDeadline(time.Now().Add(connectionTimeout))
		path, call, err := readCall(in)
		if path == "" {
			return nil // no further request: the connection is closed
		}
		if err != nil {
			return fmt.Errorf("request for %s: %w", path, err)
		}
		r.mu.Lock()
		r.calls[path] = call
		r.mu.Unlock()
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nnull"); err != nil {
			return err
		}
	}
}

// readCall reads one request; path is "" when not even its first line came.
func readCall(in *bufio.Reader) (path string, c recorded, err error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return "", c, err
	}
	_, path, _ = strings.Cut(line, " ")
	path, _, _ = strings.Cut(path, " ")
	length := 0
	for {
		if line, err = in.ReadString('\n'); err != nil {
			return path, c, err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return path, c, fmt.Errorf("header line %q", line)
		}
		value = strings.Trim(value, " \t")
		c.fields = append(c.fields, field{name, value})
		if strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(value); err != nil || length > 1<<16 {
				return path, c, fmt.Errorf("Content-Length %q: %v", value, err)
			}
		}
	}
	body := make([]byte, length)
	_, err = io.ReadFull(in, body)
	c.body = string(body)
	return path, c, err
}
