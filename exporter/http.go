package exporter

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// httpSender speaks OTLP/HTTP with protobuf or JSON bodies.
type httpSender struct {
	*link
	texts sync.Pool // of *[]byte, requests in JSON
}

const (
	protobufType = "application/x-protobuf"
	jsonType     = "application/json"
)

func (s *httpSender) mediaType() string {
	if s.speaks == HTTPJSON {
		return jsonType
	}
	return protobufType
}

func (s *httpSender) Send(ctx context.Context, request []byte, spans int) (int, error) {
	ctx, cancel := s.withTimeout(ctx)
	defer cancel()
	if s.speaks == HTTPJSON {
		text, _ := s.texts.Get().(*[]byte)
		if text == nil {
			text = new([]byte)
		}
		defer s.texts.Put(text)
		var err error
		if *text, err = otlpwire.AppendJSON((*text)[:0], request); err != nil || len(*text) > s.requestBytes && spans > 1 {
			return 0, tooLargeAsJSON(len(*text), err)
		}
		request = *text
	}
	h := http.Header{"Content-Type": {s.mediaType()}}
	if s.compression == Gzip && len(request) > 0 {
		h.Set("Content-Encoding", "gzip")
	}
	resp, answer, err := s.post(ctx, request, h, false)
	if resp == nil {
		return 0, s.unreachable(ctx, err, s.speaks)
	}
	return s.read(resp, answer, err)
}

// tooLargeAsJSON has a request sent in halves that is within its bound as protobuf and
// not as JSON. It is no answer of the collector's.
func tooLargeAsJSON(size int, err error) *SendError {
	if err == nil {
		err = fmt.Errorf("the request has %d bytes as JSON", size)
	}
	return &SendError{Status: http.StatusRequestEntityTooLarge, Code: "413", Err: err, ours: true}
}

// read makes the outcome of an answer; err is what ended the reading of its body.
func (s *httpSender) read(resp *http.Response, answer []byte, err error) (int, error) {
	if resp.StatusCode/100 == 2 {
		return s.accepted(resp, answer, err)
	}
	return 0, s.refused(resp, answer)
}

// accepted reads the answer to a request that was taken. Whatever its body is, the
// status says so, and sending the spans again would double them.
func (s *httpSender) accepted(resp *http.Response, answer []byte, err error) (int, error) {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case err != nil:
		return 0, s.remark(fmt.Errorf("%s took the spans, but its answer could not be read: %w", s.target.name, clean(err)), "")
	case kind == "text/html":
		return 0, s.remark(fmt.Errorf("%s answers %d with a web page", s.target.name, resp.StatusCode), "is it a collector? See "+s.endpointName())
	case kind != s.mediaType() && kind != "":
		return 0, nil // OTLP/HTTP wants the request's own type; others have nothing to tell us
	}
	read := otlpwire.ReadResponse
	if s.speaks == HTTPJSON {
		read = otlpwire.ReadResponseJSON
	}
	rejected, message, err := read(answer)
	if err != nil || rejected == 0 && message == "" {
		return 0, nil
	}
	return int(min(rejected, 1<<31-1)), s.partial(rejected, message)
}

// remark is about a request that was accepted.
func (l *link) remark(err error, advice string) *SendError {
	return &SendError{Code: CodePartialSuccess, Err: err, Advice: advice}
}

// partial is the remark of a partial success.
func (l *link) partial(rejected int64, message string) *SendError {
	return l.remark(fmt.Errorf("%s rejected %d %s of a request: %q", l.target.name,
		rejected, plural(uint64(rejected), "span", "spans"), oneLine(message, 160)), "")
}

// refused makes an error of an answer other than 2xx. OTLP, "Failures": 429, 502, 503
// and 504 may be repeated, all others must not be.
func (s *httpSender) refused(resp *http.Response, answer []byte) *SendError {
	status := resp.StatusCode
	e := &SendError{Status: status, Code: strconv.Itoa(status)}
	what := fmt.Sprintf("%s answers %d %s", s.target.name, status, http.StatusText(status))
	if m := s.message(resp, answer); m != "" {
		what += ": " + m
	}
	e.Err = errors.New(what)
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Retry = true
		e.After = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case strings.HasPrefix(kind, "application/grpc"), resp.Header.Get("Grpc-Status") != "",
		status == http.StatusUnsupportedMediaType && strings.Contains(string(answer), "gRPC"):
		return s.speaksGRPC()
	case status == http.StatusBadRequest && s.target.url.Scheme == "http" && saysHTTPS(answer):
		return s.expectsTLS()
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		e.Advice = s.pathAdvice()
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusProxyAuthRequired:
		e.Advice = s.credentialsAdvice()
	case status == http.StatusUnsupportedMediaType && s.speaks == HTTPJSON:
		e.Advice = s.protocolAdvice(HTTPProtobuf) + ": it does not take JSON"
	case status == http.StatusRequestEntityTooLarge:
		e.Advice = "smaller requests follow; Config.RequestBytes sets the size"
	case status/100 == 3:
		e.Advice = "redirects are not followed: give the final address in " + s.endpointName()
	}
	return e
}

// message is what an error's body says: a google.rpc.Status, or a line of text.
func (s *httpSender) message(resp *http.Response, answer []byte) string {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	read := otlpwire.ReadStatus
	if kind == jsonType {
		read = otlpwire.ReadStatusJSON
	}
	if kind == protobufType || kind == jsonType {
		if st, err := read(answer); err == nil {
			return oneLine(st.Message, 120)
		}
		if kind == protobufType {
			return ""
		}
	}
	if kind == "text/html" {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(answer[:min(len(answer), 512)])), "\n")
	return oneLine(line, 120)
}

// saysHTTPS knows how servers answer plaintext on a TLS port.
func saysHTTPS(answer []byte) bool {
	a := string(answer[:min(len(answer), 1024)])
	return strings.Contains(a, "HTTPS server") || strings.Contains(a, "HTTPS port")
}

func (s *httpSender) probe(ctx context.Context) *SendError { return s.sniff(ctx, s.speaks) }
