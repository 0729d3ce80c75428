package exporter

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// metrics are the otel.sdk.* instruments of an Exporter (OpenTelemetry semantic
// conventions, "SDK metrics"). All but the duration of requests are read from the
// accounts when they are collected. A nil *metrics does nothing.
type metrics struct {
	e        *Exporter
	registry metric.Registration
	duration metric.Float64Histogram
	exporter []attribute.KeyValue // which exporter it is

	// started counts spans by origin of the parent (none, local, remote) and by whether
	// they are sampled.
	started [3][2]atomic.Int64
}

// exporters numbers the exporters of a process, for otel.component.name.
var exporters atomic.Int64

var (
	parentOrigins   = [3]string{"none", "local", "remote"}
	samplingResults = [2]string{"RECORD_ONLY", "RECORD_AND_SAMPLE"}
)

const (
	componentName = attribute.Key("otel.component.name")
	componentType = attribute.Key("otel.component.type")
	errorType     = attribute.Key("error.type")
)

// newMetrics registers the instruments of e. What goes wrong there is logged, and e
// works without.
func newMetrics(e *Exporter, mp metric.MeterProvider) (m *metrics) {
	if mp == nil {
		return nil
	}
	defer func() {
		if v := recover(); v != nil {
			e.log.panicked("Config.MeterProvider", v)
			m = nil
		}
	}()
	n := exporters.Add(1) - 1
	kind, address := e.settings.component()
	m = &metrics{e: e, exporter: append([]attribute.KeyValue{
		componentName.String(fmt.Sprintf("%s/%d", kind, n)), componentType.String(kind),
	}, address...)}
	if err := m.register(mp, n); err != nil {
		e.log.warn("exporter: Config.MeterProvider: " + err.Error())
		return nil
	}
	return m
}

// component is the type of exporter that this is, and the attributes of its collector.
func (s *settings) component() (kind string, address []attribute.KeyValue) {
	kind = "otlp_http_span_exporter"
	switch {
	case s.file != "":
		kind = "otlp_file_span_exporter"
	case s.target.url == nil:
		return "github.com/meshtrace/meshtrace/exporter.Sender", nil
	case s.protocol == HTTPJSON:
		kind = "otlp_http_json_span_exporter"
	case s.protocol == GRPC, s.protocol == Auto && s.hint != HTTPProtobuf:
		kind = "otlp_grpc_span_exporter"
	}
	host, port, err := net.SplitHostPort(s.target.addr)
	if err != nil {
		return kind, nil
	}
	address = append(address, attribute.String("server.address", host))
	if n, err := strconv.Atoi(port); err == nil {
		address = append(address, attribute.Int("server.port", n))
	}
	return kind, address
}

