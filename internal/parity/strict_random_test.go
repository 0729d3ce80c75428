package parity_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/meshtrace/meshtrace/propagation"
)

// The trace headers as ENVOY's rules say them, in regular expressions: a second reading
// that shares nothing with the parsers.
var (
	modelTraceparent = regexp.MustCompile(`^[0-9a-fA-F]{2}-([0-9a-fA-F]{32})-([0-9a-fA-F]{16})-[0-9a-fA-F]([0-9a-fA-F])$`) // W-1, W-2
	modelB3          = regexp.MustCompile(`^(?:(.{16})|(.{16})(.{16}))-(.{16})(?:-([01d])(?:-(.{16}))?)?$`)                // B-7
	modelNumber      = regexp.MustCompile(`^(?:0[xX])?0*([0-9a-fA-F]{1,16})$`)                                             // B-8, B-10
)

// number reads a hex number of 64 bits as 16 digits.
func number(s string) (string, bool) {
	m := modelNumber.FindStringSubmatch(s)
	if m == nil {
		return "", false
	}
	return strings.Repeat("0", 16-len(m[1])) + strings.ToLower(m[1]), true
}

// reading is what headers come to: null, root, or ids with the parent and the flag.
type reading struct{ result, trace, span, parent, sampled string }

const zeros = "0000000000000000"

// modelOf reads headers as the Zipkin tracer does, or with w3c alone as the
// OpenTelemetry tracer; dual is B-15.
func modelOf(h http.Header, zipkin, w3c bool) reading {
	first := func(name string) (string, bool) {
		if len(h[name]) == 0 {
			return "", false
		}
		return h[name][0], true
	}
	null := reading{result: "null_span"}
	root := reading{result: "root", sampled: "undecided"}
	sampled := "undecided"
	if zipkin {
		if v, ok := first("B3"); ok { // B-6
			switch v {
			case "0":
				return reading{result: "root", sampled: "false"}
			case "1", "d":
				return reading{result: "root", sampled: "true"}
			}
			m := modelB3.FindStringSubmatch(v)
			if m == nil {
				return null
			}
			high, low := zeros, m[1]
			okHigh := true
			if low == "" {
				high, okHigh = number(m[2])
				low = m[3]
			}
			low, okLow := number(low)
			span, okSpan := number(m[4])
			parent, okParent := zeros, true
			if m[6] != "" {
				parent, okParent = number(m[6])
			}
			if !okHigh || !okLow || !okSpan || !okParent {
				return null
			}
			return reading{"context", high + low, span, parent, map[string]string{"": "undecided", "0": "false", "1": "true", "d": "true"}[m[5]]}
		}
		if v, ok := first("X-B3-Sampled"); ok {
			sampled = fmt.Sprint(v == "1" || v == "true") // B-2
		}
		trace, okTrace := first("X-B3-Traceid")
		span, okSpan := first("X-B3-Spanid")
		if okTrace && okSpan { // B-8
			high, low, ok := zeros, "", true
			if len(trace) == 32 {
				high, ok = number(trace[:16])
				trace = trace[16:]
			}
			low, okLow := number(trace)
			id, okID := number(span)
			parent, okParent := zeros, true
			if v, _ := first("X-B3-Parentspanid"); v != "" {
				parent, okParent = number(v)
			}
			if !ok || !okLow || !okID || !okParent {
				return null
			}
			return reading{"context", high + low, id, parent, sampled}
		}
	}
	if v, ok := first("Traceparent"); ok && w3c {
		m := modelTraceparent.FindStringSubmatch(v)
		switch {
		case m != nil && strings.Trim(m[1], "0") != "" && strings.Trim(m[2], "0") != "": // W-3
			flag := strings.ContainsAny(m[3], "13579bdfBDF") // W-5
			return reading{"context", strings.ToLower(m[1]), strings.ToLower(m[2]), zeros, fmt.Sprint(flag)}
		case !zipkin:
			return null // W-6
		} // B-15
	}
	root.sampled = sampled // B-4
	return root
}

