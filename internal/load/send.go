package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkresource "go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/exporter/otlpgrpc"
)

// sending is one program that ends spans.
type sending struct {
	Exporter      string
	OTLP, Control string
	rate, n       int
	producers     int
	queue         int
}

func (s *sending) flags(fs *flag.FlagSet) {
	fs.IntVar(&s.rate, "rate", 20000, "`spans` a second, all producers together; 0: as fast as they can")
	fs.IntVar(&s.n, "n", 200000, "`spans` in all")
	fs.IntVar(&s.producers, "producers", 2, "`goroutines` that end spans")
	fs.IntVar(&s.queue, "queue", 0, "queue of the batch processor in `spans`; 0: its default")
}

func (s *sending) args() []string {
	return []string{"-rate", strconv.Itoa(s.rate), "-n", strconv.Itoa(s.n), "-producers", strconv.Itoa(s.producers), "-queue", strconv.Itoa(s.queue)}
}

// measured is what a sender used and what arrived of its spans.
type measured struct {
	Exporter string        `json:"exporter"`
	Ended    int           `json:"ended"`
	Arrived  account       `json:"arrived"`
	Took     time.Duration `json:"took"` // ending the spans
	CPU      time.Duration `json:"cpu"`  // of the whole process, Shutdown included
	Allocs   uint64        `json:"allocs"`
	PeakMiB  float64       `json:"peak_mib"` // resident memory
	// End, of every sixteenth call.
	P50, P99, P999, Max time.Duration
	Shutdown            string `json:"shutdown"` // what it said
	Balanced            bool   `json:"balanced"` // the accounts, where there are some; and they equal the ledger
}

// numbered gives span ids that are numbers, for the ledger.
type numbered struct{ last atomic.Uint64 }

func (g *numbered) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	var t trace.TraceID
	s := g.NewSpanID(ctx, t)
	copy(t[:8], s[:])
	t[15] = 1
	return t, s
}

func (g *numbered) NewSpanID(context.Context, trace.TraceID) (s trace.SpanID) {
	binary.BigEndian.PutUint64(s[:], g.last.Add(1))
	return s
}

// nothing is a processor that does not keep spans.
type nothing struct{}

func (nothing) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (nothing) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (nothing) Shutdown(context.Context) error                  { return nil }
func (nothing) ForceFlush(context.Context) error                { return nil }

// exporters are the names, none first.
var exporters = []string{"none", "meshtrace-http", "meshtrace-grpc", "meshtrace-otlpgrpc", "stock-http", "stock-grpc"}

// processor makes what a program gives its provider. close is to be called last.
func (s *sending) processor(ctx context.Context) (p sdktrace.SpanProcessor, close func() error, err error) {
	close = func() error { return nil }
	kind, protocol, _ := strings.Cut(s.Exporter, "-")
	switch kind {
	case "none":
		return nothing{}, close, nil
	case "meshtrace":
		cfg := exporter.Config{Endpoint: "http://" + s.OTLP, Getenv: func(string) string { return "" }}
		switch protocol {
		case "http":
			cfg.Protocol = exporter.HTTPProtobuf
		case "grpc":
			cfg.Protocol = exporter.GRPC
		case "otlpgrpc":
			cc, err := grpc.NewClient(s.OTLP, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, nil, err
			}
			cfg.Endpoint, cfg.Sender, close = "", otlpgrpc.New(cc), cc.Close
		default:
			return nil, nil, s.unknown()
		}
		e, err := exporter.New(cfg)
		return e, close, err
	case "stock":
		var e *otlptrace.Exporter
		switch protocol {
		case "http":
			e, err = otlptracehttp.New(ctx, otlptracehttp.WithEndpoint(s.OTLP), otlptracehttp.WithInsecure())
		case "grpc":
			e, err = otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(s.OTLP), otlptracegrpc.WithInsecure())
		default:
			return nil, nil, s.unknown()
		}
		if err != nil {
			return nil, nil, err
		}
		var opts []sdktrace.BatchSpanProcessorOption
		if s.queue > 0 {
			opts = append(opts, sdktrace.WithMaxQueueSize(s.queue))
		}
		return sdktrace.NewBatchSpanProcessor(e, opts...), close, nil
	}
	return nil, nil, s.unknown()
}

