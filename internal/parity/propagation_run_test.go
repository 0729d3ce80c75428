package parity_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/baggage"
	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/meshtrace/meshtrace/internal/parity"
	"github.com/meshtrace/meshtrace/propagation"
)

// read returns what the propagator makes of f, formats in that order.
func read(f fields, cfg propagation.Config) (propagation.Extraction, error) {
	p, err := propagation.New(cfg)
	if err != nil {
		return propagation.Extraction{}, err
	}
	h := make(http.Header)
	for _, line := range f.lines() {
		name := http.CanonicalHeaderKey(line[0])
		h[name] = append(h[name], line[1])
	}
	return p.Read(otelprop.HeaderCarrier(h)), nil
}

// resultOf names what a context came to.
func resultOf(x propagation.Extraction) string {
	switch {
	case x.Null:
		return "null_span"
	case x.SpanContext.IsValid():
		return "context"
	}
	return "root"
}

// sampledOf is what an extraction says about sampling; nil leaves it to this hop.
func sampledOf(x propagation.Extraction) *bool {
	switch {
	case x.Sampling == propagation.Deferred:
		return nil
	case x.SpanContext.IsValid():
		return new(x.SpanContext.IsSampled())
	case x.Sampling == propagation.Accept, x.Sampling == propagation.Debug:
		return new(true)
	case x.Sampling == propagation.Deny:
		return new(false)
	}
	return nil
}

// tri prints a yes, no or nothing.
func tri(b *bool) string {
	if b == nil {
		return "undecided"
	}
	return strconv.FormatBool(*b)
}

func checkTraceparentExtract(v parity.Vector) error {
	var in fields
	var config struct{}
	var out struct {
		Result     string `json:"result"`
		Reason     string `json:"reason"`  // Envoy's words for its log; the first fault met is ours (W-7)
		Version    string `json:"version"` // not looked at (W-4), and not passed on (W-8)
		TraceID    string `json:"trace_id"`
		ParentID   string `json:"parent_id"`
		Sampled    bool   `json:"sampled"`
		Tracestate string `json:"tracestate"`
	}
	if err := errors.Join(decode(v, &in, &config, &out), in.only("traceparent", "tracestate")); err != nil {
		return err
	}
	x, err := read(in, propagation.Config{Strict: true, Extract: []propagation.Format{propagation.TraceContext}})
	if err != nil {
		return err
	}
	var m mismatches
	equal(&m, "result", resultOf(x), out.Result)
	equal(&m, "refused", x.Err != nil, out.Result == "null_span")
	if out.Result == "context" {
		equal(&m, "trace id", x.SpanContext.TraceID().String(), out.TraceID)
		equal(&m, "parent id", x.SpanContext.SpanID().String(), out.ParentID)
		equal(&m, "sampled", x.SpanContext.IsSampled(), out.Sampled)
		state := x.Tracestate
		if state == "" {
			state = x.SpanContext.TraceState().String()
		}
		equal(&m, "tracestate", state, out.Tracestate)
	}
	return m.err()
}

func checkStrictValidation(v parity.Vector) error {
	var in fields
	var config struct{}
	var out struct {
		Valid bool `json:"valid"`
	}
	if err := errors.Join(decode(v, &in, &config, &out), in.only("traceparent", "tracestate", "baggage")); err != nil {
		return err
	}
	if len(in) != 1 {
		return fmt.Errorf("%d headers, want one", len(in))
	}
	var err error
	for name, lines := range in {
		switch name {
		case "traceparent":
			err = propagation.ValidateTraceparent(lines[0])
		case "tracestate":
			err = propagation.ValidateTracestate(lines...)
		case "baggage":
			err = propagation.ValidateBaggage(lines...)
		}
	}
	if (err == nil) != out.Valid {
		return fmt.Errorf("valid = %v (%v), want %v", err == nil, err, out.Valid)
	}
	return nil
}

