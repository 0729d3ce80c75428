package middleware

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

// Config says what a program wants of its tracing. The zero value is a service
// inside the mesh: what arrives is trusted, every request without a caller's
// decision is traced, and OTEL_* variables say where spans go.
//
// The environment wins over what stands here, since the deployment knows more
// than the program. A Getenv that answers "" shuts it out. A TracerProvider, the
// Processors and an Export.Sender are never displaced by a variable.
//
// Nothing in it fails a request. A panic of a function of the program's, of a sampler,
// processor, instrument or log handler is contained, told in a line at most once a
// minute, and counted on the debug page. What was asked is left out then: of SpanName
// and the filters as if there was none, of Attributes everything it was asked about, a
// no of SendTo and Sampling.Base. Only the panics of what Handler and Transport were put
// around, of the handlers of gRPC and of a TracerProvider go on unchanged.
type Config struct {
	// Service is service.name, at most 255 bytes of UTF-8. OTEL_SERVICE_NAME, then
	// service.name in OTEL_RESOURCE_ATTRIBUTES, win over it; "" is
	// "unknown_service:" and the program's name.
	Service string
	// Version is service.version; "" writes none.
	Version string
	// Resource has further attributes of the program; nil is none. Its schema URL is
	// left out, so that it never conflicts with another.
	Resource *resource.Resource
	// Detectors find further attributes of the program, side by side and in 2 s
	// together. Resource wins over them, and so do Service, Version and the
	// environment. One that fails or is late is logged, and what it found counts.
	Detectors []resource.Detector

	// RequestID says how x-request-id is kept, made and sampled by. Its Use and that of
	// Sampling are one setting: it is enough to set one of them.
	RequestID requestid.Policy
	// Propagation says which trace headers are read and written; OTEL_PROPAGATORS
	// sets both lists.
	Propagation propagation.Config
	// Zipkin makes ids as Envoy's Zipkin tracer makes them, for a mesh that reports to
	// Zipkin; nil makes those of W3C. It stands without a TracerProvider, which makes
	// ids itself.
	Zipkin *Zipkin
	// Sampling decides about requests; OTEL_TRACES_SAMPLER becomes its Base, in place of
	// its Random share as well.
	Sampling sampler.Config
	// Export says where spans go. It is not used when TracerProvider is set or
	// OTEL_TRACES_EXPORTER names another exporter.
	Export exporter.Config
	// Status says which codes are errors; the zero value is OpenTelemetry's rule in
	// role Service, Envoy's in role Gateway.
	Status span.StatusMap

	// Role is what the program is in the mesh.
	Role Role
	// SpawnUpstreamSpan gives a gateway a CLIENT span for each call it makes. Without
	// it the server span's own context goes upstream (T-20, T-21). A service always
	// has client spans.
	SpawnUpstreamSpan bool
	// DecoratorHeader lets a caller name the spans of a service by
	// x-envoy-decorator-operation, as Envoys in front do where their routes are decorated. A
	// stranger's does not count (Edge), and a gateway goes by Direction.
	DecoratorHeader bool
	// Direction is which way the requests of a gateway go: it names their spans and tells
	// who may rename them (N-1 to N-13). A service has no use for it.
	Direction Direction
	// Operation names a gateway's span of a request when it ends, UpstreamOperation that
	// of a call upstream; nothing rendered leaves the name (N-14, N-16). With an Operation,
	// here or in the route, decorators and x-envoy-decorator-operation are out of force
	// (N-15). Zero is none; a service has no use for them.
	Operation, UpstreamOperation span.Template
	// DefaultName names a gateway's span of a request when it starts, by the request
	// alone. Zero is "ingress", or "egress" and the authority, and with Zipkin the
	// authority alone (N-2).
	DefaultName span.Template
	// Tags go on every span of a gateway besides Envoy's own (T-12 to T-17), at most 64.
	Tags []span.Tag
	// PathTag is how many bytes of the path the tag http.url has, Envoy's
	// max_path_tag_length; 0 is 256, less is none (T-3).
	PathTag int
	// Verbose puts on a gateway's spans, as events, when bytes came and went (T-11).
	Verbose bool
	// Proxy is what a gateway says of itself. A service has no use for it but for
	// HeaderPrefix.
	Proxy Proxy
	// Edge tells strangers from the mesh; nil trusts what arrives.
	Edge *Edge
	// Route tells the route of a request before its span starts, where sampling
	// depends on it; nil takes the pattern that http.ServeMux matched, afterwards. It is
	// called concurrently and must not change the request.
	Route func(*http.Request) Route
	// SendTo tells whether an outgoing request may carry trace context and ids, for
	// clients that also call strangers; nil lets all. It is called concurrently and
	// must not change the request.
	SendTo func(*http.Request) bool

	// HealthChecks are paths ("/healthz") and gRPC services ("/grpc.health.v1.Health/*")
	// that are served and passed on but never traced. An entry begins with "/" and
	// matches exactly, or as a prefix when it ends in "*". nil is DefaultHealthChecks,
	// an empty list is none.
	HealthChecks []string

	// Filter tells which requests Handler traces; nil is all. A request for which it
	// returns false is served like a health check: it has no span, its trace id and
	// request id travel on, and the next hop is told not to trace it either. It is
	// called concurrently and must not change the request.
	Filter func(*http.Request) bool
	// ClientFilter tells which requests Transport makes a span of; nil is all. Trace
	// context and ids go out all the same: see SendTo. It is called concurrently and
	// must not change the request.
	ClientFilter func(*http.Request) bool
	// SpanName returns the name of a span in the place of name, which is the one that
	// the conventions ask for; nil is that one. It is asked once a span that is
	// recorded: of a server's when it ends, of a client's when it starts. Names are cut to
	// 256 bytes, and should have few values. It is called concurrently.
	SpanName func(info CallInfo, name string) string
	// Attributes returns the attributes to put on a span in the place of attrs: it may
	// add, change and drop, in place. nil leaves them as they are. It is asked several
	// times a span that is recorded: about what is known when it starts, and about what
	// is known at its end. What the sampler puts on a span is not among them. It must not
	// keep attrs, and is called concurrently.
	Attributes func(info CallInfo, attrs []attribute.KeyValue) []attribute.KeyValue
	// RequestHeaders and ResponseHeaders are the headers, at most 64 of each, whose
	// values become http.request.header.<name> and http.response.header.<name>, of
	// servers and clients, and rpc.request.metadata.<name> and
	// rpc.response.metadata.<name> for gRPC. Of a header at most 16 values of 2 KiB are
	// kept. Whoever can read spans can read them.
	RequestHeaders, ResponseHeaders []string
	// SecretParameters are the query parameters whose values are written as REDACTED;
	// names are case-sensitive. nil is span.SecretParameters(), an empty list is none.
	SecretParameters []string
	// BaggageAttributes are the keys, at most 64, of baggage members that become
	// attributes of the same name on every span of the program, at most 1 KiB each.
	BaggageAttributes []string
	// ClientTrace shows the way of Transport's requests: lookup, connection, TLS.
	ClientTrace ClientTrace
	// FirstByte puts an event meshtrace.response.first_byte on a server span when the
	// first byte of its answer goes out, for long answers such as server-sent events.
	FirstByte bool
	// TraceResponse writes the trace into the answer, as the header traceresponse of
	// W3C Trace Context Level 2. Whoever gets the answer learns the ids.
	TraceResponse bool

	// MeterProvider gets http.server.request.duration, http.client.request.duration,
	// rpc.server.call.duration and rpc.client.call.duration, in seconds, of all calls,
	// traced or not; and the exporter's otel.sdk.* unless Export.MeterProvider is set.
	// nil measures nothing, and costs nothing. It is not shut down.
	MeterProvider metric.MeterProvider
	// Metrics says what else is measured.
	Metrics Metrics

	// TracerProvider is a provider of the caller's own: Export, Processors and the
	// resource are unused then, and Shutdown leaves it alone. Calls have its spans, so the
	// SDK's cost what they cost there. nil makes one, under which the spans of calls are
	// meshtrace's.
	TracerProvider trace.TracerProvider
	// Processors get every span besides the exporter, each behind what contains its
	// panics, so that TracerProvider().UnregisterSpanProcessor does not know it. They are
	// shut down with the exporter.
	Processors []sdktrace.SpanProcessor
	// Logger has the few lines meshtrace says itself; nil is slog.Default().
	Logger *slog.Logger
	// SetGlobals makes provider and propagator OpenTelemetry's global ones, for
	// instrumentation that asks there (otelsql, otelhttp). It is an error when
	// another SDK provider is global already. Shutdown does not undo it.
	SetGlobals bool
	// FlushOnSignal sends what is left when SIGTERM or os.Interrupt arrives, within 1 s,
	// and then lets the signal take its effect, which ends the program and runs no
	// defer. It is for programs without a shutdown of their own: another handler of the
	// signal would be cut short.
	FlushOnSignal bool
	// Getenv reads the environment; nil is os.Getenv.
	Getenv func(string) string
}

