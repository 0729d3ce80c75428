package semconv

import "go.opentelemetry.io/otel/attribute"

// HTTP. Semantic conventions 1.43, "HTTP spans"; stable.
const (
	HTTPRequestMethod         attribute.Key = "http.request.method"
	HTTPRequestMethodOriginal attribute.Key = "http.request.method_original"
	HTTPRequestResendCount    attribute.Key = "http.request.resend_count"
	HTTPRequestBodySize       attribute.Key = "http.request.body.size"
	HTTPResponseBodySize      attribute.Key = "http.response.body.size"
	HTTPResponseStatusCode    attribute.Key = "http.response.status_code"
	HTTPRoute                 attribute.Key = "http.route"
)

// HTTP headers: a lower-case header name follows. Semantic conventions 1.43, "HTTP spans"; opt-in.
const (
	HTTPRequestHeaderPrefix  = "http.request.header."
	HTTPResponseHeaderPrefix = "http.response.header."
)

// RPC and gRPC. Semantic conventions 1.43, "gRPC"; release candidate.
const (
	RPCSystemName         attribute.Key = "rpc.system.name"
	RPCMethod             attribute.Key = "rpc.method"
	RPCMethodOriginal     attribute.Key = "rpc.method_original"
	RPCResponseStatusCode attribute.Key = "rpc.response.status_code"
)

// gRPC metadata: a lower-case key follows. Semantic conventions 1.43, "gRPC"; opt-in.
const (
	RPCRequestMetadataPrefix  = "rpc.request.metadata."
	RPCResponseMetadataPrefix = "rpc.response.metadata."
)

// URL. Semantic conventions 1.43, "URL"; stable, template in development.
const (
	URLFull     attribute.Key = "url.full"
	URLPath     attribute.Key = "url.path"
	URLQuery    attribute.Key = "url.query"
	URLScheme   attribute.Key = "url.scheme"
	URLTemplate attribute.Key = "url.template"
)

// Ends of a call. Semantic conventions 1.43, "Client", "Server", "User agent"; stable.
const (
	ClientAddress     attribute.Key = "client.address"
	ClientPort        attribute.Key = "client.port"
	ServerAddress     attribute.Key = "server.address"
	ServerPort        attribute.Key = "server.port"
	UserAgentOriginal attribute.Key = "user_agent.original"
)

// Network. Semantic conventions 1.43, "Network"; stable.
const (
	NetworkLocalAddress    attribute.Key = "network.local.address"
	NetworkLocalPort       attribute.Key = "network.local.port"
	NetworkPeerAddress     attribute.Key = "network.peer.address"
	NetworkPeerPort        attribute.Key = "network.peer.port"
	NetworkProtocolName    attribute.Key = "network.protocol.name"
	NetworkProtocolVersion attribute.Key = "network.protocol.version"
	NetworkTransport       attribute.Key = "network.transport"
)

// Errors. Semantic conventions 1.43, "Error", "Exceptions"; stable.
const (
	ErrorType           attribute.Key = "error.type"
	ExceptionType       attribute.Key = "exception.type"
	ExceptionMessage    attribute.Key = "exception.message"
	ExceptionStacktrace attribute.Key = "exception.stacktrace"
)

// ExceptionEvent is the name of the event that carries the exception attributes.
// Semantic conventions 1.43, "Exceptions on spans".
const ExceptionEvent = "exception"

// Databases. Semantic conventions 1.43, "Database spans"; stable.
const (
	DBSystemName         attribute.Key = "db.system.name"
	DBNamespace          attribute.Key = "db.namespace"
	DBCollectionName     attribute.Key = "db.collection.name"
	DBOperationName      attribute.Key = "db.operation.name"
	DBQuerySummary       attribute.Key = "db.query.summary"
	DBQueryText          attribute.Key = "db.query.text"
	DBResponseStatusCode attribute.Key = "db.response.status_code"
)

// Resource. Semantic conventions 1.43, "Service", "Telemetry SDK", "Deployment"; stable.
const (
	ServiceName               attribute.Key = "service.name"
	ServiceNamespace          attribute.Key = "service.namespace"
	ServiceVersion            attribute.Key = "service.version"
	ServiceInstanceID         attribute.Key = "service.instance.id"
	TelemetrySDKLanguage      attribute.Key = "telemetry.sdk.language"
	TelemetrySDKName          attribute.Key = "telemetry.sdk.name"
	TelemetrySDKVersion       attribute.Key = "telemetry.sdk.version"
	TelemetryDistroName       attribute.Key = "telemetry.distro.name"
	TelemetryDistroVersion    attribute.Key = "telemetry.distro.version"
	DeploymentEnvironmentName attribute.Key = "deployment.environment.name"
)

