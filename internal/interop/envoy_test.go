package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type object = map[string]any

type list = []any

// envoyListener is one listener of an Envoy: a client's way to one cluster.
type envoyListener struct {
	name       string // stat_prefix as well
	addr       string
	cluster    string
	outbound   bool   // else inbound
	edge       bool   // clients are outside: use_remote_address
	decorator  string // of the route
	hcm        object // further settings of the HTTP connection manager
	tracing    object // further settings of its tracing
	noTracing  bool
	virtual    object // further settings of the virtual host
	routeExtra object
}

// envoyCluster is where requests go.
type envoyCluster struct {
	name  string
	addrs []string
	http2 bool
}

// envoyConfig is an Envoy with one tracer for all listeners.
type envoyConfig struct {
	provider  object // tracing.provider
	random    float64
	listeners []envoyListener
	clusters  []envoyCluster
}

// openTelemetryTracer sends spans to the cluster "sink" by OTLP/HTTP.
func openTelemetryTracer(sink string) object {
	return object{
		"name": "envoy.tracers.opentelemetry",
		"typed_config": object{
			"@type":        "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
			"service_name": "envoy",
			"http_service": object{"http_uri": object{"uri": "http://" + sink + "/v1/traces", "cluster": "sink", "timeout": "2s"}},
		},
	}
}

// zipkinTracer sends spans to the cluster "sink" by Zipkin's API; contexts travel as B3,
// and as traceparent besides if w3c.
func zipkinTracer(w3c bool) object {
	c := object{
		"@type":                      "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
		"collector_cluster":          "sink",
		"collector_endpoint":         "/api/v2/spans",
		"collector_endpoint_version": "HTTP_JSON",
		"trace_id_128bit":            true,
	}
	if w3c {
		c["trace_context_option"] = "USE_B3_WITH_W3C_PROPAGATION"
	}
	return object{"name": "envoy.tracers.zipkin", "typed_config": c}
}

func hostPort(addr string) object {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	var n int
	fmt.Sscan(port, &n)
	return object{"socket_address": object{"address": host, "port_value": n}}
}

// accessLog is what every listener writes for each request, a line of JSON.
type accessLog struct {
	Listener    string `json:"listener"`
	RequestID   string `json:"request_id"`
	Traceparent string `json:"traceparent"`
	B3Sampled   string `json:"b3_sampled"`
	B3TraceID   string `json:"b3_trace_id"`
	TraceID     string `json:"trace_id"`
	Path        string `json:"path"`
	Status      int    `json:"status"`
}

// merge sets what more has; nil takes a setting away.
func merge(into, more object) object {
	for k, v := range more {
		if into[k] = v; v == nil {
			delete(into, k)
		}
	}
	return into
}

