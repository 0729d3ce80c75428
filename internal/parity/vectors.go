package parity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Vectors is a file of single questions, each with its answer: "this value of
// x-request-id has that number".
type Vectors struct {
	Meta   VectorsMeta
	Topics map[string][]Vector // by topic; every topic of Meta.Topics and no other
}

// VectorsMeta says what a file of vectors was made from.
type VectorsMeta struct {
	Title         string            `json:"title"`
	FormatVersion int               `json:"format_version"` // 1
	Reference     map[string]string `json:"reference"`      // project to revision
	Origin        map[string]string `json:"origin"`         // what each value of Vector.Origin means
	Conventions   []string          `json:"conventions"`
	Topics        map[string]Topic  `json:"topics"`
	Total         int               `json:"total"` // vectors when the file was whole; a file may hold fewer
}

// Topic describes the vectors of one topic, whose In, Config and Out have one shape.
type Topic struct {
	About   string   `json:"about"`
	Sources []string `json:"sources"` // paths in Envoy's repository
	Count   int      `json:"count"`
}

// Vector is one question. The shape of In, Config and Out is its topic's. A
// header that is null is absent, a list is several lines in order, and a number
// above 2^53 is a string.
type Vector struct {
	Name   string          `json:"name"`
	Origin string          `json:"origin"`          // test, test_case, derived, computed, live
	Since  string          `json:"since,omitempty"` // first Envoy release it holds for; "" all
	Until  string          `json:"until,omitempty"` // last one; "" the reference
	Note   string          `json:"note,omitempty"`
	In     json.RawMessage `json:"in"`
	Config json.RawMessage `json:"config"`
	Out    json.RawMessage `json:"out"`
}

// Live is a file of whole requests and what a running Envoy did with them.
type Live struct {
	Meta  LiveMeta `json:"meta"`
	Cases []Case   `json:"cases"`
}

// LiveMeta says how the answers were recorded.
type LiveMeta struct {
	Title         string          `json:"title"`
	FormatVersion int             `json:"format_version"` // 1
	Envoy         string          `json:"envoy"`          // build
	How           string          `json:"how"`
	Rules         string          `json:"rules"`
	Format        json.RawMessage `json:"format"` // what the fields mean, for readers
	Topics        map[string]int  `json:"topics"` // cases of each topic
	Total         int             `json:"total"`
}

// Case is one request to an Envoy of the given configuration.
type Case struct {
	Name     string   `json:"name"` // topic/what
	Topic    string   `json:"topic"`
	Rules    []string `json:"rules"` // ids of RULES.md that it touches
	Note     string   `json:"note,omitempty"`
	Config   Proxy    `json:"config"`
	Request  Request  `json:"request"`
	Upstream Upstream `json:"upstream"`
	Expect   Expect   `json:"expect"`
}

// Proxy is the configuration of a case. A nil pointer or absent list is
// Envoy's default.
type Proxy struct {
	Tracer    string `json:"tracer"`    // opentelemetry, zipkin, no_provider, none
	Direction string `json:"direction"` // ingress, egress; "" unspecified

	ClientSampling  *float64 `json:"client_sampling"` // percent
	RandomSampling  *float64 `json:"random_sampling"`
	OverallSampling *float64 `json:"overall_sampling"`

	GenerateRequestID            *bool    `json:"generate_request_id"`
	PreserveExternalRequestID    bool     `json:"preserve_external_request_id"`
	AlwaysSetRequestIDInResponse bool     `json:"always_set_request_id_in_response"`
	PackTraceReason              *bool    `json:"pack_trace_reason"`
	UseRequestIDForTraceSampling *bool    `json:"use_request_id_for_trace_sampling"`
	UseRemoteAddress             bool     `json:"use_remote_address"`
	XFFNumTrustedHops            int      `json:"xff_num_trusted_hops"`
	InternalCIDRs                []string `json:"internal_cidrs"` // nil: not configured; empty: without ranges (ED-5)
	InternalOnlyHeaders          []string `json:"internal_only_headers"`
	AddUserAgent                 bool     `json:"add_user_agent"`
	AcceptHTTP10                 bool     `json:"accept_http_10"`

	SpawnUpstreamSpan    bool         `json:"spawn_upstream_span"`
	NoContextPropagation bool         `json:"no_context_propagation"`
	Verbose              bool         `json:"verbose"`
	Operation            string       `json:"operation"`
	UpstreamOperation    string       `json:"upstream_operation"`
	CustomTags           []CustomTag  `json:"custom_tags"`
	Sampler              *Sampler     `json:"sampler"`
	Zipkin               ZipkinTracer `json:"zipkin"`
	OTel                 *OTelTracer  `json:"otel"` // nil: the service is "oracle"

	Route             Route           `json:"route"`
	RouteAfterRefresh *Route          `json:"route_after_refresh"`
	Cluster           Cluster         `json:"cluster"`
	RequestMetadata   json.RawMessage `json:"request_metadata"`

	FaultFilter            string     `json:"fault_filter"`
	LocalRateLimitOne      bool       `json:"local_rate_limit_one"`
	HealthCheckPath        string     `json:"health_check_path"`
	HealthCheckPassThrough bool       `json:"health_check_pass_through"`
	AccessLog              *AccessLog `json:"access_log"`
	Node                   Node       `json:"proxy"`
}

