package validate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	egv1a1 "github.com/envoyproxy/gateway/api/v1alpha1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	istioapinetworking "istio.io/api/networking/v1alpha3"
	istioapitelemetry "istio.io/api/telemetry/v1alpha1"
	istionetworking "istio.io/client-go/pkg/apis/networking/v1"
	istiotelemetry "istio.io/client-go/pkg/apis/telemetry/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	gwapiv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// object is one decoded Kubernetes object.
type object struct {
	schema.GroupVersionKind
	namespace, name string
	value           any // a pointer to the type of its kind
}

func (o object) String() string {
	return fmt.Sprintf("%s %s/%s", o.Kind, o.namespace, o.name)
}

// scheme knows the kinds of the projects that the manifests speak to.
var scheme = newScheme()

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme,
		gwapiv1.Install, egv1a1.AddToScheme, istionetworking.AddToScheme, istiotelemetry.AddToScheme,
	} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
}

// ownKinds are the kinds whose projects' modules are not to be had.
var ownKinds = map[schema.GroupVersionKind]func() any{
	{Group: "gloo.solo.io", Version: "v1", Kind: "Upstream"}:                      func() any { return new(glooUpstream) },
	{Group: "gateway.solo.io", Version: "v1", Kind: "Gateway"}:                    func() any { return new(glooGateway) },
	{Group: "gateway.solo.io", Version: "v1", Kind: "VirtualService"}:             func() any { return new(glooVirtualService) },
	{Group: "opentelemetry.io", Version: "v1alpha1", Kind: "Instrumentation"}:     func() any { return new(instrumentation) },
	{Group: "kustomize.config.k8s.io", Version: "v1beta1", Kind: "Kustomization"}: func() any { return new(kustomization) },
}

// istioSpecs are the messages of Istio's kinds. Istio's own objects decode these
// with unknown fields allowed.
var istioSpecs = map[string]func() proto.Message{
	"Telemetry":      func() proto.Message { return new(istioapitelemetry.Telemetry) },
	"Gateway":        func() proto.Message { return new(istioapinetworking.Gateway) },
	"VirtualService": func() proto.Message { return new(istioapinetworking.VirtualService) },
}

// documents splits a file at its --- lines.
func documents(file []byte) ([][]byte, error) {
	r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(file)))
	var all [][]byte
	for {
		doc, err := r.Read()
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		case len(bytes.TrimSpace(withoutComments(doc))) > 0:
			all = append(all, doc)
		}
	}
}

func withoutComments(doc []byte) []byte {
	var b bytes.Buffer
	for line := range bytes.Lines(doc) {
		if !bytes.HasPrefix(bytes.TrimSpace(line), []byte("#")) {
			b.Write(line)
		}
	}
	return b.Bytes()
}

// decodeObject decodes one document. Unknown fields, fields that stand twice, unknown
// kinds and kinds of another version are errors.
func decodeObject(doc []byte) (object, error) {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
	}
	if err := yaml.Unmarshal(doc, &head); err != nil {
		return object{}, err
	}
	o := object{GroupVersionKind: head.GroupVersionKind(), namespace: head.Metadata.Namespace, name: head.Metadata.Name}

	switch own, ok := ownKinds[o.GroupVersionKind]; {
	case ok:
		o.value = own()
	case !scheme.Recognizes(o.GroupVersionKind):
		return o, fmt.Errorf("no type is known for %s", o.GroupVersionKind)
	default:
		v, err := scheme.New(o.GroupVersionKind)
		if err != nil {
			return o, err
		}
		o.value = v
	}
	if o.name == "" && o.Kind != "Kustomization" {
		return o, fmt.Errorf("a %s has no metadata.name", o.Kind)
	}

	var err error
	if strings.HasSuffix(o.Group, ".istio.io") {
		err = decodeIstio(doc, o)
	} else {
		err = yaml.UnmarshalStrict(doc, o.value)
	}
	if err != nil {
		return o, fmt.Errorf("%s: %w", o, err)
	}
	return o, nil
}

// decodeIstio checks the parts by themselves, and then fills o.value.
func decodeIstio(doc []byte, o object) error {
	var parts struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
		Spec            json.RawMessage   `json:"spec"`
	}
	if err := yaml.UnmarshalStrict(doc, &parts); err != nil {
		return err
	}
	spec, ok := istioSpecs[o.Kind]
	if !ok {
		return fmt.Errorf("no message is known for the spec of %s", o.Kind)
	}
	if err := protojson.Unmarshal(parts.Spec, spec()); err != nil {
		return err
	}
	return yaml.Unmarshal(doc, o.value)
}

// decodeMessage decodes YAML strictly into a message.
func decodeMessage(doc []byte, m proto.Message) error {
	b, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return err
	}
	return protojson.Unmarshal(b, m)
}
