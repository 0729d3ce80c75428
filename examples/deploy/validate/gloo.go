package validate

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The fields of Gloo's classic API that gloo.yaml uses, by their names in Gloo's
// published protocol (projects/gloo/api/v1, projects/gateway/api/v1), whose JSON form
// the CRDs have.

type glooRef struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type glooUpstream struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		UseHTTP2 bool `json:"useHttp2"`
		Kube     struct {
			ServiceName      string `json:"serviceName"`
			ServiceNamespace string `json:"serviceNamespace"`
			ServicePort      int32  `json:"servicePort"`
		} `json:"kube"`
	} `json:"spec"`
}

type glooPercentages struct {
	Client  *float32 `json:"clientSamplePercentage"`
	Random  *float32 `json:"randomSamplePercentage"`
	Overall *float32 `json:"overallSamplePercentage"`
}

type glooGateway struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		BindAddress string   `json:"bindAddress"`
		BindPort    uint32   `json:"bindPort"`
		ProxyNames  []string `json:"proxyNames"`
		HTTPGateway struct {
			Options struct {
				HTTPConnectionManagerSettings struct {
					UseRemoteAddress bool `json:"useRemoteAddress"`
					Tracing          struct {
						TracePercentages    glooPercentages `json:"tracePercentages"`
						SpawnUpstreamSpan   bool            `json:"spawnUpstreamSpan"`
						OpenTelemetryConfig struct {
							CollectorUpstreamRef glooRef `json:"collectorUpstreamRef"`
							ServiceName          string  `json:"serviceName"`
						} `json:"openTelemetryConfig"`
					} `json:"tracing"`
				} `json:"httpConnectionManagerSettings"`
			} `json:"options"`
		} `json:"httpGateway"`
	} `json:"spec"`
}

type glooVirtualService struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		VirtualHost struct {
			Domains []string    `json:"domains"`
			Routes  []glooRoute `json:"routes"`
		} `json:"virtualHost"`
	} `json:"spec"`
}

type glooRoute struct {
	Matchers []struct {
		Exact  string `json:"exact"`
		Prefix string `json:"prefix"`
	} `json:"matchers"`
	Options struct {
		Tracing *struct {
			RouteDescriptor  string           `json:"routeDescriptor"`
			TracePercentages *glooPercentages `json:"tracePercentages"`
		} `json:"tracing"`
	} `json:"options"`
	RouteAction struct {
		Single struct {
			Kube struct {
				Ref  glooRef `json:"ref"`
				Port int32   `json:"port"`
			} `json:"kube"`
		} `json:"single"`
	} `json:"routeAction"`
}
