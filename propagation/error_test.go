package propagation

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestHeaderError(t *testing.T) {
	_, err := ParseTraceparent("\x1b[31m\r\nré" + strings.Repeat("x", 1<<20))
	var he *HeaderError
	if !errors.As(err, &he) {
		t.Fatalf("error %v, want a HeaderError", err)
	}
	s := err.Error()
	if len(s) > 512 {
		t.Errorf("Error() has %d bytes", len(s))
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			t.Fatalf("Error() = %q holds byte %q", s, s[i])
		}
	}
	if want := `propagation: traceparent "\x1b[31m\r\nr\u00e9xx`; !strings.HasPrefix(s, want) {
		t.Errorf("Error() = %.60s…, want %s…", s, want)
	}
	if want := fmt.Sprintf("at byte 512 breaks %s", ruleTraceparentLen); !strings.HasSuffix(s, want) {
		t.Errorf("Error() = …%s, want …%s", s[len(s)-60:], want)
	}
}
