package exporter

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sender carries requests to a collector. The Exporter has two of its own; another
// one in Config replaces them, for a transport that the program has already.
//
// Its methods are called from goroutines of the Exporter. One that panics is
// contained: the spans count as dropped and export goes on.
type Sender interface {
	// Send sends an OTLP ExportTraceServiceRequest, in protobuf, that holds so many
	// spans. It is called concurrently, must return soon once ctx ends, and must not
	// keep request, which is used again.
	//
	// A nil error means that the request was accepted but for the rejected spans. A
	// *SendError says whether the spans may be sent again; with
	// CodePartialSuccess as its Code it is a remark on a request that was
	// accepted. Any other error counts as one after which they may.
	Send(ctx context.Context, request []byte, spans int) (rejected int, err error)

	// Close is called once, after the last Send or when Shutdown's time is up.
	Close() error
}

// prober is a Sender that can say what is wrong before there is anything to send.
type prober interface {
	// probe contacts the collector without sending it a request.
	probe(ctx context.Context) *SendError
}

// outcome is what became of one request.
type outcome struct {
	rejected uint64
	err      *SendError // nil: accepted without a remark
	panicked bool
}

func (o outcome) accepted() bool {
	return !o.panicked && (o.err == nil || o.err.Code == CodePartialSuccess)
}

// send calls s and brings whatever it does into one form.
func send(ctx context.Context, s Sender, request []byte, spans int) (o outcome) {
	defer func() {
		if v := recover(); v != nil {
			err := fmt.Errorf("the Sender panicked: %s", oneLine(fmt.Sprint(v), 200))
			o = outcome{panicked: true, err: &SendError{Code: DropPanic, Err: err}}
		}
	}()
	rejected, err := s.Send(ctx, request, spans)
	o.rejected = uint64(min(max(rejected, 0), spans))
	if err == nil {
		return o
	}
	var se *SendError
	if !errors.As(err, &se) || se == nil {
		se = &SendError{Retry: true, Err: err}
	}
	if !se.Retry && se.Code == "" && se.Status != 0 {
		known := *se
		known.Code = fmt.Sprint(se.Status)
		se = &known
	}
	if se.After > longestTold && se.Advice == "" {
		capped := *se
		capped.Advice = fmt.Sprintf("it asks for no request for %v, of which %v are obeyed", se.After.Round(time.Second), longestTold)
		se = &capped
	}
	o.err = se
	return o
}
