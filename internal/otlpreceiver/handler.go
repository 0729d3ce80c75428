package otlpreceiver

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// Where a Handler listens for exports.
const (
	HTTPPath = "/v1/traces"
	GRPCPath = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
)

const defaultMaxBytes = 4 << 20 // what grpc-go takes by default

// Handler is an http.Handler for trace exports. It needs a server that speaks HTTP/2
// for gRPC: see NewServer. It is safe for concurrent use once its fields are set.
type Handler struct {
	// Accept, which must be set, is given the bytes of a request, its own from then on
	// and checked to be an ExportTraceServiceRequest. It may be called concurrently.
	// Returning nil acknowledges the spans: the exporter forgets them. So does an
	// *Answer. A *Refusal says whether the exporter may try again, an
	// *otlpwire.WireError that it must not (400, INVALID_ARGUMENT); any other error
	// makes it try again (503, UNAVAILABLE). Errors may be wrapped.
	Accept func(request []byte) error
	// MaxBytes bounds a request before and after decompression. 0: 4 MiB. What
	// otlpwire.MaxRequest refuses is refused all the same.
	MaxBytes int64
	// JSON takes OTLP/HTTP in JSON as well, whose reading costs some thirty times a
	// request's size in memory.
	JSON bool
}

// Answer is an acknowledgement with something to say.
type Answer struct {
	Message []byte // an ExportTraceServiceResponse
}

// Error makes it something that Accept returns.
func (a *Answer) Error() string { return fmt.Sprintf("answer of %d bytes", len(a.Message)) }

// Partial is the Answer that n spans of the request are refused for good.
func Partial(n int64, why string) *Answer {
	return &Answer{Message: otlpwire.AppendResponse(nil, n, why)}
}

// Refusal is a request that was not taken. By the status the exporter knows whether
// to try again (OTLP, "Failures").
type Refusal struct {
	Status     int           // of OTLP/HTTP; 0: 503
	Code       Code          // of OTLP/gRPC; 0: UNAVAILABLE
	Message    string        // for people
	RetryAfter time.Duration // 0: not stated. Retry-After in whole seconds, and RetryInfo
}

// Error returns Message.
func (r *Refusal) Error() string { return r.Message }

// Code is a gRPC status code.
type Code int32

// The codes that a Handler answers with of itself.
const (
	InvalidArgument   Code = 3
	ResourceExhausted Code = 8
	Unimplemented     Code = 12
	Internal          Code = 13
	Unavailable       Code = 14
)

// ServeHTTP serves a request of either protocol.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.ProtoMajor == 2 && (media == "application/grpc" || strings.HasPrefix(media, "application/grpc+")) {
		h.serveGRPC(w, r, media)
		return
	}
	switch {
	case r.URL.Path != HTTPPath:
		plain(w, http.StatusNotFound, "this is an OTLP receiver: POST "+HTTPPath)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		plain(w, http.StatusMethodNotAllowed, "exports are sent by POST")
	case media != mediaProtobuf && !(h.JSON && media == mediaJSON):
		plain(w, http.StatusUnsupportedMediaType, "this receiver takes "+mediaProtobuf)
	default:
		h.serveHTTP(w, r, media)
	}
}

const (
	mediaProtobuf = "application/x-protobuf"
	mediaJSON     = "application/json"
)

func (h *Handler) serveHTTP(w http.ResponseWriter, r *http.Request, media string) {
	message, refusal := h.readHTTP(w, r)
	if refusal == nil && media == mediaJSON {
		var err error
		if message, err = otlpwire.ReadJSON(message); err != nil {
			refusal = unwired(err)
		}
	}
	if refusal == nil {
		message, refusal = h.accept(message)
	}
	w.Header().Set("Content-Type", media)
	if media == mediaJSON {
		message = answerJSON(message, refusal)
	} else if refusal != nil {
		message = statusOf(refusal)
	}
	if refusal == nil {
		_, _ = w.Write(message)
		return
	}
	if refusal.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((refusal.RetryAfter+time.Second-1)/time.Second), 10))
	}
	w.WriteHeader(refusal.Status)
	_, _ = w.Write(message)
}

