package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshtrace/meshtrace/span"
)

// Config is a gateway: the file's top level.
type Config struct {
	Listen      string             `json:"listen"` // address of the listener; "" is 127.0.0.1:8080
	Admin       string             `json:"admin"`  // address of the page with the last traces, for operators alone; "" is none
	Node        Node               `json:"node"`
	Tracing     *Tracing           `json:"tracing"`
	Edge        Edge               `json:"edge"`
	HealthCheck *HealthCheck       `json:"health_check"`
	RateLimit   *RateLimit         `json:"rate_limit"`
	Clusters    map[string]Cluster `json:"clusters"`
	Routes      []Route            `json:"routes"` // the first that matches counts
}

// Tracing is the tracing block of the listener; none switches tracing off. Where spans
// go is in the OTEL_* variables.
type Tracing struct {
	Service           string   `json:"service"` // "" is "gateway"
	Preset            string   `json:"preset"`  // envoy (also ""), envoy-zipkin, envoy-gateway, gloo, istio: the defaults of the rest
	Direction         string   `json:"direction"`
	ClientSampling    *float64 `json:"client_sampling"` // percent; none: the preset's
	RandomSampling    *float64 `json:"random_sampling"`
	OverallSampling   *float64 `json:"overall_sampling"`
	SpawnUpstreamSpan *bool    `json:"spawn_upstream_span"`
	Verbose           bool     `json:"verbose"`
	MaxPathTagLength  *int     `json:"max_path_tag_length"` // bytes; none: 256
	Operation         string   `json:"operation"`
	UpstreamOperation string   `json:"upstream_operation"`
	CustomTags        []Tag    `json:"custom_tags"`
	Propagation       []string `json:"propagation"` // formats that are read and written; none: the preset's
}

// Node is what the gateway says of itself.
type Node struct {
	ID      string `json:"id"`
	Cluster string `json:"cluster"`
	Zone    string `json:"zone"`
}

// Tag is a custom tag: one of the kinds is set.
type Tag struct {
	Tag           string       `json:"tag"`
	Literal       *string      `json:"literal"`
	Environment   *DefaultName `json:"environment"`
	RequestHeader *DefaultName `json:"request_header"`
	Metadata      *Metadata    `json:"metadata"`
	Value         *string      `json:"value"` // command operators
}

// DefaultName is the name of a variable or header, and what stands for it where there
// is none.
type DefaultName struct {
	Name    string `json:"name"`
	Default string `json:"default"`
}

// Metadata is where a tag finds its value.
type Metadata struct {
	Kind    string   `json:"kind"` // request, route, cluster, host
	Key     string   `json:"key"`
	Path    []string `json:"path"`
	Default string   `json:"default"`
}

// Edge says who is outside.
type Edge struct {
	UseRemoteAddress     *bool    `json:"use_remote_address"` // none: the preset's
	TrustedHops          int      `json:"trusted_hops"`
	Internal             []string `json:"internal"` // CIDR ranges; none: nobody is internal
	InternalOnlyHeaders  []string `json:"internal_only_headers"`
	AddUserAgent         bool     `json:"add_user_agent"`
	GenerateRequestID    *bool    `json:"generate_request_id"` // none: true
	PreserveRequestID    bool     `json:"preserve_external_request_id"`
	RequestIDInResponse  bool     `json:"request_id_in_response"`
	PackTraceReason      *bool    `json:"pack_trace_reason"`      // none: true
	SampleByRequestID    *bool    `json:"sample_by_request_id"`   // none: true
	NoContextPropagation bool     `json:"no_context_propagation"` // spans, and nothing in the headers
}

// HealthCheck is a path that is answered here, or passed on untraced.
type HealthCheck struct {
	Path        string `json:"path"`
	PassThrough bool   `json:"pass_through"`
}

// RateLimit lets so many requests through.
type RateLimit struct {
	PerSecond float64 `json:"per_second"`
	Burst     int     `json:"burst"`
}

