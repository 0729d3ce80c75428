package middleware_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	otelprop "go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/span"
)

// proxyTo returns a gateway in front of an upstream, as a program would write it, and
// the URL it serves on.
func proxyTo(t *testing.T, cfg middleware.Config, upstream string, edits ...func(*httputil.ReverseProxy)) (string, *http.Client, *tracetest.SpanRecorder) {
	t.Helper()
	target, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	tracing, rec := setup(t, cfg)
	base := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(base.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		Transport: tracing.Transport(base),
		ErrorLog:  quiet,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		},
	}
	for _, edit := range edits {
		edit(proxy)
	}
	url, client := serve(t, tracing.Handler(proxy))
	return url, client, rec
}

// waitSpans returns the spans of a request, downstream first, once n have ended: a
// handler returns after its caller has read the response.
func waitSpans(t *testing.T, rec *tracetest.SpanRecorder, n int) []sdktrace.ReadOnlySpan {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(rec.Ended()) < n && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	ended := rec.Ended()
	if len(ended) != n {
		t.Fatalf("%d spans ended, want %d", len(ended), n)
	}
	slices.SortStableFunc(ended, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	return ended
}

func route(edit func(*middleware.Route)) func(*http.Request) middleware.Route {
	r := middleware.Route{Upstream: middleware.Upstream{Cluster: "carts", ClusterName: "carts-observed"}}
	if edit != nil {
		edit(&r)
	}
	return func(*http.Request) middleware.Route { return r }
}

// The whole table of both spans. // T-1, T-3, T-6, T-20, T-21
func TestGatewayTags(t *testing.T) {
	upstream, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "four")
	}))
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan = true
	cfg.Proxy = middleware.Proxy{Node: "node-1", Zone: "zone-1", Cluster: "mesh-1"}
	cfg.Route = route(nil)
	address, client, rec := proxyTo(t, cfg, upstream)
	req, _ := http.NewRequest("POST", address+"/carts?id=7", strings.NewReader("abc"))
	req.Host = "shop.example:8080"
	req.Header.Set("User-Agent", "test/1")
	req.Header.Set("X-Client-Trace-Id", "c-1")
	req.Header.Set("X-Envoy-Downstream-Service-Cluster", "caller")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()

	spans := waitSpans(t, rec, 2)
	down, up := spans[0], spans[1]
	wantAttrs(t, down, map[string]string{
		"node_id": "node-1", "zone": "zone-1", "guid:x-client-trace-id": "c-1",
		"http.url": "http://shop.example:8080/carts?id=7", "http.method": "POST", "http.protocol": "HTTP/1.1",
		"downstream_cluster": "caller", "user_agent": "test/1", "peer.address": "127.0.0.1",
		"request_size": "3", "response_size": "4", "component": "proxy",
		"upstream_cluster": "carts", "upstream_cluster.name": "carts-observed",
		"http.status_code": "200", "response_flags": "-", "error": "-", "upstream_address": "-",
		"url.path": "/carts", // OpenTelemetry's beside them
	})
	host := strings.TrimPrefix(upstream, "http://")
	wantAttrs(t, up, map[string]string{
		"http.protocol": "HTTP/1.1", "upstream_address": host, "peer.address": host, "component": "proxy",
		"upstream_cluster": "carts", "upstream_cluster.name": "carts-observed",
		"http.status_code": "200", "response_flags": "-", "error": "-", "retry.count": "-",
		"http.url": "-", "http.method": "-", "user_agent": "-", "guid:x-request-id": "-",
		"request_size": "-", "response_size": "-", "node_id": "-", "zone": "-",
	})
	if up.Name() != "router carts-observed egress" || up.SpanKind() != trace.SpanKindClient || up.Parent().SpanID() != down.SpanContext().SpanID() {
		t.Errorf("upstream span = %q, %v, below %v", up.Name(), up.SpanKind(), up.Parent().SpanID())
	}
	if len(down.Events())+len(up.Events()) != 0 {
		t.Error("events without Verbose")
	}
}

// Without spans of their own the attempts tell the request's span alone. // T-21
func TestGatewayWithoutUpstreamSpans(t *testing.T) {
	got := make(chan string, 1)
	upstream, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Traceparent") }))
	cfg := middleware.Envoy()
	cfg.Route = route(nil)
	address, client, rec := proxyTo(t, cfg, upstream)
	get(t, client, address)
	s := waitSpans(t, rec, 1)[0]
	if tp := <-got; !strings.Contains(tp, s.SpanContext().SpanID().String()) {
		t.Errorf("traceparent upstream = %s, want the span %s", tp, s.SpanContext().SpanID())
	}
	wantAttrs(t, s, map[string]string{"upstream_cluster": "carts", "http.status_code": "200"})
}

