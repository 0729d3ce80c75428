package span

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

var facts = Facts{
	Method: "GET", Scheme: "https", Authority: "shop.example:8080", Path: "/carts?id=7",
	Header:         http.Header{"X-Name": {"n1", "n2"}, "X-Empty": {""}, "X-Envoy-Original-Path": {"/original?z=1"}},
	Protocol:       "HTTP/2",
	Status:         404,
	ResponseHeader: http.Header{"X-R": {"rv"}},
	Trailer:        http.Header{"Grpc-Status": {"5"}},
	Flags:          "URX,UT",
	RequestBytes:   3, ResponseBytes: 4,
	Route: "/carts", Cluster: "carts", ClusterName: "carts-observed", Address: "10.0.0.5:80", Attempt: 2,
	Peer: "10.0.0.1", Client: "203.0.113.9", TraceID: "0af7", SpanID: "b7ad",
}

// TestTemplateOriginalPath: a prefix of one's own makes x-envoy-original-path an
// ordinary header (ED-14).
func TestTemplateOriginalPath(t *testing.T) {
	h := http.Header{"X-Envoy-Original-Path": {"/envoy"}, "X-Mesh-Original-Path": {"/mesh?a=b"}}
	for _, tt := range []struct{ name, text, want string }{
		{"", "%PATH%", "/envoy"},
		{"x-mesh-original-path", "%PATH%", "/mesh?a=b"},
		{"X-Mesh-Original-Path", "%PATH(NQ:ORIG)%", "/mesh"},
		{"X-Mesh-Original-Path", "%PATH(WQ:PATH)%", "/now"},
		{"x-other-original-path", "%PATH%", "/now"},
		{"x-other-original-path", "%PATH(WQ:ORIG)%", ""},
	} {
		f := Facts{Path: "/now", Header: h, OriginalPath: tt.name}
		if got := MustTemplate(tt.text).Render(&f); got != tt.want {
			t.Errorf("OriginalPath %q: %q renders %q, want %q", tt.name, tt.text, got, tt.want)
		}
	}
}

func TestTemplate(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", ""},
		{"plain", "plain"},
		{"100%%", "100%"},
		{"%%%%", "%%"},
		{"%REQ(:METHOD)% %REQ(X-NAME)%", "GET n1"},
		{"%REQ(:authority)%|%REQ(Host)%|%REQ(:SCHEME)%|%REQ(:path)%", "shop.example:8080|shop.example:8080|https|/carts?id=7"},
		{"%REQ(x-none)%_ee", "_ee"},
		{"%REQ(x-none?x-name)%", "n1"},
		{"%REQ(x-empty?x-name)%", ""}, // present
		{"%REQ(x-name?)%", "n1"},
		{"%REQ(x-name):1%", "n"},
		{"%REQ(x-name):0%", ""},
		{"%REQ(x-none):5%", ""},
		{"%RESP(x-r)% %RESP(:STATUS)% %TRAILER(grpc-status)%", "rv 404 5"},
		{"%RESP(x-none?x-r):1%", "r"},
		{"%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS%", "HTTP/2 404 URX,UT"},
		{"%PATH%", "/original?z=1"},
		{"%PATH(NQ)%", "/original"},
		{"%PATH(WQ:PATH)%", "/carts?id=7"},
		{"%PATH(NQ:PATH):3%", "/ca"},
		{"%PATH(NQ:ORIG)%", "/original"},
		{"%BYTES_RECEIVED%/%BYTES_SENT%", "3/4"},
		{"%ROUTE_NAME% %UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_HOST%", "/carts carts-observed carts 10.0.0.5:80"},
		{"%UPSTREAM_REQUEST_ATTEMPT_COUNT% %TRACE_ID% %SPAN_ID%", "2 0af7 b7ad"},
		{"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "203.0.113.9 10.0.0.1"},
		{"%REQ(x%y)%", ""}, // a percent sign can stand in a name
	}
	for _, tt := range tests {
		tpl, err := ParseTemplate(tt.text)
		if err != nil {
			t.Errorf("ParseTemplate(%q): %v", tt.text, err)
			continue
		}
		if got := tpl.Render(&facts); got != tt.want {
			t.Errorf("%q renders %q, want %q", tt.text, got, tt.want)
		}
		if tpl.String() != tt.text || tpl.IsZero() != (tt.text == "") {
			t.Errorf("%q: String = %q, IsZero = %v", tt.text, tpl, tpl.IsZero())
		}
	}
}

// What nobody knows renders empty, but for numbers and flags, as in an access log.
func TestTemplateZeroFacts(t *testing.T) {
	for text, want := range map[string]string{
		"%REQ(:METHOD)%%REQ(x)%%RESP(x)%%RESP(:status)%%PATH%%PATH(NQ:ORIG)%%PROTOCOL%%UPSTREAM_CLUSTER%": "",
		"%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_SENT%":                                                   "0 - 0",
	} {
		if got := MustTemplate(text).Render(&Facts{}); got != want {
			t.Errorf("%q renders %q of nothing, want %q", text, got, want)
		}
	}
}

