package validate

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	egv1a1 "github.com/envoyproxy/gateway/api/v1alpha1"
	istionetworking "istio.io/client-go/pkg/apis/networking/v1"
	istiotelemetry "istio.io/client-go/pkg/apis/telemetry/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	gwapiv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// h2c is HTTP/2 without TLS as an appProtocol.
const h2c = "kubernetes.io/h2c"

// The choices that a user of the folder makes: one of each. What ends in .yaml is
// applied as it stands, the others are built by kustomize.
var (
	programs   = []string{"hotrod", "operator"}
	proxies    = []string{"", "envoy-gateway/envoy-gateway.yaml", "istio/istio.yaml", "gloo/gloo.yaml"}
	collectors = []string{"collector/one", "collector"}
	backends   = []string{"jaeger/all-in-one.yaml", "jaeger/elasticsearch.yaml", "tempo"}
)

// TestCombinations checks all objects of each combination against each other.
func TestCombinations(t *testing.T) {
	load := make(map[string][]object)
	for _, list := range [][]string{programs, proxies, collectors, backends} {
		for _, name := range list {
			load[name] = loadObjects(t, name, nil)
		}
	}
	for _, program := range programs {
		for _, proxy := range proxies {
			for _, collector := range collectors {
				for _, backend := range backends {
					names := []string{program, proxy, collector, backend}
					t.Run(strings.Join(names, "+"), func(t *testing.T) {
						c := newCluster(t)
						for _, name := range names {
							c.add(load[name])
						}
						c.check()
						for _, mistake := range c.mistakes {
							t.Error(mistake)
						}
					})
				}
			}
		}
	}
}

