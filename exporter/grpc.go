package exporter

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// grpcSender speaks OTLP/gRPC: one framed message each way on an HTTP/2 stream, the
// status in the trailer, or in the header where there is no message.
type grpcSender struct{ *link }

// grpcCodes are the names of the status codes, by number.
var grpcCodes = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
	"ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
	"OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

func (s *grpcSender) Send(ctx context.Context, request []byte, _ int) (int, error) {
	ctx, cancel := s.withTimeout(ctx)
	defer cancel()
	h := http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	if s.compression == Gzip && len(request) > 0 {
		h["Grpc-Encoding"] = []string{"gzip"}
	}
	if deadline, ok := ctx.Deadline(); ok {
		ms := max(1, time.Until(deadline).Milliseconds())
		h["Grpc-Timeout"] = []string{strconv.FormatInt(ms, 10) + "m"}
	}
	resp, answer, err := s.post(ctx, request, h, true)
	if resp == nil {
		return 0, s.unreachable(ctx, err, GRPC)
	}
	return s.read(ctx, resp, answer, err)
}

// read makes the outcome of an answer; err is what ended the reading of its body.
func (s *grpcSender) read(ctx context.Context, resp *http.Response, answer []byte, err error) (int, error) {
	status, found := grpcField(resp, "Grpc-Status")
	if !found {
		return 0, s.withoutStatus(ctx, resp, answer, err)
	}
	if status != "0" {
		return 0, s.refused(resp, status)
	}
	rejected, message, err := readMessage(resp, answer)
	if err != nil {
		return 0, s.remark(fmt.Errorf("%s took the spans, but its answer could not be read: %w", s.target.name, clean(err)), "")
	}
	if rejected == 0 && message == "" {
		return 0, nil
	}
	return int(min(rejected, 1<<31-1)), s.partial(rejected, message)
}

// grpcField returns a field of the status: it is in the trailer, or, when the answer
// is nothing else, in the header.
func grpcField(resp *http.Response, name string) (string, bool) {
	if v := resp.Trailer.Get(name); v != "" {
		return v, true
	}
	v := resp.Header.Get(name)
	return v, v != ""
}

var (
	errFrame       = errors.New("the message is cut off")
	errCompression = errors.New("the message has an unknown compression")
)

// readMessage reads the one message of an answer.
func readMessage(resp *http.Response, answer []byte) (rejected int64, message string, err error) {
	if len(answer) == 0 {
		return 0, "", nil
	}
	if len(answer) < 5 || uint64(binary.BigEndian.Uint32(answer[1:])) > uint64(len(answer)-5) {
		return 0, "", errFrame
	}
	m := answer[5 : 5+binary.BigEndian.Uint32(answer[1:])]
	if answer[0]&1 != 0 {
		if resp.Header.Get("Grpc-Encoding") != "gzip" {
			return 0, "", errCompression
		}
		z, err := gzip.NewReader(bytes.NewReader(m))
		if err != nil {
			return 0, "", err
		}
		if m, err = io.ReadAll(io.LimitReader(z, maxAnswer+1)); err != nil {
			return 0, "", err
		}
		if len(m) > maxAnswer {
			return 0, "", errAnswerSize
		}
	}
	return otlpwire.ReadResponse(m)
}

// refused makes an error of a status. OTLP, "Failures" of OTLP/gRPC, says which may
// be repeated; RESOURCE_EXHAUSTED only where the collector says when.
func (s *grpcSender) refused(resp *http.Response, status string) *SendError {
	e := &SendError{Code: "UNKNOWN"}
	if n, err := strconv.ParseUint(status, 10, 8); err == nil && int(n) < len(grpcCodes) {
		e.Code = grpcCodes[n]
	}
	text, _ := grpcField(resp, "Grpc-Message")
	if plain, err := url.PathUnescape(text); err == nil {
		text = plain
	}
	what := s.target.name + " answers " + e.Code
	if text = oneLine(text, 160); text != "" {
		what += ": " + text
	}
	e.Err = errors.New(what)

	var details otlpwire.Status
	if v, ok := grpcField(resp, "Grpc-Status-Details-Bin"); ok {
		if b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "=")); err == nil {
			details, _ = otlpwire.ReadStatus(b)
		}
	}
	switch e.Code {
	case "CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS":
		e.Retry = true
	case "RESOURCE_EXHAUSTED":
		e.Retry = details.RetryInfo
		if e.tooLarge() {
			e.Advice = "smaller requests follow; Config.RequestBytes sets the size"
		}
	case "UNIMPLEMENTED":
		e.Advice = "it has no OTLP trace service: enable its OTLP receiver, or correct " + s.endpointName()
	case "UNAUTHENTICATED", "PERMISSION_DENIED":
		e.Advice = s.credentialsAdvice()
	}
	if e.Retry {
		e.After = min(details.RetryDelay, longestAsked)
	}
	return e
}

// withoutStatus makes an error of an answer that is not gRPC's. The codes are those
// of gRPC's "HTTP to gRPC Status Code Mapping".
func (s *grpcSender) withoutStatus(ctx context.Context, resp *http.Response, answer []byte, err error) *SendError {
	status := resp.StatusCode
	kind := resp.Header.Get("Content-Type")
	e := &SendError{Status: status, Code: "UNKNOWN", Err: fmt.Errorf("%s answers %d %s and not gRPC", s.target.name, status, http.StatusText(status))}
	switch status {
	case http.StatusOK:
		if strings.HasPrefix(kind, "application/grpc") {
			if errors.Is(err, errAnswerSize) {
				return &SendError{Code: "RESOURCE_EXHAUSTED", Err: fmt.Errorf("%s: %w", s.target.name, err)}
			}
			// Cut off before its status: nobody knows whether the spans were taken.
			if err == nil {
				err = errFrame
			}
			s.drop()
			return &SendError{Code: "UNAVAILABLE", Retry: true, Err: fmt.Errorf("%s breaks off: %w", s.target.name, cause(ctx, err))}
		}
		return s.speaksHTTP(HTTPProtobuf.String())
	case http.StatusBadRequest:
		e.Code = "INTERNAL"
		if s.target.url.Scheme == "http" && saysHTTPS(answer) {
			return s.expectsTLS()
		}
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		e.Code, e.Advice = "UNAUTHENTICATED", s.credentialsAdvice()
	case http.StatusForbidden:
		e.Code, e.Advice = "PERMISSION_DENIED", s.credentialsAdvice()
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return s.speaksHTTP("HTTP")
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Code, e.Retry = "UNAVAILABLE", true
		e.After = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	case http.StatusRequestEntityTooLarge:
		e.Code, e.Advice = "RESOURCE_EXHAUSTED", "smaller requests follow; Config.RequestBytes sets the size"
	}
	return e
}

func (s *grpcSender) probe(ctx context.Context) *SendError { return s.sniff(ctx, GRPC) }
