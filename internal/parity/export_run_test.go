package parity_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/internal/parity"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/sampler"
)

// countingSender counts the spans of each request, and answers none before all spans
// have ended: what is under way counts as kept.
type countingSender struct {
	ended   chan struct{}
	mu      sync.Mutex
	exports []int
}

func (s *countingSender) Send(ctx context.Context, _ []byte, spans int) (int, error) {
	select {
	case <-s.ended:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exports = append(s.exports, spans)
	return 0, nil
}

func (s *countingSender) Close() error { return nil }

// checkBatching ends so many spans, and has the exporter send what it kept.
func checkBatching(v parity.Vector) error {
	var in struct {
		Finished int   `json:"finished_spans"`
		Fires    int   `json:"timer_fires"`
		Sampled  *bool `json:"sampled"`
	}
	var config map[string]json.RawMessage
	var out struct {
		Exports  []int `json:"exports"`
		Sent     *int  `json:"spans_sent"`
		Flushed  *int  `json:"timer_flushed"`
		Dropped  *int  `json:"spans_dropped"`
		MinFlush *int  `json:"min_flush_spans"`
		Interval *int  `json:"flush_interval_ms"`
		MaxCache *int  `json:"max_cache_size"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	env := map[string]string{}
	sender := &countingSender{ended: make(chan struct{})}
	cfg := middleware.Envoy()
	cfg.Export = exporter.Config{Sender: sender, Delay: time.Minute}
	for name, value := range config {
		switch name {
		case "min_flush_spans", "runtime_keys":
		case "max_cache_size":
			env["OTEL_BSP_MAX_QUEUE_SIZE"] = string(value)
		case "exporter":
			if string(value) != "null" {
				return fmt.Errorf("exporter %s is none that this topic knows", value)
			}
			cfg.Export.Sender, env["OTEL_TRACES_EXPORTER"] = nil, "none"
		default:
			return fmt.Errorf("config %q is none that this topic knows", name)
		}
	}
	if !isOn(in.Sampled) {
		cfg.Sampling.Random = sampler.Percent(0)
	}
	cfg.Getenv = func(name string) string { return env[name] }
	cfg.Logger = slog.New(slog.DiscardHandler)
	tracing, err := middleware.Setup(context.Background(), cfg)
	if err != nil {
		return err
	}
	defer tracing.Shutdown(context.Background())
	for range in.Finished {
		_, call := tracing.StartServer(context.Background(), middleware.Incoming{Method: http.MethodGet})
		call.End(middleware.Outcome{HTTPStatus: http.StatusOK})
	}
	close(sender.ended)
	if err := tracing.ForceFlush(context.Background()); err != nil {
		return err
	}
	stats := tracing.Stats()
	dropped := 0
	for _, n := range stats.Dropped {
		dropped += int(n)
	}
	var m mismatches
	if out.Exports != nil && !slices.Equal(sender.exports, out.Exports) {
		m.addf("exports = %v, want %v", sender.exports, out.Exports)
	}
	for _, c := range []struct {
		what string
		got  int
		want *int
	}{
		{"spans_sent", int(stats.Delivered), out.Sent}, {"spans_dropped", dropped, out.Dropped}, {"timer_flushed", 0, out.Flushed},
		{"min_flush_spans", 0, out.MinFlush}, {"flush_interval_ms", 0, out.Interval}, {"max_cache_size", 0, out.MaxCache},
	} {
		if c.want != nil {
			equal(&m, c.what, c.got, *c.want)
		}
	}
	return m.err()
}

// resourceOf sets what the tracer of a case says of the service. Where it says nothing
// nobody asks: the recording's own name was oracle.
func resourceOf(p parity.Proxy, cfg *middleware.Config) {
	if p.Tracer == "zipkin" { // B-16
		cfg.Service = cfg.Proxy.Cluster
	}
	o := p.OTel
	if o == nil {
		o = &parity.OTelTracer{ServiceName: "oracle"}
	}
	if p.Tracer == "opentelemetry" {
		cfg.Service = o.ServiceName
	}
	if name := o.StaticResource["service.name"]; name != "" {
		cfg.Service = name // a later word than the tracer's
	}
	var static []attribute.KeyValue
	for name, value := range o.StaticResource {
		if value != "" {
			static = append(static, attribute.String(name, value))
		}
	}
	cfg.Resource = resource.NewSchemaless(static...)
	if o.EnvironmentDetector {
		getenv := cfg.Getenv
		cfg.Getenv = func(name string) string {
			if name == "OTEL_RESOURCE_ATTRIBUTES" {
				return p.Node.OTelResourceAttributes
			}
			return getenv(name)
		}
	}
}

// compareResource compares the attributes of a resource but for those that tell which
// SDK it is.
func compareResource(m *mismatches, what string, got *resource.Resource, want map[string]string) {
	have := make(map[string]string)
	for _, kv := range got.Attributes() {
		have[string(kv.Key)] = kv.Value.String()
	}
	for name, value := range have {
		if _, ok := want[name]; !ok && !strings.HasPrefix(name, "telemetry.") {
			m.addf("%sresource %q = %q, want none", what, name, value)
		}
	}
	for name, value := range want {
		if strings.HasPrefix(name, "telemetry.") {
			continue
		}
		if got, ok := have[name]; !ok || got != value {
			m.addf("%sresource %q = %q (there: %v), want %q", what, name, got, ok, value)
		}
	}
}

func checkResource(v parity.Vector) error {
	var in struct {
		Environment string            `json:"OTEL_RESOURCE_ATTRIBUTES"`
		Schemas     []string          `json:"schemas"`
		Static      map[string]string `json:"static"`
		Attributes  map[string]string `json:"attributes"`
	}
	var config struct {
		Service  *string `json:"service_name"`
		Detector string  `json:"detector"`
	}
	var out struct {
		Service    *string           `json:"service.name"`
		Attributes map[string]string `json:"attributes"`
		Schema     *string           `json:"schema_url"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	o := parity.OTelTracer{EnvironmentDetector: config.Detector == "environment", StaticResource: in.Static}
	if in.Static == nil {
		o.StaticResource = in.Attributes
	}
	if config.Service != nil {
		o.ServiceName = *config.Service
	}
	spans, err := tracedBy(func(cfg *middleware.Config) {
		resourceOf(parity.Proxy{Tracer: "opentelemetry", OTel: &o, Node: parity.Node{OTelResourceAttributes: in.Environment}}, cfg)
		for _, url := range in.Schemas {
			cfg.Resource = resource.NewWithAttributes(url)
		}
	}, func(t *middleware.Tracing) {
		_, call := t.StartServer(context.Background(), middleware.Incoming{Method: http.MethodGet})
		call.End(middleware.Outcome{HTTPStatus: http.StatusOK})
	})
	if err != nil {
		return err
	}
	var m mismatches
	res := spans[0].Resource()
	if out.Attributes != nil {
		name, _ := res.Set().Value("service.name")
		want := map[string]string{"service.name": name.AsString()} // not of the question
		for k, v := range out.Attributes {
			want[k] = v
		}
		compareResource(&m, "", res, want)
	}
	if out.Service != nil {
		compareResource(&m, "", res, map[string]string{"service.name": *out.Service})
	}
	if out.Schema != nil {
		equal(&m, "schema_url", res.SchemaURL(), *out.Schema)
	}
	return m.err()
}

// checkPartialSuccess has a collector refuse so many spans in those words.
func checkPartialSuccess(v parity.Vector) error {
	var in struct {
		Message  string `json:"error_message"`
		Rejected int    `json:"rejected_spans"`
	}
	var config struct{}
	var out struct {
		Log *string `json:"log"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	var log lockedLog
	c := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.Write(partialAnswer(in.Rejected, in.Message))
	}))
	defer c.Close()
	e, err := exporter.New(exporter.Config{
		Endpoint: c.URL, Protocol: exporter.HTTPProtobuf, Delay: time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil)), Getenv: func(string) string { return "" },
	})
	if err != nil {
		return err
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(e))
	for range in.Rejected + 2 {
		_, s := provider.Tracer("parity").Start(context.Background(), "span")
		s.End()
	}
	var loss *exporter.LossError
	err = e.ForceFlush(context.Background())
	stats := e.Stats()
	e.Shutdown(context.Background())
	if err != nil && !errors.As(err, &loss) {
		return err
	}
	rejected := 0
	for _, n := range stats.Rejected {
		rejected += int(n)
	}
	var m mismatches
	equal(&m, "rejected", rejected, in.Rejected)
	told := strings.Contains(log.String(), in.Message) && strings.Contains(log.String(), strconv.Itoa(in.Rejected))
	equal(&m, "told", told && in.Message+strconv.Itoa(in.Rejected) != "0", out.Log != nil)
	if out.Log != nil && !strings.Contains(log.String(), *out.Log) {
		m.addf("log = %q, want %q", log.String(), *out.Log)
	}
	return m.err()
}

// partialAnswer is an ExportTraceServiceResponse with a partial_success.
func partialAnswer(rejected int, message string) []byte {
	var b []byte
	if rejected != 0 {
		b = binary.AppendUvarint(append(b, 1<<3), uint64(rejected)) // int64  rejected_spans = 1;
	}
	if message != "" {
		b = append(binary.AppendUvarint(append(b, 2<<3|2), uint64(len(message))), message...) // string error_message = 2;
	}
	return append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(b))), b...)
}

type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// captured is how spans arrive at a collector.
func captured() (url string, requests chan map[string]string, stop func()) {
	requests = make(chan map[string]string, 16)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- map[string]string{
			"method": r.Method, "content-type": r.Header.Get("Content-Type"),
			"content-encoding": r.Header.Get("Content-Encoding"), "user-agent": r.UserAgent(),
		}
	}))
	return srv.URL, requests, srv.Close
}

// exportTo has the spans leave for a collector, as Envoy's did for the recording's.
func exportTo(collector string, cfg *middleware.Config) {
	getenv := cfg.Getenv
	cfg.Getenv = func(name string) string {
		if name == "OTEL_TRACES_EXPORTER" {
			return "otlp"
		}
		return getenv(name)
	}
	cfg.Export = exporter.Config{Endpoint: collector, Protocol: exporter.HTTPProtobuf, Logger: slog.New(slog.DiscardHandler)}
}
