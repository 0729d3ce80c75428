package propagation

import (
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

func TestParseTraceparent(t *testing.T) {
	const (
		tr = "12345678901234567890123456789012"
		sp = "1234567890123456"
	)
	for _, tt := range []struct {
		name, in string
		flags    trace.TraceFlags
		rule     string // "" accepts
		offset   int
	}{
		{"sampled", "00-" + tr + "-" + sp + "-01", 1, "", 0},
		{"not sampled", "00-" + tr + "-" + sp + "-00", 0, "", 0},
		{"random flag kept", "00-" + tr + "-" + sp + "-03", 3, "", 0},
		{"random without sampled", "00-" + tr + "-" + sp + "-02", 2, "", 0},
		{"W-5 other flags are ignored", "00-" + tr + "-" + sp + "-ff", 3, "", 0},
		{"other flags alone", "00-" + tr + "-" + sp + "-f8", 0, "", 0},
		{"future version", "cc-" + tr + "-" + sp + "-01", 1, "", 0},
		{"future version with more", "cc-" + tr + "-" + sp + "-01-what-the-future-will-be-like", 1, "", 0},
		{"future version with an empty field", "01-" + tr + "-" + sp + "-01-", 1, "", 0},
		{"future version of 512 bytes", "01-" + tr + "-" + sp + "-01-" + strings.Repeat("x", 512-56), 1, "", 0},

		{"empty", "", 0, ruleTraceparentLen, 0},
		{"W-1 54 bytes", "00-" + tr + "-" + sp + "-0", 0, ruleTraceparentLen, 54},
		{"W-1 56 bytes in version 00", "00-" + tr + "-" + sp + "-01.", 0, ruleTraceparentLen, 55},
		{"version 00 with more", "00-" + tr + "-" + sp + "-01-what-the-future-will-be-like", 0, ruleTraceparentLen, 55},
		{"future version of 513 bytes", "01-" + tr + "-" + sp + "-01-" + strings.Repeat("x", 513-56), 0, ruleTraceparentLen, 512},
		{"future version, no dash after flags", "cc-" + tr + "-" + sp + "-01.what", 0, ruleTraceparentFlags, 55},
		{"W-4 version ff", "ff-" + tr + "-" + sp + "-01", 0, ruleTraceparentVersion, 0},
		{"version ff with more", "ff-" + tr + "-" + sp + "-01-x", 0, ruleTraceparentVersion, 0},
		{"version not hex", ".0-" + tr + "-" + sp + "-01", 0, ruleTraceparentVersion, 0},
		{"version not hex, second digit", "0.-" + tr + "-" + sp + "-01", 0, ruleTraceparentVersion, 1},
		{"version upper case", "CC-" + tr + "-" + sp + "-01", 0, ruleTraceparentVersion, 0},
		{"version of three digits", "000-" + tr + "-" + sp + "-1", 0, ruleTraceparentVersion, 2},
		{"version of one digit", "0-" + tr + "-" + sp + "-001", 0, ruleTraceparentVersion, 1},
		{"W-2 trace id upper case", "00-4BF92F3577B34DA6A3CE929D0E0E4736-" + sp + "-01", 0, ruleTraceparentTrace, 4},
		{"W-3 trace id zero", "00-" + strings.Repeat("0", 32) + "-" + sp + "-01", 0, ruleTraceparentTrace, 3},
		{"trace id not hex", "00-" + tr[:31] + ".-" + sp + "-01", 0, ruleTraceparentTrace, 34},
		{"trace id not ASCII", "00-" + tr[:30] + "é-" + sp + "-01", 0, ruleTraceparentTrace, 33},
		{"trace id short", "00-" + tr[:31] + "-" + sp + "-001", 0, ruleTraceparentTrace, 34},
		{"trace id long", "00-" + tr + "3-" + sp[1:] + "-01", 0, ruleTraceparentTrace, 35},
		{"W-3 parent id zero", "00-" + tr + "-0000000000000000-01", 0, ruleTraceparentParent, 36},
		{"parent id upper case", "00-" + tr + "-00F067AA0BA902B7-01", 0, ruleTraceparentParent, 38},
		{"parent id not hex", "00-" + tr + "-" + sp[:15] + ".-01", 0, ruleTraceparentParent, 51},
		{"parent id long", "00-" + tr + "-" + sp + "7-1", 0, ruleTraceparentParent, 52},
		{"flags not hex", "00-" + tr + "-" + sp + "-.0", 0, ruleTraceparentFlags, 53},
		{"flags upper case", "00-" + tr + "-" + sp + "-0A", 0, ruleTraceparentFlags, 54},
		{"W-6 two values joined", "00-" + tr + "-" + sp + "-01,00-" + tr + "-" + sp + "-01", 0, ruleTraceparentLen, 55},
		{"space in front", " 00-" + tr + "-" + sp + "-01", 0, ruleTraceparentVersion, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParseTraceparent(tt.in)
			wantFault(t, "ParseTraceparent("+tt.in+")", err, "traceparent", tt.rule, tt.offset)
			if tt.rule != "" {
				if p.SpanContext.IsValid() {
					t.Errorf("ParseTraceparent(%q) = %v beside an error", tt.in, p)
				}
				return
			}
			if want := remote(t, tr, sp, tt.flags, ""); !p.SpanContext.Equal(want) {
				t.Errorf("ParseTraceparent(%q) = %v, want %v", tt.in, p.SpanContext, want)
			}
			if p.Sampling != Unstated {
				t.Errorf("ParseTraceparent(%q).Sampling = %v, want unstated", tt.in, p.Sampling)
			}
		})
	}
}

// TestParseTraceparentEveryByte replaces each byte of a valid value by each other
// byte: only hex digits may change, and only to lower-case hex digits.
func TestParseTraceparentEveryByte(t *testing.T) {
	for i := range len(traceparent) {
		for c := range 256 {
			v := []byte(traceparent)
			v[i] = byte(c)
			hex := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
			dash := i == 2 || i == 35 || i == 52
			// Another version than 00 of this length is fine.
			want := dash && c == '-' || !dash && hex
			_, err := ParseTraceparent(string(v))
			if got := err == nil; got != want {
				t.Errorf("ParseTraceparent(%q) accepted = %v, want %v", v, got, want)
			}
		}
	}
}

func TestAppendTraceparent(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flags trace.TraceFlags
		want  string
	}{
		{"W-8 not sampled", 0, "-00"},
		{"W-8 sampled", 1, "-01"},
		{"random", 2, "-02"},
		{"both", 3, "-03"},
		{"other flags are zero", 0xff, "-03"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sc := remote(t, traceHex, spanHex, tt.flags, "")
			want := "x00-" + traceHex + "-" + spanHex + tt.want
			if got := string(AppendTraceparent([]byte("x"), sc)); got != want {
				t.Errorf("AppendTraceparent(x, %v) = %q, want %q", sc, got, want)
			}
		})
	}
	if got := AppendTraceparent(nil, trace.SpanContext{}); got != nil {
		t.Errorf("AppendTraceparent of no span context = %q, want nothing", got)
	}
}

func TestTraceparentNoAllocs(t *testing.T) {
	p, err := ParseTraceparent(traceparent)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, traceparentLen)
	noAllocs(t, "ParseTraceparent", func() { ParseTraceparent(traceparent) })
	noAllocs(t, "AppendTraceparent", func() { AppendTraceparent(buf, p.SpanContext) })
}