// failures are the ways in which a call upstream ends without a whole response, on real
// sockets. // T-7, T-10, E-2, S-4
func TestGatewayFailures(t *testing.T) {
	tests := []struct {
		rule     string
		serve    func(net.Conn)
		timeouts func(context.Context) (context.Context, context.CancelFunc)
		down, up map[string]string
	}{
		{"refused", nil, nil,
			map[string]string{"http.status_code": "503", "response_flags": "UF", "error": "true"},
			map[string]string{"http.status_code": "0", "response_flags": "UF", "error": "true", "error.reason": "remote connection failure", "http.protocol": "-"}},
		{"closed", func(c net.Conn) {}, nil,
			map[string]string{"http.status_code": "503", "response_flags": "UC"},
			map[string]string{"response_flags": "UC", "error.reason": "connection termination", "http.protocol": "HTTP/1.1", "canceled": "-"}},
		{"reset", func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }, nil,
			map[string]string{"response_flags": "UC"},
			map[string]string{"response_flags": "UC", "error.reason": "connection termination"}},
		{"garbage", func(c net.Conn) { io.WriteString(c, "this is not HTTP\r\n\r\n") }, nil,
			map[string]string{"response_flags": "UPE"},
			map[string]string{"response_flags": "UPE", "error.reason": "protocol error"}},
		{"cut short", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour") }, nil,
			map[string]string{"http.status_code": "200", "response_flags": "UPE", "response_size": "4", "error": "-"},
			map[string]string{"http.status_code": "200", "response_flags": "UPE", "error": "true", "error.reason": "protocol error"}},
		{"route timeout", func(c net.Conn) { time.Sleep(200 * time.Millisecond) },
			func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, 20*time.Millisecond)
			},
			map[string]string{"response_flags": "UT"},
			map[string]string{"http.status_code": "0", "response_flags": "-", "canceled": "true", "error": "true", "error.reason": "-"}},
		{"per-try timeout", func(c net.Conn) { time.Sleep(200 * time.Millisecond) },
			func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeoutCause(ctx, 20*time.Millisecond, middleware.ErrPerTryTimeout)
			},
			map[string]string{"response_flags": "UT"},
			map[string]string{"http.status_code": "0", "response_flags": "UT", "canceled": "true", "error": "true", "error.reason": "-"}},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if tt.serve == nil {
				l.Close()
			} else {
				done := make(chan struct{})
				go func() {
					defer close(done)
					c, err := l.Accept()
					if err != nil {
						return
					}
					io.ReadAtLeast(c, make([]byte, 4096), 1)
					tt.serve(c)
					c.Close()
				}()
				t.Cleanup(func() { l.Close(); <-done })
			}
			cfg := middleware.Envoy()
			cfg.SpawnUpstreamSpan = true
			cfg.Route = route(nil)
			address, client, rec := proxyTo(t, cfg, "http://"+l.Addr().String(), func(p *httputil.ReverseProxy) {
				if tt.timeouts == nil {
					return
				}
				next := p.Transport
				p.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
					ctx, cancel := tt.timeouts(r.Context())
					defer cancel()
					return next.RoundTrip(r.WithContext(ctx))
				})
			})
			if resp, err := client.Get(address); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			spans := waitSpans(t, rec, 2)
			wantAttrs(t, spans[0], tt.down)
			tt.up["upstream_address"], tt.up["peer.address"] = l.Addr().String(), l.Addr().String()
			wantAttrs(t, spans[1], tt.up)
			if got := spans[1].Status().Code; got != codes.Unset { // S-4
				t.Errorf("status of the upstream span = %v, want Unset", got)
			}
		})
	}
}

// A caller of HTTP/2 who resets the stream is told from one whose connection ended, where
// a body was still to come. // T-7
func TestGatewayClientGoneHTTP2(t *testing.T) {
	for _, want := range []string{"DR", "DC"} {
		arrived := make(chan struct{})
		tracing, rec := setup(t, middleware.Envoy())
		srv := httptest.NewUnstartedServer(tracing.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(arrived)
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})))
		srv.Config.Protocols = new(http.Protocols)
		srv.Config.Protocols.SetUnencryptedHTTP2(true)
		srv.Start()
		t.Cleanup(srv.Close)
		var conn net.Conn
		base := &http.Transport{Protocols: srv.Config.Protocols, DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
			conn, err = new(net.Dialer).DialContext(ctx, network, addr)
			return conn, err
		}}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		body, more := io.Pipe()
		defer more.Close()
		go func() {
			<-arrived
			if want == "DR" {
				cancel()
			} else {
				conn.Close()
			}
		}()
		req, _ := http.NewRequestWithContext(ctx, "POST", srv.URL, body)
		if resp, err := base.RoundTrip(req); err == nil {
			resp.Body.Close()
			t.Fatal("an answer for a caller who left")
		}
		wantAttrs(t, waitSpans(t, rec, 1)[0], map[string]string{"http.status_code": "0", "response_flags": want, "error": "true", "response_size": "0"})
	}
}

