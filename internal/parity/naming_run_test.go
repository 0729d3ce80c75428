package parity_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/meshtrace/meshtrace/internal/parity"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

// tracedBy returns a gateway that traces everything, whatever the ids, and the spans of
// what f does with it.
func tracedBy(edit func(*middleware.Config), f func(*middleware.Tracing)) ([]sdktrace.ReadOnlySpan, error) {
	recorder := tracetest.NewSpanRecorder()
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan = true
	cfg.RequestID.Use, cfg.Sampling.Use = requestid.Ignore, requestid.Ignore // D-2
	cfg.RequestID.External = requestid.Disable
	cfg.Processors = []sdktrace.SpanProcessor{recorder}
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Getenv = func(name string) string { return map[string]string{"OTEL_TRACES_EXPORTER": "none"}[name] }
	if edit != nil {
		edit(&cfg)
	}
	tracing, err := middleware.Setup(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	f(tracing)
	return ended(recorder), tracing.Shutdown(context.Background())
}

// downstream returns the span of the request in a, nil when there is none.
func downstream(a answer) sdktrace.ReadOnlySpan {
	if !exported(a) {
		return nil
	}
	return a.spans[0]
}

// header returns lines for a header of a vector; nil is absent.
func header(value *string) parity.Lines {
	if value == nil {
		return nil
	}
	return parity.Lines{*value}
}

// operations are the two templates of a listener or route.
type operations struct {
	Operation         string `json:"operation"`
	UpstreamOperation string `json:"upstream_operation"`
}

// checkDecorator takes a request through the gateway. A formatter's result is what
// stands in a header.
func checkDecorator(v parity.Vector) error {
	var in struct {
		Request  *string `json:"request_header"`
		Response *string `json:"response_header_from_upstream"`
	}
	var config struct {
		Direction  string      `json:"direction"`
		Operation  *string     `json:"decorator_operation"`
		Propagate  *bool       `json:"propagate"`
		Formatted  *string     `json:"operation_formatter_result"`
		Configured *bool       `json:"tracing_configured"`
		HCM        *operations `json:"hcm"`
		Route      *operations `json:"route"`
	}
	var out struct {
		Name       *string `json:"span_name"`
		Upstream   *string `json:"request_header_to_upstream"`
		Downstream *string `json:"response_header_to_downstream"`

		DownstreamName *string `json:"downstream_span_name"`
		UpstreamName   *string `json:"upstream_span_name"`
		Applied        *bool   `json:"decorator_applied"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	const operation = "x-envoy-decorator-operation"
	c := parity.Case{Config: parity.Proxy{Tracer: "opentelemetry", Direction: config.Direction}}
	for _, f := range []struct {
		name  string
		value *string
		to    *[]parity.Field
	}{{operation, in.Request, &c.Request.Headers}, {"x-formatted", config.Formatted, &c.Request.Headers}, {operation, in.Response, &c.Upstream.Headers}} {
		if f.value != nil {
			*f.to = append(*f.to, parity.Field{f.name, *f.value})
		}
	}
	if config.Formatted != nil {
		c.Config.Operation = "%REQ(x-formatted)%"
	}
	if !isOn(config.Configured) {
		c.Config.Tracer = "none"
	}
	decorate := func(op string) {
		c.Config.Route.Decorator = &struct {
			Operation string `json:"operation"`
			Propagate *bool  `json:"propagate"`
		}{op, config.Propagate}
	}
	if config.Operation != nil && *config.Operation != "" { // N-4: at least one byte
		decorate(*config.Operation)
	}
	var m mismatches
	if out.Applied != nil { // templates of both levels, and whether they put a decorator out of force
		c.Config.SpawnUpstreamSpan = true
		name := "decorated"
		if *out.Applied && out.DownstreamName != nil {
			name = *out.DownstreamName
		}
		decorate(name)
		if config.HCM != nil {
			c.Config.Operation, c.Config.UpstreamOperation = config.HCM.Operation, config.HCM.UpstreamOperation
		}
		if r := config.Route; r != nil {
			text := fmt.Sprintf(`{"operation": %q, "upstream_operation": %q}`, r.Operation, r.UpstreamOperation)
			if err := strictly([]byte(text), &c.Config.Route.Tracing); err != nil {
				return err
			}
		}
		a, err := send(c)
		if err != nil {
			return err
		}
		if len(a.spans) != 2 {
			return fmt.Errorf("%d spans, want 2", len(a.spans))
		}
		if out.DownstreamName != nil {
			equal(&m, "downstream span", a.spans[0].Name(), *out.DownstreamName)
		}
		if out.UpstreamName != nil {
			equal(&m, "upstream span", a.spans[1].Name(), *out.UpstreamName)
		}
		equal(&m, "decorator applied", len(a.response[operation]) > 0, *out.Applied)
		return m.err()
	}
	a, err := send(c)
	if err != nil {
		return err
	}
	switch s := downstream(a); {
	case out.Name == nil:
		equal(&m, "exported", s != nil, false)
	case s == nil:
		m.addf("no span")
	default:
		equal(&m, "span", s.Name(), strings.ReplaceAll(*out.Name, "<host>", defaultHost))
	}
	compareLines(&m, nil, "operation upstream", a.attempts[0].headers[operation], header(out.Upstream))
	compareLines(&m, nil, "operation to the caller", a.response[operation], header(out.Downstream))
	return m.err()
}

func checkDefaultName(v parity.Vector) error {
	var in struct {
		Authority string `json:":authority"`
		Path      string `json:":path"`
	}
	var config struct {
		Direction string `json:"direction"`
		Tracer    string `json:"tracer"`
		Cluster   string `json:"cluster"`
		Observed  string `json:"cluster_observability_name"`
		Spawn     *bool  `json:"spawn_upstream_span"`
		Client    string `json:"client"`
		Method    string `json:"method"`
	}
	var out struct {
		Name string `json:"span_name"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	direction, err := middleware.ParseDirection(config.Direction)
	if err != nil {
		return err
	}
	upstream := middleware.Upstream{Cluster: config.Cluster, ClusterName: config.Observed, Own: config.Client != ""}
	outgoing := middleware.Outgoing{Upstream: upstream}
	switch config.Client {
	case "", "http":
	case "grpc":
		i := strings.LastIndexByte(config.Method, '.')
		outgoing.Method = "/" + config.Method[:i] + "/" + config.Method[i+1:]
	default:
		return fmt.Errorf("client %q is none that this topic knows", config.Client)
	}
	var editErr error
	spans, err := tracedBy(func(cfg *middleware.Config) {
		cfg.Direction = direction
		switch config.Tracer {
		case "", "opentelemetry":
		case "zipkin":
			*cfg = middleware.WithZipkin(*cfg, middleware.Zipkin{})
		case "skywalking":
			cfg.DefaultName = span.MustTemplate("%REQ(:PATH)%")
		default:
			editErr = fmt.Errorf("tracer %q is none that this topic knows", config.Tracer)
		}
	}, func(t *middleware.Tracing) {
		ctx, call := t.StartServer(context.Background(), middleware.Incoming{
			Method: http.MethodGet, Scheme: "http", Authority: in.Authority, Path: in.Path, Carrier: otelprop.HeaderCarrier{},
		})
		if config.Cluster != "" || config.Client != "" {
			_, up := t.StartClient(ctx, outgoing)
			up.End(middleware.Outcome{HTTPStatus: http.StatusOK})
		}
		call.End(middleware.Outcome{HTTPStatus: http.StatusOK})
	})
	if err := errors.Join(err, editErr); err != nil {
		return err
	}
	if got := spans[len(spans)-1].Name(); got != out.Name {
		return fmt.Errorf("span = %q, want %q", got, out.Name)
	}
	return nil
}

func checkSpanKind(v parity.Vector) error {
	var in struct{}
	var config struct {
		Spawn     bool    `json:"spawn_upstream_span"`
		Direction string  `json:"direction"`
		Listener  *string `json:"listener_traffic_direction"`
	}
	var out struct {
		Downstream string `json:"downstream_kind"`
		Child      string `json:"child_kind"`
		Direction  string `json:"direction"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	var m mismatches
	if config.Listener != nil { // N-1
		d, err := middleware.ParseDirection(*config.Listener)
		if err != nil {
			return err
		}
		equal(&m, "direction", d.String(), out.Direction)
		return m.err()
	}
	a, err := send(parity.Case{Config: parity.Proxy{Tracer: "opentelemetry", Direction: config.Direction, SpawnUpstreamSpan: config.Spawn}})
	if err != nil {
		return err
	}
	for i, s := range a.spans {
		want := out.Downstream
		if i > 0 {
			want = out.Child
		}
		equal(&m, fmt.Sprintf("kind of span %d", i+1), strings.ToUpper(s.SpanKind().String()), want)
	}
	equal(&m, "spans", len(a.spans), map[bool]int{false: 1, true: 2}[config.Spawn])
	return m.err()
}

func checkIstioOperation(v parity.Vector) error {
	var in struct {
		Host       string  `json:"host"`
		Port       int     `json:"port"`
		Cluster    *string `json:"cluster"` // of the only destination; nil: none, or several
		Virtual    string  `json:"virtual_service"`
		ListenPort int     `json:"listen_port"`
		Match      *struct {
			Path      string `json:"path"`
			Prefix    string `json:"prefix"`
			Regex     string `json:"regex"`
			SafeRegex string `json:"safe_regex"`
		} `json:"match"`
		Clusters []string `json:"clusters"`
		Weighted []string `json:"weighted_clusters"`
	}
	var config struct{}
	var out struct {
		Operation string `json:"operation"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	host, port := in.Host, in.Port
	if host == "" {
		host, port = in.Virtual, in.ListenPort
	}
	if in.Cluster != nil && *in.Cluster != "" {
		parts := strings.Split(*in.Cluster, "|") // direction|port|subset|host
		if len(parts) == 4 {
			n, err := strconv.Atoi(parts[1])
			if err != nil {
				return err
			}
			host, port = parts[3], n
		}
	}
	path := ""
	if match := in.Match; match != nil {
		path = match.Path + match.Regex + match.SafeRegex
		if match.Prefix != "" {
			path = match.Prefix + "*"
		}
	}
	if got := span.IstioOperation(host, port, path); got != out.Operation {
		return fmt.Errorf("operation = %q, want %q", got, out.Operation)
	}
	return nil
}

func checkGlooName(v parity.Vector) error {
	var in fields
	var config struct {
		Descriptor  *string `json:"routeDescriptor"`
		Transformer *string `json:"spanTransformer.name"`
		Propagate   *bool   `json:"propagate"`
	}
	var out struct {
		Name     *string `json:"span_name"`
		Sampling *[3]int `json:"route_sampling_becomes"`
		Error    *bool   `json:"error"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	c := parity.Case{Config: parity.Proxy{Tracer: "opentelemetry"}}
	for _, f := range in.lines() {
		if f[0] == "host" {
			c.Request.Host = &f[1]
		} else {
			c.Request.Headers = append(c.Request.Headers, f)
		}
	}
	if d := config.Descriptor; d != nil && *d != "" { // an empty one is none
		c.Config.Route.Decorator = &struct {
			Operation string `json:"operation"`
			Propagate *bool  `json:"propagate"`
		}{*d, config.Propagate}
	}
	var m mismatches
	var transformer span.Template
	if config.Transformer != nil {
		var err error
		transformer, err = span.ParseGlooTemplate(*config.Transformer)
		if out.Error != nil {
			equal(&m, "an error", err != nil, *out.Error)
			return m.err()
		} else if err != nil {
			return err
		}
	}
	a, err := send(c, func(cfg *middleware.Config) {
		route := cfg.Route
		cfg.Route = func(r *http.Request) middleware.Route {
			m := route(r)
			m.Transformer = transformer
			return m
		}
	})
	if err != nil {
		return err
	}
	if out.Name != nil {
		equal(&m, "span", a.spans[0].Name(), *out.Name)
	}
	if out.Sampling != nil { // GL-3: a Route's Sampling of its own, with nothing in it
		r := sampler.Request{Shares: new(sampler.Shares)}
		never := sampler.Config{Client: sampler.Percent(0), Random: sampler.Percent(0), Overall: sampler.Percent(0)}
		equal(&m, "client share", joinedOfAll(r, never), out.Sampling[0])
		equal(&m, "random and overall share", tracedOfAll(r, never)/100, min(out.Sampling[1], out.Sampling[2]))
	}
	return m.err()
}