// Role is what a program is in the mesh.
type Role uint8

const (
	// Service is an application behind proxies.
	Service Role = iota
	// Gateway is a program that stands in an Envoy's place: it edits the headers it
	// passes on as Envoy does, its spans have Envoy's names, tags and status, and an id
	// that Envoy cannot read is not traced (D-3).
	Gateway
)

// String returns the name of r in lower case.
func (r Role) String() string {
	switch r {
	case Service:
		return "service"
	case Gateway:
		return "gateway"
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// Proxy is what a gateway says of itself, as an Envoy's bootstrap does.
type Proxy struct {
	// Node and Cluster name this proxy, Zone is where it runs; "" is none. Node and Zone
	// are tags of its spans.
	Node, Cluster, Zone string
	// AddUserAgent writes x-envoy-downstream-service-cluster, and user-agent where
	// there is none, as Cluster, and x-envoy-downstream-service-node as Node (ED-13).
	AddUserAgent bool
	// Address stands in x-forwarded-for for a peer of 127.0.0.1 (ED-8); invalid
	// writes the peer as it is.
	Address netip.Addr
	// KeepForwardedFor passes x-forwarded-for on without the peer (ED-8).
	KeepForwardedFor bool
	// AddForwardedFor adds the peer to x-forwarded-for behind an Inner edge, too, as
	// Envoy's XFF extension does with skip_xff_append: false (ED-8). A peer outside of
	// Edge.Proxies is added in any case.
	AddForwardedFor bool
	// HeaderPrefix stands in the place of x-envoy in the names of Envoy's own headers,
	// in those that are read, written and removed: header_prefix of a bootstrap (ED-14).
	// The old names are ordinary headers then. "" is x-envoy. It counts in both roles.
	HeaderPrefix string
	// InternalOnly are further headers that a stranger's request loses (ED-10), at
	// most 64 names.
	InternalOnly []string
}

// Route is what is known of a request's route before its span starts.
type Route struct {
	// Pattern is the route, such as "/carts/{id}"; "" is unknown. It names the span of
	// a service unless span.SetRoute or Decorator does.
	Pattern string
	// Decorator names the span of the route's requests. In a gateway the peer that the
	// direction calls for may overrule it by x-envoy-decorator-operation (N-13).
	Decorator span.Decorator
	// Operation and UpstreamOperation stand in the place of those of the Config, each
	// for itself (N-14).
	Operation, UpstreamOperation span.Template
	// Transformer renames a gateway's span when the request has arrived, where the route
	// has no decorator: Gloo's spanTransformer (GL-5). Nothing rendered is an empty name.
	Transformer span.Template
	// Tags go on a gateway's spans before those of the Config, whose tags of the same
	// names are left out (T-17). One whose Err is not nil is no tag.
	Tags []span.Tag
	// Metadata is for span.MetadataTag.
	Metadata span.Metadata
	// Upstream is where a gateway sends the route's requests, as far as the route says.
	Upstream Upstream
	// Sampling are the shares of this route, in the place of those of the Config, all
	// three (D-5); nil for none of its own.
	Sampling *sampler.Shares
}

// DefaultHealthChecks returns what a nil Config.HealthChecks stands for: the paths
// Kubernetes guides use, and gRPC's health service.
func DefaultHealthChecks() []string {
	return []string{"/healthz", "/livez", "/readyz", "/grpc.health.v1.Health/*"}
}

const (
	maxInternalOnly = 64
	maxTags         = 64
)

// isHeaderName tells whether name can be a header's (RFC 9110, section 5.6.2).
func isHeaderName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return name != ""
}

// maxName bounds a service name or version in bytes.
const maxName = 255

// check returns every mistake in cfg that no package further down reports.
func (cfg *Config) check() error {
	var errs []error
	for _, s := range []struct{ field, value string }{{"Service", cfg.Service}, {"Version", cfg.Version}} {
		if len(s.value) > maxName || !utf8.ValidString(s.value) {
			errs = append(errs, fmt.Errorf("middleware: Config.%s=%.80q: allowed is UTF-8 of at most %d bytes", s.field, s.value, maxName))
		}
	}
	if cfg.Role > Gateway {
		errs = append(errs, fmt.Errorf("middleware: Config.Role=%v: allowed is Service or Gateway", cfg.Role))
	}
	if cfg.Direction > Egress {
		errs = append(errs, fmt.Errorf("middleware: Config.Direction=%v: allowed is Ingress or Egress", cfg.Direction))
	}
	if cfg.Edge != nil {
		errs = append(errs, cfg.Edge.check())
	}
	errs = append(errs, cfg.checkHooks())
	errs = append(errs, checkHeaderPrefix(cfg.Proxy.HeaderPrefix))
	for i, tag := range cfg.Tags {
		if tag.Err() != nil {
			errs = append(errs, fmt.Errorf("middleware: Config.Tags[%d]: %w", i, tag.Err()))
		}
		if i == maxTags {
			errs = append(errs, fmt.Errorf("middleware: Config.Tags has %d: allowed are %d", len(cfg.Tags), maxTags))
			break
		}
	}
	for i, h := range cfg.Proxy.InternalOnly {
		if !isHeaderName(h) || i == maxInternalOnly {
			errs = append(errs, fmt.Errorf("middleware: Config.Proxy.InternalOnly[%d]=%.80q: allowed are at most %d names of headers", i, h, maxInternalOnly))
			break
		}
	}
	for i, h := range cfg.HealthChecks {
		star := strings.IndexByte(h, '*')
		if !strings.HasPrefix(h, "/") || (star >= 0 && star != len(h)-1) {
			errs = append(errs, fmt.Errorf("middleware: Config.HealthChecks[%d]=%.80q: allowed is a path that begins with / and may end in *", i, h))
		}
	}
	for i, p := range cfg.Processors {
		if p == nil {
			errs = append(errs, fmt.Errorf("middleware: Config.Processors[%d] is nil: allowed is a SpanProcessor", i))
		}
	}
	if cfg.TracerProvider != nil && cfg.Zipkin != nil {
		errs = append(errs, errors.New("middleware: Config.Zipkin is set beside Config.TracerProvider, which makes its ids itself: allowed is one of them"))
	}
	if cfg.TracerProvider != nil && len(cfg.Processors) > 0 {
		errs = append(errs, errors.New("middleware: Config.Processors are set beside Config.TracerProvider: register them with that provider"))
	}
	if cfg.SetGlobals {
		if g := otel.GetTracerProvider(); sdkMade(g) && g != cfg.TracerProvider {
			errs = append(errs, errors.New("middleware: Config.SetGlobals: another SDK TracerProvider is global already: give it as Config.TracerProvider, or set up meshtrace alone"))
		}
	}
	return errors.Join(errs...)
}

// oneUse makes the two Use of cfg one.
func (cfg *Config) oneUse() error {
	switch a, b := cfg.RequestID.Use, cfg.Sampling.Use; {
	case b == 0:
		cfg.Sampling.Use = a
	case a == 0:
		cfg.RequestID.Use = b
	case a != b:
		return fmt.Errorf("middleware: Config.RequestID.Use=%v and Config.Sampling.Use=%v: allowed is one of them, or the same", a, b)
	}
	return nil
}

// healthChecks tells which paths are health checks.
type healthChecks struct {
	exact    map[string]bool
	prefixes []string
}

func newHealthChecks(list []string) healthChecks {
	if list == nil {
		list = DefaultHealthChecks()
	}
	h := healthChecks{exact: make(map[string]bool, len(list))}
	for _, e := range list {
		if p, ok := strings.CutSuffix(e, "*"); ok {
			h.prefixes = append(h.prefixes, p)
		} else {
			h.exact[e] = true
		}
	}
	return h
}

func (h *healthChecks) match(path string) bool {
	if h.exact[path] {
		return true
	}
	for _, p := range h.prefixes {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}
