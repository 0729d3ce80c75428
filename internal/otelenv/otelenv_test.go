package otelenv

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// with returns a Reader in whose environment V is value.
func with(value string) *Reader {
	return New(func(name string) string {
		if name == "V" {
			return value
		}
		return ""
	})
}

func problems(r *Reader) []string {
	var s []string
	for _, p := range r.Problems() {
		s = append(s, p.Error())
	}
	return s
}

// check compares a reading and the problem it left, "" for none.
func check(t *testing.T, call, value string, r *Reader, got any, ok bool, want any, wantOK bool, problem string) {
	t.Helper()
	if got != want || ok != wantOK {
		t.Errorf("%s of %.40q = %v, %v, want %v, %v", call, value, got, ok, want, wantOK)
	}
	var list []string
	if problem != "" {
		list = []string{"V=" + problem}
	}
	if d := cmp.Diff(list, problems(r)); d != "" {
		t.Errorf("%s of %.40q: problems (-want +got):\n%s", call, value, d)
	}
}

func TestString(t *testing.T) {
	long := strings.Repeat("x", MaxLen)
	for _, c := range []struct {
		value, want string
		ok          bool
		problem     string
	}{
		{"", "", false, ""},
		{" \t ", "", false, ""},
		{" a b ", "a b", true, ""},
		{long, long, true, ""},
		{long + "x", "", false, `"` + long[:80] + `…" counts as unset: allowed is at most 65536 bytes`},
	} {
		r := with(c.value)
		got, ok := r.String("V")
		check(t, "String", c.value, r, got, ok, c.want, c.ok, c.problem)
	}
}

func TestBool(t *testing.T) {
	for _, c := range []struct {
		value    string
		want, ok bool
		problem  string
	}{
		{"", false, false, ""},
		{"true", true, true, ""},
		{"TRUE", true, true, ""},
		{" True ", true, true, ""},
		{"false", false, true, ""},
		{"False", false, true, ""},
		{"1", false, false, `"1" counts as unset: allowed is true or false`},
		{"yes", false, false, `"yes" counts as unset: allowed is true or false`},
		{"true\x00", false, false, `"true\x00" counts as unset: allowed is true or false`},
	} {
		r := with(c.value)
		got, ok := r.Bool("V")
		check(t, "Bool", c.value, r, got, ok, c.want, c.ok, c.problem)
	}
}

func TestInt(t *testing.T) {
	const allowed = " counts as unset: allowed is a whole number from 1 to 512"
	for _, c := range []struct {
		value   string
		want    int64
		ok      bool
		problem string
	}{
		{"", 0, false, ""},
		{"1", 1, true, ""},
		{" 512 ", 512, true, ""},
		{"0", 0, false, `"0"` + allowed},
		{"513", 0, false, `"513"` + allowed},
		{"-1", 0, false, `"-1"` + allowed},
		{"1.5", 0, false, `"1.5"` + allowed},
		{"1e2", 0, false, `"1e2"` + allowed},
		{"0x10", 0, false, `"0x10"` + allowed},
		{"1_0", 0, false, `"1_0"` + allowed},
		{"ten", 0, false, `"ten"` + allowed},
		{"99999999999999999999", 0, false, `"99999999999999999999"` + allowed},
	} {
		r := with(c.value)
		got, ok := r.Int("V", 1, 512)
		check(t, "Int", c.value, r, got, ok, c.want, c.ok, c.problem)
	}
}

func TestMillis(t *testing.T) {
	for _, c := range []struct {
		value    string
		min, max time.Duration
		want     time.Duration
		ok       bool
		problem  string
	}{
		{"", 0, time.Hour, 0, false, ""},
		{"0", 0, time.Hour, 0, true, ""},
		{"5000", 0, time.Hour, 5 * time.Second, true, ""},
		{"3600000", 0, time.Hour, time.Hour, true, ""},
		{"3600001", 0, time.Hour, 0, false, `"3600001" counts as unset: allowed is a whole number from 0 to 3600000`},
		{"-1", 0, time.Hour, 0, false, `"-1" counts as unset: allowed is a whole number from 0 to 3600000`},
		{"5s", 0, time.Hour, 0, false, `"5s" counts as unset: allowed is a whole number from 0 to 3600000`},
		{"9223372036854", 0, math.MaxInt64, 9223372036854 * time.Millisecond, true, ""}, // no overflow at the end of the range
	} {
		r := with(c.value)
		got, ok := r.Millis("V", c.min, c.max)
		check(t, "Millis", c.value, r, got, ok, c.want, c.ok, c.problem)
	}
}

