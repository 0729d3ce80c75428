package propagation

import (
	"bytes"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// testdata/fuzz holds further seeds, about one for each way through a parser.

func FuzzParseTraceparent(f *testing.F) {
	f.Add(traceparent)
	f.Add("cc" + traceparent[2:] + "-more")
	f.Add("00-" + strings.Repeat("0", 32) + "-" + spanHex + "-01")
	valid := regexp.MustCompile(`^(?:00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?s:-.*)?)$`)
	f.Fuzz(func(t *testing.T, v string) {
		p, err := ParseTraceparent(v)
		want := valid.MatchString(v) && len(v) <= maxTraceparentLen && !strings.HasPrefix(v, "ff") &&
			(len(v) == traceparentLen || !strings.HasPrefix(v, "00")) &&
			v[3:35] != strings.Repeat("0", 32) && v[36:52] != strings.Repeat("0", 16)
		if got := err == nil; got != want {
			t.Fatalf("ParseTraceparent(%q) accepted = %v (%v), want %v", v, got, err, want)
		}
		if err != nil {
			checkHeaderError(t, err, v)
			return
		}
		out := string(AppendTraceparent(nil, p.SpanContext))
		if out[3:53] != v[3:53] {
			t.Errorf("%q goes out as %q", v, out)
		}
		again, err := ParseTraceparent(out)
		if err != nil || !again.SpanContext.Equal(p.SpanContext) {
			t.Errorf("%q is read back as %v, %v", out, again.SpanContext, err)
		}
	})
}

// checkHeaderError fails unless err is a HeaderError that points into v.
func checkHeaderError(t *testing.T, err error, v string) {
	t.Helper()
	he, ok := err.(*HeaderError)
	if !ok {
		t.Fatalf("error %T, want a *HeaderError", err)
	}
	if he.Offset < 0 || he.Offset > len(v) || len(he.Value) > maxQuoted || !strings.HasPrefix(v, he.Value) {
		t.Errorf("HeaderError %+v does not point into %q", he, v)
	}
	checkSendable(t, "Error()", he.Error())
}

// checkSendable fails if v could not stand in a header or a line of a log.
func checkSendable(t *testing.T, what, v string) {
	t.Helper()
	for i := range len(v) {
		if v[i] < ' ' || v[i] > '~' {
			t.Errorf("%s = %q holds byte %q", what, v, v[i])
			return
		}
	}
}

func FuzzParseTracestate(f *testing.F) {
	f.Add("foo=1 , bar=2,\t\n\nbaz=3")
	f.Add("a@b=1,1a=2,a@b@c=3,a=4,a=5")
	f.Add(strings.Repeat("a=1,", 40))
	f.Fuzz(func(t *testing.T, in string) {
		lines := strings.Split(in, "\n")
		ts, err := ParseTracestate(lines...)
		joined := strings.Join(lines, ",")
		stock, stockErr := trace.ParseTraceState(joined)
		if got, ok := insertTracestate(joined); ok != (stockErr == nil) || got.String() != stock.String() {
			t.Errorf("insertTracestate(%q) = %q, %v, OpenTelemetry reads %q, %v", joined, got, ok, stock, stockErr)
		}
		if err != nil {
			checkHeaderError(t, err, err.(*HeaderError).Value+strings.Repeat("x", len(in)))
			if stockErr == nil && len(joined) <= maxTracestateBytes {
				t.Errorf("ParseTracestate(%q): %v, OpenTelemetry reads %q", lines, err, stock)
			}
			return
		}
		if stockErr == nil && ts.String() != stock.String() {
			t.Errorf("ParseTracestate(%q) = %q, OpenTelemetry reads %q", lines, ts, stock)
		}
		out := ts.String()
		if len(out) > len(joined) || ts.Len() > maxTracestateMembers {
			t.Errorf("ParseTracestate(%q) = %q, longer than what came", lines, out)
		}
		checkSendable(t, "tracestate", out)
		if again, err := ParseTracestate(out); err != nil || again.String() != out {
			t.Errorf("%q is read back as %q, %v", out, again, err)
		}
	})
}

func FuzzParseB3(f *testing.F) {
	f.Add(b3)
	f.Add("d")
	f.Add(b3Trace64 + "-" + strings.ToUpper(b3Span) + "-0-" + b3Parent)
	valid := regexp.MustCompile(`^(?:[01d]|([0-9a-fA-F]{16}|[0-9a-fA-F]{32})-([0-9a-fA-F]{16})(?:-[01d](?:-[0-9a-fA-F]{16})?)?)$`)
	f.Fuzz(func(t *testing.T, v string) {
		p, err := ParseB3(v)
		m := valid.FindStringSubmatch(v)
		want := m != nil && (m[1] == "" || strings.Trim(m[1], "0") != "" && strings.Trim(m[2], "0") != "")
		if got := err == nil; got != want {
			t.Fatalf("ParseB3(%q) accepted = %v (%v), want %v", v, got, err, want)
		}
		if err != nil {
			checkHeaderError(t, err, v)
			return
		}
		out := string(AppendB3(nil, p))
		if again, err := ParseB3(out); err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%q goes out as %q, which is read as %+v, %v", v, out, again, err)
		}
	})
}

