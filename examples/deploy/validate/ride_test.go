package validate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

// TestRide starts what the compose files describe, without containers: each service is a
// process with the command, the variables and the files that its service has there, with
// loopback ports in the place of names. One ride, asked for by a stranger with a
// request id, is one tree from Envoy to the last service, under one new id.
func TestRide(t *testing.T) {
	for _, way := range slices.Sorted(maps.Keys(composeFiles)) {
		t.Run(way, func(t *testing.T) {
			t.Parallel() // most of it is waiting: Envoy sends spans every 5 s, samplers decide after 5
			r := newRunner(t, way)
			r.start()

			got, header := ride(t, "http://"+r.local("envoy", "8000"))
			if len(got.TraceID) != 32 {
				t.Fatalf("the ride is %+v, want a trace", got)
			}
			id := header.Get("X-Request-Id")
			if id == strangersID || id != got.RequestID || len(id) != 36 || id[14] != '9' {
				t.Errorf("x-request-id is %q in the answer and %q in the service, want one of Envoy's with the reason 9, not the stranger's", id, got.RequestID)
			}
			all := tree(t, "http://"+r.local("traces", "16686"), got.TraceID)

			for _, service := range []string{"frontend", "customer", "driver", "route"} {
				logs := r.running[service].output.String()
				with := linesWith(t, logs, "trace_id", regexp.MustCompile("^"+got.TraceID+"$"))
				same := linesWith(t, logs, "request_id", regexp.MustCompile("^"+id+"$"))
				if with == 0 || with != same {
					t.Errorf("%s: %d lines have the trace id, %d the request id, want as many and some\n%s", service, with, same, logs)
				}
			}
			// 1 by the edge, 1 to the customer, 1 to the driver, 10 to the routes.
			eventually(t, 30*time.Second, func() string {
				if n := linesWith(t, r.running["envoy"].output.String(), "request_id", regexp.MustCompile("^"+id+"$")); n != 13 {
					return fmt.Sprintf("%d lines of Envoy's have the request id, want 13", n)
				}
				return ""
			})
			t.Logf("one tree of %d spans, %d of them Envoy's", len(all), count(all, "envoy"))
		})
	}
}

// TestNothingSampled sets the one number in Envoy to 0: no service records anything, though
// none was told. A stranger's request id, which says that it was sampled, changes nothing.
func TestNothingSampled(t *testing.T) {
	t.Parallel()
	r := newRunner(t, "one tier")
	r.edit = func(envoy string) string {
		const all = `"random_sampling":{"value":100}`
		if n := strings.Count(envoy, all); n != 4 {
			t.Errorf("Envoy's configuration sets sampling in %d listeners, want 4", n)
		}
		return strings.ReplaceAll(envoy, all, `"random_sampling":{"value":0}`)
	}
	r.start()

	got, header := ride(t, "http://"+r.local("envoy", "8000"))
	if id := header.Get("X-Request-Id"); id != got.RequestID || len(id) != 36 || id[14] != '4' {
		t.Errorf("x-request-id is %q in the answer and %q in the service, want one of Envoy's with the reason 4", id, got.RequestID)
	}
	if got.TraceID != "" {
		t.Errorf("the ride has the trace %s, want none", got.TraceID)
	}
	r.running["envoy"].stop() // and the services, so that whatever they have is sent
	for _, service := range []string{"frontend", "customer", "driver", "route"} {
		r.running[service].stop()
		if logs := r.running[service].output.String(); !strings.Contains(logs, "collector: ended=0 delivered=0 kept=0") {
			t.Errorf("%s recorded spans, or did not say:\n%s", service, logs)
		}
	}
	r.running["collector"].stop()
	var services struct {
		Data []string `json:"data"`
	}
	resp, err := http.Get("http://" + r.local("traces", "16686") + "/api/services")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&services); err != nil {
		t.Fatal(err)
	}
	if len(services.Data) > 0 {
		t.Errorf("Jaeger has spans of %v, want none", services.Data)
	}
}

// strangersID says by its 14th digit that it was sampled.
const strangersID = "11111111-2222-9333-8444-555555555555"

// answer is what hotrod's frontend says of a ride.
type answer struct {
	Driver    string `json:"driver"`
	Error     string `json:"error"`
	TraceID   string `json:"trace_id"`
	RequestID string `json:"request_id"`
}

// ride asks for a ride, until Envoy knows its upstreams.
func ride(t *testing.T, url string) (got answer, header http.Header) {
	t.Helper()
	eventually(t, 30*time.Second, func() string {
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/dispatch?customer=123", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Request-Id", strangersID)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return err.Error()
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Sprintf("%s: %s", resp.Status, body)
		}
		header = resp.Header
		if err := json.Unmarshal(body, &got); err != nil {
			return err.Error()
		}
		return ""
	})
	if got.Driver == "" {
		t.Fatalf("the ride is %+v, want a driver", got)
	}
	return got, header
}

