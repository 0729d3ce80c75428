package otlpgrpc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/internal/otlpwire"
	"github.com/meshtrace/meshtrace/span"
)

const (
	method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

	// timeout is OTLP's default. The Exporter bounds none but its own transports, and
	// a call on a dead connection would hold one of its places for ever.
	timeout = 10 * time.Second

	// patience is how long a request waits for a connection that is being made again.
	// One that takes longer goes on without it and is there for the next request.
	patience = 100 * time.Millisecond

	maxAnswer  = 4 << 20 // bytes read of an answer
	maxMessage = 160     // characters kept of a collector's words
)

var errAnswerSize = errors.New("the collector's answer is larger than 4 MiB")

// New returns a Sender that calls the trace service of OTLP over cc. It may be used
// concurrently, keeps no bytes of a request after Send returned, and its Close does
// nothing: the caller keeps cc and closes it, after the Exporter was shut down.
//
// The error of Send is a *exporter.SendError, as OTLP has it in "Failures" of OTLP/gRPC:
// CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE and DATA_LOSS may be
// repeated, RESOURCE_EXHAUSTED where the collector says when (google.rpc.RetryInfo), all
// others not. Code is "" where there was no answer. An accepted request of which the
// collector refused spans, or had something to say, has the code
// exporter.CodePartialSuccess. New panics when cc is nil.
func New(cc grpc.ClientConnInterface) exporter.Sender {
	if cc == nil {
		panic("otlpgrpc: the connection is nil: give the one that grpc.NewClient returned")
	}
	s := &sender{cc: cc}
	s.conn, _ = cc.(connection)
	return s
}

// connection is the part of a *grpc.ClientConn that says how it is.
type connection interface {
	GetState() connectivity.State
	WaitForStateChange(ctx context.Context, from connectivity.State) bool
	ResetConnectBackoff()
}

type sender struct {
	cc   grpc.ClientConnInterface
	conn connection // nil where cc is none
}

func (s *sender) Send(ctx context.Context, request []byte, _ int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s.reconnect(ctx)

	// Headers or trailers are there if the collector, or somebody on the way to it,
	// answered; an UNAVAILABLE without them is gRPC's own word.
	var header, trailer metadata.MD
	var a answer
	err := s.cc.Invoke(ctx, method, &message{request}, &a,
		grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(maxAnswer), grpc.Header(&header), grpc.Trailer(&trailer))
	switch {
	case err != nil:
		if status.Code(err) == codes.ResourceExhausted && len(header) > 0 && len(trailer) == 0 {
			// gRPC stopped reading before the trailer. Its words for that are a server's for a
			// request that is too large, which smaller ones would follow.
			return 0, &exporter.SendError{Code: "RESOURCE_EXHAUSTED", Err: errAnswerSize}
		}
		return 0, refused(err, len(header)+len(trailer) > 0)
	case a.err != nil:
		return 0, remark(fmt.Errorf("the collector took the spans, but its answer could not be read: %w", a.err))
	case a.rejected == 0 && a.message == "":
		return 0, nil
	case a.rejected == 0:
		return 0, remark(fmt.Errorf("the collector took the spans and remarks: %.*q", maxMessage, a.message))
	}
	return int(min(a.rejected, 1<<31-1)), remark(fmt.Errorf("the collector rejected %d of a request's spans: %.*q", a.rejected, maxMessage, a.message))
}

func (s *sender) Close() error { return nil }

// reconnect makes a connection that failed try again, rather than wait for its turn.
func (s *sender) reconnect(ctx context.Context) {
	if s.conn == nil || s.conn.GetState() != connectivity.TransientFailure {
		return
	}
	s.conn.ResetConnectBackoff()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.conn.WaitForStateChange(ctx, connectivity.TransientFailure)
}

func remark(err error) *exporter.SendError {
	return &exporter.SendError{Code: exporter.CodePartialSuccess, Err: err}
}

// refused makes an error of a call's status.
func refused(err error, answered bool) *exporter.SendError {
	st, ok := status.FromError(err)
	if !ok { // an interceptor's own, or a connection that is not grpc-go's
		return &exporter.SendError{Retry: true, Err: err}
	}
	e := &exporter.SendError{Code: span.GRPCCode(uint32(st.Code()))}
	if uint32(st.Code()) > uint32(codes.Unauthenticated) {
		e.Code = "UNKNOWN" // gRPC, "Status codes": what is not defined is UNKNOWN
	}

	var details otlpwire.Status
	if len(st.Proto().GetDetails()) > 0 {
		if b, err := proto.Marshal(st.Proto()); err == nil {
			details, _ = otlpwire.ReadStatus(b)
		}
	}
	switch st.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		e.Retry = true
	case codes.ResourceExhausted:
		e.Retry = details.RetryInfo
	case codes.Unimplemented:
		e.Advice = "it has no OTLP trace service: enable its OTLP receiver, or dial another address"
	case codes.Unauthenticated, codes.PermissionDenied:
		e.Advice = "check the credentials of the connection given to otlpgrpc.New"
	}
	if !answered && e.Retry {
		e.Code = ""
		e.Err = unreachable(st.Message())
		e.Advice = advice(st.Message())
		return e
	}
	if e.Retry {
		e.After = details.RetryDelay
	}
	e.Err = fmt.Errorf("the collector answers %s: %.*q", span.GRPCCode(uint32(st.Code())), maxMessage, st.Message())
	return e
}

// unreachable keeps the end of gRPC's words, where it says what the network said.
func unreachable(words string) error {
	if _, cause, ok := strings.Cut(words, "connection error: desc = "); ok {
		words = cause
		if plain, err := strconv.Unquote(cause); err == nil {
			words = plain
		}
	}
	return fmt.Errorf("no answer: %.*q", maxMessage, words)
}

// advice knows how grpc-go says that the other side speaks something else.
func advice(words string) string {
	switch {
	case strings.Contains(words, "looked like an HTTP/1.1 header"):
		return "the address of the connection speaks HTTP/1: dial the collector's gRPC port (4317)"
	case strings.Contains(words, "first record does not look like a TLS handshake"):
		return "the address of the connection speaks plaintext: dial it with credentials of google.golang.org/grpc/credentials/insecure"
	case strings.Contains(words, "certificate"):
		return "check the transport credentials of the connection given to otlpgrpc.New"
	}
	return ""
}

// message is a request that is encoded already.
type message struct{ bytes []byte }

// answer is what a collector said of a request that it took.
type answer struct {
	rejected int64
	message  string
	err      error // the answer is none
}

// codec hands bytes on as they are. Its name makes the content type that of protobuf,
// which they are.
type codec struct{}

var _ encoding.CodecV2 = codec{}

func (codec) Name() string { return "proto" }

// Marshal copies: a call that was cancelled returns while gRPC may still be writing
// its request, and the Exporter uses the bytes again.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*message)
	if !ok {
		return nil, fmt.Errorf("otlpgrpc: an interceptor of the connection made the request a %T", v)
	}
	return mem.BufferSlice{mem.Copy(m.bytes, mem.DefaultBufferPool())}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	a, ok := v.(*answer)
	if !ok {
		return fmt.Errorf("otlpgrpc: an interceptor of the connection made the answer a %T", v)
	}
	// Never the error of the call, which would say that the spans were not taken.
	a.rejected, a.message, a.err = otlpwire.ReadResponse(data.Materialize())
	return nil
}
