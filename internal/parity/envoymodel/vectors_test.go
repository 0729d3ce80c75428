package envoymodel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/meshtrace/meshtrace/internal/parity"
)

// skippedVectors are those that need what the model leaves out.
var skippedVectors = map[string]string{
	"edge_and_internal/trusted_cidrs_bad_ip_in_xff": "trusted ranges of the XFF extension have no rule",
}

// Every vector of the topics that the model covers is its answer.
func TestVectors(t *testing.T) {
	vectors, err := parity.Load(dataFile("MESHTRACE_VECTORS", "envoy.json"))
	if err != nil {
		t.Fatalf("vectors, which MESHTRACE_VECTORS may name: %v", err)
	}
	compared, skipped := 0, make(map[string]bool)
	for _, topic := range []struct {
		name  string
		check func(*testing.T, parity.Vector)
	}{
		{"request_id_to_integer", checkNumber},
		{"request_id_set", checkSetRequestID},
		{"trace_reason_nibble", checkDigit},
		{"response_request_id", checkResponseRequestID},
		{"edge_and_internal", checkEdge},
		{"header_sanitisation", checkSanitising},
		{"trace_decision", checkDecision},
		{"stable_sampling", checkStableSampling},
		{"percent_conversion", checkPercent},
	} {
		rows := vectors.Topics[topic.name]
		if len(rows) == 0 || len(rows) != vectors.Meta.Topics[topic.name].Count {
			t.Errorf("topic %s: %d vectors, the file says %d", topic.name, len(rows), vectors.Meta.Topics[topic.name].Count)
		}
		for _, v := range rows {
			name := topic.name + "/" + v.Name
			if reason, ok := skippedVectors[name]; ok {
				skipped[name] = true
				t.Logf("%s is skipped: %s", name, reason)
				continue
			}
			compared++
			t.Run(name, func(t *testing.T) { topic.check(t, v) })
		}
	}
	for name, reason := range skippedVectors {
		if !skipped[name] {
			t.Errorf("%s is skipped (%s) but does not occur", name, reason)
		}
	}
	t.Logf("%d vectors compared, %d skipped", compared, len(skippedVectors))
}

// read decodes the three parts of a vector. A field that a check does not know
// is an error, so that none is passed over.
func read(t *testing.T, v parity.Vector, in, config, out any) {
	t.Helper()
	for _, part := range []struct {
		from json.RawMessage
		into any
	}{{v.In, in}, {v.Config, config}, {v.Out, out}} {
		dec := json.NewDecoder(bytes.NewReader(part.from))
		dec.DisallowUnknownFields()
		if err := dec.Decode(part.into); err != nil {
			t.Fatalf("%s: %v", part.from, err)
		}
	}
}

// fields is a header as vectors write it: null is absent.
type fields map[string]*string

func (f fields) lines() []Line {
	var lines []Line
	for name, value := range f {
		if value != nil {
			lines = append(lines, Line{name, *value})
		}
	}
	return lines
}

func (f fields) header() Header { return readHeader(f.lines(), nil) }

// checkHeader compares one header, nil is absent.
func checkHeader(t *testing.T, got Header, name string, want *string) {
	t.Helper()
	var lines []string
	if want != nil {
		lines = []string{*want}
	}
	if !slices.Equal(got.Lines(name), lines) {
		t.Errorf("%s = %q, want %q", name, got.Lines(name), lines)
	}
}

func checkNumber(t *testing.T, v parity.Vector) {
	var in fields
	var config struct{}
	var out struct {
		Integer  *uint64
		Mod100   *uint64 `json:"mod_100"`
		Mod10000 *uint64 `json:"mod_10000"`
	}
	read(t, v, &in, &config, &out)
	number, ok := samplingNumber(in.header())
	if ok != (out.Integer != nil) {
		t.Fatalf("number of %s = %d, %v", v.In, number, ok)
	}
	if ok && (number != *out.Integer || number%100 != *out.Mod100 || number%10_000 != *out.Mod10000) {
		t.Errorf("number of %s = %d, want %d", v.In, number, *out.Integer)
	}
}

func checkSetRequestID(t *testing.T, v parity.Vector) {
	var in fields
	var config struct {
		Edge      bool `json:"edge_request"`
		Preserve  bool `json:"preserve_external_request_id"`
		Pack      bool `json:"pack_trace_reason"`
		Generated string
	}
	var out struct {
		RequestID *string `json:"x-request-id"`
		Generated bool
	}
	read(t, v, &in, &config, &out)
	h := in.header()
	Listener{PreserveExternal: config.Preserve, PackOff: !config.Pack}.setRequestID(h, config.Edge, config.Generated)
	checkHeader(t, h, "x-request-id", out.RequestID)
	if generated := h.get("x-request-id") == config.Generated; generated != out.Generated {
		t.Errorf("generated = %v, want %v", generated, out.Generated)
	}
}