func checkB3Extract(v parity.Vector) error {
	var in fields
	var config struct {
		Option string `json:"trace_context_option"`
	}
	var out struct {
		Result   string  `json:"result"`
		Reason   string  `json:"reason"` // Envoy's words for its log
		Sampled  *bool   `json:"sampled"`
		High     string  `json:"trace_id_high"`
		Low      string  `json:"trace_id_low"`
		Is128    bool    `json:"is_128_bit"`
		SpanID   string  `json:"span_id"`
		ParentID *string `json:"parent_id"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	if err := in.only("b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags", "traceparent", "tracestate"); err != nil {
		return err
	}
	cfg := propagation.Config{Strict: true, Extract: []propagation.Format{propagation.B3, propagation.B3Multi}}
	switch config.Option {
	case "USE_B3":
	case "USE_B3_WITH_W3C_PROPAGATION":
		cfg.Extract = append(cfg.Extract, propagation.TraceContext)
	default:
		return fmt.Errorf("trace_context_option %q is none that this runner knows", config.Option)
	}
	x, err := read(in, cfg)
	if err != nil {
		return err
	}
	var m mismatches
	equal(&m, "result", resultOf(x), out.Result)
	if out.Result != "null_span" { // which is not sampled, whatever a broken header says
		equal(&m, "sampled", tri(sampledOf(x)), tri(out.Sampled))
	}
	if out.Result == "context" {
		id := x.SpanContext.TraceID()
		equal(&m, "trace id", id.String(), out.High+out.Low)
		equal(&m, "128 bits", id.String()[:16] != strings.Repeat("0", 16), out.Is128)
		equal(&m, "span id", x.SpanContext.SpanID().String(), out.SpanID)
		parent := strings.Repeat("0", 16)
		if out.ParentID != nil {
			parent = *out.ParentID
		}
		equal(&m, "parent id", x.Parent.String(), parent)
	}
	return m.err()
}

// short is the last 64 bits of a trace id, which is all that the older formats have,
// and an error when there are more.
func short(id string) (string, error) {
	if strings.Trim(id[:16], "0") != "" {
		return id, fmt.Errorf("trace id %s has more than 64 bits", id)
	}
	return id[16:], nil
}

func checkLightStep(v parity.Vector) error {
	var in fields
	var config struct {
		Generation string  `json:"generation"`
		WrittenBy  *string `json:"written_by"` // nil: made by hand
	}
	var out struct {
		Result  *string           `json:"result"` // what it says instead of all else: there is no context
		TraceID string            `json:"trace_id"`
		SpanID  string            `json:"span_id"`
		Trace   string            `json:"trace_id_dec"`
		Span    string            `json:"span_id_dec"`
		Sampled bool              `json:"sampled"`
		Baggage map[string]string `json:"baggage"`
		Hex     string            `json:"hex"`
	}
	if err := errors.Join(decode(v, &in, &config, &out), in.only("x-ot-span-context")); err != nil {
		return err
	}
	value, _ := in.first("x-ot-span-context")
	p, err := propagation.ParseOTSpanContext(value)
	var m mismatches
	if out.Result != nil {
		if err == nil {
			m.addf("accepted as %v, want: %s", p.SpanContext, *out.Result)
		}
		return m.err()
	}
	if err != nil {
		return err
	}
	id, err := short(p.SpanContext.TraceID().String())
	if err != nil {
		return err
	}
	message, err := base64.StdEncoding.DecodeString(value)
	equal(&m, "message", hex.EncodeToString(message), out.Hex)
	equal(&m, "trace id", id, out.TraceID)
	equal(&m, "span id", p.SpanContext.SpanID().String(), out.SpanID)
	equal(&m, "trace id in decimals", decimal(id), out.Trace)
	equal(&m, "span id in decimals", decimal(p.SpanContext.SpanID().String()), out.Span)
	equal(&m, "sampled", p.SpanContext.IsSampled(), out.Sampled)
	equal(&m, "baggage", fmt.Sprint(nonNil(p.Baggage)), fmt.Sprint(out.Baggage))
	if config.Generation == "D" {
		again, aerr := propagation.ParseOTSpanContext(string(propagation.AppendOTSpanContext(nil, p)))
		err = errors.Join(err, aerr)
		equal(&m, "read again after it was written", fmt.Sprint(again), fmt.Sprint(p))
		if len(p.Baggage) < 2 { // the order of a map's entries is not defined
			equal(&m, "written", string(propagation.AppendOTSpanContext(nil, p)), value)
		}
	}
	return errors.Join(err, m.err())
}

func decimal(id string) string {
	n, err := strconv.ParseUint(id, 16, 64)
	if err != nil {
		return err.Error()
	}
	return strconv.FormatUint(n, 10)
}

func nonNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func checkZipkinText(v parity.Vector) error {
	var in fields
	var config struct {
		Envoy string `json:"envoy"`
	}
	var out struct {
		Valid        bool     `json:"valid"`
		TraceID      string   `json:"trace_id"`
		SpanID       string   `json:"span_id"`
		ParentID     string   `json:"parent_id"`
		Annotations  []string `json:"annotations"`
		Reserialised *string  `json:"reserialised"`
	}
	if err := errors.Join(decode(v, &in, &config, &out), in.only("x-ot-span-context")); err != nil {
		return err
	}
	if config.Envoy != "1.3-1.4" && config.Envoy != "1.5" {
		return fmt.Errorf("envoy %q is none that this topic knows", config.Envoy)
	}
	value, _ := in.first("x-ot-span-context")
	p, err := propagation.ParseOTSpanContext(value)
	if (err == nil) != out.Valid {
		return fmt.Errorf("valid = %v (%v), want %v", err == nil, err, out.Valid)
	}
	if config.Envoy == "1.5" {
		p.Annotations = "" // O-Z3: read and not kept
	}
	var m mismatches
	if out.Valid {
		id, err := short(p.SpanContext.TraceID().String())
		if err != nil {
			return err
		}
		equal(&m, "trace id", id, out.TraceID)
		equal(&m, "span id", p.SpanContext.SpanID().String(), out.SpanID)
		equal(&m, "parent id", p.Parent.String(), out.ParentID)
		slices.Sort(out.Annotations) // O-Z1: their order is free
		equal(&m, "annotations", p.Annotations, strings.Join(out.Annotations, ";"))
	}
	if out.Reserialised != nil {
		equal(&m, "written", string(propagation.AppendOTSpanContextText(nil, p)), *out.Reserialised)
	}
	return m.err()
}

// legacyOut is what the older text headers say.
type legacyOut struct {
	TraceID  string            `json:"trace_id"`
	SpanID   string            `json:"span_id"`
	ParentID *string           `json:"parent_id"`
	Sampled  *bool             `json:"sampled"`
	Debug    bool              `json:"debug"`
	Baggage  map[string]string `json:"baggage"`
	Result   *string           `json:"result"` // what it says instead of all else: there is no context
}

func (out legacyOut) compare(x propagation.Extraction) error {
	var m mismatches
	if out.Result != nil {
		if x.SpanContext.IsValid() {
			m.addf("read as %v, want: %s", x.SpanContext, *out.Result)
		}
		return m.err()
	}
	id := x.SpanContext.TraceID().String()
	equal(&m, "trace id", id, strings.Repeat("0", max(0, 32-len(out.TraceID)))+out.TraceID)
	equal(&m, "span id", x.SpanContext.SpanID().String(), out.SpanID)
	if out.ParentID != nil {
		equal(&m, "parent id", x.Parent.String(), *out.ParentID)
	}
	equal(&m, "sampled", tri(sampledOf(x)), tri(out.Sampled))
	equal(&m, "debug", x.Sampling == propagation.Debug, out.Debug)
	if out.Baggage != nil {
		equal(&m, "baggage", fmt.Sprint(members(x.Baggage)), fmt.Sprint(out.Baggage))
	}
	return m.err()
}

func members(b baggage.Baggage) map[string]string {
	m := make(map[string]string)
	for _, member := range b.Members() {
		m[member.Key()] = member.Value()
	}
	return m
}

func checkOTTracer(v parity.Vector) error {
	var in fields
	var config struct{}
	var out struct {
		legacyOut
		// Where libraries disagree, what each says (P-1).
		BasicTracer  *string `json:"basictracer_go"`
		LightStep    *string `json:"lightstep_cpp"`
		LightStep011 *string `json:"lightstep_cpp_0_11"`
		Contrib      *string `json:"otel_go_contrib_ot"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	for name := range in {
		if !strings.HasPrefix(name, "ot-tracer-") && !strings.HasPrefix(name, "ot-baggage-") {
			return fmt.Errorf("in: header %q is none that this topic knows", name)
		}
	}
	x, err := read(in, propagation.Config{Extract: []propagation.Format{propagation.OTTrace, propagation.Baggage}})
	if err != nil {
		return err
	}
	var says []string
	for _, word := range []*string{out.BasicTracer, out.LightStep, out.LightStep011, out.Contrib} {
		if word != nil {
			says = append(says, *word)
		}
	}
	if len(says) == 0 {
		return out.compare(x)
	}
	// Tolerant: what one of them accepts is accepted, in a sense that one of them has.
	accepted := slices.ContainsFunc(says, func(s string) bool { return !strings.HasPrefix(s, "corrupted") })
	if x.SpanContext.IsValid() != accepted {
		return fmt.Errorf("read as %v (%v), the libraries say %q", x.SpanContext, x.Err, says)
	}
	if !accepted {
		return nil
	}
	sense := "context with sampled flag off"
	if x.SpanContext.IsSampled() {
		sense = "sampled"
	}
	if !slices.Contains(says, sense) {
		return fmt.Errorf("%s, the libraries say %q", sense, says)
	}
	return nil
}

func checkUberTraceID(v parity.Vector) error {
	var in fields
	var config struct{}
	var out legacyOut
	if err := errors.Join(decode(v, &in, &config, &out), in.only("uber-trace-id")); err != nil {
		return err
	}
	x, err := read(in, propagation.Config{Extract: []propagation.Format{propagation.Jaeger}})
	if err != nil {
		return err
	}
	return out.compare(x)
}

// checkTraceparentInject puts the request to a gateway, since what goes upstream
// depends on the decision. The numbers of Envoy's generator are not handed out: where
// they stand, an id of that shape must.
func checkTraceparentInject(v parity.Vector) error {
	var in fields
	var config struct {
		Random        []uint64 `json:"random"`
		EnvoyDecision bool     `json:"envoy_decision"`
		NoPropagation bool     `json:"no_context_propagation"`
		Sampler       string   `json:"sampler"`
	}
	var out struct {
		Traceparent parity.Lines `json:"traceparent"`
		Tracestate  parity.Lines `json:"tracestate"`
	}
	if err := errors.Join(decode(v, &in, &config, &out), in.only("traceparent", "tracestate")); err != nil {
		return err
	}
	c := parity.Case{
		Config:  parity.Proxy{Tracer: "opentelemetry", NoContextPropagation: config.NoPropagation},
		Request: parity.Request{Headers: in.lines()},
	}
	if !config.EnvoyDecision {
		c.Config.RandomSampling = new(0.0)
	}
	switch config.Sampler {
	case "":
	case "cel (drops)":
		c.Config.Sampler = &parity.Sampler{Type: "cel"}
	default:
		return fmt.Errorf("sampler %q is none that this topic knows", config.Sampler)
	}
	edit, err := asOf(v.Until)
	if err != nil {
		return err
	}
	a, err := send(c, edit)
	if err != nil {
		return err
	}
	made := strings.NewReplacer()
	switch r := config.Random; len(r) {
	case 0:
	case 1:
		made = strings.NewReplacer(fmt.Sprintf("%016x", r[0]), "{{span:server}}")
	case 3:
		made = strings.NewReplacer(fmt.Sprintf("%016x%016x", r[0], r[1]), "{{trace}}", fmt.Sprintf("%016x", r[2]), "{{span:server}}")
	default:
		return fmt.Errorf("random %v: want none, a span id, or trace id and span id", r)
	}
	return compareContext(a, map[string]parity.Lines{"traceparent": replaced(made, out.Traceparent), "tracestate": replaced(made, out.Tracestate)})
}

func replaced(r *strings.Replacer, l parity.Lines) parity.Lines {
	for i := range l {
		l[i] = r.Replace(l[i])
	}
	return l
}

// compareContext compares headers of the one request that reached the upstream.
func compareContext(a answer, want map[string]parity.Lines) error {
	if len(a.attempts) != 1 {
		return fmt.Errorf("%d requests reached the upstream, want 1", len(a.attempts))
	}
	var m mismatches
	ids := make(binding)
	for name, lines := range want {
		compareLines(&m, ids, name, a.attempts[0].headers[name], lines)
	}
	return errors.Join(m.err(), ids.check())
}

func checkZipkinInject(v parity.Vector) error {
	var in fields
	var config struct {
		Random        []string `json:"random"`
		EnvoyDecision bool     `json:"envoy_decision"`
		Shared        bool     `json:"shared_span_context"`
		Spawn         bool     `json:"spawn_upstream_span"`
		Direction     string   `json:"direction"`
		TraceID128    bool     `json:"trace_id_128bit"`
		Option        string   `json:"trace_context_option"`
	}
	var out struct {
		Span     json.RawMessage `json:"span"`
		Injected fields          `json:"injected"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	var span *struct {
		TraceID  string  `json:"trace_id"`
		ID       string  `json:"id"`
		ParentID *string `json:"parent_id"` // injected as well
		Sampled  bool    `json:"sampled"`
	}
	if err := json.Unmarshal(out.Span, &span); err != nil {
		return err
	}
	c := parity.Case{
		Config: parity.Proxy{Tracer: "zipkin", Direction: config.Direction, Zipkin: parity.ZipkinTracer{
			SharedSpanContext: &config.Shared, TraceID128Bit: config.TraceID128, TraceContextOption: config.Option,
		}},
		Request: parity.Request{Headers: in.lines()},
	}
	if config.Spawn {
		// The downstream span is meant, which is a server's then whatever the direction.
		c.Config.Direction = "ingress"
	}
	if !config.EnvoyDecision {
		c.Config.RandomSampling = new(0.0)
	}
	if v.Until != "" { // B-13: before 1.40
		c.Config.Node.Runtime = map[string]json.RawMessage{preserveB3: json.RawMessage("false")}
	}
	a, err := send(c)
	if err != nil {
		return err
	}
	if span == nil { // B-9: nothing injected, what came goes on
		want := map[string]parity.Lines{"b3": nil, "x-b3-traceid": nil, "x-b3-spanid": nil, "x-b3-parentspanid": nil, "x-b3-sampled": nil}
		for name, lines := range in {
			want[name] = lines
		}
		if len(out.Injected) > 0 || len(a.spans) > 0 {
			return fmt.Errorf("%d spans and %v injected, want none", len(a.spans), out.Injected)
		}
		return compareContext(a, want)
	}
	var pairs []string
	switch r := config.Random; {
	case len(r) == 2:
		pairs = []string{r[1] + r[0], "{{trace}}", r[0], "{{trace:low}}"}
	case len(r) == 1 && strings.HasSuffix(span.TraceID, r[0]):
		pairs = []string{r[0], "{{trace64}}"}
	case len(r) == 1:
		pairs = []string{r[0], "{{span:server}}"}
	default:
		return fmt.Errorf("random %v: want an id, or the two halves of one", r)
	}
	made := strings.NewReplacer(pairs...)
	want := make(map[string]parity.Lines)
	for name, lines := range out.Injected {
		want[name] = replaced(made, slices.Clone(lines))
	}
	var m mismatches
	equal(&m, "exported", exported(a), span.Sampled)
	ids := make(binding)
	if exported(a) {
		sc := a.spans[0].SpanContext()
		id := sc.TraceID().String()
		if len(span.TraceID) == 16 {
			if id, err = short(id); err != nil {
				return err
			}
		}
		if err := errors.Join(ids.match(id, made.Replace(span.TraceID)), ids.match(sc.SpanID().String(), made.Replace(span.ID))); err != nil {
			m.addf("span: %v", err)
		}
	}
	return errors.Join(m.err(), compareContext(a, want))
}
