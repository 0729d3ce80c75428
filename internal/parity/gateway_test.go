package parity_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/meshtrace/meshtrace/examples/gateway/proxy"
	"github.com/meshtrace/meshtrace/internal/parity"
	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/propagation"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

// What the recording left to its defaults.
const (
	defaultPath = "/api/v1?q=1"
	defaultHost = "svc.example"
	defaultPeer = "203.0.113.9"
	proxyNode   = "node-1"
	proxyName   = "mesh-1"
	proxyOwn    = "10.3.2.1"
)

// patience bounds one request of a case.
const patience = 10 * time.Second

// answer is what a gateway did with the request of a case.
type answer struct {
	status   int                 // 0: none, the caller had gone
	response map[string][]string // lower-case names; nil: none
	attempts []attempt           // requests that reached the upstream
	decision string              // the counters that moved, joined with +; none
	client   netip.Addr          // the address taken for the client's; invalid where nothing tells it
	spans    []sdktrace.ReadOnlySpan
	log      []string          // lines of the access log
	export   map[string]string // the request that the spans left in, where the case tells one
}

// attempt is a request as the upstream received it.
type attempt struct {
	line    string // method and target
	headers map[string][]string
}

// send puts the request of c to the gateway of examples/gateway, in front of an
// upstream that does what c says. It is the whole path of a real program: bytes on a
// connection, net/http, Tracing.Handler, httputil.ReverseProxy, Tracing.Transport. edits
// change meshtrace's settings before the gateway is built.
func send(c parity.Case, edits ...func(*middleware.Config)) (answer, error) {
	up, err := startUpstream(c)
	if err != nil {
		return answer{}, err
	}
	defer up.close()
	cfg, err := gatewayConfig(c, up.listener.Addr().String())
	if err != nil {
		return answer{}, err
	}
	log := &accessLog{config: c.Config}
	spans := tracetest.NewSpanRecorder()
	recorder := spans
	var editErr error
	collector, exports, stopCollector := captured()
	defer stopCollector()
	opts := proxy.Options{
		Logger: slog.New(slog.DiscardHandler),
		Transport: func(t *http.Transport) {
			t.DialContext, t.DisableKeepAlives = up.dial, true
		},
		Filter: func(next http.Handler) http.Handler {
			return log.around(requestMetadata(c.Config.RequestMetadata, next))
		},
		Edit: func(m *middleware.Config) {
			editErr = tracerOf(c.Config, m)
			m.Proxy.Address = netip.MustParseAddr(proxyOwn)
			m.Proxy.HeaderPrefix = c.Config.Node.HeaderPrefix
			resourceOf(c.Config, m)
			if c.Expect.ExportRequest != nil {
				exportTo(collector, m)
			}
			for _, edit := range edits {
				edit(m)
			}
			if m.TracerProvider == nil && recorder != nil {
				m.Processors = []sdktrace.SpanProcessor{recorder}
			}
		},
	}
	served, err := proxy.New(context.Background(), cfg, opts)
	if err := errors.Join(err, editErr); err != nil {
		return answer{}, err
	}
	defer served.Close(context.Background())
	shares, err := runtimeShares(c.Config.Node.Runtime)
	if err := errors.Join(err, served.Tracing().Sampler().SetShares(shares)); err != nil {
		return answer{}, err
	}
	// The same once more, to ask for the client's address.
	recorder = nil
	second, err := proxy.New(context.Background(), cfg, opts)
	if err != nil {
		return answer{}, err
	}
	defer second.Close(context.Background())

	g := &gateway{handler: served, second: second.Tracing()}
	g.idle = sync.NewCond(&g.mu)
	addr, stop, err := g.start(c)
	if err != nil {
		return answer{}, err
	}
	defer stop()

	for range c.Request.Earlier {
		if _, _, err := call(addr, c.Request, up.arrived); err != nil {
			return answer{}, fmt.Errorf("an earlier request: %w", err)
		}
		g.wait()
		log.take()
		up.reset()
		spans.Reset()
	}
	before := served.Tracing().Sampler().Counts()
	a := answer{}
	a.status, a.response, err = call(addr, c.Request, up.arrived)
	if err != nil {
		return answer{}, err
	}
	g.wait()
	a.decision = moved(before, served.Tracing().Sampler().Counts())
	a.attempts = up.received()
	a.spans = ended(spans)
	a.client = g.client
	a.log = log.take()
	if c.Expect.ExportRequest != nil {
		if err := served.Tracing().ForceFlush(context.Background()); err != nil {
			return answer{}, err
		}
		a.export = <-exports
	}
	return a, a.checkClient()
}