func FuzzParseB3Multi(f *testing.F) {
	f.Add(b3Trace128, b3Span, b3Parent, "1", "")
	f.Add(b3Trace64, b3Span, "", "True", "1")
	f.Add("", "", "", "0", "")
	f.Fuzz(func(t *testing.T, traceID, spanID, parentID, sampled, flags string) {
		p, err := ParseB3Multi(traceID, spanID, parentID, sampled, flags)
		if err != nil {
			he := err.(*HeaderError)
			v, ok := map[string]string{"x-b3-traceid": traceID, "x-b3-spanid": spanID, "x-b3-parentspanid": parentID, "x-b3-sampled": sampled}[he.Header]
			if !ok {
				t.Fatalf("HeaderError for %q", he.Header)
			}
			checkHeaderError(t, err, v)
			if !reflect.DeepEqual(p, Parsed{}) {
				t.Errorf("ParseB3Multi = %+v beside an error", p)
			}
			return
		}
		// What the headers say can be said in one, and means the same.
		single := string(AppendB3(nil, p))
		if single == "" {
			if !reflect.DeepEqual(p, Parsed{}) {
				t.Errorf("%+v cannot be written as b3", p)
			}
			return
		}
		want := p
		if p.Sampling == Deferred {
			want.Parent = trace.SpanID{} // without a state b3 has no place for it
		}
		if got, err := ParseB3(single); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseB3(%q) = %+v, %v, want %+v", single, got, err, want)
		}
	})
}

func FuzzParseBaggage(f *testing.F) {
	f.Add("a=1;p;q=%20,b=%0d%0a\n\n c = 3 ")
	f.Add("a=%ff%c3%28,b=" + strings.Repeat("%ff", 300))
	f.Add(numbered(70, "v"))
	f.Fuzz(func(t *testing.T, in string) {
		lines := strings.Split(in, "\n")
		b, fault := parseBaggage(lines)
		if own, ownFault := readBaggage(lines); fault != ownFault || !slices.Equal(texts(b), texts(own)) {
			t.Errorf("parseBaggage(%q) = %q, %+v, readBaggage %q, %+v", lines, texts(b), fault, texts(own), ownFault)
		}
		if err := fault.err(); err != nil {
			checkHeaderError(t, err, err.(*HeaderError).Value+strings.Repeat("x", len(in)))
		}
		if b.Len() > maxBaggageMembers {
			t.Errorf("%d members", b.Len())
		}
		out := baggageValue(b, nil)
		if len(out) > maxBaggageBytes {
			t.Errorf("baggage goes out with %d bytes", len(out))
		}
		checkSendable(t, "baggage", out)
		again, fault := parseBaggage([]string{out})
		if got, want := entries(again), entries(b); fault.rule != "" || !slices.Equal(got, want) {
			t.Errorf("%q goes out as %q, which is read as %q, %v", want, out, got, fault.err())
		}
		// OpenTelemetry reads what we write as we meant it.
		if stock, err := baggage.Parse(out); err != nil || !slices.Equal(entries(stock), entries(b)) {
			t.Errorf("OpenTelemetry reads %q as %q, %v", out, entries(stock), err)
		}
	})
}

