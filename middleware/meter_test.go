package middleware_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
)

// point is one measurement.
type point struct {
	instrument string
	value      float64
	attrs      attribute.Set
	span       trace.SpanContext // an exemplar's
}

// meterProvider keeps every measurement. internal/difftest has the same with
// OpenTelemetry's own.
type meterProvider struct {
	noop.MeterProvider
	mu      sync.Mutex
	points  []point
	buckets map[string][]float64
	units   map[string]string
}

func newMeterProvider() *meterProvider {
	return &meterProvider{buckets: map[string][]float64{}, units: map[string]string{}}
}

func (p *meterProvider) Meter(string, ...metric.MeterOption) metric.Meter { return meter{p: p} }

func (p *meterProvider) add(ctx context.Context, instrument string, v float64, attrs attribute.Set) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.points = append(p.points, point{instrument, v, attrs, trace.SpanContextFromContext(ctx)})
}

// of returns the measurements of an instrument.
func (p *meterProvider) of(instrument string) []point {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []point
	for _, pt := range p.points {
		if pt.instrument == instrument {
			list = append(list, pt)
		}
	}
	return list
}

type meter struct {
	noop.Meter
	p *meterProvider
}

func (m meter) Float64Histogram(name string, opts ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	cfg := metric.NewFloat64HistogramConfig(opts...)
	m.p.buckets[name], m.p.units[name] = cfg.ExplicitBucketBoundaries(), cfg.Unit()
	return float64Histogram{p: m.p, name: name}, nil
}

func (m meter) Int64Histogram(name string, opts ...metric.Int64HistogramOption) (metric.Int64Histogram, error) {
	m.p.units[name] = metric.NewInt64HistogramConfig(opts...).Unit()
	return int64Histogram{p: m.p, name: name}, nil
}

func (m meter) Int64UpDownCounter(name string, opts ...metric.Int64UpDownCounterOption) (metric.Int64UpDownCounter, error) {
	m.p.units[name] = metric.NewInt64UpDownCounterConfig(opts...).Unit()
	return int64UpDownCounter{p: m.p, name: name}, nil
}

type float64Histogram struct {
	noop.Float64Histogram
	p    *meterProvider
	name string
}

func (h float64Histogram) Record(ctx context.Context, v float64, opts ...metric.RecordOption) {
	h.p.add(ctx, h.name, v, metric.NewRecordConfig(opts).Attributes())
}

type int64Histogram struct {
	noop.Int64Histogram
	p    *meterProvider
	name string
}

func (h int64Histogram) Record(ctx context.Context, v int64, opts ...metric.RecordOption) {
	h.p.add(ctx, h.name, float64(v), metric.NewRecordConfig(opts).Attributes())
}

type int64UpDownCounter struct {
	noop.Int64UpDownCounter
	p    *meterProvider
	name string
}

func (c int64UpDownCounter) Add(ctx context.Context, v int64, opts ...metric.AddOption) {
	c.p.add(ctx, c.name, float64(v), metric.NewAddConfig(opts).Attributes())
}

// wantSeries wants one measurement of the instrument, with these attributes and no
// other; attrs is "name=value" separated by blanks.
func wantSeries(t testing.TB, p *meterProvider, instrument, attrs string) point {
	t.Helper()
	list := p.of(instrument)
	if len(list) != 1 {
		t.Fatalf("%s has %d measurements, want 1", instrument, len(list))
	}
	var got []string
	for _, kv := range list[0].attrs.ToSlice() {
		got = append(got, fmt.Sprintf("%s=%s", kv.Key, kv.Value.String()))
	}
	want := strings.Fields(attrs)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s has attributes\n\t%s\nwant\n\t%s", instrument, strings.Join(got, " "), strings.Join(want, " "))
	}
	return list[0]
}

// value returns an attribute's text, "" when it is absent.
func value(set attribute.Set, name attribute.Key) string {
	v, ok := set.Value(name)
	if !ok {
		return ""
	}
	return v.String()
}
