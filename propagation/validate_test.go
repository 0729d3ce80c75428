package propagation

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
)

func TestValidateTraceparent(t *testing.T) {
	const ids = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
	for _, tt := range []struct {
		v     string
		valid bool
	}{
		{"00-" + ids + "-01", true},
		{"00-" + ids + "-ff", true},
		{"01-" + ids + "-01-extra", true},
		{"cc-" + ids + "-01", true},
		{"00-" + ids + "-01-extra", false},
		{"01-" + ids + "-01extra", false},
		{"ff-" + ids + "-01", false},
		{"00-" + strings.ToUpper(ids) + "-01", false},
		{"", false},
		{"00-" + ids, false},
		{"00." + strings.ReplaceAll(ids, "-", ".") + ".01", false},
		{"01-" + ids + "-01-" + strings.Repeat("x", maxTraceparentLen), false},
	} {
		if err := ValidateTraceparent(tt.v); (err == nil) != tt.valid {
			t.Errorf("ValidateTraceparent(%.80q) = %v, want valid: %v", tt.v, err, tt.valid)
		}
	}
}

func list(n int, member string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ","+member, i)
	}
	return b.String()[1:]
}

func TestValidateTracestate(t *testing.T) {
	for _, tt := range []struct {
		lines  []string
		line   int // of the fault
		offset int
		rule   string // "": valid
	}{
		{nil, 0, 0, ""},
		{[]string{""}, 0, 0, ""},
		{[]string{"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"}, 0, 0, ""},
		{[]string{"a=1", "b=2"}, 0, 0, ""},
		{[]string{"a=1,, ,\tb=2\t"}, 0, 0, ""},
		{[]string{"key="}, 0, 0, ""},
		{[]string{"key= "}, 0, 0, ""},
		{[]string{"key=trailing "}, 0, 0, ""},
		{[]string{"key=hello world"}, 0, 0, ""},
		{[]string{"key= leading"}, 0, 0, ""},
		{[]string{"abcdefghijklmnopqrstuvwxyz0123456789_-*/=val"}, 0, 0, ""},
		{[]string{"019az_-*/@az019_-*/=val"}, 0, 0, ""},
		{[]string{strings.Repeat("a", 256) + "=" + strings.Repeat("v", 256)}, 0, 0, ""},
		{[]string{strings.Repeat("a", 241) + "@" + strings.Repeat("s", 14) + "=v"}, 0, 0, ""},
		{[]string{list(32, "k%d=v")}, 0, 0, ""},
		{[]string{list(33, "k%d=v")}, 0, len(list(32, "k%d=v")) + 1, ruleTracestateMembers},
		{[]string{strings.Repeat(",", 32)}, 0, 32, ruleTracestateMembers},
		{[]string{list(16, "k%d=v"), list(17, "l%d=v")}, 1, len(list(16, "l%d=v")) + 1, ruleTracestateMembers},
		{[]string{"0key=val"}, 0, 0, ruleValidTracestateKey},
		{[]string{"Key=val"}, 0, 0, ruleValidTracestateKey},
		{[]string{"kEy=val"}, 0, 1, ruleValidTracestateKey},
		{[]string{"=val"}, 0, 0, ruleValidTracestateKey},
		{[]string{"key =val"}, 0, 3, ruleValidTracestateKey},
		{[]string{"a=1,-bc@system=val"}, 0, 4, ruleValidTracestateKey},
		{[]string{"@system=val"}, 0, 0, ruleValidTracestateKey},
		{[]string{"tenant@=val"}, 0, 7, ruleValidTracestateKey},
		{[]string{"tenant@123=val"}, 0, 7, ruleValidTracestateKey},
		{[]string{"tenant@a@b=val"}, 0, 8, ruleValidTracestateKey},
		{[]string{strings.Repeat("a", 257) + "=v"}, 0, 256, ruleValidTracestateKey},
		{[]string{strings.Repeat("a", 242) + "@s=v"}, 0, 241, ruleValidTracestateKey},
		{[]string{"t@" + strings.Repeat("a", 15) + "=v"}, 0, 16, ruleValidTracestateKey},
		{[]string{"k=" + strings.Repeat("a", 257)}, 0, 258, ruleValidTracestateValue},
		{[]string{"k=v=v"}, 0, 3, ruleValidTracestateValue},
		{[]string{"k=\x01"}, 0, 2, ruleValidTracestateValue},
		{[]string{"k=é"}, 0, 2, ruleValidTracestateValue},
		{[]string{"k=v,v"}, 0, 4, ruleTracestateMember},
		{[]string{"rojo=a", "b=1,rojo=b"}, 1, 4, ruleValidTracestateOnce},
		{[]string{"tenant@system=a,tenant@system=b"}, 0, 16, ruleValidTracestateOnce},
		{[]string{strings.Repeat(" ", 8193)}, 0, 8192, ruleTracestateLen},
		{[]string{strings.Repeat(" ", 8192), "a=1"}, 1, 0, ruleTracestateLen},
	} {
		checkValidity(t, "tracestate", tt.lines, ValidateTracestate(tt.lines...), tt.line, tt.offset, tt.rule)
	}
}