// loadObjects returns the objects of a file or of a kustomization. Files in changed stand in
// the place of those on the disk.
func loadObjects(t *testing.T, name string, changed map[string]string) []object {
	t.Helper()
	content := func(name string) []byte {
		if text, ok := changed[name]; ok {
			return []byte(text)
		}
		return read(t, name)
	}
	switch {
	case name == "":
		return nil
	case strings.HasSuffix(name, ".yaml"):
		return decodeAll(t, content(name))
	}
	disk := filesys.MakeFsInMemory()
	for file := range files {
		if err := disk.WriteFile(file, content(file)); err != nil {
			t.Fatal(err)
		}
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(disk, name)
	if err != nil {
		t.Fatalf("kustomize build %s: %v", name, err)
	}
	b, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return decodeAll(t, b)
}

// cluster is what would be in a cluster.
type cluster struct {
	t         *testing.T // for what has nothing to do with the cluster
	mistakes  []string
	objects   []object
	services  map[string]*corev1.Service // by name.namespace
	configs   map[string]*corev1.ConfigMap
	workloads []workload
}

// workload is whatever makes pods.
type workload struct {
	object
	selector *metav1.LabelSelector // nil for a job
	pod      corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
	stateful *appsv1.StatefulSet
}

func newCluster(t *testing.T) *cluster {
	return &cluster{t: t, services: make(map[string]*corev1.Service), configs: make(map[string]*corev1.ConfigMap)}
}

func (c *cluster) add(objects []object) {
	for _, o := range objects {
		twice := slices.ContainsFunc(c.objects, func(p object) bool { return p.String() == o.String() && p.Group == o.Group })
		if twice && o.Kind != "Namespace" {
			c.errorf("%s is there twice", o)
		}
		c.objects = append(c.objects, o)
		key := o.name + "." + o.namespace
		switch v := o.value.(type) {
		case *corev1.Service:
			c.services[key] = v
		case *corev1.ConfigMap:
			c.configs[key] = v
		case *appsv1.Deployment:
			c.workloads = append(c.workloads, workload{o, v.Spec.Selector, v.Spec.Template, nil, nil})
		case *appsv1.DaemonSet:
			c.workloads = append(c.workloads, workload{o, v.Spec.Selector, v.Spec.Template, nil, nil})
		case *appsv1.StatefulSet:
			c.workloads = append(c.workloads, workload{o, v.Spec.Selector, v.Spec.Template, v.Spec.VolumeClaimTemplates, v})
		case *batchv1.CronJob:
			c.workloads = append(c.workloads, workload{o, nil, v.Spec.JobTemplate.Spec.Template, nil, nil})
		}
	}
}

func (c *cluster) errorf(format string, args ...any) {
	c.mistakes = append(c.mistakes, fmt.Sprintf(format, args...))
}

func (c *cluster) check() {
	c.namespaces()
	for _, key := range slices.Sorted(maps.Keys(c.services)) {
		c.service(c.services[key])
	}
	for _, w := range c.workloads {
		c.workload(w)
	}
	for _, key := range slices.Sorted(maps.Keys(c.configs)) {
		for file, text := range c.configs[key].Data {
			c.addresses("ConfigMap "+key+" "+file, c.configs[key].Namespace, string(withoutComments([]byte(text))))
		}
	}
	for _, o := range c.objects {
		c.references(o)
	}
}

// namespaces checks that what lies in a namespace of this folder has one. Those of the
// products are theirs.
func (c *cluster) namespaces() {
	made := []string{"gloo-system", "istio-system"}
	for _, o := range c.objects {
		if o.Kind == "Namespace" {
			made = append(made, o.name)
		}
	}
	for _, o := range c.objects {
		if o.Kind != "Namespace" && o.Kind != "GatewayClass" && !slices.Contains(made, o.namespace) {
			c.errorf("%s lies in a namespace that nothing makes", o)
		}
	}
}

// service checks that a Service has pods, and says what its ports speak.
func (c *cluster) service(s *corev1.Service) {
	name := s.Name + "." + s.Namespace
	pods := 0
	for _, w := range c.workloads {
		if w.namespace != s.Namespace || w.selector == nil || !within(s.Spec.Selector, w.pod.Labels) {
			continue
		}
		pods++
		for _, p := range s.Spec.Ports {
			if _, ok := containerPort(w.pod.Spec, p.TargetPort); !ok {
				c.errorf("Service %s: port %d goes to %s, which no container of %s has", name, p.Port, p.TargetPort.String(), w)
			}
		}
	}
	if pods != 1 {
		c.errorf("Service %s has the pods of %d workloads, want 1", name, pods)
	}
	for _, p := range s.Spec.Ports {
		want := "http"
		if p.Name == "grpc" || strings.HasSuffix(p.Name, "-grpc") || p.Port == 4317 {
			want = h2c
		}
		if p.AppProtocol == nil || *p.AppProtocol != want {
			c.errorf("Service %s: port %s, %d, has appProtocol %v, want %s", name, p.Name, p.Port, p.AppProtocol, want)
		}
	}
}

func within(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return len(selector) > 0
}

func containerPort(pod corev1.PodSpec, target intstr.IntOrString) (int32, bool) {
	for _, ctr := range pod.Containers {
		for _, p := range ctr.Ports {
			if p.Name == target.StrVal && target.Type == intstr.String || p.ContainerPort == target.IntVal && target.Type == intstr.Int {
				return p.ContainerPort, true
			}
		}
	}
	return 0, false
}

func (c *cluster) workload(w workload) {
	if w.selector != nil && !within(w.selector.MatchLabels, w.pod.Labels) {
		c.errorf("%s does not select its own pods", w)
	}
	if w.stateful != nil {
		if _, ok := c.services[w.stateful.Spec.ServiceName+"."+w.namespace]; !ok {
			c.errorf("%s names the Service %q, which is not there", w, w.stateful.Spec.ServiceName)
		}
	}
	volumes := make(map[string]corev1.Volume)
	for _, v := range w.pod.Spec.Volumes {
		volumes[v.Name] = v
		if v.ConfigMap != nil && c.configs[v.ConfigMap.Name+"."+w.namespace] == nil {
			c.errorf("%s mounts the ConfigMap %s, which is not there", w, v.ConfigMap.Name)
		}
	}
	for _, claim := range w.claims {
		volumes[claim.Name] = corev1.Volume{}
	}
	for _, ctr := range w.pod.Spec.Containers {
		if ctr.ReadinessProbe != nil {
			h := ctr.ReadinessProbe.ProbeHandler
			for _, port := range []intstr.IntOrString{probePort(h)} {
				if _, ok := containerPort(w.pod.Spec, port); !ok {
					c.errorf("%s is probed at %s, which is no port of it", w, port.String())
				}
			}
		}
		mounted := make(map[string]bool) // paths of files
		for _, m := range ctr.VolumeMounts {
			v, ok := volumes[m.Name]
			if !ok {
				c.errorf("%s mounts %s, which is no volume of it", w, m.Name)
			}
			if v.ConfigMap == nil || c.configs[v.ConfigMap.Name+"."+w.namespace] == nil {
				continue
			}
			for key := range c.configs[v.ConfigMap.Name+"."+w.namespace].Data {
				mounted[path.Join(m.MountPath, key)] = true
			}
		}
		for _, arg := range ctr.Args {
			if _, file, ok := strings.Cut(arg, "=/etc/"); ok && !mounted["/etc/"+file] {
				c.errorf("%s is started with %s, and mounts %v", w, arg, slices.Sorted(maps.Keys(mounted)))
			}
			c.addresses(w.String(), w.namespace, arg)
		}
		c.variables(w, ctr)
	}
}

func probePort(h corev1.ProbeHandler) intstr.IntOrString {
	switch {
	case h.HTTPGet != nil:
		return h.HTTPGet.Port
	case h.TCPSocket != nil:
		return h.TCPSocket.Port
	}
	return intstr.IntOrString{}
}

// documented are the variables of which README.md says that meshtrace reads them.
var documented = regexp.MustCompile("`(OTEL_[A-Z_]+)`")

func readsVariables(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(b), "\n## Environment\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var names []string
	for _, m := range documented.FindAllStringSubmatch(section, -1) {
		names = append(names, m[1])
	}
	if !ok || len(names) < 20 {
		t.Fatalf("README.md documents %d variables under Environment, want 20 at least", len(names))
	}
	return names
}

// variables checks a container's OTEL_* variables, and that no service samples by itself.
func (c *cluster) variables(w workload, ctr corev1.Container) {
	read := readsVariables(c.t)
	known := make(map[string]bool) // for $(NAME)
	for _, e := range ctr.Env {
		if strings.HasPrefix(e.Name, "OTEL_") && !slices.Contains(read, e.Name) {
			c.errorf("%s sets %s, which meshtrace does not read", w, e.Name)
		}
		if strings.HasPrefix(e.Name, "OTEL_TRACES_SAMPLER") {
			c.errorf("%s sets %s: sampling is set in the proxy, and there alone", w, e.Name)
		}
		if e.Name == "OTEL_SERVICE_NAME" && e.Value != w.pod.Labels["app.kubernetes.io/name"] {
			c.errorf("%s is named %q by OTEL_SERVICE_NAME", w, e.Value)
		}
		for _, m := range regexp.MustCompile(`\$\((\w+)\)`).FindAllStringSubmatch(e.Value, -1) {
			if !known[m[1]] {
				c.errorf("%s: %s refers to %s, which is not set before it", w, e.Name, m[0])
			}
		}
		known[e.Name] = true
		c.addresses(w.String(), w.namespace, e.Value)
	}
	if w.namespace != "hotrod" {
		return
	}
	injected := w.pod.Annotations["instrumentation.opentelemetry.io/inject-sdk"] == "true"
	if injected == known["OTEL_EXPORTER_OTLP_ENDPOINT"] {
		c.errorf("%s: injection by the Operator is %t, an endpoint of its own %t", w, injected, !injected)
	}
}

var address = regexp.MustCompile(`([A-Za-z0-9][A-Za-z0-9.-]*):(\d+)\b`)

// addresses checks that every host:port in a text is a port of a Service.
func (c *cluster) addresses(where, namespace, text string) {
	for _, m := range address.FindAllStringSubmatch(text, -1) {
		if _, err := netip.ParseAddr(m[1]); err == nil {
			continue
		}
		port, err := strconv.ParseInt(m[2], 10, 32)
		if err != nil {
			c.errorf("%s: %s: %v", where, m[0], err)
			continue
		}
		if err := c.reach(m[1], namespace, int32(port)); err != nil {
			c.errorf("%s: %s: %v", where, m[0], err)
		}
	}
}

// reach says why a pod in the namespace cannot reach host:port, or nil.
func (c *cluster) reach(host, namespace string, port int32) error {
	host = strings.TrimSuffix(strings.TrimSuffix(host, ".cluster.local"), ".svc")
	labels := strings.Split(host, ".")
	var pod string
	switch len(labels) {
	case 1:
		labels = append(labels, namespace)
	case 3:
		pod, labels = labels[0], labels[1:]
	}
	s := c.services[strings.Join(labels, ".")]
	if s == nil {
		return fmt.Errorf("no Service %s", strings.Join(labels, "."))
	}
	if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port }) {
		return fmt.Errorf("the Service %s has no port %d", s.Name, port)
	}
	if pod == "" {
		return nil
	}
	for _, w := range c.workloads {
		if w.stateful == nil || w.stateful.Spec.ServiceName != s.Name || w.namespace != s.Namespace {
			continue
		}
		if ordinal, err := strconv.Atoi(strings.TrimPrefix(pod, w.name+"-")); err == nil && ordinal < int(*w.stateful.Spec.Replicas) && s.Spec.ClusterIP == corev1.ClusterIPNone {
			return nil
		}
	}
	return fmt.Errorf("no StatefulSet behind the headless Service %s has a pod %s", s.Name, pod)
}