func TestTemplateMistakes(t *testing.T) {
	tests := []struct {
		text   string
		offset int
		says   string
	}{
		{"%", 0, "no end"},
		{"a %REQ(x)", 2, "no end"},
		{"%REQ(x%", 0, "no end"},
		{"%NOTHING%", 1, "allowed are BYTES_RECEIVED"},
		{"%req(x)%", 1, "no operator"},
		{"ab%REQ%", 3, "name of a header"},
		{"%REQ()%", 1, "name of a header"},
		{"%REQ(a b)%", 1, "name of a header"},
		{"%REQ(?b)%", 1, "name of a header"},
		{"%REQ(x)y%", 1, ":LENGTH"},
		{"%REQ(x):%", 1, "0 to 65535"},
		{"%REQ(x):-1%", 1, "0 to 65535"},
		{"%REQ(x):70000%", 1, "0 to 65535"},
		{"%PROTOCOL()%", 1, "no parameter"},
		{"%PROTOCOL:3%", 1, "no parameter"},
		{"%PATH(XX)%", 1, "WQ or NQ"},
		{"%PATH(NQ:XX)%", 1, "WQ or NQ"},
		{strings.Repeat("x", maxTemplate+1), maxTemplate, "allowed are 4096 bytes"},
		{strings.Repeat("%PROTOCOL%", maxOps+1), 641, "allowed are 64 parts"},
	}
	for _, tt := range tests {
		tpl, err := ParseTemplate(tt.text)
		var te *TemplateError
		if !errors.As(err, &te) || te.Offset != tt.offset || !strings.Contains(err.Error(), tt.says) || !tpl.IsZero() {
			t.Errorf("ParseTemplate(%.40q) = %q, %v; want an error at byte %d that says %q", tt.text, tpl, err, tt.offset, tt.says)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("MustTemplate does not panic on a mistake")
		}
	}()
	MustTemplate("%")
}

// GL-5.
func TestGlooTemplate(t *testing.T) {
	for text, want := range map[string]string{
		`{{header("Host")}}`:                           "shop.example:8080",
		`a-{{ header("x-name") }}-{{header(":path")}}`: "a-n1-/carts?id=7",
		`{{header("x-missing")}}`:                      "",
		`50% {{header("X-Name")}}`:                     "50% n1",
	} {
		tpl, err := ParseGlooTemplate(text)
		if got := tpl.Render(&facts); err != nil || got != want {
			t.Errorf("%q renders %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{`{{header("x")`, `{{body()}}`, `{{header()}}`, `{{header("")}}`, `{{header("a b")}}`, `{{}}`, strings.Repeat(`{{header("x")}}`, maxOps+1), strings.Repeat("x", maxTemplate+1)} {
		if tpl, err := ParseGlooTemplate(text); err == nil || !tpl.IsZero() {
			t.Errorf("ParseGlooTemplate(%.40q) = %q, want an error", text, tpl)
		}
	}
}

// What a request says never makes a long name, and cutting it breaks no character.
func TestTemplateBounded(t *testing.T) {
	long := Facts{Header: http.Header{"X": {strings.Repeat("ä", maxRendered)}}}
	for _, text := range []string{"%REQ(x)%", "%REQ(x)% %REQ(x)%", strings.Repeat("%REQ(x)%", maxOps)} {
		got := MustTemplate(text).Render(&long)
		if len(got) > maxRendered || !utf8.ValidString(got) {
			t.Errorf("%.20q renders %d bytes, want at most %d of UTF-8", text, len(got), maxRendered)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"%REQ(X?Y):3% %%", "%PATH(NQ:ORIG)%", `{{header("x")}}`, "%RESP(:STATUS)%%TRAILER(x)%", "%%%", "%REQ((%"} {
		f.Add(text, "value")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		facts := Facts{Path: value, Header: http.Header{"X": {value}}, ResponseHeader: http.Header{"X": {value}}}
		for _, parse := range []func(string) (Template, error){ParseTemplate, ParseGlooTemplate} {
			tpl, err := parse(text)
			if err != nil {
				var te *TemplateError
				if !errors.As(err, &te) || te.Offset < 0 || te.Offset > len(text) {
					t.Errorf("%q: %v", text, err)
				}
				continue
			}
			if got := tpl.Render(&facts); len(got) > maxRendered {
				t.Errorf("%q renders %d bytes", text, len(got))
			}
			if again, err := parse(tpl.String()); err != nil || again.Render(&facts) != tpl.Render(&facts) {
				t.Errorf("%q is not the same when it is read again: %v", text, err)
			}
		}
	})
}
