package exporter

import (
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/meshtrace/meshtrace/internal/collectortest"
)

// inForce returns the setting of this name and the lines that were logged, of an
// Exporter in this environment; its program says something else about everything.
func inForce(t *testing.T, name string, environment ...string) (Setting, []string) {
	t.Helper()
	l := newLines()
	e := start(t, Config{
		Endpoint: "localhost:1", Protocol: GRPC, Headers: map[string]string{"mine": "1"}, Compression: Gzip, Timeout: 7 * time.Second,
		Delay: 7 * time.Second, Logger: slog.New(l), Getenv: env(environment...),
	})
	var found Setting
	for _, s := range e.Settings() {
		if s.Name == name {
			found = s
		}
	}
	var told []string
	for _, line := range l.all() {
		if strings.Contains(line, "counts as unset") {
			told = append(told, line)
		}
	}
	return found, told
}

// Each variable that an Exporter reads, value by value: what is in force then and where
// it came from. What cannot be used is reported by name and counts as unset, an empty
// value is unset and no mistake (OpenTelemetry, "Environment Variable Specification").
// Of those that exist for traces alone the traces' form wins.
func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	cert, _ := collectortest.SelfSigned(t, time.Now().Add(time.Hour))
	pemFile := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(pemFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	const config, unset = "Config", "default"
	type row struct {
		value  string
		want   string // the setting's value; "": that of Config or the default
		report bool
	}
	for _, tt := range []struct {
		name, setting string
		signal        bool // there is a form with TRACES_ too
		def, from     string
		rows          []row
	}{
		{"ENDPOINT", "Endpoint", true, "http://localhost:1", config, []row{
			{"http://127.0.0.1:1", "http://127.0.0.1:1", false}, {"https://127.0.0.1:1", "https://127.0.0.1:1", false}, {" 127.0.0.1:1 ", "http://127.0.0.1:1", false},
			{"[::1]:1", "http://[::1]:1", false}, {"localhost", "http://localhost:4317", false}, {"unix:/none", "unix:/none", false}, {"http://user:s3cret@127.0.0.1:1", "http://127.0.0.1:1", false},
			{"ftp://x", "", true}, {"http://", "", true}, {"127.0.0.1:99999", "", true}, {"a b", "", true}, {"http://x/#y", "", true}, {strings.Repeat("x", 3000), "", true},
		}},
		{"PROTOCOL", "Protocol", true, "grpc", config, []row{
			{"grpc", "grpc", false}, {"http/protobuf", "http/protobuf", false}, {"http/json", "http/json", false}, {"GRPC", "grpc", false}, {" HTTP/Protobuf ", "http/protobuf", false},
			{"http", "", true}, {"http/xml", "", true}, {"grpc,http/json", "", true},
		}},
		{"HEADERS", "Headers", true, "Mine=…", config, []row{
			{"a=1", "A=…", false}, {"a=1,b=2", "A=…, B=…", false}, {" a = 1 , ", "A=…", false}, {"authorization=Bearer%20s3cret", "Authorization=…", false},
			{"a=%zz", "", true}, {"a", "", true}, {"Host=x", "", true}, {"a=1,grpc-x=2", "A=…", true}, {"a=%0d%0ab", "", true}, {strings.Repeat("x", 70_000), "", true},
		}},
		{"COMPRESSION", "Compression", true, "gzip", config, []row{
			{"gzip", "gzip", false}, {"none", "none", false}, {"GZIP", "gzip", false}, {"zstd", "", true}, {"true", "", true},
		}},
		{"TIMEOUT", "Timeout", true, "7s", config, []row{
			{"1500", "1.5s", false}, {"0", "none", false}, {"3600000", "1h0m0s", false}, {"3600001", "", true}, {"-1", "", true}, {"10s", "", true}, {"1e3", "", true}, {"99999999999999999999", "", true},
		}},
		{"CERTIFICATE", "TLS", true, "off", unset, []row{
			{pemFile, "on", false}, {filepath.Join(dir, "none"), "", true}, {dir, "", true},
		}},
		{"OTEL_BSP_SCHEDULE_DELAY", "Delay", false, "7s", config, []row{
			{"250", "250ms", false}, {"0", "0s", false}, {"-5000", "", true}, {"5s", "", true}, {"3600001", "", true},
		}},
		{"OTEL_BSP_EXPORT_TIMEOUT", "Timeout", false, "7s", config, []row{
			{"2000", "2s", false}, {"30000", "", false}, {"0", "", false}, {"-1", "", true}, {"x", "", true},
		}},
		{"OTEL_BSP_MAX_QUEUE_SIZE", "QueueSpans", false, "no limit", unset, []row{
			{"2048", "2048", false}, {"1", "1", false}, {"0", "", true}, {"-1", "", true}, {"2k", "", true}, {"99999999999999999999", "", true},
		}},
		{"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "RequestSpans", false, "no limit", unset, []row{
			{"512", "512", false}, {"1", "1", false}, {"0", "", true}, {"-1", "", true}, {"1.5", "", true},
		}},
		{"HTTPS_PROXY", "Proxy", false, "", "", []row{ // of gRPC; the endpoint must not be on this machine
			{"http://127.0.0.1:1", "http://127.0.0.1:1", false}, {"ftp://x", "", true}, {"http://", "", true},
		}},
	} {
		names := []string{tt.name}
		if tt.signal {
			names = []string{envPrefix + tt.name, envSignal + tt.name}
		}
		for _, name := range names {
			for _, r := range append(tt.rows, row{"", "", false}, row{"  ", "", false}) {
				t.Run(name+"="+r.value[:min(len(r.value), 40)], func(t *testing.T) {
					environment := []string{name, r.value}
					if tt.name == "HTTPS_PROXY" {
						environment = append(environment, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127-0-0-1.test:1")
					}
					got, told := inForce(t, tt.setting, environment...)
					want := Setting{tt.setting, r.want, name}
					if r.want == "" {
						if want = (Setting{tt.setting, tt.def, tt.from}); tt.from == "" {
							want = Setting{}
						}
					}
					if got != want {
						t.Errorf("%s=%q: setting %+v, want %+v", name, r.value, got, want)
					}
					if (len(told) > 0) != r.report || r.report && !strings.Contains(told[0], name+"=") {
						t.Errorf("%s=%q: reported %q", name, r.value, told)
					}
				})
			}
			if tt.signal && tt.rows[0].want != "" && tt.name != "CERTIFICATE" {
				got, _ := inForce(t, tt.setting, envSignal+tt.name, tt.rows[0].value, envPrefix+tt.name, tt.rows[1].value)
				if got.Value != tt.rows[0].want || got.Source != envSignal+tt.name {
					t.Errorf("both forms of %s: %+v, want the traces'", tt.name, got)
				}
			}
		}
	}

	// INSECURE counts where the endpoint has no scheme.
	for _, tt := range []struct {
		endpoint, insecure, want string
		report                   bool
	}{
		{"127.0.0.1:1", "", "off", false}, {"127.0.0.1:1", "false", "on", false}, {"127.0.0.1:1", "TRUE", "off", false},
		{"8.8.8.8:1", "", "on", false}, {"8.8.8.8:1", "true", "off", false}, {"8.8.8.8:1", "yes", "on", true}, {"8.8.8.8:1", "1", "on", true},
		{"https://127.0.0.1:1", "true", "on", false}, {"http://8.8.8.8:1", "false", "off", false},
	} {
		for _, name := range both("INSECURE") {
			s := (&Config{}).resolve(otelenvOf(envPrefix+"ENDPOINT", tt.endpoint, name, tt.insecure))
			got := ""
			for _, setting := range s.list {
				if setting.Name == "TLS" {
					got = setting.Value
				}
			}
			if got != tt.want {
				t.Errorf("%s with %s=%q: TLS %s, want %s", tt.endpoint, name, tt.insecure, got, tt.want)
			}
		}
	}

	// The general endpoint gets /v1/traces, the traces' own is taken as it is.
	for _, tt := range []struct{ name, value, want string }{
		{envPrefix + "ENDPOINT", "http://c:1", "http://c:1/v1/traces"}, {envPrefix + "ENDPOINT", "http://c:1/base/", "http://c:1/base/v1/traces"},
		{envSignal + "ENDPOINT", "http://c:1", "http://c:1/"}, {envSignal + "ENDPOINT", "http://c:1/mine", "http://c:1/mine"},
	} {
		s := (&Config{Protocol: HTTPProtobuf}).resolve(otelenvOf(tt.name, tt.value))
		if got := s.target.url.String(); got != tt.want {
			t.Errorf("%s=%s posts to %s, want %s", tt.name, tt.value, got, tt.want)
		}
	}
}