// Fraction is a numerator over a denominator: HUNDRED (also ""), TEN_THOUSAND, MILLION.
type Fraction struct {
	Numerator   uint32 `json:"numerator"`
	Denominator string `json:"denominator"`
}

// CustomTag is a tag of one kind; the others are nil.
type CustomTag struct {
	Tag         string  `json:"tag"`
	Literal     *string `json:"literal"`
	Value       *string `json:"value"` // access log format
	Environment *struct {
		Name    string `json:"name"`
		Default string `json:"default"`
	} `json:"environment"`
	RequestHeader *struct {
		Name    string `json:"name"`
		Default string `json:"default"`
	} `json:"request_header"`
	Metadata *struct {
		Kind    string   `json:"kind"`
		Key     string   `json:"key"`
		Path    []string `json:"path"`
		Default string   `json:"default"`
	} `json:"metadata"`
}

// Sampler is the OpenTelemetry tracer's: always_on, parent_based,
// trace_id_ratio or cel.
type Sampler struct {
	Type        string   `json:"type"`
	Root        *Sampler `json:"root"`        // parent_based
	Numerator   uint32   `json:"numerator"`   // trace_id_ratio
	Denominator string   `json:"denominator"` // trace_id_ratio
	Answer      bool     `json:"answer"`      // cel
}

// ZipkinTracer holds the settings of that tracer.
type ZipkinTracer struct {
	SharedSpanContext  *bool  `json:"shared_span_context"`
	TraceID128Bit      bool   `json:"trace_id_128bit"`
	TraceContextOption string `json:"trace_context_option"`
}

// OTelTracer holds the settings of that tracer.
type OTelTracer struct {
	ServiceName              string            `json:"service_name"`
	EnvironmentDetector      bool              `json:"environment_detector"`
	StaticResource           map[string]string `json:"static_resource"`
	NoTelemetrySDKAttributes bool              `json:"no_telemetry_sdk_attributes"`
}

// Route is the only route of a case, which matches every request.
type Route struct {
	Decorator *struct {
		Operation string `json:"operation"`
		Propagate *bool  `json:"propagate"` // nil: true
	} `json:"decorator"`
	Tracing *struct {
		ClientSampling    *Fraction   `json:"client_sampling"` // nil: 100 %
		RandomSampling    *Fraction   `json:"random_sampling"`
		OverallSampling   *Fraction   `json:"overall_sampling"`
		Operation         string      `json:"operation"`
		UpstreamOperation string      `json:"upstream_operation"`
		CustomTags        []CustomTag `json:"custom_tags"`
	} `json:"tracing"`
	Metadata         json.RawMessage `json:"metadata"`
	NoRoute          bool            `json:"no_route"`
	UnknownCluster   bool            `json:"unknown_cluster"`
	DirectResponse   int             `json:"direct_response"`
	PrefixRewrite    string          `json:"prefix_rewrite"`
	HostRewrite      string          `json:"host_rewrite"`
	Redirect         json.RawMessage `json:"redirect"`
	InternalRedirect bool            `json:"internal_redirect"`
	RetryOn          string          `json:"retry_on"`
	NumRetries       int             `json:"num_retries"`
	TimeoutMS        int             `json:"timeout_ms"`
	PerTryTimeoutMS  int             `json:"per_try_timeout_ms"`
}

// Cluster is the upstream cluster, named backend.
type Cluster struct {
	NoHosts      bool            `json:"no_hosts"`
	MaxRequests  *int            `json:"max_requests"`
	AltStatName  string          `json:"alt_stat_name"`
	Metadata     json.RawMessage `json:"metadata"`
	HostMetadata json.RawMessage `json:"host_metadata"`
}

// AccessLog is a log whose filter lets a share through; nil: all.
type AccessLog struct {
	PercentSampled *Fraction `json:"percent_sampled"`
}

// Node is the proxy itself.
type Node struct {
	ID                     string                     `json:"node_id"`
	Cluster                string                     `json:"node_cluster"`
	Zone                   string                     `json:"zone"`
	HeaderPrefix           string                     `json:"header_prefix"`
	OTelResourceAttributes string                     `json:"otel_resource_attributes"`
	Runtime                map[string]json.RawMessage `json:"runtime"` // key to number, fraction or bool
}

// Request is what the caller sends; an absent field is: GET, /api/v1?q=1,
// HTTP/1.1, host svc.example, from 203.0.113.9.
type Request struct {
	Method       string  `json:"method"`
	Path         string  `json:"path"`
	Proto        string  `json:"proto"`
	Host         *string `json:"host"` // nil: svc.example; empty: no host at all
	Peer         string  `json:"peer"`
	Headers      []Field `json:"headers"` // lines in order, duplicates and empty values included
	BodySize     int     `json:"body_size"`
	GRPC         bool    `json:"grpc"`
	AbortAfterMS int     `json:"abort_after_ms"`
	Earlier      int     `json:"earlier"` // equal requests before this one
}

