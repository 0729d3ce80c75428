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
	client *http.Client
	own    *http.Transport // nil when the client is the caller's
	gzips  sync.Pool       // of *zipped

	sniffing sync.Mutex
	sniffed  time.Time // when the endpoint was last looked at closely
	found    *SendError
}

// newTransport returns the Sender for s.
func newTransport(s *settings) Sender {
	switch s.protocol {
	case GRPC:
		return &grpcSender{newLink(s, s.target, GRPC)}
	case HTTPProtobuf:
		return &httpSender{newLink(s, s.target, HTTPProtobuf)}
	}
	return &askingSender{grpc: grpcSender{newLink(s, s.target, GRPC)}, http: httpSender{newLink(s, s.http, HTTPProtobuf)}}
}

func newLink(s *settings, t target, p Protocol) *link {
	l := &link{settings: s, target: t, client: &http.Client{}}
	if s.client != nil {
		*l.client = *s.client
	} else {
		l.own = l.transport(p)
		l.client.Transport = l.own
	}
	// A redirect is an answer: it could lead headers with credentials elsewhere.
	l.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return l
}

func (l *link) transport(p Protocol) *http.Transport {
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
		t.DialContext = l.dial
	}
	plaintext := l.target.url.Scheme == "http"
	switch {
	case p == HTTPProtobuf:
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
	case plaintext:
		t.Protocols.SetUnencryptedHTTP2(true)
		t.DisableCompression = true // gRPC has its own
	default:
		t.Protocols.SetHTTP2(true)
		t.DisableCompression = true
	}
	if l.target.unix == "" && (p == HTTPProtobuf || !plaintext) { // no proxy speaks HTTP/2 in plaintext
		t.Proxy = http.ProxyFromEnvironment
	}
	return t
}

func (l *link) tlsConfig() *tls.Config {
	if l.tls == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return l.tls.Clone()
}

func (l *link) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	if l.target.unix != "" {
		network, addr = "unix", l.target.unix
	}
	return d.DialContext(ctx, network, addr)
}

// Close closes idle connections. There are no others after the last Send.
func (l *link) Close() error {
	if l.own != nil {
		l.own.CloseIdleConnections()
	}
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
	for k, v := range header {
		req.Header[k] = v
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", userAgent)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = errAnswerSize
	}
	return resp, answer, err
}

var errAnswerSize = fmt.Errorf("the answer has more than %d MiB", maxAnswer>>20)

// drop gives up connections that a failed request may have left in a bad state.
func (l *link) drop() {
	if l.own != nil {
		l.own.CloseIdleConnections()
	}
}

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
		seconds = min(seconds*10+time.Duration(v[i]-'0'), longestTold/time.Second+1)
	}
	if digits {
		return min(seconds*time.Second, longestTold)
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), longestTold))
}
