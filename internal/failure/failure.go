package failure

import (
	"errors"
	"fmt"
	"strings"
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

// Readable returns err, or a stand-in with its text where reading what it wraps panics:
// of a nil pointer that somebody wrapped, such as fmt.Errorf("%w", (*url.Error)(nil)).
func Readable(err error) (readable error) {
	if err == nil {
		return nil
	}
	defer func() {
		if recover() != nil {
			// Sprint survives a panic of Error.
			readable = &unreadable{text: fmt.Sprint(err), typ: strings.TrimLeft(fmt.Sprintf("%T", err), "*")}
		}
	}()
	errors.Is(err, ErrGoexit) // walks through all of it
	return err
}

type unreadable struct{ text, typ string }

func (e *unreadable) Error() string { return e.text }

// ErrorType is error.type: the type of the error from outside.
func (e *unreadable) ErrorType() string { return e.typ }