func checkDigit(t *testing.T, v parity.Vector) {
	var in struct {
		RequestID string  `json:"x-request-id"`
		Reason    *Reason // of a write
	}
	var config struct {
		Pack bool `json:"pack_trace_reason"`
	}
	var out struct {
		RequestID *string `json:"x-request-id"` // of a write
		Reason    *Reason // of a read
	}
	read(t, v, &in, &config, &out)
	l := Listener{PackOff: !config.Pack}
	h := Header{"x-request-id": {in.RequestID}}
	switch {
	case in.Reason != nil && out.RequestID != nil:
		l.writeReason(h, *in.Reason)
		checkHeader(t, h, "x-request-id", out.RequestID)
	case in.Reason == nil && out.Reason != nil:
		if got := l.readReason(h); got != *out.Reason {
			t.Errorf("reason of %s = %s, want %s", in.RequestID, got, *out.Reason)
		}
	default:
		t.Fatal("neither a read nor a write")
	}
}

func checkResponseRequestID(t *testing.T, v parity.Vector) {
	var in struct{ Request, Response fields }
	var config struct {
		Always bool `json:"always_set_request_id_in_response"`
	}
	var out struct{ Response fields }
	read(t, v, &in, &config, &out)
	response := in.Response.header()
	if id := (Listener{AlwaysSetInResponse: config.Always}).responseRequestID(in.Request.header()); id != nil {
		response.set("x-request-id", *id)
	}
	checkHeader(t, response, "x-request-id", out.Response["x-request-id"])
}

// internalAddresses reads internal_address_config: a list of ranges, unset or
// legacy-private.
func internalAddresses(t *testing.T, config json.RawMessage) []netip.Prefix {
	t.Helper()
	var list []string
	if json.Unmarshal(config, &list) == nil && list != nil {
		return cidrs(list)
	}
	switch string(config) {
	case "", `"unset"`:
		return nil
	case `"legacy-private"`:
		return []netip.Prefix{}
	}
	t.Fatalf("internal_address_config %s", config)
	return nil
}

func checkEdge(t *testing.T, v parity.Vector) {
	var in struct {
		Peer    netip.Addr
		Headers fields
	}
	var config struct {
		UseRemoteAddress bool            `json:"use_remote_address"`
		TrustedHops      int             `json:"xff_num_trusted_hops"`
		Internal         json.RawMessage `json:"internal_address_config"`
		LocalAddress     netip.Addr      `json:"local_address"`
		SkipAppend       bool            `json:"skip_xff_append"`
		ExtensionSkips   *bool           `json:"xff_extension_skip_xff_append"`
	}
	var out struct {
		ClientAddress   netip.Addr `json:"client_address"`
		Internal, Edge  bool
		ForwardedFor    *string `json:"x-forwarded-for"`
		ExternalAddress *string `json:"x-envoy-external-address"`
		EnvoyInternal   *string `json:"x-envoy-internal"`
	}
	read(t, v, &in, &config, &out)
	a := Listener{
		UseRemoteAddress:    config.UseRemoteAddress,
		XFFNumTrustedHops:   config.TrustedHops,
		InternalCIDRs:       internalAddresses(t, config.Internal),
		SkipXFFAppend:       config.SkipAppend,
		XFFExtensionAppends: off(config.ExtensionSkips),
		LocalAddress:        config.LocalAddress,
	}.Answer(Request{Peer: in.Peer, Lines: in.Headers.lines()})
	if a.ClientAddress != out.ClientAddress || a.Internal != out.Internal || a.Edge != out.Edge {
		t.Errorf("client %s, internal %v, edge %v; want %s, %v, %v", a.ClientAddress, a.Internal, a.Edge, out.ClientAddress, out.Internal, out.Edge)
	}
	checkHeader(t, a.Upstream, "x-forwarded-for", out.ForwardedFor)
	checkHeader(t, a.Upstream, "x-envoy-external-address", out.ExternalAddress)
	checkHeader(t, a.Upstream, "x-envoy-internal", out.EnvoyInternal)
}

