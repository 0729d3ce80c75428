package validate

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// instrumentation has the fields of the OpenTelemetry Operator's Instrumentation,
// v1alpha1, that a program with an SDK of its own is given variables by.
type instrumentation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Exporter struct {
			Endpoint string `json:"endpoint"`
		} `json:"exporter"`
		Resource struct {
			Attributes          map[string]string `json:"resourceAttributes"`
			AddK8sUIDAttributes bool              `json:"addK8sUIDAttributes"`
		} `json:"resource"`
		Propagators []string `json:"propagators"`
		Sampler     struct {
			Type     string `json:"type"`
			Argument string `json:"argument"`
		} `json:"sampler"`
		Env []corev1.EnvVar `json:"env"`
	} `json:"spec"`
}
