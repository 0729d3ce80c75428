package otlpwire_test

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// num is a varint field.
func num(field byte, v int64) []byte { return binary.AppendUvarint([]byte{field << 3}, uint64(v)) }

func TestReadResponse(t *testing.T) {
	for _, c := range []struct {
		name     string
		b        []byte
		rejected int64
		message  string
	}{
		{"everything taken", nil, 0, ""},
		{"everything taken, said at length", msg(1), 0, ""},
		{"some rejected", msg(1, num(1, 10), text(2, "too old")), 10, "too old"},
		{"a warning", msg(1, text(2, "deprecated")), 0, "deprecated"},
		{"a negative count", msg(1, num(1, -5)), 0, ""},
		{"all the spans there are", msg(1, num(1, math.MaxInt64)), math.MaxInt64, ""},
		{"not UTF-8", msg(1, text(2, "a\xffb")), 0, "a\uFFFDb"},
		{"long", msg(1, text(2, strings.Repeat("x", 5000))), 0, strings.Repeat("x", 1024)},
		{"long, cut within a character", msg(1, text(2, "x"+strings.Repeat("é", 1000))), 0, "x" + strings.Repeat("é", 511) + "\uFFFD"},
		{"unknown fields", append(num(9, 1), msg(1, num(7, 3), num(1, 1))...), 1, ""},
		{"in two parts", append(msg(1, num(1, 2)), msg(1, text(2, "x"))...), 2, "x"},
	} {
		rejected, message, err := otlpwire.ReadResponse(c.b)
		if rejected != c.rejected || message != c.message || err != nil {
			t.Errorf("%s: ReadResponse = %d, %q, %v; want %d, %q", c.name, rejected, message, err, c.rejected, c.message)
		}
	}
	for name, b := range map[string][]byte{
		"HTML": []byte("<html>"), "cut off": {0x0a, 5, 8}, "text for a number": msg(1, text(1, "10")), "too long": make([]byte, 4<<20+1),
	} {
		var wire *otlpwire.WireError
		if rejected, message, err := otlpwire.ReadResponse(b); !errors.As(err, &wire) || rejected != 0 || message != "" {
			t.Errorf("%s: ReadResponse = %d, %q, %v; want a *WireError", name, rejected, message, err)
		}
	}
}

func TestAppendResponse(t *testing.T) {
	if b := otlpwire.AppendResponse(nil, 0, ""); len(b) != 0 {
		t.Errorf("AppendResponse of full success = %x, want nothing", b)
	}
	b := otlpwire.AppendResponse([]byte{}, 7, "why")
	if rejected, message, err := otlpwire.ReadResponse(b); rejected != 7 || message != "why" || err != nil {
		t.Errorf("ReadResponse(AppendResponse(7, why)) = %d, %q, %v", rejected, message, err)
	}
}