func checkSanitising(t *testing.T, v parity.Vector) {
	var in fields
	var config struct {
		Peer             *netip.Addr
		UseRemoteAddress bool            `json:"use_remote_address"`
		Internal         json.RawMessage `json:"internal_address_config"`
		InternalOnly     []string        `json:"internal_only_headers"`
		ForwardedFor     *string         `json:"x-forwarded-for"`
		AddUserAgent     string          `json:"add_user_agent"`
		NodeID           string          `json:"node_id"`
	}
	var out struct {
		Removed, Kept []string
		Set           map[string]string
	}
	read(t, v, &in, &config, &out)
	request := Request{Peer: netip.MustParseAddr("203.0.113.9"), Lines: in.lines()}
	if config.Peer != nil {
		request.Peer = *config.Peer
	}
	if config.ForwardedFor != nil {
		request.Lines = append(request.Lines, Line{"x-forwarded-for", *config.ForwardedFor})
	}
	a := Listener{
		UseRemoteAddress:    config.UseRemoteAddress,
		InternalCIDRs:       internalAddresses(t, config.Internal),
		InternalOnlyHeaders: config.InternalOnly,
		AddUserAgent:        config.AddUserAgent != "",
		NodeCluster:         config.AddUserAgent,
		NodeID:              config.NodeID,
	}.Answer(request)
	for _, name := range out.Removed {
		checkHeader(t, a.Upstream, name, nil)
	}
	for _, name := range out.Kept {
		checkHeader(t, a.Upstream, name, in[name])
	}
	for name, value := range out.Set {
		checkHeader(t, a.Upstream, name, &value)
	}
}

// pair is a fraction as vectors write it: [numerator, denominator].
type pair Fraction

func (p *pair) UnmarshalJSON(b []byte) error {
	var numerator, number uint64
	var name string
	if err := json.Unmarshal(b, &[2]any{&numerator, &number}); err == nil {
		*p = pair{numerator, number}
		return nil
	}
	if err := json.Unmarshal(b, &[2]any{&numerator, &name}); err != nil {
		return err
	}
	*p = pair{numerator, denominator(name)}
	return nil
}

func checkDecision(t *testing.T, v parity.Vector) {
	var in fields
	var config struct {
		Tracing    bool  `json:"tracing_configured"`
		ClientRoll *bool `json:"client_roll"` // nil: must not be asked
		Random     pair  `json:"random_sampling"`
		Overall    pair  `json:"overall_sampling"`
		UseID      bool  `json:"use_request_id_for_trace_sampling"`
		Pack       bool  `json:"pack_trace_reason"`
	}
	var out struct {
		Reason    Reason
		Traced    bool
		RequestID *string `json:"x-request-id"`
	}
	read(t, v, &in, &config, &out)
	l := insideListener()
	l.PackOff, l.SampleByRequestIDOff = !config.Pack, !config.UseID
	if !config.Tracing {
		l.Tracing = nil
	}
	l.Route.Tracing = &RouteTracing{
		Client:  &Fraction{50, 100},
		Random:  new(Fraction(config.Random)),
		Overall: new(Fraction(config.Overall)),
	}
	for _, roll := range []bool{true, false} {
		if config.ClientRoll != nil && *config.ClientRoll != roll {
			continue
		}
		draw := uint64(99)
		if roll {
			draw = 0
		}
		a := l.Answer(Request{Peer: inside, Lines: in.lines(), ClientDraw: draw})
		if a.Reason != out.Reason || a.Traced != out.Traced {
			t.Errorf("with client check %v: %s, traced %v; want %s, %v", roll, a.Reason, a.Traced, out.Reason, out.Traced)
		}
		checkHeader(t, a.Upstream, "x-request-id", out.RequestID)
	}
}

var inside = netip.MustParseAddr("10.0.0.1")

// insideListener decides and leaves ids and force-trace of its internal callers alone.
func insideListener() Listener {
	return Listener{UseRemoteAddress: true, InternalCIDRs: []netip.Prefix{}, GenerateOff: true, Tracing: &Tracing{}}
}

func checkStableSampling(t *testing.T, v parity.Vector) {
	var in struct {
		RequestID  *string `json:"x-request-id"`
		AllResults *string `json:"all_results"` // instead: every result in this range
	}
	var config struct {
		Random  pair `json:"random_sampling"`
		Overall pair `json:"overall_sampling"`
	}
	var out struct {
		Result    *uint64
		Traced    *bool
		RequestID *string `json:"x-request-id"`
		TracedOf  *int    `json:"traced_of_10000"`
	}
	read(t, v, &in, &config, &out)
	l := insideListener()
	l.Route.Tracing = &RouteTracing{Random: new(Fraction(config.Random)), Overall: new(Fraction(config.Overall))}
	if in.AllResults != nil {
		if *in.AllResults != "0..9999" {
			t.Fatalf("all_results %q", *in.AllResults)
		}
		if got := tracedOfAll(l); got != *out.TracedOf {
			t.Errorf("%d of 10000 traced, want %d", got, *out.TracedOf)
		}
		return
	}
	number, ok := samplingNumber(Header{"x-request-id": {*in.RequestID}})
	if !ok || number%10_000 != *out.Result {
		t.Errorf("result of %s = %d, %v, want %d", *in.RequestID, number%10_000, ok, *out.Result)
	}
	a := l.Answer(Request{Peer: inside, Lines: []Line{{"x-request-id", *in.RequestID}}})
	if a.Traced != *out.Traced {
		t.Errorf("traced = %v, want %v", a.Traced, *out.Traced)
	}
	checkHeader(t, a.Upstream, "x-request-id", out.RequestID)
}

