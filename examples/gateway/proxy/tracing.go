package proxy

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

// presets are what the rest of a tracing block leaves to a product's defaults.
var presets = map[string]func() middleware.Config{
	"":              middleware.Envoy,
	"envoy":         middleware.Envoy,
	"envoy-zipkin":  middleware.EnvoyZipkin,
	"envoy-gateway": middleware.EnvoyGateway,
	"gloo":          middleware.Gloo,
	"istio":         middleware.Istio,
}

var denominators = map[string]sampler.Denominator{
	"": sampler.Hundred, "HUNDRED": sampler.Hundred, "TEN_THOUSAND": sampler.TenThousand, "MILLION": sampler.Million,
}

// middlewareConfig is the file in meshtrace's words. route answers what is known of a
// request before its span starts.
func (cfg *Config) middlewareConfig(route func(*http.Request) middleware.Route) (middleware.Config, error) {
	var errs []error
	t := cfg.Tracing
	off := t == nil
	if off {
		t = new(Tracing)
	}
	m := presets[t.Preset]()
	m.Service = t.Service
	if m.Service == "" {
		m.Service = "gateway"
	}
	if t.Direction != "" {
		d, err := middleware.ParseDirection(t.Direction)
		errs = append(errs, err)
		m.Direction = d
	}
	setShare(&m.Sampling.Client, t.ClientSampling)
	setShare(&m.Sampling.Random, t.RandomSampling)
	setShare(&m.Sampling.Overall, t.OverallSampling)
	if t.SpawnUpstreamSpan != nil {
		m.SpawnUpstreamSpan = *t.SpawnUpstreamSpan
	}
	m.Verbose = t.Verbose
	if n := t.MaxPathTagLength; n != nil {
		if m.PathTag = *n; *n == 0 {
			m.PathTag = -1
		}
	}
	m.Operation, m.UpstreamOperation = template(&errs, t.Operation), template(&errs, t.UpstreamOperation)
	m.Tags = tags(&errs, t.CustomTags)
	if len(t.Propagation) > 0 {
		formats, err := formats(t.Propagation)
		errs = append(errs, err)
		m.Propagation.Extract, m.Propagation.Inject = formats, formats
	}
	if off || cfg.Edge.NoContextPropagation {
		m.Propagation.Inject = []propagation.Format{}
	}
	if off {
		// As an Envoy without a tracing block: ids are made and kept, and nothing else.
		m.Propagation.Extract = []propagation.Format{}
	}
	m.Proxy = middleware.Proxy{
		Node: cfg.Node.ID, Cluster: cfg.Node.Cluster, Zone: cfg.Node.Zone,
		AddUserAgent: cfg.Edge.AddUserAgent,
		InternalOnly: cfg.Edge.InternalOnlyHeaders,
	}
	errs = append(errs, cfg.Edge.apply(&m))
	if h := cfg.HealthCheck; h != nil {
		m.HealthChecks = []string{h.Path}
	}
	m.Route = route
	return m, errors.Join(errs...)
}

func setShare(f *sampler.Fraction, percent *float64) {
	if percent != nil {
		*f = sampler.Percent(*percent)
	}
}

// apply sets what the file says of the edge.
func (e *Edge) apply(m *middleware.Config) error {
	var errs []error
	if e.UseRemoteAddress != nil {
		m.Edge.Inner = !*e.UseRemoteAddress
	}
	m.Edge.Hops = e.TrustedHops
	m.Edge.ForcedPerSecond = math.Inf(1)
	for _, cidr := range e.Internal {
		p, err := netip.ParsePrefix(cidr)
		errs = append(errs, err)
		m.Edge.Internal = append(m.Edge.Internal, p)
	}
	switch {
	case !isOn(e.GenerateRequestID):
		m.RequestID.External = requestid.Disable
	case e.PreserveRequestID:
		m.RequestID.External = requestid.PreserveOrGenerate
	}
	m.RequestID.InResponse = e.RequestIDInResponse
	packs, samples := isOn(e.PackTraceReason), isOn(e.SampleByRequestID)
	switch {
	case packs && samples:
		m.RequestID.Use = requestid.PackAndSample
	case samples:
		m.RequestID.Use = requestid.Sample
	case packs:
		m.RequestID.Use = requestid.Pack
	default:
		m.RequestID.Use = requestid.Ignore
	}
	m.Sampling.Use = m.RequestID.Use
	return errors.Join(errs...)
}

