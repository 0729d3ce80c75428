package propagation

import (
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	otelprop "go.opentelemetry.io/otel/propagation"
)

// mega is net/http's default limit for the headers of a request.
const mega = 1 << 20

// hostile returns sets of headers of about 1 MB, each made to cost as much as it can.
func hostile() map[string]http.Header {
	fill := func(s string) string { return strings.Repeat(s, mega/len(s)) }
	lines := func(s string) []string {
		n := mega / (len(s) + len("traceparent: \r\n"))
		v := make([]string, n)
		for i := range v {
			v[i] = s
		}
		return v
	}
	many := make(http.Header, 40000)
	for i := range mega / 26 {
		many[fmt.Sprintf("X-B3-%d", i)] = []string{"00000000000000"}
	}
	sets := map[string]http.Header{
		"many names": many,
		"everything bad": {
			"Traceparent": {fill("0")}, "B3": {fill("0")}, "X-B3-Traceid": {fill("0")}, "Baggage": {fill(",")},
			"X-Request-Id": {fill("a")}, "X-Client-Trace-Id": {fill("a")},
		},
	}
	for name, v := range map[string][]string{
		"traceparent of version 00":  {"00-" + fill("0")},
		"traceparent of version 01":  {"01-" + traceHex + "-" + spanHex + "-01-" + fill("x")},
		"traceparent lines":          lines(traceparent),
		"traceparent empty lines":    lines(""),
		"b3":                         {b3 + fill("0")},
		"b3 lines":                   lines("b3"),
		"tracestate of commas":       {fill(",")},
		"tracestate empty lines":     lines(""),
		"tracestate 8 KiB of commas": {strings.Repeat(",", maxTracestateBytes)},
		"tracestate 8 KiB of spaces": {strings.Repeat(" ", maxTracestateBytes)},
		"tracestate comma lines":     lines(",")[:maxTracestateBytes/2],
		"tracestate many members":    {fill("a=1,")},
		"tracestate one key":         {strings.Repeat("a=1,", 32)},
		"tracestate bad at the end":  {members(31) + "," + strings.Repeat("z", 256) + "="},
		"baggage of commas":          {fill(",")},
		"baggage 8 KiB of commas":    {strings.Repeat(",", maxBaggageBytes)},
		"baggage empty lines":        lines(""),
		"baggage comma lines":        lines(",")[:maxBaggageBytes/2],
		"baggage bad members":        {fill("a,")},
		"baggage bad lines":          lines("a"),
		"baggage one bad member":     {fill("a")},
		"baggage properties":         {"a=1" + fill(";p")},
		"baggage empty properties":   {"a=1" + fill(";")},
		"baggage of percent signs":   {"a=" + fill("%")},
		"baggage of escapes":         {"a=" + fill("%ff")},
		"baggage 8 KiB of escapes":   {"a=" + strings.Repeat("%ff", (maxBaggageBytes-2)/3)},
		"baggage long bad value":     {"b=" + strings.Repeat("%20", maxBaggageBytes/3-2) + `"`},
		"x-b3-traceid":               {fill("0")},
		"x-b3-sampled":               {fill("true")},
		"x-b3-flags":                 {fill("1")},
		"x-request-id":               {fill("a")},
		"x-request-id lines":         lines("a"),
		"x-client-trace-id":          {fill("a")},
		"x-client-trace-id lines":    lines(""),
		"x-ot-span-context":          {fill("A")},
		"x-ot-span-context text":     {fill(";")},
		"x-ot-span-context varints":  {strings.Repeat("/", maxOTSpanContext)},
		"x-ot-span-context pairs":    {message(strings.Repeat(field(1, ""), 380))},
		"x-ot-span-context baggage":  {message(field(2, basic[:9]+strings.Repeat(field(4, ""), 370)))},
		"x-ot-span-context codes":    {zipkinText + strings.Repeat(";cs", 324) + ";"},
		"ot-tracer-traceid":          {fill("0")},
		"ot-tracer-sampled":          {fill("t")},
		"uber-trace-id":              {fill("%3A")},
		"uber-trace-id of colons":    {strings.Repeat(":", maxUberTraceID)},
		"jaeger-debug-id":            {fill("a")},
		"jaeger-baggage":             {fill("a,")},
		"jaeger-baggage of 8 KiB":    {strings.Repeat(",", maxBaggageBytes)},
		"x-tenant":                   {fill("a")},
		"x-tenant lines":             lines(""),
	} {
		key, _, _ := strings.Cut(name, " ")
		h := http.Header{http.CanonicalHeaderKey(key): v}
		if key == "tracestate" {
			h["Traceparent"] = []string{traceparent}
		}
		switch key {
		case "x-b3-traceid":
			h["X-B3-Spanid"] = []string{fill("1")}
		case "ot-tracer-traceid", "ot-tracer-sampled":
			h["Ot-Tracer-Spanid"] = []string{fill("1")}
		}
		sets[name] = h
	}
	return sets
}

// guard is how many times longer than its goal an Extract may take before a test fails:
// work that grows with the headers is found, and a machine that is busy is not.
// BenchmarkHostile shows the times themselves.
const guard = 20 * slower

