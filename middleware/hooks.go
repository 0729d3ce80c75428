package middleware

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	otelprop "go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/headers"
	"github.com/meshtrace/meshtrace/internal/otelenv"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/span"
)

// CallInfo tells a hook of Config which call it is asked about. It is good until the
// hook returns.
type CallInfo struct {
	// Kind is the kind of the span.
	Kind trace.SpanKind
	// Method is the HTTP method, or gRPC's full method "/package.Service/Method"; ""
	// for a call that StartServer or StartClient was given without one.
	Method string
	// Request is the request as it arrived, or as the caller made it, for Handler and
	// Transport; nil for the rest. A hook must not change it, nor read its body.
	Request *http.Request
}

func (c *Call) info() CallInfo { return CallInfo{Kind: c.kind, Method: c.method, Request: c.request} }

// wanted returns the name of c's span, as Config.SpanName wants it.
func (c *Call) wanted(name string) string {
	if c.tracing.spanName != nil {
		return semconv.Cut(strings.ToValidUTF8(c.spanNameOf(name), "\uFFFD"), maxSpanName)
	}
	return name
}

// maxSpanName bounds in bytes what Config.SpanName returns.
const maxSpanName = 256

// SetAttributes puts kv on the span of the call itself, as Config.Attributes wants
// them. It may be called until End.
func (c *Call) SetAttributes(kv ...attribute.KeyValue) {
	if !c.recording() {
		return
	}
	if c.rec != nil && c.tracing.attributes == nil {
		c.rec.SetAttributes(kv...)
		return
	}
	a := c.tracing.attrs() // a copy: kv may be on the caller's stack
	a.add(kv...)
	c.put(a)
}

// SetName renames the span of the call, where its name was not known at the start.
// Config.SpanName is asked about it all the same.
func (c *Call) SetName(name string) {
	if c.recording() {
		c.name = name
		c.span.SetName(name)
	}
}

// CapturesResponses tells whether Config.ResponseHeaders has names, so that
// Outcome.Response is worth filling.
func (t *Tracing) CapturesResponses() bool { return len(t.responseHeaders) > 0 }

// Observed tells whether anything is kept of the call: whether it has a span of its own
// that is recorded, or is measured. Otherwise End does nothing.
func (c *Call) Observed() bool { return c.recording() || c.m != nil }

// recording tells whether the call has a span of its own that is recorded.
func (c *Call) recording() bool {
	if c.rec != nil {
		return c.rec.IsRecording()
	}
	return c.owned && c.span.IsRecording()
}

// edited returns the attributes in a, as Config.Attributes wants them.
func (c *Call) edited(a *attrs) []attribute.KeyValue {
	if c.tracing.attributes != nil {
		a.list = c.attributesOf(a.list)
	}
	return a.list
}

// put puts the attributes in a on the span, and gives a back.
func (c *Call) put(a *attrs) {
	if list := c.edited(a); len(list) > 0 {
		c.span.SetAttributes(list...)
	}
	a.put()
}

// captured is a header whose values become an attribute.
type captured struct {
	name headers.Name
	http attribute.Key
	rpc  attribute.Key
}

// Bounds on captured headers.
const (
	maxCaptured       = 64      // names in a Config
	maxCapturedValues = 16      // of one header
	maxCapturedBytes  = 2 << 10 // of one value
)

// newCaptured prepares names of headers for capture.
func newCaptured(names []string, httpPrefix, rpcPrefix string) []captured {
	list := make([]captured, 0, len(names))
	for _, n := range names {
		lower := strings.ToLower(n)
		list = append(list, captured{
			name: headers.Name{Canonical: http.CanonicalHeaderKey(n), Lower: lower},
			http: attribute.Key(httpPrefix + lower),
			rpc:  attribute.Key(rpcPrefix + lower),
		})
	}
	return list
}

// capture adds the headers of carrier that list names.
func (a *attrs) capture(list []captured, carrier otelprop.TextMapCarrier, rpc bool) {
	src := headers.NewSource(carrier)
	for i := range list {
		values := src.Lines(&list[i].name)
		if len(values) == 0 {
			continue
		}
		values = values[:min(len(values), maxCapturedValues)]
		kept := make([]string, len(values))
		for j, v := range values {
			if rpc && strings.HasSuffix(list[i].name.Lower, "-bin") {
				v = base64.StdEncoding.EncodeToString([]byte(semconv.Cut(v, maxCapturedBytes))) // no text
			}
			kept[j] = strings.ToValidUTF8(semconv.Cut(v, maxCapturedBytes), "\uFFFD")
		}
		key := list[i].http
		if rpc {
			key = list[i].rpc
		}
		a.add(key.StringSlice(kept))
	}
}

