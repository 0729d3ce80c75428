package w3ctest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/meshtrace/meshtrace/middleware"
)

// Bounds on what one request may ask for.
const (
	maxRequest     = 1 << 20 // bytes of its body
	maxCalls       = 32
	maxAnswer      = 1 << 20 // bytes of a call's answer
	requestTimeout = 5 * time.Second
)

// Service is the program that the harness asks to make calls: POST /test with a JSON
// list of {"url", "arguments"} makes it post the arguments to each url in turn. It
// answers 200 when all calls were answered with 200, 400 to a body of another form,
// and 502 naming the call that failed. A request has five seconds.
//
// Its calls go out through the Transport of a Tracing. It does not wrap itself in
// that Tracing's Handler. It is safe for concurrent use.
type Service struct {
	mux    http.ServeMux
	base   *http.Transport
	client *http.Client
}

// NewService returns a Service that calls through tracing. Close it after use.
func NewService(tracing *middleware.Tracing) *Service {
	dialer := &net.Dialer{Control: loopbackOnly}
	s := &Service{base: &http.Transport{DialContext: dialer.DialContext}}
	s.client = &http.Client{
		Transport:     tracing.Transport(s.base),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.mux.HandleFunc("POST /test", s.test)
	return s
}

// Close closes the connections that are idle.
func (s *Service) Close() { s.base.CloseIdleConnections() }

// ServeHTTP answers POST /test.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// call is a call to make.
type call struct {
	URL       string          `json:"url"`
	Arguments json.RawMessage `json:"arguments"`
}

func (s *Service) test(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	calls, err := readCalls(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for i, c := range calls {
		if err := s.post(ctx, c); err != nil {
			http.Error(w, fmt.Sprintf("call %d: %v", i, err), http.StatusBadGateway)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"calls": %d}`, len(calls))
}

func readCalls(body io.Reader) ([]call, error) {
	var calls []call
	if err := json.NewDecoder(body).Decode(&calls); err != nil {
		return nil, fmt.Errorf(`body: %w: allowed is a list of {"url": …, "arguments": …}`, err)
	}
	if len(calls) > maxCalls {
		return nil, fmt.Errorf("body: %d calls: allowed are at most %d", len(calls), maxCalls)
	}
	return calls, nil
}

func (s *Service) post(ctx context.Context, c call) error {
	arguments := c.Arguments
	if arguments == nil {
		arguments = json.RawMessage("null")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(arguments))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", c.URL, resp.Status)
	}
	return nil
}

var errNotLoopback = errors.New("allowed are loopback addresses")

// loopbackOnly keeps a program that calls what it is told to call from calling others.
func loopbackOnly(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !ap.Addr().Unmap().IsLoopback() {
		return errNotLoopback
	}
	return nil
}
