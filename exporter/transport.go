package exporter

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"time"
)

// version is the exporter's in User-Agent.
const version = "0.1.0"

const userAgent = "Meshtrace-OTLP-Exporter-Go/" + version

const (
	maxAnswer       = 4 << 20  // bytes of an answer's body, decompressed; OTLP's limit
	maxAnswerHeader = 64 << 10 // bytes of its header, and of its trailer
	dialTimeout     = 5 * time.Second

	// Nothing heard on an HTTP/2 connection for pingAfter: is it still there? gRPC
	// servers close a connection at the third ping without a call, so an idle one is
	// closed before.
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
	idleTimeout = 25 * time.Second
)

// link is what both protocols have in common: the way to the collector. It is safe
// for concurrent use.
type link struct {
	*settings
	target target
	speaks Protocol
	gzips  sync.Pool // of *zipped
	proxy  *url.URL  // nil: none
	named  string    // the variable that says so
	fresh  *headerAsker

	mu  sync.Mutex
	way *way // for the next request

	sniffing sync.Mutex
	sniffed  time.Time // when the endpoint was last looked at closely
	found    *SendError
}

// newTransport returns the Sender for s.
func newTransport(s *settings, panicked func(doing string, v any)) Sender {
	asker := &headerAsker{ask: s.headerFunc, panicked: panicked, turn: make(chan struct{}, 1)}
	newLink := func(t target, p Protocol) *link {
		l := &link{settings: s, target: t, speaks: p, fresh: asker}
		if s.proxies != nil {
			l.proxy, l.named = s.proxies.of(t, p)
		}
		l.way = l.newWay()
		return l
	}
	switch {
	case s.file != "":
		return newFile(s)
	case s.protocol == GRPC:
		return &grpcSender{newLink(s.target, GRPC)}
	case s.protocol != Auto:
		return &httpSender{link: newLink(s.target, s.protocol)}
	}
	return &askingSender{
		hint: s.hint,
		grpc: grpcSender{newLink(s.grpc, GRPC)},
		http: httpSender{link: newLink(s.http, HTTPProtobuf)},
	}
}

// way is a client with connections of its own. A request that failed without an
// answer may leave an HTTP/2 connection behind on which nothing arrives any more, and
// the next request would wait on it for the ping that tells: so that one takes a new
// way, and the old one is closed under its last request.
type way struct {
	client *http.Client
	own    *http.Transport // nil when the client is the caller's

	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	requests int
	retired  bool
}

func (l *link) newWay() *way {
	w := &way{client: &http.Client{}, conns: make(map[net.Conn]struct{})}
	if l.client != nil {
		*w.client = *l.client
	} else {
		w.own = l.transport(w)
		w.client.Transport = w.own
	}
	// A redirect is an answer: it could lead headers with credentials elsewhere.
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return w
}

// begin returns the way for a request, which calls end on it.
func (l *link) begin() *way {
	l.mu.Lock()
	w := l.way
	w.mu.Lock()
	w.requests++
	w.mu.Unlock()
	l.mu.Unlock()
	return w
}

// end notes the end of a request. One that failed retires the way.
func (l *link) end(w *way, failed bool) {
	if failed {
		l.retire(w)
	}
	w.mu.Lock()
	w.requests--
	last := w.retired && w.requests == 0
	w.mu.Unlock()
	if last {
		w.close()
	}
}

// retire lets no further request take w. A caller's client has its own ways.
func (l *link) retire(w *way) {
	if w.own == nil {
		return
	}
	l.mu.Lock()
	if l.way == w {
		l.way = l.newWay()
	}
	l.mu.Unlock()
	w.mu.Lock()
	w.retired = true
	w.mu.Unlock()
}

// close closes all connections.
func (w *way) close() {
	if w.own == nil {
		return
	}
	w.own.CloseIdleConnections()
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.Close() // nobody reads from it
	}
	clear(w.conns)
	w.retired = true
}

// opened keeps c until it is closed, or closes it when the way is.
func (w *way) opened(c net.Conn) net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.retired && w.requests == 0 {
		c.Close() // dialled for a request that is over
	} else {
		w.conns[c] = struct{}{}
	}
	return &wayConn{c, w}
}

// wayConn is a connection of a way.
type wayConn struct {
	net.Conn
	way *way
}

func (c *wayConn) Close() error {
	c.way.mu.Lock()
	delete(c.way.conns, c.Conn)
	c.way.mu.Unlock()
	return c.Conn.Close()
}

func (l *link) transport(w *way) *http.Transport {
	p := l.speaks
	t := &http.Transport{
		TLSClientConfig:        l.tlsConfig(),
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConnsPerHost:    l.inFlight,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		Protocols:              new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  pingAfter,
			PingTimeout:      pingTimeout,
			WriteByteTimeout: pingAfter,
		},
	}
	if runtime.GOOS != "js" || l.target.unix != "" { // js has fetch, and only while nothing else is named
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := l.dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return w.opened(c), nil
		}
	}
	plaintext := l.target.url.Scheme == "http"
	switch {
	case p != GRPC:
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
	case plaintext:
		t.Protocols.SetUnencryptedHTTP2(true)
		t.DisableCompression = true // gRPC has its own
	default:
		t.Protocols.SetHTTP2(true)
		t.DisableCompression = true
	}
	if l.proxy != nil && !l.tunnels() {
		t.Proxy = func(*http.Request) (*url.URL, error) { return l.proxy, nil }
	}
	return t
}

