package validate

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"sigs.k8s.io/yaml"
)

// files has every YAML file of examples/deploy: how it is decoded, and whether what
// it holds, or a part of it, is run by a test here or in internal/interop.
var files = map[string]struct {
	check func(*testing.T, []byte)
	run   bool
}{
	"compose.yaml":                     {checkCompose, true},
	"compose.tiers.yaml":               {checkCompose, true},
	"compose/envoy.yaml":               {checkEnvoy, true},
	"collector/agent.yaml":             {checkCollector, true},
	"collector/gateway.yaml":           {checkCollector, true},
	"collector/to-otlp.yaml":           {checkAddition, true},
	"collector/one/collector.yaml":     {checkCollector, true},
	"collector/kubernetes.yaml":        {checkObjects, false},
	"collector/kustomization.yaml":     {checkObjects, false},
	"collector/one/kubernetes.yaml":    {checkObjects, false},
	"collector/one/kustomization.yaml": {checkObjects, false},
	"hotrod/hotrod.yaml":               {checkObjects, true},
	"hotrod/kustomization.yaml":        {checkObjects, false},
	"envoy-gateway/envoy-gateway.yaml": {checkObjects, false},
	"istio/istio.yaml":                 {checkObjects, false},
	"istio/values.yaml":                {checkIstioValues, false},
	"gloo/gloo.yaml":                   {checkObjects, false},
	"jaeger/all-in-one.yaml":           {checkObjects, true},
	"jaeger/elasticsearch.yaml":        {checkObjects, true},
	"operator/instrumentation.yaml":    {checkObjects, false},
	"operator/kustomization.yaml":      {checkObjects, false},
	"tempo/kustomization.yaml":         {checkObjects, false},
	"tempo/kubernetes.yaml":            {checkObjects, false},
	"tempo/tempo.yaml":                 {checkAs[tempoConfig], false},
	"tempo/loki.yaml":                  {checkAs[lokiConfig], false},
	"tempo/logs.yaml":                  {checkCollector, false},
	"tempo/datasources.yaml":           {checkAs[datasources], false},
}

// repository is the folder of the root module, seen from this one.
const repository = "../../.."

// read returns a file of examples/deploy.
func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFiles decodes every file, and fails for one that is not listed.
func TestFiles(t *testing.T) {
	var found []string
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path == filepath.Join("..", "validate") {
			return fs.SkipDir
		}
		if ext := filepath.Ext(path); !d.IsDir() && (ext == ".yaml" || ext == ".yml" || ext == ".json") {
			found = append(found, filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator))))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range files {
		if !slices.Contains(found, name) {
			t.Errorf("the list of files has %s, which is not there", name)
		}
	}
	for _, name := range found {
		t.Run(name, func(t *testing.T) {
			f, ok := files[name]
			if !ok {
				t.Fatal("nothing checks this file: add it to the list of files")
			}
			b := read(t, name)
			checkHead(t, b, f.run)
			f.check(t, b)
		})
	}
}

// checkHead checks that a file says at its head what of it was run, what was only
// validated, and by which command.
func checkHead(t *testing.T, file []byte, run bool) {
	t.Helper()
	var head strings.Builder
	for line := range bytes.Lines(file) {
		text, ok := strings.CutPrefix(string(line), "#")
		if !ok {
			break
		}
		head.WriteString(strings.TrimSpace(text) + " ")
	}
	text := head.String()
	said := regexp.MustCompile(`\bRun: (\w+)`).FindStringSubmatch(text)
	if said == nil {
		t.Error("the head does not say what was run: Run: …")
	} else if nothing := said[1] == "nothing"; nothing == run {
		t.Errorf("the head says Run: %s…, and something of the file is run is %t", said[1], run)
	}
	if !strings.Contains(text, "Validated: ") && !strings.Contains(text, "Validated only: ") {
		t.Error("the head does not say what was validated: Validated: …")
	}
	if !regexp.MustCompile(`\bBy: .*go test \.`).MatchString(text) {
		t.Error("the head does not say by which command: By: …")
	}
}

