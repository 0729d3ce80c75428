package difftest

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/propagation"
)

var (
	propagationSets = flag.Int("propagation.sets", usualSets(), "sets of headers that each comparison of propagators generates")
	propagationSeed = flag.Uint64("propagation.seed", 1, "seed of the generated headers; 0 takes a random one")
)

// usualSets is a million with MESHTRACE_LONG=1 in the environment.
func usualSets() int {
	if os.Getenv("MESHTRACE_LONG") == "1" {
		return 1000000
	}
	return 20000
}

// difference is one way in which package propagation departs from the reference, and
// the clause that makes it. repair rewrites the headers so that the reference, given
// these, does what meshtrace does with the original; it reports whether it did.
type difference struct {
	name, clause string
	repair       func(http.Header) bool
}

// compare generates sets of headers and holds that ours of each is theirs of the same
// set with every difference repaired. So where nothing is to be repaired the two agree,
// and where something is, they differ in nothing else. Each difference must be seen.
func compare(t *testing.T, differences []difference, generate func(*rand.Rand) http.Header, ours, theirs func(http.Header) string) {
	t.Helper()
	seed := *propagationSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%d sets of headers from seed %d: -propagation.sets=%[1]d -propagation.seed=%[2]d", *propagationSets, seed)
	r := rand.New(rand.NewPCG(seed, 0))
	agreed, found := 0, 0
	seen := make([]int, len(differences))
	for n := range *propagationSets {
		h := generate(r)
		fixed := h.Clone()
		asIs := theirs(h)
		want := asIs
		var last string // of the repairs that were made
		for i, d := range differences {
			if !d.repair(fixed) {
				continue
			}
			last = d.name
			if now := theirs(fixed); now != want {
				want = now
				seen[i]++
			}
		}
		got := ours(h)
		if got != want {
			t.Errorf("set %d, %q (last repair: %q):\n%s", n, h, last, cmp.Diff(want, got))
			if found++; found == 5 {
				t.Fatal("and so on")
			}
		}
		if got == asIs {
			agreed++
		}
	}
	t.Logf("agreement on %d of %d sets as they are", agreed, *propagationSets)
	for i, d := range differences {
		t.Logf("%6d sets: %s. %s", seen[i], d.name, d.clause)
		if seen[i] == 0 && *propagationSets >= 20000 {
			t.Errorf("no set shows the difference %q", d.name)
		}
	}
}

// describe writes a span context and its tracestate in one line.
func describe(sc trace.SpanContext) string {
	if !sc.IsValid() {
		return "none"
	}
	return fmt.Sprintf("%s-%s-%s remote=%v [%s]", sc.TraceID(), sc.SpanID(), sc.TraceFlags(), sc.IsRemote(), sc.TraceState())
}

func newPropagator(t testing.TB, formats ...propagation.Format) *propagation.Propagator {
	t.Helper()
	p, err := propagation.New(propagation.Config{Extract: formats, Inject: formats, NoRequestID: true})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Generators. They start from what is valid and spoil it a little.

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func often(r *rand.Rand) bool  { return r.IntN(10) < 8 }
func seldom(r *rand.Rand) bool { return r.IntN(30) == 0 }

const digits = "0123456789abcdef"

// hexID returns n digits, seldom zero, upper case or with another byte in it.
func hexID(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = digits[r.IntN(16)]
	}
	switch {
	case seldom(r):
		return strings.Repeat("0", n)
	case seldom(r):
		return strings.ToUpper(string(b))
	case seldom(r):
		b[r.IntN(n)] = byte(r.IntN(256))
	case n == 32 && seldom(r):
		copy(b, "0000000000000000")
	}
	return string(b)
}

