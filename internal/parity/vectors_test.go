package parity

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	v, err := Load(filepath.Join("testdata", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	topic := v.Topics["request_id_to_integer"]
	if len(topic) != 2 || v.Meta.Total != 2 || v.Meta.Topics["request_id_to_integer"].Count != 2 {
		t.Fatalf("Load = %+v, want one topic of two vectors", v)
	}
	second := topic[1]
	var out struct{ Integer uint32 }
	if err := json.Unmarshal(second.Out, &out); err != nil {
		t.Fatal(err)
	}
	if second.Name != "large" || second.Since != "1.39.0" || second.Until != "" || second.Note == "" || out.Integer != 4294967295 {
		t.Errorf("second vector = %+v with out %+v", second, out)
	}
}

func TestLoadLive(t *testing.T) {
	l, err := LoadLive(filepath.Join("testdata", "live.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Cases) != 1 {
		t.Fatalf("%d cases, want 1", len(l.Cases))
	}
	c := l.Cases[0]
	if want := []Field{{"x-envoy-force-trace", ""}, {"tracestate", "a=1"}, {"tracestate", "b=2"}}; !slices.Equal(c.Request.Headers, want) {
		t.Errorf("request headers = %q, want %q", c.Request.Headers, want)
	}
	up := c.Expect.UpstreamRequestHeaders
	if got := up["tracestate"]; !slices.Equal(got, Lines{"a=1", "b=2"}) {
		t.Errorf("two lines = %q", got)
	}
	if got := up["x-request-id"]; !slices.Equal(got, Lines{"{{uuid4:a}}"}) {
		t.Errorf("one line = %q", got)
	}
	if got, ok := up["x-envoy-internal"]; !ok || got != nil {
		t.Errorf("absent header = %q, %v, want nil, true", got, ok)
	}
	cfg := c.Config
	if cfg.InternalCIDRs == nil || len(cfg.InternalCIDRs) != 0 {
		t.Errorf("internal_cidrs = %v, want empty and not nil", cfg.InternalCIDRs)
	}
	if cfg.RandomSampling == nil || *cfg.RandomSampling != 0.5 || cfg.OverallSampling != nil {
		t.Errorf("random %v and overall %v, want 0.5 and nil", cfg.RandomSampling, cfg.OverallSampling)
	}
	if d := cfg.Route.Decorator; d == nil || d.Operation != "op" || d.Propagate == nil || *d.Propagate {
		t.Errorf("decorator = %+v, want op, not propagated", d)
	}
	if c.Upstream.Then == nil || c.Upstream.Then.Status != 200 {
		t.Errorf("upstream = %+v, want a second answer 200", c.Upstream)
	}
	if len(c.Expect.Spans) != 1 || c.Expect.Spans[0].Flags != 257 || c.Expect.Spans[0].Attributes["http.status_code"] != "200" {
		t.Errorf("spans = %+v", c.Expect.Spans)
	}
}

func TestLoadRefuses(t *testing.T) {
	load := func(path string) error { _, err := Load(path); return err }
	live := func(path string) error { _, err := LoadLive(path); return err }
	for _, tt := range []struct {
		name, file, old, new, want string
		load                       func(string) error
	}{
		{"another version", "vectors.json", `"format_version": 1`, `"format_version": 2`, "format_version 2", load},
		{"unknown field", "vectors.json", `"origin": "derived", "in"`, `"from": "derived", "in"`, `unknown field "from"`, load},
		{"topic without description", "vectors.json", `"request_id_to_integer": [`, `"other": [`, `topic "other"`, load},
		{"topic without vectors", "vectors.json", `"request_id_to_integer": {`, `"empty": {"about": "", "sources": [], "count": 0}, "request_id_to_integer": {`, `topic "empty"`, load},
		{"cut off", "vectors.json", "\n  ]\n}\n", "", "unexpected EOF", load},
		{"another version", "live.json", `"format_version": 1`, `"format_version": 2`, "format_version 2", live},
		{"unknown setting", "live.json", `"tracer"`, `"tracing_engine"`, `unknown field "tracing_engine"`, live},
		{"unknown rule", "live.json", `"RID-9"`, `"RID-99"`, "RID-99, which has no row", live},
		{"no rule", "live.json", `["D-8", "RID-9"]`, `[]`, "names no rule", live},
		{"number as header line", "live.json", `"{{uuid4:a}}"`, `7`, "header lines", live},
		{"text after the end", "live.json", "\n  ]\n}\n", "\n  ]\n}\n{}", "more than one", live},
	} {
		b, err := os.ReadFile(filepath.Join("testdata", tt.file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), tt.old) {
			t.Fatalf("%s: testdata/%s does not hold %q", tt.name, tt.file, tt.old)
		}
		path := filepath.Join(t.TempDir(), tt.file)
		if err := os.WriteFile(path, []byte(strings.Replace(string(b), tt.old, tt.new, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := tt.load(path); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s in %s: error %v, want one with %q", tt.name, tt.file, err, tt.want)
		}
	}
	if err := load(filepath.Join("testdata", "none.json")); !os.IsNotExist(err) {
		t.Errorf("Load of no file = %v, want a not-exist error", err)
	}
	if err := live(filepath.Join("testdata", "none.json")); !os.IsNotExist(err) {
		t.Errorf("LoadLive of no file = %v, want a not-exist error", err)
	}
}
