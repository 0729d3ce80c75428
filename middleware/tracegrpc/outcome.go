package tracegrpc

import (
	"strconv"

	"google.golang.org/grpc/codes"
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
	err = failure.Readable(err)
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

// ended is the outcome of a call whose handler did not return: v is what it panicked
// with, nil for runtime.Goexit. No status was sent, so there is none.
func ended(v any) middleware.Outcome {
	return middleware.Outcome{Err: failure.Of(v)}
}