// tunnels reports whether connections go through the proxy by dial. Of HTTP/2 in
// plaintext a proxy knows nothing, so net/http would speak HTTP/1 to it.
func (l *link) tunnels() bool {
	return l.proxy != nil && l.speaks == GRPC && l.target.url.Scheme == "http"
}

// tlsConfig is for the connections of one way: a changed file of roots holds from the
// next way on, and a way that fails, as it does when its roots are old, is the last.
func (l *link) tlsConfig() *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if l.tls != nil {
		cfg = l.tls.Clone()
	}
	if l.roots != nil {
		cfg.RootCAs = l.roots.get()
	}
	return cfg
}

func (l *link) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := l.settings.dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext
	}
	switch {
	case l.target.unix != "":
		network, addr = "unix", l.target.unix
	case l.tunnels():
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return tunnel(ctx, dial, l.proxy, addr)
	}
	return dial(ctx, network, addr)
}

// Close closes all connections. It comes after the last Send.
func (l *link) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.way.close()
	return nil
}

// withTimeout bounds one request.
func (l *link) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if l.timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, l.timeout)
}

// post sends one request. frame puts gRPC's prefix before the message. Neither
// message nor anything made of it is read after post returned.
func (l *link) post(ctx context.Context, message []byte, header http.Header, frame bool) (*http.Response, []byte, error) {
	b := &body{data: message}
	if l.compression == Gzip && len(message) > 0 {
		z, _ := l.gzips.Get().(*zipped)
		if z == nil {
			z = newZipped()
		}
		defer l.gzips.Put(z)
		b.data = z.compress(message)
	}
	if frame {
		b.frame(l.compression == Gzip && len(message) > 0)
	}
	defer b.detach()

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.target.url.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	req.Body = b.reader()
	req.GetBody = func() (io.ReadCloser, error) { return b.reader(), nil }
	req.ContentLength = int64(b.len())
	for k, v := range l.headers {
		req.Header[k] = v
	}
	if l.headerFunc != nil {
		fresh, err := l.fresh.get(ctx)
		if err != nil {
			return nil, nil, err
		}
		for k, v := range fresh {
			req.Header[k] = v
		}
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", userAgent)
	}
	w, failed := l.begin(), true
	defer func() { l.end(w, failed) }()
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	failed = err != nil
	if err == nil && len(answer) > maxAnswer {
		err = errAnswerSize
	}
	return resp, answer, err
}

var errAnswerSize = fmt.Errorf("the answer has more than %d MiB", maxAnswer>>20)

// drop lets further requests take new connections.
func (l *link) drop() { l.end(l.begin(), true) }

// body is a request's, whose memory is used again afterwards. net/http may go on
// reading a body after its answer is there, or after it failed: detach ends that.
type body struct {
	mu       sync.RWMutex
	detached bool
	prefix   []byte
	data     []byte
}

var errDetached = errors.New("exporter: the request is over")

func (b *body) frame(compressed bool) {
	n := len(b.data)
	b.prefix = []byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	if compressed {
		b.prefix[0] = 1
	}
}

func (b *body) len() int { return len(b.prefix) + len(b.data) }

func (b *body) detach() {
	b.mu.Lock()
	b.detached = true
	b.mu.Unlock()
}

func (b *body) reader() io.ReadCloser { return &bodyReader{body: b} }

type bodyReader struct {
	body *body
	off  int
}

func (r *bodyReader) Read(p []byte) (int, error) {
	b := r.body
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.detached {
		return 0, errDetached
	}
	n := 0
	if r.off < len(b.prefix) {
		n = copy(p, b.prefix[r.off:])
	}
	if off := r.off + n - len(b.prefix); off >= 0 && off < len(b.data) {
		n += copy(p[n:], b.data[off:])
	}
	r.off += n
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *bodyReader) Close() error { return nil }

// zipped compresses one request at a time.
type zipped struct {
	w   *gzip.Writer
	out bytes.Buffer
}

func newZipped() *zipped {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
	return &zipped{w: w}
}

func (z *zipped) compress(b []byte) []byte {
	z.out.Reset()
	z.w.Reset(&z.out)
	z.w.Write(b) // a Buffer takes everything
	z.w.Close()
	return z.out.Bytes()
}

// longestAsked bounds what is noted of a delay that a collector asked for.
const longestAsked = 200 * 365 * 24 * time.Hour

// retryAfter reads a Retry-After header: seconds or an HTTP date. It is 0 when the header is
// absent, unreadable or says that the time is past.
func retryAfter(v string, now time.Time) time.Duration {
	v = strings.TrimSpace(v)
	if v == "" || len(v) > 64 {
		return 0
	}
	digits := true
	var seconds time.Duration
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			digits = false
			break
		}
		seconds = min(seconds*10+time.Duration(v[i]-'0'), longestAsked/time.Second)
	}
	if digits {
		return seconds * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), longestAsked))
}