// A call that its caller gives up after the response began is canceled, and an error by
// its status alone. // E-1
func TestGatewayCanceledLate(t *testing.T) {
	upstream, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan = true
	cfg.Route = route(nil)
	address, client, rec := proxyTo(t, cfg, upstream, func(p *httputil.ReverseProxy) { p.FlushInterval = -1 })
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	spans := waitSpans(t, rec, 2)
	wantAttrs(t, spans[0], map[string]string{"http.status_code": "200", "response_flags": "DC", "error": "-", "response_size": "4"})
	wantAttrs(t, spans[1], map[string]string{"http.status_code": "200", "response_flags": "-", "error": "-", "canceled": "true"})
}

// Operators on the span of an attempt tell of the request around it, and those of a
// response know no trailers. // T-16, RID-17
func TestGatewayAttemptFormats(t *testing.T) {
	upstream, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		io.WriteString(w, "body")
		w.Header().Set("Grpc-Status", "3")
	}))
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan = true
	cfg.Route = route(nil)
	for name, text := range map[string]string{
		"ids": "%TRACE_ID% %SPAN_ID%", "peer": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "protocol": "%PROTOCOL%",
		"received": "%BYTES_RECEIVED%", "resp": "%RESPONSE_CODE%%RESP(GRPC-STATUS)%", "trailer": "%TRAILER(GRPC-STATUS)%",
	} {
		tpl, err := span.ParseTemplate(text)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Tags = append(cfg.Tags, span.Formatted(name, tpl))
	}
	address, client, rec := proxyTo(t, cfg, upstream)
	resp, err := client.Post(address, "text/plain", strings.NewReader("12345"))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	spans := waitSpans(t, rec, 2)
	sc := spans[0].SpanContext()
	want := map[string]string{
		"ids": sc.TraceID().String() + " " + sc.SpanID().String(), "peer": "127.0.0.1", "protocol": "HTTP/1.1",
		"received": "5", "resp": "200", "trailer": "3",
	}
	wantAttrs(t, spans[0], want)
	wantAttrs(t, spans[1], want)
}

// Time marks of what never came, or went to nobody, are none. // T-11
func TestGatewayVerboseFaults(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		http.ReadRequest(bufio.NewReader(conn))
		io.WriteString(conn, "no response at all\r\n\r\n")
	}()
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan, cfg.Verbose = true, true
	cfg.Route = route(nil)
	address, client, rec := proxyTo(t, cfg, "http://"+l.Addr().String())
	get(t, client, address)
	for i, s := range waitSpans(t, rec, 2) {
		for _, e := range s.Events() {
			if e.Name == "first_upstream_rx_byte_received" {
				t.Errorf("span %d has the event %s of a host that sent no response", i, e.Name)
			}
		}
	}
}

// retrying sends a request again until it is answered with a 200.
type retrying struct{ http.RoundTripper }

func (rt retrying) RoundTrip(req *http.Request) (*http.Response, error) {
	for {
		resp, err := rt.RoundTripper.RoundTrip(req.Clone(req.Context()))
		if err != nil || resp.StatusCode == http.StatusOK {
			return resp, err
		}
		resp.Body.Close()
	}
}

// A try that is made again before its response was read is canceled; one whose response
// has no body was over. // T-20
func TestGatewayTriedAgain(t *testing.T) {
	var tries atomic.Int64
	upstream, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch tries.Add(1) {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "not this time")
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan = true
	cfg.Route = route(nil)
	address, client, rec := proxyTo(t, cfg, upstream, func(p *httputil.ReverseProxy) { p.Transport = retrying{p.Transport} })
	get(t, client, address)
	spans := waitSpans(t, rec, 4)
	wantAttrs(t, spans[0], map[string]string{"http.status_code": "200", "error": "-", "canceled": "-"})
	wantAttrs(t, spans[1], map[string]string{"http.status_code": "503", "error": "true", "canceled": "true", "response_flags": "-", "error.reason": "-"})
	wantAttrs(t, spans[2], map[string]string{"http.status_code": "503", "error": "true", "canceled": "-", "retry.count": "1"})
	wantAttrs(t, spans[3], map[string]string{"http.status_code": "200", "error": "-", "canceled": "-", "retry.count": "2"})
}

// A caller who leaves: code 0 and DC, whatever the program writes for nobody.
func TestGatewayClientGone(t *testing.T) {
	arrived, leave := make(chan struct{}), make(chan struct{})
	upstream, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		select {
		case <-r.Context().Done():
		case <-leave:
		}
	}))
	t.Cleanup(func() { close(leave) })
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan = true
	cfg.Route = route(nil)
	address, client, rec := proxyTo(t, cfg, upstream, func(p *httputil.ReverseProxy) {
		p.ErrorHandler = nil // writes 502
	})
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", address, nil)
	go func() {
		<-arrived
		cancel()
	}()
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
		t.Fatal("an answer for a caller who left")
	}
	spans := waitSpans(t, rec, 2)
	wantAttrs(t, spans[0], map[string]string{"http.status_code": "0", "response_flags": "DC", "error": "true", "response_size": "0"})
	wantAttrs(t, spans[1], map[string]string{"http.status_code": "0", "response_flags": "-", "error": "true", "canceled": "true", "error.reason": "-"})
	if spans[0].Status().Code != codes.Unset { // S-4
		t.Errorf("status = %v, want Unset", spans[0].Status())
	}
}