func FuzzParseFormats(f *testing.F) {
	f.Add("tracecontext, B3 ,none,requestid,jaeger,b3")
	f.Add("\x00,\xff")
	f.Add(strings.Repeat("x,", 100))
	f.Fuzz(func(t *testing.T, list string) {
		got, err := ParseFormats(list)
		if err != nil {
			checkSendable(t, "error", strings.ReplaceAll(err.Error(), "\n", " "))
			if len(err.Error()) > 8<<10 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		}
		if _, err := New(Config{Extract: got, Inject: got}); err != nil {
			t.Errorf("ParseFormats(%q) = %v, which New refuses: %v", list, got, err)
		}
		for i, f := range got {
			if slices.Contains(got[:i], f) {
				t.Errorf("ParseFormats(%q) = %v repeats %v", list, got, f)
			}
		}
	})
}

// fuzzedNames are the headers that FuzzPropagator sends.
var fuzzedNames = []string{
	"Traceparent", "Tracestate", "B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Flags",
	"Baggage", "X-Request-Id", "X-Client-Trace-Id", "X-Envoy-Force-Trace",
	"X-Ot-Span-Context", "Ot-Tracer-Traceid", "Ot-Tracer-Spanid", "Ot-Tracer-Sampled", "Ot-Baggage-One", "Ot-Baggage-Two",
	"Uber-Trace-Id", "Uberctx-One", "Jaeger-Baggage", "Jaeger-Debug-Id", "X-Tenant",
}

// Bits of FuzzPropagator's cfg; the first seven list the formats to extract.
const (
	fuzzReverse = 1 << 7 // the order of extraction
	fuzzInject  = 8      // where the formats to inject begin
	fuzzNoIDs   = 1 << 15
	fuzzStrict  = 1 << 16
	fuzzText    = 1 << 17
	fuzzForward = 1 << 18
)

// FuzzPropagator sends lines whose first byte picks the header, through a Propagator
// that is configured by the bits of cfg, to a second and a third hop.
func FuzzPropagator(f *testing.F) {
	f.Add(uint32(0x4f4f), []byte("a"+traceparent+"\nbfoo=1,bar=2\nc"+b3+"\nia=1;p,b=%0a\nj"+requestUUID+"\nkx"))
	f.Add(uint32(0x4f4f), []byte("d"+b3Trace64+"\ne"+b3Span+"\nf"+b3Parent+"\ngTRUE\nh1"))
	f.Add(uint32(0x4740), []byte("c0\ng1\nl"))
	f.Add(uint32(fuzzStrict|0x0707), []byte("a"+traceparent+"\nba=1\nb,b=2\nc"+b3+"-"+b3Parent))
	f.Add(uint32(fuzzStrict|fuzzForward|0x0101), []byte("a\nwone\nwtwo"))
	f.Add(uint32(0x7878), []byte("m"+lightStepD+"\nn1\no2\np1\nqa%20b\nia=1"))
	f.Add(uint32(fuzzText|0x3f3f), []byte("m"+zipkinText+"\ns1:2:0:3\nt+%2B\nuk=v, l=w"))
	f.Fuzz(func(t *testing.T, cfg uint32, data []byte) {
		in := http.Header{}
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			if len(line) > 0 {
				name := fuzzedNames[int(line[0]-'a')%len(fuzzedNames)]
				in[name] = append(in[name], string(line[1:]))
			}
		}
		c := Config{
			Extract: []Format{}, Inject: []Format{},
			NoRequestID: cfg&fuzzNoIDs != 0, Strict: cfg&fuzzStrict != 0, ZipkinText: cfg&fuzzText != 0,
		}
		for f := TraceContext; f <= Baggage; f++ {
			if cfg&(1<<(f-TraceContext)) != 0 {
				c.Extract = append(c.Extract, f)
			}
			if cfg&(1<<(fuzzInject+f-TraceContext)) != 0 {
				c.Inject = append(c.Inject, f)
			}
		}
		if cfg&fuzzReverse != 0 {
			slices.Reverse(c.Extract)
		}
		if cfg&fuzzForward != 0 {
			c.Forward = []string{"x-tenant"}
		}
		p, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		sent, before := in, in.Clone()
		hops := [4]http.Header{}
		for i := range hops {
			hops[i] = http.Header{}
			ctx := p.Extract(t.Context(), otelprop.HeaderCarrier(in))
			p.Inject(ctx, otelprop.HeaderCarrier(hops[i]))
			in = hops[i]
		}
		if !reflect.DeepEqual(sent, before) {
			t.Error("Extract changed the headers")
		}
		for name, v := range hops[0] {
			lower := strings.ToLower(name)
			if !slices.Contains(p.Fields(), lower) && !strings.HasPrefix(lower, "ot-baggage-") && !strings.HasPrefix(lower, "uberctx-") {
				t.Errorf("Inject wrote %s: %q, Fields are %q", name, v, p.Fields())
			}
			if len(v) != 1 && name != "X-Tenant" {
				t.Errorf("Inject wrote %s: %q, want one line", name, v)
			}
			if name == "X-Tenant" || name == "Tracestate" && c.Strict { // as they came
				for _, line := range v {
					if !fieldValue(line) {
						t.Errorf("Inject wrote %s: %q", name, v)
					}
				}
			} else {
				checkSendable(t, name, v[0])
			}
			if n := len(strings.Join(v, "")); n > 8192 {
				t.Errorf("Inject wrote %s with %d bytes", name, n)
			}
		}
		// Formats that are written and not read are gone behind the second hop, and
		// baggage is then in all formats that are written; what is read and written goes
		// on as it is.
		if !reflect.DeepEqual(hops[2], hops[3]) {
			t.Errorf("the third hop writes %v, the fourth %v", hops[2], hops[3])
		}
	})
}