// bootstrap is the configuration as Envoy reads it.
func (c envoyConfig) bootstrap(admin, logs string) []byte {
	var listeners, clusters list
	for _, l := range c.listeners {
		route := merge(object{"match": object{"prefix": "/"}, "route": object{"cluster": l.cluster, "timeout": "30s"}}, l.routeExtra)
		if l.decorator != "" {
			route["decorator"] = object{"operation": l.decorator}
		}
		hcm := object{
			"@type":                             "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
			"stat_prefix":                       l.name,
			"codec_type":                        "AUTO",
			"use_remote_address":                l.edge,
			"generate_request_id":               true,
			"internal_address_config":           object{"cidr_ranges": list{object{"address_prefix": "127.0.0.1", "prefix_len": 32}}},
			"always_set_request_id_in_response": true,
			"route_config": object{"name": l.name, "virtual_hosts": list{merge(object{
				"name": l.name, "domains": list{"*"}, "routes": list{route}}, l.virtual)}},
			"http_filters": list{object{"name": "envoy.filters.http.router",
				"typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}},
			"access_log": list{object{"name": "envoy.access_loggers.file", "typed_config": object{
				"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
				"path":  logs,
				"log_format": object{"json_format": object{
					"listener": l.name, "request_id": "%REQ(X-REQUEST-ID)%", "traceparent": "%REQ(TRACEPARENT)%",
					"b3_sampled": "%REQ(X-B3-SAMPLED)%", "b3_trace_id": "%REQ(X-B3-TRACEID)%", "trace_id": "%TRACE_ID%",
					"path": "%REQ(:PATH)%", "status": "%RESPONSE_CODE%",
				}},
			}}},
		}
		if !l.noTracing {
			hcm["tracing"] = merge(object{"provider": c.provider, "random_sampling": object{"value": c.random}}, l.tracing)
		}
		if l.edge { // the test's client is a stranger
			hcm["internal_address_config"] = object{"cidr_ranges": list{object{"address_prefix": "127.0.0.99", "prefix_len": 32}}}
		}
		direction := "INBOUND"
		if l.outbound {
			direction = "OUTBOUND"
		}
		listeners = append(listeners, object{
			"name": l.name, "address": hostPort(l.addr), "traffic_direction": direction,
			"filter_chains": list{object{"filters": list{object{
				"name": "envoy.filters.network.http_connection_manager", "typed_config": merge(hcm, l.hcm)}}}},
		})
	}
	for _, cl := range c.clusters {
		var endpoints list
		for _, a := range cl.addrs {
			endpoints = append(endpoints, object{"endpoint": object{"address": hostPort(a)}})
		}
		cluster := object{
			"name": cl.name, "type": "STATIC", "connect_timeout": "2s",
			"load_assignment": object{"cluster_name": cl.name, "endpoints": list{object{"lb_endpoints": endpoints}}},
			// The default of 1024 is for a fleet, and a queue here is no failure.
			"circuit_breakers": object{"thresholds": list{object{"max_pending_requests": 100000, "max_requests": 100000, "max_connections": 1000, "max_retries": 1000}}},
		}
		if cl.http2 {
			cluster["typed_extension_protocol_options"] = object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": object{"http2_protocol_options": object{}},
			}}
		}
		clusters = append(clusters, cluster)
	}
	b, err := json.Marshal(object{
		"node":             object{"id": "interop", "cluster": "interop"},
		"admin":            object{"address": hostPort(admin)},
		"static_resources": object{"listeners": listeners, "clusters": clusters},
		// Spans leave when they end, and not five by five.
		"layered_runtime": object{"layers": list{object{"name": "static", "static_layer": object{
			"tracing.opentelemetry.min_flush_spans": 1, "tracing.zipkin.min_flush_spans": 1}}}},
	})
	if err != nil {
		panic(err)
	}
	return b
}

// envoyRun is an Envoy that runs.
type envoyRun struct {
	*running
	admin string
	logs  string
}

// startEnvoy runs an Envoy until the test ends.
func startEnvoy(t *testing.T, root string, c envoyConfig) *envoyRun {
	t.Helper()
	e := &envoyRun{admin: free(t, 1)[0], logs: filepath.Join(t.TempDir(), "access.jsonl")}
	boot := write(t, "boot.json", c.bootstrap(e.admin, e.logs))
	e.running = began(t, "envoy", []string{e.admin}, nil, envoy.path(root), "-c", boot, "--concurrency", "1", "--disable-hot-restart",
		"-l", "error", "--file-flush-interval-msec", "20")
	eventually(t, 20*time.Second, func() string {
		body, err := get("http://" + e.admin + "/ready")
		if err != nil {
			select {
			case <-e.done:
				t.Fatalf("Envoy ended: %s", e.output)
			default:
			}
			return err.Error()
		}
		if s := strings.TrimSpace(string(body)); s != "LIVE" {
			return "Envoy is " + s
		}
		return ""
	})
	return e
}

// accessLogs reads what Envoy logged so far, whole lines alone.
func (e *envoyRun) accessLogs() ([]accessLog, error) {
	b, err := os.ReadFile(e.logs)
	if err != nil {
		return nil, err
	}
	var all []accessLog
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		var l accessLog
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			return nil, fmt.Errorf("access log %q: %w", line, err)
		}
		all = append(all, l)
	}
	return all, nil
}

// long says whether the long forms run.
func long() bool { return os.Getenv("MESHTRACE_LONG") == "1" }

// count is short, or long in the long form.
func count(short, longForm int) int {
	if long() {
		return longForm
	}
	return short
}
