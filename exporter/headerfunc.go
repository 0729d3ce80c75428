package exporter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// headerAsker asks Config.HeaderFunc, one request at a time and at most once in askEvery.
type headerAsker struct {
	ask      func(context.Context) (map[string]string, error)
	panicked func(doing string, v any)
	turn     chan struct{} // holds one token while somebody asks

	at     time.Time // when it answered; under turn, as the rest
	header http.Header
	err    *SendError
}

const askEvery = time.Second

var errHeaderFuncPanic = errors.New("Config.HeaderFunc panicked")

// get returns the headers for a request now, which nobody may change.
func (a *headerAsker) get(ctx context.Context) (http.Header, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !a.at.IsZero() && time.Since(a.at) < askEvery {
		return a.result()
	}
	given, err := a.call(ctx)
	a.at = time.Now()
	if err != nil {
		a.header, a.err = nil, err
		return a.result()
	}
	header, wrong := checkHeaders(given)
	if wrong != nil {
		a.header, a.err = nil, headerFuncError(fmt.Errorf("Config.HeaderFunc gives a header that cannot be sent: %w", wrong))
		return a.result()
	}
	a.header, a.err = header, nil
	return a.result()
}

func (a *headerAsker) result() (http.Header, error) {
	if a.err != nil { // a nil *SendError must not become an error
		return nil, a.err
	}
	return a.header, nil
}

func (a *headerAsker) call(ctx context.Context) (header map[string]string, err *SendError) {
	defer func() {
		if v := recover(); v != nil {
			a.panicked("Config.HeaderFunc", v)
			err = headerFuncError(errHeaderFuncPanic)
		}
	}()
	header, failed := a.ask(ctx)
	if failed != nil {
		return nil, headerFuncError(fmt.Errorf("Config.HeaderFunc fails: %w", failed))
	}
	return header, nil
}

// headerFuncError is about a request that was not made. The spans wait for headers.
func headerFuncError(err error) *SendError {
	return &SendError{Retry: true, kind: kindHeaders, Err: err, Advice: "spans are kept until it gives headers"}
}