// Retries: a span each, numbered; the flags of the program come before those of the last
// attempt, and a success leaves none. // T-7, T-20
func TestGatewayRetries(t *testing.T) {
	for _, tt := range []struct {
		name     string
		statuses []int
		limit    bool
		flags    string
	}{
		{"then 200", []int{503, 200}, false, "-"},
		{"until the limit", []int{503, 503, 503}, true, "DI,URX"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			upstream, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(tt.statuses[calls])
				calls++
			}))
			cfg := middleware.Envoy()
			cfg.SpawnUpstreamSpan = true
			cfg.Route = route(nil)
			address, client, rec := proxyTo(t, cfg, upstream, func(p *httputil.ReverseProxy) {
				next := p.Transport
				p.Transport = roundTripper(func(r *http.Request) (resp *http.Response, err error) {
					if tt.limit {
						middleware.AddResponseFlags(r.Context(), middleware.FlagDelayInjected, middleware.FlagDelayInjected, "no flag")
					}
					for range tt.statuses {
						if resp != nil {
							resp.Body.Close()
						}
						resp, err = next.RoundTrip(r)
					}
					if tt.limit {
						middleware.AddResponseFlags(r.Context(), middleware.FlagUpstreamRetryLimit)
					}
					return resp, err
				})
			})
			get(t, client, address)
			spans := waitSpans(t, rec, 1+len(tt.statuses))
			wantAttrs(t, spans[0], map[string]string{"response_flags": tt.flags, "retry.count": "-"})
			for i, s := range spans[1:] {
				want := "-"
				if i > 0 {
					want = fmt.Sprint(i)
				}
				wantAttrs(t, s, map[string]string{"retry.count": want, "http.status_code": fmt.Sprint(tt.statuses[i])})
			}
		})
	}
}

// gRPC: status and message from headers and trailers, in the order that decides about the
// span's status. // S-2, S-3, E-3, T-4
func TestGatewayGRPC(t *testing.T) {
	tests := []struct {
		rule            string
		code            int
		header, trailer string
		down, up        codes.Code
		tags            map[string]string
	}{
		{"S-2 unavailable in trailers", 200, "", "14", codes.Error, codes.Error, map[string]string{"grpc.status_code": "14", "grpc.message": "because", "error": "true"}},
		{"S-2 not found in headers", 200, "5", "", codes.Unset, codes.Error, map[string]string{"grpc.status_code": "5", "error": "-"}},
		{"S-5 exhausted", 200, "", "8", codes.Unset, codes.Error, map[string]string{"grpc.status_code": "8", "error": "true"}},
		{"S-2 trailer over header", 200, "0", "13", codes.Error, codes.Error, map[string]string{"grpc.status_code": "13", "error": "true"}},
		{"S-3 503 and 0", 503, "", "0", codes.Unset, codes.Error, map[string]string{"grpc.status_code": "0", "http.status_code": "503", "error": "true"}},
		{"S-2 no number", 200, "", "abc", codes.Unset, codes.Unset, map[string]string{"grpc.status_code": "abc", "error": "-"}},
		{"S-2 zeros in front", 200, "", "05", codes.Unset, codes.Error, map[string]string{"grpc.status_code": "05", "error": "-"}},
		{"E-4 above 16", 200, "", "4294967296", codes.Unset, codes.Error, map[string]string{"error": "-"}},
		{"E-3 an error of the headers stays", 200, "13", "3", codes.Unset, codes.Error, map[string]string{"grpc.status_code": "3", "error": "true"}},
		{"O-4 lines are joined", 200, "", "4|2", codes.Unset, codes.Unset, map[string]string{"grpc.status_code": "4,2", "error": "-"}},
		{"T-1 a message without a status", 200, "message", "", codes.Unset, codes.Unset, map[string]string{"grpc.status_code": "-", "grpc.message": "-"}},
		{"no status at all", 200, "", "", codes.Unset, codes.Unset, map[string]string{"grpc.status_code": "-", "grpc.message": "-"}},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			upstream, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch tt.header {
				case "":
				case "message":
					w.Header().Set("Grpc-Message", "alone")
				default:
					w.Header().Set("Grpc-Status", tt.header)
				}
				w.WriteHeader(tt.code)
				http.NewResponseController(w).Flush()
				io.WriteString(w, "body")
				if tt.trailer != "" {
					w.Header()[http.TrailerPrefix+"Grpc-Status"] = strings.Split(tt.trailer, "|")
					w.Header().Set(http.TrailerPrefix+"Grpc-Message", "because")
				}
			}))
			cfg := middleware.Envoy()
			cfg.SpawnUpstreamSpan = true
			cfg.Route = route(nil)
			address, client, rec := proxyTo(t, cfg, upstream)
			get(t, client, address+"/pkg.Service/Method", "Content-Type", "application/grpc+proto", "Grpc-Timeout", "5S")
			spans := waitSpans(t, rec, 2)
			wantAttrs(t, spans[0], tt.tags)
			wantAttrs(t, spans[1], tt.tags)
			wantAttrs(t, spans[0], map[string]string{"grpc.path": "/pkg.Service/Method", "grpc.content_type": "application/grpc+proto", "grpc.timeout": "5S"})
			wantAttrs(t, spans[1], map[string]string{"grpc.path": "-"})
			if d, u := spans[0].Status(), spans[1].Status(); d.Code != tt.down || u.Code != tt.up || d.Description+u.Description != "" {
				t.Errorf("status = %v and %v, want %v and %v without words", d, u, tt.down, tt.up)
			}
		})
	}
}