// spoil seldom changes, removes or adds a byte.
func spoil(r *rand.Rand, s string) string {
	if s == "" || !seldom(r) {
		return s
	}
	i := r.IntN(len(s))
	c := pick(r, "-", "=", ",", ";", " ", "\t", "%", "0", "x", "é", string([]byte{byte(r.IntN(256))}))
	return pick(r, s[:i]+c+s[i+1:], s[:i]+s[i+1:], s[:i]+c+s[i:], s[:i], s+c)
}

func generateTraceContext(r *rand.Rand) http.Header {
	h := http.Header{}
	for range pick(r, 1, 1, 1, 1, 1, 1, 1, 1, 2) {
		version, flags := "00", pick(r, "00", "01", "02", "03", "04", "ff", "0F", hexID(r, 2))
		v := version + "-" + hexID(r, 32) + "-" + hexID(r, 16) + "-" + flags
		if r.IntN(5) == 0 {
			v = pick(r, "00", "01", "cc", "fe", "ff", "FF", "0x") + v[2:] + pick(r, "", "-", "-more", ".more", "-"+strings.Repeat("x", 400+r.IntN(200)))
		}
		h["Traceparent"] = append(h["Traceparent"], spoil(r, v))
	}
	if often(r) {
		for range pick(r, 1, 1, 1, 2, 3) {
			h["Tracestate"] = append(h["Tracestate"], spoil(r, tracestateLine(r)))
		}
	}
	return h
}

func tracestateLine(r *rand.Rand) string {
	var members []string
	for range pick(r, 0, 1, 1, 2, 3, 4, 12, 33) {
		key := pick(r, "foo", "bar", "rojo", "congo", "t@sys", "0t@sys", "a-_*/", "k"+strconv.Itoa(r.IntN(40)), "k"+strconv.Itoa(r.IntN(40)), "k"+strconv.Itoa(r.IntN(40)))
		value := pick(r, "1", "x y", " lead", "t61rcWkgMzE", "!~", "v")
		switch {
		case seldom(r):
			key = pick(r, "1st", "a@", "a@b@c", "t@1", "@a", "Foo", "f.o", "", "é", strings.Repeat("k", 256), strings.Repeat("k", 257),
				strings.Repeat("t", 241)+"@s", strings.Repeat("t", 242)+"@s", "t@"+strings.Repeat("s", 14), "t@"+strings.Repeat("s", 15))
		case seldom(r):
			value = pick(r, "", " ", "a=b", "\t", "é", strings.Repeat("v", 256), strings.Repeat("v", 257))
		}
		m := key + "=" + value
		if seldom(r) {
			m = pick(r, "", " ", "\t ", key)
		}
		members = append(members, pick(r, "", "", " ", "\t")+m+pick(r, "", "", " ", "\t"))
	}
	line := strings.Join(members, ",")
	if r.IntN(200) == 0 {
		line += strings.Repeat(",", 8150+r.IntN(100))
	}
	return line
}