// ended returns the spans that have ended, in the order in which they began.
func ended(r *tracetest.SpanRecorder) []sdktrace.ReadOnlySpan {
	begun := make(map[trace.SpanID]int)
	for i, s := range r.Started() {
		begun[s.SpanContext().SpanID()] = i
	}
	list := r.Ended()
	slices.SortFunc(list, func(a, b sdktrace.ReadOnlySpan) int {
		return begun[a.SpanContext().SpanID()] - begun[b.SpanContext().SpanID()]
	})
	return list
}

// requestMetadata stands for a filter that found out something about the request.
func requestMetadata(found json.RawMessage, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, err := metadata(found)
		if err != nil {
			panic(err)
		}
		for key, value := range m {
			middleware.SetMetadata(r.Context(), key, value)
		}
		next.ServeHTTP(w, r)
	})
}

func metadata(text json.RawMessage) (m span.Metadata, err error) {
	if len(text) > 0 {
		err = json.Unmarshal(text, &m)
	}
	return m, err
}

// gatewayConfig is the configuration of a case in the words of the gateway's file.
func gatewayConfig(c parity.Case, host string) (proxy.Config, error) {
	p := c.Config
	cluster := proxy.Cluster{
		Hosts:       []proxy.Host{{Address: host}},
		HTTP2:       c.Request.GRPC,
		AltStatName: p.Cluster.AltStatName,
		MaxRequests: p.Cluster.MaxRequests,
	}
	var errs [3]error
	cluster.Metadata, errs[0] = metadata(p.Cluster.Metadata)
	cluster.Hosts[0].Metadata, errs[1] = metadata(p.Cluster.HostMetadata)
	if p.Cluster.NoHosts {
		cluster.Hosts = nil
	}
	var route proxy.Route
	route, errs[2] = routeOf(p)
	cfg := proxy.Config{
		Node:     proxy.Node{ID: proxyNode, Cluster: proxyName, Zone: "zone-1"},
		Clusters: map[string]proxy.Cluster{"backend": cluster},
		Edge: proxy.Edge{
			UseRemoteAddress:     &p.UseRemoteAddress,
			TrustedHops:          p.XFFNumTrustedHops,
			Internal:             internalAddresses(p.InternalCIDRs),
			InternalOnlyHeaders:  p.InternalOnlyHeaders,
			AddUserAgent:         p.AddUserAgent,
			GenerateRequestID:    p.GenerateRequestID,
			PreserveRequestID:    p.PreserveExternalRequestID,
			RequestIDInResponse:  p.AlwaysSetRequestIDInResponse,
			PackTraceReason:      p.PackTraceReason,
			SampleByRequestID:    p.UseRequestIDForTraceSampling,
			NoContextPropagation: p.NoContextPropagation,
		},
	}
	if p.Node.Cluster != "" {
		cfg.Node = proxy.Node{ID: p.Node.ID, Cluster: p.Node.Cluster, Zone: p.Node.Zone}
	}
	if !p.Route.NoRoute {
		cfg.Routes = []proxy.Route{route}
	}
	if p.HealthCheckPath != "" {
		cfg.HealthCheck = &proxy.HealthCheck{Path: p.HealthCheckPath, PassThrough: p.HealthCheckPassThrough}
	}
	if p.LocalRateLimitOne {
		cfg.RateLimit = &proxy.RateLimit{Burst: 1}
	}
	if p.Tracer != "none" { // D-1
		cfg.Tracing = &proxy.Tracing{
			Direction:         p.Direction,
			ClientSampling:    p.ClientSampling,
			RandomSampling:    p.RandomSampling,
			OverallSampling:   p.OverallSampling,
			SpawnUpstreamSpan: &p.SpawnUpstreamSpan,
			Verbose:           p.Verbose,
			Operation:         p.Operation,
			UpstreamOperation: p.UpstreamOperation,
			CustomTags:        tagsOf(p.CustomTags),
		}
	}
	return cfg, errors.Join(errs[:]...)
}