// protocol is the appProtocol of a Service's port.
func (c *cluster) protocol(name, namespace string, port int32) string {
	if s := c.services[name+"."+namespace]; s != nil {
		for _, p := range s.Spec.Ports {
			if p.Port == port && p.AppProtocol != nil {
				return *p.AppProtocol
			}
		}
	}
	return ""
}

// backend checks where a proxy sends to.
func (c *cluster) backend(from object, name, namespace string, port int32, want string) {
	if err := c.reach(name+"."+namespace, "", port); err != nil {
		c.errorf("%s: %v", from, err)
	} else if got := c.protocol(name, namespace, port); got != want {
		c.errorf("%s sends to %s.%s:%d of appProtocol %s, want %s", from, name, namespace, port, got, want)
	}
}

// references checks what proxies' objects name, and that each proxy samples all.
func (c *cluster) references(o object) {
	has := func(kind, namespace, name string) {
		if !slices.ContainsFunc(c.objects, func(p object) bool { return p.Kind == kind && p.namespace == namespace && p.name == name }) {
			c.errorf("%s names %s %s/%s, which is not there", o, kind, namespace, name)
		}
	}
	ref := func(r gwapiv1.BackendObjectReference, want string) {
		namespace := o.namespace
		if r.Namespace != nil {
			namespace = string(*r.Namespace)
		}
		if r.Port == nil {
			c.errorf("%s: the backend %s has no port", o, r.Name)
			return
		}
		c.backend(o, string(r.Name), namespace, *r.Port, want)
	}
	switch v := o.value.(type) {
	case *gwapiv1.Gateway:
		has("GatewayClass", "", string(v.Spec.GatewayClassName))
		p := v.Spec.Infrastructure.ParametersRef
		has(string(p.Kind), o.namespace, p.Name)
	case *gwapiv1.HTTPRoute:
		for _, p := range v.Spec.ParentRefs {
			has("Gateway", o.namespace, string(p.Name))
		}
		for _, rule := range v.Spec.Rules {
			for _, b := range rule.BackendRefs {
				ref(b.BackendObjectReference, "http")
			}
		}
	case *gwapiv1.GRPCRoute:
		for _, p := range v.Spec.ParentRefs {
			has("Gateway", o.namespace, string(p.Name))
		}
		for _, rule := range v.Spec.Rules {
			for _, b := range rule.BackendRefs {
				ref(b.BackendObjectReference, h2c)
			}
			for _, m := range rule.Matches {
				c.method(o, *m.Method.Service, *m.Method.Method)
			}
		}
	case *egv1a1.ClientTrafficPolicy:
		for _, r := range v.Spec.TargetRefs {
			has(string(r.Kind), o.namespace, string(r.Name))
		}
		if id := v.Spec.Headers.RequestID; id == nil || *id == egv1a1.RequestIDActionDisable || *id == egv1a1.RequestIDActionPreserve {
			c.errorf("%s: headers.requestID is %v: without an id nothing is sampled (D-3)", o, id)
		}
	case *egv1a1.EnvoyProxy:
		tracing := v.Spec.Telemetry.Tracing
		for _, b := range tracing.Provider.BackendRefs {
			ref(b.BackendObjectReference, h2c)
		}
		if len(tracing.Provider.BackendRefs) != 1 {
			c.errorf("%s sends spans to %d backends, want 1", o, len(tracing.Provider.BackendRefs))
		}
		if tracing.SamplingRate == nil || *tracing.SamplingRate != 100 || tracing.SamplingFraction != nil || tracing.OverallSamplingFraction != nil ||
			tracing.Provider.OpenTelemetry.Sampler != nil {
			c.errorf("%s does not sample 100 %% by samplingRate and by nothing else", o)
		}
	case *egv1a1.BackendTrafficPolicy:
		c.errorf("%s may set a route's sampling: a second place (EG-7)", o)
	case *istiotelemetry.Telemetry:
		mesh, _, _ := decodeIstioValues(c.t, read(c.t, "istio/values.yaml"))
		for _, tr := range v.Spec.Tracing {
			if p := tr.GetRandomSamplingPercentage(); p == nil || p.GetValue() != 100 {
				c.errorf("%s samples %v, want 100", o, p)
			}
			if len(tr.Providers) != 1 || len(mesh.ExtensionProviders) != 1 || tr.Providers[0].Name != mesh.ExtensionProviders[0].Name {
				c.errorf("%s names the providers %v, values.yaml has %v", o, tr.Providers, mesh.ExtensionProviders)
				continue
			}
			otel := mesh.ExtensionProviders[0].GetOpentelemetry()
			name, namespace, _ := strings.Cut(strings.TrimSuffix(otel.GetService(), ".svc.cluster.local"), ".")
			c.backend(o, name, namespace, int32(otel.GetPort()), h2c)
		}
		if len(v.Spec.Tracing) != 1 {
			c.errorf("%s has %d tracings, want 1", o, len(v.Spec.Tracing))
		}
	case *istionetworking.VirtualService:
		for _, name := range v.Spec.Gateways {
			has("Gateway", o.namespace, name)
		}
		for _, route := range v.Spec.Http {
			for _, r := range route.Route {
				name, namespace, _ := strings.Cut(strings.TrimSuffix(r.Destination.Host, ".svc.cluster.local"), ".")
				c.backend(o, name, namespace, int32(r.Destination.Port.GetNumber()), "http")
			}
		}
	case *glooUpstream:
		k := v.Spec.Kube
		c.backend(o, k.ServiceName, k.ServiceNamespace, k.ServicePort, h2c)
		if !v.Spec.UseHTTP2 {
			c.errorf("%s has no useHttp2, and goes to a gRPC port", o)
		}
	case *glooGateway:
		tracing := v.Spec.HTTPGateway.Options.HTTPConnectionManagerSettings.Tracing
		up := tracing.OpenTelemetryConfig.CollectorUpstreamRef
		has("Upstream", up.Namespace, up.Name)
		if p := tracing.TracePercentages; p.Random == nil || *p.Random != 100 || p.Overall != nil {
			c.errorf("%s does not sample 100 %% by randomSamplePercentage and by nothing else", o)
		}
	case *glooVirtualService:
		for _, r := range v.Spec.VirtualHost.Routes {
			k := r.RouteAction.Single.Kube
			c.backend(o, k.Ref.Name, k.Ref.Namespace, k.Port, "http")
			if r.Options.Tracing != nil && r.Options.Tracing.TracePercentages != nil {
				c.errorf("%s sets a route's share: a second place (GL-4)", o)
			}
		}
	case *instrumentation:
		c.instrumentation(o, v)
	}
}

