package tracegrpc

import (
	"maps"
	"strconv"
	"sync"

	otelprop "go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshtrace/meshtrace/internal/failure"
	"github.com/meshtrace/meshtrace/middleware"
)

// outcome returns how a call ended that returned err, read as gRPC reads it: an
// error that carries no status is that of its context, else UNKNOWN.
func outcome(err error) middleware.Outcome {
	if err == nil {
		return middleware.Outcome{GRPCStatus: "0"}
	}
	st := statusOf(err)
	o := middleware.Outcome{GRPCStatus: strconv.FormatUint(uint64(st.Code()), 10)}
	if st.Message() != "" {
		o.Err = &statusError{message: st.Message(), err: err}
	}
	return o
}

func statusOf(err error) *status.Status {
	if st, ok := status.FromError(err); ok {
		return st
	}
	return status.FromContextError(err)
}

func isUnimplemented(err error) bool {
	return err != nil && statusOf(err).Code() == codes.Unimplemented
}

// statusError is an error of gRPC whose text is the message alone, since the code
// stands in an attribute of its own.
type statusError struct {
	message string
	err     error
}

func (e *statusError) Error() string { return e.message }
func (e *statusError) Unwrap() error { return e.err }

// response is the metadata of a response.
type response struct {
	mu              sync.Mutex // of a server's handler, which may use several goroutines
	header, trailer metadata.MD
}

// carrier returns both as one, with the header's values where both have a key; nil
// where r is.
func (r *response) carrier() otelprop.TextMapCarrier {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	both := make(incoming, len(r.header)+len(r.trailer))
	maps.Copy(both, r.trailer)
	maps.Copy(both, r.header)
	return both
}

// ended is the outcome of a call whose handler did not return: v is what it panicked
// with, nil for runtime.Goexit. No status was sent, so there is none.
func ended(v any) middleware.Outcome {
	return middleware.Outcome{Err: failure.Of(v)}
}
