package middleware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/internal/callspan"
	"github.com/meshtrace/meshtrace/internal/envsampler"
	"github.com/meshtrace/meshtrace/internal/otelenv"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/internal/tally"
	"github.com/meshtrace/meshtrace/internal/tracestore"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

// scopeName is the instrumentation scope of the spans made here.
const scopeName = "github.com/meshtrace/meshtrace/middleware"

// version is meshtrace's own, as telemetry.distro.version and scope version.
const version = "0.1.0"

// shutdownTimeout bounds Shutdown where its context has no deadline, so that a
// deferred Shutdown does not hang on a dead collector.
const shutdownTimeout = 5 * time.Second

// ownTraces bounds the memory in bytes of a program's own recent spans, kept for
// DebugHandler once that was called.
const ownTraces = 8 << 20

// Tracing is what Setup built: middleware, transports and the way out of the
// program for their spans. It is safe for concurrent use.
type Tracing struct {
	service     string
	provider    trace.TracerProvider
	owned       ownProvider      // provider, when it is Setup's; nil: the caller's
	spans       *callspan.Source // nil: the provider's own
	tracer      trace.Tracer
	propagator  *propagation.Propagator
	sampler     *sampler.Sampler
	policy      requestid.Policy
	status      span.StatusMap
	health      healthChecks
	role        Role
	direction   Direction
	verbose     bool
	pathTag     int
	callerNames bool // x-envoy-decorator-operation names a service's spans
	tags        []span.Tag
	spawn       bool // a gateway's calls have spans
	proxy       Proxy
	edge        *Edge
	names       *names
	zipkin      *Zipkin // nil: ids are W3C's
	strict      bool    // headers are read as Envoy reads them
	route       func(*http.Request) Route
	sendTo      func(*http.Request) bool
	headerRules bool // some sampling rule asks for a header
	asksBase    bool // sampling has a Base, which wants a trace id
	askChildren bool // of a gateway's requests (W-16)
	ours        bool // our sampler is in the provider
	sdk         bool // the provider is the SDK's, which copies attributes
	disabled    bool
	logger      *slog.Logger

	operation, upstreamOperation, defaultOperation span.Template

	filter, clientFilter            func(*http.Request) bool
	spanName                        func(CallInfo, string) string
	attributes                      func(CallInfo, []attribute.KeyValue) []attribute.KeyValue
	requestHeaders, responseHeaders []captured
	secrets                         *secrets
	methods                         map[string]bool // nil: those of the conventions
	clientTrace                     ClientTrace
	firstByte, traceResponse        bool
	meters                          *meters // nil: nothing is measured

	exporter  *exporter.Exporter   // Setup's own; nil without OTLP
	exporters []*exporter.Exporter // and those among Config.Processors
	settings  []exporter.Setting
	notes     []string
	own       *tracestore.Recorder
	running   tracestore.Running // active once a debug page was made

	unwatch     func() // ends what flushOnSignal started; nil: it did not
	unwatchOnce sync.Once

	stranger atomic.Bool // one came though there is no edge
	bodies   bodies      // of Transport's responses

	ids       *tally.Tally  // requests by requestid.Change
	_         [64]byte      // what many requests write stands apart from what each one reads
	refused   atomic.Uint64 // requests with a trace header or baggage that was refused
	disagreed atomic.Uint64 // requests whose trace headers name two traces
	_         [64]byte

	contained [callbacks]contained
}