// internalAddresses returns the ranges of internal_address_config: nil is not
// configured, empty the private ranges (ED-5).
func internalAddresses(cidrs []string) []string {
	if cidrs != nil && len(cidrs) == 0 {
		return []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.1/32", "fd00::/8", "::1/128"}
	}
	return cidrs
}

// routeOf is the only route of a case, which all requests match.
func routeOf(p parity.Proxy) (proxy.Route, error) {
	r := p.Route
	route := proxy.Route{
		PrefixRewrite: r.PrefixRewrite,
		HostRewrite:   r.HostRewrite,
		TimeoutMS:     r.TimeoutMS,
	}
	var errs []error
	var err error
	route.Metadata, err = metadata(r.Metadata)
	errs = append(errs, err)
	switch {
	case r.DirectResponse != 0:
		route.Respond = &proxy.Respond{Status: r.DirectResponse, Body: "reply"} // so long was the recorded one
	case r.Redirect != nil:
		var redirect struct {
			Host string `json:"host_redirect"`
			Path string `json:"path_redirect"`
		}
		errs = append(errs, strictly(r.Redirect, &redirect))
		route.Redirect = &proxy.Redirect{Host: redirect.Host, Path: redirect.Path}
	case r.UnknownCluster:
		route.Cluster = "none"
	default:
		route.Cluster = "backend"
	}
	if d := r.Decorator; d != nil {
		route.Decorator = &proxy.Decorator{Operation: d.Operation, Propagate: d.Propagate}
	}
	if t := r.Tracing; t != nil {
		route.Tracing = &proxy.RouteTracing{
			ClientSampling:    (*proxy.Fraction)(t.ClientSampling),
			RandomSampling:    (*proxy.Fraction)(t.RandomSampling),
			OverallSampling:   (*proxy.Fraction)(t.OverallSampling),
			Operation:         t.Operation,
			UpstreamOperation: t.UpstreamOperation,
			CustomTags:        tagsOf(t.CustomTags),
		}
	}
	if r.RetryOn != "" || r.PerTryTimeoutMS != 0 {
		route.Retry = &proxy.Retry{NumRetries: &r.NumRetries, PerTryTimeoutMS: r.PerTryTimeoutMS}
		if r.RetryOn != "" {
			route.Retry.On = strings.Split(r.RetryOn, ",")
		}
	}
	switch p.FaultFilter {
	case "":
	case "abort":
		route.Fault = &proxy.Fault{Abort: http.StatusServiceUnavailable}
	case "delay":
		route.Fault = &proxy.Fault{DelayMS: 1}
	default:
		errs = append(errs, fmt.Errorf("fault_filter %q is none that this runner knows", p.FaultFilter))
	}
	return route, errors.Join(errs...)
}