// Process, host and operating system. Semantic conventions 1.43, "Process", "Host", "OS"; development.
const (
	ProcessPID                attribute.Key = "process.pid"
	ProcessExecutableName     attribute.Key = "process.executable.name"
	ProcessRuntimeName        attribute.Key = "process.runtime.name"
	ProcessRuntimeVersion     attribute.Key = "process.runtime.version"
	ProcessRuntimeDescription attribute.Key = "process.runtime.description"
	HostName                  attribute.Key = "host.name"
	HostArch                  attribute.Key = "host.arch"
	OSType                    attribute.Key = "os.type"
)

// OpenTelemetry's own components. Semantic conventions 1.43, "OpenTelemetry SDK metrics"; development.
const (
	OTelComponentName attribute.Key = "otel.component.name"
	OTelComponentType attribute.Key = "otel.component.type"
)

// Envoy, what its downstream span says of the request (T-1, T-3). All values are strings.
const (
	EnvoyRequestID         attribute.Key = "guid:x-request-id"
	EnvoyClientTraceID     attribute.Key = "guid:x-client-trace-id"
	EnvoyNodeID            attribute.Key = "node_id"
	EnvoyZone              attribute.Key = "zone"
	EnvoyHTTPURL           attribute.Key = "http.url"
	EnvoyHTTPMethod        attribute.Key = "http.method"
	EnvoyDownstreamCluster attribute.Key = "downstream_cluster"
	EnvoyUserAgent         attribute.Key = "user_agent"
	EnvoyRequestSize       attribute.Key = "request_size"
	EnvoyResponseSize      attribute.Key = "response_size"
	EnvoyGRPCPath          attribute.Key = "grpc.path"
	EnvoyGRPCAuthority     attribute.Key = "grpc.authority"
	EnvoyGRPCContentType   attribute.Key = "grpc.content_type"
	EnvoyGRPCTimeout       attribute.Key = "grpc.timeout"
)

// Envoy, on downstream and upstream spans (T-1, E-1). All values are strings.
const (
	EnvoyComponent           attribute.Key = "component"
	EnvoyPeerAddress         attribute.Key = "peer.address"
	EnvoyHTTPProtocol        attribute.Key = "http.protocol"
	EnvoyHTTPStatusCode      attribute.Key = "http.status_code"
	EnvoyResponseFlags       attribute.Key = "response_flags"
	EnvoyUpstreamCluster     attribute.Key = "upstream_cluster"
	EnvoyUpstreamClusterName attribute.Key = "upstream_cluster.name"
	EnvoyGRPCStatusCode      attribute.Key = "grpc.status_code"
	EnvoyGRPCMessage         attribute.Key = "grpc.message"
	EnvoyError               attribute.Key = "error"
)

// Envoy, on the span of one attempt upstream (T-6, T-10). All values are strings.
const (
	EnvoyUpstreamAddress attribute.Key = "upstream_address"
	EnvoyErrorReason     attribute.Key = "error.reason"
	EnvoyCanceled        attribute.Key = "canceled"
	EnvoyRetryCount      attribute.Key = "retry.count"
	EnvoyStatus          attribute.Key = "status"
)

// Our own: what OpenTelemetry and Envoy have no word for.
const (
	// FirstByteEvent is the name of the event when an answer begins to go out.
	FirstByteEvent = "meshtrace.response.first_byte"
	// SamplingReason says why the request is traced, as a sampler.Why in text.
	SamplingReason attribute.Key = "meshtrace.sampling.reason"
	// BodyDropped marks a client span whose response body was neither read to its
	// end nor closed.
	BodyDropped attribute.Key = "meshtrace.body.dropped"
	// MessagesSent and MessagesReceived count the messages of a gRPC stream, seen
	// from the span's side.
	MessagesSent     attribute.Key = "meshtrace.rpc.messages.sent"
	MessagesReceived attribute.Key = "meshtrace.rpc.messages.received"
	// PreviousAttempts is the attempt number less one that grpc-go's client states
	// in grpc-previous-rpc-attempts.
	PreviousAttempts attribute.Key = "meshtrace.rpc.previous_attempts"
)

// Metrics of HTTP, durations in seconds and sizes in bytes. Semantic conventions 1.43,
// "HTTP metrics"; the durations stable, the rest in development.
const (
	HTTPServerRequestDuration  = "http.server.request.duration"
	HTTPClientRequestDuration  = "http.client.request.duration"
	HTTPServerActiveRequests   = "http.server.active_requests"
	HTTPServerRequestBodySize  = "http.server.request.body.size"
	HTTPServerResponseBodySize = "http.server.response.body.size"
	HTTPClientRequestBodySize  = "http.client.request.body.size"
	HTTPClientResponseBodySize = "http.client.response.body.size"
)

// Metrics of RPC, in seconds. Semantic conventions 1.43, "RPC metrics"; release candidate.
const (
	RPCServerCallDuration = "rpc.server.call.duration"
	RPCClientCallDuration = "rpc.client.call.duration"
)