// Setup builds the tracing of a program from cfg and the environment. It does not
// wait for the collector. Every mistake in cfg is in the error; a variable that
// cannot be understood is logged and counts as unset. ctx is not used after Setup
// returns.
func Setup(ctx context.Context, cfg Config) (*Tracing, error) {
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	if cfg.Export.MeterProvider == nil {
		cfg.Export.MeterProvider = cfg.MeterProvider
	}
	if cfg.Export.Getenv == nil {
		cfg.Export.Getenv = cfg.Getenv
	}
	env := otelenv.New(cfg.Getenv)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Export.Logger == nil {
		cfg.Export.Logger = cfg.Logger
	}
	if cfg.Export.MeterProvider == nil {
		cfg.Export.MeterProvider = cfg.MeterProvider
	}
	cfg.Logger, cfg.Export.Logger = logLevel(env, cfg.Logger, cfg.Export.Logger)
	useErr := cfg.oneUse()
	t := &Tracing{
		policy: cfg.RequestID,
		status: cfg.Status,
		health: newHealthChecks(cfg.HealthChecks),
		role:   cfg.Role,

		direction:   cfg.Direction,
		callerNames: cfg.DecoratorHeader && cfg.Role == Service,

		verbose:           cfg.Verbose,
		pathTag:           cfg.PathTag,
		tags:              slices.Clone(cfg.Tags),
		operation:         cfg.Operation,
		upstreamOperation: cfg.UpstreamOperation,
		defaultOperation:  cfg.DefaultName,

		spawn:  cfg.SpawnUpstreamSpan || cfg.Role == Service,
		route:  cfg.Route,
		sendTo: cfg.SendTo,
		logger: cfg.Logger,

		ids: tally.New(int(requestid.Cleared) + 1),
	}
	switch {
	case t.pathTag == 0:
		t.pathTag = defaultPathTag
	case t.pathTag < 0:
		t.pathTag = 0
	}
	if cfg.Role == Gateway && cfg.Status == (span.StatusMap{}) {
		t.status = span.Envoy
	}
	if cfg.Edge != nil {
		edge := *cfg.Edge
		edge.Internal, edge.Proxies, edge.Baggage = slices.Clone(edge.Internal), slices.Clone(edge.Proxies), slices.Clone(edge.Baggage)
		t.edge = &edge
		cfg.Sampling.ForcedPerSecond = edge.ForcedPerSecond
	}
	if cfg.Zipkin != nil {
		zipkin := *cfg.Zipkin
		t.zipkin = &zipkin
		t.setting("Zipkin", zipkin.String(), "Config")
	}
	t.strict = cfg.Propagation.Strict
	t.names = namesOf(cfg.Proxy.HeaderPrefix)
	t.proxy = cfg.Proxy
	t.proxy.InternalOnly = make([]string, len(cfg.Proxy.InternalOnly))
	for i, h := range cfg.Proxy.InternalOnly {
		t.proxy.InternalOnly[i] = http.CanonicalHeaderKey(h)
	}
	errs := []error{ctx.Err(), useErr, cfg.check()}
	t.hooks(env, &cfg)
	if cfg.MeterProvider != nil {
		var err error
		t.meters, err = t.newMeters(cfg.MeterProvider, cfg.Metrics)
		errs = append(errs, err)
	}
	t.disabled, _ = env.Bool("OTEL_SDK_DISABLED")

	propCfg := t.propagators(env, cfg.Propagation)
	var err error
	t.propagator, err = propagation.New(propCfg)
	errs = append(errs, err)
	sampling := t.samplingConfig(env, cfg.Sampling)
	if sampling.Base != nil {
		sampling.Base = guardedBase{sampling.Base, t}
	}
	t.sampler, err = sampler.New(sampling)
	t.asksBase = sampling.Base != nil
	t.askChildren = t.role == Gateway && t.asksBase && sampling.AskAlways
	errs = append(errs, err)
	for _, r := range cfg.Sampling.Rules {
		t.headerRules = t.headerRules || r.Header != ""
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err // before anything is started
	}
	res := t.resource(ctx, env, &cfg)
	var processors []sdktrace.SpanProcessor
	switch {
	case t.disabled:
		t.setting("SDK", "disabled", "OTEL_SDK_DISABLED")
		processors = t.given(&cfg) // they get no span, and are shut down all the same
	case cfg.TracerProvider != nil:
		t.setting("TracerProvider", "the caller's", "Config")
	default:
		processors, err = t.processors(env, &cfg)
		if err != nil {
			return nil, err
		}
	}
	t.build(env, &cfg, res, processors)
	for _, p := range env.Problems() {
		t.note(p.Error())
	}
	t.selfCheck()
	if cfg.SetGlobals {
		otel.SetTracerProvider(t.provider)
		otel.SetTextMapPropagator(t.propagator)
	}
	if cfg.FlushOnSignal && t.owned != nil {
		t.flushOnSignal()
	}
	return t, nil
}