// TestTraceContextExtract compares with OpenTelemetry's propagation.TraceContext.
func TestTraceContextExtract(t *testing.T) {
	differences := []difference{
		{"several traceparents count as none", "Trace Context, traceparent is no list (RFC 9110, 5.3); the W3C harness, test_traceparent_duplicated", func(h http.Header) bool {
			if len(h["Traceparent"]) < 2 {
				return false
			}
			delete(h, "Traceparent")
			return true
		}},
		{"version 00 has 55 bytes, not 56 with a dash at the end", `Trace Context, version-format: trace-id "-" parent-id "-" trace-flags`, func(h http.Header) bool {
			if v := h.Get("Traceparent"); len(v) != 56 || !strings.HasPrefix(v, "00-") || v[55] != '-' {
				return false
			}
			delete(h, "Traceparent")
			return true
		}},
		{"undefined flags do not make version 00 invalid", `Trace Context, processing model 2.2: "only parse the trace-flags values supported by this version […] and ignore all other values"`, func(h http.Header) bool {
			v := h.Get("Traceparent")
			if len(v) != 55 || !strings.HasPrefix(v, "00-") {
				return false
			}
			n, err := strconv.ParseUint(v[53:], 16, 8)
			if err != nil || v[53:] != strings.ToLower(v[53:]) || n < 4 {
				return false
			}
			h["Traceparent"][0] = fmt.Sprintf("%s%02x", v[:53], n&3)
			return true
		}},
		{"a later version has 512 bytes at most", `Trace Context, versioning of traceparent: "only disallow prohibitively large headers"`, func(h http.Header) bool {
			if len(h.Get("Traceparent")) <= 512 {
				return false
			}
			delete(h, "Traceparent")
			return true
		}},
		{"tracestate lines are one list", `Trace Context, tracestate: "multiple tracestate header fields […] MUST be combined into a single header"`, func(h http.Header) bool {
			if len(h["Tracestate"]) < 2 {
				return false
			}
			h["Tracestate"] = []string{strings.Join(h["Tracestate"], ",")}
			return true
		}},
		{"a tracestate beyond 8 KiB is dropped", "Trace Context, tracestate limits: propagating more than 512 characters is optional, the limit documented", func(h http.Header) bool {
			if len(h.Get("Tracestate")) <= 8192 {
				return false
			}
			delete(h, "Tracestate")
			return true
		}},
		{"tracestate members of white space are skipped", `Trace Context, tracestate: "Empty and whitespace-only list members are allowed"`, func(h http.Header) bool {
			return editMembers(h, "Tracestate", func(_ []string, m string) bool { return m != "" && strings.Trim(m, " \t") == "" })
		}},
		{"of tracestate members with one key the first stays", `Trace Context, mutating tracestate: "vendors MAY also discard duplicate keys that were not generated by them"`, func(h http.Header) bool {
			members := strings.Split(h.Get("Tracestate"), ",")
			members = slices.DeleteFunc(members, func(m string) bool { return strings.Trim(m, " \t") == "" })
			if len(members) > 32 { // those that are discarded count towards the limit
				delete(h, "Tracestate")
				return true
			}
			return validTracestate(h) && editMembers(h, "Tracestate", func(before []string, m string) bool {
				key := tracestateKey(m)
				return key != "" && slices.ContainsFunc(before, func(b string) bool { return tracestateKey(b) == key })
			})
		}},
		{"tracestate keys of Level 2 that TraceState cannot hold are left out", "Trace Context Level 2, tracestate key", func(h http.Header) bool {
			return validTracestate(h) && editMembers(h, "Tracestate", func(_ []string, m string) bool {
				key := tracestateKey(m)
				_, err := trace.ParseTraceState(key + "=1")
				return key != "" && err != nil
			})
		}},
	}
	p := newPropagator(t, propagation.TraceContext)
	compare(t, differences, generateTraceContext,
		func(h http.Header) string { return describe(p.Read(otelprop.HeaderCarrier(h)).SpanContext) },
		func(h http.Header) string {
			ctx := otelprop.TraceContext{}.Extract(context.Background(), otelprop.HeaderCarrier(h))
			return describe(trace.SpanContextFromContext(ctx))
		})
}

// editMembers removes members for which drop is true; before are those kept so far.
func editMembers(h http.Header, name string, drop func(before []string, m string) bool) bool {
	if len(h[name]) == 0 {
		return false
	}
	var kept []string
	all := strings.Split(h[name][0], ",")
	for _, m := range all {
		if !drop(kept, m) {
			kept = append(kept, m)
		}
	}
	h[name] = []string{strings.Join(kept, ",")}
	return len(kept) < len(all)
}

func tracestateKey(m string) string {
	key, _, _ := strings.Cut(strings.TrimLeft(m, " \t"), "=")
	return key
}