// variables are all that an Exporter reads.
var variables = func() []string {
	names := []string{
		"OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "REQUEST_METHOD",
	}
	for _, n := range []string{"ENDPOINT", "PROTOCOL", "INSECURE", "CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY", "HEADERS", "COMPRESSION", "TIMEOUT"} {
		names = append(names, both(n)...)
	}
	return names
}()

// Whatever stands in whichever two variables: no panic, settings within the bounds of
// Config, and reports that a log can show and that hold no header's value.
func FuzzEnvironment(f *testing.F) {
	for i := range variables {
		for _, v := range []string{"", "x", "-1", "1", "true", "localhost:4317", "grpc", "a=s3cret", "/etc/passwd", "\x00", "\xff", "unix:", "file:x", "*,.a,[::1]:80,10.0.0.0/33"} {
			f.Add(uint8(i), v, uint8(i+1), v)
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, v string, j uint8, w string) {
		a, b := variables[int(i)%len(variables)], variables[int(j)%len(variables)]
		r := otelenvOf(a, v, b, w)
		s := (&Config{}).resolve(r)
		switch {
		case s.timeout < 0 || s.timeout > maxTimeout, s.delay < 0 || s.delay > maxDelay, s.queueSpans < 0, s.requestSpans < 0,
			s.queueBytes != defaultQueueBytes, s.inFlight != defaultInFlight, s.protocol > HTTPJSON, s.compression > Gzip, len(s.headers) > maxHeaders:
			t.Fatalf("%s=%q, %s=%q: %+v", a, v, b, w, s)
		}
		if line := s.line(nil); len(line) > maxLine || !utf8.ValidString(line) || strings.ContainsAny(line, "\n\r\x1b\x00") {
			t.Fatalf("%s=%q, %s=%q: line %q", a, v, b, w, line)
		}
		for _, p := range r.Problems() {
			if line := oneLine(p.Error(), maxLine); strings.ContainsAny(line, "\n\r\x1b\x00") || strings.HasSuffix(p.Name, "_HEADERS") && p.Value != "…" {
				t.Fatalf("%s=%q: report %q", a, v, line)
			}
		}
		if s.file == "" {
			newTransport(s, func(string, any) {}).Close()
		}
	})
}
