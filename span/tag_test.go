package span

import (
	"net/http"
	"strings"
	"testing"
)

func TestTag(t *testing.T) {
	t.Setenv("E_CC", "c")
	t.Setenv("E_EMPTY", "")
	meta := map[string]any{
		"foo": "bar", "one": 1.0, "tenth": 0.1, "big": 1234567.0, "mil": 1000000.0, "neg": -2.5, "huge": 1e21, "int": 7,
		"yes": true, "no": false, "null": nil, "empty": "",
		"object": map[string]any{"some": "thing", "b": "<"}, "list": []any{"something", 1.0, true}, "odd": func() {},
	}
	f := facts
	f.Metadata = [4]Metadata{{"m.req": map[string]any{"ree": meta}}, {"m.rot": meta}, {"m.cluster": Metadata(meta)}, nil}
	f.Request, _ = http.NewRequest("GET", "/x", nil)
	at := func(path ...string) Tag { return MetadataTag("t", RouteMetadata, "m.rot", path, "_d") }
	tests := []struct {
		rule string
		tag  Tag
		want string // "-" for no tag
	}{
		{"T-12", Literal("t", "a"), "a"},
		{"T-13 set", Environment("t", "E_CC", "_c"), "c"},
		{"T-13 unset", Environment("t", "E_NONE", "c2"), "c2"},
		{"T-13 unset, no default", Environment("t", "E_NONE", ""), "-"},
		{"T-13 empty", Environment("t", "E_EMPTY", "c2"), "-"},
		{"T-14 first line", RequestHeader("t", "x-nAmE", "d"), "n1"},
		{"T-14 absent", RequestHeader("t", "x-none", "d"), "d"},
		{"T-14 absent, no default", RequestHeader("t", "x-none", ""), "-"},
		{"T-14 empty", RequestHeader("t", "x-empty", "d"), "-"},
		{"T-14 pseudo", RequestHeader("t", ":path", ""), "/carts?id=7"},
		{"T-14 host", RequestHeader("t", "Host", ""), "shop.example:8080"},
		{"T-15 string", MetadataTag("t", RequestMetadata, "m.req", []string{"ree", "foo"}, ""), "bar"},
		{"T-15 missing", MetadataTag("t", RequestMetadata, "m.req", []string{"not-found"}, ""), "-"},
		{"T-15 missing kind", MetadataTag("t", HostMetadata, "m", []string{"x"}, "_d"), "_d"},
		{"T-15 through a string", at("foo", "x"), "_d"},
		{"T-15 number", at("one"), "1"}, {"T-15 tenth", at("tenth"), "0.1"}, {"T-15 six digits", at("big"), "1.23457e+06"},
		{"T-15 million", at("mil"), "1e+06"}, {"T-15 negative", at("neg"), "-2.5"}, {"T-15 huge", at("huge"), "1e+21"},
		{"T-15 int", at("int"), "7"},
		{"T-15 true", at("yes"), "true"}, {"T-15 false", at("no"), "false"},
		{"T-15 null", at("null"), "_d"},
		{"T-15 empty is set", MetadataTag("t", ClusterMetadata, "m.cluster", []string{"empty"}, "_d"), ""},
		{"T-15 object", at("object"), `{"b":"<","some":"thing"}`},
		{"T-15 list", at("list"), `["something",1,true]`},
		{"T-15 no JSON", at("odd"), "_d"},
		{"T-16", Formatted("t", MustTemplate("%REQ(x-none)%_ee")), "_ee"},
		{"T-16 empty", Formatted("t", MustTemplate("%REQ(x-none)%")), "-"},
		{"value", Value("t", func(r *http.Request) string { return r.URL.Path }), "/x"},
		{"value empty", Value("t", func(*http.Request) string { return "" }), "-"},
		{"zero", Tag{}, "-"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			got, ok := tt.tag.Render(&f)
			if !ok {
				got = "-"
			}
			if got != tt.want || tt.tag.Err() != nil {
				t.Errorf("value = %q, want %q; Err = %v", got, tt.want, tt.tag.Err())
			}
		})
	}
	if _, ok := Value("t", func(*http.Request) string { return "x" }).Render(&Facts{}); ok {
		t.Error("Value asks without a request")
	}
	if v, _ := Literal("t", strings.Repeat("x", 2*maxTagValue)).Render(&f); len(v) != maxTagValue {
		t.Errorf("a value has %d bytes, want %d", len(v), maxTagValue)
	}
}

func TestTagMistakes(t *testing.T) {
	for says, tag := range map[string]Tag{
		"1 to 128 bytes":           Literal("", "a"),
		"name of a tag":            Literal(strings.Repeat("x", 129), "a"),
		"environment variable":     Environment("t", "", ""),
		"header or pseudo":         RequestHeader("t", "a b", ""),
		"function is nil":          Value("t", nil),
		"kind 9":                   MetadataTag("t", 9, "k", []string{"p"}, ""),
		"a path of 1 to 16":        MetadataTag("t", RouteMetadata, "k", nil, ""),
		`key ""`:                   MetadataTag("t", RouteMetadata, "", []string{"p"}, ""),
		`path ["a" ""]`:            MetadataTag("t", RouteMetadata, "k", []string{"a", ""}, ""),
		`variable "a=b": allowed `: Environment("t", "a=b", ""),
	} {
		if err := tag.Err(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Err = %v, want %q in it", err, says)
		}
		if _, ok := tag.Render(&facts); ok {
			t.Errorf("a tag that is wrong (%s) has a value", says)
		}
	}
}
