package propagation

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

// Literal values of LightStep's tracers, and one made like them.
const (
	lightStepPython = "EigJEX+FpwZ/EmYR2gfYQbxCMskYASISCgdjaGVja2VkEgdiYWdnYWdl"
	lightStepA      = "CiUKEW90LXRyYWNlci10cmFjZWlkEhA0NjNhYzM1YzlmNjQxM2FkCiQKEG90LXRyYWNlci1zcGFuaWQSEGEyZmI0YTFkMWE5NmQzMTIKGQoRb3QtdHJhY2VyLXNhbXBsZWQSBHRydWU="
	lightStepC      = "CiUKEW90LXRyYWNlci10cmFjZWlkEhA0NjNhYzM1YzlmNjQxM2FkCiQKEG90LXRyYWNlci1zcGFuaWQSEGEyZmI0YTFkMWE5NmQzMTIKGQoRb3QtdHJhY2VyLXNhbXBsZWQSBHRydWUSFAmtE2SfXMM6RhES05YaHUr7ohgB"
	lightStepPlain  = "EhQJrRNkn1zDOkYREtOWGh1K+6IYAQ=="
	lightStepDeny   = "EhIJrRNkn1zDOkYREtOWGh1K+6I="

	otTrace = "463ac35c9f6413ad"
	otSpan  = "a2fb4a1d1a96d312"
)

// message returns a LightStep header value of fields that stand as bytes.
func message(fields ...string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Join(fields, "")))
}

// field returns a field with a length.
func field(number byte, content string) string {
	return string(binary.AppendUvarint([]byte{number<<3 | wireBytes}, uint64(len(content)))) + content
}

func entry(key, value string) string { return field(1, key) + field(2, value) }

// basic is a BasicTracerCarrier with the ids of lightStepPlain.
const basic = "\x09\xad\x13\x64\x9f\x5c\xc3\x3a\x46\x11\x12\xd3\x96\x1a\x1d\x4a\xfb\xa2"