// answerJSON is the answer in JSON. An answer that cannot be read goes out as it is.
func answerJSON(message []byte, r *Refusal) []byte {
	if r != nil {
		b, _ := json.Marshal(map[string]any{"code": r.Code, "message": r.Message})
		return b
	}
	rejected, text, err := otlpwire.ReadResponse(message)
	switch {
	case err != nil:
		return message
	case rejected == 0 && text == "":
		return []byte("{}")
	}
	b, _ := json.Marshal(map[string]any{"partialSuccess": map[string]any{
		"rejectedSpans": strconv.FormatInt(rejected, 10), "errorMessage": text,
	}})
	return b
}

// readHTTP returns the body, decompressed.
func (h *Handler) readHTTP(w http.ResponseWriter, r *http.Request) ([]byte, *Refusal) {
	limit := h.maxBytes()
	var body io.Reader = http.MaxBytesReader(w, r.Body, limit)
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, unreadable(err, limit)
		}
		body = z
	default:
		return nil, &Refusal{Status: http.StatusUnsupportedMediaType, Code: Unimplemented,
			Message: fmt.Sprintf("content-encoding %.40q: this receiver takes gzip", encoding)}
	}
	b, err := readAll(body, limit)
	if err != nil {
		return nil, unreadable(err, limit)
	}
	return b, nil
}

var errTooLarge = errors.New("too large")

// readAll reads at most limit bytes into memory that grows as they come.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = errTooLarge
	}
	return b.Bytes(), err
}

func unreadable(err error, limit int64) *Refusal {
	var tooLarge *http.MaxBytesError
	if errors.Is(err, errTooLarge) || errors.As(err, &tooLarge) {
		return &Refusal{Status: http.StatusRequestEntityTooLarge, Code: ResourceExhausted,
			Message: fmt.Sprintf("request of more than %d bytes", limit)}
	}
	return &Refusal{Status: http.StatusBadRequest, Code: InvalidArgument, Message: "body cannot be read: " + err.Error()}
}

// accept gives request to the owner and returns either the message to answer with or
// a complete refusal.
func (h *Handler) accept(request []byte) (answer []byte, refusal *Refusal) {
	err := otlpwire.Scan(request, nil)
	if err == nil {
		err = h.Accept(request)
	}
	var (
		a    *Answer
		ref  *Refusal
		wire *otlpwire.WireError
	)
	switch {
	case err == nil:
		return nil, nil
	case errors.As(err, &a):
		return a.Message, nil
	case errors.As(err, &ref):
		full := *ref
		if full.Status == 0 {
			full.Status = http.StatusServiceUnavailable
		}
		if full.Code == 0 {
			full.Code = Unavailable
		}
		return nil, &full
	case errors.As(err, &wire):
		return nil, unwired(wire)
	}
	return nil, &Refusal{Status: http.StatusServiceUnavailable, Code: Unavailable, Message: err.Error()}
}

func unwired(err error) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Code: InvalidArgument, Message: "no ExportTraceServiceRequest: " + err.Error()}
}

func (h *Handler) maxBytes() int64 {
	if h.MaxBytes > 0 {
		return h.MaxBytes
	}
	return defaultMaxBytes
}

// statusOf is the google.rpc.Status of r, which is the body of an OTLP/HTTP failure
// and the details of a gRPC one.
func statusOf(r *Refusal) []byte {
	return otlpwire.AppendStatus(nil, otlpwire.Status{
		Code: int32(r.Code), Message: r.Message, RetryInfo: r.RetryAfter > 0, RetryDelay: r.RetryAfter,
	})
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.Error(w, text, status)
}
