package exporter

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshtrace/meshtrace/internal/collectortest"
	"github.com/meshtrace/meshtrace/internal/otelenv"
)

func TestProxies(t *testing.T) {
	const h, s = "proxy.example:3128", "secure.example:3129"
	for name, tt := range map[string]struct {
		env      []string
		endpoint string
		as       Protocol
		want     string // host of the proxy
		problems int
	}{
		"none":                    {nil, "http://c.example", HTTPProtobuf, "", 0},
		"http":                    {[]string{"HTTP_PROXY", h, "HTTPS_PROXY", s}, "http://c.example", HTTPProtobuf, h, 0},
		"https":                   {[]string{"HTTP_PROXY", h, "HTTPS_PROXY", "https://" + s}, "https://c.example", HTTPJSON, s, 0},
		"gRPC in plaintext":       {[]string{"HTTP_PROXY", h, "HTTPS_PROXY", s}, "http://c.example", GRPC, s, 0},
		"lower case":              {[]string{"http_proxy", h}, "http://c.example", HTTPProtobuf, h, 0},
		"upper wins":              {[]string{"http_proxy", s, "HTTP_PROXY", h}, "http://c.example", HTTPProtobuf, h, 0},
		"CGI":                     {[]string{"HTTP_PROXY", h, "REQUEST_METHOD", "GET"}, "http://c.example", HTTPProtobuf, "", 0},
		"bad":                     {[]string{"HTTP_PROXY", "ftp://user:s3cret@x", "http_proxy", h}, "http://c.example", HTTPProtobuf, h, 1},
		"localhost":               {[]string{"HTTP_PROXY", h}, "http://localhost:4318", HTTPProtobuf, "", 0},
		"loopback":                {[]string{"HTTP_PROXY", h}, "http://127.3.2.1:4318", HTTPProtobuf, "", 0},
		"loopback, v6":            {[]string{"HTTP_PROXY", h}, "http://[::1]:4318", HTTPProtobuf, "", 0},
		"unix":                    {[]string{"HTTP_PROXY", h, "HTTPS_PROXY", h}, "unix:/x", GRPC, "", 0},
		"NO_PROXY *":              {[]string{"HTTP_PROXY", h, "NO_PROXY", "*"}, "http://c.example", HTTPProtobuf, "", 0},
		"NO_PROXY name":           {[]string{"HTTP_PROXY", h, "NO_PROXY", "x, c.example"}, "http://C.example.", HTTPProtobuf, "", 0},
		"NO_PROXY domain":         {[]string{"HTTP_PROXY", h, "NO_PROXY", "example"}, "http://c.example", HTTPProtobuf, "", 0},
		"NO_PROXY other domain":   {[]string{"HTTP_PROXY", h, "NO_PROXY", "xample"}, "http://c.example", HTTPProtobuf, h, 0},
		"NO_PROXY subdomains":     {[]string{"HTTP_PROXY", h, "no_proxy", ".c.example"}, "http://c.example", HTTPProtobuf, h, 0},
		"NO_PROXY star":           {[]string{"HTTP_PROXY", h, "no_proxy", "*.example"}, "http://c.example", HTTPProtobuf, "", 0},
		"NO_PROXY address":        {[]string{"HTTP_PROXY", h, "NO_PROXY", "10.1.2.3"}, "http://10.1.2.3:4318", HTTPProtobuf, "", 0},
		"NO_PROXY network":        {[]string{"HTTP_PROXY", h, "NO_PROXY", "10.0.0.0/8"}, "http://10.1.2.3:4318", HTTPProtobuf, "", 0},
		"NO_PROXY other network":  {[]string{"HTTP_PROXY", h, "NO_PROXY", "10.0.0.0/16"}, "http://10.1.2.3:4318", HTTPProtobuf, h, 0},
		"NO_PROXY v6":             {[]string{"HTTP_PROXY", h, "NO_PROXY", "[2001:db8::1]"}, "http://[2001:db8::1]:4318", HTTPProtobuf, "", 0},
		"NO_PROXY port":           {[]string{"HTTP_PROXY", h, "NO_PROXY", "c.example:4318"}, "http://c.example:4318", HTTPProtobuf, "", 0},
		"NO_PROXY another's port": {[]string{"HTTP_PROXY", h, "NO_PROXY", "c.example:4319"}, "http://c.example:4318", HTTPProtobuf, h, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := otelenv.New(env(tt.env...))
			p := readProxies(r)
			e, err := parseEndpoint(tt.endpoint)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if u, from := p.of(e.resolve(tt.as, e.scheme != "https", false), tt.as); u != nil {
				if got = u.Host; from == "" {
					t.Error("no variable is named")
				}
			}
			if got != tt.want || len(r.Problems()) != tt.problems {
				t.Errorf("proxy %q, want %q; problems %v", got, tt.want, r.Problems())
			}
			for _, problem := range r.Problems() {
				if strings.Contains(problem.Error(), "s3cret") {
					t.Errorf("a secret is told: %v", problem)
				}
			}
		})
	}
}

