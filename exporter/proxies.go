package exporter

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/meshtrace/meshtrace/internal/otelenv"
)

// proxies is what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say, read as net/http reads them;
// but from Config.Getenv, and with what cannot be used reported.
type proxies struct {
	http, https         *url.URL
	httpFrom, httpsFrom string
	except              []exception
}

// exception is one member of NO_PROXY.
type exception struct {
	all    bool
	prefix netip.Prefix
	suffix string // ".example.com"
	exact  string // "example.com", "" when the entry names subdomains alone
	port   string
}

const allowedProxy = "host:port, http://host:port, https://host:port or socks5://host:port"

func readProxies(env *otelenv.Reader) *proxies {
	p := &proxies{}
	names := []string{"HTTP_PROXY", "http_proxy"}
	if _, cgi := env.String("REQUEST_METHOD"); cgi {
		names = names[1:] // a CGI program's HTTP_PROXY is the client's Proxy header
	}
	p.http, p.httpFrom = readProxy(env, names)
	p.https, p.httpsFrom = readProxy(env, []string{"HTTPS_PROXY", "https_proxy"})
	if no, _, ok := env.First("NO_PROXY", "no_proxy"); ok {
		p.except = parseExceptions(no)
	}
	return p
}

func readProxy(env *otelenv.Reader, names []string) (*url.URL, string) {
	for _, n := range names {
		v, ok := env.String(n)
		if !ok {
			continue
		}
		full := v
		if !strings.Contains(v, "://") {
			full = "http://" + v
		}
		if u, err := url.Parse(full); err == nil && u.Hostname() != "" {
			switch u.Scheme {
			case "http", "https", "socks5", "socks5h":
				return u, n
			}
		}
		env.Reject(n, redactURL(v), allowedProxy)
	}
	return nil, ""
}

func parseExceptions(s string) (list []exception) {
	for e := range strings.SplitSeq(s, ",") {
		e = strings.ToLower(strings.TrimSpace(e))
		if e == "" {
			continue
		}
		var x exception
		switch {
		case e == "*":
			x.all = true
			list = append(list, x)
			continue
		case !strings.HasSuffix(e, "]"):
			if host, port, err := net.SplitHostPort(e); err == nil {
				e, x.port = host, port
			}
		}
		e = strings.Trim(e, "[]")
		if prefix, err := netip.ParsePrefix(e); err == nil {
			x.prefix = prefix.Masked()
		} else if a, err := netip.ParseAddr(e); err == nil {
			a = a.Unmap()
			x.prefix = netip.PrefixFrom(a, a.BitLen())
		} else {
			e = strings.TrimPrefix(e, "*")
			if name, subdomains := strings.CutPrefix(e, "."); subdomains {
				x.suffix = "." + name
			} else {
				x.suffix, x.exact = "."+e, e
			}
		}
		list = append(list, x)
	}
	return list
}

// of returns the proxy for requests to t, and the variable that names it; nil for none.
// A service on this machine has none. What has no TLS but is gRPC goes through
// HTTPS_PROXY, as gRPC has it: a tunnel is the only way.
func (p *proxies) of(t target, as Protocol) (*url.URL, string) {
	proxy, from := p.https, p.httpsFrom
	if t.url.Scheme == "http" && as != GRPC {
		proxy, from = p.http, p.httpFrom
	}
	if proxy == nil || t.unix != "" {
		return nil, ""
	}
	host, port, err := net.SplitHostPort(t.addr)
	if err != nil {
		return nil, ""
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	addr, err := netip.ParseAddr(host)
	addr = addr.Unmap()
	if host == "localhost" || err == nil && addr.IsLoopback() {
		return nil, ""
	}
	for _, x := range p.except {
		if x.port != "" && x.port != port {
			continue
		}
		if x.all || x.prefix.IsValid() && err == nil && x.prefix.Contains(addr) ||
			x.exact != "" && host == x.exact || x.suffix != "" && strings.HasSuffix(host, x.suffix) {
			return nil, ""
		}
	}
	return proxy, from
}

var errTunnelSOCKS = errors.New("a SOCKS proxy cannot carry gRPC in plaintext: use TLS, an HTTP proxy or NO_PROXY")

// proxyOp is the Op of a net.OpError that is about a proxy.
const proxyOp = "proxyconnect"

// tunnel dials address through an HTTP proxy.
func tunnel(ctx context.Context, dial dialer, proxy *url.URL, address string) (net.Conn, error) {
	if strings.HasPrefix(proxy.Scheme, "socks") {
		return nil, &net.OpError{Op: proxyOp, Net: "tcp", Err: errTunnelSOCKS}
	}
	port := proxy.Port()
	if port == "" {
		if port = "80"; proxy.Scheme == "https" {
			port = "443"
		}
	}
	failed := func(err error) error { return &net.OpError{Op: proxyOp, Net: "tcp", Err: err} } // as net/http has it
	c, err := dial(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
	if err != nil {
		return nil, failed(err)
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	if proxy.Scheme == "https" {
		c = tls.Client(c, &tls.Config{ServerName: proxy.Hostname(), MinVersion: tls.VersionTLS12})
	}
	err = connect(c, proxy, address)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, failed(err)
	}
	return c, nil
}

// connect asks the proxy at c for a tunnel (RFC 9110, 9.3.6). It reads no byte beyond the
// answer's header: those are the collector's.
func connect(c net.Conn, proxy *url.URL, address string) error {
	req := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: " + userAgent + "\r\n"
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		req += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)) + "\r\n"
	}
	if _, err := c.Write([]byte(req + "\r\n")); err != nil {
		return err
	}
	var head []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if len(head) > maxAnswerHeader {
			return errors.New("its answer has no end")
		}
		if _, err := c.Read(one); err != nil {
			return err
		}
		head = append(head, one[0])
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return nil
}