// build makes the provider, or takes the caller's.
func (t *Tracing) build(env *otelenv.Reader, cfg *Config, res *resource.Resource, processors []sdktrace.SpanProcessor) {
	switch {
	case cfg.TracerProvider != nil:
		t.provider = cfg.TracerProvider
		t.sdk = sdkMade(cfg.TracerProvider)
	default:
		limits := spanLimits(env)
		opts := []sdktrace.TracerProviderOption{
			sdktrace.WithSampler(t.sampler),
			sdktrace.WithResource(res),
			sdktrace.WithIDGenerator(idGenerator{t.zipkin}),
			sdktrace.WithRawSpanLimits(limits),
		}
		if t.disabled {
			opts[0] = sdktrace.WithSampler(sdktrace.NeverSample())
		} else {
			if len(cfg.BaggageAttributes) > 0 {
				processors = append([]sdktrace.SpanProcessor{baggageCopier{slices.Clone(cfg.BaggageAttributes)}}, processors...)
			}
			t.own = tracestore.NewRecorder(ownTraces)
			processors = append(processors, t.own, &t.running)
		}
		for _, p := range processors {
			opts = append(opts, sdktrace.WithSpanProcessor(p))
		}
		made := sdktrace.NewTracerProvider(opts...)
		t.owned, t.provider, t.ours, t.sdk = made, made, true, true
		if !t.disabled && !sdkObserved() {
			p := &provider{TracerProvider: made, exporters: t.exporters}
			p.calls = callspan.NewSource(callspan.Config{
				Provider:   p,
				Resource:   res,
				Scope:      instrumentation.Scope{Name: scopeName, Version: version},
				Sampler:    t.sampler,
				IDs:        idGenerator{t.zipkin},
				Limits:     limits,
				Processors: processors,
			})
			t.owned, t.provider, t.spans = p, p, p.calls
		}
	}
	t.tracer = t.provider.Tracer(scopeName, trace.WithInstrumentationVersion(version))
}

// processors makes the exporters that the environment and cfg ask for. On an error
// none is left running.
func (t *Tracing) processors(env *otelenv.Reader, cfg *Config) ([]sdktrace.SpanProcessor, error) {
	var list []sdktrace.SpanProcessor
	names, source := exporterNames(env)
	if cfg.Export.Sender != nil {
		names, source = []string{"otlp"}, "Config" // a Sender is never displaced
	}
	t.setting("Exporters", strings.Join(names, ","), source)
	for _, n := range names {
		switch n {
		case "otlp":
			e, err := exporter.New(cfg.Export)
			if err != nil {
				return nil, errors.Join(err, t.stop())
			}
			t.exporter = e
			t.exporters = append(t.exporters, e)
			list = append(list, e)
		case "otlp/stdout":
			lines := cfg.Export
			lines.Sender = exporter.JSONLines(os.Stdout)
			e, err := exporter.New(lines)
			if err != nil {
				return nil, errors.Join(err, t.stop())
			}
			if t.exporter == nil {
				t.exporter = e
			}
			t.exporters = append(t.exporters, e)
			list = append(list, e)
		case "console":
			list = append(list, exporter.Console(os.Stdout))
		}
	}
	return append(list, t.given(cfg)...), nil
}

// given returns the processors that cfg has, and notes the exporters among them.
func (t *Tracing) given(cfg *Config) (list []sdktrace.SpanProcessor) {
	for _, p := range cfg.Processors {
		if e, ok := p.(*exporter.Exporter); ok { // contains panics itself
			t.exporters = append(t.exporters, e)
		} else {
			p = guardedProcessor{p, t}
		}
		list = append(list, p)
	}
	return list
}

