package exporter

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshtrace/meshtrace/internal/collectortest"
)

// Every mistake is told at once, with field, value and what is allowed.
func TestNewReportsEveryMistake(t *testing.T) {
	_, err := New(Config{
		Endpoint: "ftp://user:s3cret@x", Protocol: 9, Headers: map[string]string{"Host": "x"}, TLS: &tls.Config{}, Client: &http.Client{},
		Compression: 9, Timeout: -1, QueueBytes: 1, Full: 9, Block: -1, Delay: -1, RequestBytes: 1, InFlight: -1, Getenv: noEnv,
	})
	if err == nil {
		t.Fatal("New accepts a Config full of mistakes")
	}
	got := strings.Split(err.Error(), "\n")
	want := []string{
		`exporter: Config.Endpoint is "ftp://x" (unknown scheme): allowed is ` + allowedEndpoint,
		`exporter: Config.Protocol is Protocol(9): allowed is Auto, GRPC, HTTPProtobuf, HTTPJSON`,
		`exporter: Config.Headers is "Host": a header that the protocol sets itself: allowed is ` + allowedHeaders,
		`exporter: Config.TLS is set: allowed is nil beside Client, whose Transport has TLS of its own`,
		`exporter: Config.Compression is Compression(9): allowed is None, Gzip`,
		`exporter: Config.Timeout is -1ns: allowed is 0 to 1h`,
		`exporter: Config.QueueBytes is 1: allowed is 0, or 65536 to 1099511627776`,
		`exporter: Config.Full is Full(9): allowed is DropNewest, DropOldest, Block`,
		`exporter: Config.Block is -1ns: allowed is 0 to 1m`,
		`exporter: Config.Delay is -1ns: allowed is 0 to 1h`,
		`exporter: Config.RequestBytes is 1: allowed is 0, or 4096 to 67108864`,
		`exporter: Config.InFlight is -1: allowed is 0 to 256`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("New:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A variable that cannot be used is told by name, value and what is allowed, and the
// next in line counts: the general variable, Config, the default.
func TestUnusableVariables(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLines()
	e := start(t, Config{Sender: nil, Protocol: GRPC, Delay: 7 * time.Second, Logger: slog.New(l), Getenv: env(
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:s3cret@:4317",
		"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1",
		"OTEL_EXPORTER_OTLP_PROTOCOL", "http/xml",
		"OTEL_EXPORTER_OTLP_HEADERS", "good=1,bad",
		"OTEL_EXPORTER_OTLP_TIMEOUT", "10s",
		"OTEL_EXPORTER_OTLP_COMPRESSION", "zstd",
		"OTEL_EXPORTER_OTLP_CERTIFICATE", empty,
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", filepath.Join(dir, "none.pem"),
		"OTEL_BSP_SCHEDULE_DELAY", "-5",
		"OTEL_BSP_MAX_QUEUE_SIZE", "0",
		"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "lots",
		"OTEL_BSP_EXPORT_TIMEOUT", "",
	)})
	told := l.all()
	for _, name := range []string{
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=\"http://:4317\"", "OTEL_EXPORTER_OTLP_PROTOCOL=\"http/xml\"", "OTEL_EXPORTER_OTLP_HEADERS=\"…\"",
		"OTEL_EXPORTER_OTLP_TIMEOUT=\"10s\"", "OTEL_EXPORTER_OTLP_COMPRESSION=\"zstd\"", "OTEL_EXPORTER_OTLP_CERTIFICATE=",
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=", "OTEL_BSP_SCHEDULE_DELAY=\"-5\"", "OTEL_BSP_MAX_QUEUE_SIZE=\"0\"", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=\"lots\"",
	} {
		n := 0
		for _, line := range told {
			if strings.Contains(line, name) && strings.Contains(line, "counts as unset: allowed is ") {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d lines about %s: %q", n, name, told)
		}
	}
	if text := strings.Join(told, "\n"); strings.Contains(text, "s3cret") {
		t.Errorf("a secret was told: %s", text)
	}
	got := map[string]Setting{}
	for _, s := range e.Settings() {
		got[s.Name] = s
	}
	for _, want := range []Setting{
		{"Endpoint", "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{"Protocol", "grpc", "Config"},
		{"Headers", "Good=…", "OTEL_EXPORTER_OTLP_HEADERS"},
		{"TLS", "off", "default"},
		{"Timeout", "10s", "default"},
		{"Compression", "none", "default"},
		{"Delay", "7s", "Config"},
		{"QueueSpans", "no limit", "default"},
		{"RequestSpans", "no limit", "default"},
	} {
		if got[want.Name] != want {
			t.Errorf("setting %+v, want %+v", got[want.Name], want)
		}
	}
}

// A Sender in code is not displaced by a variable; the queue's variables still count.
func TestSenderIsNotDisplaced(t *testing.T) {
	f := newFake(nil)
	l := newLines()
	e := start(t, Config{Sender: f, Logger: slog.New(l), Getenv: env(
		"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL", "bad", "OTEL_BSP_MAX_QUEUE_SIZE", "9")})
	end(e, 0, 5)
	if err := e.ForceFlush(withTimeout(t, time.Minute)); err != nil || f.unique() != 5 {
		t.Errorf("ForceFlush = %v, %d spans with the Sender", err, f.unique())
	}
	want := []Setting{{"Sender", "*exporter.fakeSender", "Config"}, {"QueueBytes", "67108864", "default"}, {"QueueSpans", "9", "OTEL_BSP_MAX_QUEUE_SIZE"}}
	if got := e.Settings()[:3]; !slices.Equal(got, want) || len(l.all()) != 0 {
		t.Errorf("settings %v, want %v; lines %q", got, want, l.all())
	}
}

// The caller's client is used, its Transport with what it has, without redirects.
func TestClient(t *testing.T) {
	overBoth(t, func(t *testing.T, p Protocol) {
		c := collectortest.Start(t)
		protocols := new(http.Protocols)
		protocols.SetHTTP1(p == HTTPProtobuf)
		protocols.SetUnencryptedHTTP2(p == GRPC)
		transport := &http.Transport{Protocols: protocols}
		defer transport.CloseIdleConnections()
		seen := 0
		client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			seen++
			return transport.RoundTrip(r)
		})}
		e := start(t, Config{Endpoint: c.URL(), Protocol: p, Client: client})
		end(e, 0, 5)
		all(t, e, c, 5)
		if seen != 1 || client.CheckRedirect != nil {
			t.Errorf("%d requests through the client; CheckRedirect changed: %v", seen, client.CheckRedirect != nil)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Certificates from variables: the authority, and the client's own with its key.
func TestCertificateVariables(t *testing.T) {
	cert, _ := collectortest.SelfSigned(t, time.Now().Add(time.Hour))
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := file("cert.pem", "CERTIFICATE", cert.Certificate[0]), file("key.pem", "PRIVATE KEY", key)
	overBoth(t, func(t *testing.T, p Protocol) {
		c := collectortest.Start(t, collectortest.WithTLS(&tls.Config{
			Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert}))
		get := env("OTEL_EXPORTER_OTLP_CERTIFICATE", certFile, "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", certFile, "OTEL_EXPORTER_OTLP_CLIENT_KEY", keyFile)
		e := start(t, Config{Endpoint: c.Addr(), Protocol: p, Getenv: get})
		end(e, 0, 5)
		all(t, e, c, 5)
		if len(logged(e)) != 0 {
			t.Errorf("lines %q", logged(e))
		}
		i := slices.IndexFunc(e.Settings(), func(s Setting) bool { return s.Name == "TLS" })
		if s := e.Settings()[i]; s.Value != "on" || !strings.HasPrefix(s.Source, "OTEL_EXPORTER_OTLP_") {
			t.Errorf("setting %+v", s)
		}
	})
}

// Certificates that change in their files hold for the connections made afterwards: the
// client's own, and the authorities, once the old ones fail. A file that is half written
// leaves the one before in place.
func TestCertificatesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, kind string, der []byte) {
		t.Helper()
		if err := os.WriteFile(file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writePair := func(c tls.Certificate) {
		t.Helper()
		key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		write("cert.pem", "CERTIFICATE", c.Certificate[0])
		write("key.pem", "PRIVATE KEY", key)
	}
	first, _ := collectortest.SelfSigned(t, time.Now().Add(time.Hour))
	second, _ := collectortest.SelfSigned(t, time.Now().Add(2*time.Hour))
	writePair(first)
	write("ca.pem", "CERTIFICATE", first.Certificate[0])

	var serving, saw atomic.Pointer[[]byte]
	serving.Store(&first.Certificate[0])
	c := collectortest.Start(t, collectortest.WithTLS(&tls.Config{
		ClientAuth: tls.RequireAnyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if bytes.Equal(*serving.Load(), second.Certificate[0]) {
				return &second, nil
			}
			return &first, nil
		},
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			saw.Store(&raw[0])
			return nil
		},
	}))
	e := start(t, Config{Endpoint: c.URL(), Protocol: GRPC, Getenv: env("OTEL_EXPORTER_OTLP_CERTIFICATE", file("ca.pem"),
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", file("cert.pem"), "OTEL_EXPORTER_OTLP_CLIENT_KEY", file("key.pem"))})
	n := 0
	deliver := func(want tls.Certificate) {
		t.Helper()
		end(e, n, n+5)
		n += 5
		c.Wait(n)
		if !bytes.Equal(*saw.Load(), want.Certificate[0]) {
			t.Errorf("after %d spans the collector sees another certificate of ours", n)
		}
	}
	deliver(first)
	if err := os.WriteFile(file("cert.pem"), []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Refuse()
	c.Reopen()
	deliver(first)
	writePair(second)
	c.Refuse()
	c.Reopen()
	deliver(second)
	serving.Store(&second.Certificate[0])
	write("ca.pem", "CERTIFICATE", second.Certificate[0])
	c.Refuse()
	c.Reopen()
	deliver(second)
	all(t, e, c, n)
}

func TestLossErrorText(t *testing.T) {
	for _, tt := range []struct {
		err  LossError
		want string
	}{
		{LossError{Lost: 1}, "exporter: 1 span lost"},
		{LossError{Lost: 2, Err: errors.New("a\nb")}, "exporter: 2 spans lost: a b"},
		{LossError{Lost: 2, OnDisk: 3}, "exporter: 2 spans lost, 3 kept on disk"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%+v = %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestOneLine(t *testing.T) {
	for _, tt := range []struct {
		in    string
		limit int
		want  string
	}{
		{"plain", 40, "plain"},
		{" a\r\nb\tc ", 40, "a  b c"},
		{"\x1b[31mred\x00", 40, `\u001b[31mred\u0000`},
		{"bidi\u202etxt", 40, `bidi\u202etxt`},
		{"bad\xff", 40, "bad\uFFFD"},
		{"éééééééééé", 10, "ééé…"},
		{"0123456789", 10, "0123456789"},
		{"01234567890", 10, "0123456…"},
		{strings.Repeat("x", 1<<20), 10, "xxxxxxx…"},
	} {
		if got := oneLine(tt.in, tt.limit); got != tt.want || len(got) > tt.limit {
			t.Errorf("oneLine(%.20q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
}