// validTracestate reports whether every member is one by the grammar of Level 2. It
// is written afresh, from the grammar.
func validTracestate(h http.Header) bool {
	in := func(s, chars string) bool { return strings.Trim(s, chars) == "" }
	const first = "abcdefghijklmnopqrstuvwxyz0123456789"
	for m := range strings.SplitSeq(h.Get("Tracestate"), ",") {
		m = strings.Trim(m, " \t")
		if m == "" {
			continue
		}
		key, value, found := strings.Cut(m, "=")
		if !found || key == "" || len(key) > 256 || !in(key[:1], first) || !in(key, first+"_-*/@") || value == "" || len(value) > 256 {
			return false
		}
		for _, c := range []byte(value) {
			if c < 0x20 || c > 0x7e || c == '=' {
				return false
			}
		}
	}
	return true
}

func generateB3(r *rand.Rand) http.Header {
	h := http.Header{}
	if r.IntN(3) > 0 {
		for range pick(r, 1, 1, 1, 1, 2) {
			v := hexID(r, pick(r, 16, 32)) + "-" + hexID(r, 16)
			if often(r) {
				v += "-" + pick(r, "0", "1", "d", "1", "D", "c")
				if r.IntN(3) == 0 {
					v += "-" + hexID(r, 16)
				}
			}
			if r.IntN(10) == 0 {
				v = pick(r, "0", "1", "d", "", "true", "x")
			}
			h["B3"] = append(h["B3"], spoil(r, v))
		}
	}
	if r.IntN(3) > 0 {
		set := func(name string, value func() string) {
			if often(r) {
				h[name] = []string{spoil(r, value())}
			}
		}
		set("X-B3-Traceid", func() string { return hexID(r, pick(r, 16, 32, 32, 32, 17)) })
		set("X-B3-Spanid", func() string { return hexID(r, 16) })
		set("X-B3-Sampled", func() string { return pick(r, "0", "1", "true", "False", "d", "yes", "1", "") })
		if r.IntN(3) == 0 {
			set("X-B3-Parentspanid", func() string { return hexID(r, 16) })
		}
		if r.IntN(3) == 0 {
			set("X-B3-Flags", func() string { return pick(r, "1", "1", "0", "d", "") })
		}
	}
	return h
}

