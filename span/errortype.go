package span

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/meshtrace/meshtrace/internal/failure"
	"github.com/meshtrace/meshtrace/internal/semconv"
)

// maxErrorType bounds error types in bytes.
const maxErrorType = 128

// errorType returns the value of error.type for err: few values, the same from one
// version of a program to the next where it can be.
//
// A chain of wrapped errors is read from the outside. What counts is the first
// error that
//
//   - has a method ErrorType() string, whose answer is taken, or
//   - is a well-known value, which has its Go name: "context.DeadlineExceeded", "io.EOF", or
//   - has an exported type, "net.OpError" for *net.OpError; *url.Error only tells
//     that there was a URL, so it is passed over, or
//   - wraps nothing.
//
// So fmt.Errorf, errors.Join and other unexported wrappers give way to what they
// wrap; of several errors joined the first counts. A deadline or a cancellation
// anywhere in the chain counts before all but a method. A type without a name is
// "_OTHER".
func errorType(err error) (name string) {
	defer func() {
		if recover() != nil { // of a method ErrorType
			name = typeName(err)
		}
	}()
	for e := err; e != nil; e = unwrap(e) {
		if t, ok := e.(interface{ ErrorType() string }); ok {
			if name := t.ErrorType(); name != "" {
				return semconv.Cut(strings.ToValidUTF8(name, "\uFFFD"), maxErrorType)
			}
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "context.DeadlineExceeded"
	case errors.Is(err, context.Canceled):
		return "context.Canceled"
	}
	for {
		if name := wellKnown(err); name != "" {
			return name
		}
		next := unwrap(err)
		if _, isURL := err.(*url.Error); next == nil || (!isURL && exported(err)) {
			return typeName(err)
		}
		err = next
	}
}

// usable returns err, or a stand-in where err is a nil pointer in an interface: the
// slip of returning one must not become a panic in Unwrap, nor that of wrapping one.
func usable(err error) error {
	if v := reflect.ValueOf(err); v.Kind() == reflect.Pointer && v.IsNil() {
		return nilError(typeName(err))
	}
	return failure.Readable(err)
}

// nilError stands for a nil pointer of the type it names.
type nilError string

func (nilError) Error() string       { return "<nil>" }
func (e nilError) ErrorType() string { return string(e) }

// wellKnown names error values whose type says nothing.
func wellKnown(err error) string {
	switch err {
	case io.EOF:
		return "io.EOF"
	case io.ErrUnexpectedEOF:
		return "io.ErrUnexpectedEOF"
	case io.ErrClosedPipe:
		return "io.ErrClosedPipe"
	case net.ErrClosed:
		return "net.ErrClosed"
	case os.ErrDeadlineExceeded:
		return "os.ErrDeadlineExceeded"
	}
	return ""
}

// unwrap returns what err wraps, the first of several; nil when it wraps nothing.
func unwrap(err error) error {
	if m, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range m.Unwrap() {
			if e != nil {
				return e
			}
		}
		return nil
	}
	return errors.Unwrap(err)
}

func exported(err error) bool {
	first, _ := utf8.DecodeRuneInString(goType(err).Name())
	return unicode.IsUpper(first)
}

// goType returns the type of err behind its pointers.
func goType(err error) reflect.Type {
	t := reflect.TypeOf(err)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func typeName(err error) string {
	t := goType(err)
	if t.Name() == "" {
		return "_OTHER"
	}
	name, _, _ := strings.Cut(t.String(), "[") // type arguments can be long, and say little
	return semconv.Cut(name, maxErrorType)
}
