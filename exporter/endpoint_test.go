package exporter

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	tests := []struct {
		in        string
		protocol  Protocol // what the spelling says
		as        Protocol // resolved for
		plaintext bool
		url       string
		addr      string
		name      string
	}{
		{"localhost:4317", GRPC, GRPC, true, "http://localhost:4317" + exportPath, "localhost:4317", "localhost:4317"},
		{"localhost:4318", HTTPProtobuf, HTTPProtobuf, true, "http://localhost:4318/v1/traces", "localhost:4318", "localhost:4318/v1/traces"},
		{"collector", HTTPProtobuf, HTTPProtobuf, true, "http://collector:4318/v1/traces", "collector:4318", "collector:4318/v1/traces"},
		{"collector", HTTPProtobuf, GRPC, true, "http://collector:4317" + exportPath, "collector:4317", "collector:4317"},
		{"10.1.2.3:4317", GRPC, GRPC, true, "http://10.1.2.3:4317" + exportPath, "10.1.2.3:4317", "10.1.2.3:4317"},
		{"[::1]:4317", GRPC, GRPC, true, "http://[::1]:4317" + exportPath, "[::1]:4317", "[::1]:4317"},
		{"[2001:db8::1]:4317", GRPC, GRPC, false, "https://[2001:db8::1]:4317" + exportPath, "[2001:db8::1]:4317", "[2001:db8::1]:4317"},
		{"http://collector:9999", Auto, HTTPProtobuf, true, "http://collector:9999/v1/traces", "collector:9999", "collector:9999/v1/traces"},
		{"HTTP://collector:4318/", HTTPProtobuf, HTTPProtobuf, true, "http://collector:4318/v1/traces", "collector:4318", "collector:4318/v1/traces"},
		{"http://collector:4318/v1/traces", HTTPProtobuf, HTTPProtobuf, true, "http://collector:4318/v1/traces", "collector:4318", "collector:4318/v1/traces"},
		{"http://collector:4318/v1/traces/", HTTPProtobuf, HTTPProtobuf, true, "http://collector:4318/v1/traces/", "collector:4318", "collector:4318/v1/traces/"},
		{"collector:4318/v1/traces", HTTPProtobuf, HTTPProtobuf, true, "http://collector:4318/v1/traces", "collector:4318", "collector:4318/v1/traces"},
		{"https://otlp.example.com", Auto, HTTPProtobuf, false, "https://otlp.example.com/v1/traces", "otlp.example.com:443", "otlp.example.com/v1/traces"},
		{"https://otlp.example.com/base", HTTPProtobuf, HTTPProtobuf, false, "https://otlp.example.com/base/v1/traces", "otlp.example.com:443", "otlp.example.com/base/v1/traces"},
		{"http://collector", Auto, GRPC, true, "http://collector" + exportPath, "collector:80", "collector"},
		{"https://u:secret@otlp.example.com:4318/?token=secret", HTTPProtobuf, HTTPProtobuf, false, "https://u:secret@otlp.example.com:4318/v1/traces?token=secret", "otlp.example.com:4318", "otlp.example.com:4318/v1/traces"},
		{"https://otlp.example.com/a%2Fb", HTTPProtobuf, HTTPProtobuf, false, "https://otlp.example.com/a%2Fb/v1/traces", "otlp.example.com:443", "otlp.example.com/a%2Fb/v1/traces"},
		{"unix:/run/otel.sock", Auto, GRPC, true, "http://localhost" + exportPath, "", "unix:/run/otel.sock"},
		{"unix:///run/otel.sock", Auto, HTTPProtobuf, true, "http://localhost/v1/traces", "", "unix:/run/otel.sock/v1/traces"},
		{"unix:otel.sock", Auto, GRPC, true, "http://localhost" + exportPath, "", "unix:otel.sock"},
	}
	for _, tt := range tests {
		e, err := parseEndpoint(tt.in)
		if err != nil {
			t.Errorf("parseEndpoint(%q): %v", tt.in, err)
			continue
		}
		if got := e.protocol(); got != tt.protocol {
			t.Errorf("parseEndpoint(%q).protocol() = %v, want %v", tt.in, got, tt.protocol)
		}
		plaintext := e.scheme == "http" || e.scheme == "" && e.plaintextByName()
		if plaintext != tt.plaintext {
			t.Errorf("%q: plaintext %v, want %v", tt.in, plaintext, tt.plaintext)
		}
		to := e.resolve(tt.as, plaintext, false)
		if to.url.String() != tt.url || to.addr != tt.addr || to.name != tt.name {
			t.Errorf("%q as %v = %q, dial %q, called %q; want %q, %q, %q", tt.in, tt.as, to.url, to.addr, to.name, tt.url, tt.addr, tt.name)
		}
	}
}

