package validate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

// peer is a real program: the image that the files of this folder name, and its file in
// /.peers, where "go run . install NAME" in internal/interop puts it.
type peer struct {
	name, image, file string
}

var (
	envoyPeer     = peer{"envoy", "envoyproxy/envoy:v1.40.0", "envoy-1.40.0"}
	collectorPeer = peer{"collector", "otel/opentelemetry-collector-contrib:0.111.0", "otelcol-v0.111.0"}
	jaegerPeer    = peer{"jaeger", "jaegertracing/all-in-one:1.62.0", "jaeger-1.62.0"}
)

// need returns the paths of peers, or skips.
func need(t *testing.T, peers ...peer) []string {
	t.Helper()
	var paths, missing []string
	for _, p := range peers {
		path, err := filepath.Abs(filepath.Join(repository, ".peers", p.file))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, p.name)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if len(missing) > 0 {
		say := t.Skipf
		if os.Getenv("MESHTRACE_INTEROP") == "1" {
			say = t.Fatalf
		}
		say("not installed: cd internal/interop && go run . install %s", strings.Join(missing, " "))
	}
	return paths
}

// output runs a program to its end.
func output(t *testing.T, dir string, env []string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestImages checks that the images named everywhere are of the versions that run.
func TestImages(t *testing.T) {
	var known []string
	for _, p := range []peer{envoyPeer, collectorPeer, jaegerPeer} {
		known = append(known, p.image)
	}
	image := regexp.MustCompile(`image: ((?:envoyproxy/envoy|otel/opentelemetry-collector-contrib|jaegertracing/all-in-one):\S+)`)
	seen := 0
	for name := range files {
		for _, m := range image.FindAllStringSubmatch(string(read(t, name)), -1) {
			seen++
			if !slices.Contains(known, m[1]) {
				t.Errorf("%s names the image %s; those that run are %v", name, m[1], known)
			}
		}
	}
	if seen < 6 {
		t.Errorf("%d images were found, want 6 at least", seen)
	}
}

// TestCollectorsValidate gives the Collectors' configurations to a Collector.
func TestCollectorsValidate(t *testing.T) {
	otelcol := need(t, collectorPeer)[0]
	for _, names := range [][]string{
		{"collector/one/collector.yaml"}, {"collector/agent.yaml"}, {"collector/gateway.yaml"}, {"collector/gateway.yaml", "collector/to-otlp.yaml"},
	} {
		args := []string{otelcol, "validate"}
		for _, name := range names {
			args = append(args, "--config="+filepath.Join("..", name))
		}
		if out, err := output(t, "", os.Environ(), args...); err != nil {
			t.Errorf("otelcol validate %v: %v\n%s", names, err, out)
		}
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	write(t, bad, strings.Replace(string(read(t, "collector/gateway.yaml")), "decision_wait:", "decision_weight:", 1))
	if out, err := output(t, "", os.Environ(), otelcol, "validate", "--config="+bad); err == nil {
		t.Errorf("otelcol validate took a field that is not there, which makes the rest worthless\n%s", out)
	}
}

// TestEnvoyValidates gives Envoy its configuration.
func TestEnvoyValidates(t *testing.T) {
	envoy := need(t, envoyPeer)[0]
	if out, err := output(t, "", os.Environ(), envoy, "--mode", "validate", "-l", "error", "-c", "../compose/envoy.yaml"); err != nil {
		t.Errorf("envoy --mode validate: %v\n%s", err, out)
	}
}

// jaeger2 is the path of Jaeger 2, or the test skips. Building it is minutes of work, so
// internal/interop does not install it.
func jaeger2(t *testing.T) string {
	t.Helper()
	const program = "github.com/jaegertracing/jaeger/cmd/jaeger"
	jaeger, err := filepath.Abs(filepath.Join(repository, ".peers", "jaeger2-1.76.0")) // which calls itself 2.13.0
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(jaeger); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("not installed: in a new folder, go mod init example.org/peer && go get %s@v1.76.0 && CGO_ENABLED=0 go build -o %s %[1]s", program, jaeger)
	}
	return jaeger
}

// TestJaeger2Validates gives Jaeger 2 its configuration of jaeger/elasticsearch.yaml.
func TestJaeger2Validates(t *testing.T) {
	jaeger := jaeger2(t)
	text := jaegerConfig(t)
	for _, c := range []struct {
		what, text string
		ok         bool
	}{
		{"the configuration", text, true},
		{"a field that is not there", strings.Replace(text, "server_urls:", "servers:", 1), false},
	} {
		name := filepath.Join(t.TempDir(), "jaeger.yaml")
		write(t, name, c.text)
		if out, err := output(t, "", os.Environ(), jaeger, "validate", "--config="+name); (err == nil) != c.ok {
			t.Errorf("jaeger validate of %s: %v\n%s", c.what, err, out)
		}
	}
}

// TestJaeger2 runs Jaeger 2 with that configuration, its memory in the place of
// Elasticsearch, and reads a ride's services back.
func TestJaeger2(t *testing.T) {
	jaeger, program := jaeger2(t), hotrodProgram(t)
	r := &runner{t: t, project: new(types.Project), ports: make(map[string]string)}
	config := decodeAs[map[string]any](t, []byte(r.replaced("jaeger", strings.ReplaceAll(jaegerConfig(t), "http://elasticsearch.observability:9200", "http://elasticsearch"))))
	extensions := config["extensions"].(map[string]any)
	extensions["jaeger_storage"] = map[string]any{"backends": map[string]any{"main": map[string]any{"memory": map[string]any{"max_traces": 100}}}}
	extensions["jaeger_query"].(map[string]any)["grpc"] = map[string]any{"endpoint": r.local("jaeger", "16685")} // by default every address
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "jaeger.yaml")
	write(t, name, string(text))
	p := startProcess(t, "jaeger", os.Environ(), jaeger, "--config="+name)
	p.listening(t, r.local("jaeger", "4317"))
	p.listening(t, r.local("jaeger", "16686"))

	// The path of the Deployment's probe.
	eventually(t, 20*time.Second, func() string { return getBody("http://"+r.local("jaeger", "13133")+"/status", nil) })
	if out, err := output(t, "", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + r.local("jaeger", "4317")}, program, "-once"); err != nil {
		t.Fatalf("hotrod: %v\n%s", err, out)
	}
	want := []string{"customer", "driver", "frontend", "mysql", "redis", "route"}
	eventually(t, 20*time.Second, func() string {
		var got struct {
			Data []string `json:"data"`
		}
		if said := getBody("http://"+r.local("jaeger", "16686")+"/api/services", &got); said != "" {
			return said
		}
		if slices.Sort(got.Data); !slices.Equal(got.Data, want) {
			return fmt.Sprintf("Jaeger has the services %v, want %v", got.Data, want)
		}
		return ""
	})
}

