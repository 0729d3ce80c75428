package middleware

import (
	"math"

	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
)

// The presets are what a gateway of a product does before anybody configures it, as a
// Config to start from: change what yours changes. Each is a new value.

// Envoy returns an Envoy listener with a tracing block and OpenTelemetry's tracer. It
// keeps ids of any form (RID-3), and has no filter for health checks (D-26).
func Envoy() Config {
	edge := EnvoyEdge()
	return Config{
		Role:         Gateway,
		Edge:         &edge,
		RequestID:    requestid.Policy{AnyBytes: true},
		HealthChecks: []string{},
		Propagation: propagation.Config{
			Extract: []propagation.Format{propagation.TraceContext},
			Inject:  []propagation.Format{propagation.TraceContext},
			Strict:  true,
		},
		Sampling: sampler.Config{EnvoyFractions: true, AskAlways: true}, // D-20, D-21, W-16
	}
}

// EnvoyZipkin returns an Envoy listener with a tracing block and the Zipkin tracer.
func EnvoyZipkin() Config { return WithZipkin(Envoy(), Zipkin{}) }

// WithZipkin returns cfg, one of the presets, with Envoy's Zipkin tracer in the place
// of OpenTelemetry's: b3 and x-b3-* are read, and written as they came (B-13), ids are
// made by z, and the caller's word on sampling is the last (B-5). Spans leave as
// OTLP all the same.
//
// For USE_B3_WITH_W3C_PROPAGATION (B-15) add propagation.TraceContext to both lists of
// formats. For Envoy before 1.40 take propagation.B3 out of Inject. Istio's tracer is
// Zipkin{NotShared: true, TraceID128: true} (IS-5).
func WithZipkin(cfg Config, z Zipkin) Config {
	cfg.Propagation.Extract = []propagation.Format{propagation.B3, propagation.B3Multi}
	cfg.Propagation.Inject = []propagation.Format{propagation.B3, propagation.B3Multi}
	cfg.Zipkin = &z
	cfg.Sampling.NoVeto = true
	return cfg
}

// EnvoyGateway returns a listener of Envoy Gateway since 1.9: the client's address is
// the peer's (EG-9), x-client-trace-id does nothing (EG-1), and each upstream call has
// a span (EG-2). A samplingRate or samplingFraction is Sampling.Random as a Percent,
// a BackendTrafficPolicy's a Route's Sampling by sampler.EnvoyGatewayFraction. With a
// sampler of the provider's in Sampling.Base, Random stays at 100 % (EG-6). What
// ClientTrafficPolicy and EnvoyProxy say of request ids are RequestID.External and
// RequestID.Use, under the same names (EG-9). spanName.client is Operation, and
// spanName.server UpstreamOperation (EG-3); tags stand before customTags in Tags, where
// the first of a name counts (EG-4).
func EnvoyGateway() Config {
	cfg := Envoy()
	cfg.Edge = &Edge{Context: Continue, ForcedPerSecond: math.Inf(1), Baggage: []string{"*"}}
	cfg.SpawnUpstreamSpan = true
	cfg.Sampling.Client = sampler.Percent(0)
	return cfg
}

// EnvoyGatewayRoute returns the shares of a route with a BackendTrafficPolicy that has
// a tracing block: what it leaves out is 100 %, and the client's share 0 (EG-7).
func EnvoyGatewayRoute() sampler.Shares {
	return sampler.Shares{Client: sampler.Of(0, sampler.Hundred)}
}

// Gloo returns a listener of Gloo, whose percentages are 100 each (GL-1). A
// listener's percentage is a Percent, a route's a sampler.GlooRoutePercent (GL-4); a
// route with any tracing option, routeDescriptor alone included, has Shares of its own
// (GL-3). A route's routeDescriptor is its Decorator, with Private for propagate: false
// (GL-2), and spanTransformer its Transformer, by span.ParseGlooTemplate (GL-5).
func Gloo() Config { return Envoy() }

// Istio returns a gateway of Istio: requests go out (IS-2), the client's address is the
// peer's, 1 % of new requests are traced (IS-3), and each upstream call has a span
// (IS-4). A sidecar has none: clear SpawnUpstreamSpan, and set Edge.Inner; for what it
// receives Direction is Ingress. Each route has a Decorator by span.IstioOperation
// (IS-1).
func Istio() Config {
	cfg := Envoy()
	cfg.Edge = &Edge{Context: Continue, ForcedPerSecond: math.Inf(1), Baggage: []string{"*"}}
	cfg.Direction = Egress
	cfg.SpawnUpstreamSpan = true
	cfg.Sampling.Random = sampler.Percent(1)
	return cfg
}
