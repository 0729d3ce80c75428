package failure

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	if err := Of(nil); err != ErrGoexit {
		t.Errorf("Of(nil) = %v, want %v", err, ErrGoexit)
	}
	if err := Of(io.EOF); !errors.Is(err, io.EOF) || !IsPanic(err) || err.(*panicked).ErrorType() != "" {
		t.Errorf("Of(io.EOF) = %v, want it to wrap the value", err)
	}
	err := Of("boom" + strings.Repeat("x", 1000))
	if err.(*panicked).ErrorType() != "panic" || !strings.HasPrefix(err.Error(), "panic: boomxxx") || len(err.Error()) > 300 {
		t.Errorf("Of(string) = %q, want a bounded text", err)
	}
	if IsPanic(io.EOF) || IsPanic(ErrGoexit) {
		t.Error("IsPanic of another error = true")
	}
}

type isPanics struct{}

func (isPanics) Error() string { panic("broken too") }
func (isPanics) Is(error) bool { panic("broken") }

func TestReadable(t *testing.T) {
	whole := fmt.Errorf("x: %w", io.EOF)
	if got := Readable(whole); got != whole {
		t.Errorf("Readable(%v) = %v, want it as it is", whole, got)
	}
	if got := Readable(nil); got != nil {
		t.Errorf("Readable(nil) = %v", got)
	}
	for _, tt := range []struct {
		err       error
		text, typ string
	}{
		{fmt.Errorf("asking: %w", (*url.Error)(nil)), "asking: <nil>", "fmt.wrapError"},
		{errors.Join(io.EOF, fmt.Errorf("%w", (*url.Error)(nil))), "EOF\n<nil>", "errors.joinError"},
		{(*url.Error)(nil), "<nil>", "url.Error"},
		{isPanics{}, "{%!v(PANIC=Error method: broken too)}", "failure.isPanics"},
	} {
		got, ok := Readable(tt.err).(*unreadable)
		if !ok || got.typ != tt.typ || got.ErrorType() != tt.typ || errors.Is(got, io.EOF) {
			t.Errorf("Readable(%T) = %#v, want a stand-in of type %s", tt.err, got, tt.typ)
		} else if got.Error() != tt.text && tt.typ != "failure.isPanics" || !strings.Contains(got.Error(), "PANIC") && tt.typ == "failure.isPanics" {
			t.Errorf("Readable(%T) says %q, want %q", tt.err, got.Error(), tt.text)
		}
	}
}