// TestOtherHeads checks the heads of what is no YAML.
func TestOtherHeads(t *testing.T) {
	checkHead(t, read(t, "Dockerfile"), true)
}

func checkObjects(t *testing.T, b []byte) { decodeAll(t, b) }

// decodeAll returns the objects of a file.
func decodeAll(t *testing.T, file []byte) []object {
	t.Helper()
	docs, err := documents(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) == 0 {
		t.Fatal("no object is in the file")
	}
	var all []object
	for i, doc := range docs {
		o, err := decodeObject(doc)
		if err != nil {
			t.Errorf("document %d: %v", i+1, err)
			continue
		}
		all = append(all, o)
	}
	return all
}

func checkAs[T any](t *testing.T, b []byte) { decodeAs[T](t, b) }

// decodeAs decodes a file strictly.
func decodeAs[T any](t *testing.T, b []byte) T {
	t.Helper()
	var v T
	if err := yaml.UnmarshalStrict(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// checkCollector checks that what pipelines use is configured, and the reverse.
func checkCollector(t *testing.T, b []byte) {
	t.Helper()
	checkPipelines(t, decodeAs[collectorConfig](t, b), true)
}

// checkAddition is checkCollector for a file that stands beside gateway.yaml.
func checkAddition(t *testing.T, b []byte) {
	t.Helper()
	base, more := decodeAs[map[string]any](t, read(t, "collector/gateway.yaml")), decodeAs[map[string]any](t, b)
	decodeAs[collectorConfig](t, b)
	merged, err := yaml.Marshal(mergeMaps(base, more))
	if err != nil {
		t.Fatal(err)
	}
	checkPipelines(t, decodeAs[collectorConfig](t, merged), false)
}

// mergeMaps merges as a Collector does that is given two configurations: maps by their
// keys, everything else replaced.
func mergeMaps(into, more map[string]any) map[string]any {
	for k, v := range more {
		a, ok1 := into[k].(map[string]any)
		b, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			v = mergeMaps(a, b)
		}
		into[k] = v
	}
	return into
}

func checkPipelines(t *testing.T, c collectorConfig, all bool) {
	t.Helper()
	used := map[string][]string{"extension": c.Service.Extensions}
	for _, p := range c.Service.Pipelines {
		used["receiver"] = append(used["receiver"], p.Receivers...)
		used["processor"] = append(used["processor"], p.Processors...)
		used["exporter"] = append(used["exporter"], p.Exporters...)
		if len(p.Receivers) == 0 || len(p.Exporters) == 0 {
			t.Errorf("a pipeline has receivers %v and exporters %v, want one at least of each", p.Receivers, p.Exporters)
		}
	}
	if len(c.Service.Pipelines) == 0 {
		t.Error("no pipeline is in the file")
	}
	for sort, configured := range map[string]map[string]any{
		"extension": c.Extensions, "receiver": c.Receivers, "processor": c.Processors, "exporter": c.Exporters,
	} {
		for _, name := range used[sort] {
			if _, ok := configured[name]; !ok {
				t.Errorf("the %s %s is used and not configured", sort, name)
			}
		}
		for name := range configured {
			if all && !slices.Contains(used[sort], name) {
				t.Errorf("the %s %s is configured and not used", sort, name)
			}
		}
	}
}

// checkEnvoy decodes strictly into Envoy's own messages, those in typed_config too.
func checkEnvoy(t *testing.T, b []byte) {
	t.Helper()
	envoyBootstrap(t, b)
}

func envoyBootstrap(t *testing.T, b []byte) *bootstrapv3.Bootstrap {
	t.Helper()
	boot := new(bootstrapv3.Bootstrap)
	if err := decodeMessage(b, boot); err != nil {
		t.Fatal(err)
	}
	if err := boot.ValidateAll(); err != nil {
		t.Fatal(err)
	}
	return boot
}

// istioValues has the values of Istio's chart that istio/values.yaml sets.
type istioValues struct {
	MeshConfig map[string]any `json:"meshConfig"`
	Global     struct {
		Network      string         `json:"network"`
		MeshNetworks map[string]any `json:"meshNetworks"`
	} `json:"global"`
}

func checkIstioValues(t *testing.T, b []byte) {
	t.Helper()
	_, networks, v := decodeIstioValues(t, b)
	if _, ok := networks.Networks[v.Global.Network]; !ok {
		t.Errorf("global.network is %q, which global.meshNetworks does not have", v.Global.Network)
	}
}

func decodeIstioValues(t *testing.T, b []byte) (*meshconfig.MeshConfig, *meshconfig.MeshNetworks, istioValues) {
	t.Helper()
	v := decodeAs[istioValues](t, b)
	text, err := yaml.Marshal(v.MeshConfig)
	if err != nil {
		t.Fatal(err)
	}
	mesh := new(meshconfig.MeshConfig)
	if err := decodeMessage(text, mesh); err != nil {
		t.Fatal(err)
	}
	text, err = yaml.Marshal(map[string]any{"networks": v.Global.MeshNetworks})
	if err != nil {
		t.Fatal(err)
	}
	networks := new(meshconfig.MeshNetworks)
	if err := decodeMessage(text, networks); err != nil {
		t.Fatal(err)
	}
	return mesh, networks, v
}

// TestStrict checks that the decoding fails where it must.
func TestStrict(t *testing.T) {
	for name, doc := range map[string]string{
		"a field that Kubernetes lacks":         "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {port: 1}",
		"a field of another place":              "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {spec: {containers: [{name: a, envs: []}]}}}",
		"a field twice":                         "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1, port: 2}]}",
		"a value of another type":               "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: http}]}",
		"a kind that is not there":              "apiVersion: v1\nkind: Servise\nmetadata: {name: a}",
		"a version that is not there":           "apiVersion: gateway.networking.k8s.io/v7\nkind: Gateway\nmetadata: {name: a}",
		"a field that Gateway API lacks":        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec: {hosts: [a]}",
		"a field that Envoy Gateway lacks":      "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: EnvoyProxy\nmetadata: {name: a}\nspec: {telemetry: {tracing: {rate: 1}}}",
		"a field that Istio's Telemetry lacks":  "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: a}\nspec: {tracing: [{sampling: 1}]}",
		"a field beside an Istio object's spec": "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspecs: {}",
		"a field that Gloo's Gateway lacks":     "apiVersion: gateway.solo.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec: {httpGateway: {options: {tracing: {}}}}",
		"a field that Instrumentation lacks":    "apiVersion: opentelemetry.io/v1alpha1\nkind: Instrumentation\nmetadata: {name: a}\nspec: {endpoint: a}",
		"a field that kustomize lacks":          "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresource: [a]",
		"an object without a name":              "apiVersion: v1\nkind: Service\nspec: {ports: [{port: 1}]}",
	} {
		if o, err := decodeObject([]byte(doc)); err == nil {
			t.Errorf("%s: %s was decoded, want an error", name, o)
		}
	}
	if err := decodeMessage([]byte("extensionProviders: [{name: a, opentelemetry: {services: a}}]"), new(meshconfig.MeshConfig)); err == nil {
		t.Error("a field that MeshConfig lacks was decoded, want an error")
	}
	typo := bytes.Replace(read(t, "compose/envoy.yaml"), []byte("spawn_upstream_span"), []byte("spawn_upstream_spans"), 1)
	if err := decodeMessage(typo, new(bootstrapv3.Bootstrap)); err == nil {
		t.Error("a field that Envoy's tracing lacks was decoded, want an error")
	}
}
