package failure

import (
	"errors"
	"fmt"
)

// ErrGoexit is the error of a handler that ended its goroutine.
var ErrGoexit = errors.New("the handler ended its goroutine")

// Of returns the error of a handler that did not return, of what recover gave: nil is
// ErrGoexit. The error of a panic wraps the value if that is an error.
func Of(recovered any) error {
	if recovered == nil {
		return ErrGoexit
	}
	return &panicked{recovered}
}

// IsPanic reports whether Of made err of a panic.
func IsPanic(err error) bool {
	_, ok := err.(*panicked)
	return ok
}

type panicked struct{ value any }

func (e *panicked) Error() string { return fmt.Sprintf("panic: %.200s", fmt.Sprint(e.value)) }

func (e *panicked) Unwrap() error {
	err, _ := e.value.(error)
	return err
}

// ErrorType is error.type of a panic: "panic", or "" where the value is an error,
// which has a type of its own.
func (e *panicked) ErrorType() string {
	if e.Unwrap() != nil {
		return ""
	}
	return "panic"
}