func TestValidateBaggage(t *testing.T) {
	for _, tt := range []struct {
		lines  []string
		line   int
		offset int
		rule   string
	}{
		{nil, 0, 0, ""},
		{[]string{""}, 0, 0, ""},
		{[]string{"key1=val1,key2=val2"}, 0, 0, ""},
		{[]string{"key1=val1", "key2=val2"}, 0, 0, ""},
		{[]string{" key1 = val1 ,\tkey2 = val2 "}, 0, 0, ""},
		{[]string{"key1="}, 0, 0, ""},
		{[]string{"key1=val=1"}, 0, 0, ""},
		{[]string{"key1=100%25"}, 0, 0, ""},
		{[]string{"key1=val1;prop1"}, 0, 0, ""},
		{[]string{"key1=val1;prop1=pval1 ; prop2 = pval2;prop3="}, 0, 0, ""},
		{[]string{list(64, "k%d=v")}, 0, 0, ""},
		{[]string{"k=" + strings.Repeat("v", 8190)}, 0, 0, ""},
		{[]string{list(65, "k%d=v")}, 0, len(list(64, "k%d=v")) + 1, ruleBaggageMembers},
		{[]string{"k=" + strings.Repeat("v", 8191)}, 0, 8192, ruleBaggageLen},
		{[]string{"k=" + strings.Repeat("v", 8190), "a=1"}, 1, 0, ruleBaggageLen},
		{[]string{"key1=val1,,key2=val2"}, 0, 10, ruleValidBaggageMember},
		{[]string{"key1=val,"}, 0, 9, ruleValidBaggageMember},
		{[]string{"", "key=val"}, 0, 0, ruleValidBaggageMember},
		{[]string{"invalid"}, 0, 7, ruleBaggageMember},
		{[]string{"invalid;a=b"}, 0, 7, ruleBaggageMember},
		{[]string{"=v"}, 0, 0, ruleBaggageKey},
		{[]string{"key1=val1;"}, 0, 10, ruleBaggageKey},
		{[]string{"key1=val1;prop1;"}, 0, 16, ruleBaggageKey},
		{[]string{"key1=val1; =v"}, 0, 11, ruleBaggageKey},
		{[]string{"key @=val1"}, 0, 3, ruleBaggageKey},
		{[]string{"a=1", "key(=val"}, 1, 3, ruleBaggageKey},
		{[]string{"k=v;prop(=pv"}, 0, 8, ruleBaggageKey},
		{[]string{"key1=v al1"}, 0, 6, ruleValidBaggageValue},
		{[]string{`key1="v"`}, 0, 5, ruleValidBaggageValue},
		{[]string{"key1=val1;prop1=v al1"}, 0, 17, ruleValidBaggageValue},
		{[]string{"k=v;prop=pv\x01"}, 0, 11, ruleValidBaggageValue},
	} {
		checkValidity(t, "baggage", tt.lines, ValidateBaggage(tt.lines...), tt.line, tt.offset, tt.rule)
	}
}

func checkValidity(t *testing.T, header string, lines []string, err error, line, offset int, rule string) {
	t.Helper()
	call := fmt.Sprintf("%s %.80q", header, lines)
	if rule == "" {
		if err != nil {
			t.Errorf("%s: %v, want valid", call, err)
		}
		return
	}
	wantFault(t, call, err, header, rule, offset)
	if h := new(HeaderError); errors.As(err, &h) && !strings.HasPrefix(lines[line], h.Value[:min(16, len(h.Value))]) {
		t.Errorf("%s: error about %q, want line %d", call, h.Value, line)
	}
}

func TestValidateAllocs(t *testing.T) {
	state, bag := []string{list(16, "t@k%d=v"), list(16, "l%d=v")}, []string{list(64, "k%d=v;p=1")}
	noAllocs(t, "Validate…", func() {
		if ValidateTraceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") != nil || ValidateTracestate(state...) != nil || ValidateBaggage(bag...) != nil {
			t.Fatal("refused")
		}
	})
}

// FuzzValidate: what is valid is read, and read whole.
func FuzzValidate(f *testing.F) {
	f.Add("rojo=00f067aa0ba902b7,,t@s= ", "key1 = val1;prop, key2=%20")
	f.Add(",", ";=")
	f.Fuzz(func(t *testing.T, state, bag string) {
		if ValidateTracestate(state) == nil {
			ts, err := ParseTracestate(state)
			members := 0
			for m := range strings.SplitSeq(state, ",") {
				if m = strings.Trim(m, " \t"); m == "" || strings.HasSuffix(m, "=") {
					continue
				}
				members++
			}
			if strings.Contains(state+",", "=,") || strings.Contains(strings.NewReplacer(" ", "", "\t", "").Replace(state)+",", "=,") {
				return // a value without anything in it, which OpenTelemetry has no place for
			}
			if err != nil || ts.Len() != members {
				t.Errorf("ValidateTracestate(%q) accepts, ParseTracestate has %d of %d members and %v", state, ts.Len(), members, err)
			}
			if _, err := trace.ParseTraceState(ts.String()); err != nil {
				t.Errorf("OpenTelemetry refuses %q: %v", ts, err)
			}
		}
		if ValidateBaggage(bag) == nil {
			b, fault := parseBaggage([]string{bag})
			if fault.rule != "" && fault.rule != ruleBaggageValue && fault.rule != ruleBaggageLen && fault.rule != ruleBaggageProperty {
				t.Errorf("ValidateBaggage(%q) accepts, parseBaggage: %+v", bag, fault)
			}
			if _, err := baggage.Parse(b.String()); err != nil {
				t.Errorf("OpenTelemetry refuses %q: %v", b, err)
			}
		}
	})
}
