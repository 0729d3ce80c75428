package tracegrpc

import (
	"strings"
	"testing"
	"unicode/utf8"
)

var targets = []struct {
	target, host string
	port         int
}{
	{"localhost:50051", "localhost", 50051},
	{"localhost", "localhost", 0},
	{"10.1.2.3:80", "10.1.2.3", 80},
	{"[::1]:443", "::1", 443},
	{"[::1]", "::1", 0},
	{"::1", "::1", 0},
	{":8080", "localhost", 8080},
	{"svc.ns.svc.cluster.local:https", "svc.ns.svc.cluster.local", 0},
	{"host:0", "host", 0},
	{"host:65536", "host", 0},
	{"dns:///route:9090", "route", 9090},
	{"dns:///route", "route", 0},
	{"dns://8.8.8.8/route:9090", "route", 9090},
	{"dns:route:9090", "route", 9090},
	{"DNS:///route:9090", "route", 9090},
	{"dns:///%5B2001:db8::1%5D:443", "2001:db8::1", 443},
	{"dns:///route:9090?x=y", "route", 9090},
	{"passthrough:///127.0.0.1:1234", "127.0.0.1", 1234},
	{"passthrough:127.0.0.1:1234", "127.0.0.1", 1234},
	{"passthrough:///bufnet", "bufnet", 0},
	{"passthrough:///unix:///tmp/x.sock", "/tmp/x.sock", 0},
	{"xds:///checkout", "checkout", 0},
	{"xds:///checkout:9090", "checkout", 9090},
	{"xds://control.plane/checkout:9090", "checkout", 9090},
	{"unix:///run/containerd/containerd.sock", "/run/containerd/containerd.sock", 0},
	{"unix:/run/x.sock", "/run/x.sock", 0},
	{"unix:relative.sock", "relative.sock", 0},
	{"unix-abstract:name", "@name", 0},
	{"zk://zookeeper.example.com:2181/my-path", "zk://zookeeper.example.com:2181/my-path", 0},
	{"etcd://user:secret@host:1/svc?token=secret#x", "etcd://host:1/svc", 0},
	{"consul:///svc", "consul:///svc", 0},
	{"", "", 0},
	{":", "", 0},
	{"dns:///", "", 0},
	{"dns://", "", 0},
	{"unix:", "", 0},
}

func TestParseTarget(t *testing.T) {
	for _, tt := range targets {
		if host, port := parseTarget(tt.target); host != tt.host || port != tt.port {
			t.Errorf("parseTarget(%q) = %q, %d, want %q, %d", tt.target, host, port, tt.host, tt.port)
		}
	}
}

func TestTargetAttributes(t *testing.T) {
	for _, tt := range []struct {
		target string
		want   string
	}{
		{"dns:///route:9090", "server.address=route server.port=9090"},
		{"unix:/x", "server.address=/x"},
		{"", ""},
		{strings.Repeat("h", 1000) + ":1", "server.address=" + strings.Repeat("h", 255) + " server.port=1"},
		{"a\xffb", "server.address=ab"},
	} {
		var got []string
		for _, kv := range targetAttributes(tt.target) {
			got = append(got, string(kv.Key)+"="+kv.Value.String())
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("targetAttributes(%.40q) = %q, want %q", tt.target, got, tt.want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, tt := range targets {
		f.Add(tt.target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		host, port := parseTarget(target)
		if port < 0 || port > 65535 || len(host) > maxTarget+len("localhost") {
			t.Errorf("parseTarget(%q) = %q, %d", target, host, port)
		}
		for _, kv := range targetAttributes(target) {
			if s := kv.Value.String(); len(s) > maxText || !utf8.ValidString(s) {
				t.Errorf("targetAttributes(%q) has %q", target, s)
			}
		}
		// Around any host user, password and query stay hidden.
		if strings.ContainsAny(target, "/?#@") || strings.Contains(target, "SECRET") {
			return
		}
		secret := "etcd://SECRET:SECRET@" + target + "?SECRET"
		if host, _ := parseTarget(secret); strings.Contains(host, "SECRET") {
			t.Errorf("parseTarget(%q) = %q shows the secret", secret, host)
		}
	})
}

func BenchmarkParseTarget(b *testing.B) {
	for b.Loop() {
		parseTarget("dns:///route.default.svc.cluster.local:9090")
	}
}
