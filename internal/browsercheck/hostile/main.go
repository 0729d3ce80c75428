// Hostile serves the debug page over spans that try to leave it: markup, scripts,
// control characters and direction marks as names, ids, attributes, events, links,
// errors and settings, names of 10 kB, a trace of 3,000 spans, messages that are not
// OTLP. It is for the browser check and ends when its standard input does.
//
// It prints one line of JSON: the address of the page and the ids of the traces. A GET
// of /late lets the spans of the trace named late arrive.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/internal/tracestore"
	"github.com/meshtrace/meshtrace/middleware"
)

// evil is what each name, id and value below tries. A browser that runs any of it
// sets window.owned.
var evil = []string{
	`<img src=x onerror="window.owned=1">`,
	`</script><script>window.owned=2</script>`,
	`"><svg onload=window.owned=3>`,
	`' onmouseover='window.owned=4' x='`,
	`<iframe srcdoc="<script>parent.owned=5</script>"></iframe>`,
	`javascript:window.owned=6`,
	`<style>*{display:none}</style><base href=//evil.example/>`,
	"GET /\u202egpj.exe\u202c\u2066\u200b",
	"\x1b]0;owned\a\x1b[31m\x00\x7f\u0085\u2028\ufeff",
	`${window.owned=7} {{constructor.constructor('window.owned=8')()}} &lt;b&gt; %3Cscript%3E`,
	`__proto__`,
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	src, late := &sources{}, &sources{}
	traces := map[string]string{
		"hostile": hostile(src),
		"big":     big(src),
		"late":    lateTrace(late),
	}
	src.add([]byte("not OTLP"), []byte("<script>window.owned=9</script>"), make([]byte, 1000))

	// A collector that answers with markup, so that the last error holds some.
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, evil[0]+evil[1])
	}))
	defer collector.Close()
	tracing, err := middleware.Setup(context.Background(), middleware.Config{
		Service: evil[0],
		Export:  exporter.Config{Endpoint: collector.URL + "/%3Cscript%3E", Protocol: exporter.HTTPProtobuf, Delay: time.Millisecond},
		Logger:  slog.New(slog.DiscardHandler),
		Getenv: func(name string) string {
			return map[string]string{
				"OTEL_BSP_SCHEDULE_DELAY":  evil[1],
				"OTEL_PROPAGATORS":         evil[2],
				"OTEL_RESOURCE_ATTRIBUTES": "deployment=" + evil[0],
			}[name]
		},
	})
	if err != nil {
		return err
	}
	_, sp := tracing.TracerProvider().Tracer("hostile").Start(context.Background(), evil[0])
	sp.End()

	mux := http.NewServeMux()
	mux.Handle("/debug/", http.StripPrefix("/debug", middleware.DebugHandler(src, tracing)))
	mux.HandleFunc("/late", func(http.ResponseWriter, *http.Request) { src.add(slices.Collect(late.OTLP())...) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		srv.Close()
	}()
	line, err := json.Marshal(map[string]any{"page": "http://" + ln.Addr().String() + "/debug/", "late": "http://" + ln.Addr().String() + "/late", "traces": traces, "evil": evil})
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	if err := srv.Serve(ln); err != http.ErrServerClosed {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	tracing.Shutdown(ctx) // the collector took nothing: the error is what was asked for
	return nil
}

// sources is the spans of several services and further messages.
type sources struct {
	services []*tracestore.Recorder

	mu  sync.Mutex
	raw [][]byte
}

// add adds messages while the page is served.
func (s *sources) add(raw ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw = append(s.raw, raw...)
}

func (s *sources) OTLP() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, r := range s.services {
			for m := range r.OTLP() {
				if !yield(m) {
					return
				}
			}
		}
		s.mu.Lock()
		raw := slices.Clone(s.raw)
		s.mu.Unlock()
		for _, m := range raw {
			if !yield(m) {
				return
			}
		}
	}
}

// service adds a service and returns its tracer.
func (s *sources) service(name string) trace.Tracer {
	r := tracestore.NewRecorder(16 << 20)
	r.Activate()
	s.services = append(s.services, r)
	res := resource.NewSchemaless(semconv.ServiceName.String(name), attribute.String(name, name))
	return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r), sdktrace.WithResource(res)).
		Tracer(name, trace.WithInstrumentationVersion(name))
}

// hostile is one span a piece of evil, each below the one before, and one with a name
// of 10 kB; each holds the evil wherever a span can hold text.
func hostile(src *sources) string {
	ctx := context.Background()
	began := time.Now()
	var id string
	for i, e := range append(slices.Clone(evil), strings.Repeat("long name ", 1000)) {
		var sp trace.Span
		ctx, sp = src.service(e).Start(ctx, e, trace.WithTimestamp(began.Add(time.Duration(i)*time.Millisecond)),
			trace.WithAttributes(
				attribute.String(e, e),
				attribute.StringSlice("list", evil),
				semconv.EnvoyRequestID.String(e),
				semconv.HTTPRoute.String(e),
				semconv.HTTPResponseStatusCode.String(e),
				semconv.SamplingReason.String(e)))
		sp.AddEvent(e, trace.WithTimestamp(began.Add(20*time.Millisecond)), trace.WithAttributes(attribute.String(e, e)))
		sp.AddLink(trace.Link{SpanContext: sp.SpanContext(), Attributes: []attribute.KeyValue{attribute.String(e, e)}})
		sp.SetStatus(codes.Error, e)
		sp.End(trace.WithTimestamp(began.Add(time.Duration(60-i) * time.Millisecond)))
		id = sp.SpanContext().TraceID().String()
	}
	return id
}

// big is a root with 3,000 spans below it.
func big(src *sources) string {
	tracer := src.service("big")
	began := time.Now().Add(-time.Minute)
	ctx, root := tracer.Start(context.Background(), "big", trace.WithTimestamp(began))
	for i := range 3000 {
		at := began.Add(time.Duration(i) * time.Millisecond)
		_, sp := tracer.Start(ctx, fmt.Sprint("child ", i), trace.WithTimestamp(at))
		sp.End(trace.WithTimestamp(at.Add(time.Millisecond)))
	}
	root.End(trace.WithTimestamp(began.Add(3 * time.Second)))
	return root.SpanContext().TraceID().String()
}

// lateTrace is a trace whose spans are not there at first.
func lateTrace(src *sources) string {
	_, sp := src.service("late").Start(context.Background(), "late")
	sp.End()
	return sp.SpanContext().TraceID().String()
}
