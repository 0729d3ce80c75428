package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"github.com/meshtrace/meshtrace/middleware"
)

// Gateway serves what a Config describes. It is safe for concurrent use.
type Gateway struct {
	config   Config
	tracing  *middleware.Tracing
	routes   []middleware.Route // of config.Routes
	clusters map[string]*cluster
	limit    *bucket
	handler  http.Handler
}

// Options are what a program, and not its operator, says of a gateway.
type Options struct {
	// Logger has what is worth telling; nil is slog.Default().
	Logger *slog.Logger
	// Transport changes what makes the connections of each cluster; nil leaves it.
	Transport func(*http.Transport)
	// Filter stands before the gateway's own, inside of the span; nil is none.
	Filter func(http.Handler) http.Handler
	// Edit changes what the file made of meshtrace's configuration; nil leaves it.
	Edit func(*middleware.Config)
}

// New builds a gateway. Its error tells every mistake of cfg.
func New(ctx context.Context, cfg Config, opts Options) (*Gateway, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	g := &Gateway{config: cfg, clusters: make(map[string]*cluster)}
	var errs []error
	for i := range cfg.Routes {
		r, err := cfg.Routes[i].middlewareRoute(cfg.Clusters)
		errs = append(errs, err)
		g.routes = append(g.routes, r)
	}
	m, err := cfg.middlewareConfig(g.describe)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	m.Logger = opts.Logger
	if cfg.Tracing == nil {
		m.Getenv = func(name string) string { return map[string]string{"OTEL_SDK_DISABLED": "true"}[name] }
	}
	if opts.Edit != nil {
		opts.Edit(&m)
	}
	if g.tracing, err = middleware.Setup(ctx, m); err != nil {
		return nil, err
	}
	for name, c := range cfg.Clusters {
		g.clusters[name] = newCluster(name, c, g.tracing, opts.Transport)
	}
	if l := cfg.RateLimit; l != nil {
		g.limit = &bucket{rate: l.PerSecond, burst: max(float64(l.Burst), 1), tokens: max(float64(l.Burst), 1), last: time.Now()}
	}
	logger := opts.Logger
	if logger == nil {
		logger = slog.Default()
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     &router{g},
		FlushInterval: -1, // what an upstream says reaches the caller at once
		ErrorHandler:  fail,
		ErrorLog:      slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	handler := g.filters(proxy)
	if opts.Filter != nil {
		handler = opts.Filter(handler)
	}
	g.handler = g.tracing.Handler(handler)
	return g, nil
}

// ServeHTTP serves a request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }

// Tracing returns the tracing of the gateway.
func (g *Gateway) Tracing() *middleware.Tracing { return g.tracing }

// Close sends the spans that are left and closes idle connections.
func (g *Gateway) Close(ctx context.Context) error {
	for _, c := range g.clusters {
		c.close()
	}
	return g.tracing.Shutdown(ctx)
}

// match returns the route of a request; false when there is none.
func (g *Gateway) match(r *http.Request) (int, bool) {
	if r.RequestURI == "*" || r.Method == http.MethodConnect {
		return 0, false
	}
	for i := range g.config.Routes {
		if g.config.Routes[i].matches(r) {
			return i, true
		}
	}
	return 0, false
}

// describe tells meshtrace what is known of a request before its span starts.
func (g *Gateway) describe(r *http.Request) middleware.Route {
	if i, ok := g.match(r); ok {
		return g.routes[i]
	}
	return middleware.Route{}
}

// filters are what stands before the upstream: health check, rate limit, faults, and
// routes that need none. What they refuse is told by a response flag.
func (g *Gateway) filters(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse := func(flag string, status int, text string) {
			middleware.AddResponseFlags(r.Context(), flag)
			reply(w, r, status, text)
		}
		if h := g.config.HealthCheck; h != nil && !h.PassThrough && r.URL.Path == h.Path {
			return
		}
		if r.Method == "QUERY" && r.Header.Get("Content-Type") == "" { // T-22
			reply(w, r, http.StatusBadRequest, "")
			return
		}
		if g.limit != nil && !g.limit.take(time.Now()) {
			refuse(middleware.FlagRateLimited, http.StatusTooManyRequests, textRateLimit)
			return
		}
		i, ok := g.match(r)
		if !ok {
			refuse(middleware.FlagNoRoute, http.StatusNotFound, "")
			return
		}
		route := &g.config.Routes[i]
		if f := route.Fault; f != nil {
			if f.DelayMS > 0 {
				middleware.AddResponseFlags(r.Context(), middleware.FlagDelayInjected)
				if !sleep(r.Context(), time.Duration(f.DelayMS)*time.Millisecond) {
					return
				}
			}
			if f.Abort != 0 {
				refuse(middleware.FlagFaultInjected, f.Abort, textFault)
				return
			}
		}
		switch {
		case route.Respond != nil:
			reply(w, r, route.Respond.Status, route.Respond.Body)
			return
		case route.Redirect != nil:
			route.Redirect.serve(w, r)
			return
		}
		cl := g.clusters[route.Cluster]
		switch {
		case cl == nil:
			refuse(middleware.FlagNoCluster, http.StatusServiceUnavailable, "")
		case len(cl.Hosts) == 0:
			refuse(middleware.FlagNoHealthyUpstream, http.StatusServiceUnavailable, textNoHost)
		case !cl.enter():
			refuse(middleware.FlagUpstreamOverflow, http.StatusServiceUnavailable, textReset+middleware.ResetOverflow.Error())
		default:
			defer cl.active.Add(-1)
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), routeKey{}, route)))
		}
	})
}