// checkHooks returns the mistakes in what Config says of hooks.
func (cfg *Config) checkHooks() error {
	var errs []error
	for _, l := range []struct {
		field string
		names []string
	}{{"RequestHeaders", cfg.RequestHeaders}, {"ResponseHeaders", cfg.ResponseHeaders}} {
		if len(l.names) > maxCaptured {
			errs = append(errs, fmt.Errorf("middleware: Config.%s has %d names: allowed are at most %d", l.field, len(l.names), maxCaptured))
		}
		for i, n := range l.names {
			if !isHeaderName(n) {
				errs = append(errs, fmt.Errorf("middleware: Config.%s[%d]=%.80q: allowed is the name of a header", l.field, i, n))
			}
		}
	}
	for i, p := range cfg.SecretParameters {
		if p == "" {
			errs = append(errs, fmt.Errorf("middleware: Config.SecretParameters[%d] is empty: allowed is the name of a query parameter", i))
		}
	}
	if len(cfg.BaggageAttributes) > maxBaggageKeys {
		errs = append(errs, fmt.Errorf("middleware: Config.BaggageAttributes has %d keys: allowed are at most %d", len(cfg.BaggageAttributes), maxBaggageKeys))
	}
	for i, k := range cfg.BaggageAttributes {
		if !isHeaderName(k) {
			errs = append(errs, fmt.Errorf("middleware: Config.BaggageAttributes[%d]=%.80q: allowed is the key of a baggage member", i, k))
		}
	}
	if len(cfg.BaggageAttributes) > 0 && cfg.TracerProvider != nil {
		errs = append(errs, errors.New("middleware: Config.BaggageAttributes are set beside Config.TracerProvider: register a processor that copies them with that provider"))
	}
	if cfg.FlushOnSignal && cfg.TracerProvider != nil {
		errs = append(errs, errors.New("middleware: Config.FlushOnSignal is set beside Config.TracerProvider: its owner flushes that provider"))
	}
	if cfg.ClientTrace > ClientTraceSpans {
		errs = append(errs, fmt.Errorf("middleware: Config.ClientTrace=%v: allowed is ClientTraceOff, ClientTraceEvents or ClientTraceSpans", cfg.ClientTrace))
	}
	for i, d := range cfg.Detectors {
		if d == nil {
			errs = append(errs, fmt.Errorf("middleware: Config.Detectors[%d] is nil: allowed is a resource.Detector", i))
		}
	}
	return errors.Join(errs...)
}

// hooks takes over what cfg says of hooks.
func (t *Tracing) hooks(env *otelenv.Reader, cfg *Config) {
	t.filter, t.clientFilter = cfg.Filter, cfg.ClientFilter
	t.spanName, t.attributes = cfg.SpanName, cfg.Attributes
	t.requestHeaders = newCaptured(cfg.RequestHeaders, semconv.HTTPRequestHeaderPrefix, semconv.RPCRequestMetadataPrefix)
	t.responseHeaders = newCaptured(cfg.ResponseHeaders, semconv.HTTPResponseHeaderPrefix, semconv.RPCResponseMetadataPrefix)
	t.traceResponse, t.firstByte, t.clientTrace = cfg.TraceResponse, cfg.FirstByte, cfg.ClientTrace
	t.secrets = defaultSecrets
	if cfg.SecretParameters != nil {
		t.secrets = newSecrets(cfg.SecretParameters)
	}
	t.methods = knownMethods(env)
}

// maxKnownMethods bounds OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS, and with it the
// values of http.request.method.
const maxKnownMethods = 64

// knownMethods reads the methods that the deployment knows, in the place of those of
// RFC 9110, PATCH and QUERY; nil where it says nothing.
func knownMethods(env *otelenv.Reader) map[string]bool {
	const variable, allowed = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "a comma list of at most 64 methods, such as GET,POST,PROPFIND"
	v, ok := env.String(variable)
	if !ok {
		return nil
	}
	known := make(map[string]bool)
	for m := range strings.SplitSeq(v, ",") {
		if m = strings.TrimSpace(m); m == "" {
			continue
		}
		if !isHeaderName(m) || len(m) > maxMethod || len(known) == maxKnownMethods { // methods are tokens too
			env.Reject(variable, v, allowed)
			return nil
		}
		known[m] = true
	}
	if len(known) == 0 {
		env.Reject(variable, v, allowed)
		return nil
	}
	return known
}

// methodOf returns the method to record, and the original where that is not known.
func (t *Tracing) methodOf(m string) (method, original string) {
	known := false
	if t.methods == nil {
		method, known = semconv.Method(m)
	} else if method = m; m == "" {
		method, known = http.MethodGet, true
	} else if known = t.methods[m]; !known {
		method = other
	}
	if !known {
		original = semconv.Cut(m, maxMethod)
	}
	return method, original
}

// httpName returns the name of an HTTP span: span.HTTPName with the methods that the
// deployment knows.
func (t *Tracing) httpName(method, route string) string {
	if t.methods == nil {
		return span.HTTPName(method, route)
	}
	name, original := t.methodOf(method)
	if original != "" {
		name = "HTTP"
	}
	if route = semconv.Route(route); route == "" {
		return name
	}
	return semconv.Cut(name+" "+route, maxSpanName)
}