func FuzzParseOTSpanContext(f *testing.F) {
	f.Add(lightStepD)
	f.Add(lightStepC)
	f.Add(zipkinText + ";cs;sr")
	text := regexp.MustCompile(`^[0-9a-f]{16};[0-9a-f]{16};[0-9a-f]{16}(?:;(?:cs|sr|cr|ss))*$`)
	zero := strings.Repeat("0", 16)
	f.Fuzz(func(t *testing.T, v string) {
		p, err := ParseOTSpanContext(v)
		if strings.Contains(v, ";") && len(v) <= maxOTSpanContext { // O-Z6
			want := text.MatchString(v) && v[:16] != zero && v[17:33] != zero
			if got := err == nil; got != want {
				t.Fatalf("ParseOTSpanContext(%q) accepted = %v (%v), want %v", v, got, err, want)
			}
		}
		if err != nil {
			checkHeaderError(t, err, v)
			if !reflect.DeepEqual(p, Parsed{}) {
				t.Errorf("ParseOTSpanContext = %+v beside an error", p)
			}
			return
		}
		if !p.SpanContext.IsValid() || len(p.Baggage) > maxBaggageMembers {
			t.Fatalf("ParseOTSpanContext(%q) = %+v", v, p)
		}
		again, err := ParseOTSpanContext(string(AppendOTSpanContextText(nil, p)))
		want := Parsed{SpanContext: p.SpanContext.WithTraceFlags(0), Sampling: Deferred, Parent: p.Parent, Annotations: p.Annotations}
		if err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("as text it is read back as %+v, %v, want %+v", again, err, want)
		}
		again, err = ParseOTSpanContext(string(AppendOTSpanContext(nil, p)))
		want = Parsed{SpanContext: p.SpanContext, Baggage: p.Baggage}
		if err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("as LightStep has it, it is read back as %+v, %v, want %+v", again, err, want)
		}
	})
}