func TestEnum(t *testing.T) {
	for _, c := range []struct {
		value, want string
		ok          bool
		problem     string
	}{
		{"", "", false, ""},
		{"grpc", "grpc", true, ""},
		{" GRPC ", "grpc", true, ""},
		{"http/protobuf", "http/protobuf", true, ""},
		{"grpc,http/protobuf", "", false, `"grpc,http/protobuf" counts as unset: allowed is grpc, http/protobuf`},
		{"smoke", "", false, `"smoke" counts as unset: allowed is grpc, http/protobuf`},
	} {
		r := with(c.value)
		got, ok := r.Enum("V", "grpc", "http/protobuf")
		check(t, "Enum", c.value, r, got, ok, c.want, c.ok, c.problem)
	}
}

func TestFirst(t *testing.T) {
	env := map[string]string{"B": " b ", "C": "c", "EMPTY": ""}
	r := New(func(n string) string { return env[n] })
	if v, name, ok := r.First("A", "EMPTY", "B", "C"); v != "b" || name != "B" || !ok {
		t.Errorf("First = %q, %q, %v, want b, B, true", v, name, ok)
	}
	if v, name, ok := r.First("A", "EMPTY"); v != "" || name != "" || ok {
		t.Errorf("First = %q, %q, %v, want none", v, name, ok)
	}
}

func TestNewReadsTheEnvironment(t *testing.T) {
	t.Setenv("OTEL_MESHTRACE_TEST", " set ")
	if v, ok := New(nil).String("OTEL_MESHTRACE_TEST"); v != "set" || !ok {
		t.Errorf("String = %q, %v, want set, true", v, ok)
	}
}

func TestProblemsAreInOrder(t *testing.T) {
	r := New(func(string) string { return "bad" })
	r.Bool("A")
	r.Int("B", 0, 1)
	r.Reject("C", "v", "w")
	want := []Problem{
		{"A", "bad", "true or false"},
		{"B", "bad", "a whole number from 0 to 1"},
		{"C", "v", "w"},
	}
	if d := cmp.Diff(want, r.Problems()); d != "" {
		t.Errorf("Problems (-want +got):\n%s", d)
	}
}

func TestHeadersAreNotKept(t *testing.T) {
	secret := "authorization=Bearer%20" + strings.Repeat("s3cret", MaxLen)
	r := New(func(string) string { return secret })
	if _, ok := r.String("OTEL_EXPORTER_OTLP_TRACES_HEADERS"); ok {
		t.Fatal("String of a value that is too long: true")
	}
	r.Reject("OTEL_EXPORTER_OTLP_HEADERS", secret, "key=value")
	for _, p := range r.Problems() {
		if strings.Contains(p.Value, "Bearer") || strings.Contains(p.Error(), "Bearer") {
			t.Errorf("%s: the problem shows the value: %.80q", p.Name, p.Error())
		}
	}
}

func TestProblemText(t *testing.T) {
	for _, v := range []string{"", "a\nb", strings.Repeat("ä", 100), "x" + strings.Repeat("ä", 100), strings.Repeat("\xff", 100), strings.Repeat("\x80", 100)} {
		msg := Problem{"N", v, "all"}.Error()
		if len(msg) > 500 || strings.ContainsAny(msg, "\n\r") || !utf8.ValidString(msg) || strings.Contains(msg, `\xc3`) {
			t.Errorf("Problem of %q: %q", v, msg)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Fuzz(func(t *testing.T, value string) {
		r := with(value)
		set := 0
		if v, ok := r.String("V"); ok {
			set++
			if v == "" || v != strings.TrimSpace(v) || len(v) > MaxLen {
				t.Fatalf("String = %q", v)
			}
		}
		if _, ok := r.Bool("V"); ok {
			set++
		}
		if n, ok := r.Int("V", -5, 5); ok {
			set++
			if n < -5 || n > 5 {
				t.Fatalf("Int = %d", n)
			}
		}
		if d, ok := r.Millis("V", 0, time.Hour); ok {
			set++
			if d < 0 || d > time.Hour {
				t.Fatalf("Millis = %v", d)
			}
		}
		if e, ok := r.Enum("V", "a", "b"); ok {
			set++
			if e != "a" && e != "b" {
				t.Fatalf("Enum = %q", e)
			}
		}
		// Each reading is an answer or a problem, or the variable is not set.
		if n := set + len(r.Problems()); n != 5 && !(n == 0 && strings.TrimSpace(value) == "") {
			t.Fatalf("%d answers and %d problems of 5 readings", set, len(r.Problems()))
		}
		for _, p := range r.Problems() {
			if msg := p.Error(); strings.ContainsAny(msg, "\r\n\x00") || len(msg) > 500 {
				t.Fatalf("Error() = %q", msg)
			}
		}
	})
}
