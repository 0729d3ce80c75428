package difftest

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/contrib/propagators/jaeger"
	"go.opentelemetry.io/contrib/propagators/ot"
	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/propagation"
)

// shortID returns a hex id, often without the zeros in front.
func shortID(r *rand.Rand, n int) string {
	id := hexID(r, n)
	switch r.IntN(6) {
	case 0:
		return id[r.IntN(n):]
	case 1:
		return "0" + id
	}
	return id
}

func generateOTTrace(r *rand.Rand) http.Header {
	h := http.Header{}
	set := func(name, value string) {
		if often(r) {
			h[name] = []string{spoil(r, value)}
		}
	}
	set("Ot-Tracer-Traceid", shortID(r, pick(r, 16, 16, 32)))
	set("Ot-Tracer-Spanid", shortID(r, 16))
	set("Ot-Tracer-Sampled", pick(r, "true", "false", "1", "0", "True", "FALSE", "", "d"))
	plain := r.IntN(4) == 0 // values that both read alike
	for i := range pick(r, 0, 0, 1, 2, 3, 70) {
		key := "Ot-Baggage-" + pick(r, "A", "B", "User-Id", "K"+strconv.Itoa(r.IntN(999)))
		if i > 3 {
			key = "Ot-Baggage-K" + strconv.Itoa(r.IntN(9999))
		}
		if i == 0 && seldom(r) {
			key = "Ot-Baggage-"
		}
		value := pick(r, "1", "", "a b", "Am%C3%A9lie", "50%", "%zz", "x,y;z", "é", "a+b", `"q"`, "%ff", strings.Repeat("v", r.IntN(300)))
		if seldom(r) {
			value = pick(r, "\xff", "a\xffb", strings.Repeat("v", 8100+r.IntN(200)), strings.Repeat(" ", 2700+r.IntN(100)))
		}
		if plain {
			value = "v"
		}
		h[http.CanonicalHeaderKey(key)] = []string{value}
	}
	return h
}

