package parity_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/internal/parity"
)

// liveTopics are the topics of recorded answers that this runner knows.
var liveTopics = []string{"custom_tag", "decision", "decorator", "edge", "exporter", "oddity", "request_id", "span", "w3c", "zipkin"}

// notRecorded are headers that the recording leaves out.
var notRecorded = []string{"host", "content-length", "content-type", "accept-encoding", "connection", "te", "transfer-encoding", "upgrade"}

// TestLive puts the requests of recorded answers to a gateway built with meshtrace
// and compares what the upstream receives, the decision, the client's address and
// x-request-id in the response: testdata/envoy-live.json, or the file that
// MESHTRACE_LIVE names.
func TestLive(t *testing.T) {
	path, own := dataFile("MESHTRACE_LIVE", "envoy-live.json")
	live, err := parity.LoadLive(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ORACLE_ENV", "from-environment") // as in the recording
	t.Setenv("ORACLE_EMPTY", "")
	n := newTally("live", liveExemptions, liveNotYet)
	for _, c := range live.Cases {
		n.run(t, subject{topic: c.Topic, name: c.Name, live: &c}, func() error { return checkCase(c) })
	}
	n.report(own && n.passed+n.failed+n.notApplicable+n.waiting == len(live.Cases))
}

func checkCase(c parity.Case) error {
	if !slices.Contains(liveTopics, c.Topic) {
		return fmt.Errorf("topic %q is none that this runner knows", c.Topic)
	}
	a, err := send(c)
	if err != nil {
		return err
	}
	var m mismatches
	want := c.Expect
	equal(&m, "decision", a.decision, want.Decision)
	if want.ClientAddress != "" {
		equal(&m, "client address", a.client.String(), want.ClientAddress)
	}
	ids := make(binding)
	compareSpans(&m, ids, c, a.spans)
	compareAttempts(&m, ids, a.attempts, attempts(want))
	compareResponse(&m, ids, a, want.Response)
	for _, name := range slices.Sorted(maps.Keys(want.ExportRequest)) {
		equal(&m, "export "+name, a.export[name], want.ExportRequest[name])
	}
	if c.Config.AccessLog != nil {
		compareLines(&m, ids, "access log", a.log, want.AccessLog)
	}
	return errors.Join(m.err(), ids.check())
}

// compareResponse compares what the caller got; a nil want had gone.
func compareResponse(m *mismatches, ids binding, a answer, want *parity.Response) {
	if want == nil {
		equal(m, "response status", a.status, 0)
		return
	}
	equal(m, "response status", a.status, want.Status)
	for _, name := range slices.Sorted(maps.Keys(want.Headers)) {
		compareLines(m, ids, "response "+name, a.response[name], want.Headers[name])
	}
}

// exported tells whether a span of the request was recorded.
func exported(a answer) bool {
	return slices.ContainsFunc(a.spans, func(s sdktrace.ReadOnlySpan) bool { return s.SpanContext().IsSampled() })
}

// attempts returns all requests that reached the recorded upstream.
func attempts(e parity.Expect) []map[string]parity.Lines {
	if e.UpstreamRequestHeaders == nil {
		return nil
	}
	return append([]map[string]parity.Lines{e.UpstreamRequestHeaders}, e.LaterAttempts...)
}

const headerTimeout = "x-envoy-expected-rq-timeout-ms"

func compareAttempts(m *mismatches, ids binding, got []attempt, want []map[string]parity.Lines) {
	equal(m, "requests that reached the upstream", len(got), len(want))
	for i := range min(len(got), len(want)) {
		names := make(map[string]bool)
		for name := range want[i] {
			names[name] = true
		}
		for name := range got[i].headers {
			names[name] = !slices.Contains(notRecorded, name)
		}
		if _, ok := want[i][headerTimeout]; !ok {
			names[headerTimeout] = false // recorded where the caller sent it
		}
		pseudo := map[string][]string{":authority": got[i].headers["host"]}
		_, path, _ := strings.Cut(got[i].line, " ")
		pseudo[":path"] = []string{path}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if !names[name] {
				continue
			}
			if lines, ok := pseudo[name]; ok {
				compareLines(m, ids, "upstream "+name, lines, want[i][name])
				continue
			}
			if name == "user-agent" && slices.Equal(want[i][name], parity.Lines{""}) {
				continue // of which net/http sends no empty one
			}
			what := "upstream " + name
			if i > 0 {
				what = fmt.Sprintf("attempt %d, %s", i+1, what)
			}
			compareLines(m, ids, what, got[i].headers[name], want[i][name])
		}
	}
}

// compareLines compares the lines of one header; nil is absent.
func compareLines(m *mismatches, ids binding, what string, got []string, want parity.Lines) {
	if len(got) != len(want) {
		m.addf("%s = %s, want %s", what, lines(got), lines(want))
		return
	}
	for i := range got {
		if err := ids.match(got[i], want[i]); err != nil {
			m.addf("%s = %v", what, err)
		}
	}
}

func lines(list []string) string {
	if list == nil {
		return "absent"
	}
	return `"` + strings.Join(list, `" "`) + `"`
}