// tracedOfAll counts the ids that are traced, one for each result 0 to 9999.
func tracedOfAll(l Listener) int {
	traced := 0
	for result := range 10_000 {
		h := Header{"x-request-id": {fmt.Sprintf("%08x-0000-4000-8000-000000000000", result)}}
		if shouldTrace(l.decide(h, l.Route, 0)) {
			traced++
		}
	}
	return traced
}

func checkPercent(t *testing.T, v parity.Vector) {
	var in struct {
		Percent      *float64
		RuntimeValue *uint64 `json:"runtime_value"`
		Numerator    *uint64
		Denominator  json.RawMessage
	}
	var config struct {
		Field, Level, Product string
		Keys                  []string
	}
	var out struct {
		Numerator               *uint64
		Denominator             json.RawMessage
		Effective               *int     `json:"effective_of_10000"`
		EffectiveInEnvoy        *int     `json:"effective_of_10000_in_envoy"`
		Nominal                 *float64 `json:"nominal_of_10000"` // what a reader expects; not what happens
		Client, Random, Overall *pair
	}
	read(t, v, &in, &config, &out)
	l := insideListener()
	switch {
	case config.Product != "":
		// How a product makes its fraction is its own; what Envoy makes of it is tested.
		l.Route.Tracing = &RouteTracing{Random: &Fraction{*out.Numerator, namedDenominator(t, out.Denominator)}}
		checkEffective(t, l, *out.EffectiveInEnvoy)
	case config.Field == "HttpConnectionManager.Tracing.random_sampling or overall_sampling":
		checkFraction(t, percentShare(in.Percent), *out.Numerator, out.Denominator)
	case config.Field == "HttpConnectionManager.Tracing.client_sampling":
		checkFraction(t, clientShare(in.Percent), *out.Numerator, out.Denominator)
	case config.Field == "route.v3.Tracing.random_sampling or overall_sampling":
		f := &Fraction{*in.Numerator, namedDenominator(t, in.Denominator)}
		l.Route.Tracing = &RouteTracing{Random: f}
		checkEffective(t, l, *out.Effective)
		l.Route.Tracing = &RouteTracing{Overall: f}
		checkEffective(t, l, *out.Effective)
	case slices.Equal(config.Keys, []string{"tracing.random_sampling", "tracing.global_enabled"}):
		l.Runtime = Runtime{Random: &Fraction{*in.RuntimeValue, 100}}
		checkEffective(t, l, *out.Effective)
		l.Runtime = Runtime{Overall: &Fraction{*in.RuntimeValue, 100}}
		checkEffective(t, l, *out.Effective)
	case config.Level != "":
		var route Route
		if config.Level == "route.v3.Tracing" {
			route.Tracing = &RouteTracing{}
		}
		if got, want := l.shares(route), (shares{Fraction(*out.Client), Fraction(*out.Random), Fraction(*out.Overall)}); got != want {
			t.Errorf("defaults of %s = %v, want %v", config.Level, got, want)
		}
	default:
		t.Fatalf("no check for config %s", v.Config)
	}
}

func namedDenominator(t *testing.T, name json.RawMessage) uint64 {
	t.Helper()
	var s string
	if err := json.Unmarshal(name, &s); err != nil {
		t.Fatal(err)
	}
	return denominator(s)
}

func checkFraction(t *testing.T, got Fraction, numerator uint64, denominator json.RawMessage) {
	t.Helper()
	if want := fmt.Sprint(numerator, "/", string(denominator)); fmt.Sprint(got.Numerator, "/", got.Denominator) != want {
		t.Errorf("share = %d/%d, want %s", got.Numerator, got.Denominator, want)
	}
}

func checkEffective(t *testing.T, l Listener, want int) {
	t.Helper()
	if got := tracedOfAll(l); got != want {
		t.Errorf("%d of 10000 traced, want %d", got, want)
	}
}
