package parity_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/meshtrace/meshtrace/internal/parity"
)

// upstream is the application behind the gateway. It writes down each request as it
// stands on the wire, for HTTP/1.1 byte by byte, and answers by its script.
type upstream struct {
	listener net.Listener
	script   parity.Upstream
	grpc     *http.Server // nil: HTTP/1.1
	serving  sync.WaitGroup

	mu       sync.Mutex
	dialled  int
	steps    []parity.Upstream // of connections that are dialled and not yet accepted
	attempts []attempt
}

func startUpstream(c parity.Case) (*upstream, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{listener: l, script: c.Upstream}
	if c.Request.GRPC {
		u.grpc = &http.Server{Handler: http.HandlerFunc(u.serveGRPC), Protocols: new(http.Protocols)}
		u.grpc.Protocols.SetUnencryptedHTTP2(true)
		u.serving.Go(func() { u.grpc.Serve(l) })
		return u, nil
	}
	u.serving.Go(u.accept)
	return u, nil
}

func (u *upstream) close() {
	if u.grpc != nil {
		u.grpc.Close()
	}
	u.listener.Close()
	u.serving.Wait()
}

// reset forgets what was received and begins the script anew.
func (u *upstream) reset() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dialled, u.steps, u.attempts = 0, nil, nil
}

func (u *upstream) received() []attempt {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.attempts)
}

// step returns what is done on the nth attempt, from 0; the last one goes on.
func (u *upstream) step(n int) parity.Upstream {
	s := u.script
	for range n {
		if s.Then == nil {
			break
		}
		s = *s.Then
	}
	return s
}

// dial connects to u, unless the script has nobody listen. Each attempt dials, so
// that it is the dials which advance the script.
func (u *upstream) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	u.mu.Lock()
	s := u.step(u.dialled)
	u.dialled++
	if s.Fault != "refuse" {
		u.steps = append(u.steps, s)
	}
	u.mu.Unlock()
	if s.Fault == "refuse" {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", u.listener.Addr().String())
}

// next takes the step of the connection that was accepted, or of the request.
func (u *upstream) next() parity.Upstream {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.steps) == 0 {
		return u.step(0)
	}
	s := u.steps[0]
	u.steps = u.steps[1:]
	return s
}

// arrived waits until a request has reached u, or long enough for one that does not: a
// loaded machine takes longer than the recording's. Who goes away then goes away from a
// request that is under way.
func (u *upstream) arrived() {
	for deadline := time.Now().Add(2 * time.Second); len(u.received()) == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
}

func (u *upstream) record(a attempt) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.attempts = append(u.attempts, a)
}

func (u *upstream) accept() {
	for {
		conn, err := u.listener.Accept()
		if err != nil {
			return
		}
		s := u.next()
		u.serving.Go(func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			if err := u.serve(conn, s); err != nil {
				fmt.Fprintf(conn, "HTTP/1.1 599 %q\r\ncontent-length: 0\r\n\r\n", err)
			}
		})
	}
}

// serve reads one request and answers it.
func (u *upstream) serve(conn net.Conn, s parity.Upstream) error {
	a, err := readRequest(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	u.record(a)
	time.Sleep(time.Duration(s.DelayMS) * time.Millisecond)
	switch s.Fault {
	case "", "reset_mid_body":
	case "close":
		return nil
	case "reset":
		return conn.(*net.TCPConn).SetLinger(0)
	case "garbage":
		_, err := io.WriteString(conn, "this is not HTTP\r\n\r\n")
		return err
	default:
		return fmt.Errorf("fault %q is none that this runner knows", s.Fault)
	}
	if len(s.Trailers) > 0 || s.HeadersOnly {
		return errors.New("trailers of a request that is not gRPC")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d status\r\n", status(s))
	for _, f := range s.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", f[0], f[1])
	}
	body := bytes.Repeat([]byte("u"), s.BodySize)
	size := len(body)
	if s.Fault == "reset_mid_body" {
		body = append(body, "part"...) // so much of it was recorded
		size += 1000
	}
	if status(s) != http.StatusNoContent && status(s) != http.StatusNotModified {
		fmt.Fprintf(&b, "content-length: %d\r\n", size)
	}
	b.WriteString("\r\n")
	b.Write(body)
	if _, err := conn.Write(b.Bytes()); err != nil {
		return err
	}
	if s.Fault == "reset_mid_body" {
		time.Sleep(5 * time.Millisecond) // so that the headers are read first
		return conn.(*net.TCPConn).SetLinger(0)
	}
	return nil
}

func status(s parity.Upstream) int {
	if s.Status == 0 {
		return http.StatusOK
	}
	return s.Status
}

// readRequest reads a request as it stands on the wire, its body included.
func readRequest(r *bufio.Reader) (attempt, error) {
	line, err := readLine(r)
	if err != nil {
		return attempt{}, err
	}
	a := attempt{headers: make(map[string][]string)}
	a.line, _, _ = strings.Cut(line, " HTTP/")
	for {
		line, err := readLine(r)
		if err != nil {
			return attempt{}, err
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return attempt{}, fmt.Errorf("no header line: %q", line)
		}
		name = strings.ToLower(name)
		a.headers[name] = append(a.headers[name], strings.Trim(value, " \t"))
	}
	if length := a.headers["content-length"]; len(length) == 1 {
		n, err := strconv.Atoi(length[0])
		if err != nil {
			return attempt{}, err
		}
		if _, err := r.Discard(n); err != nil {
			return attempt{}, err
		}
	}
	if len(a.headers["transfer-encoding"]) > 0 {
		for line := "more"; line != "0"; { // lines of text will do: nobody looks at the body
			if line, err = readLine(r); err != nil {
				return attempt{}, err
			}
		}
	}
	return a, nil
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// readResponse reads the answer to a request of that method, as it stands on the wire.
func readResponse(conn net.Conn, method string) (int, map[string][]string, error) {
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return 0, nil, nil
		}
		if err != nil {
			return 0, nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			io.Copy(io.Discard, resp.Body) // a reset in the middle of it is the case's own
			return resp.StatusCode, lowerCase(resp.Header), resp.Body.Close()
		}
	}
}

// serveGRPC answers on HTTP/2. The order of names is lost there, that of the lines
// of one name is not.
func (u *upstream) serveGRPC(w http.ResponseWriter, r *http.Request) {
	s := u.next()
	u.record(attempt{line: r.Method + " " + r.URL.RequestURI(), headers: lowerCase(r.Header)})
	io.Copy(io.Discard, r.Body)
	time.Sleep(time.Duration(s.DelayMS) * time.Millisecond)
	switch s.Fault {
	case "":
	case "reset":
		panic(http.ErrAbortHandler)
	default:
		w.Header().Set("grpc-status", "13")
		w.Header().Set("grpc-message", "fault is none that this runner knows: "+s.Fault)
		return
	}
	h := w.Header()
	h["Date"] = nil
	for _, f := range s.Headers {
		h.Add(f[0], f[1])
	}
	w.WriteHeader(status(s))
	if s.HeadersOnly {
		return
	}
	w.Write(bytes.Repeat([]byte("u"), s.BodySize))
	for _, f := range s.Trailers {
		h.Add(http.TrailerPrefix+f[0], f[1])
	}
}
