package parity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/internal/parity"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/span"
)

// tag returns an attribute of s as text, and whether there is one.
func tag(s sdktrace.ReadOnlySpan, name string) (string, bool) {
	for _, kv := range slices.Backward(s.Attributes()) {
		if kv.Key == attribute.Key(name) {
			return kv.Value.String(), true
		}
	}
	return "", false
}

func compareTags(m *mismatches, s sdktrace.ReadOnlySpan, want map[string]string, absent []string) {
	for name, value := range want {
		if got, ok := tag(s, name); !ok || got != value {
			m.addf("%s = %q (there: %v), want %q", name, got, ok, value)
		}
	}
	for _, name := range absent {
		if got, ok := tag(s, name); ok {
			m.addf("%s = %q, want none", name, got)
		}
	}
}

// incoming is a request with pseudo headers among the others; nil never arrived.
func incoming(f fields) middleware.Incoming {
	in := middleware.Incoming{Method: http.MethodConnect} // which alone has no path
	if f == nil {
		return in
	}
	h := make(http.Header)
	for _, line := range f.lines() {
		switch line[0] {
		case ":path":
			in.Path = line[1]
			if in.Method == http.MethodConnect {
				in.Method = http.MethodGet
			}
		case ":scheme":
			in.Scheme = line[1]
		case ":authority":
			in.Authority = line[1]
		case ":method":
		default:
			h.Add(line[0], line[1])
		}
	}
	if method, ok := f.first(":method"); ok {
		in.Method = method
	}
	in.Carrier = otelprop.HeaderCarrier(h)
	return in
}