// getBody reads JSON into v unless it is nil, and says what is wrong with the answer.
func getBody(url string, v any) string {
	resp, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return url + " answered " + resp.Status
	}
	if v == nil {
		return ""
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return err.Error()
	}
	return ""
}

// TestCurrentCollectorValidates gives the one-tier configuration to a current Collector. The
// others need components that this one is built without.
func TestCurrentCollectorValidates(t *testing.T) {
	otelcol := need(t, peer{name: "collector-now", file: "otelcol-v0.155.0"})[0]
	if out, err := output(t, "", os.Environ(), otelcol, "validate", "--config=../collector/one/collector.yaml"); err != nil {
		t.Errorf("otelcol 0.155.0 validate: %v\n%s", err, out)
	}
}

// buildHotrod builds the program as the Dockerfile does, once for all tests.
var buildHotrod = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("../Dockerfile")
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^RUN (.* -o) (/out/hotrod) (.*)$`).FindStringSubmatch(string(b))
	if m == nil {
		return "", errors.New("the Dockerfile has no RUN that builds /out/hotrod")
	}
	dir, err := os.MkdirTemp("", "hotrod-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	program := filepath.Join(dir, "hotrod")
	cmd := exec.Command("sh", "-c", m[1]+" "+program+" "+m[3])
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(m[0] + ": " + err.Error() + "\n" + string(out))
	}
	return program, nil
})

var builtIn string

func TestMain(m *testing.M) {
	code := m.Run()
	if builtIn != "" {
		os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

func hotrodProgram(t *testing.T) string {
	t.Helper()
	program, err := buildHotrod()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// TestHotrodArguments gives hotrod the arguments of every container, and compares its
// ports with those that it is told to listen on.
func TestHotrodArguments(t *testing.T) {
	program := hotrodProgram(t)
	commands := make(map[string][]string)
	for way, names := range composeFiles {
		for name, s := range loadCompose(t, names...).Services {
			if s.Image == "hotrod:dev" {
				commands[way+": "+name] = s.Command
			}
		}
	}
	for _, o := range decodeAll(t, read(t, "hotrod/hotrod.yaml")) {
		d, ok := o.value.(*appsv1.Deployment)
		if !ok {
			continue
		}
		ctr := d.Spec.Template.Spec.Containers[0]
		commands[o.String()] = ctr.Args
		port := regexp.MustCompile(`(?m)^-listen=:(\d+)$`).FindStringSubmatch(strings.Join(ctr.Args, "\n"))
		if ports := ctr.Ports; len(ports) != 1 || port == nil || port[1] != intText(ports[0].ContainerPort) {
			t.Errorf("%s listens as %v says, and has the ports %v", o, ctr.Args, ports)
		}
	}
	if len(commands) != 12 {
		t.Errorf("%d commands of hotrod were found, want 12", len(commands))
	}
	for where, args := range commands {
		if out, err := output(t, "", nil, append(append([]string{program}, args...), "-help")...); err != nil {
			t.Errorf("%s: hotrod %v: %v\n%s", where, args, err, out)
		}
	}
	if _, err := output(t, "", nil, program, "frontend", "-customers-addr=a:1", "-help"); err == nil {
		t.Error("hotrod took a flag that is not there, which makes the rest worthless")
	}
}

// TestLinks takes a ride and follows Grafana's links by hand: from a trace to a log line,
// and back.
func TestLinks(t *testing.T) {
	program := hotrodProgram(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-once", "-json", "-log=json")
	cmd.Env = []string{}
	var logs strings.Builder
	cmd.Stderr = &logs
	if err := cmd.Run(); err != nil {
		t.Fatalf("hotrod: %v\n%s", err, &logs)
	}

	uids := make(map[string]string)
	d := decodeAs[datasources](t, read(t, "tempo/datasources.yaml"))
	for _, s := range d.Datasources {
		uids[s.UID] = s.Type
	}
	var toLogs, toTrace bool
	for _, s := range d.Datasources {
		if l := s.JSONData.TracesToLogsV2; l != nil {
			toLogs = true
			if uids[l.DatasourceUID] != "loki" {
				t.Errorf("%s: traces link to the data source %q of type %q, want loki", s.Name, l.DatasourceUID, uids[l.DatasourceUID])
			}
			m := regexp.MustCompile(`\| json \| (\w+)="\$\$\{__trace\.traceId\}"$`).FindStringSubmatch(l.Query)
			if m == nil {
				t.Fatalf("%s: the query %q asks no field of the line for the trace id", s.Name, l.Query)
			}
			if n := linesWith(t, logs.String(), m[1], regexp.MustCompile(`^[0-9a-f]{32}$`)); n < 10 {
				t.Errorf("%d lines of a ride have %s, want 10 at least:\n%s", n, m[1], &logs)
			}
			// The tag is an attribute of the resource of services and proxies.
			for _, tag := range l.Tags {
				for _, name := range []string{"hotrod/hotrod.yaml", "envoy-gateway/envoy-gateway.yaml", "operator/instrumentation.yaml"} {
					if !regexp.MustCompile(regexp.QuoteMeta(tag.Key) + `(=|: )hotrod`).Match(read(t, name)) {
						t.Errorf("%s: traces link by %s, which %s does not set", s.Name, tag.Key, name)
					}
				}
			}
		}
		for _, f := range s.JSONData.DerivedFields {
			toTrace = true
			if uids[f.DatasourceUID] != "tempo" {
				t.Errorf("%s: lines link to the data source %q of type %q, want tempo", s.Name, f.DatasourceUID, uids[f.DatasourceUID])
			}
			if n := len(regexp.MustCompile(f.MatcherRegex).FindAllString(logs.String(), -1)); n < 10 {
				t.Errorf("%s: %s matches %d lines of a ride, want 10 at least", s.Name, f.MatcherRegex, n)
			}
		}
	}
	if !toLogs || !toTrace {
		t.Errorf("a link from traces to logs is %t, one back %t, want both", toLogs, toTrace)
	}
}

// linesWith counts the JSON lines whose field matches.
func linesWith(t *testing.T, logs, field string, want *regexp.Regexp) (n int) {
	t.Helper()
	for line := range strings.Lines(logs) {
		var v map[string]any
		if json.Unmarshal([]byte(line), &v) != nil {
			continue // hotrod's accounting
		}
		if s, ok := v[field].(string); ok && want.MatchString(s) {
			n++
		}
	}
	return n
}

// TestReadme checks that the README says something of each file.
func TestReadme(t *testing.T) {
	text := string(read(t, "README.md"))
	for name := range files {
		dir := strings.Split(name, "/")[0]
		if !strings.Contains(text, name) && !strings.Contains(text, dir+"/") && !strings.Contains(text, "deploy/"+dir) {
			t.Errorf("README.md does not name %s", name)
		}
	}
	link := regexp.MustCompile(`\]\(([^)#]+)\)`)
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			t.Errorf("README.md links to %s: %v", m[1], err)
		}
	}
}

func intText(n int32) string { return strconv.Itoa(int(n)) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