// TestB3Extract compares with contrib's b3 propagator, which reads both encodings.
// Its sampling states are read from what it writes; without ids it writes the same
// for every state, so there only the absence of a span context is compared.
func TestB3Extract(t *testing.T) {
	isHex := func(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdefABCDEF") == "" }
	single := func(h http.Header) (ids, state, parent string) { // of a b3 whose fields have their lengths
		v := h.Get("B3")
		n := strings.IndexByte(v, '-')
		if n != 16 && n != 32 || len(v) < n+17 || len(v) > n+36 {
			return "", "", ""
		}
		ids, rest := v[:n+17], v[n+17:]
		switch len(rest) {
		case 0:
		case 2:
			state = rest
		case 19:
			state, parent = rest[:2], rest[2:]
		default:
			return "", "", ""
		}
		return ids, state, parent
	}
	differences := []difference{
		{"fields of b3 are separated by dashes", `B3, single header: "maps propagation fields into a hyphen delimited string"`, func(h http.Header) bool {
			_, state, parent := single(h)
			if state != "" && state[0] != '-' || parent != "" && parent[0] != '-' {
				delete(h, "B3")
				return true
			}
			return false
		}},
		{"a state alone in b3 gives way to x-b3-* with ids", "B3, sampling state: it applies to the trace ID; x-b3-* states its own", func(h http.Header) bool {
			if len(h.Get("B3")) != 1 || h.Get("X-B3-Traceid") == "" {
				return false
			}
			delete(h, "B3")
			return true
		}},
		{"upper-case hex is read", "B3 asks senders for lower case and calls identifiers opaque; Envoy (B-7, B-8) and Brave read either", func(h http.Header) bool {
			changed := false
			lower := func(name, v string) {
				if l := strings.ToLower(v); l != v {
					h[name] = []string{l}
					changed = true
				}
			}
			if ids, state, parent := single(h); ids != "" && state != "-D" {
				if isHex(strings.ReplaceAll(ids+parent, "-", "")) {
					lower("B3", h.Get("B3"))
				}
			}
			for _, name := range []string{"X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid"} {
				if v := h.Get(name); isHex(v) {
					lower(name, v)
				}
			}
			return changed
		}},
		{"a parent of zeros is none", `B3, ParentSpanId: "must be absent on the root span"; senders that write zeros instead mean that`, func(h http.Header) bool {
			const zeros = "0000000000000000"
			changed := false
			if ids, state, parent := single(h); parent == "-"+zeros {
				h["B3"] = []string{ids + state}
				changed = true
			}
			if h.Get("X-B3-Parentspanid") == zeros && h.Get("X-B3-Traceid")+h.Get("X-B3-Spanid") != "" {
				delete(h, "X-B3-Parentspanid")
				changed = true
			}
			return changed
		}},
		{"x-b3-sampled: d is debug", "B3, single header names the state d; lenient implementations read it here as well", func(h http.Header) bool {
			if h.Get("X-B3-Sampled") != "d" {
				return false
			}
			delete(h, "X-B3-Sampled")
			h["X-B3-Flags"] = []string{"1"}
			return true
		}},
	}
	p := newPropagator(t, propagation.B3, propagation.B3Multi)
	stock := b3.New(b3.WithInjectEncoding(b3.B3SingleHeader))
	compare(t, differences, generateB3,
		func(h http.Header) string {
			x := p.Read(otelprop.HeaderCarrier(h))
			if !x.SpanContext.IsValid() {
				return "none"
			}
			return describe(x.SpanContext) + " " + string(propagation.AppendB3(nil, propagation.Parsed{SpanContext: x.SpanContext, Sampling: x.Sampling}))
		},
		func(h http.Header) string {
			ctx := stock.Extract(context.Background(), otelprop.HeaderCarrier(h))
			sc := trace.SpanContextFromContext(ctx)
			if !sc.IsValid() {
				return "none"
			}
			out := http.Header{}
			stock.Inject(ctx, otelprop.HeaderCarrier(out))
			return describe(sc) + " " + out.Get("b3")
		})
}

func generateBaggage(r *rand.Rand) http.Header {
	h := http.Header{}
	for range pick(r, 1, 1, 1, 2, 3) {
		h["Baggage"] = append(h["Baggage"], spoil(r, baggageLine(r)))
	}
	return h
}

func baggageLine(r *rand.Rand) string {
	ows := func() string { return pick(r, "", "", "", "", " ", "\t", " \t ") }
	value := func() string {
		if seldom(r) {
			return pick(r, `"q"`, "a b", "%", "%4", "%zz", "é", "\\", "x\x00", "\u00a0", "\vx\f")
		}
		return pick(r, "1", "", "a=b", "Am%C3%A9lie", "%20", "%ff", "%2C%3b%25", "x%0d%0ay", "!#$&'()*+-./:<>?@[]^_`{|}~", strings.Repeat("v", r.IntN(200)))
	}
	var members []string
	for range pick(r, 0, 1, 1, 2, 3, 5, 20, 40, 70) {
		key := pick(r, "a", "b", "k"+strconv.Itoa(r.IntN(99)), "k"+strconv.Itoa(r.IntN(99)), "userId", "!#$%&'*+-.^_`|~")
		if seldom(r) {
			key = pick(r, "", "a b", "é", "k(", "\u0085k", "a%20b")
		}
		m := ows() + key + ows() + "=" + ows() + value() + ows()
		for range pick(r, 0, 0, 0, 0, 1, 2) {
			m += ";" + ows() + pick(r, "p", "q", "p", "", "p p", "é") + ows()
			if r.IntN(2) == 0 {
				m += "=" + ows() + value() + ows()
			}
		}
		if seldom(r) {
			m = pick(r, "", " ", key, key+"=1;", key+"=1; ;p", key+"=1"+strings.Repeat(";p", 70))
		}
		members = append(members, m)
	}
	line := strings.Join(members, ",")
	if r.IntN(50) == 0 {
		line += ",long=" + strings.Repeat("x", 8100+r.IntN(100)) + ",last=1"
	}
	if r.IntN(50) == 0 {
		line = "grows=" + strings.Repeat("%ff", 800+r.IntN(105)) + "," + line
	}
	return line
}

// TestBaggageExtract compares with OpenTelemetry's propagation.Baggage.
func TestBaggageExtract(t *testing.T) {
	const limits = `Baggage, limits: "a platform MAY drop list-members until both conditions are met"`
	const malformed = `Baggage, mutating: of a string not in the format "it MAY remove an offending list-member"`
	differences := []difference{
		{"beyond 8,192 bytes the members that fit stay", limits, func(h http.Header) bool {
			room, changed := 8192, false
			var lines []string
			for _, line := range h["Baggage"] {
				if room < 0 {
					changed = true
					break
				}
				if len(line) > room {
					changed = true
					cut := room
					if line[cut] != ',' {
						cut = max(0, strings.LastIndexByte(line[:cut], ','))
					}
					line = line[:cut]
					lines = append(lines, line)
					break
				}
				room -= len(line) + 1
				lines = append(lines, line)
			}
			h["Baggage"] = lines
			return changed
		}},
		{"64 members are looked at", limits, func(h http.Header) bool {
			left, changed := 64, false
			for i, line := range h["Baggage"] {
				var kept []string
				for m := range strings.SplitSeq(line, ",") {
					if strings.Trim(m, " \t") == "" {
						continue
					}
					if left--; left >= 0 {
						kept = append(kept, m)
					}
				}
				changed = changed || left < 0
				h["Baggage"][i] = strings.Join(kept, ",")
			}
			return changed
		}},
		{"only space and tab are white space", `Baggage, OWS = *( SP / HTAB )`, func(h http.Header) bool {
			return editBaggage(h, func(m string) (string, bool) {
				trimmed := func(s string) bool { return strings.Trim(s, " \t") != strings.TrimSpace(s) }
				pair, _, _ := strings.Cut(m, ";")
				key, value, _ := strings.Cut(pair, "=")
				return m, !trimmed(key) && !trimmed(value)
			})
		}},
		{"empty properties are skipped", malformed, func(h http.Header) bool {
			return editBaggage(h, func(m string) (string, bool) {
				parts := strings.Split(m, ";")
				kept := parts[:1]
				for _, p := range parts[1:] {
					if strings.Trim(p, " \t") != "" {
						kept = append(kept, p)
					}
				}
				return strings.Join(kept, ";"), true
			})
		}},
		{"64 properties at most over all members", "a bound of meshtrace: 8 KiB of properties would take 400 KiB of memory", func(h http.Header) bool {
			left := 64
			reads := func(m string) bool {
				b, err := baggage.Parse(m)
				return err == nil && b.Len() > 0
			}
			return editBaggage(h, func(m string) (string, bool) {
				pair, rest, more := strings.Cut(m, ";")
				for ok := reads(pair); ok && more; { // what stands behind a malformed part is not counted
					var part string
					part, rest, more = strings.Cut(rest, ";")
					if left--; left < 0 {
						return m, false
					}
					ok = reads("a=1;" + part)
				}
				return m, true
			})
		}},
		{"members that grow beyond 8,192 bytes when they are written again go, the newest first", limits + "; OpenTelemetry drops any", func(h http.Header) bool {
			size, full := -1, false
			return editBaggage(h, func(m string) (string, bool) {
				b, err := baggage.Parse(m)
				if err == nil && b.Len() > 0 {
					size += 1 + len(b.String())
				}
				full = full || size > 8192
				return m, !full
			})
		}},
	}
	// OpenTelemetry reports one error a process to a global handler, which prints it.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	p := newPropagator(t, propagation.Baggage)
	compare(t, differences, generateBaggage,
		func(h http.Header) string { return describeBaggage(p.Read(otelprop.HeaderCarrier(h)).Baggage) },
		func(h http.Header) string {
			ctx := otelprop.Baggage{}.Extract(context.Background(), otelprop.HeaderCarrier(h))
			return describeBaggage(baggage.FromContext(ctx))
		})
}

// editBaggage replaces each member by what edit makes of it, or drops it.
func editBaggage(h http.Header, edit func(m string) (string, bool)) bool {
	changed := false
	for i, line := range h["Baggage"] {
		var kept []string
		for m := range strings.SplitSeq(line, ",") {
			if e, ok := edit(m); ok {
				changed = changed || e != m
				kept = append(kept, e)
			} else {
				changed = true
			}
		}
		h["Baggage"][i] = strings.Join(kept, ",")
	}
	return changed
}

func describeBaggage(b baggage.Baggage) string {
	var out []string
	for _, m := range b.Members() {
		s := fmt.Sprintf("%q=%q", m.Key(), m.Value())
		for _, p := range m.Properties() {
			v, ok := p.Value()
			s += fmt.Sprintf(";%q=%q,%v", p.Key(), v, ok)
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// TestPropagationInject compares what is written for random span contexts and baggage.
func TestPropagationInject(t *testing.T) {
	r := rand.New(rand.NewPCG(max(*propagationSeed, 1), 1))
	single := b3.New(b3.WithInjectEncoding(b3.B3SingleHeader))
	multi := b3.New(b3.WithInjectEncoding(b3.B3MultipleHeader))
	for _, tt := range []struct {
		name   string
		ours   *propagation.Propagator
		theirs otelprop.TextMapPropagator
	}{
		{"tracecontext", newPropagator(t, propagation.TraceContext), otelprop.TraceContext{}},
		{"b3", newPropagator(t, propagation.B3), single},
		{"b3multi", newPropagator(t, propagation.B3Multi), multi},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range *propagationSets / 10 {
				sc := otelprop.TraceContext{}.Extract(context.Background(), otelprop.HeaderCarrier(generateTraceContext(r)))
				if !trace.SpanContextFromContext(sc).IsValid() {
					continue // contrib writes a state without ids for no context at all
				}
				got, want := http.Header{}, http.Header{}
				tt.ours.Inject(sc, otelprop.HeaderCarrier(got))
				tt.theirs.Inject(sc, otelprop.HeaderCarrier(want))
				if d := cmp.Diff(want, got); d != "" {
					t.Fatalf("Inject of %s (-theirs +ours):\n%s", describe(trace.SpanContextFromContext(sc)), d)
				}
			}
		})
	}
	t.Run("baggage", func(t *testing.T) {
		p := newPropagator(t, propagation.Baggage)
		for range *propagationSets / 10 {
			ctx := otelprop.Baggage{}.Extract(context.Background(), otelprop.HeaderCarrier(generateBaggage(r)))
			got, want := http.Header{}, http.Header{}
			p.Inject(ctx, otelprop.HeaderCarrier(got))
			otelprop.Baggage{}.Inject(ctx, otelprop.HeaderCarrier(want))
			// The order of members is nobody's, and properties without a key, which
			// OpenTelemetry reads out of ";;", it writes as nothing.
			a, b := strings.Split(got.Get("baggage"), ","), strings.Split(want.Get("baggage"), ",")
			slices.Sort(a)
			for i := range b {
				b[i] = strings.TrimSuffix(b[i], ";")
			}
			slices.Sort(b)
			if d := cmp.Diff(b, a); d != "" {
				t.Fatalf("Inject of baggage (-theirs +ours):\n%s", d)
			}
		}
	})
}