// method checks that a gRPC method is there.
func (c *cluster) method(o object, service, method string) {
	b, err := os.ReadFile(filepath.Join(repository, "examples/hotrod/driverpb/driver.proto"))
	if err != nil {
		c.t.Fatal(err)
	}
	pkg, name := service[:strings.LastIndexByte(service, '.')], service[strings.LastIndexByte(service, '.')+1:]
	for _, want := range []string{"package " + pkg + ";", "service " + name + " {", "rpc " + method + "("} {
		if !strings.Contains(string(b), want) {
			c.errorf("%s matches %s/%s; driver.proto lacks %q", o, service, method, want)
		}
	}
}

func (c *cluster) instrumentation(o object, v *instrumentation) {
	c.addresses(o.String(), o.namespace, v.Spec.Exporter.Endpoint)
	if v.Spec.Exporter.Endpoint == "" {
		c.errorf("%s has no endpoint", o)
	}
	if v.Spec.Sampler.Type != "parentbased_always_on" || v.Spec.Sampler.Argument != "" {
		c.errorf("%s samples by %s %s: a second place", o, v.Spec.Sampler.Type, v.Spec.Sampler.Argument)
	}
	b, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		c.t.Fatal(err)
	}
	line := regexp.MustCompile("(?m)^\\| `OTEL_PROPAGATORS`.*$").Find(b)
	for _, p := range v.Spec.Propagators {
		if !strings.Contains(string(line), "`"+p+"`") {
			c.errorf("%s names the propagator %s; README.md says %s", o, p, line)
		}
	}
	for _, e := range v.Spec.Env {
		if !slices.Contains(readsVariables(c.t), e.Name) {
			c.errorf("%s sets %s, which meshtrace does not read", o, e.Name)
		}
	}
}