// hostileConfigs are the Propagators that hostile headers are sent to.
func hostileConfigs() map[string]Config {
	every := []Format{TraceContext, B3, B3Multi, OTSpanContext, OTTrace, Jaeger, Baggage}
	return map[string]Config{
		"default": {},
		"all":     {Extract: every, Forward: []string{"x-tenant"}},
		"strict":  {Extract: every, Forward: []string{"x-tenant"}, Strict: true},
	}
}

// TestHostileCost holds what one Extract may cost, whatever is sent: 4 KiB of memory
// where nothing comes of the headers. The goal in time is 50 µs.
func TestHostileCost(t *testing.T) {
	for config, cfg := range hostileConfigs() {
		p := mustNew(t, cfg)
		for name, h := range hostile() {
			cost(t, p, config+": "+name, h, 50*time.Microsecond, 4<<10)
		}
	}
}

// BenchmarkHostile takes the time of an Extract of what TestHostileCost sends; the goal
// is 50 µs for each.
func BenchmarkHostile(b *testing.B) {
	sets := hostile()
	names := slices.Sorted(maps.Keys(sets))
	for config, cfg := range hostileConfigs() {
		p := mustNew(b, cfg)
		for _, name := range names {
			h := sets[name]
			b.Run(config+"/"+strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
				b.ReportAllocs()
				carrier := otelprop.HeaderCarrier(h)
				for b.Loop() {
					p.Extract(b.Context(), carrier)
				}
			})
		}
	}
}

// TestPrefixCost holds what headers cost of which only a prefix is known: 30 ns a name
// beside the 50 µs, and no memory for those that are not kept.
func TestPrefixCost(t *testing.T) {
	for _, tt := range []struct {
		format Format
		ids    http.Header
		prefix string
	}{
		{OTTrace, headerSet("ot-tracer-traceid", "1", "ot-tracer-spanid", "2"), "Ot-Baggage-"},
		{Jaeger, headerSet("uber-trace-id", "1:2:0:1"), "Uberctx-"},
	} {
		p := mustNew(t, Config{Extract: []Format{tt.format}})
		for name, value := range map[string]string{"refused": "\xff", "too long": strings.Repeat("v", maxBaggageBytes), "another prefix": "v", "escapes": strings.Repeat("%20", 40)} {
			h := tt.ids.Clone()
			prefix := tt.prefix
			if name == "another prefix" {
				prefix = "X" + prefix
			}
			const names = 30000
			for i := range names {
				h[fmt.Sprintf("%s%06d", prefix, i)] = []string{value}
			}
			bytes := uint64(4 << 10)
			if name == "escapes" {
				bytes = 80 << 10 // 64 entries are kept, in a map of OpenTelemetry's that grows with its versions
			}
			cost(t, p, tt.format.String()+" "+name, h, 50*time.Microsecond+names*30*time.Nanosecond, bytes)
		}
	}
}

// TestFullCost holds what headers cost that use up every limit and are accepted.
func TestFullCost(t *testing.T) {
	tracestate := make([]string, 32)
	for i := range tracestate {
		tracestate[i] = fmt.Sprintf("k%d=%s", i, strings.Repeat("v", 252))
	}
	halves := []string{strings.Repeat(",", 4095), strings.Repeat(",", 4096)}
	for name, tt := range map[string]struct {
		cfg Config
		h   http.Header
	}{
		"tracestate":               {Config{}, http.Header{"Traceparent": {traceparent}, "Tracestate": {strings.Join(tracestate, ",")[:8192]}}},
		"tracestate lines":         {Config{}, http.Header{"Traceparent": {traceparent}, "Tracestate": tracestate[:31]}},
		"strict tracestate lines":  {Config{Strict: true}, http.Header{"Traceparent": {traceparent}, "Tracestate": tracestate[:31]}},
		"strict tracestate joined": {Config{Strict: true}, http.Header{"Traceparent": {traceparent}, "Tracestate": halves}}, // W-5: accepted as it came
		"baggage":                  {Config{}, http.Header{"Baggage": {numbered(64, strings.Repeat("v", 122))}}},
		"baggage lines":            {Config{}, http.Header{"Baggage": strings.Split(numbered(64, strings.Repeat("v", 122)), ",")}},
		"baggage of escapes":       {Config{}, http.Header{"Baggage": {numbered(64, strings.Repeat("%20", 40))}}},
		"baggage of properties":    {Config{}, http.Header{"Baggage": {"a=1" + strings.Repeat(";pppp=%20", 64)}}},
	} {
		cost(t, mustNew(t, tt.cfg), name, tt.h, 100*time.Microsecond, 80<<10) // OpenTelemetry's map, as above
	}
}

// cost fails if an Extract of h takes guard times that long, or allocates more than that
// many bytes. Time is the least of many runs, so that it is the code's.
func cost(t *testing.T, p *Propagator, name string, h http.Header, most time.Duration, bytes uint64) {
	const runs = 50
	carrier := otelprop.HeaderCarrier(h)
	best := time.Hour
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		start := time.Now()
		p.Extract(t.Context(), carrier)
		best = min(best, time.Since(start))
	}
	runtime.ReadMemStats(&after)
	if most *= guard; best > most {
		t.Errorf("%s: %v, want at most %v", name, best, most)
	}
	if got := (after.TotalAlloc - before.TotalAlloc) / runs; got > bytes {
		t.Errorf("%s: %d bytes allocated, want at most %d", name, got, bytes)
	}
	t.Logf("%-30s %10v %6d B", name, best, (after.TotalAlloc-before.TotalAlloc)/runs)
}
