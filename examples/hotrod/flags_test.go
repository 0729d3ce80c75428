package main

import (
	"errors"
	"flag"
	"net"
	"regexp"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		args string
		want options // usage left out
	}{
		{"", options{command: "all", listen: "127.0.0.1:8080", rides: 1, logs: "text"}},
		{"all -listen localhost:1 -log json", options{command: "all", listen: "localhost:1", rides: 1, logs: "json"}},
		{"-once", options{command: "all", listen: "127.0.0.1:0", once: true, rides: 1, logs: "text"}},
		{"-once -listen :9", options{command: "all", listen: ":9", once: true, rides: 1, logs: "text"}},
		{"-rides 5", options{command: "all", listen: "127.0.0.1:0", once: true, rides: 5, logs: "text"}},
		{"-json", options{command: "all", listen: "127.0.0.1:0", once: true, rides: 1, json: true, logs: "text"}},
		{"customer", options{command: "customer", listen: "127.0.0.1:8081", logs: "text"}},
		{"frontend -driver-addr driver:82", options{command: "frontend", listen: "127.0.0.1:8080", logs: "text",
			peers: peers{customer: "127.0.0.1:8081", driver: "driver:82", route: "127.0.0.1:8083"}}},
	} {
		got, err := parse(strings.Fields(tt.args))
		got.usage = ""
		if err != nil || got != tt.want {
			t.Errorf("parse(%q) = %+v, %v, want %+v", tt.args, got, err, tt.want)
		}
	}
}

func TestParseReportsEveryMistake(t *testing.T) {
	for _, tt := range []struct {
		args string
		want []string // parts of the error
	}{
		{"bicycle", []string{`"bicycle"`, "all, frontend, customer, driver or route"}},
		{"-once -rides 0 -log xml -listen nowhere", []string{"-rides 0: allowed is 1 to 1000", `-log "xml": allowed is text or json`, `-listen "nowhere": allowed is host:port`}},
		{"-rides 1001", []string{"-rides 1001"}},
		{"frontend -route-addr x -customer-addr h:70000", []string{`-route-addr "x"`, `-customer-addr "h:70000"`}},
		{"route -once", []string{"-once"}},
		{"-once now", []string{`argument "now"`}},
		{"-rides many", []string{"-rides"}},
	} {
		_, err := parse(strings.Fields(tt.args))
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("parse(%q) = %v, want %q in it", tt.args, err, want)
			}
		}
	}
}

func TestHelp(t *testing.T) {
	o, err := parse([]string{"-help"})
	if !errors.Is(err, flag.ErrHelp) {
		t.Errorf("parse(-help) = %v, want flag.ErrHelp", err)
	}
	for _, f := range []string{"-listen", "-once", "-rides", "-json", "-log", "OTEL_"} {
		if !strings.Contains(o.usage, f) {
			t.Errorf("usage does not name %s:\n%s", f, o.usage)
		}
	}
	code, out, _ := once(t, nil, "-help")
	if code != 0 || out.String() != o.usage {
		t.Errorf("hotrod -help = %d, %q", code, out)
	}
	if code, _, errOut := once(t, nil, "-nope"); code != 2 || !strings.Contains(errOut.String(), "-nope") {
		t.Errorf("hotrod -nope = %d, %q, want 2", code, errOut)
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, command := range []string{"all", "customer", "driver", "route", "frontend"} {
		code, _, errOut := once(t, nil, command, "-listen", taken.Addr().String())
		m := regexp.MustCompile(`-listen (\S+): .*; -listen (\S+) is free`).FindStringSubmatch(errOut.String())
		if code != 1 || m == nil || m[1] != taken.Addr().String() {
			t.Errorf("hotrod %s on a taken port = %d, %q, want the flag and a free port", command, code, errOut)
			continue
		}
		ln, err := net.Listen("tcp", m[2])
		if err != nil {
			t.Errorf("hotrod %s: %s is not free: %v", command, m[2], err)
			continue
		}
		ln.Close()
	}
}
