package middleware

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestElement(t *testing.T) {
	for _, tt := range []struct {
		list string
		n    element
		want string
	}{
		{"", 0, ""},
		{" a ", 1, "a"},
		{"a, b ,c", 0, "a"},
		{"a, b ,c", 1, "c"},
		{"a, b ,c", 2, "b"},
		{"a, b ,c", 9, "a"},
		{`host="a,b", c`, 2, `host="a,b"`},
		{`host="a\",b", c`, 2, `host="a\",b"`},
		{`"a, b`, 1, `"a, b`},
		{"a,", 1, ""},
		{",,,", 2, ""},
	} {
		if got := tt.n.of(tt.list); got != tt.want {
			t.Errorf("element(%d).of(%q) = %q, want %q", tt.n, tt.list, got, tt.want)
		}
	}
	commas := strings.Repeat(",", maxForwarded)
	if n := testing.AllocsPerRun(10, func() { element(3).of(commas) }); n != 0 {
		t.Errorf("%v allocations for a list of commas, want 0", n)
	}
}

// FuzzForwarded reads an element of a Forwarded header.
func FuzzForwarded(f *testing.F) {
	f.Add(`for=1.2.3.4;proto=https;host="a.example", for=5.6.7.8;proto=http`, 1)
	f.Add(`host="a\",b";proto=HTTPS`, 0)
	f.Fuzz(func(t *testing.T, list string, n int) {
		if n < 0 || n > maxHops {
			return
		}
		part := element(n).of(list)
		if !strings.Contains(list, part) || part != strings.TrimSpace(part) {
			t.Errorf("element(%d).of(%q) = %q", n, list, part)
		}
		scheme, host := forwarded(part)
		if scheme != "" && scheme != "http" && scheme != "https" {
			t.Errorf("forwarded(%q): scheme %q", part, scheme)
		}
		if len(host) > len(part) || strings.TrimSpace(host) != host {
			t.Errorf("forwarded(%q): host %q", part, host)
		}
	})
}

// FuzzResourceAttributes reads a value of OTEL_RESOURCE_ATTRIBUTES.
func FuzzResourceAttributes(f *testing.F) {
	f.Add("service.name=cart, deployment.environment.name = a%2Cb,")
	f.Add("a=1,b")
	f.Fuzz(func(t *testing.T, v string) {
		kvs, err := parseResourceAttributes(v)
		if err != nil && kvs != nil || len(kvs) > maxResourceAttributes {
			t.Errorf("parseResourceAttributes(%q) = %v, %v", v, kvs, err)
		}
		for _, kv := range kvs {
			if kv.Key == "" || !utf8.ValidString(string(kv.Key)) || !utf8.ValidString(kv.Value.AsString()) {
				t.Errorf("parseResourceAttributes(%q) has %q: %q", v, kv.Key, kv.Value.AsString())
			}
		}
	})
}
