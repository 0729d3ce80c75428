package parity_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	otelprop "go.opentelemetry.io/otel/propagation"

	"github.com/meshtrace/meshtrace/internal/parity/envoymodel"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
)

// listener is one configuration, for the model and for meshtrace.
type listener struct {
	remote, preserve, packs, samples bool
	random, overall                  percentage
}

// percentage is a share of a listener; negative is not set.
type percentage float64

func (p percentage) model() *float64 {
	if p < 0 {
		return nil
	}
	return new(float64(p))
}

func (p percentage) share() sampler.Fraction {
	if p < 0 {
		return sampler.Fraction{}
	}
	return sampler.Percent(float64(p))
}

func (l listener) model() envoymodel.Listener {
	return envoymodel.Listener{
		UseRemoteAddress:     l.remote,
		InternalCIDRs:        []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		PreserveExternal:     l.preserve,
		PackOff:              !l.packs,
		SampleByRequestIDOff: !l.samples,
		Tracing:              &envoymodel.Tracing{Random: l.random.model(), Overall: l.overall.model()},
	}
}

func (l listener) config() middleware.Config {
	edge := middleware.EnvoyEdge()
	edge.Inner = !l.remote
	edge.Internal = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	return middleware.Config{
		Role:      middleware.Gateway,
		Edge:      &edge,
		RequestID: policy(true, l.preserve, use(l.packs, l.samples)),
		Propagation: propagation.Config{
			Strict:  true,
			Extract: []propagation.Format{propagation.TraceContext},
			Inject:  []propagation.Format{propagation.TraceContext},
		},
		Sampling: sampler.Config{
			Random:          l.random.share(),
			Overall:         l.overall.share(),
			Use:             use(l.packs, l.samples),
			ForcedPerSecond: math.Inf(1),
			EnvoyFractions:  true,
		},
		Logger: slog.New(slog.DiscardHandler),
		Getenv: func(name string) string {
			if name == "OTEL_TRACES_EXPORTER" {
				return "none"
			}
			return ""
		},
	}
}

// matrixRequests are every combination of peers, headers and reason digits.
func matrixRequests() []envoymodel.Request {
	peers := []string{"203.0.113.9", "10.0.0.5"}
	forwarded := []string{"", "10.0.0.1", "198.51.100.7", "10.0.0.1, 198.51.100.7"}
	parents := []string{"", sampledParent + "1", sampledParent + "0"}
	// One number within 12.34 %, one beyond it.
	ids := []string{""}
	for _, digit := range "49abAf" {
		ids = append(ids, fmt.Sprintf("000004d1-6f55-%c4ba-ad80-413f09f48a28", digit), fmt.Sprintf("000004d2-6f55-%c4ba-ad80-413f09f48a28", digit))
	}
	var list []envoymodel.Request
	for _, peer := range peers {
		for _, xff := range forwarded {
			for _, parent := range parents {
				for _, id := range ids {
					for headers := range 4 {
						r := envoymodel.Request{Peer: netip.MustParseAddr(peer)}
						add := func(name, value string) { r.Lines = append(r.Lines, envoymodel.Line{Name: name, Value: value}) }
						if id != "" {
							add("x-request-id", id)
						}
						if xff != "" {
							add("x-forwarded-for", xff)
						}
						if parent != "" {
							add("traceparent", parent)
						}
						if headers&1 != 0 {
							add("x-envoy-force-trace", "true")
						}
						if headers&2 != 0 {
							add("x-client-trace-id", "c-1")
						}
						list = append(list, r)
					}
				}
			}
		}
	}
	return list
}

func matrixListeners() []listener {
	var list []listener
	for bits := range 16 {
		for _, random := range []percentage{-1, 0, 12.34} {
			for _, overall := range []percentage{-1, 0, 12.34} {
				list = append(list, listener{bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0, random, overall})
			}
		}
	}
	return list
}

func line(r envoymodel.Request, name string) (string, bool) {
	for _, l := range r.Lines {
		if l.Name == name {
			return l.Value, true
		}
	}
	return "", false
}