// strictly decodes JSON and refuses what into has no place for.
func strictly(text json.RawMessage, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

func tagsOf(list []parity.CustomTag) []proxy.Tag {
	var tags []proxy.Tag
	for _, t := range list {
		tags = append(tags, proxy.Tag{
			Tag: t.Tag, Literal: t.Literal, Value: t.Value,
			Environment:   (*proxy.DefaultName)(t.Environment),
			RequestHeader: (*proxy.DefaultName)(t.RequestHeader),
			Metadata:      (*proxy.Metadata)(t.Metadata),
		})
	}
	return tags
}

func isOn(setting *bool) bool { return setting == nil || *setting }

// tracerOf sets what depends on Envoy's tracer: the headers it reads and writes, and
// who has the last word on sampling.
func tracerOf(p parity.Proxy, cfg *middleware.Config) error {
	context := propagation.Config{Strict: true}
	var err error
	switch p.Tracer {
	case "none": // D-1
		return nil
	case "no_provider": // O-2
		cfg.TracerProvider = noop.NewTracerProvider()
		context.Extract, context.Inject = []propagation.Format{}, []propagation.Format{}
	case "opentelemetry":
		context.Extract = []propagation.Format{propagation.TraceContext}
		context.Inject = context.Extract
		cfg.Sampling.Base, err = samplerOf(p.Sampler)
	case "zipkin":
		err = zipkinOf(p, cfg, &context)
	default:
		err = fmt.Errorf("tracer %q is none that this runner knows", p.Tracer)
	}
	environment := map[string]string{"OTEL_TRACES_EXPORTER": "none"}
	cfg.Getenv = func(name string) string { return environment[name] }
	if p.Tracer != "opentelemetry" && p.Sampler != nil {
		err = errors.Join(err, fmt.Errorf("a sampler of the tracer %q", p.Tracer))
	}
	if p.NoContextPropagation { // W-11
		context.Inject = []propagation.Format{}
	}
	cfg.Propagation = context
	return err
}

// zipkinOf sets what Envoy's Zipkin tracer has of its own.
func zipkinOf(p parity.Proxy, cfg *middleware.Config, context *propagation.Config) error {
	*cfg = middleware.WithZipkin(*cfg, middleware.Zipkin{NotShared: !isOn(p.Zipkin.SharedSpanContext), TraceID128: p.Zipkin.TraceID128Bit})
	*context = cfg.Propagation
	if value, ok := p.Node.Runtime[preserveB3]; ok {
		var on bool
		if err := json.Unmarshal(value, &on); err != nil {
			return fmt.Errorf("%s: %w", preserveB3, err)
		}
		if !on {
			context.Inject = []propagation.Format{propagation.B3Multi}
		}
	}
	switch p.Zipkin.TraceContextOption {
	case "", "USE_B3":
	case "USE_B3_WITH_W3C_PROPAGATION": // B-15
		context.Extract = append(context.Extract, propagation.TraceContext)
		context.Inject = append(context.Inject, propagation.TraceContext)
	default:
		return fmt.Errorf("trace_context_option %q is none that this runner knows", p.Zipkin.TraceContextOption)
	}
	return nil
}

// samplerOf returns the sampler of Envoy's OpenTelemetry tracer; nil is none.
func samplerOf(p *parity.Sampler) (sdktrace.Sampler, error) {
	if p == nil {
		return nil, nil
	}
	switch p.Type {
	case "always_on":
		return sdktrace.AlwaysSample(), nil
	case "parent_based":
		if p.Root == nil {
			return nil, errors.New("parent_based needs a root")
		}
		root, err := samplerOf(p.Root)
		if err != nil {
			return nil, err
		}
		return sdktrace.ParentBased(root), nil
	case "trace_id_ratio":
		f, err := fraction(&parity.Fraction{Numerator: p.Numerator, Denominator: p.Denominator})
		if err != nil {
			return nil, err
		}
		return sampler.EnvoyTraceIDRatio(f), nil
	case "cel":
		return expression(p.Answer), nil
	}
	return nil, fmt.Errorf("sampler %q is none that this runner knows", p.Type)
}

// expression stands for a sampler that evaluates one: always the same answer, and
// without the parent's tracestate where it is no (W-17).
type expression bool

func (e expression) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if !e {
		return sdktrace.SamplingResult{Decision: sdktrace.Drop}
	}
	return sdktrace.SamplingResult{
		Decision:   sdktrace.RecordAndSample,
		Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState(),
	}
}

func (e expression) Description() string { return fmt.Sprintf("expression(%t)", bool(e)) }

