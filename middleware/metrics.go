package middleware

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/span"
)

// Metrics says what is measured beside the durations that a Config.MeterProvider gets
// in any case. The conventions have these in development.
type Metrics struct {
	// BodySizes are http.server.request.body.size, http.server.response.body.size and
	// the two of http.client, in bytes. Requests that are traced get
	// http.request.body.size as well.
	BodySizes bool
	// ActiveRequests is http.server.active_requests.
	ActiveRequests bool
}

// Bounds on the values that a Tracing gives to metrics, each for one attribute. What
// is above is _OTHER, so that neither a stranger nor a mistake fills the memory.
const (
	maxMeasuredRoutes  = 1000
	maxMeasuredMethods = 1000 // of RPCs
	maxMeasuredServers = 256
	maxMeasuredErrors  = 128
	// maxSeries bounds the sets of attributes that are kept ready.
	maxSeries = 4096
)

const other = "_OTHER"

// durationBuckets are the boundaries, in seconds, that the conventions ask for.
var durationBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// instrument is one of those that a call ends in.
type instrument uint8

const (
	noInstrument instrument = iota
	httpServer
	httpClient
	rpcServer
	rpcClient
	instruments
)

// meters are the instruments of a Tracing, and what bounds their attributes.
type meters struct {
	tracing                   *Tracing
	duration                  [instruments]metric.Float64Histogram
	requestSize, responseSize [instruments]metric.Int64Histogram // nil: not measured
	active                    metric.Int64UpDownCounter          // nil: not measured

	routes, methods, errors bounded[string]
	servers                 bounded[server]

	mu     sync.RWMutex
	series map[series][]metric.RecordOption
}

// server is where a client's call goes.
type server struct {
	address string
	port    int
}

// series is a set of attributes.
type series struct {
	instrument      instrument
	method, route   string
	scheme, version string
	status          int
	grpcStatus      string
	errorType       string
	server          server
}

// newMeters makes the instruments.
func (t *Tracing) newMeters(p metric.MeterProvider, cfg Metrics) (*meters, error) {
	m := &meters{
		tracing: t,
		routes:  bounded[string]{max: maxMeasuredRoutes},
		methods: bounded[string]{max: maxMeasuredMethods},
		errors:  bounded[string]{max: maxMeasuredErrors},
		servers: bounded[server]{max: maxMeasuredServers},
		series:  make(map[series][]metric.RecordOption),
	}
	meter := p.Meter(scopeName, metric.WithInstrumentationVersion(version))
	for i, d := range [instruments]struct{ name, description string }{
		httpServer: {semconv.HTTPServerRequestDuration, "Duration of HTTP server requests."},
		httpClient: {semconv.HTTPClientRequestDuration, "Duration of HTTP client requests."},
		rpcServer:  {semconv.RPCServerCallDuration, "Duration of RPCs that the server answered."},
		rpcClient:  {semconv.RPCClientCallDuration, "Duration of RPCs that the client made."},
	} {
		if d.name == "" {
			continue
		}
		h, err := meter.Float64Histogram(d.name, metric.WithUnit("s"), metric.WithDescription(d.description),
			metric.WithExplicitBucketBoundaries(durationBuckets...))
		if err != nil {
			return nil, err
		}
		m.duration[i] = h
	}
	if cfg.BodySizes {
		for _, d := range []struct {
			into              *metric.Int64Histogram
			name, description string
		}{
			{&m.requestSize[httpServer], semconv.HTTPServerRequestBodySize, "Size of HTTP server request bodies."},
			{&m.responseSize[httpServer], semconv.HTTPServerResponseBodySize, "Size of HTTP server response bodies."},
			{&m.requestSize[httpClient], semconv.HTTPClientRequestBodySize, "Size of HTTP client request bodies."},
			{&m.responseSize[httpClient], semconv.HTTPClientResponseBodySize, "Size of HTTP client response bodies."},
		} {
			h, err := meter.Int64Histogram(d.name, metric.WithUnit("By"), metric.WithDescription(d.description))
			if err != nil {
				return nil, err
			}
			*d.into = h
		}
	}
	if cfg.ActiveRequests {
		c, err := meter.Int64UpDownCounter(semconv.HTTPServerActiveRequests, metric.WithUnit("{request}"),
			metric.WithDescription("Number of HTTP server requests under way."))
		if err != nil {
			return nil, err
		}
		m.active = c
	}
	return m, nil
}