// Cluster is a group of hosts that serve the same.
type Cluster struct {
	Hosts       []Host        `json:"hosts"` // round robin
	HTTP2       bool          `json:"http2"` // without TLS, as gRPC inside a mesh; else HTTP/1.1
	AltStatName string        `json:"alt_stat_name"`
	MaxRequests *int          `json:"max_requests"` // at once; none: no limit
	Metadata    span.Metadata `json:"metadata"`
}

// Host is one of them.
type Host struct {
	Address  string        `json:"address"` // host:port
	Metadata span.Metadata `json:"metadata"`
}

// Route is what becomes of requests: exactly one of Cluster, Respond and Redirect.
type Route struct {
	Prefix        string        `json:"prefix"` // of the path; of Prefix and Path one, or neither for all
	Path          string        `json:"path"`
	Cluster       string        `json:"cluster"`
	Respond       *Respond      `json:"respond"`
	Redirect      *Redirect     `json:"redirect"`
	Decorator     *Decorator    `json:"decorator"`
	Transformer   string        `json:"span_transformer"` // {{header("x")}}
	Tracing       *RouteTracing `json:"tracing"`
	Metadata      span.Metadata `json:"metadata"`
	PrefixRewrite string        `json:"prefix_rewrite"`
	HostRewrite   string        `json:"host_rewrite"`
	TimeoutMS     int           `json:"timeout_ms"` // 0: 15 s
	Retry         *Retry        `json:"retry"`
	Fault         *Fault        `json:"fault"`
}

// Respond is an answer of the gateway's own.
type Respond struct {
	Status int    `json:"status"`
	Body   string `json:"body"`
}

// Redirect sends the caller elsewhere, with a 301.
type Redirect struct {
	Host string `json:"host"`
	Path string `json:"path"`
}

// Decorator names the spans of the route.
type Decorator struct {
	Operation string `json:"operation"`
	Propagate *bool  `json:"propagate"` // none: true
}

// RouteTracing stands in the place of the listener's. Shares that are left out are
// 100 %, as an Envoy has it.
type RouteTracing struct {
	ClientSampling    *Fraction `json:"client_sampling"`
	RandomSampling    *Fraction `json:"random_sampling"`
	OverallSampling   *Fraction `json:"overall_sampling"`
	Operation         string    `json:"operation"`
	UpstreamOperation string    `json:"upstream_operation"`
	CustomTags        []Tag     `json:"custom_tags"`
}

// Fraction is a share of requests.
type Fraction struct {
	Numerator   uint32 `json:"numerator"`
	Denominator string `json:"denominator"` // HUNDRED (also ""), TEN_THOUSAND, MILLION
}

// Retry says when a call is made again.
type Retry struct {
	On              []string `json:"on"`          // 5xx, gateway-error, reset, connect-failure, refused-stream, retriable-4xx
	NumRetries      *int     `json:"num_retries"` // none: 1
	PerTryTimeoutMS int      `json:"per_try_timeout_ms"`
}

// Fault delays or refuses requests, to see what a caller makes of it.
type Fault struct {
	DelayMS int `json:"delay_ms"`
	Abort   int `json:"abort"` // status; 0 is none
}

// Parse reads a file. Its error tells every mistake, each with where it stands, what
// stands there and what is allowed.
func Parse(file []byte) (Config, error) {
	var cfg Config
	if err := decode(file, &cfg); err != nil {
		return Config{}, err
	}
	return cfg, cfg.Check()
}

// Limits of a file.
const (
	maxClusters = 1000
	maxHosts    = 1000
	maxRoutes   = 10_000
	maxMillis   = 24 * 60 * 60 * 1000
)