// preserveB3 is the runtime key by which Envoy 1.40 does as 1.39 did.
const preserveB3 = "envoy.reloadable_features.zipkin_preserve_b3_single_header_format"

// runtimeShares returns what runtime keys override (D-22).
func runtimeShares(runtime map[string]json.RawMessage) (sampler.Shares, error) {
	var shares sampler.Shares
	var errs []error
	for key, value := range runtime {
		var err error
		switch key {
		case "tracing.client_enabled":
			shares.Client, err = runtimeFraction(value)
		case "tracing.random_sampling":
			shares.Random, err = runtimeFraction(value)
		case "tracing.global_enabled":
			shares.Overall, err = runtimeFraction(value)
		case preserveB3: // for the tracer
		default:
			err = fmt.Errorf("runtime key %q is none that this runner knows", key)
		}
		errs = append(errs, err)
	}
	return shares, errors.Join(errs...)
}

// runtimeFraction reads a runtime value: an integer percentage or a fraction.
func runtimeFraction(value json.RawMessage) (sampler.Fraction, error) {
	var percent uint32
	if json.Unmarshal(value, &percent) == nil {
		return sampler.Of(percent, sampler.Hundred), nil
	}
	var f parity.Fraction
	if err := json.Unmarshal(value, &f); err != nil {
		return sampler.Fraction{}, err
	}
	return fraction(&f)
}

// gateway is a listener around the gateway.
type gateway struct {
	handler http.Handler
	second  *middleware.Tracing // with the same settings, to ask for the client's address

	mu     sync.Mutex
	active int // requests in the handler
	client netip.Addr
	idle   *sync.Cond
}

// enter and leave stand around the handler; wait returns when nobody is in it.
func (g *gateway) enter(r *http.Request) {
	peer := netip.MustParseAddrPort(r.RemoteAddr).Addr()
	_, call := g.second.StartServer(r.Context(), middleware.Incoming{
		Method: r.Method, Carrier: otelprop.HeaderCarrier(r.Header), Peer: peer,
	})
	call.End(middleware.Outcome{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.active++
	g.client = call.ClientAddress()
}

func (g *gateway) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.active--
	g.idle.Broadcast()
}

func (g *gateway) wait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.active > 0 {
		g.idle.Wait()
	}
}

// start serves g on a listener whose connections come from the peer of c.
func (g *gateway) start(c parity.Case) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.enter(r)
			defer g.leave()
			g.handler.ServeHTTP(w, r)
		}),
		ErrorLog:                     slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		DisableGeneralOptionsHandler: true,
		Protocols:                    new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	peer := c.Request.Peer
	if peer == "" {
		peer = defaultPeer
	}
	remote, err := netip.ParseAddr(peer)
	if err != nil {
		return "", nil, errors.Join(err, l.Close())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(&peerListener{Listener: l, peer: net.TCPAddrFromAddrPort(netip.AddrPortFrom(remote, 40000))})
	}()
	return l.Addr().String(), func() {
		srv.Close()
		<-done
	}, nil
}

// peerListener gives every connection the address that it came from in the recording.
type peerListener struct {
	net.Listener
	peer net.Addr
}

func (l *peerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &peerConn{c, l.peer}, nil
}

type peerConn struct {
	net.Conn
	peer net.Addr
}

func (c *peerConn) RemoteAddr() net.Addr { return c.peer }

// decisionNames are those of the recording by the counters' names (D-27).
var decisionNames = map[string]string{
	"client_enabled":  "ClientForced",
	"random_sampling": "Sampling",
	"service_forced":  "ServiceForced",
	"not_traceable":   "NotTraceable",
	"health_check":    "HealthCheck",
}