// TestMistakes makes one mistake at a time, and each must be found.
func TestMistakes(t *testing.T) {
	const (
		hotrod, gateway, istio, gloo = "hotrod/hotrod.yaml", "envoy-gateway/envoy-gateway.yaml", "istio/istio.yaml", "gloo/gloo.yaml"
		tiers, jaeger, operator      = "collector/kubernetes.yaml", "jaeger/elasticsearch.yaml", "operator/instrumentation.yaml"
	)
	for _, m := range []struct{ file, old, now, found string }{
		{hotrod, "collector.observability:4317", "otel.observability:4317", "no Service otel.observability"},
		{hotrod, "collector.observability:4317", "collector.observability:4319", "no port 4319"},
		{hotrod, "-customer-addr=customer:8081", "-customer-addr=customers:8081", "no Service customers.hotrod"},
		{hotrod, "appProtocol: kubernetes.io/h2c", "appProtocol: http", "want kubernetes.io/h2c"},
		{hotrod, "OTEL_EXPORTER_OTLP_PROTOCOL, value", "OTEL_EXPORTER_OTLP_PROTO, value", "which meshtrace does not read"},
		{hotrod, "{name: OTEL_EXPORTER_OTLP_PROTOCOL, value: grpc}", "{name: OTEL_TRACES_SAMPLER, value: traceidratio}", "sampling is set in the proxy"},
		{hotrod, "name: OTEL_SERVICE_NAME, value: driver", "name: OTEL_SERVICE_NAME, value: drivers", "is named \"drivers\""},
		{hotrod, "$(POD_NAME)", "$(POD)", "which is not set before it"},
		{hotrod, "matchLabels: {app.kubernetes.io/name: route}", "matchLabels: {app.kubernetes.io/name: routes}", "does not select its own pods"},
		{hotrod, "selector: {app.kubernetes.io/name: route}", "selector: {app.kubernetes.io/name: routes}", "pods of 0 workloads"},
		{hotrod, "port: 8083, targetPort: http", "port: 8083, targetPort: https", "which no container"},
		{hotrod, "readinessProbe: {httpGet: {path: /, port: http}}", "readinessProbe: {httpGet: {path: /, port: web}}", "is probed at web"},
		{hotrod, "kind: Namespace\nmetadata:\n  name: hotrod", "kind: Namespace\nmetadata:\n  name: hot-rod", "a namespace that nothing makes"},
		{tiers, "sampler-1.sampler.observability:4317", "sampler-2.sampler.observability:4317", "has a pod sampler-2"},
		{tiers, "clusterIP: None", "clusterIP: \"\"", "behind the headless Service"},
		{tiers, "--config=/etc/otel/to-otlp.yaml", "--config=/etc/otel/otlp.yaml", "is started with --config=/etc/otel/otlp.yaml"},
		{tiers, "configMap: {name: sampler}", "configMap: {name: samplers}", "mounts the ConfigMap samplers"},
		{tiers, "volumeMounts: [{name: config,", "volumeMounts: [{name: configs,", "which is no volume"},
		{tiers, "serviceName: sampler", "serviceName: gateway", "names the Service \"gateway\""},
		{tiers, "name: observability\n---", "name: observability\n---\napiVersion: v1\nkind: Service\nmetadata: {name: traces, namespace: observability}\n---", "is there twice"},
		{jaeger, "http://elasticsearch.observability:9200\"]", "http://elastic.observability:9200\"]", "no Service elastic.observability"},
		{gateway, "name: collector, namespace: observability, port: 4317", "name: collector, namespace: observability, port: 4318", "want kubernetes.io/h2c"},
		{gateway, "name: frontend, port: 8080", "name: driver, port: 8082", "want http"},
		{gateway, "samplingRate: 100", "samplingRate: 10", "does not sample 100 %"},
		{gateway, "gatewayClassName: hotrod", "gatewayClassName: envoy", "names GatewayClass"},
		{gateway, "kind: EnvoyProxy, name: hotrod", "kind: EnvoyProxy, name: proxy", "names EnvoyProxy"},
		{gateway, "parentRefs: [{name: hotrod}]", "parentRefs: [{name: public}]", "names Gateway"},
		{gateway, "requestID: Generate", "requestID: Disable", "without an id nothing is sampled"},
		{gateway, "method: FindNearest", "method: FindNearby", "driver.proto lacks"},
		{istio, "randomSamplingPercentage: 100", "randomSamplingPercentage: 1", "want 100"},
		{istio, "providers: [{name: collector}]", "providers: [{name: otel}]", "names the providers"},
		{istio, "host: frontend.hotrod", "host: front.hotrod", "no Service front.hotrod"},
		{istio, "gateways: [hotrod]", "gateways: [public]", "names Gateway"},
		{gloo, "useHttp2: true", "useHttp2: false", "has no useHttp2"},
		{gloo, "serviceName: collector, serviceNamespace", "serviceName: otel, serviceNamespace", "no Service otel"},
		{gloo, "randomSamplePercentage: 100", "randomSamplePercentage: 5", "does not sample 100 %"},
		{gloo, "{routeDescriptor: dispatch}", "{routeDescriptor: dispatch, tracePercentages: {randomSamplePercentage: 100}}", "a second place"},
		{gloo, "collectorUpstreamRef: {name: collector,", "collectorUpstreamRef: {name: otel,", "names Upstream"},
		{operator, "type: parentbased_always_on", "type: traceidratio", "a second place"},
		{operator, "collector.observability:4318", "collector.observability:4319", "no port 4319"},
		{operator, "[tracecontext, baggage]", "[tracecontext, xray]", "names the propagator xray"},
	} {
		t.Run(m.file+"/"+m.now, func(t *testing.T) {
			text := string(read(t, m.file))
			if !strings.Contains(text, m.old) {
				t.Fatalf("the file has no %q", m.old)
			}
			changed := map[string]string{m.file: strings.Replace(text, m.old, m.now, 1)}
			proxy, backend := gateway, "jaeger/all-in-one.yaml"
			switch m.file {
			case istio, gloo:
				proxy = m.file
			case jaeger:
				backend = m.file
			}
			c := newCluster(t)
			for _, name := range []string{map[bool]string{true: "operator", false: "hotrod"}[m.file == operator], proxy, "collector", backend} {
				c.add(loadObjects(t, name, changed))
			}
			c.check()
			if !slices.ContainsFunc(c.mistakes, func(s string) bool { return strings.Contains(s, m.found) }) {
				t.Errorf("with %q in the place of %q, %q was found, want %q", m.now, m.old, c.mistakes, m.found)
			}
		})
	}
}

