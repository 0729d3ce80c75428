package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracegrpc"
	"github.com/meshtrace/meshtrace/middleware/tracingtest"
)

// provider is the caller's, and global for all tests.
var provider = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener")) // one a pool, for good
}

const (
	traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"
	requestID   = "125a4afb-6f55-94ba-ad80-413f09f48a28"
)

// new returns a Tracing over the caller's provider, which is global.
func newTracing(t *testing.T, cfg middleware.Config) (*middleware.Tracing, *tracingtest.Spans) {
	cfg.TracerProvider, cfg.SetGlobals = provider, true
	return tracingtest.New(t, cfg)
}

// get sends a request as a proxy would.
func get(t *testing.T, url, flag string) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Traceparent", traceparent+flag)
	req.Header.Set("X-Request-Id", requestID)
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("GET %s = %s", url, resp.Status)
	}
}

// oneTrace wants all spans in the caller's trace, and none of them twice.
func oneTrace(t *testing.T, spans *tracingtest.Spans) {
	t.Helper()
	seen := map[string]bool{}
	for _, s := range spans.All() {
		if s.SpanContext.TraceID().String() != traceparent[3:35] {
			t.Errorf("%v %q is of trace %v, want the caller's", s.SpanKind, s.Name, s.SpanContext.TraceID())
		}
		id := s.SpanContext.SpanID().String()
		if seen[id] {
			t.Errorf("%v %q arrived twice", s.SpanKind, s.Name)
		}
		seen[id] = true
	}
}

// TestService: the caller's provider, otelsql and otelhttp's Transport inside our span.
func TestService(t *testing.T) {
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	tracing, spans := newTracing(t, middleware.Config{})
	var h http.Handler
	var priceHeaders http.Header
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/prices" {
			priceHeaders = r.Header.Clone()
		}
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	var err error
	if h, err = newService(tracing, srv.URL+"/prices"); err != nil {
		t.Fatal(err)
	}
	get(t, srv.URL+"/orders/7", "01")
	spans.Want(t, `
		SERVER GET /orders/{id}
		  CLIENT sql.conn.query
		  CLIENT HTTP GET
		    SERVER GET /prices
	`)
	oneTrace(t, spans)
	if got := priceHeaders.Get("X-Request-Id"); got != requestID {
		t.Errorf("x-request-id beyond otelhttp's Transport = %q, want %q", got, requestID)
	}

	spans.Reset()
	get(t, srv.URL+"/orders/7", "00")
	if tree := spans.Tree(); tree != "" {
		t.Errorf("a request that the proxy does not trace has spans:\n%s", tree)
	}
	if got := priceHeaders.Get("Traceparent"); len(got) != 55 || got[:35] != traceparent[:35] || got[53:] != "00" {
		t.Errorf("traceparent beyond otelhttp's Transport = %q, want the caller's trace with flag 00", got)
	}
}

// TestInsideOtelhttp: our handler inside otelhttp's, and otelhttp's inside ours. Each
// has a span of its own, in one tree.
func TestInsideOtelhttp(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /carts/{id}", func(http.ResponseWriter, *http.Request) {})
	for _, tt := range []struct {
		name string
		wrap func(*middleware.Tracing) http.Handler
	}{
		{"ours inside", func(tr *middleware.Tracing) http.Handler { return otelhttp.NewHandler(tr.Handler(mux), "") }},
		// otelhttp copies the request, so the router itself tells its pattern.
		{"theirs inside", func(tr *middleware.Tracing) http.Handler {
			return tr.Handler(otelhttp.NewHandler(middleware.Pattern(mux), ""))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracing, spans := newTracing(t, middleware.Config{})
			srv := httptest.NewServer(tt.wrap(tracing))
			defer srv.Close()
			get(t, srv.URL+"/carts/7", "01")
			spans.Want(t, "SERVER GET /carts/{id}\n  SERVER GET /carts/{id}")
			oneTrace(t, spans)
			spans.Reset()
			get(t, srv.URL+"/carts/7", "00")
			if tree := spans.Tree(); tree != "" {
				t.Errorf("a request that the proxy does not trace has spans:\n%s", tree)
			}
		})
	}
}