// measured is a call that metrics are kept of.
type measured struct {
	meters *meters
	ctx    context.Context // with the call's span, for exemplars
	series series
	begun  time.Time
	ended  time.Time // zero: when it is recorded
	active []metric.AddOption

	announced int64        // size of the request's body as its header states it
	sent      *countedBody // nil: announced holds
}

// countedBody counts what is read of a request's body.
type countedBody struct {
	io.ReadCloser
	bytes atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes.Add(int64(n))
	return n, err
}

// count returns body, counted where its length is not known beforehand.
func (m *measured) count(body io.ReadCloser, length int64) io.ReadCloser {
	if length >= 0 || body == nil || body == http.NoBody {
		m.announced = max(length, 0)
		return body
	}
	m.sent = &countedBody{ReadCloser: body}
	return m.sent
}

// requestBytes is the size of the request's body as far as it is known; 0 where it is
// not measured.
func (m *measured) requestBytes() int64 {
	switch {
	case m == nil:
		return 0
	case m.sent != nil:
		return m.sent.bytes.Load()
	}
	return m.announced
}

// beginHTTP begins to measure an HTTP call.
func (t *Tracing) beginHTTP(ctx context.Context, i instrument, method, scheme string, major, minor int) *measured {
	m := &measured{meters: t.meters, ctx: ctx, begun: time.Now()}
	m.series = series{instrument: i, scheme: scheme}
	m.series.method, _ = t.methodOf(method)
	if major > 0 {
		m.series.version = protocolVersion(major, minor)
	}
	if t.meters.active != nil && i == httpServer {
		m.active = t.meters.activeOptions(m.series.method, scheme)
		m.addActive(1)
	}
	return m
}

// beginAttributes begins to measure a call that says what it is by its attributes:
// rpc.system.name or http.request.method; nil is neither.
func (t *Tracing) beginAttributes(ctx context.Context, kind trace.SpanKind, kvs []attribute.KeyValue) *measured {
	var s series
	for _, kv := range kvs {
		switch kv.Key {
		case semconv.RPCSystemName:
			s.instrument = rpcServer
			if s.method == "" {
				s.method = other
			}
		case semconv.RPCMethod:
			s.method = kv.Value.AsString()
		case semconv.HTTPRequestMethod:
			s.instrument = httpServer
			s.method, _ = t.methodOf(kv.Value.AsString())
		case semconv.URLScheme:
			s.scheme = schemeName(kv.Value.AsString())
		case semconv.ServerAddress:
			s.server.address = kv.Value.AsString()
		case semconv.ServerPort:
			s.server.port = int(kv.Value.AsInt64())
		}
	}
	switch {
	case s.instrument == noInstrument:
		return nil
	case kind == trace.SpanKindClient:
		s.instrument++ // the client's stands beside the server's
	case kind != trace.SpanKindServer:
		return nil
	default:
		s.server = server{} // a stranger's word
	}
	return &measured{meters: t.meters, ctx: ctx, series: s, begun: time.Now()}
}

// addActive counts a request under way.
func (m *measured) addActive(n int64) {
	defer m.meters.tracing.contain(callMeters)
	m.meters.active.Add(m.ctx, n, m.active...)
}