// TestConfigMapsHoldTheFiles checks that what pods mount is what is run.
func TestConfigMapsHoldTheFiles(t *testing.T) {
	for name, want := range map[string][]string{
		"collector":     {"collector/agent.yaml", "collector/gateway.yaml", "collector/to-otlp.yaml"},
		"collector/one": {"collector/one/collector.yaml"},
		"tempo":         {"tempo/tempo.yaml", "tempo/loki.yaml", "tempo/logs.yaml", "tempo/datasources.yaml"},
	} {
		held := make(map[string]string)
		for _, o := range loadObjects(t, name, nil) {
			if m, ok := o.value.(*corev1.ConfigMap); ok {
				maps.Copy(held, m.Data)
			}
		}
		for _, file := range want {
			if held[path.Base(file)] != string(read(t, file)) {
				t.Errorf("kustomize build %s: no ConfigMap holds %s as it stands", name, file)
			}
		}
		if len(held) != len(want) {
			t.Errorf("kustomize build %s: ConfigMaps hold %v, want %v", name, slices.Sorted(maps.Keys(held)), want)
		}
	}
}

// jaegerConfig is the configuration in jaeger/elasticsearch.yaml.
func jaegerConfig(t *testing.T) string {
	t.Helper()
	for _, o := range decodeAll(t, read(t, "jaeger/elasticsearch.yaml")) {
		if m, ok := o.value.(*corev1.ConfigMap); ok && m.Data["jaeger.yaml"] != "" {
			return m.Data["jaeger.yaml"]
		}
	}
	t.Fatal("jaeger/elasticsearch.yaml has no ConfigMap with jaeger.yaml")
	return ""
}

// TestJaegerConfig checks the configuration in jaeger/elasticsearch.yaml.
func TestJaegerConfig(t *testing.T) {
	text := []byte(jaegerConfig(t))
	checkCollector(t, text)
	type part struct {
		Extensions struct {
			Storage jaegerStorage `json:"jaeger_storage"`
			Query   jaegerQuery   `json:"jaeger_query"`
			Health  any           `json:"healthcheckv2"`
		} `json:"extensions"`
		Exporters struct {
			Storage struct {
				TraceStorage string `json:"trace_storage"`
			} `json:"jaeger_storage_exporter"`
		} `json:"exporters"`
		Receivers, Processors, Service any
	}
	c := decodeAs[part](t, text)
	for what, name := range map[string]string{"exporter": c.Exporters.Storage.TraceStorage, "query": c.Extensions.Query.Storage.Traces} {
		if b, ok := c.Extensions.Storage.Backends[name]; !ok || len(b.Elasticsearch.ServerURLs) == 0 {
			t.Errorf("the %s names the storage %q, which has no server", what, name)
		}
	}
}