// The signal's own variable is used as it is, by the specification; without a scheme
// it is no URL.
func TestResolveExact(t *testing.T) {
	for in, want := range map[string]string{
		"http://c:4318":           "http://c:4318/",
		"http://c:4318/":          "http://c:4318/",
		"http://c:4318/v1/traces": "http://c:4318/v1/traces",
		"http://c:4318/mine":      "http://c:4318/mine",
		"c:4318":                  "http://c:4318/v1/traces",
	} {
		e, err := parseEndpoint(in)
		if err != nil {
			t.Errorf("parseEndpoint(%q): %v", in, err)
			continue
		}
		if got := e.resolve(HTTPProtobuf, true, true).url.String(); got != want {
			t.Errorf("%q, exact = %q, want %q", in, got, want)
		}
	}
}

func TestParseEndpointErrors(t *testing.T) {
	for in, want := range map[string]error{
		strings.Repeat("a", maxEndpoint+1): errEndpointLong,
		"a b:4317":                         errEndpointByte,
		"a\n:4317":                         errEndpointByte,
		"ftp://collector:4317":             errEndpointScheme,
		"grpc://collector:4317":            errEndpointScheme,
		"":                                 errEndpointHost,
		"http://":                          errEndpointHost,
		":4317":                            errEndpointHost,
		"http://:4317":                     errEndpointHost,
		"col!ector:4317":                   errEndpointHost,
		"[::g]:4317":                       errEndpointURL,
		"[10.0.0.1]:4317":                  errEndpointURL,
		"collector:":                       errEndpointPort,
		"collector:0":                      errEndpointPort,
		"collector:70000":                  errEndpointPort,
		"collector:http":                   errEndpointURL,
		"::1":                              errEndpointURL,
		"http://collector:4318/#x":         errEndpointURL,
		"http://col%zzector":               errEndpointURL,
		"unix:":                            errEndpointPath,
		"unix:///":                         errEndpointPath,
	} {
		if e, err := parseEndpoint(in); !errors.Is(err, want) {
			t.Errorf("parseEndpoint(%q) = %+v, %v, want %v", in, e, err, want)
		}
	}
}

// An address without a scheme is plaintext where no public certificate can exist.
func TestPlaintextByName(t *testing.T) {
	for in, want := range map[string]bool{
		"localhost": true, "collector": true, "otel_collector": true,
		"collector.monitoring.svc": true, "collector.monitoring.svc.cluster.local": true, "box.local": true,
		"app.localhost": true, "host.docker.internal": true, "x.test": true, "collector.monitoring.svc.": true, "A.SVC": true,
		"127.0.0.1": true, "127.9.9.9": true, "10.0.0.1": true, "172.16.0.1": true, "172.31.255.255": true, "192.168.1.1": true,
		"169.254.1.1": true, "0.0.0.0": true, "[::1]": true, "[fe80::1]": true, "[fd00::1]": true, "[::ffff:10.0.0.1]": true,
		"otlp.example.com": false, "collector.svc.example.com": false, "notlocal": true, "not.alocal": false,
		"8.8.8.8": false, "172.32.0.1": false, "192.169.0.1": false, "[2001:db8::1]": false, "[::ffff:8.8.8.8]": false,
	} {
		e, err := parseEndpoint(in + ":4317")
		if err != nil {
			t.Errorf("parseEndpoint(%q): %v", in, err)
			continue
		}
		if got := e.plaintextByName(); got != want {
			t.Errorf("%q is plaintext: %v, want %v", in, got, want)
		}
	}
}

func TestRedactURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://u:p@host:1/x?token=y": "http://host:1/x",
		"u:p@host:1":                  "host:1",
		"http://u:p@ss@ho st":         "http://ho st",
		"host":                        "host",
	} {
		if got := redactURL(in); got != want {
			t.Errorf("redactURL(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"localhost:4317", "http://[::1]:4318/v1/traces", "https://u:p@a.example/x?y=z", "unix:/a", "", "::", "http://", "a%00b", "[fe80::1%25eth0]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		e, err := parseEndpoint(in)
		if err != nil {
			return
		}
		for _, p := range []Protocol{GRPC, HTTPProtobuf} {
			for _, exact := range []bool{false, true} {
				to := e.resolve(p, e.plaintextByName(), exact)
				u, err := url.Parse(to.url.String())
				if err != nil {
					t.Fatalf("%q as %v makes the URL %q: %v", in, p, to.url, err)
				}
				if u.Host != to.url.Host || u.Scheme != to.url.Scheme || u.EscapedPath() != to.url.EscapedPath() {
					t.Fatalf("%q as %v: %q is read back as host %q, path %q", in, p, to.url, u.Host, u.Path)
				}
				if e.user != nil && e.user.String() != "" && len(e.user.String()) > 3 && strings.Contains(to.name, e.user.String()+"@") {
					t.Fatalf("%q: user in the name %q", in, to.name)
				}
			}
		}
	})
}