// record records the outcome of a call.
func (m *measured) record(o *Outcome, route string, status span.Status) {
	defer m.meters.tracing.contain(callMeters)
	if m.active != nil {
		m.addActive(-1)
	}
	ended := m.ended
	if ended.IsZero() {
		ended = time.Now()
	}
	s := &m.series
	s.route, s.status, s.errorType = route, o.HTTPStatus, status.ErrorType
	if o.GRPCStatus != "" && (s.instrument == rpcServer || s.instrument == rpcClient) {
		s.grpcStatus = span.GRPCCode(min(grpcCode(o.GRPCStatus), unknownGRPC))
	}
	opts := m.meters.options(*s)
	m.meters.duration[s.instrument].Record(m.ctx, ended.Sub(m.begun).Seconds(), opts...)
	if h := m.meters.requestSize[s.instrument]; h != nil {
		h.Record(m.ctx, o.RequestBytes, opts...)
	}
	if h := m.meters.responseSize[s.instrument]; h != nil {
		h.Record(m.ctx, o.ResponseBytes, opts...)
	}
}

// unknownGRPC stands for all codes that gRPC has not defined.
const unknownGRPC = 17

// options returns the attributes of s, bounded, in the form that instruments take.
func (m *meters) options(s series) []metric.RecordOption {
	m.mu.RLock()
	opts, ok := m.series[s]
	m.mu.RUnlock()
	if ok {
		return opts
	}
	s.errorType = m.errors.of(s.errorType, other)
	var kvs []attribute.KeyValue
	switch s.instrument {
	case httpServer:
		s.route = m.routes.of(s.route, other)
		kvs = append(kvs, semconv.HTTPRequestMethod.String(s.method), semconv.URLScheme.String(s.scheme))
		if s.route != "" {
			kvs = append(kvs, semconv.HTTPRoute.String(s.route))
		}
	case httpClient:
		kvs = append(kvs, semconv.HTTPRequestMethod.String(s.method))
	case rpcServer, rpcClient:
		s.method = m.methods.of(s.method, other)
		kvs = append(kvs, semconv.RPCSystemName.String("grpc"), semconv.RPCMethod.String(s.method))
	}
	if s.instrument == httpClient || s.instrument == rpcClient {
		s.server = m.servers.of(s.server, server{address: other})
		kvs = append(kvs, semconv.ServerAddress.String(s.server.address))
		if s.server.port != 0 {
			kvs = append(kvs, semconv.ServerPort.Int(s.server.port))
		}
	}
	m.mu.RLock()
	opts, ok = m.series[s] // bounded, it may be an old one
	m.mu.RUnlock()
	if ok {
		return opts
	}
	if s.version != "" {
		kvs = append(kvs, semconv.NetworkProtocolVersion.String(s.version))
	}
	if s.status != 0 {
		kvs = append(kvs, semconv.HTTPResponseStatusCode.Int(s.status))
	}
	if s.grpcStatus != "" {
		kvs = append(kvs, semconv.RPCResponseStatusCode.String(s.grpcStatus))
	}
	if s.errorType != "" {
		kvs = append(kvs, semconv.ErrorType.String(s.errorType))
	}
	opts = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(kvs...))}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.series) < maxSeries {
		m.series[s] = opts
	}
	return opts
}

// activeOptions returns the attributes of a request under way.
func (m *meters) activeOptions(method, scheme string) []metric.AddOption {
	return []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(
		semconv.HTTPRequestMethod.String(method), semconv.URLScheme.String(scheme)))}
}

// bounded is a set of at most max values. The zero value of K is always in it.
type bounded[K comparable] struct {
	max  int
	mu   sync.Mutex
	seen map[K]struct{}
}

// of returns v if it is in the set or finds room there, else instead.
func (b *bounded[K]) of(v, instead K) K {
	var none K
	if v == none {
		return v
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.seen[v]; ok {
		return v
	}
	if len(b.seen) >= b.max {
		return instead
	}
	if b.seen == nil {
		b.seen = make(map[K]struct{})
	}
	b.seen[v] = struct{}{}
	return v
}

// clientServer returns server.address and server.port of an outgoing request.
func clientServer(req *http.Request) server {
	host, port := splitHost(req.URL.Host)
	if port == 0 {
		switch req.URL.Scheme {
		case "http":
			port = 80
		case "https":
			port = 443
		}
	}
	return server{semconv.Cut(host, maxHost), port}
}