// TestMatrix holds the public packages against the model of package envoymodel, which
// shares no code with them, over every combination of what a decision is made from.
func TestMatrix(t *testing.T) {
	requests := matrixRequests()
	differences := 0
	differ := func(l listener, r envoymodel.Request, format string, args ...any) {
		if differences++; differences <= 20 {
			t.Errorf("%+v, request from %v with %q: %s", l, r.Peer, r.Lines, fmt.Sprintf(format, args...))
		}
	}
	compared := 0
	for _, l := range matrixListeners() {
		model := l.model()
		tracing, err := middleware.Setup(t.Context(), l.config())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range requests {
			comparePure(l, model, r, differ)
			compareServer(t.Context(), l, model, r, tracing, differ)
			compared += 2
		}
		if err := tracing.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
	fmt.Printf("matrix: %d listeners, %d requests: %d comparisons, %d differences\n", len(matrixListeners()), len(requests), compared, differences)
}

type differFunc func(l listener, r envoymodel.Request, format string, args ...any)

// comparePure takes a request through requestid.Policy.Next and sampler.Decide. Who is
// at the edge, and with that whether force-trace arrives, is the model's word.
func comparePure(l listener, model envoymodel.Listener, r envoymodel.Request, differ differFunc) {
	where := model.Answer(r)
	arrived, _ := line(r, "x-request-id")
	_, client := line(r, "x-client-trace-id")
	id, change := policy(true, l.preserve, use(l.packs, l.samples)).Next(arrived, where.Edge)
	r.GeneratedID = string(id) // where none is made the model does not look
	want := model.Answer(r)
	d := sampler.Decide(sampler.Request{ID: id, Client: client, Force: want.Upstream.Lines("x-envoy-force-trace") != nil}, l.config().Sampling)
	if got := d.Reason.String(); got != string(want.Reason) || d.Traced != want.Traced {
		differ(l, r, "Decide = %s, traced %v; the model says %s, %v", got, d.Traced, want.Reason, want.Traced)
	}
	if got, want := string(decided(id, d)), want.Upstream.Lines("x-request-id"); len(want) != 1 || got != want[0] {
		differ(l, r, "id %v = %q, the model says %q", change, got, want)
	}
}

// compareServer takes a request through StartServer and what it injects.
func compareServer(ctx context.Context, l listener, model envoymodel.Listener, r envoymodel.Request, tracing *middleware.Tracing, differ differFunc) {
	h := make(http.Header)
	for _, line := range r.Lines {
		h.Add(line.Name, line.Value)
	}
	ctx, call := tracing.StartServer(ctx, middleware.Incoming{Method: http.MethodGet, Carrier: otelprop.HeaderCarrier(h), Peer: r.Peer})
	defer call.End(middleware.Outcome{HTTPStatus: http.StatusOK})
	out := make(http.Header)
	tracing.Propagator().Inject(ctx, otelprop.HeaderCarrier(out))

	r.GeneratedID = string(call.RequestID().Canonical())
	want := model.Answer(r)
	d := call.Decision()
	if got := d.Reason.String(); got != string(want.Reason) {
		differ(l, r, "StartServer decides %s (%v), the model says %s", got, d.Why, want.Reason)
	}
	traced := want.Traced
	if parent, ok := line(r, "traceparent"); ok {
		traced = traced && strings.HasSuffix(parent, "1") // W-13, W-14
	}
	if sc := call.Span().SpanContext(); sc.IsSampled() != traced || d.Traced != traced {
		differ(l, r, "StartServer traces %v with a sampled flag %v, want %v", d.Traced, sc.IsSampled(), traced)
	}
	if got, want := out["X-Request-Id"], want.Upstream.Lines("x-request-id"); !slices.Equal(got, want) || string(call.RequestID()) != want[0] {
		differ(l, r, "id = %q, injected %q, the model says %q", call.RequestID(), got, want)
	}
	if parent, ok := line(r, "traceparent"); ok && call.Span().SpanContext().TraceID().String() != parent[3:35] {
		differ(l, r, "the trace of %s is not continued (ED-11)", parent)
	}
}

// TestMatrixRandom holds Decide against the model on random ids and shares.
func TestMatrixRandom(t *testing.T) {
	const rounds = 200_000
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	differences := 0
	reasons := make(map[envoymodel.Reason]int)
	for range rounds {
		id := randomID(rnd)
		client, force := rnd.IntN(3) == 0, rnd.IntN(3) == 0
		packs, samples := rnd.IntN(4) > 0, rnd.IntN(8) > 0
		draw := rnd.Uint32()
		var of [3]struct {
			share sampler.Fraction
			model *envoymodel.Fraction
		}
		for i := range of {
			of[i].share, of[i].model = randomShare(rnd)
		}
		model := envoymodel.Listener{
			UseRemoteAddress:     true,
			InternalCIDRs:        []netip.Prefix{},
			GenerateOff:          true,
			PackOff:              !packs,
			SampleByRequestIDOff: !samples,
			Tracing:              &envoymodel.Tracing{},
			Route: envoymodel.Route{Tracing: &envoymodel.RouteTracing{
				Client: of[0].model, Random: of[1].model, Overall: of[2].model,
			}},
		}
		request := envoymodel.Request{Peer: netip.MustParseAddr("10.0.0.5"), ClientDraw: uint64(draw), Lines: []envoymodel.Line{{Name: "x-request-id", Value: id}}}
		if client {
			request.Lines = append(request.Lines, envoymodel.Line{Name: "x-client-trace-id"})
		}
		if force {
			request.Lines = append(request.Lines, envoymodel.Line{Name: "x-envoy-force-trace"})
		}
		want := model.Answer(request)
		reasons[want.Reason]++
		r := sampler.Request{
			ID: requestid.ID(id), Client: client, Force: force, Draw: draw,
			Shares: &sampler.Shares{Client: of[0].share, Random: of[1].share, Overall: of[2].share},
		}
		d := sampler.Decide(r, sampler.Config{Use: use(packs, samples), EnvoyFractions: true})
		got := string(decided(r.ID, d))
		if d.Reason.String() != string(want.Reason) || d.Traced != want.Traced || got != want.Upstream.Lines("x-request-id")[0] {
			if differences++; differences <= 20 {
				t.Errorf("Decide of %q, client %v (draw %d), force %v, shares %v, %v = %v, %v, %q; the model says %v, %v, %q",
					id, client, draw, force, r.Shares, use(packs, samples), d.Reason, d.Traced, got, want.Reason, want.Traced, want.Upstream.Lines("x-request-id"))
			}
		}
	}
	fmt.Printf("matrix of random ids and shares: seed %d, %d rounds, %d differences; reasons %v\n", seed, rounds, differences, reasons)
	for _, reason := range []envoymodel.Reason{envoymodel.NotTraceable, envoymodel.Sampling, envoymodel.ServiceForced, envoymodel.ClientForced} {
		if reasons[reason] < rounds/100 {
			t.Errorf("%d of %d rounds come to %s: too few to compare", reasons[reason], rounds, reason)
		}
	}
}

// randomID returns an id, mostly a UUID, mostly with a number.
func randomID(r *rand.Rand) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for i := range 36 {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			b.WriteByte('-')
		case i == 14:
			b.WriteByte("449ab7AfBc"[r.IntN(10)])
		case r.IntN(200) == 0:
			b.WriteByte("gxXZ-+. "[r.IntN(8)])
		default:
			b.WriteByte(digits[r.IntN(16)])
		}
	}
	id := strings.Trim(b.String(), " ")
	switch r.IntN(20) {
	case 0:
		return strings.Trim(id[:r.IntN(len(id))]+"0", " ")
	case 1:
		return id + "0"
	case 2:
		return strings.ToUpper(id)
	case 3:
		return "0x" + id[min(2, len(id)):]
	}
	return id
}

// randomShare returns a share for both sides; nil and the zero value are not set.
func randomShare(r *rand.Rand) (sampler.Fraction, *envoymodel.Fraction) {
	if r.IntN(4) == 0 {
		return sampler.Fraction{}, nil
	}
	d := []sampler.Denominator{sampler.Hundred, sampler.TenThousand, sampler.Million}[r.IntN(3)]
	of := map[sampler.Denominator]uint32{sampler.Hundred: 100, sampler.TenThousand: 10_000, sampler.Million: 1_000_000}[d]
	n := r.Uint32N(of + of/50 + 2)
	if r.IntN(3) == 0 {
		n = min(n, 10_000)
	}
	return sampler.Of(n, d), &envoymodel.Fraction{Numerator: uint64(n), Denominator: uint64(of)}
}