// Check returns every mistake in cfg that stands in the file; those of tracing come from
// Setup.
func (cfg *Config) Check() error {
	var p problems
	for name, c := range cfg.Clusters {
		c.check(p.in("clusters."+name), &p)
	}
	if n := len(cfg.Clusters); n > maxClusters {
		p.addf("clusters", n, "at most %d", maxClusters)
	}
	if n := len(cfg.Routes); n > maxRoutes {
		p.addf("routes", n, "at most %d", maxRoutes)
	}
	for i := range cfg.Routes[:min(len(cfg.Routes), maxRoutes)] {
		cfg.Routes[i].check(p.in(fmt.Sprintf("routes[%d]", i)), &p)
	}
	if h := cfg.HealthCheck; h != nil && !strings.HasPrefix(h.Path, "/") {
		p.addf("health_check.path", h.Path, "a path that begins with /")
	}
	if r := cfg.RateLimit; r != nil && !(r.PerSecond >= 0 && r.Burst >= 0 && r.PerSecond+float64(r.Burst) > 0) {
		p.addf("rate_limit", *r, "per_second and burst of 0 and above, one of them above")
	}
	if cfg.Tracing != nil {
		cfg.Tracing.check(&p)
	}
	for i, cidr := range cfg.Edge.Internal {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			p.addf(fmt.Sprintf("edge.internal[%d]", i), cidr, "a range such as 10.0.0.0/8")
		}
	}
	return p.err()
}

func (t *Tracing) check(p *problems) {
	const at = "tracing."
	if _, ok := presets[t.Preset]; !ok {
		p.addf(at+"preset", t.Preset, "envoy, envoy-zipkin, envoy-gateway, gloo or istio")
	}
	if !slices.Contains([]string{"", "ingress", "egress"}, t.Direction) {
		p.addf(at+"direction", t.Direction, "ingress or egress")
	}
	for _, share := range []struct {
		name string
		of   *float64
	}{{"client_sampling", t.ClientSampling}, {"random_sampling", t.RandomSampling}, {"overall_sampling", t.OverallSampling}} {
		if share.of != nil && !(*share.of >= 0 && *share.of <= 100) {
			p.addf(at+share.name, *share.of, "0 to 100 percent")
		}
	}
	if n := t.MaxPathTagLength; n != nil && *n < 0 {
		p.addf(at+"max_path_tag_length", *n, "0 and above")
	}
	checkTemplate(p, at+"operation", t.Operation)
	checkTemplate(p, at+"upstream_operation", t.UpstreamOperation)
	checkTags(p, at+"custom_tags", t.CustomTags)
}

func checkTemplate(p *problems, at, text string) {
	if _, err := span.ParseTemplate(text); err != nil {
		p.addf(at, text, "command operators: %v", err)
	}
}

func checkTags(p *problems, at string, tags []Tag) {
	for i := range tags {
		at := fmt.Sprintf("%s[%d]", at, i)
		tag, err := tags[i].tag()
		if err == nil {
			err = tag.Err()
		}
		if err != nil {
			p.addf(at, tags[i].Tag, "%v", err)
		}
	}
}

func (c *Cluster) check(at string, p *problems) {
	if n := len(c.Hosts); n > maxHosts {
		p.addf(at+".hosts", n, "at most %d", maxHosts)
	}
	for i, h := range c.Hosts[:min(len(c.Hosts), maxHosts)] {
		if host, port, ok := strings.Cut(h.Address, ":"); host == "" || port == "" || !ok || strings.Contains(h.Address, "/") {
			p.addf(fmt.Sprintf("%s.hosts[%d].address", at, i), h.Address, "host:port")
		}
	}
	if c.MaxRequests != nil && *c.MaxRequests < 0 {
		p.addf(at+".max_requests", *c.MaxRequests, "0 and above")
	}
}

// retryOn are the reasons for a retry.
var retryOn = []string{"5xx", "gateway-error", "reset", "connect-failure", "refused-stream", "retriable-4xx"}