func FuzzOTTrace(f *testing.F) {
	f.Add("463ac35c9f6413ad", "a2fb4a1d1a96d312", "true", "50% é")
	f.Add("1", "2", "0", "%41+")
	f.Add(traceHex, spanHex, "", "\xff")
	traceIDs, spanIDs := regexp.MustCompile(`^[0-9a-fA-F]{1,32}$`), regexp.MustCompile(`^[0-9a-fA-F]{1,16}$`)
	states := regexp.MustCompile(`^(?:|0|1|(?i:true|false))$`)
	f.Fuzz(func(t *testing.T, traceID, spanID, sampled, value string) {
		want := traceIDs.MatchString(traceID) && spanIDs.MatchString(spanID) && states.MatchString(sampled) &&
			strings.Trim(traceID, "0") != "" && strings.Trim(spanID, "0") != ""
		h := http.Header{"Ot-Tracer-Traceid": {traceID}, "Ot-Tracer-Spanid": {spanID}, "Ot-Tracer-Sampled": {sampled}, "Ot-Baggage-Key": {value}}
		checkLegacy(t, OTTrace, h, want, value)
	})
}

func FuzzJaeger(f *testing.F) {
	f.Add("463ac35c9f6413ad48485a3953bb6124:a2fb4a1d1a96d312:0:1", "v", "a=1, b=2")
	f.Add("1%3A2%3A0%3a3", "%41+", "=,,")
	f.Add("", "", "debug=yes")
	valid := regexp.MustCompile(`^([0-9a-fA-F]{1,32}):([0-9a-fA-F]{1,16}):[^:]*:[0-9a-fA-F]{1,2}$`)
	f.Fuzz(func(t *testing.T, v, value, list string) {
		plain := v
		if p, err := url.PathUnescape(v); err == nil {
			plain = p
		}
		m := valid.FindStringSubmatch(plain)
		want := m != nil && len(v) <= maxEncodedUberTraceID && len(plain) <= maxUberTraceID && strings.Trim(m[1], "0") != "" && strings.Trim(m[2], "0") != ""
		h := http.Header{"Uber-Trace-Id": {v}, "Uberctx-Key": {value}, "Jaeger-Baggage": {list}}
		checkLegacy(t, Jaeger, h, want, "")
	})
}

// checkLegacy reads h, writes what it says and reads that: the same, but for upper
// halves of trace ids and keys that no header can name.
func checkLegacy(t *testing.T, f Format, h http.Header, want bool, value string) {
	t.Helper()
	p := mustNew(t, Config{Extract: []Format{f}, Inject: []Format{f}, NoRequestID: true})
	x := p.Read(otelprop.HeaderCarrier(h))
	if got := x.SpanContext.IsValid(); got != want {
		t.Fatalf("Read(%q) has a span context: %v, want %v; %v", h, got, want, x.Err)
	}
	if x.Err != nil {
		checkSendable(t, "Err", strings.ReplaceAll(x.Err.Error(), "\n", " "))
	}
	if x.Baggage.Len() > maxBaggageMembers || len(baggageValue(x.Baggage, nil)) > maxBaggageBytes {
		t.Errorf("baggage of %d members", x.Baggage.Len())
	}
	if !want {
		return
	}
	if f == OTTrace && value != "" && !strings.ContainsAny(value, "%") && x.Err == nil && x.Baggage.Member("key").Value() != value {
		t.Errorf("baggage %q is read as %q", value, x.Baggage.Member("key").Value())
	}
	out := http.Header{}
	p.Inject(p.Extract(t.Context(), otelprop.HeaderCarrier(h)), otelprop.HeaderCarrier(out))
	for name, lines := range out {
		checkSendable(t, name, lines[0])
	}
	again := p.Read(otelprop.HeaderCarrier(out))
	id, was := again.SpanContext.TraceID(), x.SpanContext.TraceID()
	if len(out) > 0 && ([8]byte(id[8:]) != [8]byte(was[8:]) || again.SpanContext.SpanID() != x.SpanContext.SpanID() || again.SpanContext.TraceFlags() != x.SpanContext.TraceFlags() || again.Sampling != x.Sampling) {
		t.Errorf("%v goes out as %v, which is read as %v, %v", x.SpanContext, out, again.SpanContext, again.Sampling)
	}
	if got := again.Baggage.Member("key").Value(); len(out) > 0 && got != x.Baggage.Member("key").Value() && x.Err == nil && x.Baggage.Member("Key").Key() == "" {
		t.Errorf("baggage %q goes out as %v, which is read as %q", x.Baggage.Member("key").Value(), out, got)
	}
}

