package span

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

type (
	ownError       struct{ error }
	ExportedErr    struct{ Err error }
	Generic[T any] struct{ V T }
	named          struct{ name string }
)

func (e ownError) Unwrap() error     { return e.error }
func (e *ExportedErr) Error() string { return "exported" }
func (e *ExportedErr) Unwrap() error { return e.Err }
func (Generic[T]) Error() string     { return "generic" }
func (named) Error() string          { return "named" }
func (n named) ErrorType() string    { return n.name }

func TestErrorType(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"pointer", &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, "net.OpError"},
		{"value", net.UnknownNetworkError("x"), "net.UnknownNetworkError"},
		{"plain text", errors.New("x"), "errors.errorString"},
		{"fmt wraps", fmt.Errorf("a: %w", fmt.Errorf("b: %w", &fs.PathError{Op: "open", Err: fs.ErrNotExist})), "fs.PathError"},
		{"fmt wraps two", fmt.Errorf("%w, %w", &net.DNSError{}, io.EOF), "net.DNSError"},
		{"join", errors.Join(nil, io.EOF, errors.New("x")), "io.EOF"},
		{"url.Error", &url.Error{Op: "Get", URL: "http://x", Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, "net.OpError"},
		{"url.Error around a value", &url.Error{Op: "Get", URL: "http://x", Err: io.EOF}, "io.EOF"},
		{"deadline", context.DeadlineExceeded, "context.DeadlineExceeded"},
		{"deadline within", &ExportedErr{context.DeadlineExceeded}, "context.DeadlineExceeded"},
		{"cancelled", fmt.Errorf("x: %w", context.Canceled), "context.Canceled"},
		{"unexpected EOF", fmt.Errorf("x: %w", io.ErrUnexpectedEOF), "io.ErrUnexpectedEOF"},
		{"closed pipe", io.ErrClosedPipe, "io.ErrClosedPipe"},
		{"closed connection", net.ErrClosed, "net.ErrClosed"},
		{"file deadline", os.ErrDeadlineExceeded, "os.ErrDeadlineExceeded"},
		{"outermost exported type", &ExportedErr{&net.OpError{}}, "span.ExportedErr"},
		{"unexported wrapper", ownError{&net.OpError{}}, "net.OpError"},
		{"unexported leaf", ownError{}, "span.ownError"},
		{"type arguments", Generic[map[string]int]{}, "span.Generic"},
		{"no name", struct{ error }{errors.New("x")}, "_OTHER"},
		{"says so itself", fmt.Errorf("x: %w", named{"quota"}), "quota"},
		{"says so, bounded", named{strings.Repeat("é", 200)}, strings.Repeat("é", 64)},
		{"says nothing", named{""}, "span.named"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := errorType(tt.err); got != tt.want {
				t.Errorf("errorType(%T) = %q, want %q", tt.err, got, tt.want)
			}
		})
	}
}

// TestErrorTypeOfClients asks the errors that net/http's client really returns.
func TestErrorTypeOfClients(t *testing.T) {
	stop := make(chan bool)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cut" {
			panic(http.ErrAbortHandler)
		}
		<-stop
	}))
	defer srv.Close()
	defer close(stop)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	deadline, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		client *http.Client
		url    string
		want   string
	}{
		{"refused", t.Context(), srv.Client(), "http://" + closed.Addr().String(), "net.OpError"},
		{"cut", t.Context(), srv.Client(), srv.URL + "/cut", "io.EOF"},
		{"deadline", deadline, srv.Client(), srv.URL, "context.DeadlineExceeded"},
		{"cancelled", cancelled, srv.Client(), srv.URL, "context.Canceled"},
		{"client's timeout", t.Context(), &http.Client{Transport: srv.Client().Transport, Timeout: time.Millisecond}, srv.URL, "context.DeadlineExceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(tt.ctx, "GET", tt.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tt.client.Do(req)
			if err == nil {
				resp.Body.Close()
				t.Fatal("the call did not fail")
			}
			if got := errorType(err); got != tt.want {
				t.Errorf("errorType(%v) = %q, want %q", err, got, tt.want)
			}
		})
	}
}
