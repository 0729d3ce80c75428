package failure

import (
	"errors"
	"io"
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
