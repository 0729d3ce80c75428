package exporter

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func consoleTracer(t *testing.T, p sdktrace.SpanProcessor) trace.Tracer {
	t.Helper()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p), sdktrace.WithResource(testResource))
	return tp.Tracer("test")
}

func TestConsole(t *testing.T) {
	var out bytes.Buffer
	c := Console(&out)
	tr := consoleTracer(t, c)
	ctx, root := tr.Start(context.Background(), "GET /dispatch")
	_, child := tr.Start(ctx, "find drivers")
	child.SetAttributes(attribute.String("x", "\x1b[31mred"))
	child.End()
	if out.Len() != 0 {
		t.Errorf("written before the trace is complete: %s", out.String())
	}
	root.End()
	text := out.String()
	if i, j := strings.Index(text, "GET /dispatch"), strings.Index(text, "find drivers"); i < 0 || j < i {
		t.Errorf("written:\n%s", text)
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("control characters reach the terminal: %q", text)
	}
	out.Reset()
	if err := c.Shutdown(context.Background()); err != nil || out.Len() != 0 {
		t.Errorf("Shutdown = %v, writes %q", err, out.String())
	}
	_, late := tr.Start(context.Background(), "late")
	late.End()
	if out.Len() != 0 {
		t.Errorf("written after Shutdown: %q", out.String())
	}
}

// What never ends is written unfinished, once: when asked to, at the end, or when
// there are too many.
func TestConsoleUnfinished(t *testing.T) {
	var out bytes.Buffer
	c := Console(&out)
	tr := consoleTracer(t, c)
	ctx, root := tr.Start(context.Background(), "root")
	_, a := tr.Start(ctx, "first child")
	a.End()
	if err := c.ForceFlush(context.Background()); err != nil {
		t.Error(err)
	}
	if text := out.String(); !strings.Contains(text, "first child") || !strings.Contains(text, "1 span of this trace had not ended") {
		t.Errorf("after ForceFlush:\n%s", text)
	}
	out.Reset()
	_, b := tr.Start(ctx, "second child")
	b.End()
	root.End()
	if text := out.String(); strings.Contains(text, "first child") || !strings.Contains(text, "second child") || !strings.Contains(text, "root") {
		t.Errorf("at the end:\n%s", text)
	}
}

func TestConsoleBounds(t *testing.T) {
	var out bytes.Buffer
	p := Console(&out)
	c := p.(*console)
	tr := consoleTracer(t, p)
	for range 3 * consoleTraces {
		tr.Start(context.Background(), "never ends")
	}
	if len(c.traces) > consoleTraces || c.order.Len() != len(c.traces) {
		t.Errorf("%d traces kept", len(c.traces))
	}
	ctx, _ := tr.Start(context.Background(), "open root")
	for range 200 {
		_, s := tr.Start(ctx, "large child", trace.WithAttributes(padding(64<<10)))
		s.End()
		if c.bytes > consoleBytes {
			t.Fatalf("%d bytes kept", c.bytes)
		}
	}
	if !strings.Contains(out.String(), "large child") {
		t.Error("an unfinished trace that grows too large is not written")
	}
	_, s := tr.Start(context.Background(), "huge", trace.WithAttributes(padding(consoleBytes+1)))
	s.End()
	out.Reset()
	if err := p.Shutdown(context.Background()); err != nil || !strings.Contains(out.String(), "1 span was too large to be shown") {
		t.Errorf("Shutdown = %v, writes %q", err, out.String())
	}
}

type badWriter struct{ panics bool }

func (w badWriter) Write(p []byte) (int, error) {
	if w.panics {
		panic("boom")
	}
	return 0, errors.New("broken pipe")
}

func TestConsoleWriter(t *testing.T) {
	for want, w := range map[string]badWriter{"broken pipe": {}, "boom": {panics: true}} {
		c := Console(w)
		_, s := consoleTracer(t, c).Start(context.Background(), "x")
		s.End()
		if err := c.Shutdown(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Shutdown = %v, want %q", err, want)
		}
	}
}