// TestAroundOtelhttp: our Transport around otelhttp's and the reverse.
func TestAroundOtelhttp(t *testing.T) {
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for _, tt := range []struct {
		name, tree string
		wrap       func(*middleware.Tracing) http.RoundTripper
	}{
		{"ours around", "SERVER GET /\n  CLIENT GET\n    CLIENT HTTP GET\n      SERVER GET /", func(tr *middleware.Tracing) http.RoundTripper {
			return tr.Transport(otelhttp.NewTransport(http.DefaultTransport))
		}},
		{"theirs around", "SERVER GET /\n  CLIENT HTTP GET\n    CLIENT GET\n      SERVER GET /", func(tr *middleware.Tracing) http.RoundTripper {
			return otelhttp.NewTransport(tr.Transport(nil))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracing, spans := newTracing(t, middleware.Config{})
			mux := http.NewServeMux()
			var id string
			mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) { id = r.Header.Get("X-Request-Id") })
			back := httptest.NewServer(tracing.Handler(mux))
			defer back.Close()
			client := &http.Client{Transport: tt.wrap(tracing)}
			front := http.NewServeMux()
			front.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
				req, _ := http.NewRequestWithContext(r.Context(), "GET", back.URL, nil)
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			})
			srv := httptest.NewServer(tracing.Handler(front))
			defer srv.Close()
			get(t, srv.URL, "01")
			spans.Want(t, tt.tree)
			oneTrace(t, spans)
			if id != requestID {
				t.Errorf("x-request-id = %q, want %q", id, requestID)
			}
		})
	}
}

// TestBesideOtelgrpc: otelgrpc's stats handlers on one connection with our
// interceptors.
func TestBesideOtelgrpc(t *testing.T) {
	tracing, spans := newTracing(t, middleware.Config{})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(append(tracegrpc.ServerOptions(tracing), grpc.StatsHandler(otelgrpc.NewServerHandler()))...)
	pb.RegisterTestServiceServer(srv, service{})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	cc, err := grpc.NewClient(lis.Addr().String(), append(tracegrpc.DialOptions(tracing),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStatsHandler(otelgrpc.NewClientHandler()))...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pb.NewTestServiceClient(cc).EmptyCall(t.Context(), &pb.Empty{}); err != nil {
		t.Fatal(err)
	}
	const name = "grpc.testing.TestService/EmptyCall"
	spans.Want(t, "CLIENT "+name+"\n  CLIENT "+name+"\n    SERVER "+name+"\n      SERVER "+name)
	cc.Close()
	srv.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

type service struct {
	pb.UnimplementedTestServiceServer
}

func (service) EmptyCall(context.Context, *pb.Empty) (*pb.Empty, error) { return &pb.Empty{}, nil }

// TestSeveralSetups: two listeners, of which one has an edge, share spans by a provider;
// none is exported twice.
func TestSeveralSetups(t *testing.T) {
	inside, spans := newTracing(t, middleware.Config{})
	outside, err := middleware.Setup(t.Context(), middleware.Config{
		TracerProvider: inside.TracerProvider(), Edge: &middleware.Edge{Context: middleware.Continue},
		Getenv: func(string) string { return "" },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Shutdown(t.Context())
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	back := httptest.NewServer(inside.Handler(mux))
	defer back.Close()
	client := &http.Client{Transport: outside.Transport(&http.Transport{DisableKeepAlives: true})}
	front := http.NewServeMux()
	front.HandleFunc("/edge", func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), "GET", back.URL, nil)
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	})
	srv := httptest.NewServer(outside.Handler(front))
	defer srv.Close()
	get(t, srv.URL+"/edge", "01")
	spans.Want(t, "SERVER GET /edge\n  CLIENT GET\n    SERVER GET /")
	oneTrace(t, spans)
}

// TestGlobals: another SDK's provider that is global already is named as a mistake, and
// what to do about it.
func TestGlobals(t *testing.T) {
	newTracing(t, middleware.Config{}) // provider is global
	if otel.GetTracerProvider() != provider {
		t.Fatal("SetGlobals did not set the provider")
	}
	_, err := middleware.Setup(t.Context(), middleware.Config{SetGlobals: true, Getenv: func(string) string { return "" }})
	if err == nil {
		t.Fatal("Setup took the globals from another provider")
	}
}