func TestParseOTSpanContext(t *testing.T) {
	pairs := func(traceID, spanID string) string {
		return field(1, entry("ot-tracer-traceid", traceID)) + field(1, entry("ot-tracer-spanid", spanID)) + field(1, entry("ot-tracer-sampled", "false"))
	}
	many := ""
	for i := range 70 {
		many += field(4, entry(fmt.Sprintf("%02d", i), ""))
	}
	for _, tt := range []struct {
		name, in        string
		traceID, spanID string // 16 digits each; "" wants an error
		sampled         bool
		sampling        Sampling
		parent          string
		baggage         string // as fmt prints the map
		annotations     string
		rule            string
		offset          int
	}{
		{name: "O-L3 D, C++", in: lightStepD, traceID: "070607a611a8383a", spanID: "58c6ffee509f6836", sampled: true, baggage: "map[checked:baggage]"},
		{name: "O-L3 D, Python", in: lightStepPython, traceID: fmt.Sprintf("%016x", uint64(7355080808006516497)), spanID: fmt.Sprintf("%016x", uint64(14497723526785009626)), sampled: true, baggage: "map[checked:baggage]"},
		{name: "O-L3 D without baggage", in: lightStepPlain, traceID: otTrace, spanID: otSpan, sampled: true},
		{name: "O-L3 D, not sampled", in: lightStepDeny, traceID: otTrace, spanID: otSpan},
		{name: "O-L1 A", in: lightStepA, traceID: otTrace, spanID: otSpan, sampled: true},
		{name: "O-L2 C", in: lightStepC, traceID: otTrace, spanID: otSpan, sampled: true},
		{name: "O-L2 C, parts that disagree", in: message(pairs("aaaa", "bbbb"), field(2, basic)), traceID: otTrace, spanID: otSpan, sampled: true},
		{name: "O-L2 C, both ids zero", in: message(field(2, "\x18\x01"), pairs("aaaa", "bbbb"), field(1, entry("ot-baggage-k", "v"))),
			traceID: "000000000000aaaa", spanID: "000000000000bbbb", sampled: true, baggage: "map[k:v]"},
		{name: "O-L2 C, baggage of the part that counts", in: message(field(1, entry("ot-baggage-k", "text")), field(2, basic+field(4, entry("k", "basic")))),
			traceID: otTrace, spanID: otSpan, sampled: true, baggage: "map[k:basic]"},
		{name: "fields of other versions", in: message("\x18\x05", "\x21........", "\x2d....", field(6, "x"), field(2, basic+"\x28\x01"+field(9, "y")+"\x18\x01")),
			traceID: otTrace, spanID: otSpan, sampled: true},
		{name: "known numbers of another type", in: message("\x08\x01", field(2, basic+field(3, "x")+"\x20\x01")), traceID: otTrace, spanID: otSpan},
		{name: "parts of a message are merged", in: message(field(2, basic[:9]), field(2, basic[9:]+"\x18\x01")), traceID: otTrace, spanID: otSpan, sampled: true},
		{name: "empty keys are no baggage", in: message(field(2, basic+field(4, "")+field(4, entry("k", "")))), traceID: otTrace, spanID: otSpan, baggage: "map[k:]"},
		{name: "64 entries of baggage", in: message(field(2, basic+many)), traceID: otTrace, spanID: otSpan, baggage: "64"},

		{name: "O-L1 A without ot-tracer-sampled", in: message(field(1, entry("ot-tracer-traceid", "1")), field(1, entry("ot-tracer-spanid", "2"))), rule: ruleLightStepIDs},
		{name: "O-L1 A with an id of 17 digits", in: message(pairs("10000000000000000", "2")), rule: ruleLightStepIDs},
		{name: "one id zero", in: message(field(2, basic[:9])), rule: ruleLightStepIDs},
		{name: "nothing", in: message(field(9, "x")), rule: ruleLightStepIDs},
		{name: "length", in: "", rule: ruleOTLen},
		{name: "length of 1025", in: strings.Repeat("A", 1025), rule: ruleOTLen, offset: 1024},
		{name: "unpadded", in: lightStepD[:55], rule: ruleLightStep64, offset: 55},
		{name: "padding inside", in: "EhI=" + lightStepDeny, rule: ruleLightStep64, offset: 3},
		{name: "padding alone", in: "====", rule: ruleLightStep64},
		{name: "URL alphabet", in: strings.ReplaceAll(lightStepPlain, "+", "-"), rule: ruleLightStep64, offset: strings.IndexByte(lightStepPlain, '+')},
		{name: "line break", in: lightStepPlain[:4] + "\r\n\r\n" + lightStepPlain[4:], rule: ruleLightStep64, offset: 4},
		{name: "bits left over", in: strings.Replace(lightStepPlain, "Q==", "R==", 1), rule: ruleLightStep64, offset: 29},
		{name: "bits left over, one byte less", in: strings.Replace(lightStepDeny, "I=", "J=", 1), rule: ruleLightStep64, offset: 26},
		{name: "truncated message", in: message("\x12\x20" + basic), rule: ruleLightStepMsg, offset: 0},
		{name: "truncated id", in: message(field(2, basic[:17])), rule: ruleLightStepMsg},
		{name: "endless varint", in: message(strings.Repeat("\xff", 12)), rule: ruleLightStepMsg, offset: 16},
		{name: "group", in: message("\x13\x14"), rule: ruleLightStepMsg},
		{name: "field 0", in: message("\x02\x00"), rule: ruleLightStepMsg},
		{name: "baggage not UTF-8", in: message(field(2, basic+field(4, entry("k", "\xff")))), rule: ruleLightStepMsg},

		{name: "O-Z1", in: zipkinText, traceID: "25c6f38dd0600e79", spanID: "56707c7b3e1092af", sampling: Deferred, parent: "c49193ea42335d1c"},
		{name: "O-Z1 order of annotations", in: zipkinText + ";cs;cr;ss;sr", traceID: "25c6f38dd0600e79", spanID: "56707c7b3e1092af", sampling: Deferred, parent: "c49193ea42335d1c", annotations: "cr;cs;sr;ss"},
		{name: "O-Z2 annotations repeated", in: zipkinText + ";sr;sr;cs", traceID: "25c6f38dd0600e79", spanID: "56707c7b3e1092af", sampling: Deferred, parent: "c49193ea42335d1c", annotations: "cs;sr"},
		{name: "O-Z5 root", in: "48485a3953bb6124;48485a3953bb6124;0000000000000000;cs", traceID: "48485a3953bb6124", spanID: "48485a3953bb6124", sampling: Deferred, annotations: "cs"},
		{name: "O-Z2 upper case", in: strings.ToUpper(zipkinText), rule: ruleZipkinText, offset: 2},
		{name: "O-Z2 a comma", in: strings.Replace(zipkinText, "7b", "7,", 1), rule: ruleZipkinText, offset: 24},
		{name: "O-Z2 letters beyond f", in: strings.Replace(zipkinText, "5d1c", "5g1c", 1), rule: ruleZipkinText, offset: 47},
		{name: "O-Z2 annotation unknown", in: zipkinText + ";cs;xx", rule: ruleZipkinCodes, offset: 53},
		{name: "O-Z2 semicolon at the end", in: zipkinText + ";", rule: ruleZipkinCodes, offset: 50},
		{name: "O-Z2 annotation not separated", in: zipkinText + "cs", rule: ruleZipkinCodes, offset: 50},
		{name: "O-Z2 two ids", in: zipkinText[:33], rule: ruleZipkinText, offset: 33},
		{name: "O-Z2 short", in: "1;2;3", rule: ruleZipkinText, offset: 5},
		{name: "O-Z2 separator", in: strings.Replace(zipkinText, ";", ":", 1), rule: ruleZipkinText, offset: 16},
		{name: "O-Z4 zeros", in: "0000000000000000;0000000000000000;0000000000000000", rule: ruleZipkinText},
		{name: "O-Z6 a semicolon in base64", in: lightStepPlain + ";", rule: ruleZipkinText, offset: 0},
	} {
		p, err := ParseOTSpanContext(tt.in)
		wantFault(t, tt.name, err, "x-ot-span-context", tt.rule, tt.offset)
		if tt.rule != "" {
			if !reflect.DeepEqual(p, Parsed{}) {
				t.Errorf("%s: %+v beside an error", tt.name, p)
			}
			continue
		}
		flags := trace.TraceFlags(0)
		if tt.sampled {
			flags = trace.FlagsSampled
		}
		if want := remote(t, strings.Repeat("0", 16)+tt.traceID, tt.spanID, flags, ""); !p.SpanContext.Equal(want) {
			t.Errorf("%s: span context %v, want %v", tt.name, p.SpanContext, want)
		}
		if p.Sampling != tt.sampling || p.Annotations != tt.annotations {
			t.Errorf("%s: sampling %v, annotations %q, want %v, %q", tt.name, p.Sampling, p.Annotations, tt.sampling, tt.annotations)
		}
		if got := p.Parent.String(); got != tt.parent && (tt.parent != "" || p.Parent.IsValid()) {
			t.Errorf("%s: parent %s, want %q", tt.name, got, tt.parent)
		}
		switch got := fmt.Sprint(p.Baggage); {
		case tt.baggage == "64":
			if len(p.Baggage) != 64 {
				t.Errorf("%s: %d entries", tt.name, len(p.Baggage))
			}
		case tt.baggage == "" && p.Baggage != nil, tt.baggage != "" && got != tt.baggage:
			t.Errorf("%s: baggage %s, want %s", tt.name, got, tt.baggage)
		}
	}
}

