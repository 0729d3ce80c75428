package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/meshtrace/meshtrace/middleware"
)

// cluster is a Cluster that serves.
type cluster struct {
	Cluster
	name   string
	turn   atomic.Uint64
	active atomic.Int64
	send   http.RoundTripper // tracing.Transport over a transport of the cluster's own
	close  func()
}

// newCluster makes the connections of a cluster; edit may change how.
func newCluster(name string, c Cluster, tracing *middleware.Tracing, edit func(*http.Transport)) *cluster {
	base := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		DisableCompression:  true, // bodies pass as they are
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
		Protocols:           new(http.Protocols),
	}
	base.Protocols.SetHTTP1(!c.HTTP2)
	base.Protocols.SetUnencryptedHTTP2(c.HTTP2)
	if edit != nil {
		edit(base)
	}
	return &cluster{Cluster: c, name: name, send: tracing.Transport(base), close: base.CloseIdleConnections}
}

// next returns the host whose turn it is; false when there is none.
func (c *cluster) next() (Host, bool) {
	if len(c.Hosts) == 0 {
		return Host{}, false
	}
	return c.Hosts[(c.turn.Add(1)-1)%uint64(len(c.Hosts))], true
}

// enter takes one of the places of the circuit breaker; false when none is left.
func (c *cluster) enter() bool {
	if n := c.active.Add(1); c.MaxRequests != nil && n > int64(*c.MaxRequests) {
		c.active.Add(-1)
		return false
	}
	return true
}

// defaultTimeout is Envoy's for a route.
const defaultTimeout = 15 * time.Second

func (r *Route) timeout() time.Duration {
	if r.TimeoutMS == 0 {
		return defaultTimeout
	}
	return time.Duration(r.TimeoutMS) * time.Millisecond
}

// expected is how long the upstream may take for a try.
func (r *Route) expected() time.Duration {
	if retry := r.Retry; retry != nil && retry.PerTryTimeoutMS > 0 {
		return min(r.timeout(), time.Duration(retry.PerTryTimeoutMS)*time.Millisecond)
	}
	return r.timeout()
}

// maxReplay is how much of a body is kept to send it again. A longer one is sent once.
const maxReplay = 1 << 20

// router sends a request as often as its route allows.
type router struct{ gateway *Gateway }

func (rt *router) RoundTrip(req *http.Request) (*http.Response, error) {
	route := routeFrom(req.Context())
	cl := rt.gateway.clusters[route.Cluster]
	ctx, cancel := context.WithTimeout(req.Context(), route.timeout())
	retry := Retry{NumRetries: new(int)}
	if route.Retry != nil {
		retry = *route.Retry
	}
	tries := 2
	if retry.NumRetries != nil {
		tries = 1 + *retry.NumRetries
	}
	body, err := newReplay(req, len(retry.On) > 0)
	if err != nil {
		cancel()
		return nil, err
	}
	if !body.whole {
		tries = 1
	}
	for try := 1; ; try++ {
		resp, err := attempt(ctx, cl, req, body, retry.PerTryTimeoutMS)
		again := ctx.Err() == nil && retry.again(resp, err)
		if again && try < tries {
			if err == nil {
				resp.Body.Close()
			}
			continue
		}
		if again { // the retry limit is noted before what became of the last try
			middleware.AddResponseFlags(ctx, middleware.FlagUpstreamRetryLimit)
		}
		if err != nil {
			cancel()
			if try > 1 {
				err = &retriedError{err}
			}
			return nil, err
		}
		resp.Body = closeThen(resp.Body, cancel)
		return resp, nil
	}
}

// attempt sends the request once, to the host whose turn it is.
func attempt(ctx context.Context, cl *cluster, req *http.Request, body *replay, perTryMS int) (*http.Response, error) {
	host, _ := cl.next() // there is one, or the request had been refused
	ctx, cancel := context.WithCancelCause(ctx)
	if perTryMS > 0 {
		// A try is over when its response has begun.
		timer := time.AfterFunc(time.Duration(perTryMS)*time.Millisecond, func() { cancel(middleware.ErrPerTryTimeout) })
		defer timer.Stop()
	}
	ctx = middleware.WithUpstream(ctx, middleware.Upstream{Address: host.Address, HostMetadata: host.Metadata})
	out := req.Clone(ctx)
	out.URL.Host = host.Address
	if req.Body != nil {
		out.Body = body.reader()
	}
	resp, err := cl.send.RoundTrip(out)
	if err != nil {
		if errors.Is(context.Cause(ctx), middleware.ErrPerTryTimeout) {
			err = middleware.ErrPerTryTimeout // over HTTP/2 net/http says canceled
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = closeThen(resp.Body, func() { cancel(nil) })
	return resp, nil
}

// again tells whether the outcome of a try is one to try again for.
func (r *Retry) again(resp *http.Response, err error) bool {
	status := 0
	if err == nil {
		status = resp.StatusCode
	}
	reset := middleware.ResetOf(err)
	return slices.ContainsFunc(r.On, func(on string) bool {
		switch on {
		case "5xx":
			return err != nil || status >= 500
		case "gateway-error":
			return err != nil || status >= 502 && status <= 504
		case "retriable-4xx":
			return status == http.StatusConflict
		case "reset":
			return err != nil
		case "connect-failure":
			return reset.Flag() == middleware.FlagUpstreamConnectionFailure
		case "refused-stream":
			return reset == middleware.ResetRemoteRefused
		}
		return false
	})
}

// retriedError is the error of a try that was not the first.
type retriedError struct{ error }

func (e *retriedError) Unwrap() error { return e.error }

// replay is a request body that can be sent again.
type replay struct {
	kept  []byte
	rest  io.Reader
	whole bool // kept is all of it
}

// newReplay keeps the beginning of a body where it may be needed again.
func newReplay(req *http.Request, keep bool) (*replay, error) {
	if req.Body == nil || !keep {
		return &replay{rest: req.Body, whole: req.Body == nil}, nil
	}
	kept, err := io.ReadAll(io.LimitReader(req.Body, maxReplay+1))
	return &replay{kept: kept, rest: req.Body, whole: len(kept) <= maxReplay}, err
}

func (b *replay) reader() io.ReadCloser {
	if b.whole {
		return io.NopCloser(bytes.NewReader(b.kept))
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(b.kept), b.rest))
}

// closeThen returns a body that calls done once it is closed. A body that can be written
// to, of a connection that changed its protocol, stays one.
func closeThen(b io.ReadCloser, done func()) io.ReadCloser {
	c := &closer{b, done}
	if w, ok := b.(io.Writer); ok {
		return struct {
			*closer
			io.Writer
		}{c, w}
	}
	return c
}

type closer struct {
	io.ReadCloser
	done func()
}

func (c *closer) Close() error {
	defer c.done()
	return c.ReadCloser.Close()
}
