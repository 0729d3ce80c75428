package metertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
)

// Point is one measurement.
type Point struct {
	// Instrument is its name.
	Instrument string
	Value      float64
	Attributes attribute.Set
	// Span is the one in the context it was recorded with, as an exemplar has it.
	Span trace.SpanContext
}

// Provider is a MeterProvider that keeps every measurement. It is safe for concurrent
// use.
type Provider struct {
	noop.MeterProvider
	mu      sync.Mutex
	points  []Point
	buckets map[string][]float64
	units   map[string]string

	series map[string]map[attribute.Distinct]attribute.Set // of NewSeries alone
}

var _ metric.MeterProvider = (*Provider)(nil)

// New returns a Provider without measurements.
func New() *Provider {
	return &Provider{buckets: map[string][]float64{}, units: map[string]string{}}
}

// NewSeries returns a Provider that keeps the sets of attributes and no measurement, for
// tests that make many.
func NewSeries() *Provider {
	p := New()
	p.series = map[string]map[attribute.Distinct]attribute.Set{}
	return p
}

// Series returns the different sets of attributes that an instrument of a NewSeries got.
func (p *Provider) Series(instrument string) []attribute.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.series[instrument]))
}

// Meter returns a meter whose synchronous instruments keep what they get.
func (p *Provider) Meter(string, ...metric.MeterOption) metric.Meter { return meter{p: p} }

// Units returns the units of the instruments that were made, by name.
func (p *Provider) Units() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.units)
}

// Buckets returns the boundaries that a histogram asks for.
func (p *Provider) Buckets(instrument string) []float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buckets[instrument]
}

func (p *Provider) made(name, unit string, buckets []float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.units[name], p.buckets[name] = unit, buckets
}

func (p *Provider) add(ctx context.Context, instrument string, v float64, attrs attribute.Set) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.series != nil {
		if p.series[instrument] == nil {
			p.series[instrument] = map[attribute.Distinct]attribute.Set{}
		}
		p.series[instrument][attrs.Equivalent()] = attrs
		return
	}
	p.points = append(p.points, Point{instrument, v, attrs, trace.SpanContextFromContext(ctx)})
}

// Of returns the measurements of an instrument, in order.
func (p *Provider) Of(instrument string) []Point {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Point
	for _, pt := range p.points {
		if pt.Instrument == instrument {
			list = append(list, pt)
		}
	}
	return list
}

type meter struct {
	noop.Meter
	p *Provider
}

func (m meter) Float64Histogram(name string, opts ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	cfg := metric.NewFloat64HistogramConfig(opts...)
	m.p.made(name, cfg.Unit(), cfg.ExplicitBucketBoundaries())
	return float64Histogram{p: m.p, name: name}, nil
}

func (m meter) Int64Histogram(name string, opts ...metric.Int64HistogramOption) (metric.Int64Histogram, error) {
	m.p.made(name, metric.NewInt64HistogramConfig(opts...).Unit(), nil)
	return int64Histogram{p: m.p, name: name}, nil
}

func (m meter) Int64UpDownCounter(name string, opts ...metric.Int64UpDownCounterOption) (metric.Int64UpDownCounter, error) {
	m.p.made(name, metric.NewInt64UpDownCounterConfig(opts...).Unit(), nil)
	return int64UpDownCounter{p: m.p, name: name}, nil
}

type float64Histogram struct {
	noop.Float64Histogram
	p    *Provider
	name string
}

func (h float64Histogram) Record(ctx context.Context, v float64, opts ...metric.RecordOption) {
	h.p.add(ctx, h.name, v, metric.NewRecordConfig(opts).Attributes())
}

type int64Histogram struct {
	noop.Int64Histogram
	p    *Provider
	name string
}

func (h int64Histogram) Record(ctx context.Context, v int64, opts ...metric.RecordOption) {
	h.p.add(ctx, h.name, float64(v), metric.NewRecordConfig(opts).Attributes())
}

type int64UpDownCounter struct {
	noop.Int64UpDownCounter
	p    *Provider
	name string
}

func (c int64UpDownCounter) Add(ctx context.Context, v int64, opts ...metric.AddOption) {
	c.p.add(ctx, c.name, float64(v), metric.NewAddConfig(opts).Attributes())
}

// Want wants one measurement of an instrument, with these attributes and no others,
// and returns it. attributes is "name=value", with blanks between.
func (p *Provider) Want(t testing.TB, instrument, attributes string) Point {
	t.Helper()
	list := p.Of(instrument)
	if len(list) != 1 {
		t.Fatalf("%s has %d measurements, want 1", instrument, len(list))
	}
	got := strings.Fields(list[0].String())
	want := strings.Fields(attributes)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s has attributes\n\t%s\nwant\n\t%s", instrument, strings.Join(got, " "), strings.Join(want, " "))
	}
	return list[0]
}

// Attribute returns an attribute's text, "" when it is absent.
func (pt Point) Attribute(name string) string {
	v, ok := pt.Attributes.Value(attribute.Key(name))
	if !ok {
		return ""
	}
	return v.String()
}

// String returns the attributes as "name=value", sorted, with blanks between.
func (pt Point) String() string {
	var list []string
	for _, kv := range pt.Attributes.ToSlice() {
		list = append(list, fmt.Sprintf("%s=%s", kv.Key, kv.Value.String()))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}