// T-11: seven marks on the request's span, those of the upstream on the attempt's.
func TestGatewayVerbose(t *testing.T) {
	all := []string{
		"last_downstream_rx_byte_received", "first_upstream_tx_byte_sent", "last_upstream_tx_byte_sent",
		"first_upstream_rx_byte_received", "last_upstream_rx_byte_received",
		"first_downstream_tx_byte_sent", "last_downstream_tx_byte_sent",
	}
	upstream, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "x") }))
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan, cfg.Verbose = true, true
	cfg.Route = route(nil)
	address, client, rec := proxyTo(t, cfg, upstream)
	get(t, client, address)
	spans := waitSpans(t, rec, 2)
	for i, want := range [][]string{all, all[1:5]} {
		var got []string
		for _, e := range spans[i].Events() {
			got = append(got, e.Name)
			if e.Time.Before(spans[0].StartTime()) || e.Time.After(spans[0].EndTime()) {
				t.Errorf("%s at %v, outside of the request", e.Name, e.Time)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("events of span %d = %q, want %q", i, got, want)
		}
	}
}

// Custom tags: on both spans, the route's first, over Envoy's own, and with a say in the
// status. // T-1, T-17, T-18
func TestGatewayCustomTags(t *testing.T) {
	upstream, _ := serve(t, http.NotFoundHandler())
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan = true
	cfg.Tags = []span.Tag{
		span.Literal("component", "mine"),
		span.Literal("component", "second of a name"),
		span.Literal("of-route", "listener"), span.RequestHeader("empty-in-route", "x-none", "listener"),
		span.RequestHeader("context", "traceparent", ""), // as it went upstream
		span.RequestHeader("agent", "user-agent", "none"),
		span.Literal("http.status_code", "500"),
		span.MetadataTag("found", span.RequestMetadata, "filter", []string{"user"}, ""),
		span.MetadataTag("host", span.HostMetadata, "lb", []string{"canary"}, "no"),
		span.Value("tenant", func(r *http.Request) string { v, _ := r.Context().Value(tenantKey{}).(string); return v }),
	}
	cfg.Route = route(func(r *middleware.Route) {
		r.Tags = []span.Tag{span.Literal("of-route", "route"), span.RequestHeader("empty-in-route", "x-none", "")}
	})
	address, client, rec := proxyTo(t, cfg, upstream, func(p *httputil.ReverseProxy) {
		next := p.Transport
		p.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			middleware.SetMetadata(r.Context(), "filter", map[string]any{"user": "u1"})
			ctx := middleware.WithUpstream(r.Context(), middleware.Upstream{HostMetadata: span.Metadata{"lb": map[string]any{"canary": true}}})
			return next.RoundTrip(r.WithContext(context.WithValue(ctx, tenantKey{}, "t1")))
		})
	})
	get(t, client, address)
	spans := waitSpans(t, rec, 2)
	for i, s := range spans {
		wantAttrs(t, s, map[string]string{
			"component": "mine", "of-route": "route", "empty-in-route": "-", "http.status_code": "500", "found": "u1", "host": "true",
			"context": fmt.Sprintf("00-%s-%s-01", s.SpanContext().TraceID(), spans[1].SpanContext().SpanID()),
			"tenant":  []string{"-", "t1"}[i],
		})
		if s.Status().Code != codes.Error { // T-18
			t.Errorf("status of %q = %v, want Error", s.Name(), s.Status())
		}
	}
}

type tenantKey struct{}