func isOn(setting *bool) bool { return setting == nil || *setting }

func formats(names []string) ([]propagation.Format, error) {
	var list []propagation.Format
	for _, n := range names {
		f, err := propagation.ParseFormats(n)
		if err != nil {
			return nil, fmt.Errorf("gateway: tracing.propagation: %w", err)
		}
		list = append(list, f...)
	}
	return list, nil
}

// template reads a text that Check has seen.
func template(errs *[]error, text string) span.Template {
	t, err := span.ParseTemplate(text)
	*errs = append(*errs, err)
	return t
}

func tags(errs *[]error, list []Tag) []span.Tag {
	var tags []span.Tag
	for i := range list {
		t, err := list[i].tag()
		*errs = append(*errs, err)
		tags = append(tags, t)
	}
	return tags
}

// metadataKinds are the kinds of metadata by their names.
var metadataKinds = map[string]span.MetadataKind{
	"request": span.RequestMetadata, "route": span.RouteMetadata, "cluster": span.ClusterMetadata, "host": span.HostMetadata,
}

// tag is a custom tag in meshtrace's words.
func (t *Tag) tag() (tag span.Tag, err error) {
	kinds := 0
	if t.Literal != nil {
		kinds++
		tag = span.Literal(t.Tag, *t.Literal)
	}
	if e := t.Environment; e != nil {
		kinds++
		tag = span.Environment(t.Tag, e.Name, e.Default)
	}
	if h := t.RequestHeader; h != nil {
		kinds++
		tag = span.RequestHeader(t.Tag, h.Name, h.Default)
	}
	if m := t.Metadata; m != nil {
		kinds++
		kind, ok := metadataKinds[m.Kind]
		if !ok {
			return tag, fmt.Errorf("a kind of request, route, cluster or host, not %q", m.Kind)
		}
		tag = span.MetadataTag(t.Tag, kind, m.Key, m.Path, m.Default)
	}
	if t.Value != nil {
		kinds++
		tpl, err := span.ParseTemplate(*t.Value)
		if err != nil {
			return tag, err
		}
		tag = span.Formatted(t.Tag, tpl)
	}
	if kinds != 1 {
		return tag, errors.New("exactly one of literal, environment, request_header, metadata and value")
	}
	return tag, nil
}

// middlewareRoute is a route in meshtrace's words. Envoy's names for it are the file's.
func (r *Route) middlewareRoute(clusters map[string]Cluster) (middleware.Route, error) {
	var errs []error
	m := middleware.Route{Pattern: r.Path, Metadata: r.Metadata}
	if m.Pattern == "" && r.Prefix != "" {
		m.Pattern = r.Prefix + "*"
	}
	if c, ok := clusters[r.Cluster]; ok {
		m.Upstream = middleware.Upstream{Cluster: r.Cluster, ClusterName: c.AltStatName, ClusterMetadata: c.Metadata}
	}
	if d := r.Decorator; d != nil {
		m.Decorator = span.Decorator{Operation: d.Operation, Private: !isOn(d.Propagate)}
	}
	var err error
	m.Transformer, err = span.ParseGlooTemplate(r.Transformer)
	errs = append(errs, err)
	if t := r.Tracing; t != nil {
		m.Sampling = &sampler.Shares{Client: t.ClientSampling.share(), Random: t.RandomSampling.share(), Overall: t.OverallSampling.share()}
		m.Operation, m.UpstreamOperation = template(&errs, t.Operation), template(&errs, t.UpstreamOperation)
		m.Tags = tags(&errs, t.CustomTags)
	}
	return m, errors.Join(errs...)
}

// share returns a fraction; nil is 100 %.
func (f *Fraction) share() sampler.Fraction {
	if f == nil {
		return sampler.Fraction{}
	}
	return sampler.Of(f.Numerator, denominators[f.Denominator])
}
