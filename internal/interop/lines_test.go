package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/exporter"
)

// TestLines has a Collector read what an Exporter wrote as OTLP/JSON lines, to a file by
// its path and to a writer, and compares the spans field by field.
func TestLines(t *testing.T) {
	root := need(t, collector)
	shown := show(t, "OTLP/JSON lines, field by field", "Collector "+collectorVersion+", otlpjsonfile")
	spans := everything().Snapshots()
	want := bySDK(t, spans)
	for _, w := range []struct {
		name string
		file func(t *testing.T, path string, spans []sdktrace.ReadOnlySpan)
	}{
		{"Endpoint file:", func(t *testing.T, path string, spans []sdktrace.ReadOnlySpan) {
			export(t, exporter.Config{Endpoint: "file:" + path}, spans)
		}},
		{"JSONLines", func(t *testing.T, path string, spans []sdktrace.ReadOnlySpan) {
			var b bytes.Buffer
			export(t, exporter.Config{Sender: exporter.JSONLines(&b)}, spans)
			if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		dir := t.TempDir()
		in, out := filepath.Join(dir, "spans.jsonl"), filepath.Join(dir, "traces.jsonl")
		w.file(t, in, spans)
		c := startCollector(t, root, collector, linesYAML, "IN="+in, "OUT="+out)
		var got []flat
		eventually(t, 20*time.Second, func() string {
			b, err := os.ReadFile(out)
			if err != nil {
				return err.Error()
			}
			if got, err = readSpans(b); err != nil {
				return err.Error() // a line is still being written
			}
			if len(got) < len(want) {
				return fmt.Sprintf("the Collector has read %d of %d spans", len(got), len(want))
			}
			return ""
		})
		if err := c.stop(); err != nil {
			t.Fatal(err)
		}
		if diff := compare(want, got); len(diff) != 0 {
			t.Errorf("%s: %d of %d spans differ from what OpenTelemetry's exporter sends:\n%s", w.name, len(diff), len(want), diff[0])
		}
		shown("%s %d of %d spans equal", w.name, len(got), len(want))
	}
}

const linesYAML = `
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "${env:GRPC}"}
      http: {endpoint: "${env:HTTP}"}
  otlpjsonfile: {include: ["${env:IN}"], start_at: beginning}
exporters:
  file: {path: "${env:OUT}", flush_interval: 100ms}
service:
  telemetry: {logs: {level: warn}, metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp, otlpjsonfile], exporters: [file]}
`