// Templates name spans when they end, and switch decorators off. // N-14 to N-16
func TestGatewayOperation(t *testing.T) {
	upstream, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", r.Header.Get(operationHeader))
		w.WriteHeader(404)
	}))
	tpl := span.MustTemplate
	tests := []struct {
		rule             string
		config, routes   [2]span.Template
		down, up, passed string
	}{
		{"N-14 listener", [2]span.Template{tpl("%REQ(:METHOD)% %RESPONSE_CODE%"), tpl("up %UPSTREAM_CLUSTER%")}, [2]span.Template{}, "GET 404", "up carts-observed", "callerOp"},
		{"N-14 route over listener", [2]span.Template{tpl("a"), tpl("b")}, [2]span.Template{tpl("c"), {}}, "c", "b", "callerOp"},
		{"N-15 empty", [2]span.Template{tpl("%REQ(x-none)%"), {}}, [2]span.Template{}, "ingress", "router carts-observed egress", "callerOp"},
		{"N-16 upstream alone", [2]span.Template{{}, tpl("u")}, [2]span.Template{}, "callerOp", "u", ""},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			cfg := middleware.Envoy()
			cfg.SpawnUpstreamSpan = true
			cfg.Operation, cfg.UpstreamOperation = tt.config[0], tt.config[1]
			cfg.Route = route(func(r *middleware.Route) {
				r.Operation, r.UpstreamOperation = tt.routes[0], tt.routes[1]
				r.Decorator.Operation = "routeOp"
			})
			address, client, rec := proxyTo(t, cfg, upstream)
			resp, _ := get(t, client, address, operationHeader, "callerOp")
			spans := waitSpans(t, rec, 2)
			if spans[0].Name() != tt.down || spans[1].Name() != tt.up || resp.Header.Get("X-Seen") != tt.passed {
				t.Errorf("names %q and %q, %q upstream; want %q, %q, %q", spans[0].Name(), spans[1].Name(), resp.Header.Get("X-Seen"), tt.down, tt.up, tt.passed)
			}
		})
	}
}

