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
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

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
	log      []string // lines of the access log
}

// attempt is a request as the upstream received it.
type attempt struct {
	line    string // method and target
	headers map[string][]string
}

// send puts the request of c to a gateway with the settings of c in front of an
// upstream that does what c says. It is the whole path of a real program: bytes on
// a connection, net/http, Tracing.Handler, httputil.ReverseProxy, Tracing.Transport.
// edits change the settings before the gateway is built.
func send(c parity.Case, edits ...func(*middleware.Config)) (answer, error) {
	cfg, err := settings(c.Config)
	if err != nil {
		return answer{}, err
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	recorder := tracetest.NewSpanRecorder()
	if cfg.TracerProvider == nil {
		cfg.Processors = []sdktrace.SpanProcessor{recorder}
	}
	tracing, err := middleware.Setup(context.Background(), cfg)
	if err != nil {
		return answer{}, err
	}
	defer tracing.Shutdown(context.Background())
	shares, err := runtimeShares(c.Config.Node.Runtime)
	if err := errors.Join(err, tracing.Sampler().SetShares(shares)); err != nil {
		return answer{}, err
	}
	cfg.Processors = nil
	second, err := middleware.Setup(context.Background(), cfg)
	if err != nil {
		return answer{}, err
	}
	defer second.Shutdown(context.Background())

	up, err := startUpstream(c)
	if err != nil {
		return answer{}, err
	}
	defer up.close()
	g := &gateway{config: c.Config, tracing: tracing, second: second, log: &accessLog{config: c.Config}}
	g.idle = sync.NewCond(&g.mu)
	addr, stop, err := g.start(c, up)
	if err != nil {
		return answer{}, err
	}
	defer stop()

	for range c.Request.Earlier {
		if _, _, err := call(addr, c.Request); err != nil {
			return answer{}, fmt.Errorf("an earlier request: %w", err)
		}
		g.wait()
		g.log.take()
		up.reset()
		recorder.Reset()
	}
	before := tracing.Sampler().Counts()
	a := answer{}
	a.status, a.response, err = call(addr, c.Request)
	if err != nil {
		return answer{}, err
	}
	g.wait()
	a.decision = moved(before, tracing.Sampler().Counts())
	a.attempts = up.received()
	a.spans = ended(recorder)
	a.client = g.client
	a.log = g.log.take()
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

// settings turns the configuration of a proxy into that of a gateway. What concerns
// names and attributes of spans, and their export, is left out.
func settings(p parity.Proxy) (middleware.Config, error) {
	var errs []error
	share := func(percent *float64) sampler.Fraction {
		if percent == nil {
			return sampler.Fraction{}
		}
		return sampler.Percent(*percent)
	}
	u := use(isOn(p.PackTraceReason), isOn(p.UseRequestIDForTraceSampling))
	cfg := middleware.Envoy()
	edge := cfg.Edge
	edge.Inner = !p.UseRemoteAddress
	edge.Hops = p.XFFNumTrustedHops
	var err error
	edge.Internal, err = internalAddresses(p.InternalCIDRs)
	errs = append(errs, err)
	cfg.Service = "gateway"
	cfg.SpawnUpstreamSpan = p.SpawnUpstreamSpan
	cfg.Proxy = middleware.Proxy{
		Node:         proxyNode,
		Cluster:      proxyName,
		Zone:         "zone-1",
		AddUserAgent: p.AddUserAgent,
		Address:      netip.MustParseAddr(proxyOwn),
		InternalOnly: p.InternalOnlyHeaders,
	}
	cfg.RequestID = policy(isOn(p.GenerateRequestID), p.PreserveExternalRequestID, u)
	cfg.Sampling.Client, cfg.Sampling.Random, cfg.Sampling.Overall = share(p.ClientSampling), share(p.RandomSampling), share(p.OverallSampling)
	cfg.Sampling.Use = u
	cfg.HealthChecks = []string{}
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.RequestID.InResponse = p.AlwaysSetRequestIDInResponse
	if p.Node.Cluster != "" {
		cfg.Proxy.Node, cfg.Proxy.Cluster, cfg.Proxy.Zone = p.Node.ID, p.Node.Cluster, p.Node.Zone
	}
	cfg.Proxy.HeaderPrefix = p.Node.HeaderPrefix
	if p.HealthCheckPath != "" {
		cfg.HealthChecks = []string{p.HealthCheckPath}
	}
	route, err := routeOf(p.Route)
	errs = append(errs, err)
	cfg.Route = func(*http.Request) middleware.Route { return route }
	cfg.Direction, err = directionOf(p.Direction)
	errs = append(errs, err, tracerOf(p, &cfg))
	return cfg, errors.Join(errs...)
}

func isOn(setting *bool) bool { return setting == nil || *setting }

// internalAddresses returns the ranges of internal_address_config: nil is not
// configured, empty the private ranges (ED-5).
func internalAddresses(cidrs []string) ([]netip.Prefix, error) {
	if cidrs != nil && len(cidrs) == 0 {
		cidrs = []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.1/32", "fd00::/8", "::1/128"}
	}
	var list []netip.Prefix
	for _, c := range cidrs {
		p, err := netip.ParsePrefix(c)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

func routeOf(p parity.Route) (middleware.Route, error) {
	var r middleware.Route
	if p.NoRoute {
		return r, nil
	}
	if !p.UnknownCluster && p.DirectResponse == 0 && p.Redirect == nil {
		r.Upstream.Cluster = "backend"
	}
	if d := p.Decorator; d != nil {
		r.Decorator = span.Decorator{Operation: d.Operation, Private: !isOn(d.Propagate)}
	}
	if p.Tracing == nil {
		return r, nil
	}
	client, err1 := fraction(p.Tracing.ClientSampling)
	random, err2 := fraction(p.Tracing.RandomSampling)
	overall, err3 := fraction(p.Tracing.OverallSampling)
	r.Sampling = &sampler.Shares{Client: client, Random: random, Overall: overall}
	return r, errors.Join(err1, err2, err3)
}

// tracerOf sets what depends on Envoy's tracer: the headers it reads and writes, and
// who has the last word on sampling.
func tracerOf(p parity.Proxy, cfg *middleware.Config) error {
	environment := map[string]string{"OTEL_TRACES_EXPORTER": "none"}
	cfg.Getenv = func(name string) string { return environment[name] }
	context := propagation.Config{Strict: true}
	var err error
	switch p.Tracer {
	case "none": // D-1
		environment["OTEL_SDK_DISABLED"] = "true"
		context.Extract, context.Inject = []propagation.Format{}, []propagation.Format{}
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

// directionOf returns the direction, which names spans and gives them their kind.
func directionOf(d string) (middleware.Direction, error) {
	switch d {
	case "", "ingress": // N-1
		return middleware.Ingress, nil
	case "egress":
		return middleware.Egress, nil
	}
	return 0, fmt.Errorf("direction %q is none that this runner knows", d)
}

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

// gateway is a Go program in Envoy's place: the filters and the router that a case
// configures, around meshtrace.
type gateway struct {
	config  parity.Proxy
	tracing *middleware.Tracing
	second  *middleware.Tracing // with the same settings, to ask for the client's address
	log     *accessLog

	mu      sync.Mutex
	active  int // requests in the handler
	client  netip.Addr
	limited bool // the one request of local_rate_limit_one has passed
	idle    *sync.Cond
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

// limit tells whether the local rate limit holds the request back.
func (g *gateway) limit() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	over := g.config.LocalRateLimitOne && g.limited
	g.limited = true
	return over
}

// start serves g on a listener whose connections come from the peer of c.
func (g *gateway) start(c parity.Case, up *upstream) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	base := &http.Transport{
		DialContext:        up.dial,
		DisableKeepAlives:  true,
		DisableCompression: true,
		Protocols:          new(http.Protocols),
	}
	base.Protocols.SetHTTP1(!c.Request.GRPC)
	base.Protocols.SetUnencryptedHTTP2(c.Request.GRPC)
	proxy := &httputil.ReverseProxy{
		Rewrite:       g.rewrite,
		Transport:     &router{route: c.Config.Route, next: g.tracing.Transport(base)},
		FlushInterval: -1,
		ErrorHandler:  localReply,
		ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	traced := g.tracing.Handler(g.log.around(g.filters(proxy)))
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			g.enter(r)
			defer g.leave()
			traced.ServeHTTP(w, r)
		}),
		ErrorLog:                     proxy.ErrorLog,
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
		base.CloseIdleConnections()
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

// rewrite passes a request on as it is. ReverseProxy takes the forwarding headers
// away before it; they are the ones that meshtrace has settled.
func (g *gateway) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.URL.Host = "http", "upstream"
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
		if lines, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = lines
		}
	}
	route := g.config.Route
	if route.PrefixRewrite != "" {
		r.Out.Header["X-Envoy-Original-Path"] = []string{r.In.URL.RequestURI()}
		r.Out.URL.Path, r.Out.URL.RawPath = route.PrefixRewrite+strings.TrimPrefix(r.Out.URL.Path, "/"), ""
	}
	if route.HostRewrite != "" {
		r.Out.Header["X-Envoy-Original-Host"] = []string{r.In.Host}
		r.Out.Host = route.HostRewrite
	}
}

// filters are Envoy's before the router, and the routes that need no upstream.
func (g *gateway) filters(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, route := g.config, g.config.Route
		switch {
		case r.RequestURI == "*" || r.Method == http.MethodConnect || route.NoRoute:
			w.WriteHeader(http.StatusNotFound)
			return
		case p.HealthCheckPath != "" && r.URL.RequestURI() == p.HealthCheckPath && !p.HealthCheckPassThrough:
			return
		case g.limit():
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		switch p.FaultFilter {
		case "":
		case "abort":
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case "delay":
			time.Sleep(time.Millisecond)
		default:
			panic(fmt.Sprintf("fault_filter %q is none that this runner knows", p.FaultFilter))
		}
		switch {
		case route.DirectResponse != 0:
			w.WriteHeader(route.DirectResponse)
		case len(route.Redirect) > 0:
			w.WriteHeader(http.StatusMovedPermanently)
		case route.UnknownCluster, p.Cluster.NoHosts, p.Cluster.MaxRequests != nil && *p.Cluster.MaxRequests == 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// localReply answers in the place of an upstream that did not.
func localReply(w http.ResponseWriter, _ *http.Request, err error) {
	if errors.Is(err, context.DeadlineExceeded) {
		w.WriteHeader(http.StatusGatewayTimeout)
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
}

// router sends a request as often as its route allows.
type router struct {
	route parity.Route
	next  http.RoundTripper
}

// Envoy's without a setting, and the shortest that is no timing of its own.
const defaultTimeout = 5 * time.Second

func (r *router) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		req.Body.Close()
	}
	timeout := defaultTimeout
	if r.route.TimeoutMS > 0 {
		timeout = time.Duration(r.route.TimeoutMS) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(req.Context(), timeout)
	tries := 1
	if r.route.RetryOn != "" {
		tries += r.route.NumRetries
	}
	for try := 1; ; try++ {
		again, resp, err := r.try(ctx, req, body)
		if !again || try == tries || ctx.Err() != nil {
			if err != nil {
				cancel()
				return nil, err
			}
			resp.Body = &closer{resp.Body, cancel}
			return resp, nil
		}
		if err == nil {
			resp.Body.Close()
		}
	}
}

// try sends a request once and tells whether its route would have it sent again.
func (r *router) try(ctx context.Context, req *http.Request, body []byte) (again bool, resp *http.Response, err error) {
	cancel := context.CancelFunc(func() {})
	if r.route.PerTryTimeoutMS > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.route.PerTryTimeoutMS)*time.Millisecond)
	}
	out := req.Clone(ctx)
	if req.Body != nil {
		out.Body = io.NopCloser(bytes.NewReader(body))
	}
	resp, err = r.next.RoundTrip(out)
	if err != nil {
		cancel()
	} else {
		resp.Body = &closer{resp.Body, cancel}
	}
	for on := range strings.SplitSeq(r.route.RetryOn, ",") {
		switch on {
		case "":
		case "5xx":
			again = again || err != nil || resp.StatusCode >= 500
		case "gateway-error":
			again = again || err != nil || resp.StatusCode >= 502 && resp.StatusCode <= 504
		case "reset":
			again = again || err != nil
		case "connect-failure":
			again = again || errors.Is(err, syscall.ECONNREFUSED)
		default:
			panic(fmt.Sprintf("retry_on %q is none that this runner knows", on))
		}
	}
	return again, resp, err
}

// closer calls done once the body is closed.
type closer struct {
	io.ReadCloser
	done func()
}

func (c *closer) Close() error {
	defer c.done()
	return c.ReadCloser.Close()
}

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

// call sends one request over a connection of its own. Without an answer, because
// the caller goes away before, the status is 0.
func call(addr string, r parity.Request) (status int, headers map[string][]string, err error) {
	switch {
	case r.GRPC || r.Proto == "HTTP/2":
		return callHTTP2(addr, r)
	case r.Proto == "" || r.Proto == "HTTP/1.1" || r.Proto == "HTTP/1.0":
		return callHTTP1(addr, r)
	}
	return 0, nil, fmt.Errorf("proto %q is none that this runner knows", r.Proto)
}

func callHTTP1(addr string, r parity.Request) (int, map[string][]string, error) {
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
		time.Sleep(time.Duration(r.AbortAfterMS) * time.Millisecond)
		return 0, nil, nil
	}
	return readResponse(conn, method(r))
}

func callHTTP2(addr string, r parity.Request) (int, map[string][]string, error) {
	t := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	defer t.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	if r.AbortAfterMS > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), time.Duration(r.AbortAfterMS)*time.Millisecond)
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