// plainHex reports whether s is n digits at most, of either case.
func plainHex(s string, n int) bool {
	return s != "" && len(s) <= n && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// padded rewrites a hex id of a header to n digits in lower case.
func padded(h http.Header, name string, n int) bool {
	v := h.Get(name)
	if !plainHex(v, n) {
		return false
	}
	want := strings.ToLower(strings.Repeat("0", n-len(v)) + v)
	h[name] = []string{want}
	return want != v && !(n == 32 && len(v) == 16 && strings.ToLower(v) == v)
}

// TestOTTraceExtract compares with contrib's ot propagator.
func TestOTTraceExtract(t *testing.T) {
	const asIs = "basictracer and LightStep write baggage values as they are; OpenTelemetry's reads them as W3C Baggage has it"
	const alone = "Baggage, mutating: an offending list-member may be removed alone; OpenTelemetry's drops all baggage"
	// entries edits the baggage of h, in the order of its keys.
	entries := func(h http.Header, edit func(key, value string) (string, bool)) bool {
		changed := false
		var names []string
		for name := range h {
			if strings.HasPrefix(name, "Ot-Baggage-") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			v, ok := edit(strings.TrimPrefix(name, "Ot-Baggage-"), h[name][0])
			switch {
			case !ok:
				delete(h, name)
				changed = true
			case v != h[name][0]:
				h[name] = []string{v}
				changed = true
			}
		}
		return changed
	}
	differences := []difference{
		{"ids without the zeros in front, and in upper case, are read", "P-1: basictracer writes hex without padding", func(h http.Header) bool {
			a := padded(h, "Ot-Tracer-Traceid", 32)
			return padded(h, "Ot-Tracer-Spanid", 16) || a
		}},
		{"a key that is empty is skipped", alone, func(h http.Header) bool {
			return entries(h, func(key, v string) (string, bool) { return v, key != "" })
		}},
		{"64 entries count", "Baggage, limits: 64 list-members; of headers, which have no order, the first by key", func(h http.Header) bool {
			n := 0
			return entries(h, func(_, v string) (string, bool) { n++; return v, n <= 64 })
		}},
		{"8,192 bytes are looked at", "Baggage, limits: 8,192 bytes", func(h http.Header) bool {
			size, full := 0, false
			return entries(h, func(key, v string) (string, bool) {
				size += len(key) + len(v)
				full = full || size > 8192
				return v, !full
			})
		}},
		{"values are read as they are, and decoded where they are percent-encoded", asIs, func(h http.Header) bool {
			return entries(h, func(_, v string) (string, bool) {
				plain, err := url.PathUnescape(v)
				if err != nil {
					plain = v
				}
				if err == nil && strings.Contains(v, "%") {
					plain = strings.ToValidUTF8(plain, "\uFFFD") // Baggage, value: what is not UTF-8 is replaced
				}
				if !utf8.ValidString(plain) {
					return v, true
				}
				m, err := baggage.NewMemberRaw("k", plain)
				if err != nil {
					return v, true
				}
				return strings.TrimPrefix(m.String(), "k="), true
			})
		}},
		{"a value that is not UTF-8 is skipped", alone, func(h http.Header) bool {
			return entries(h, func(_, v string) (string, bool) { return v, utf8.ValidString(v) })
		}},
		{"8,192 bytes are sent on", "Baggage, limits: 8,192 bytes", func(h http.Header) bool {
			size, full := -1, false
			return entries(h, func(key, v string) (string, bool) {
				size += 1 + len(key) + 1 + len(v)
				full = full || size > 8192
				return v, !full
			})
		}},
	}
	p := newPropagator(t, propagation.OTTrace)
	compare(t, differences, generateOTTrace,
		func(h http.Header) string {
			x := p.Read(otelprop.HeaderCarrier(h))
			return describe(x.SpanContext) + "\n" + describeBaggage(x.Baggage)
		},
		func(h http.Header) string {
			ctx := ot.OT{}.Extract(context.Background(), otelprop.HeaderCarrier(h))
			return describe(trace.SpanContextFromContext(ctx)) + "\n" + describeBaggage(baggage.FromContext(ctx))
		})
}

func generateJaeger(r *rand.Rand) http.Header {
	parent := pick(r, "0", "0", shortID(r, 16), "", "x")
	flags := pick(r, "0", "1", "1", "2", "3", "03", "0B", "f", "", "001", "-1", "+1", "g")
	v := spoil(r, shortID(r, pick(r, 16, 32))+":"+shortID(r, 16)+":"+parent+":"+flags)
	switch {
	case r.IntN(4) == 0:
		v = strings.ReplaceAll(v, ":", pick(r, "%3A", "%3a"))
	case seldom(r):
		v += pick(r, ":", "%", "%3", strings.Repeat(":", 70), strings.Repeat("0", 70))
	case seldom(r):
		v = strings.Replace(v, ":", strings.Repeat(":"+hexID(r, 16), 2)+":", 1)
	}
	return http.Header{"Uber-Trace-Id": {v}}
}

// TestJaegerExtract compares with contrib's jaeger propagator, its debug state by what
// it writes.
func TestJaegerExtract(t *testing.T) {
	const name = "Uber-Trace-Id"
	parts := func(h http.Header) []string {
		if p := strings.Split(h.Get(name), ":"); len(p) == 4 {
			return p
		}
		return nil
	}
	differences := []difference{
		{"the percent-encoded form is read", "P-2: Jaeger's clients encode the value in HTTP headers", func(h http.Header) bool {
			v, err := url.PathUnescape(h.Get(name))
			if err != nil || len(h.Get(name)) > 207 {
				return false
			}
			changed := v != h.Get(name)
			h[name] = []string{v}
			return changed
		}},
		{"69 bytes at most", "Jaeger, uber-trace-id: 32, 16, 16 and 2 digits; a bound of meshtrace", func(h http.Header) bool {
			if len(h.Get(name)) <= 69 {
				return false
			}
			delete(h, name)
			return true
		}},
		{"hex is read in upper case", "Jaeger, trace-id: base16; OpenTelemetry's asks for lower case", func(h http.Header) bool {
			p := parts(h)
			if p == nil || !plainHex(p[0], 32) || !plainHex(p[1], 16) {
				return false
			}
			v := strings.ToLower(p[0]) + ":" + strings.ToLower(p[1]) + ":" + p[2] + ":" + p[3]
			changed := v != h.Get(name)
			h[name] = []string{v}
			return changed
		}},
		{"flags are one or two hex digits", `Jaeger, flags: "one byte bitmap, as one or two hex digits"`, func(h http.Header) bool {
			p := parts(h)
			if p == nil || plainHex(p[3], 2) {
				return false
			}
			delete(h, name)
			return true
		}},
	}
	p := newPropagator(t, propagation.Jaeger)
	written := func(p otelprop.TextMapPropagator, h http.Header) string {
		ctx := p.Extract(context.Background(), otelprop.HeaderCarrier(h))
		out := http.Header{}
		p.Inject(ctx, otelprop.HeaderCarrier(out))
		return describe(trace.SpanContextFromContext(ctx)) + " " + out.Get(name)
	}
	compare(t, differences, generateJaeger,
		func(h http.Header) string { return written(p, h) },
		func(h http.Header) string { return written(jaeger.Jaeger{}, h) })
}

// TestLegacyInject compares what is written for random span contexts, and by ot for
// baggage that is plain ASCII without percent signs, which ot writes as it is.
func TestLegacyInject(t *testing.T) {
	r := rand.New(rand.NewPCG(max(*propagationSeed, 1), 2))
	for _, tt := range []struct {
		name   string
		ours   *propagation.Propagator
		theirs otelprop.TextMapPropagator
	}{
		{"ottrace", newPropagator(t, propagation.OTTrace), ot.OT{}},
		{"jaeger", newPropagator(t, propagation.Jaeger), jaeger.Jaeger{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range *propagationSets / 10 {
				ctx := otelprop.TraceContext{}.Extract(context.Background(), otelprop.HeaderCarrier(generateTraceContext(r)))
				if tt.name == "ottrace" {
					var members []baggage.Member
					for range r.IntN(4) {
						m, err := baggage.NewMemberRaw(pick(r, "a", "B", "user-id"), pick(r, "", "1", "a b", "x,y;z", `"q"`))
						if err != nil {
							t.Fatal(err)
						}
						members = append(members, m)
					}
					b, err := baggage.New(members...)
					if err != nil {
						t.Fatal(err)
					}
					ctx = baggage.ContextWithBaggage(ctx, b)
				}
				got, want := http.Header{}, http.Header{}
				tt.ours.Inject(ctx, otelprop.HeaderCarrier(got))
				tt.theirs.Inject(ctx, otelprop.HeaderCarrier(want))
				if want.Get("Ot-Tracer-Traceid") == strings.Repeat("0", 16) {
					want = http.Header{} // half an id of zeros, which nobody reads
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Fatalf("Inject of %s (-theirs +ours):\n%s", describe(trace.SpanContextFromContext(ctx)), d)
				}
			}
		})
	}
}