// TestStrictRandom holds Strict against that reading, on headers that are nearly right.
func TestStrictRandom(t *testing.T) {
	rounds := 100_000
	if testing.Short() {
		rounds = 10_000
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	b3 := []propagation.Format{propagation.B3, propagation.B3Multi}
	tracers := []struct {
		name        string
		zipkin, w3c bool
		formats     []propagation.Format
	}{
		{"OpenTelemetry", false, true, []propagation.Format{propagation.TraceContext}},
		{"Zipkin", true, false, b3},
		{"both", true, true, append(slices.Clone(b3), propagation.TraceContext)},
	}
	results, differences := map[string]int{}, 0
	for range rounds {
		h := nearlyRight(r)
		for _, tracer := range tracers {
			p, err := propagation.New(propagation.Config{Strict: true, Extract: tracer.formats})
			if err != nil {
				t.Fatal(err)
			}
			x := p.Read(otelprop.HeaderCarrier(h))
			want := modelOf(h, tracer.zipkin, tracer.w3c)
			if want.result == "context" && (strings.Trim(want.trace, "0") == "" || want.span == zeros) {
				// No SpanContext holds ids of zeros: a new trace, with the same state (B-8).
				want = reading{result: "root", sampled: want.sampled}
			}
			got := reading{result: resultOf(x), sampled: tri(sampledOf(x))}
			if got.result == "context" {
				got.trace, got.span, got.parent = x.SpanContext.TraceID().String(), x.SpanContext.SpanID().String(), x.Parent.String()
			}
			if got.result == "null_span" {
				got.sampled = ""
			}
			results[want.result]++
			if got != want {
				if differences++; differences <= 10 {
					t.Errorf("%s reads %q\nas   %+v\nwant %+v", tracer.name, h, got, want)
				}
			}
		}
	}
	fmt.Printf("strict reading of random headers: seed %d, %d rounds, %d differences; %v\n", seed, rounds, differences, results)
	for _, result := range []string{"context", "root", "null_span"} {
		if results[result] < rounds/10 {
			t.Errorf("%d of %d readings are %s: too few to compare", results[result], 3*rounds, result)
		}
	}
}

// nearlyRight returns trace headers of which some have a fault.
func nearlyRight(r *rand.Rand) http.Header {
	hex := func(n int) string {
		if r.IntN(25) == 0 {
			return strings.Repeat("0", n)
		}
		digits := "0123456789abcdef"
		if r.IntN(8) == 0 {
			digits = "0123456789ABCDEF"
		}
		b := make([]byte, n)
		for i := range b {
			b[i] = digits[r.IntN(16)]
		}
		return string(b)
	}
	spoil := func(s string) string {
		switch r.IntN(14) {
		case 0:
			at := r.IntN(len(s) + 1)
			return s[:at] + pick(r, "-", "x", "0", "g", "+", " ", "!") + s[at:]
		case 1:
			if s != "" {
				at := r.IntN(len(s))
				return s[:at] + s[at+1:]
			}
		case 2:
			if s != "" {
				at := r.IntN(len(s))
				return s[:at] + pick(r, "-", "x", "X", "0", "g", "+") + s[at+1:]
			}
		case 3:
			return pick(r, "", "0x", "+", "-") + s[:r.IntN(len(s)+1)]
		}
		return s
	}
	state := func() string { return pick(r, "0", "1", "d", "c", "true", "") }
	h := make(http.Header)
	if r.IntN(3) == 0 {
		v := hex(16*(1+r.IntN(2))) + "-" + hex(16)
		if r.IntN(4) > 0 {
			v += "-" + state()
			if r.IntN(2) == 0 {
				v += "-" + hex(16)
			}
		}
		if r.IntN(6) == 0 {
			v = state()
		}
		h["B3"] = []string{spoil(v)}
	}
	if r.IntN(2) == 0 {
		h["X-B3-Traceid"] = []string{spoil(hex(pick(r, 16, 32, 1, 17, 15, 33)))}
	}
	if r.IntN(2) == 0 {
		h["X-B3-Spanid"] = []string{spoil(hex(pick(r, 16, 16, 3, 17)))}
	}
	if r.IntN(3) == 0 {
		h["X-B3-Parentspanid"] = []string{spoil(hex(16))}
	}
	if r.IntN(2) == 0 {
		h["X-B3-Sampled"] = []string{pick(r, "1", "0", "true", "TRUE", "d", "", "2")}
	}
	if r.IntN(4) == 0 {
		h["X-B3-Flags"] = []string{"1"}
	}
	if r.IntN(2) == 0 {
		h["Traceparent"] = []string{spoil(hex(2) + "-" + hex(32) + "-" + hex(16) + "-" + hex(2))}
	}
	return h
}