// Field is one header line: name and value.
type Field [2]string

// Upstream is what the application behind the proxy does.
type Upstream struct {
	Status      int       `json:"status"` // 0: 200
	Headers     []Field   `json:"headers"`
	Trailers    []Field   `json:"trailers"`
	HeadersOnly bool      `json:"headers_only"`
	BodySize    int       `json:"body_size"`
	DelayMS     int       `json:"delay_ms"`
	Fault       string    `json:"fault"` // refuse, reset, close, garbage, reset_mid_body
	Then        *Upstream `json:"then"`  // on the next attempt
}

// Lines is what a header's lines are; nil: the header is absent.
type Lines []string

// UnmarshalJSON reads null, a string (one line) or a list of strings.
func (l *Lines) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var one string
		if err := json.Unmarshal(b, &one); err != nil {
			return err
		}
		*l = Lines{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		return fmt.Errorf("header lines: null, a string or a list of strings: %w", err)
	}
	*l = many
	return nil
}

// Expect is what was recorded. Ids that the proxy made are placeholders, such
// as {{trace}}; the same placeholder in a case is the same id.
type Expect struct {
	Decision               string             `json:"decision"` // the counters that moved, joined by +; none
	ClientAddress          string             `json:"client_address"`
	UpstreamRequestHeaders map[string]Lines   `json:"upstream_request_headers"` // nil: no request reached it
	LaterAttempts          []map[string]Lines `json:"later_attempts"`
	Response               *Response          `json:"response"` // nil: the caller had gone
	Spans                  []Span             `json:"spans"`    // downstream first, then one for each attempt
	AccessLog              []string           `json:"access_log"`
	ExportRequest          map[string]string  `json:"export_request"`
}

// Response is what the caller got.
type Response struct {
	Status  int              `json:"status"`
	Headers map[string]Lines `json:"headers"`
}

// Span is an exported span.
type Span struct {
	Name       string            `json:"name"`
	Kind       string            `json:"kind"`   // SERVER, CLIENT
	Status     string            `json:"status"` // UNSET, OK, ERROR; "" with Zipkin
	TraceID    string            `json:"trace_id"`
	SpanID     string            `json:"span_id"`
	Parent     string            `json:"parent"` // "" root
	Flags      uint32            `json:"flags"`  // OTLP field
	TraceState *string           `json:"trace_state"`
	Attributes map[string]string `json:"attributes"` // whole in the topics span, custom_tag and exporter; elsewhere without those of their usual value
	Events     []string          `json:"events"`
	Shared     bool              `json:"shared"` // Zipkin JSON
	Resource   map[string]string `json:"resource"`
	Scope      *string           `json:"scope"`
}

// Load reads a file of vectors. A field that this form does not know is an
// error, and so is a topic that Meta does not describe.
func Load(path string) (*Vectors, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var parts map[string]json.RawMessage
	if err := strict(b, &parts); err != nil {
		return nil, fmt.Errorf("parity: %s: %w", path, err)
	}
	v := &Vectors{Topics: make(map[string][]Vector)}
	for name, part := range parts {
		if name == "meta" {
			err = strict(part, &v.Meta)
		} else {
			var topic []Vector
			err = strict(part, &topic)
			v.Topics[name] = topic
		}
		if err != nil {
			return nil, fmt.Errorf("parity: %s: %s: %w", path, name, err)
		}
	}
	if v.Meta.FormatVersion != 1 {
		return nil, fmt.Errorf("parity: %s: format_version %d, want 1", path, v.Meta.FormatVersion)
	}
	for name := range v.Topics {
		if _, ok := v.Meta.Topics[name]; !ok {
			return nil, fmt.Errorf("parity: %s: topic %q is not in meta.topics", path, name)
		}
	}
	for name := range v.Meta.Topics {
		if len(v.Topics[name]) == 0 {
			return nil, fmt.Errorf("parity: %s: topic %q of meta.topics holds no vector", path, name)
		}
	}
	return v, nil
}

// LoadLive reads a file of recorded answers. A field that this form does not
// know is an error, and so is a case that names no rule of RULES.md.
func LoadLive(path string) (*Live, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	l := new(Live)
	if err := strict(b, l); err != nil {
		return nil, fmt.Errorf("parity: %s: %w", path, err)
	}
	if l.Meta.FormatVersion != 1 {
		return nil, fmt.Errorf("parity: %s: format_version %d, want 1", path, l.Meta.FormatVersion)
	}
	rules, err := Rules()
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(rules))
	for _, r := range rules {
		known[r.ID] = true
	}
	for _, c := range l.Cases {
		if len(c.Rules) == 0 {
			return nil, fmt.Errorf("parity: %s: case %q names no rule", path, c.Name)
		}
		for _, id := range c.Rules {
			if !known[id] {
				return nil, fmt.Errorf("parity: %s: case %q names %s, which has no row", path, c.Name, id)
			}
		}
	}
	return l, nil
}

// strict decodes one JSON value and refuses what into has no place for.
func strict(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}