// stop shuts down exporters of a Setup that fails.
func (t *Tracing) stop() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, e := range t.exporters {
		errs = append(errs, e.Shutdown(ctx))
	}
	return errors.Join(errs...)
}

// exporterNames reads OTEL_TRACES_EXPORTER, a comma list of otlp, otlp/stdout, console
// and none.
func exporterNames(env *otelenv.Reader) (names []string, source string) {
	const variable, allowed = "OTEL_TRACES_EXPORTER", "otlp, otlp/stdout, console, none, or a comma list of them"
	v, ok := env.String(variable)
	if !ok {
		return []string{"otlp"}, "default"
	}
	seen := map[string]bool{}
	for n := range strings.SplitSeq(v, ",") {
		switch n = strings.ToLower(strings.TrimSpace(n)); n {
		case "otlp", "otlp/stdout", "console", "none":
			if !seen[n] {
				seen[n] = true
				names = append(names, n)
			}
		case "":
		default:
			env.Reject(variable, v, allowed)
			return []string{"otlp"}, "default"
		}
	}
	if len(names) == 0 || (seen["none"] && len(names) > 1) {
		env.Reject(variable, v, allowed+"; none stands alone")
		return []string{"otlp"}, "default"
	}
	return names, variable
}

// propagators applies OTEL_PROPAGATORS to the code's configuration.
func (t *Tracing) propagators(env *otelenv.Reader, cfg propagation.Config) propagation.Config {
	const variable = "OTEL_PROPAGATORS"
	source := "default"
	if cfg.Extract != nil || cfg.Inject != nil {
		source = "Config"
	}
	if v, ok := env.String(variable); ok {
		formats, err := propagation.ParseFormats(v)
		if err != nil {
			env.Reject(variable, v, "none, or a comma list of tracecontext, baggage, b3, b3multi, jaeger, ottrace, xotspancontext, requestid")
		}
		if formats != nil {
			cfg.Extract, cfg.Inject, source = formats, formats, variable
		}
	}
	t.setting("Propagation.Extract", formatNames(cfg.Extract), source)
	t.setting("Propagation.Inject", formatNames(cfg.Inject), source)
	return cfg
}

func formatNames(list []propagation.Format) string {
	switch {
	case list == nil:
		return "(default)"
	case len(list) == 0:
		return "none"
	}
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = f.String()
	}
	return strings.Join(names, ",")
}

// unreadableLimit is how many new traces a second are kept when neither the
// environment nor the program says in a readable way what to sample: not all, not none.
const unreadableLimit = 10

// samplingConfig applies OTEL_TRACES_SAMPLER and the health checks to the code's
// configuration.
func (t *Tracing) samplingConfig(env *otelenv.Reader, cfg sampler.Config) sampler.Config {
	const variable = "OTEL_TRACES_SAMPLER"
	budget := cfg.ForcedPerSecond // the edge's, not a statement about sampling
	cfg.ForcedPerSecond = 0
	stated := !reflect.ValueOf(cfg).IsZero()
	cfg.ForcedPerSecond = budget
	value, source := "follow the caller, else trace", "default"
	if stated {
		value, source = "by program", "Config"
	}
	before := len(env.Problems())
	if base, ok := envsampler.FromEnv(env); ok {
		// The code's random share answers the same question, and its no would be a veto.
		cfg.Base, cfg.Random = base, sampler.Fraction{}
		// W-16 is for a sampler that the program chose together with its shares. Whoever
		// sets the variable does not think of spans without their parents.
		cfg.AskAlways = false
		value, source = base.Description(), variable
	} else if len(env.Problems()) > before && !stated {
		cfg.PerSecond = unreadableLimit
		value, source = fmt.Sprintf("at most %d new traces a second", unreadableLimit), variable+" is unreadable"
	}
	t.setting("Sampling", value, source)
	return cfg
}

