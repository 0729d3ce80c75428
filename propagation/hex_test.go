package propagation

import (
	"encoding/hex"
	"strconv"
	"strings"
	"testing"
)

// TestHex puts every byte into every place of 16 digits, for eight of them are read at
// once.
func TestHex(t *testing.T) {
	const all = "0123456789abcdef"
	for i := range 16 {
		for c := range 256 {
			s := all[:i] + string([]byte{byte(c)}) + all[i+1:]
			n, err := strconv.ParseUint(s, 16, 64)
			if err != nil { // the zero value of a wrong digit would do for one
				n = 0
			}
			for _, class := range []byte{anyHex, lowerHex} {
				var id [8]byte
				want := err == nil && (class == anyHex || s == strings.ToLower(s))
				if got := decodeHex(&id, s, class); got != want {
					t.Errorf("decodeHex(%q, %#x) = %v, want %v", s, class, got, want)
				}
				if want && hex.EncodeToString(id[:]) != strings.ToLower(s) {
					t.Errorf("decodeHex(%q, %#x) is %x", s, class, id)
				}
			}
			if err == nil {
				if got := string(appendHex(nil, mustHex(t, s))); got != strings.ToLower(s) {
					t.Errorf("appendHex of %q is %q", s, got)
				}
				if got, ok := hexNumber("000" + s); !ok || got != n {
					t.Errorf("hexNumber(000%s) = %x, %v", s, got, ok)
				}
			}
		}
	}
	var id [8]byte
	if decodeHex(&id, all[:15], anyHex) {
		t.Error("15 digits are read as 16")
	}
}

func mustHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodePadded(t *testing.T) {
	for _, s := range []string{"1", "fF", "123", "0123456789ABCDEF", "10123456789abcdef", traceHex, strings.Repeat("0", 32)} {
		var id [16]byte
		at, ok := decodePadded(id[:], s)
		if want := strings.Repeat("0", 32-len(s)) + strings.ToLower(s); !ok || at != 0 || hex.EncodeToString(id[:]) != want {
			t.Errorf("decodePadded(%q) = %x, %d, %v, want %s", s, id, at, ok, want)
		}
	}
	for s, want := range map[string]int{"": 0, "x": 0, "12g": 2, "0123456789abcdeg": 15, traceHex + "0": 32, traceHex[:31] + "-": 31} {
		var id [16]byte
		if at, ok := decodePadded(id[:], s); ok || at != want {
			t.Errorf("decodePadded(%q) = %d, %v, want %d, false", s, at, ok, want)
		}
	}
}

// TestSendable puts every byte into every place, for eight are looked at at once.
func TestSendable(t *testing.T) {
	const s = "0123456789\xff \x80"
	for i := range len(s) {
		for c := range 256 {
			v := s[:i] + string([]byte{byte(c)}) + s[i+1:]
			if got, want := sendable(v), c >= ' ' && c != 0x7f; got != want {
				t.Errorf("sendable(%q) = %v, want %v", v, got, want)
			}
		}
	}
}