func checkURLTag(v parity.Vector) error {
	var in fields
	var config struct {
		Max int `json:"max_path_tag_length"`
	}
	var out struct {
		URL string `json:"http.url"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	if config.Max == 0 {
		config.Max = -1 // none
	}
	spans, err := tracedBy(func(cfg *middleware.Config) { cfg.PathTag = config.Max }, func(t *middleware.Tracing) {
		_, call := t.StartServer(context.Background(), incoming(in))
		call.End(middleware.Outcome{HTTPStatus: http.StatusOK})
	})
	if err != nil {
		return err
	}
	if got, _ := tag(spans[0], "http.url"); got != out.URL {
		return fmt.Errorf("http.url = %q, want %q", got, out.URL)
	}
	return nil
}

// flagCodes are the response flags by Envoy's long names.
var flagCodes = map[string]string{
	"NoHealthyUpstream": "UH", "UpstreamConnectionFailure": "UF", "UpstreamConnectionTermination": "UC", "UpstreamRemoteReset": "UR",
	"UpstreamRequestTimeout": "UT", "UpstreamOverflow": "UO", "UpstreamProtocolError": "UPE", "UpstreamRetryLimitExceeded": "URX",
	"LocalReset": "LR", "NoRouteFound": "NR", "NoClusterFound": "NC", "RateLimited": "RL", "DelayInjected": "DI", "FaultInjected": "FI",
	"DownstreamConnectionTermination": "DC", "DownstreamRemoteReset": "DR", "OverloadManager": "OM",
}

func codesOf(flags []string) ([]string, error) {
	var list []string
	for _, f := range flags {
		code, ok := flagCodes[f]
		if !ok && strings.ToUpper(f) != f {
			return nil, fmt.Errorf("flag %q is none that this topic knows", f)
		}
		if !ok {
			code = f
		}
		list = append(list, code)
	}
	return list, nil
}

// resetOf are the kinds of resets by Envoy's names. A clean reset is none (T-10).
var resetOf = map[string]middleware.Reset{
	"LocalConnectionFailure":          middleware.ResetLocalConnectionFailure,
	"RemoteConnectionFailure":         middleware.ResetRemoteConnectionFailure,
	"ConnectionTimeout":               middleware.ResetConnectionTimeout,
	"ConnectionTermination":           middleware.ResetConnectionTermination,
	"LocalReset":                      middleware.ResetLocal,
	"LocalRefusedStreamReset":         middleware.ResetLocalRefused,
	"Overflow":                        middleware.ResetOverflow,
	"RemoteReset":                     middleware.ResetRemote,
	"RemoteRefusedStreamReset":        middleware.ResetRemoteRefused,
	"ConnectError":                    middleware.ResetConnectError,
	"ProtocolError":                   middleware.ResetProtocolError,
	"OverloadManager":                 middleware.ResetOverloadManager,
	"Http1PrematureUpstreamHalfClose": middleware.ResetPrematureHalfClose,
	"RemoteResetNoError":              0,
}

func errorOf(reset string) (error, error) {
	r, ok := resetOf[reset]
	switch {
	case reset == "" || ok && r == 0:
		return nil, nil
	case !ok:
		return nil, fmt.Errorf("reset %q is none that this topic knows", reset)
	}
	return r, nil
}

func checkDownstreamTags(v parity.Vector) error {
	var in struct {
		Request     fields   `json:"request"`
		Response    fields   `json:"response"`
		Headers     fields   `json:"response_headers"`
		Trailers    fields   `json:"response_trailers"`
		Protocol    string   `json:"protocol"`
		Peer        string   `json:"peer"`
		Received    int64    `json:"bytes_received"`
		Sent        int64    `json:"bytes_sent"`
		Code        *int     `json:"response_code"`
		Flags       []string `json:"flags"`
		ContentType *string  `json:"content-type"`
	}
	var config struct {
		Cluster  *string `json:"cluster"`
		Observed string  `json:"cluster_observability_name"`
		Host     *string `json:"upstream_host"`
		Node     *struct {
			ID   string `json:"node_id"`
			Zone string `json:"zone"`
		} `json:"node"`
	}
	var out struct {
		Tags   map[string]string `json:"tags"`
		Absent []string          `json:"absent"`
		GRPC   *bool             `json:"grpc_tags"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	flags, err := codesOf(in.Flags)
	if err != nil {
		return err
	}
	if in.ContentType != nil {
		in.Request = fields{":path": {"/pkg.Service/Method"}, ":scheme": {"http"}, "content-type": {*in.ContentType}}
	}
	arrived := incoming(in.Request)
	arrived.Protocol = in.Protocol
	if in.Peer != "" {
		if arrived.Peer, err = netip.ParseAddr(in.Peer); err != nil {
			return err
		}
	}
	if config.Cluster != nil {
		arrived.Route.Upstream = middleware.Upstream{Cluster: *config.Cluster, ClusterName: config.Observed}
	}
	o := middleware.Outcome{RequestBytes: in.Received, ResponseBytes: in.Sent, Flags: flags}
	if in.Code != nil {
		o.HTTPStatus = *in.Code
	}
	for _, from := range []fields{in.Response, in.Headers, in.Trailers} {
		if s, ok := from.first("grpc-status"); ok {
			o.GRPCStatus = s
		}
		if s, ok := from.first("grpc-message"); ok {
			o.GRPCMessage = s
		}
	}
	spans, err := tracedBy(nil, func(t *middleware.Tracing) {
		_, call := t.StartServer(context.Background(), arrived)
		call.End(o)
	})
	if err != nil {
		return err
	}
	var m mismatches
	compareTags(&m, spans[0], out.Tags, out.Absent)
	if out.GRPC != nil {
		_, ok := tag(spans[0], "grpc.path")
		equal(&m, "gRPC tags", ok, *out.GRPC)
	}
	return m.err()
}

// checkUpstreamTags takes what the vector leaves to the test it comes from, the host and
// the protocol, out of the answer.
func checkUpstreamTags(v parity.Vector) error {
	var in struct {
		Attempt   int      `json:"attempt"`
		Code      *int     `json:"response_code"`
		Reset     string   `json:"reset"`
		Flags     []string `json:"flags"`
		Cancelled bool     `json:"cancelled"`
		Headers   fields   `json:"response_headers"`
		Trailers  fields   `json:"response_trailers"`
	}
	var config struct {
		Cluster  string `json:"cluster"`
		Observed string `json:"cluster_observability_name"`
		Name     string `json:"span_name"`
	}
	var out struct {
		Tags   map[string]string `json:"tags"`
		Absent []string          `json:"absent"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	flags, err := codesOf(in.Flags)
	reset, resetErr := errorOf(in.Reset)
	if err := errors.Join(err, resetErr); err != nil {
		return err
	}
	o := middleware.Outcome{Flags: flags, Err: reset, Protocol: out.Tags["http.protocol"]}
	if in.Cancelled {
		o.Err = context.Canceled
	}
	if in.Code != nil {
		o.HTTPStatus = *in.Code
	}
	for _, from := range []fields{in.Headers, in.Trailers} {
		if s, ok := from.first("grpc-status"); ok {
			o.GRPCStatus = s
		}
		if s, ok := from.first("grpc-message"); ok {
			o.GRPCMessage = s
		}
	}
	spans, err := tracedBy(nil, func(t *middleware.Tracing) {
		_, call := t.StartClient(context.Background(), middleware.Outgoing{Upstream: middleware.Upstream{
			Cluster: config.Cluster, ClusterName: config.Observed, Address: out.Tags["upstream_address"], Attempt: in.Attempt,
		}})
		call.End(o)
	})
	if err != nil {
		return err
	}
	var m mismatches
	if config.Name != "" {
		equal(&m, "span", spans[0].Name(), config.Name)
	}
	compareTags(&m, spans[0], out.Tags, out.Absent)
	return m.err()
}

func checkResetText(v parity.Vector) error {
	var in struct {
		Reset string `json:"reset"`
	}
	var config struct{}
	var out struct {
		Reason *string `json:"error.reason"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	reset, err := errorOf(in.Reset)
	if err != nil {
		return err
	}
	spans, err := tracedBy(nil, func(t *middleware.Tracing) {
		_, call := t.StartClient(context.Background(), middleware.Outgoing{})
		call.End(middleware.Outcome{Err: reset})
	})
	if err != nil {
		return err
	}
	var m mismatches
	if out.Reason == nil {
		compareTags(&m, spans[0], nil, []string{"error.reason"})
	} else {
		compareTags(&m, spans[0], map[string]string{"error.reason": *out.Reason}, nil)
	}
	return m.err()
}

func checkCustomTag(v parity.Vector) error {
	var in struct {
		Headers  fields            `json:"headers"`
		Env      map[string]string `json:"env"`
		Metadata span.Metadata     `json:"metadata"`
	}
	var config struct {
		Tag         string  `json:"tag"`
		Literal     *string `json:"literal"`
		Value       *string `json:"value"`
		Environment *struct {
			Name    string `json:"name"`
			Default string `json:"default_value"`
		} `json:"environment"`
		RequestHeader *struct {
			Name    string `json:"name"`
			Default string `json:"default_value"`
		} `json:"request_header"`
		Metadata *struct {
			Kind    string   `json:"kind"`
			Key     string   `json:"key"`
			Path    []string `json:"path"`
			Default string   `json:"default_value"`
		} `json:"metadata"`
	}
	var out struct {
		Value *string `json:"value"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	for name, value := range in.Env {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
		defer os.Unsetenv(name)
	}
	var t span.Tag
	switch {
	case config.Literal != nil:
		t = span.Literal(config.Tag, *config.Literal)
	case config.Value != nil:
		tpl, err := span.ParseTemplate(*config.Value)
		if err != nil {
			return err
		}
		t = span.Formatted(config.Tag, tpl)
	case config.Environment != nil:
		t = span.Environment(config.Tag, config.Environment.Name, config.Environment.Default)
	case config.RequestHeader != nil:
		t = span.RequestHeader(config.Tag, config.RequestHeader.Name, config.RequestHeader.Default)
	case config.Metadata != nil:
		kind, ok := map[string]span.MetadataKind{"request": span.RequestMetadata, "route": span.RouteMetadata, "cluster": span.ClusterMetadata, "host": span.HostMetadata}[config.Metadata.Kind]
		if !ok {
			return fmt.Errorf("kind %q is none that this topic knows", config.Metadata.Kind)
		}
		t = span.MetadataTag(config.Tag, kind, config.Metadata.Key, config.Metadata.Path, config.Metadata.Default)
	default:
		return errors.New("a tag of no kind that this topic knows")
	}
	arrived := incoming(in.Headers)
	arrived.Route.Metadata = in.Metadata
	arrived.Route.Upstream = middleware.Upstream{Cluster: "c", ClusterMetadata: in.Metadata, HostMetadata: in.Metadata}
	spans, err := tracedBy(func(cfg *middleware.Config) { cfg.Tags = []span.Tag{t} }, func(tracing *middleware.Tracing) {
		ctx, call := tracing.StartServer(context.Background(), arrived)
		for key, value := range in.Metadata {
			middleware.SetMetadata(ctx, key, value)
		}
		call.End(middleware.Outcome{HTTPStatus: http.StatusOK})
	})
	if err != nil {
		return err
	}
	var m mismatches
	if out.Value == nil {
		compareTags(&m, spans[0], nil, []string{config.Tag})
	} else {
		compareTags(&m, spans[0], map[string]string{config.Tag: *out.Value}, nil)
	}
	return m.err()
}

func checkResponseFlags(v parity.Vector) error {
	var in struct {
		Flags []string `json:"flags"`
	}
	var config struct{}
	var out struct {
		Flags *string  `json:"response_flags"`
		Codes []string `json:"codes"` // all there are
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	flags, err := codesOf(append(in.Flags, out.Codes...))
	if err != nil {
		return err
	}
	want := strings.Join(out.Codes, ",")
	if out.Flags != nil {
		want = *out.Flags
	}
	spans, err := tracedBy(nil, func(t *middleware.Tracing) {
		ctx, call := t.StartServer(context.Background(), middleware.Incoming{})
		middleware.AddResponseFlags(ctx, flags...)
		call.End(middleware.Outcome{HTTPStatus: http.StatusOK})
	})
	if err != nil {
		return err
	}
	var m mismatches
	compareTags(&m, spans[0], map[string]string{"response_flags": want}, nil)
	return m.err()
}

// statusName is a status as the vectors write it.
func statusName(s sdktrace.ReadOnlySpan) string {
	if s.Status().Description != "" {
		return s.Status().Code.String() + ": " + s.Status().Description
	}
	return map[codes.Code]string{codes.Unset: "Unset", codes.Error: "Error", codes.Ok: "Ok"}[s.Status().Code]
}

// checkGRPCStatus takes an answer with that status in its trailers through the gateway.
func checkGRPCStatus(v parity.Vector) error {
	var in struct {
		Status *string `json:"grpc-status"`
	}
	var config struct{}
	var out struct {
		Tag    *bool   `json:"error_tag_since_1_22"`
		Before *bool   `json:"error_tag_before_1_22"`
		Server *string `json:"otel_status_server"`
		Client *string `json:"otel_status_client"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	c := parity.Case{
		Config:  parity.Proxy{Tracer: "opentelemetry", SpawnUpstreamSpan: true},
		Request: parity.Request{GRPC: true, Path: "/pkg.Service/Method", Headers: []parity.Field{{"content-type", "application/grpc"}}},
	}
	if in.Status != nil {
		c.Upstream.Trailers = []parity.Field{{"grpc-status", *in.Status}}
	}
	var m mismatches
	for _, when := range []struct {
		name   string
		want   *bool
		status span.StatusMap
	}{
		{"error tag", out.Tag, span.Envoy},
		{"error tag before 1.22", out.Before, span.StatusMap{CodesOnly: true, Tag: span.Errors{GRPC: span.AllGRPCErrors}}},
	} {
		a, err := send(c, func(cfg *middleware.Config) { cfg.Status = when.status })
		if err != nil {
			return err
		}
		if len(a.spans) != 2 {
			return fmt.Errorf("%d spans, want 2", len(a.spans))
		}
		for i, s := range a.spans {
			value, ok := tag(s, "error")
			if when.want != nil {
				equal(&m, fmt.Sprintf("%s of span %d", when.name, i+1), ok && value == "true", *when.want)
			}
			if want := []*string{out.Server, out.Client}[i]; want != nil {
				equal(&m, fmt.Sprintf("status of span %d", i+1), statusName(s), *want)
			}
		}
	}
	return m.err()
}

// checkOTelStatus writes the tags as custom ones, which drive the status as the real ones
// do (T-18), behind those of a 200.
func checkOTelStatus(v parity.Vector) error {
	var in struct {
		Tags [][2]string `json:"tags_in_order"`
	}
	var config struct {
		Kind  string `json:"kind"`
		Envoy string `json:"envoy"`
	}
	var out struct {
		Status  string `json:"status"`
		Message string `json:"message"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	direction, ok := map[string]string{"SERVER": "ingress", "CLIENT": "egress"}[config.Kind]
	if !ok {
		return fmt.Errorf("kind %q is none that this topic knows", config.Kind)
	}
	status := span.Envoy
	for _, since := range []struct {
		minor  int
		before span.StatusMap
	}{{32, span.Envoy131}, {31, span.Envoy130}} {
		old, err := before(config.Envoy, since.minor)
		if err != nil {
			return err
		}
		if old {
			status = since.before
		}
	}
	c := parity.Case{Config: parity.Proxy{Tracer: "opentelemetry", Direction: direction, Route: parity.Route{DirectResponse: http.StatusOK}}}
	a, err := send(c, func(cfg *middleware.Config) {
		cfg.Status = status
		for _, t := range in.Tags {
			if t[1] == "" { // of which a literal makes no tag
				cfg.Tags = append(cfg.Tags, span.MetadataTag(t[0], span.RouteMetadata, "ns", []string{"empty"}, ""))
				continue
			}
			cfg.Tags = append(cfg.Tags, span.Literal(t[0], t[1]))
		}
		route := cfg.Route
		cfg.Route = func(r *http.Request) middleware.Route {
			m := route(r)
			m.Metadata = span.Metadata{"ns": map[string]any{"empty": ""}}
			return m
		}
	})
	if err != nil {
		return err
	}
	var m mismatches
	want := out.Status
	if out.Message != "" {
		want += ": " + out.Message
	}
	equal(&m, "status", statusName(a.spans[0]), want)
	for _, t := range in.Tags {
		compareTags(&m, a.spans[0], map[string]string{t[0]: t[1]}, nil)
	}
	return m.err()
}

func checkMethodTag(v parity.Vector) error {
	var in, out struct {
		Method string `json:"http.method"`
	}
	var config json.RawMessage
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	spans, err := tracedBy(nil, func(t *middleware.Tracing) {
		_, call := t.StartServer(context.Background(), middleware.Incoming{Method: in.Method, Scheme: "http", Carrier: otelprop.HeaderCarrier{}})
		call.End(middleware.Outcome{HTTPStatus: http.StatusOK})
	})
	if err != nil {
		return err
	}
	var m mismatches
	compareTags(&m, spans[0], map[string]string{"http.method": out.Method}, nil)
	return m.err()
}
