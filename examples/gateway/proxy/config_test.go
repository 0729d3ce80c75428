package proxy

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// The file beside the program says each thing once, and is right.
func TestParseDefault(t *testing.T) {
	file, err := os.ReadFile("../gateway.json")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Routes) != 8 || len(cfg.Clusters) != 3 || cfg.Tracing == nil || *cfg.Tracing.RandomSampling != 100 || cfg.Routes[1].Retry.On[2] != "connect-failure" {
		t.Errorf("Parse(gateway.json) = %+v", cfg)
	}
}

// Every mistake of a file is told at once, with its place and what is allowed.
func TestParseMistakes(t *testing.T) {
	_, err := Parse([]byte(`{
		"listne": ":80",
		"node": {"id": 7},
		"edge": [],
		"tracing": {"verbose": "yes", "verbose": true},
		"clusters": {"c": {"hosts": {"address": "x"}}},
		"routes": [{"prefix": "/", "cluster": "c", "retry": {"on": "5xx", "num": 1}, "timeout_ms": 1.5}]
	}`))
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{
		"8 mistakes", // num is in the way of its own
		`listne: "listne": allowed is admin, clusters, edge, health_check, listen, node, rate_limit, routes, tracing`,
		`node.id: 7: allowed is a string`,
		`edge: "[…]": allowed is an object`,
		`tracing.verbose: "yes": allowed is true or false`,
		`tracing.verbose: "verbose": allowed is a name once`,
		`clusters.c.hosts: "{…}": allowed is a list`,
		`routes[0].retry.on: "5xx": allowed is a list`,
		`routes[0].retry.num: "num": allowed is num_retries, on, per_try_timeout_ms`,
		`routes[0].timeout_ms: 1.5: allowed is a whole number`,
	} {
		if part == "8 mistakes" {
			part = "9 mistakes"
		}
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v\nwant %q in it", err, part)
		}
	}

	_, err = Parse([]byte(`{
		"tracing": {"preset": "nginx", "direction": "up", "random_sampling": 101, "max_path_tag_length": -1, "operation": "%REQ(",
			"custom_tags": [{"tag": "a"}, {"tag": "b", "literal": "x", "value": "y"}, {"tag": "c", "metadata": {"kind": "cloud", "key": "k", "path": ["p"]}}, {"tag": "", "literal": "x"}]},
		"edge": {"internal": ["10.0.0.0/99"]},
		"health_check": {"path": "healthz"},
		"rate_limit": {"per_second": 0, "burst": 0},
		"clusters": {"c": {"hosts": [{"address": "http://x:1"}, {"address": "x"}], "max_requests": -1}},
		"routes": [
			{"prefix": "a", "path": "/b"},
			{"cluster": "c", "respond": {"status": 99}, "span_transformer": "{{env(\"x\")}}"},
			{"cluster": "c", "decorator": {}, "timeout_ms": -1, "retry": {"on": ["sometimes"], "num_retries": 101}, "fault": {"abort": 1},
				"tracing": {"random_sampling": {"numerator": 1, "denominator": "DOZEN"}, "upstream_operation": "%X%"}}
		]
	}`))
	for _, part := range []string{
		"tracing.preset", "tracing.direction", "tracing.random_sampling: 101", "tracing.max_path_tag_length", "tracing.operation: \"%REQ(\": allowed is command operators",
		"tracing.custom_tags[0]", "tracing.custom_tags[1]", "tracing.custom_tags[2]", "tracing.custom_tags[3]",
		"edge.internal[0]", "health_check.path", "rate_limit", "clusters.c.hosts[0].address", "clusters.c.hosts[1].address", "clusters.c.max_requests",
		"routes[0]: \"/b\": allowed is prefix or path", "routes[0].prefix", "routes[0]: 0: allowed is exactly one of", "routes[1].respond.status", "routes[1]: 2: allowed", "routes[1].span_transformer",
		"routes[2].decorator.operation", "routes[2].timeout_ms", "routes[2].retry.on[0]", "routes[2].retry.num_retries", "routes[2].fault.abort",
		"routes[2].tracing.random_sampling.denominator", "routes[2].tracing.upstream_operation",
	} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v\nwant %q in it", err, part)
		}
	}
}

func TestParseSyntax(t *testing.T) {
	for file, says := range map[string]string{
		"":                           "line 1",
		"{\n\n\"a\": }":              "line 3",
		"{} {}":                      "one JSON value",
		"[]":                         "an object",
		strings.Repeat("[", 100_000): "allowed is",
		`{"routes": null}`:           "",
	} {
		_, err := Parse([]byte(file))
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("Parse(%.20q): %v, want %q", file, err, says)
		}
	}
}

// The names in JSON are those that decode knows: every field has one.
func TestFieldsHaveNames(t *testing.T) {
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(typ.Elem())
		case reflect.Struct:
			for i := range typ.NumField() {
				if tag := typ.Field(i).Tag.Get("json"); tag == "" || strings.Contains(tag, ",") {
					t.Errorf("%v.%s has the tag %q", typ, typ.Field(i).Name, tag)
				}
				walk(typ.Field(i).Type)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}

func FuzzParse(f *testing.F) {
	file, err := os.ReadFile("../gateway.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add([]byte(`{"routes":[{"prefix":"/","cluster":"c"}],"clusters":{"c":{}}}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		cfg, err := Parse(file)
		if err != nil {
			return
		}
		for i := range cfg.Routes {
			if _, err := cfg.Routes[i].middlewareRoute(cfg.Clusters); err != nil {
				t.Errorf("%s: a route that Parse accepts: %v", file, err)
			}
		}
	})
}