type routeKey struct{}

// routeFrom returns the route of a request on its way upstream.
func routeFrom(ctx context.Context) *Route { return ctx.Value(routeKey{}).(*Route) }

// rewrite passes a request on as it is, but for what its route rewrites. ReverseProxy
// takes the forwarding headers away before it; they are the ones that meshtrace has
// settled.
func rewrite(r *httputil.ProxyRequest) {
	route := routeFrom(r.In.Context())
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
		if lines, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = lines
		}
	}
	r.Out.URL.Scheme, r.Out.Host = "http", r.In.Host
	if _, ok := r.Out.Header[headerTimeout]; !ok {
		r.Out.Header[headerTimeout] = []string{fmt.Sprint(route.expected().Milliseconds())}
	}
	if route.PrefixRewrite != "" {
		r.Out.Header["X-Envoy-Original-Path"] = []string{r.In.URL.RequestURI()}
		r.Out.URL.Path, r.Out.URL.RawPath = route.PrefixRewrite+strings.TrimPrefix(r.Out.URL.Path, route.matched()), ""
	}
	if route.HostRewrite != "" {
		r.Out.Header["X-Envoy-Original-Host"] = []string{r.In.Host}
		r.Out.Host = route.HostRewrite
	}
}

// headerTimeout tells the upstream how long its answer is waited for, in milliseconds.
const headerTimeout = "X-Envoy-Expected-Rq-Timeout-Ms"

// matched is the part of the path that a rewrite replaces.
func (r *Route) matched() string {
	switch {
	case r.Path != "":
		return r.Path
	case r.Prefix != "":
		return r.Prefix
	}
	return "/"
}

// serve sends the caller elsewhere.
func (d *Redirect) serve(w http.ResponseWriter, r *http.Request) {
	u := *r.URL
	u.Scheme, u.Host = "http", r.Host
	if r.TLS != nil {
		u.Scheme = "https"
	}
	if d.Host != "" {
		u.Host = d.Host
	}
	if d.Path != "" {
		u.Path, u.RawPath, u.RawQuery = d.Path, "", ""
	}
	w.Header().Set("Location", u.String())
	reply(w, r, http.StatusMovedPermanently, "")
}

// sleep waits, and tells whether the caller is still there.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// bucket lets rate requests a second through, and burst at once.
type bucket struct {
	mu          sync.Mutex
	rate, burst float64
	tokens      float64
	last        time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.burst, b.tokens+b.rate*now.Sub(b.last).Seconds())
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