// moved names the counters that differ, in alphabetical order.
func moved(before, after map[string]uint64) string {
	var names []string
	for counter, name := range decisionNames {
		if after[counter] != before[counter] {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	return strings.Join(names, "+")
}

// checkClient holds the server span against the address.
func (a answer) checkClient() error {
	for _, s := range a.spans {
		if s.SpanKind() != trace.SpanKindServer {
			continue
		}
		for _, kv := range s.Attributes() {
			if kv.Key == "client.address" && kv.Value.AsString() != a.client.String() {
				return fmt.Errorf("client.address of the span = %s, want %s", kv.Value.AsString(), a.client)
			}
		}
	}
	return nil
}

// target returns the request's path or what stands in its place.
func target(r parity.Request) string {
	if r.Path == "" {
		return defaultPath
	}
	return r.Path
}

func method(r parity.Request) string {
	switch {
	case r.Method != "":
		return r.Method
	case r.GRPC:
		return http.MethodPost
	}
	return http.MethodGet
}

func host(r parity.Request) string {
	if r.Host == nil {
		return defaultHost
	}
	return *r.Host
}

// call sends one request over a connection of its own. arrived returns once the upstream
// has it. Without an answer, because
// the caller goes away before, the status is 0.
func call(addr string, r parity.Request, arrived func()) (status int, headers map[string][]string, err error) {
	switch {
	case r.GRPC || r.Proto == "HTTP/2":
		return callHTTP2(addr, r, arrived)
	case r.Proto == "" || r.Proto == "HTTP/1.1" || r.Proto == "HTTP/1.0":
		return callHTTP1(addr, r, arrived)
	}
	return 0, nil, fmt.Errorf("proto %q is none that this runner knows", r.Proto)
}

func callHTTP1(addr string, r parity.Request, arrived func()) (int, map[string][]string, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, nil, err
	}
	proto := r.Proto
	if proto == "" {
		proto = "HTTP/1.1"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", method(r), target(r), proto)
	if h := host(r); h != "" {
		fmt.Fprintf(&b, "Host: %s\r\n", h)
	}
	for _, f := range r.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", f[0], f[1])
	}
	if r.BodySize > 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", r.BodySize)
	}
	b.WriteString("\r\n")
	b.Write(bytes.Repeat([]byte("b"), r.BodySize))
	if _, err := conn.Write(b.Bytes()); err != nil {
		return 0, nil, err
	}
	if r.AbortAfterMS > 0 {
		arrived()
		time.Sleep(time.Duration(r.AbortAfterMS) * time.Millisecond)
		return 0, nil, nil
	}
	return readResponse(conn, method(r))
}

func callHTTP2(addr string, r parity.Request, arrived func()) (int, map[string][]string, error) {
	t := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	defer t.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	if r.AbortAfterMS > 0 {
		go func() {
			arrived()
			time.Sleep(time.Duration(r.AbortAfterMS) * time.Millisecond)
			cancel()
		}()
	}
	defer cancel()
	var body io.Reader
	if r.BodySize > 0 {
		body = bytes.NewReader(bytes.Repeat([]byte("b"), r.BodySize))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr, body)
	if err != nil {
		return 0, nil, err
	}
	req.Method, req.Host = method(r), host(r)
	if req.URL.Path, req.URL.RawQuery, err = splitTarget(target(r)); err != nil {
		return 0, nil, err
	}
	req.Header["User-Agent"] = nil // net/http's own is not sent
	for _, f := range r.Headers {
		name := http.CanonicalHeaderKey(f[0])
		req.Header[name] = append(req.Header[name], f[1])
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		if r.AbortAfterMS > 0 {
			return 0, nil, nil
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body) // a reset in the middle of it is the case's own
	headers := lowerCase(resp.Header)
	for name, lines := range lowerCase(resp.Trailer) { // recorded together
		headers[name] = append(headers[name], lines...)
	}
	return resp.StatusCode, headers, nil
}

func splitTarget(target string) (path, query string, err error) {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return "", "", err
	}
	return u.Path, u.RawQuery, nil
}

func lowerCase(h http.Header) map[string][]string {
	m := make(map[string][]string, len(h))
	for name, lines := range h {
		m[strings.ToLower(name)] = lines
	}
	return m
}
