package validate

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// crdFiles are where the modules keep their CustomResourceDefinitions.
var crdFiles = map[string][]string{
	"sigs.k8s.io/gateway-api":       {"config/crd/standard/gateway.networking.k8s.io_*s.yaml"},
	"github.com/envoyproxy/gateway": {"charts/gateway-helm/charts/crds/crds/generated/*.yaml"},
	"istio.io/api":                  {"kubernetes/customresourcedefinitions.gen.yaml"},
}

// definition is a version of a CustomResourceDefinition, ready to check objects.
type definition struct {
	structural *structuralschema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator // nil where there are none
}

// definitions reads those CRDs that the files need, once.
var definitions = sync.OnceValues(func() (map[schema.GroupVersionKind]definition, error) {
	all := make(map[schema.GroupVersionKind]definition)
	for module, patterns := range crdFiles {
		dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
		if err != nil {
			return nil, err
		}
		for _, pattern := range patterns {
			names, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), pattern))
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				if err := readDefinitions(name, all); err != nil {
					return nil, err
				}
			}
		}
	}
	return all, nil
})

// customKinds are the kinds of the files that have a CRD in one of the modules.
var customKinds = []string{"GatewayClass", "Gateway", "HTTPRoute", "GRPCRoute", "EnvoyProxy", "ClientTrafficPolicy", "Telemetry", "VirtualService"}

func readDefinitions(name string, into map[schema.GroupVersionKind]definition) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	docs, err := documents(b)
	if err != nil {
		return err
	}
	for _, doc := range docs {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(doc, &crd); err != nil {
			return err
		}
		if !slices.Contains(customKinds, crd.Spec.Names.Kind) {
			continue // compiling rules takes its time
		}
		for _, v := range crd.Spec.Versions {
			if v.Name != "v1" && v.Name != "v1alpha1" {
				continue
			}
			var internal apiextensions.JSONSchemaProps
			if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, &internal, nil); err != nil {
				return err
			}
			structural, err := structuralschema.NewStructural(&internal)
			if err != nil {
				return err
			}
			validator, _, err := validation.NewSchemaValidator(&internal)
			if err != nil {
				return err
			}
			into[schema.GroupVersionKind{Group: crd.Spec.Group, Version: v.Name, Kind: crd.Spec.Names.Kind}] = definition{
				structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
		}
	}
	return nil
}

// checkCustom checks a document as an API server does that has the CRD: defaults, then the
// schema (enumerations, patterns, bounds), then the rules in CEL.
func checkCustom(doc []byte, d definition) (errs field.ErrorList, err error) {
	text, err := yaml.YAMLToJSON(doc)
	if err != nil {
		return nil, err
	}
	var v map[string]any
	if err := json.Unmarshal(text, &v); err != nil { // numbers without a fraction are integers to it, as rules want
		return nil, err
	}
	defaulting.Default(v, d.structural)
	errs = validation.ValidateCustomResource(nil, v, d.schema)
	if d.rules != nil && len(errs) == 0 {
		rules, _ := d.rules.Validate(context.Background(), nil, d.structural, v, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, rules...)
	}
	return errs, nil
}

// TestCustomResources checks objects against the CRDs of their projects.
func TestCustomResources(t *testing.T) {
	known, err := definitions()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, name := range []string{"envoy-gateway/envoy-gateway.yaml", "istio/istio.yaml"} {
		docs, err := documents(read(t, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range docs {
			o, err := decodeObject(doc)
			if err != nil {
				t.Fatal(err)
			}
			d, ok := known[o.GroupVersionKind]
			if !ok {
				t.Errorf("%s: no CRD was found for %s", name, o.GroupVersionKind)
				continue
			}
			errs, err := checkCustom(doc, d)
			if err != nil || len(errs) > 0 {
				t.Errorf("%s: %s: %v %v", name, o, errs, err)
			}
			checked++
		}
	}
	t.Logf("%d objects were checked against their CRDs", checked)

	// What the types alone would take.
	for what, doc := range map[string]string{
		"a value that is not listed": "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: a}\nspec: {targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: a}, headers: {requestID: Always}}",
		"a number out of its bounds": "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: a}\nspec: {tracing: [{randomSamplingPercentage: 101}]}",
		"two that exclude each other": "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: EnvoyProxy\nmetadata: {name: a}\nspec: {telemetry: {tracing: {samplingRate: 1, samplingFraction: {numerator: 1}, " +
			"provider: {type: OpenTelemetry, backendRefs: [{name: a, port: 1}]}}}}",
	} {
		o, err := decodeObject([]byte(doc))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if errs, err := checkCustom([]byte(doc), known[o.GroupVersionKind]); err != nil || len(errs) == 0 {
			t.Errorf("%s was taken (%v)", what, err)
		}
	}
}