func (m *metrics) register(mp metric.MeterProvider, n int64) error {
	meter := mp.Meter("github.com/meshtrace/meshtrace/exporter", metric.WithInstrumentationVersion(version))
	var errs []error
	counter := func(name, unit, about string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(about))
		errs = append(errs, err)
		return c
	}
	gauge := func(name, unit, about string) metric.Int64ObservableUpDownCounter {
		g, err := meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(about))
		errs = append(errs, err)
		return g
	}
	const span = "{span}"
	live := gauge("otel.sdk.span.live", span, "Spans that were started and have not ended.")
	started := counter("otel.sdk.span.started", span, "Spans that were started and are recorded.")
	size := gauge("otel.sdk.processor.span.queue.size", span, "Spans that wait in the queue.")
	capacity := gauge("otel.sdk.processor.span.queue.capacity", span, "Spans that the queue may hold, where spans bound it.")
	processed := counter("otel.sdk.processor.span.processed", span, "Spans that were handed on or given up.")
	inflight := gauge("otel.sdk.exporter.span.inflight", span, "Spans in requests that are not answered.")
	exported := counter("otel.sdk.exporter.span.exported", span, "Spans that were delivered, refused or given up after a request.")
	var err error
	m.duration, err = meter.Float64Histogram("otel.sdk.exporter.operation.duration", metric.WithUnit("s"),
		metric.WithDescription("How long requests took."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10))
	errs = append(errs, err)
	for _, err := range errs {
		if err != nil {
			return err
		}
	}

	const self = "github.com/meshtrace/meshtrace/exporter.Exporter"
	processor := []attribute.KeyValue{componentName.String(fmt.Sprintf("%s/%d", self, n)), componentType.String(self)}
	with := func(base []attribute.KeyValue, more ...attribute.KeyValue) metric.MeasurementOption {
		return metric.WithAttributes(append(base[:len(base):len(base)], more...)...)
	}
	m.registry, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := m.e.census()
		ended := [2]int64{s.unsampled, int64(s.ended)}
		for sampled, result := range samplingResults {
			attr := attribute.String("otel.span.sampling_result", result)
			all := int64(0)
			for i, origin := range parentOrigins {
				v := m.started[i][sampled].Load()
				all += v
				o.ObserveInt64(started, v, metric.WithAttributes(attr, attribute.String("otel.span.parent.origin", origin)))
			}
			o.ObserveInt64(live, max(0, all-ended[sampled]), metric.WithAttributes(attr))
		}
		o.ObserveInt64(size, int64(s.waiting), with(processor))
		if s.capacity > 0 {
			o.ObserveInt64(capacity, int64(s.capacity), with(processor))
		}
		o.ObserveInt64(processed, int64(s.submitted), with(processor))
		for reason, n := range s.early {
			o.ObserveInt64(processed, int64(n), with(processor, errorType.String(conventional(reason))))
		}
		o.ObserveInt64(inflight, int64(s.inflight), with(m.exporter))
		o.ObserveInt64(exported, int64(s.delivered), with(m.exporter))
		for code, n := range s.rejected {
			o.ObserveInt64(exported, int64(n), with(m.exporter, errorType.String(code)))
		}
		for reason, n := range s.late {
			o.ObserveInt64(exported, int64(n), with(m.exporter, errorType.String(conventional(reason))))
		}
		return nil
	}, live, started, size, capacity, processed, inflight, exported)
	return err
}

// conventional is the name that the conventions have for a reason of ours.
func conventional(reason string) string {
	if reason == DropShutdown {
		return "already_shutdown"
	}
	return reason // DropQueueFull is queue_full there
}

// census is what the metrics are made of, at one instant.
type census struct {
	ended, delivered, submitted uint64
	unsampled                   int64
	waiting, inflight, capacity int
	rejected                    map[string]uint64
	early, late                 map[string]uint64 // dropped, before and after a first request
}

func (e *Exporter) census() census {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := census{
		ended: e.acc.ended, delivered: e.acc.delivered, submitted: e.acc.submitted,
		unsampled: e.unsampled.Load(), capacity: e.settings.queueSpans,
		rejected: clone(e.acc.rejected), early: clone(e.acc.dropped), late: clone(e.acc.late),
	}
	for reason, n := range c.late {
		c.early[reason] -= n
	}
	for _, b := range e.active {
		if !b.abandoned {
			c.inflight += b.spans
		}
	}
	c.waiting = int(e.acc.kept) - c.inflight
	return c
}

// start counts a span that was started.
func (m *metrics) start(s sdktrace.ReadWriteSpan) {
	if m == nil {
		return
	}
	origin, sampled := 0, 0
	if parent := s.Parent(); parent.IsValid() {
		origin = 1
		if parent.IsRemote() {
			origin = 2
		}
	}
	if s.SpanContext().IsSampled() {
		sampled = 1
	}
	m.started[origin][sampled].Add(1)
}

// request notes how long a request took.
func (m *metrics) request(took time.Duration, o outcome) {
	if m == nil {
		return
	}
	defer m.contain("recording otel.sdk.exporter.operation.duration")
	attrs := m.exporter[:len(m.exporter):len(m.exporter)]
	if err := o.err; err != nil {
		if err.Status != 0 {
			attrs = append(attrs, attribute.Int("http.response.status_code", err.Status))
		}
		code := oneLine(err.Code, 64)
		if code == "" {
			code = err.kind
		}
		if code == "" {
			code = "_OTHER"
		}
		attrs = append(attrs, errorType.String(code))
	}
	m.duration.Record(context.Background(), took.Seconds(), metric.WithAttributes(attrs...))
}

// stop ends the observing of an Exporter that is shut down.
func (m *metrics) stop() {
	if m == nil {
		return
	}
	defer m.contain("Config.MeterProvider")
	_ = m.registry.Unregister() // it has no error to tell
}

func (m *metrics) contain(doing string) {
	if v := recover(); v != nil {
		m.e.log.panicked(doing, v)
	}
}
