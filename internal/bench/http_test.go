package bench

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	ddhttp "github.com/DataDog/dd-trace-go/contrib/net/http/v2"
	"github.com/openzipkin/zipkin-go"
	zipkinhttp "github.com/openzipkin/zipkin-go/middleware/http"
	zipkinreporter "github.com/openzipkin/zipkin-go/reporter"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	otelprop "go.opentelemetry.io/otel/propagation"
)

// discard is a ResponseWriter that has what net/http's has for HTTP/1 and costs nothing.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header                 { return d.header }
func (d *discard) WriteHeader(code int)                { d.status = code }
func (d *discard) Write(p []byte) (int, error)         { return len(p), nil }
func (d *discard) WriteString(s string) (int, error)   { return len(s), nil }
func (d *discard) Flush()                              {}
func (d *discard) ReadFrom(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }

var answer = []byte("{}\n")

// serve is the handler of all scenarios.
func serve(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusOK)
	w.Write(answer)
}

func incoming(sampled bool) *http.Request {
	r := httptest.NewRequest("GET", "http://shop.example/carts/7", nil)
	r.Header = usual("traceparent", traceparent(sampled), "x-request-id", requestID)
	return r
}

// served is a prepare that serves one request after the other by what wrap returns.
func served(sampled bool, wrap func(b *testing.B, next http.Handler) http.Handler) func(*testing.B) func() func() {
	return func(b *testing.B) func() func() {
		h := wrap(b, http.HandlerFunc(serve))
		return func() func() {
			r, w := incoming(sampled), &discard{header: http.Header{}}
			return func() { h.ServeHTTP(w, r) }
		}
	}
}

func bareHandler(_ *testing.B, next http.Handler) http.Handler { return next }

func meshtraceHandler(b *testing.B, next http.Handler) http.Handler { return tracing(b).Handler(next) }

func otelHandler(b *testing.B, next http.Handler) http.Handler {
	return otelhttp.NewHandler(next, "server", otelhttp.WithTracerProvider(provider(b)),
		otelhttp.WithPropagators(stock), otelhttp.WithMeterProvider(metricnoop.NewMeterProvider()))
}

func datadogHandler(b *testing.B, next http.Handler) http.Handler {
	datadog(b)
	return ddhttp.WrapHandler(next, "bench", "server")
}

func zipkinHandler(b *testing.B, next http.Handler) http.Handler {
	return zipkinhttp.NewServerMiddleware(zipkinTracer(b))(next)
}

func zipkinTracer(b *testing.B) *zipkin.Tracer {
	b.Helper()
	tracer, err := zipkin.NewTracer(zipkinreporter.NewNoopReporter())
	if err != nil {
		b.Fatal(err)
	}
	return tracer
}

// BenchmarkServer serves a request of 6 headers by a handler that writes three bytes.
// zipkin-go reads B3, so it begins a trace of its own.
func BenchmarkServer(b *testing.B) {
	for _, f := range flags {
		b.Run(f.name, func(b *testing.B) {
			libraries := []library{
				{"nothing", served(f.sampled, bareHandler)},
				{"meshtrace", served(f.sampled, meshtraceHandler)},
				{"otelhttp", served(f.sampled, otelHandler)},
				{"dd-trace-go", served(f.sampled, datadogHandler)},
			}
			if f.sampled {
				libraries = append(libraries, library{"zipkin-go", served(true, zipkinHandler)}, library{"sdk-alone", sdkSpan})
			}
			compare(b, libraries...)
		})
	}
}

// BenchmarkScale is BenchmarkServer with that many requests at the same time.
func BenchmarkScale(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000, 10000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			for _, f := range flags {
				b.Run(f.name, func(b *testing.B) {
					concurrently(b, n,
						library{"meshtrace", served(f.sampled, meshtraceHandler)},
						library{"otelhttp", served(f.sampled, otelHandler)},
					)
				})
			}
		})
	}
}

// answers is a transport that costs next to nothing.
type answers struct{}

type answerBody struct{ bytes.Reader }

func (*answerBody) Close() error { return nil }

func (answers) RoundTrip(req *http.Request) (*http.Response, error) {
	body := new(answerBody)
	body.Reset(answer)
	return &http.Response{
		StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(answer)), Body: body, Request: req,
	}, nil
}

func carrierOf(r *http.Request) otelprop.HeaderCarrier { return otelprop.HeaderCarrier(r.Header) }

// called is a prepare that sends one request after the other, from inside of a served
// one, by what wrap returns, and reads the answers.
func called(sampled bool, wrap func(b *testing.B, sampled bool) (context.Context, http.RoundTripper)) func(*testing.B) func() func() {
	return func(b *testing.B) func() func() {
		ctx, rt := wrap(b, sampled)
		return func() func() {
			req, err := http.NewRequestWithContext(ctx, "GET", "http://prices.example/prices/7", nil)
			if err != nil {
				b.Fatal(err)
			}
			req.Header = http.Header{"Accept": {"*/*"}, "User-Agent": {"shop/1"}}
			return func() {
				resp, err := rt.RoundTrip(req)
				if err != nil {
					b.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
	}
}

// BenchmarkClient sends a request of two headers.
func BenchmarkClient(b *testing.B) {
	for _, f := range flags {
		b.Run(f.name, func(b *testing.B) {
			libraries := []library{
				{"nothing", called(f.sampled, func(b *testing.B, _ bool) (context.Context, http.RoundTripper) {
					return b.Context(), answers{}
				})},
				{"meshtrace", called(f.sampled, meshtraceTransport)},
				{"otelhttp", called(f.sampled, otelTransport)},
			}
			if f.sampled {
				libraries = append(libraries, library{"zipkin-go", called(true, zipkinTransport)})
			}
			compare(b, libraries...)
		})
	}
}

func meshtraceTransport(b *testing.B, sampled bool) (context.Context, http.RoundTripper) {
	t := tracing(b)
	ctx, call := t.StartServer(context.Background(), middleware.Incoming{
		Method: "GET", Carrier: otelprop.HeaderCarrier(incoming(sampled).Header),
	})
	b.Cleanup(func() { call.End(middleware.Outcome{HTTPStatus: 200}) })
	return ctx, t.Transport(answers{})
}

func otelTransport(b *testing.B, sampled bool) (context.Context, http.RoundTripper) {
	tp := provider(b)
	ctx := stock.Extract(context.Background(), otelprop.HeaderCarrier(incoming(sampled).Header))
	ctx, span := tp.Tracer("bench").Start(ctx, "server", trace.WithSpanKind(trace.SpanKindServer))
	b.Cleanup(func() { span.End() })
	return ctx, otelhttp.NewTransport(answers{}, otelhttp.WithTracerProvider(tp),
		otelhttp.WithPropagators(stock), otelhttp.WithMeterProvider(metricnoop.NewMeterProvider()))
}

func zipkinTransport(b *testing.B, _ bool) (context.Context, http.RoundTripper) {
	tracer := zipkinTracer(b)
	span := tracer.StartSpan("server")
	b.Cleanup(span.Finish)
	rt, err := zipkinhttp.NewTransport(tracer, zipkinhttp.RoundTripper(answers{}))
	if err != nil {
		b.Fatal(err)
	}
	return zipkin.NewContext(context.Background(), span), rt
}