func (r *Route) check(at string, p *problems) {
	if r.Prefix != "" && r.Path != "" {
		p.addf(at, r.Path, "prefix or path, not both")
	}
	for name, v := range map[string]string{"prefix": r.Prefix, "path": r.Path, "prefix_rewrite": r.PrefixRewrite} {
		if v != "" && !strings.HasPrefix(v, "/") {
			p.addf(at+"."+name, v, "a path that begins with /")
		}
	}
	ends := 0
	for _, set := range []bool{r.Cluster != "", r.Respond != nil, r.Redirect != nil} {
		if set {
			ends++
		}
	}
	if ends != 1 {
		p.addf(at, ends, "exactly one of cluster, respond and redirect")
	}
	if r.Respond != nil && (r.Respond.Status < 200 || r.Respond.Status > 599) {
		p.addf(at+".respond.status", r.Respond.Status, "200 to 599")
	}
	if d := r.Decorator; d != nil && d.Operation == "" {
		p.addf(at+".decorator.operation", d.Operation, "a name")
	}
	if _, err := span.ParseGlooTemplate(r.Transformer); err != nil {
		p.addf(at+".span_transformer", r.Transformer, "%v", err)
	}
	if t := r.Tracing; t != nil {
		for name, f := range map[string]*Fraction{"client_sampling": t.ClientSampling, "random_sampling": t.RandomSampling, "overall_sampling": t.OverallSampling} {
			if f == nil {
				continue
			}
			if _, ok := denominators[f.Denominator]; !ok {
				p.addf(at+".tracing."+name+".denominator", f.Denominator, "HUNDRED, TEN_THOUSAND or MILLION")
			}
		}
		checkTemplate(p, at+".tracing.operation", t.Operation)
		checkTemplate(p, at+".tracing.upstream_operation", t.UpstreamOperation)
		checkTags(p, at+".tracing.custom_tags", t.CustomTags)
	}
	checkMillis(p, at+".timeout_ms", r.TimeoutMS)
	if retry := r.Retry; retry != nil {
		checkMillis(p, at+".retry.per_try_timeout_ms", retry.PerTryTimeoutMS)
		for i, on := range retry.On {
			if !slices.Contains(retryOn, on) {
				p.addf(fmt.Sprintf("%s.retry.on[%d]", at, i), on, "%s", strings.Join(retryOn, ", "))
			}
		}
		if n := retry.NumRetries; n != nil && (*n < 0 || *n > 100) {
			p.addf(at+".retry.num_retries", *n, "0 to 100")
		}
	}
	if f := r.Fault; f != nil {
		checkMillis(p, at+".fault.delay_ms", f.DelayMS)
		if f.Abort != 0 && (f.Abort < 200 || f.Abort > 599) {
			p.addf(at+".fault.abort", f.Abort, "200 to 599")
		}
	}
}

func checkMillis(p *problems, at string, ms int) {
	if ms < 0 || ms > maxMillis {
		p.addf(at, ms, "0 to %d", maxMillis)
	}
}

// matches tells whether the route is for a request.
func (r *Route) matches(req *http.Request) bool {
	switch {
	case r.Path != "":
		return req.URL.Path == r.Path
	case r.Prefix != "":
		return strings.HasPrefix(req.URL.Path, r.Prefix)
	}
	return true
}

// problems are the mistakes of a file.
type problems struct{ list []string }

// maxProblems bounds how many are told.
const maxProblems = 100

func (p *problems) in(at string) string { return at }

// addf notes that value does not do at a place, and what is allowed.
func (p *problems) addf(at string, value any, allowed string, args ...any) {
	if len(p.list) == maxProblems {
		return
	}
	v, err := json.Marshal(value)
	if err != nil {
		v = []byte(fmt.Sprint(value))
	}
	p.list = append(p.list, fmt.Sprintf("%s: %.200s: allowed is %s", at, v, fmt.Sprintf(allowed, args...)))
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	slices.Sort(p.list) // maps have no order
	return fmt.Errorf("gateway: %d mistakes:\n\t%s", len(p.list), strings.Join(p.list, "\n\t"))
}