// setting records a configured value for those who ask what is in force.
func (t *Tracing) setting(name, value, source string) {
	t.settings = append(t.settings, exporter.Setting{Name: name, Value: value, Source: source})
}

// resource describes the program. It has no schema URL, so that it merges with any.
func (t *Tracing) resource(ctx context.Context, env *otelenv.Reader, cfg *Config) *resource.Resource {
	const nameVar, attrVar = "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"
	own := []attribute.KeyValue{
		semconv.TelemetrySDKLanguage.String("go"),
		semconv.TelemetrySDKName.String("opentelemetry"),
		semconv.TelemetrySDKVersion.String(sdk.Version()),
		semconv.TelemetryDistroName.String("meshtrace"),
		semconv.TelemetryDistroVersion.String(version),
	}
	var kvs []attribute.KeyValue
	t.service = "unknown_service:" + filepath.Base(os.Args[0])
	source := "default"
	if cfg.TracerProvider == nil && !t.disabled { // else nobody sees the resource
		for _, kv := range t.detect(ctx, cfg.Detectors) {
			if kv.Key == semconv.ServiceName && kv.Value.AsString() != "" {
				t.service, source = kv.Value.AsString(), "Config.Detectors"
			}
			kvs = append(kvs, kv)
		}
	}
	kvs = append(kvs, own...)
	if cfg.Resource != nil {
		kvs = append(kvs, cfg.Resource.Attributes()...)
		if v, ok := cfg.Resource.Set().Value(semconv.ServiceName); ok {
			t.service, source = v.AsString(), "Config"
		}
	}
	if cfg.Version != "" {
		kvs = append(kvs, semconv.ServiceVersion.String(cfg.Version))
	}
	if cfg.Service != "" {
		t.service, source = cfg.Service, "Config"
	}
	if v, ok := env.String(attrVar); ok {
		if list, err := parseResourceAttributes(v); err != nil {
			env.Reject(attrVar, v, err.Error())
		} else {
			kvs = append(kvs, list...)
			for _, kv := range list {
				if kv.Key == semconv.ServiceName && kv.Value.AsString() != "" {
					t.service, source = kv.Value.AsString(), attrVar
				}
			}
		}
	}
	if v, ok := env.String(nameVar); ok {
		if len(v) > maxName || !utf8.ValidString(v) {
			env.Reject(nameVar, v, fmt.Sprintf("UTF-8 of at most %d bytes", maxName))
		} else {
			t.service, source = v, nameVar
		}
	}
	t.setting("Service", t.service, source)
	// The last value of a name counts.
	return resource.NewSchemaless(append(kvs, semconv.ServiceName.String(t.service))...)
}

// maxResourceAttributes bounds what OTEL_RESOURCE_ATTRIBUTES may hold.
const maxResourceAttributes = 128

// parseResourceAttributes reads the baggage-like form "k=v,k2=v2" with
// percent-encoded values. As the resource specification has it, one mistake
// discards the whole variable.
func parseResourceAttributes(v string) ([]attribute.KeyValue, error) {
	const allowed = "key=value pairs with commas between, values percent-encoded, at most 128"
	var kvs []attribute.KeyValue
	for pair := range strings.SplitSeq(v, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" || len(kvs) == maxResourceAttributes {
			return nil, errors.New(allowed)
		}
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return nil, errors.New(allowed)
		}
		kvs = append(kvs, attribute.String(key, value))
	}
	return kvs, nil
}