// GL-5: descriptor, transformer, header of the request, ingress.
func TestGlooTransformer(t *testing.T) {
	tpl, err := span.ParseGlooTemplate(`{{header("x-name")}}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		descriptor, header, want string
	}{{"", "n1", "n1"}, {"my-op", "n1", "my-op"}, {"", "", ""}} {
		cfg := middleware.Envoy()
		cfg.Route = func(*http.Request) middleware.Route {
			return middleware.Route{Transformer: tpl, Decorator: span.Decorator{Operation: tt.descriptor}}
		}
		tracing, rec := setup(t, cfg)
		address, client := serve(t, tracing.Handler(http.NotFoundHandler()))
		headers := []string{operationHeader, "callerOp"}
		if tt.descriptor != "" {
			headers = nil // which the header would beat
		}
		get(t, client, address, append(headers, "X-Name", tt.header)...)
		if s := waitSpans(t, rec, 1)[0]; s.Name() != tt.want {
			t.Errorf("descriptor %q, header %q: span = %q, want %q", tt.descriptor, tt.header, s.Name(), tt.want)
		}
	}
}

// The tags of calls over another transport than net/http, by Outcome alone. // T-1, T-6
func TestGatewayOutcome(t *testing.T) {
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan = true
	tracing, rec := setup(t, cfg)
	ctx, down := tracing.StartServer(context.Background(), middleware.Incoming{
		Method: "GET", Scheme: "https", Authority: "shop.example", Path: "/x?y", Protocol: "HTTP/3",
		Carrier: otelprop.HeaderCarrier{"User-Agent": {"test/1"}},
		Route:   middleware.Route{Upstream: middleware.Upstream{Cluster: "carts"}},
	})
	_, up := tracing.StartClient(ctx, middleware.Outgoing{Upstream: middleware.Upstream{Address: "10.0.0.5:9211"}})
	up.End(middleware.Outcome{Protocol: "HTTP/2", Err: fmt.Errorf("calling: %w", middleware.ResetOverflow)})
	_, again := tracing.StartClient(ctx, middleware.Outgoing{Upstream: middleware.Upstream{Address: "10.0.0.6:9211"}})
	again.End(middleware.Outcome{Protocol: "HTTP/2", HTTPStatus: 200, GRPCStatus: "5", GRPCMessage: "no such cart"})
	down.End(middleware.Outcome{HTTPStatus: 200, GRPCStatus: "5", RequestBytes: 10, ResponseBytes: 11})

	spans := waitSpans(t, rec, 3)
	wantAttrs(t, spans[0], map[string]string{
		"http.url": "https://shop.example/x?y", "http.protocol": "HTTP/3", "user_agent": "test/1", "downstream_cluster": "-",
		"request_size": "10", "response_size": "11", "upstream_cluster": "carts", "response_flags": "-", "grpc.status_code": "5",
	})
	wantAttrs(t, spans[1], map[string]string{
		"upstream_address": "10.0.0.5:9211", "http.protocol": "HTTP/2", "response_flags": "UO", "error.reason": "overflow", "error": "true", "http.status_code": "0", "retry.count": "-",
	})
	wantAttrs(t, spans[2], map[string]string{"upstream_address": "10.0.0.6:9211", "grpc.message": "no such cart", "retry.count": "1", "error": "-"})
	if spans[1].Name() != "router carts egress" || spans[2].Status().Code != codes.Error {
		t.Errorf("upstream span = %q, status of the second = %v", spans[1].Name(), spans[2].Status())
	}
}

// T-3.
func TestGatewayURL(t *testing.T) {
	long := strings.Repeat("a", 300)
	for _, tt := range []struct {
		rule, method, path string
		original           []string
		limit              int
		want               string
	}{
		{"query", "GET", "/a?b=c", nil, 0, "https://api/a?b=c"},
		{"cut to 256", "GET", "/" + long, nil, 0, "https://api/" + long[:255]},
		{"limit", "GET", "/bbbbbbbbbbbbbbbbbbbb", nil, 10, "https://api/bbbbbbbbb"},
		{"none of the path", "GET", "/abc", nil, -1, "https://api"},
		{"original path", "GET", "/abc", []string{"/orig?z=1"}, 0, "https://api/orig?z=1"},
		{"empty original path", "GET", "/abc", []string{""}, 0, "https://api"},
		{"two lines", "GET", "/abc", []string{"/one", "/two"}, 0, "https://api/one,/two"},
		{"CONNECT", "CONNECT", "", nil, 0, ""},
		{"a signature is no tag", "GET", "/a?sig=secret&b=c", nil, 0, "https://api/a?sig=REDACTED&b=c"},
	} {
		cfg := middleware.Envoy()
		cfg.PathTag = tt.limit
		tracing, rec := setup(t, cfg)
		h := http.Header{}
		if tt.original != nil {
			h["X-Envoy-Original-Path"] = tt.original
		}
		_, call := tracing.StartServer(context.Background(), middleware.Incoming{Method: tt.method, Scheme: "https", Authority: "api", Path: tt.path, Carrier: otelprop.HeaderCarrier(h)})
		call.End(middleware.Outcome{HTTPStatus: 200})
		if got := attr(one(t, rec), "http.url").AsString(); got != tt.want {
			t.Errorf("%s: http.url = %q, want %q", tt.rule, got, tt.want)
		}
	}
}

// TestOriginalPathPrefix: tags, templates and names take the original path from the
// header of Proxy.HeaderPrefix; that of Envoy's own name is an ordinary one (ED-14).
func TestOriginalPathPrefix(t *testing.T) {
	for _, tt := range []struct{ prefix, want string }{{"", "/envoy"}, {"x-mesh", "/mesh"}, {"X-Other", "/now"}} {
		cfg := middleware.Envoy()
		cfg.SpawnUpstreamSpan = true
		cfg.Proxy.HeaderPrefix = tt.prefix
		path := span.MustTemplate("%PATH%")
		cfg.Tags = []span.Tag{span.Formatted("path", path)}
		cfg.DefaultName, cfg.UpstreamOperation = path, path
		tracing, rec := setup(t, cfg)
		url, cl := serve(t, tracing.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			out, _ := http.NewRequestWithContext(r.Context(), "GET", "http://shop.example/now", nil)
			out.Header = r.Header
			tracing.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
			})).RoundTrip(out)
		})))
		get(t, cl, url+"/now", "X-Envoy-Original-Path", "/envoy", "X-Mesh-Original-Path", "/mesh")
		for _, s := range waitEnded(t, rec, 2) {
			if s.Name() != tt.want {
				t.Errorf("prefix %q: the %v span's name is %q, want %q", tt.prefix, s.SpanKind(), s.Name(), tt.want)
			}
			want := map[string]string{"path": tt.want}
			if s.SpanKind() == trace.SpanKindServer { // T-3
				want["http.url"] = "http://shop.example" + tt.want
			}
			wantAttrs(t, s, want)
		}
	}
}

// resetStreamError has the fields of net/http's error of a stream that the host reset.
type resetStreamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e resetStreamError) Error() string { return fmt.Sprintf("stream error: %d", e.Code) }

// As fills in an error of the same fields, as net/http's does.
func (e resetStreamError) As(target any) bool {
	v := reflect.ValueOf(target).Elem()
	if v.Kind() != reflect.Struct || v.NumField() != 3 || v.Type().Field(0).Name != "StreamID" {
		return false
	}
	v.Field(0).SetUint(uint64(e.StreamID))
	v.Field(1).SetUint(uint64(e.Code))
	v.Field(2).Set(reflect.ValueOf(e.Cause))
	return true
}

func resetStream(code uint32) error {
	return resetStreamError{1, code, errors.New("received from peer")}
}

// T-10: errors of net/http in Envoy's words.
func TestResetOf(t *testing.T) {
	for want, errs := range map[middleware.Reset][]error{
		0:                                       {nil, context.Canceled, fmt.Errorf("x: %w", context.DeadlineExceeded), middleware.ErrPerTryTimeout},
		middleware.ResetConnectionTermination:   {io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, errors.New("http: server closed idle connection")},
		middleware.ResetRemoteConnectionFailure: {&net.OpError{Op: "dial", Err: errors.New("connection refused")}},
		middleware.ResetConnectionTimeout:       {&net.OpError{Op: "dial", Err: timeoutError{}}},
		middleware.ResetLocalConnectionFailure:  {&net.DNSError{Err: "no such host"}},
		middleware.ResetProtocolError:           {errors.New("malformed HTTP response"), resetStream(1)},
		// What net/http makes of a stream that it cannot send again by itself.
		middleware.ResetRemoteRefused: {
			errors.New("http2: Transport: cannot retry err [stream error: stream ID 1; REFUSED_STREAM; received from peer] after Request.Body was written"),
			errors.New("http2: Transport: cannot retry err [http2: Transport received Server's graceful shutdown GOAWAY] after Request.Body was written"),
		},
		middleware.ResetRemote:   {resetStream(0), resetStream(2)},
		middleware.ResetOverflow: {fmt.Errorf("breaker: %w", middleware.ResetOverflow)},
	} {
		for _, err := range errs {
			if got := middleware.ResetOf(err); got != want {
				t.Errorf("ResetOf(%v) = %v, want %v", err, got, want)
			}
		}
	}
	if !errors.Is(middleware.ErrPerTryTimeout, context.DeadlineExceeded) {
		t.Error("ErrPerTryTimeout is no deadline")
	}
}

type timeoutError struct{}

func (timeoutError) Error() string { return "i/o timeout" }
func (timeoutError) Timeout() bool { return true }

// The helpers of a gateway do nothing in a service and outside of a request.
func TestGatewayHelpersElsewhere(t *testing.T) {
	ctx := context.Background()
	middleware.AddResponseFlags(ctx, "NR")
	middleware.SetMetadata(ctx, "k", 1)
	middleware.SetUpstream(ctx, middleware.Upstream{Cluster: "c"})
	tracing, rec := setup(t, middleware.Config{})
	ctx, call := tracing.StartServer(ctx, middleware.Incoming{Method: "GET"})
	middleware.AddResponseFlags(ctx, "NR")
	middleware.SetUpstream(ctx, middleware.Upstream{Cluster: "c"})
	call.End(middleware.Outcome{HTTPStatus: 200})
	wantAttrs(t, one(t, rec), map[string]string{"response_flags": "-", "upstream_cluster": "-", "component": "-", "http.url": "-"})
}

// Mistakes of tags are told by Setup, all at once.
func TestGatewayConfigMistakes(t *testing.T) {
	cfg := middleware.Envoy()
	cfg.Getenv = noExport
	cfg.Direction = 7
	cfg.Tags = append(make([]span.Tag, 64), span.Literal("x", "y"))
	cfg.Tags[3] = span.Literal("", "a")
	_, err := middleware.Setup(context.Background(), cfg)
	for _, part := range []string{"Config.Direction=Direction(7)", "Config.Tags[3]", "Config.Tags has 65: allowed are 64"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("Setup: %v, want %q in it", err, part)
		}
	}
}

var quiet = log.New(io.Discard, "", 0)

// A gateway that serves gRPC by interceptors: the request that HTTP/2 would show.
func TestGatewayRPC(t *testing.T) {
	cfg := middleware.Envoy()
	cfg.SpawnUpstreamSpan = true
	tracing, rec := setup(t, cfg)
	ctx, call := tracing.StartServer(context.Background(), middleware.Incoming{
		Name: "pkg.Service/Method", Method: "/pkg.Service/Method",
		Carrier: otelprop.MapCarrier{":authority": "shop.example", "content-type": "application/grpc", "grpc-timeout": "5S"},
	})
	_, own := tracing.StartClient(ctx, middleware.Outgoing{Method: "/authz.Authorization/Check", Upstream: middleware.Upstream{Cluster: "authz", Own: true}})
	own.End(middleware.Outcome{GRPCStatus: "7"}) // T-9: any but OK
	call.End(middleware.Outcome{GRPCStatus: "7", GRPCMessage: "no"})
	spans := waitSpans(t, rec, 2)
	wantAttrs(t, spans[0], map[string]string{
		"http.url": "http://shop.example/pkg.Service/Method", "http.method": "POST", "http.protocol": "HTTP/2", "http.status_code": "200",
		"grpc.path": "/pkg.Service/Method", "grpc.authority": "shop.example", "grpc.timeout": "5S", "grpc.status_code": "7", "error": "-", "response_flags": "-",
	})
	wantAttrs(t, spans[1], map[string]string{"error": "true", "retry.count": "-", "upstream_cluster": "authz"})
	if spans[0].Name() != "ingress" || spans[1].Name() != "async authz.Authorization.Check egress" { // N-2, N-3
		t.Errorf("spans = %q and %q", spans[0].Name(), spans[1].Name())
	}
}