func (s *sending) unknown() error {
	return fmt.Errorf("exporter %q: allowed is %s", s.Exporter, strings.Join(exporters, ", "))
}

// run ends the spans and says what that took.
func (s *sending) run(ctx context.Context) (m measured, err error) {
	if s.n < 1 || s.n > maxNumber || s.rate < 0 || s.producers < 1 || s.queue < 0 {
		return m, errors.New("allowed is -n 1 or more, -producers 1 or more, -rate and -queue 0 or more")
	}
	if s.Control != "" {
		if _, err := ask(ctx, http.MethodPost, s.Control); err != nil {
			return m, err
		}
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	p, closeLast, err := s.processor(ctx)
	if err != nil {
		return m, err
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p), sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithIDGenerator(&numbered{}), sdktrace.WithResource(sdkresource.NewSchemaless(attribute.String("service.name", "load"))))

	m.Exporter = s.Exporter
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, began := cpuTime(), time.Now()
	ends := s.load(ctx, provider.Tracer("load"))
	m.Took = time.Since(began)

	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	// The processor first and the provider second, as exporter's documentation has it.
	if err := p.Shutdown(stopping); err != nil {
		m.Shutdown = err.Error()
	}
	if err := errors.Join(provider.Shutdown(stopping), closeLast()); err != nil && m.Shutdown == "" {
		m.Shutdown = err.Error()
	}
	m.CPU = cpuTime() - cpu
	runtime.ReadMemStats(&after)
	m.Allocs = after.Mallocs - before.Mallocs
	m.Ended = s.n
	m.PeakMiB = peak()
	m.P50, m.P99, m.P999, m.Max = quantile(ends, 0.5), quantile(ends, 0.99), quantile(ends, 0.999), quantile(ends, 1)
	if s.Control != "" {
		if m.Arrived, err = ask(ctx, http.MethodGet, s.Control); err != nil {
			return m, err
		}
	}
	if e, ok := p.(*exporter.Exporter); ok {
		st := e.Stats()
		m.Balanced = st.Balanced() && st.Ended == uint64(s.n) && st.Delivered == uint64(m.Arrived.Unique) && st.Kept.Memory == 0
	}
	return m, nil
}

// load ends the spans, shared among the producers, and returns how long calls of End
// took, sorted.
func (s *sending) load(ctx context.Context, tracer trace.Tracer) []time.Duration {
	samples := make([][]time.Duration, s.producers)
	var wg sync.WaitGroup
	for g := range s.producers {
		wg.Go(func() {
			n := s.n / s.producers
			if g < s.n%s.producers {
				n++
			}
			rate := float64(s.rate) / float64(s.producers)
			took := make([]time.Duration, 0, n/16+1)
			began := time.Now()
			for done := 0; done < n && ctx.Err() == nil; {
				due := n
				if s.rate > 0 {
					due = min(n, int(time.Since(began).Seconds()*rate))
				}
				for ; done < due; done++ {
					_, span := tracer.Start(ctx, "GET /users/{id}", trace.WithSpanKind(trace.SpanKindServer))
					span.SetAttributes(
						attribute.String("http.request.method", "GET"),
						attribute.String("url.scheme", "http"),
						attribute.String("url.path", "/users/1234567"),
						attribute.String("http.route", "/users/{id}"),
						attribute.Int("http.response.status_code", 200),
						attribute.String("server.address", "shop.example"),
						attribute.Int("server.port", 8080),
						attribute.String("client.address", "10.0.0.17"),
						attribute.String("user_agent.original", "curl/8.5.0"),
						attribute.Bool("app.cached", true),
					)
					if done%16 != 0 {
						span.End()
						continue
					}
					at := time.Now()
					span.End()
					took = append(took, time.Since(at))
				}
				if done < n {
					time.Sleep(time.Millisecond)
				}
			}
			samples[g] = took
		})
	}
	wg.Wait()
	all := slices.Concat(samples...)
	slices.Sort(all)
	return all
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// cpuTime is what this process has used, in user and system mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // the arguments are right
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peak is the most memory that was resident, in MiB; 0 where /proc does not say.
func peak() float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.ParseFloat(strings.Fields(rest + " 0 kB")[0], 64)
	if err != nil {
		return 0
	}
	return kib / 1024
}