// jaegerSpan is a span in Jaeger's answer.
type jaegerSpan struct {
	SpanID     string `json:"spanID"`
	Name       string `json:"operationName"`
	References []struct {
		RefType string `json:"refType"`
		SpanID  string `json:"spanID"`
	} `json:"references"`
	ProcessID string `json:"processID"`
	service   string
}

// parent is the id of the parent's span, or "".
func (s jaegerSpan) parent() string {
	for _, r := range s.References {
		if r.RefType == "CHILD_OF" {
			return r.SpanID
		}
	}
	return ""
}

// tree reads a trace back from Jaeger, until it is whole: one root, which is Envoy's, no
// orphan, all services, and what each call between them must have.
func tree(t *testing.T, url, traceID string) (all []jaegerSpan) {
	t.Helper()
	eventually(t, 90*time.Second, func() string {
		resp, err := http.Get(url + "/api/traces/" + traceID)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		var body struct {
			Data []struct {
				Spans     []jaegerSpan `json:"spans"`
				Processes map[string]struct {
					ServiceName string `json:"serviceName"`
				} `json:"processes"`
			} `json:"data"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
			return err.Error()
		}
		if len(body.Data) != 1 {
			return fmt.Sprintf("Jaeger has %d traces %s", len(body.Data), traceID)
		}
		all = body.Data[0].Spans
		ids, roots, orphans := make(map[string]bool), []string(nil), 0
		for i := range all {
			all[i].service = body.Data[0].Processes[all[i].ProcessID].ServiceName
			ids[all[i].SpanID] = true
		}
		for _, s := range all {
			switch {
			case s.parent() == "":
				roots = append(roots, s.service)
			case !ids[s.parent()]:
				orphans++
			}
		}
		// Envoy: a span for the client and one for the upstream, of each of 13 requests. hotrod: 39 and more.
		want := []string{"customer", "driver", "envoy", "frontend", "mysql", "redis", "route"}
		services := make(map[string]bool)
		for _, s := range all {
			services[s.service] = true
		}
		if got := slices.Sorted(maps.Keys(services)); !slices.Equal(got, want) || !slices.Equal(roots, []string{"envoy"}) || orphans > 0 ||
			count(all, "envoy") != 26 || len(all)-26 < 39 {
			return fmt.Sprintf("the trace has %d spans, %d of Envoy, of services %v, roots %v, %d orphans; want 65 or more, 26, %v, [envoy], 0",
				len(all), count(all, "envoy"), got, roots, orphans, want)
		}
		return ""
	})
	return all
}

func count(all []jaegerSpan, service string) (n int) {
	for _, s := range all {
		if s.service == service {
			n++
		}
	}
	return n
}

// runner runs a compose project's services as processes.
type runner struct {
	t        *testing.T
	project  *types.Project
	dir      string
	programs map[string]string // by image
	ports    map[string]string // service:port to the loopback address in its place
	running  map[string]*process
	edit     func(envoy string) string // changes Envoy's configuration; nil leaves it
}

func newRunner(t *testing.T, way string) *runner {
	t.Helper()
	paths := need(t, envoyPeer, collectorPeer, jaegerPeer)
	return &runner{t: t, project: loadCompose(t, composeFiles[way]...), dir: t.TempDir(), ports: make(map[string]string),
		running: make(map[string]*process), programs: map[string]string{
			"hotrod:dev": hotrodProgram(t), envoyPeer.image: paths[0], collectorPeer.image: paths[1], jaegerPeer.image: paths[2],
		}}
}

// local is the address in the place of a service's port.
func (r *runner) local(service, port string) string {
	key := service + ":" + port
	for tries := 0; r.ports[key] == ""; tries++ {
		// Below the ports that systems hand out, so that nobody is given it before it is used.
		addr := "127.0.0.1:" + strconv.Itoa(20000+rand.IntN(12000))
		l, err := net.Listen("tcp", addr)
		switch {
		case err != nil && tries < 100:
			continue
		case err != nil:
			r.t.Fatal(err)
		}
		r.ports[key] = addr
		if err := l.Close(); err != nil {
			r.t.Fatal(err)
		}
	}
	return r.ports[key]
}

var hostPort = regexp.MustCompile(`([A-Za-z0-9][A-Za-z0-9.-]*)?:(\d+)\b`)

// replaced is a text of a service with loopback addresses for those of the project.
func (r *runner) replaced(service, text string) string {
	return hostPort.ReplaceAllStringFunc(text, func(s string) string {
		host, port, _ := strings.Cut(s, ":")
		switch _, ok := r.project.Services[host]; {
		case host == "" || host == "0.0.0.0":
			return r.local(service, port)
		case ok:
			return r.local(host, port)
		}
		r.t.Errorf("%s names %s, which is no service", service, s)
		return s
	})
}

// start starts the services, those first that others depend on.
func (r *runner) start() {
	var order func(name string)
	order = func(name string) {
		if r.running[name] != nil {
			return
		}
		s := r.project.Services[name]
		for _, on := range slices.Sorted(maps.Keys(s.DependsOn)) {
			order(on)
		}
		r.one(s)
	}
	for _, name := range r.project.ServiceNames() {
		order(name)
	}
}

func (r *runner) one(s types.ServiceConfig) {
	program, ok := r.programs[s.Image]
	if !ok {
		r.t.Fatalf("service %s: no program stands for the image %s", s.Name, s.Image)
	}
	var args []string
	for _, arg := range s.Command {
		args = append(args, r.replaced(s.Name, r.mounted(s, arg)))
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir}
	for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
		env = append(env, name+"="+r.replaced(s.Name, *s.Environment[name]))
	}
	switch s.Image {
	case envoyPeer.image:
		if len(args) == 0 || args[0] != "envoy" {
			r.t.Fatalf("service %s: the command is %v, want the program first", s.Name, args)
		}
		args = append(args[1:], "--concurrency", "1", "--disable-hot-restart", "-l", "error", "--file-flush-interval-msec", "200")
	case jaegerPeer.image: // its ports are its defaults
		args = append(args, "--log-level=warn",
			"--collector.otlp.grpc.host-port="+r.local(s.Name, "4317"), "--query.http-server.host-port="+r.local(s.Name, "16686"))
		for i, flag := range []string{"collector.otlp.http.host-port", "query.grpc-server.host-port", "admin.http.host-port", "collector.grpc-server.host-port",
			"collector.http-server.host-port", "http-server.host-port", "processor.jaeger-binary.server-host-port",
			"processor.jaeger-compact.server-host-port", "processor.zipkin-compact.server-host-port"} {
			args = append(args, "--"+flag+"="+r.local(s.Name, strconv.Itoa(i+1)))
		}
	}
	p := startProcess(r.t, s.Name, env, program, args...)
	r.running[s.Name] = p
	for _, key := range slices.Sorted(maps.Keys(r.ports)) {
		if strings.HasPrefix(key, s.Name+":") && len(key) > len(s.Name)+2 { // those with names of one digit are nobody's
			p.listening(r.t, r.ports[key])
		}
	}
}

// mounted replaces the path of a file in the container by that of a file here.
func (r *runner) mounted(s types.ServiceConfig, arg string) string {
	for _, v := range s.Volumes {
		if !strings.HasSuffix(arg, v.Target) {
			continue
		}
		b, err := os.ReadFile(v.Source)
		if err != nil {
			r.t.Fatalf("service %s: %v", s.Name, err)
		}
		if s.Image == envoyPeer.image {
			b = r.envoy(s.Name, b)
		}
		name := filepath.Join(r.dir, s.Name+"-"+filepath.Base(v.Target))
		write(r.t, name, string(b))
		return strings.TrimSuffix(arg, v.Target) + name
	}
	if strings.Contains(arg, "/etc/") {
		r.t.Errorf("service %s is started with %s, and mounts no such file", s.Name, arg)
	}
	return arg
}

// envoy is Envoy's configuration with loopback addresses.
func (r *runner) envoy(service string, b []byte) []byte {
	text, err := yaml.YAMLToJSONStrict(b)
	if err != nil {
		r.t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		r.t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if address, ok := v["address"].(string); ok {
				host, port, err := net.SplitHostPort(r.replaced(service, address+":"+fmt.Sprint(v["port_value"])))
				if err != nil {
					r.t.Fatal(err)
				}
				v["address"] = host
				v["port_value"], err = strconv.Atoi(port)
				if err != nil {
					r.t.Fatal(err)
				}
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(v)
	if text, err = json.Marshal(v); err != nil {
		r.t.Fatal(err)
	}
	if r.edit != nil {
		text = []byte(r.edit(string(text)))
	}
	return text
}

// process is a program that runs until the test ends.
type process struct {
	name   string
	cmd    *exec.Cmd
	output *lockedBuffer
	done   chan struct{}
}

// stop asks the program to end, and waits until it has.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}

func startProcess(t *testing.T, name string, env []string, program string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(program, args...)
	p := &process{name: name, cmd: cmd, output: new(lockedBuffer), done: make(chan struct{})}
	cmd.Env, cmd.Stdout, cmd.Stderr = env, p.output, p.output
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		defer close(p.done)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("%s %v wrote:\n%s", name, args, p.output)
		}
	})
	return p
}

// listening waits until the address takes connections.
func (p *process) listening(t *testing.T, addr string) {
	t.Helper()
	eventually(t, 30*time.Second, func() string {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
			return ""
		}
		select {
		case <-p.done:
			t.Fatalf("%s ended before it listened on %s:\n%s", p.name, addr, p.output)
		default:
		}
		return p.name + ": " + err.Error()
	})
}

// eventually asks until nothing is missing.
func eventually(t *testing.T, limit time.Duration, missing func() string) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		said := missing()
		if said == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v: %s", limit, said)
		}
	}
}

// lockedBuffer is a buffer for the output of a process while it runs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
