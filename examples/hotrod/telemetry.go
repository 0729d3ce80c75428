package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/internal/otlpreceiver"
	"github.com/meshtrace/meshtrace/internal/tracestore"
	"github.com/meshtrace/meshtrace/middleware"
)

// services names the six services of a ride.
func services() []string {
	return []string{"frontend", "customer", "mysql", "driver", "redis", "route"}
}

// telemetry sets up the tracing of every service of this process, and ends it.
//
// A program of one service calls middleware.Setup and is done: "hotrod route" is
// that case. "hotrod all" does more, so that a whole trace can be seen without a
// collector: it has a small receiver of its own, and an exporter to it for each
// service. Where the OTEL_* variables name a collector, Setup sends to that as well.
type telemetry struct {
	command  string
	getenv   func(string) string
	log      *slog.Logger
	receiver *receiver // nil where one service runs alone
	setups   []setup
}

// setup is what one service has.
type setup struct {
	service string
	tracing *middleware.Tracing
	builtin *exporter.Exporter // to the receiver; nil without one, or without spans
}

func newTelemetry(opt options, log *slog.Logger, getenv func(string) string) (*telemetry, error) {
	t := &telemetry{command: opt.command, getenv: getenv, log: log}
	if opt.command != "all" {
		return t, nil
	}
	if getenv("OTEL_SERVICE_NAME") != "" {
		log.Warn("OTEL_SERVICE_NAME is not used: it would give six services one name")
	}
	var err error
	t.receiver, err = newReceiver(log)
	return t, err
}

// Setup is middleware.Setup with what six services in one process need beyond it.
func (t *telemetry) Setup(ctx context.Context, cfg middleware.Config) (*middleware.Tracing, error) {
	cfg.Getenv = t.environment(cfg.Service)
	cfg.Logger = t.log
	if cfg.Service != t.speaker() {
		cfg.Logger = slog.New(slog.DiscardHandler) // they share an environment and a collector: one complains for all
	}

	s := setup{service: cfg.Service}
	if t.receiver != nil && !t.disabled() {
		var err error
		s.builtin, err = exporter.New(exporter.Config{
			Endpoint: t.receiver.addr,
			Protocol: protocolOf(cfg.Service),
			Delay:    100 * time.Millisecond, // a click wants to see its trace
			Logger:   t.log,
			Getenv:   func(string) string { return "" }, // the variables are for the collector
		})
		if err != nil {
			return nil, err
		}
		cfg.Processors = append(cfg.Processors, s.builtin)
	}

	var err error
	s.tracing, err = middleware.Setup(ctx, cfg)
	if err != nil {
		if s.builtin != nil {
			err = errors.Join(err, s.builtin.Shutdown(ctx))
		}
		return nil, err
	}
	t.setups = append(t.setups, s)
	return s.tracing, nil
}

// speaker is the service whose Setup writes to the log: it has a span in each trace.
func (t *telemetry) speaker() string {
	if t.command == "all" {
		return "frontend"
	}
	return t.command
}

// protocolOf is how a service speaks to the receiver, so that both ways are seen.
func protocolOf(service string) exporter.Protocol {
	if service == "driver" || service == "redis" {
		return exporter.GRPC
	}
	return exporter.HTTPProtobuf
}

// environment is the process's environment as one service is to see it. A name in
// it renames the service of a process that has one, never one of six, nor a store.
func (t *telemetry) environment(service string) func(string) string {
	return func(name string) string {
		value := t.getenv(name)
		switch {
		case name == "OTEL_SERVICE_NAME" && service != t.command:
			return ""
		case name == "OTEL_RESOURCE_ATTRIBUTES" && service != t.command:
			return withoutServiceName(value)
		case name == "OTEL_TRACES_EXPORTER" && strings.TrimSpace(value) == "" && !t.hasCollector():
			return "none" // the receiver is enough
		}
		return value
	}
}

func withoutServiceName(attributes string) string {
	pairs := strings.Split(attributes, ",")
	return strings.Join(slices.DeleteFunc(pairs, func(pair string) bool {
		key, _, _ := strings.Cut(pair, "=")
		return strings.TrimSpace(key) == "service.name"
	}), ",")
}

// hasCollector tells whether Setup sends to a collector outside of this process.
func (t *telemetry) hasCollector() bool {
	set := func(name string) bool { return strings.TrimSpace(t.getenv(name)) != "" }
	if set("OTEL_TRACES_EXPORTER") {
		for kind := range strings.SplitSeq(t.getenv("OTEL_TRACES_EXPORTER"), ",") {
			switch strings.ToLower(strings.TrimSpace(kind)) {
			case "none", "console", "":
			default:
				return true
			}
		}
		return false
	}
	return t.receiver == nil || set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
}

// disabled tells whether there are no spans at all.
func (t *telemetry) disabled() bool {
	return strings.EqualFold(strings.TrimSpace(t.getenv("OTEL_SDK_DISABLED")), "true")
}