func TestAppendOTSpanContext(t *testing.T) {
	for _, in := range []string{lightStepD, lightStepPython, lightStepPlain, lightStepDeny} {
		p, err := ParseOTSpanContext(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(AppendOTSpanContext(nil, p)); got != in {
			t.Errorf("%s goes out as %s", in, got)
		}
	}
	p := Parsed{SpanContext: remote(t, traceHex, spanHex, 1, ""), Baggage: map[string]string{"b": "2", "a": "1", "\xff": "x", "c": "\xff"}}
	back, err := ParseOTSpanContext(string(AppendOTSpanContext([]byte("x"), p)[1:]))
	want := Parsed{SpanContext: remote(t, strings.Repeat("0", 16)+traceHex[16:], spanHex, 1, ""), Baggage: map[string]string{"a": "1", "b": "2"}}
	if err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("O-L4: %+v, %v is read back, want %+v", back, err, want)
	}
	if got := AppendOTSpanContext(nil, Parsed{SpanContext: remote(t, traceHex[:16]+strings.Repeat("0", 16), spanHex, 1, "")}); got != nil {
		t.Errorf("a trace id whose lower half is zero is written as %s", got)
	}
	if got := AppendOTSpanContext(nil, Parsed{}); got != nil {
		t.Errorf("no span context is written as %s", got)
	}
	// What is too much is left out, the rest stays.
	for _, n := range []int{1, 100, 127, 128, 200, 680, 690, 700, 720, 730, 740, 5000} {
		p.Baggage = map[string]string{"a": "1", "b": strings.Repeat("v", n), "c": "3"}
		v := string(AppendOTSpanContext(nil, p))
		back, err := ParseOTSpanContext(v)
		if err != nil || len(v) > maxOTSpanContext || back.Baggage["a"] != "1" || back.Baggage["c"] != "3" || back.Baggage["b"] != "" && back.Baggage["b"] != p.Baggage["b"] {
			t.Errorf("baggage of %d bytes: %d written, %v read back, %v", n, len(v), back.Baggage, err)
		}
		if n <= 690 && back.Baggage["b"] == "" {
			t.Errorf("baggage of %d bytes is left out", n)
		}
	}
}