// httpProxy is a proxy that forwards, and tunnels where it is asked to, all to one place.
type httpProxy struct {
	to string

	mu    sync.Mutex
	asked []string // method, address and credentials
	wg    sync.WaitGroup
}

func (p *httpProxy) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, req.Method+" "+req.Host+" "+req.Header.Get("Proxy-Authorization"))
	p.mu.Unlock()
	out, err := net.Dial("tcp", p.to)
	if err != nil {
		io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer out.Close()
	if req.Method == http.MethodConnect {
		io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	} else {
		req.Write(out)
	}
	done := make(chan struct{})
	go func() { defer close(done); io.Copy(out, r); out.(*net.TCPConn).CloseWrite() }()
	io.Copy(c, out)
	c.Close()
	<-done
}

// Spans go through the proxy that the environment names, gRPC in plaintext by a tunnel.
func TestThroughProxy(t *testing.T) {
	for _, tt := range []struct {
		p        Protocol
		variable string
		asks     string
	}{
		{HTTPProtobuf, "HTTP_PROXY", "POST collector.example:4318 Basic dTpw"},
		{GRPC, "HTTPS_PROXY", "CONNECT collector.example:4318 Basic dTpw"},
		{Auto, "HTTPS_PROXY", "CONNECT collector.example:4317 Basic dTpw"},
	} {
		t.Run(tt.p.String(), func(t *testing.T) {
			c := collectortest.Start(t)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			p := &httpProxy{to: c.Addr()}
			p.wg.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					p.wg.Go(func() { p.serve(conn) })
				}
			})
			endpoint := "http://collector.example:4318"
			if tt.p == Auto {
				endpoint = "http://collector.example:4317"
			}
			e := start(t, Config{Endpoint: endpoint, Protocol: tt.p, Getenv: env(tt.variable, "http://u:p@"+l.Addr().String())})
			end(e, 0, 10)
			all(t, e, c, 10)
			c.Close()
			l.Close()
			p.wg.Wait()
			if len(p.asked) == 0 || p.asked[0] != tt.asks {
				t.Errorf("the proxy was asked %q, want %q", p.asked, tt.asks)
			}
			for _, s := range e.Settings() {
				if strings.Contains(s.Value, "u:p") {
					t.Errorf("a secret is told: %+v", s)
				}
			}
		})
	}
	t.Run("away", func(t *testing.T) {
		overBoth(t, func(t *testing.T, p Protocol) {
			c := collectortest.Start(t)
			c.Refuse()
			e := start(t, Config{Endpoint: "http://collector.example:4318", Protocol: p, Getenv: env("HTTP_PROXY", c.Addr(), "HTTPS_PROXY", c.Addr())})
			end(e, 0, 1)
			for len(logged(e)) == 0 {
				time.Sleep(time.Millisecond)
			}
			variable := "HTTP_PROXY"
			if p == GRPC {
				variable = "HTTPS_PROXY"
			}
			want := "cannot be reached through the proxy " + c.Addr() + ": "
			if l := logged(e); !strings.Contains(l[0], want) || !strings.HasSuffix(l[0], ": correct "+variable+", or add the host to NO_PROXY") {
				t.Errorf("lines %q", l)
			}
		})
	})
}