// describe says where spans go.
func (t *telemetry) describe() string {
	switch {
	case t.disabled():
		return "tracing is off, as OTEL_SDK_DISABLED says"
	case t.hasCollector():
		return "spans go to the receiver in this program and to the collector of the OTEL_* variables"
	}
	return "spans go to the receiver in this program; OTEL_EXPORTER_OTLP_ENDPOINT names a collector to send to as well"
}

// debugPage shows the spans of all services here, or those of the one.
func (t *telemetry) debugPage(own *middleware.Tracing) http.Handler {
	if t.receiver == nil {
		return own.DebugHandler()
	}
	var all []*middleware.Tracing
	for _, name := range services() {
		for _, s := range t.setups {
			if s.service == name {
				all = append(all, s.tracing)
			}
		}
	}
	return middleware.DebugHandler(t.receiver.store, all...)
}

// flushTimeout is how long a collector may take for what is left at the end.
const flushTimeout = 3 * time.Second

// close sends what is left, ends everything and returns the accounting.
func (t *telemetry) close() accounts {
	// The receiver first, which is in this process and answers: a dead collector must
	// not take its time.
	t.each(stopTimeout, func(ctx context.Context, s setup) {
		if s.builtin != nil {
			s.builtin.ForceFlush(ctx)
		}
	})
	t.each(flushTimeout, func(ctx context.Context, s setup) { s.tracing.ForceFlush(ctx) })
	sum := t.accounts()
	t.each(flushTimeout/6, func(ctx context.Context, s setup) { s.tracing.Shutdown(ctx) }) // what is lost stands in sum
	if t.receiver != nil {
		t.receiver.close()
	}
	return sum
}

// each calls f for all services at once, and returns when every call did.
func (t *telemetry) each(timeout time.Duration, f func(context.Context, setup)) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range t.setups {
		wg.Go(func() { f(ctx, s) })
	}
	wg.Wait()
}

// accounts is where all spans of this process are.
type accounts struct {
	builtin, collector       account
	hasBuiltin, hasCollector bool
}

// account is the sum of the accounting of several exporters.
type account struct {
	ended, delivered, rejected, dropped, kept uint64
	why                                       string // of what was not delivered
}

func (t *telemetry) accounts() accounts {
	sum := accounts{hasBuiltin: t.receiver != nil && !t.disabled(), hasCollector: t.hasCollector() && !t.disabled()}
	for _, s := range t.setups {
		if s.builtin != nil {
			sum.builtin.add(s.builtin.Stats())
		}
		if sum.hasCollector {
			sum.collector.add(s.tracing.Stats())
		}
	}
	return sum
}

func (a *account) add(s exporter.Stats) {
	a.ended += s.Ended
	a.delivered += s.Delivered
	a.kept += s.Kept.Memory + s.Kept.Disk
	for _, n := range s.Rejected {
		a.rejected += n
	}
	for _, n := range s.Dropped {
		a.dropped += n
	}
	if s.LastError != nil && s.Delivered != s.Ended {
		a.why = s.LastError.Error()
	}
}

func (a account) String() string {
	return fmt.Sprintf("ended=%d delivered=%d rejected=%d dropped=%d kept=%d", a.ended, a.delivered, a.rejected, a.dropped, a.kept)
}

// String is the accounting in one line.
func (a accounts) String() string {
	switch {
	case a.hasBuiltin && a.hasCollector:
		return a.builtin.String() + "; " + a.collectorLine()
	case a.hasBuiltin:
		return a.builtin.String()
	case a.hasCollector:
		return a.collectorLine()
	}
	return "no exporter"
}

// collectorLine is what became of the spans outside.
func (a accounts) collectorLine() string {
	c, why := a.collector, "none"
	if c.delivered != c.ended {
		why = fmt.Sprintf("%q", cmp.Or(c.why, "still under way"))
	}
	return fmt.Sprintf("collector: ended=%d delivered=%d kept=%d why=%s", c.ended, c.delivered, c.kept, why)
}

// receiver is the collector inside: OTLP over HTTP and over gRPC on one loopback
// port, kept in memory for the debug page.
type receiver struct {
	addr  string
	store *tracestore.Store
	close func() // returns once it is closed
}

// storeBytes is room for the spans of maxRides rides.
const storeBytes = 48 << 20

func newReceiver(log *slog.Logger) (*receiver, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for spans: %w", err)
	}
	store := tracestore.New(storeBytes)
	handler := &otlpreceiver.Handler{Accept: func(request []byte) error {
		store.Add(request)
		return nil
	}}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := otlpreceiver.Serve(ctx, ln, handler); err != nil {
			log.Error("the receiver for spans ended", "error", err)
		}
	}()
	return &receiver{addr: ln.Addr().String(), store: store, close: func() { stop(); <-done }}, nil
}