func TestAppendOTSpanContextText(t *testing.T) {
	for in, want := range map[string]string{
		zipkinText:                  zipkinText,
		zipkinText + ";cs;cr;ss":    zipkinText + ";cr;cs;ss", // O-Z1
		zipkinText + ";cs;cr;ss;sr": zipkinText + ";cr;cs;sr;ss",
		lightStepPlain:              otTrace + ";" + otSpan + ";0000000000000000",
	} {
		p, err := ParseOTSpanContext(in)
		if got := string(AppendOTSpanContextText(nil, p)); err != nil || got != want {
			t.Errorf("%s goes out as %s, want %s, %v", in, got, want, err)
		}
	}
	if got, want := string(AppendOTSpanContextText(nil, Parsed{Annotations: "nonsense;"})), "0000000000000000;0000000000000000;0000000000000000"; got != want {
		t.Errorf("O-Z4: %s, want %s", got, want)
	}
	p := Parsed{SpanContext: remote(t, traceHex, spanHex, 1, "")}
	if got, want := string(AppendOTSpanContextText(nil, p)), traceHex[16:]+";"+spanHex+";0000000000000000"; got != want {
		t.Errorf("O-L4: %s, want %s", got, want)
	}
}

func TestOTSpanContextAllocs(t *testing.T) {
	for _, v := range []string{lightStepPlain, lightStepA, lightStepC, zipkinText + ";cs"} {
		noAllocs(t, "ParseOTSpanContext("+v+")", func() {
			if _, err := ParseOTSpanContext(v); err != nil {
				t.Fatal(err)
			}
		})
	}
	p, _ := ParseOTSpanContext(lightStepPlain)
	var b [64]byte
	noAllocs(t, "AppendOTSpanContext", func() { AppendOTSpanContext(b[:0], p) })
	noAllocs(t, "AppendOTSpanContextText", func() { AppendOTSpanContextText(b[:0], p) })
}