func FuzzStrict(f *testing.F) {
	f.Add(traceparent, "a=1", b3, "1", "2", "3", "true")
	f.Add(strings.ToUpper(traceparent), "no member", b3[:49]+"-d-"+b3Parent, "0x1", "-2", "", "TRUE")
	f.Add("", "", "0", "", "", "", "")
	const id = `[0-9a-fA-F]{16}|0[xX][0-9a-fA-F]{14}`
	w3c := regexp.MustCompile(`^[0-9a-fA-F]{2}-[0-9a-fA-F]{32}-[0-9a-fA-F]{16}-[0-9a-fA-F]{2}$`)
	single := regexp.MustCompile(`^(?:[01d]|(?:` + id + `){1,2}-(?:` + id + `)(?:-[01d](?:-(?:` + id + `))?)?)$`)
	number := regexp.MustCompile(`^(?:0[xX])?0*[0-9a-fA-F]{1,16}$`)
	halves := regexp.MustCompile(`^(?:` + id + `){2}$`)
	f.Fuzz(func(t *testing.T, tp, ts, b, traceID, spanID, parentID, sampled string) {
		null := !w3c.MatchString(tp) || tp[3:35] == strings.Repeat("0", 32) || tp[36:52] == strings.Repeat("0", 16)
		x := checkStrict(t, otelTracer, http.Header{"Traceparent": {tp}, "Tracestate": {ts}, "B3": {b}}, null)
		if !null && (x.SpanContext.IsSampled() != (hexTable[tp[54]]&1 != 0) || x.Tracestate != ts && x.Err == nil) {
			t.Errorf("traceparent %q, tracestate %q are read as %v, %q", tp, ts, x.SpanContext, x.Tracestate)
		}
		checkStrict(t, zipkinTracer, http.Header{"B3": {b}, "X-B3-Traceid": {traceID}}, !single.MatchString(b))
		h := http.Header{"X-B3-Traceid": {traceID}, "X-B3-Spanid": {spanID}, "X-B3-Parentspanid": {parentID}, "X-B3-Sampled": {sampled}}
		ids := len(traceID) == 32 && halves.MatchString(traceID) || len(traceID) != 32 && number.MatchString(traceID)
		null = !ids || !number.MatchString(spanID) || parentID != "" && !number.MatchString(parentID)
		if max(len(traceID), len(spanID), len(parentID)) > maxHexNumber {
			return // Envoy reads any number of zeros
		}
		checkStrict(t, zipkinTracer, h, null)
		h["Traceparent"] = []string{tp}
		checkStrict(t, dualTracer, h, null)
	})
}

// checkStrict holds that headers are refused as they should be, and that what a hop
// sends on the next one reads alike.
func checkStrict(t *testing.T, tracer []Format, h http.Header, null bool) Extraction {
	t.Helper()
	p := mustNew(t, Config{Extract: tracer, Inject: tracer, Strict: true, NoRequestID: true})
	x := p.Read(otelprop.HeaderCarrier(h))
	if x.Null != null {
		t.Fatalf("%v: Read(%q).Null = %v (%v), want %v", tracer, h, x.Null, x.Err, null)
	}
	if x.Err != nil {
		checkSendable(t, "Err", strings.ReplaceAll(x.Err.Error(), "\n", " "))
	}
	out := http.Header{}
	p.Inject(p.Extract(t.Context(), otelprop.HeaderCarrier(h)), otelprop.HeaderCarrier(out))
	if x.Null {
		if len(out) > 0 || x.SpanContext.IsValid() {
			t.Errorf("%v: of %q goes out %v", tracer, h, out)
		}
		return x
	}
	again := p.Read(otelprop.HeaderCarrier(out))
	if again.Err != nil || !again.SpanContext.Equal(x.SpanContext) && x.Format != TraceContext || again.Parent != x.Parent && x.Sampling != Deferred && x.SpanContext.IsValid() {
		t.Errorf("%v: %q, which is %+v, goes out as %v, which is read as %+v", tracer, h, x, out, again)
	}
	return x
}