func TestReadStatus(t *testing.T) {
	detail := func(url string, value ...[]byte) []byte { return msg(3, text(1, url), msg(2, value...)) }
	const retry = "type.googleapis.com/google.rpc.RetryInfo"
	join := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want otlpwire.Status
	}{
		{"empty", nil, otlpwire.Status{}},
		{"code and message", join(num(1, 14), text(2, "down")), otlpwire.Status{Code: 14, Message: "down"}},
		{"delay", join(num(1, 8), detail(retry, msg(1, num(1, 2), num(2, 5e8)))), otlpwire.Status{Code: 8, RetryInfo: true, RetryDelay: 2500 * time.Millisecond}},
		{"RetryInfo without a delay", detail(retry), otlpwire.Status{RetryInfo: true}},
		{"another host", detail("example.com/google.rpc.RetryInfo", msg(1, num(1, 1))), otlpwire.Status{RetryInfo: true, RetryDelay: time.Second}},
		{"other details", join(detail("type.googleapis.com/google.rpc.DebugInfo", text(2, "\xff")), detail(retry, msg(1, num(1, 1))), detail("", []byte{0xff})),
			otlpwire.Status{RetryInfo: true, RetryDelay: time.Second}},
		{"negative", detail(retry, msg(1, num(1, -1))), otlpwire.Status{RetryInfo: true}},
		{"negative nanoseconds", detail(retry, msg(1, num(2, -1))), otlpwire.Status{RetryInfo: true}},
		{"longest", detail(retry, msg(1, num(1, math.MaxInt64), num(2, 999999999))), otlpwire.Status{RetryInfo: true, RetryDelay: math.MaxInt64}},
		{"as long as a time.Duration", detail(retry, msg(1, num(1, math.MaxInt64/int64(time.Second)), num(2, 999999999))), otlpwire.Status{RetryInfo: true, RetryDelay: math.MaxInt64}},
		{"code out of range", num(1, -2), otlpwire.Status{Code: -2}},
		{"message not UTF-8", text(2, "a\xff"), otlpwire.Status{Message: "a\uFFFD"}},
	} {
		got, err := otlpwire.ReadStatus(c.b)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: ReadStatus: %v (-want +got)\n%s", c.name, err, diff)
		}
	}
	for name, b := range map[string][]byte{
		"text": []byte("upstream connect error"), "cut off": {0x12, 5, 'a'}, "delay cut off": detail(retry, []byte{0x0a, 9}),
		"delay as a number": detail(retry, num(1, 3)), "code as text": text(1, "14"), "too long": make([]byte, 64<<10+1),
	} {
		var wire *otlpwire.WireError
		if got, err := otlpwire.ReadStatus(b); !errors.As(err, &wire) || got != (otlpwire.Status{}) {
			t.Errorf("%s: ReadStatus = %+v, %v; want a *WireError", name, got, err)
		}
	}
}

func TestAppendStatus(t *testing.T) {
	for _, s := range []otlpwire.Status{
		{}, {Code: 14, Message: "down"}, {Code: 8, RetryInfo: true}, {Code: 8, RetryInfo: true, RetryDelay: 1500 * time.Millisecond},
	} {
		if got, err := otlpwire.ReadStatus(otlpwire.AppendStatus(nil, s)); got != s || err != nil {
			t.Errorf("ReadStatus(AppendStatus(%+v)) = %+v, %v", s, got, err)
		}
	}
}

func FuzzReadResponse(f *testing.F) {
	f.Add([]byte{})
	f.Add(msg(1, num(1, 10), text(2, "too old")))
	f.Add(msg(1, text(2, "a\xff")))
	f.Fuzz(func(t *testing.T, b []byte) {
		rejected, message, err := otlpwire.ReadResponse(b)
		if rejected < 0 || len(message) > 1<<12 || !utf8.ValidString(message) {
			t.Errorf("ReadResponse = %d, %q", rejected, message)
		}
		if err != nil && (rejected != 0 || message != "") {
			t.Errorf("ReadResponse = %d, %q with %v", rejected, message, err)
		}
	})
}

func FuzzReadStatus(f *testing.F) {
	f.Add([]byte{})
	f.Add(otlpwire.AppendStatus(nil, otlpwire.Status{Code: 8, Message: "slowly", RetryInfo: true, RetryDelay: time.Second + 5}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := otlpwire.ReadStatus(b)
		if s.RetryDelay < 0 || !utf8.ValidString(s.Message) || !s.RetryInfo && s.RetryDelay != 0 {
			t.Errorf("ReadStatus = %+v", s)
		}
		if err != nil && s != (otlpwire.Status{}) {
			t.Errorf("ReadStatus = %+v with %v", s, err)
		}
		if err == nil {
			if again, err := otlpwire.ReadStatus(otlpwire.AppendStatus(nil, s)); err != nil || len(s.Message) < 1<<10 && again != s {
				t.Errorf("%+v comes back as %+v, %v", s, again, err)
			}
		}
	})
}