// spanLimits reads the limits of spans, with the specification's defaults.
func spanLimits(env *otelenv.Reader) sdktrace.SpanLimits {
	limit := func(def int, names ...string) int {
		for _, n := range names {
			if v, ok := env.Int(n, 0, 1<<31-1); ok {
				return int(v)
			}
		}
		return def
	}
	return sdktrace.SpanLimits{
		AttributeValueLengthLimit:   limit(-1, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
		AttributeCountLimit:         limit(128, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
		EventCountLimit:             limit(128, "OTEL_SPAN_EVENT_COUNT_LIMIT"),
		LinkCountLimit:              limit(128, "OTEL_SPAN_LINK_COUNT_LIMIT"),
		AttributePerEventCountLimit: limit(128, "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT"),
		AttributePerLinkCountLimit:  limit(128, "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT"),
	}
}

// TracerProvider returns the provider behind the spans, for instrumentation that
// takes one: Config.TracerProvider, or Setup's own, which makes the SDK's spans and has the
// methods of the SDK's *TracerProvider. A processor that its RegisterSpanProcessor adds
// hears of the spans of calls as well.
func (t *Tracing) TracerProvider() trace.TracerProvider { return t.provider }

// Propagator returns what reads and writes the headers.
func (t *Tracing) Propagator() *propagation.Propagator { return t.propagator }

// Sampler returns what decides about requests: its shares can be set while they are
// served, and it counts what it decided.
func (t *Tracing) Sampler() *sampler.Sampler { return t.sampler }

// HeaderCounts returns how many requests there were, in a new map, by what became of
// their headers: "request_id_kept", "request_id_made", "request_id_replaced" and
// "request_id_cleared" as requestid.Change has them; "context_refused" with trace headers
// or baggage that break their specification and counted as absent, in whole or in part;
// "context_disagreed" with trace headers that name two traces, of which the loser became
// a link. The numbers are each exact, but not of one instant.
func (t *Tracing) HeaderCounts() map[string]uint64 {
	m := map[string]uint64{"context_refused": t.refused.Load(), "context_disagreed": t.disagreed.Load()}
	for i := range requestid.Cleared + 1 {
		m["request_id_"+i.String()] = t.ids.Load(int(i))
	}
	return m
}

// Stats returns the accounts of Setup's own OTLP exporter; zero without one.
func (t *Tracing) Stats() exporter.Stats {
	if t.exporter == nil {
		return exporter.Stats{}
	}
	return t.exporter.Stats()
}

// ForceFlush sends what was ended so far and returns when it was answered, or with
// ctx's error. A caller's own provider is left alone.
func (t *Tracing) ForceFlush(ctx context.Context) error {
	if t.owned == nil {
		return nil
	}
	return t.owned.ForceFlush(ctx)
}

// Shutdown sends what is left and stops everything Setup started. It returns by
// ctx's deadline, or within 5 s where ctx has none. The error is, or wraps, an
// *exporter.LossError when spans were lost. Spans ended afterwards are counted as
// dropped. A caller's own provider is left alone. A second call does nothing.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if t.owned == nil {
		return nil
	}
	if t.unwatch != nil {
		t.unwatchOnce.Do(t.unwatch)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, shutdownTimeout)
		defer cancel()
	}
	// The exporters go first and the provider second: processors of a provider that
	// was shut down hear nothing of late spans, so they could not count them.
	errs := make([]error, len(t.exporters)+1)
	done := make(chan struct{})
	for i, e := range t.exporters {
		go func() {
			errs[i] = e.Shutdown(ctx)
			done <- struct{}{}
		}()
	}
	for range t.exporters {
		<-done
	}
	if err := t.owned.Shutdown(ctx); !errors.Is(err, exporter.ErrShutdown) {
		errs[len(errs)-1] = err
	}
	return errors.Join(errs...)
}

// selfCheck says in one line what is in force and where each value came from.
func (t *Tracing) selfCheck() {
	settings := slices.Clone(t.settings)
	for _, e := range t.exporters {
		settings = append(settings, e.Settings()...)
	}
	var attrs []slog.Attr
	for _, s := range settings {
		switch s.Name { // the rest is on the debug page
		case "Service", "SDK", "TracerProvider", "Exporters", "Endpoint", "Protocol", "Sender",
			"Propagation.Extract", "Propagation.Inject", "Sampling":
			attrs = append(attrs, slog.String(s.Name, semconv.Cut(s.Value, maxName)+" ("+s.Source+")"))
		}
	}
	t.log(slog.LevelInfo, "meshtrace: in force", attrs...)
}
