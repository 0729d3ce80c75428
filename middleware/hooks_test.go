package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

// TestFilter: what is filtered has no span, and its ids and trace travel on.
func TestFilter(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{Filter: func(r *http.Request) bool { return r.URL.Path != "/metrics" }})
	var upstream http.Header
	backend, cl := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { upstream = r.Header.Clone() }))
	url, client := serve(t, tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		send(r.Context(), t, traced(tracing, cl), backend)
	})))
	get(t, client, url+"/metrics", "Traceparent", traceparent, "X-Request-Id", plainID)
	if n := len(rec.Ended()); n != 0 {
		t.Errorf("%d spans of a filtered request, want none", n)
	}
	if tp := upstream.Get("Traceparent"); !strings.HasPrefix(tp, traceparent[:35]) || !strings.HasSuffix(tp, "-00") {
		t.Errorf("traceparent upstream = %q, want trace %s with flag 00", tp, traceparent[3:35])
	}
	if id := upstream.Get("X-Request-Id"); !requestid.Equal(requestid.ID(id), plainID) {
		t.Errorf("x-request-id upstream = %q, want %q", id, plainID)
	}
	get(t, client, url+"/other", "Traceparent", traceparent)
	waitEnded(t, rec, 2)
}

func TestClientFilter(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{ClientFilter: func(r *http.Request) bool { return r.URL.Path != "/quiet" }})
	var upstream http.Header
	url, cl := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { upstream = r.Header.Clone() }))
	ctx, sp := tracing.TracerProvider().Tracer("test").Start(t.Context(), "parent")
	send(ctx, t, traced(tracing, cl), url+"/quiet")
	if n := len(rec.Ended()); n != 0 {
		t.Errorf("%d client spans of a filtered request, want none", n)
	}
	if tp := upstream.Get("Traceparent"); !strings.Contains(tp, sp.SpanContext().SpanID().String()) {
		t.Errorf("traceparent upstream = %q, want the span around the call %v", tp, sp.SpanContext().SpanID())
	}
	send(ctx, t, traced(tracing, cl), url+"/loud")
	waitEnded(t, rec, 1)
}

// TestSpanName: the hook is asked once a span, with the conventional name.
func TestSpanName(t *testing.T) {
	var asked []string
	tracing, rec := setup(t, middleware.Config{SpanName: func(info middleware.CallInfo, name string) string {
		asked = append(asked, fmt.Sprint(info.Kind, " ", info.Method, " ", info.Request != nil, " ", name))
		return name + " by " + info.Request.Header.Get("User-Agent") + strings.Repeat("x", 300)
	}})
	mux := http.NewServeMux()
	mux.HandleFunc("/u/{id}", func(http.ResponseWriter, *http.Request) {})
	h := tracing.Handler(mux)
	for _, path := range []string{"/u/1", "/unknown"} {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("User-Agent", "test")
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	rt := tracing.Transport(roundTripper(func(*http.Request) (*http.Response, error) { return nil, io.EOF }))
	req := httptest.NewRequest("BREW", "http://shop.example/", nil)
	rt.RoundTrip(req)
	if want := []string{"server GET true GET /u/{id}", "server GET true GET", "client BREW true HTTP"}; !slices.Equal(asked, want) {
		t.Errorf("asked about %q, want %q", asked, want)
	}
	for i, want := range []string{"GET /u/{id} by test", "GET by test", "HTTP by "} {
		if got := rec.Ended()[i].Name(); !strings.HasPrefix(got, want) || len(got) != 256 {
			t.Errorf("name = %q (%d bytes), want %q and 256", got, len(got), want)
		}
	}
}

// The hook is not asked about a span that does not record, as below one of another
// instrumentation's that is not sampled.
func TestAttributesOfDroppedSpan(t *testing.T) {
	asked := 0
	tracing, rec := setup(t, middleware.Config{
		Sampling:   sampler.Config{Base: sdktrace.AlwaysSample()},
		Attributes: func(_ middleware.CallInfo, attrs []attribute.KeyValue) []attribute.KeyValue { asked++; return attrs },
	})
	around := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
	_, call := tracing.StartServer(around, middleware.Incoming{Name: "server"})
	if call.Span().IsRecording() {
		t.Error("the span records")
	}
	call.SetAttributes(attribute.Int("a", 1))
	call.End(middleware.Outcome{HTTPStatus: 200})
	if n := len(rec.Ended()); asked != 0 || n != 0 {
		t.Errorf("asked %d times about %d spans, want 0 and 0", asked, n)
	}
}

// TestAttributes: the hook may add, change and drop, of servers and clients.
func TestAttributes(t *testing.T) {
	hook := func(info middleware.CallInfo, attrs []attribute.KeyValue) []attribute.KeyValue {
		attrs = slices.DeleteFunc(attrs, func(kv attribute.KeyValue) bool {
			return kv.Key == "user_agent.original" || kv.Key == "url.full" || kv.Key == "url.path"
		})
		for i, kv := range attrs {
			if kv.Key == "http.response.status_code" {
				attrs[i] = attribute.String("status", fmt.Sprint(kv.Value.AsInt64()))
			}
		}
		return append(attrs, attribute.String("hook", info.Kind.String()+" "+info.Request.URL.Path))
	}
	for _, own := range []bool{true, false} { // a caller's provider gets attributes at the start
		cfg := middleware.Config{Attributes: hook}
		rec := tracetest.NewSpanRecorder()
		if !own {
			provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
			defer provider.Shutdown(context.Background())
			cfg.TracerProvider = provider
		}
		tracing, ownRec := setup(t, cfg)
		if own {
			rec = ownRec
		}
		url, cl := serve(t, tracing.Handler(http.NotFoundHandler()))
		get(t, traced(tracing, cl), url+"/x", "User-Agent", "test/1")
		for _, s := range waitEnded(t, rec, 2) {
			wantAttrs(t, s, map[string]string{
				"user_agent.original": "-", "url.full": "-", "url.path": "-", "http.response.status_code": "-",
				"status": "404", "http.request.method": "GET", "hook": s.SpanKind().String() + " /x",
			})
		}
	}
}

func TestHeaderCapture(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{
		RequestHeaders:  []string{"x-tenant", "X-Long", "X-Absent"},
		ResponseHeaders: []string{"X-Answer", "Etag"},
	})
	url, cl := serve(t, tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("X-Answer", "a")
		w.Header().Add("X-Answer", "b")
		w.WriteHeader(204)
		w.Header().Set("Etag", "too late to be sent")
	})))
	get(t, traced(tracing, cl), url, "X-Tenant", "7", "X-Tenant", "8", "X-Secret", "s", "X-Long", strings.Repeat("é", 2000))
	for _, s := range waitEnded(t, rec, 2) {
		wantAttrs(t, s, map[string]string{
			"http.request.header.x-tenant":  `["7","8"]`,
			"http.request.header.x-secret":  "-",
			"http.request.header.x-absent":  "-",
			"http.request.header.x-long":    `["` + strings.Repeat("é", 1024) + `"]`,
			"http.response.header.x-answer": `["a","b"]`,
			"http.response.header.etag":     "-",
		})
	}
}

func TestSecretParameters(t *testing.T) {
	for _, tt := range []struct {
		list []string
		want string
	}{
		{nil, "token=T&sig=REDACTED"},
		{append(span.SecretParameters(), "token"), "token=REDACTED&sig=REDACTED"},
		{[]string{"token"}, "token=REDACTED&sig=S"},
		{[]string{}, "token=T&sig=S"},
	} {
		tracing, rec := setup(t, middleware.Config{SecretParameters: tt.list})
		url, cl := serve(t, tracing.Handler(http.NotFoundHandler()))
		get(t, traced(tracing, cl), url+"/?token=T&sig=S")
		for _, s := range waitEnded(t, rec, 2) {
			want := map[string]string{"url.query": tt.want}
			if s.SpanKind() == trace.SpanKindClient {
				want = map[string]string{"url.full": url + "/?" + tt.want}
			}
			wantAttrs(t, s, want)
		}
	}
}

// TestBaggageAttributes: allowed members go on every span, others on none.
func TestBaggageAttributes(t *testing.T) {
	tracing, rec := setup(t, middleware.Config{BaggageAttributes: []string{"tenant", "big", "absent"}})
	backend, cl := serve(t, http.NotFoundHandler())
	h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, sp := span.Start(r.Context(), "inner")
		send(ctx, t, traced(tracing, cl), backend)
		sp.End()
	}))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Baggage", "tenant=a%20b,secret=s,big="+strings.Repeat("x", 2000))
	h.ServeHTTP(httptest.NewRecorder(), r)
	for _, s := range waitEnded(t, rec, 3) {
		wantAttrs(t, s, map[string]string{"tenant": "a b", "secret": "-", "absent": "-", "big": strings.Repeat("x", 1024)})
	}
}

// TestClientTrace: the way of a request, as events or as spans.
func TestClientTrace(t *testing.T) {
	for _, how := range []middleware.ClientTrace{middleware.ClientTraceOff, middleware.ClientTraceEvents, middleware.ClientTraceSpans} {
		t.Run(how.String(), func(t *testing.T) {
			tracing, rec := setup(t, middleware.Config{ClientTrace: how})
			srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "x") }))
			t.Cleanup(srv.Close)
			cl := traced(tracing, srv.Client())
			get(t, cl, srv.URL)
			first := len(rec.Ended())
			get(t, cl, srv.URL) // over the same connection
			var call, reused sdktrace.ReadOnlySpan
			var names []string
			for i, s := range rec.Ended() {
				if s.SpanKind() != trace.SpanKindClient {
					names = append(names, s.Name())
					if i < first && s.Parent().SpanID() != rec.Ended()[first-1].SpanContext().SpanID() {
						t.Errorf("%s is below %v, want the client span", s.Name(), s.Parent().SpanID())
					}
					if s.EndTime().IsZero() {
						t.Errorf("%s did not end", s.Name())
					}
				} else if call == nil {
					call = s
				} else {
					reused = s
				}
			}
			events := func(s sdktrace.ReadOnlySpan) (list []string) {
				for _, e := range s.Events() {
					list = append(list, e.Name)
				}
				return list
			}
			var wantNames, wantFirst, wantReused []string
			switch how {
			case middleware.ClientTraceEvents:
				wantFirst = []string{"http.conn.wait", "http.connect.start", "http.connect.done", "http.tls.start", "http.tls.done",
					"http.conn.got", "http.request.sent", "http.response.first_byte"}
				wantReused = []string{"http.conn.wait", "http.conn.got", "http.request.sent", "http.response.first_byte"}
			case middleware.ClientTraceSpans:
				wantNames = []string{"http.connect", "http.tls", "http.conn", "http.conn"}
				wantFirst = []string{"http.request.sent", "http.response.first_byte"}
				wantReused = wantFirst
			}
			if !slices.Equal(names, wantNames) {
				t.Errorf("spans below the calls = %q, want %q", names, wantNames)
			}
			if got := events(call); !slices.Equal(got, wantFirst) {
				t.Errorf("events = %q, want %q", got, wantFirst)
			}
			if got := events(reused); !slices.Equal(got, wantReused) {
				t.Errorf("events over a used connection = %q, want %q", got, wantReused)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		tracing, rec := setup(t, middleware.Config{ClientTrace: middleware.ClientTraceSpans})
		srv := httptest.NewServer(nil)
		srv.Close()
		if _, err := traced(tracing, &http.Client{}).Get(srv.URL); err == nil {
			t.Fatal("want an error")
		}
		if len(rec.Started()) != len(rec.Ended()) {
			t.Errorf("%d spans started, %d ended", len(rec.Started()), len(rec.Ended()))
		}
		for _, s := range rec.Ended() {
			if s.Name() == "http.connect" {
				wantAttrs(t, s, map[string]string{"error.type": "net.OpError"})
			}
		}
	})
}

// TestFirstByte: the event tells when an answer began that goes on for long.
func TestFirstByte(t *testing.T) {
	for _, on := range []bool{false, true} {
		tracing, rec := setup(t, middleware.Config{FirstByte: on})
		release := make(chan struct{})
		url, cl := serve(t, tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
			<-release
			io.WriteString(w, "data: 2\n\n")
		})))
		resp, err := cl.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(resp.Body, make([]byte, 9)) // the first event is here while the handler runs
		if n := len(rec.Ended()); n != 0 {
			t.Errorf("%d spans ended, want none yet", n)
		}
		close(release)
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		s := waitEnded(t, rec, 1)[0]
		wantAttrs(t, s, map[string]string{"http.response.body.size": "18"})
		if got := len(s.Events()) == 1 && s.Events()[0].Name == "meshtrace.response.first_byte"; got != on {
			t.Errorf("events = %+v, want the first byte: %v", s.Events(), on)
		}
	}
}

func TestTraceResponse(t *testing.T) {
	for _, on := range []bool{false, true} {
		tracing, rec := setup(t, middleware.Config{TraceResponse: on})
		url, cl := serve(t, tracing.Handler(http.NotFoundHandler()))
		resp, _ := get(t, cl, url, "Traceparent", traceparent)
		want := ""
		if s := waitEnded(t, rec, 1)[0]; on {
			want = traceparent[:36] + s.SpanContext().SpanID().String() + "-01"
		}
		if got := resp.Header.Get("Traceresponse"); got != want {
			t.Errorf("traceresponse = %q, want %q", got, want)
		}
		resp, _ = get(t, cl, url, "Traceparent", unsampled)
		if got := resp.Header.Get("Traceresponse"); (got != "") != on || (on && !strings.HasSuffix(got, "-00")) {
			t.Errorf("traceresponse of a request that is not traced = %q", got)
		}
	}
}

// TestForwarded is RFC 7239, and who may say it.
func TestForwarded(t *testing.T) {
	internal := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, tt := range []struct {
		name    string
		edge    *middleware.Edge
		headers []string
		scheme  string
		host    string
	}{
		{"none", nil, nil, "http", "own.example"},
		{"proto and host", nil, []string{"Forwarded", "for=1.2.3.4;proto=https;host=a.example"}, "https", "a.example"},
		{"any case, quoted", nil, []string{"Forwarded", `For="[::1]:4711";Proto=HTTPS; HOST="a.example:8443"`}, "https", "a.example"},
		{"the first element", nil, []string{"Forwarded", `for=a;proto=https;host="x,y.example", for=b;proto=http;host=b.example`}, "https", "x,y.example"},
		{"before X-Forwarded", nil, []string{"Forwarded", "proto=https", "X-Forwarded-Proto", "http", "X-Forwarded-Host", "x.example"}, "https", "x.example"},
		{"unknown scheme", nil, []string{"Forwarded", "proto=gopher", "X-Forwarded-Proto", "wss"}, "http", "own.example"},
		{"broken", nil, []string{"Forwarded", `;;=,"\`}, "http", "own.example"},
		{"a stranger", &middleware.Edge{}, []string{"Forwarded", "proto=https;host=a.example", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "b.example"}, "http", "own.example"},
		{"a friend", &middleware.Edge{Internal: internal}, []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "b.example"}, "https", "b.example"},
		{"a trusted hop's word", &middleware.Edge{Hops: 1}, []string{"X-Forwarded-Proto", "http, https", "X-Forwarded-Host", "forged.example, b.example"}, "https", "b.example"},
		{"two hops", &middleware.Edge{Hops: 2}, []string{"Forwarded", "proto=http;host=f.example, proto=https;host=a.example, proto=http;host=b.example"}, "https", "a.example"},
		{"an edge before us", &middleware.Edge{Inner: true}, []string{"X-Forwarded-Proto", "https"}, "https", "own.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracing, rec := setup(t, middleware.Config{Edge: tt.edge})
			r := httptest.NewRequest("GET", "http://own.example/", nil)
			for i := 0; i < len(tt.headers); i += 2 {
				r.Header.Add(tt.headers[i], tt.headers[i+1])
			}
			tracing.Handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
			wantAttrs(t, one(t, rec), map[string]string{"url.scheme": tt.scheme, "server.address": tt.host})
		})
	}
}

// TestKnownMethods: the deployment names the methods that count.
func TestKnownMethods(t *testing.T) {
	for _, tt := range []struct {
		variable string
		want     []string // names of GET, PROPFIND
	}{
		{"", []string{"GET", "HTTP"}},
		{"GET, PROPFIND", []string{"GET", "PROPFIND"}},
		{"PROPFIND", []string{"HTTP", "PROPFIND"}},
		{"GET,bad method", []string{"GET", "HTTP"}},
		{",", []string{"GET", "HTTP"}},
		{strings.Repeat("X,", 3) + strings.Repeat("Y", 100), []string{"GET", "HTTP"}},
	} {
		tracing, rec := setup(t, middleware.Config{Getenv: environment(map[string]string{
			"OTEL_TRACES_EXPORTER": "none", "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS": tt.variable,
		})})
		mux := http.NewServeMux()
		mux.HandleFunc("/r", func(http.ResponseWriter, *http.Request) {})
		rt := tracing.Transport(roundTripper(func(*http.Request) (*http.Response, error) { return nil, io.EOF }))
		for i, method := range []string{"GET", "PROPFIND"} {
			rec.Reset()
			tracing.Handler(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/r", nil))
			rt.RoundTrip(httptest.NewRequest(method, "http://shop.example/", nil))
			for _, s := range rec.Ended() {
				want, recorded, original := tt.want[i], method, "-"
				if want == "HTTP" {
					recorded, original = "_OTHER", method
				}
				if s.SpanKind() == trace.SpanKindServer {
					want += " /r"
				}
				if s.Name() != want {
					t.Errorf("%q: %v %s is named %q, want %q", tt.variable, s.SpanKind(), method, s.Name(), want)
				}
				wantAttrs(t, s, map[string]string{"http.request.method": recorded, "http.request.method_original": original})
			}
		}
	}
}

type detector func(context.Context) (*resource.Resource, error)

func (d detector) Detect(ctx context.Context) (*resource.Resource, error) { return d(ctx) }

// TestDetectors: those in time count, in 2 s together, and nobody stops the start.
func TestDetectors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		attr := func(k, v string) *resource.Resource { return resource.NewSchemaless(attribute.String(k, v)) }
		release := make(chan struct{})
		begun := time.Now()
		rec := tracetest.NewSpanRecorder()
		tracing, err := middleware.Setup(t.Context(), middleware.Config{
			Resource:   attr("shared", "resource"),
			Getenv:     noExport,
			Processors: []sdktrace.SpanProcessor{rec},
			Logger:     slog.New(slog.NewTextHandler(&log, nil)),
			Detectors: []resource.Detector{
				detector(func(context.Context) (*resource.Resource, error) {
					time.Sleep(time.Second)
					return resource.NewWithAttributes("https://schema.example/1", attribute.String("a", "1"), attribute.String("shared", "detector")), nil
				}),
				detector(func(context.Context) (*resource.Resource, error) {
					time.Sleep(time.Second)
					return attr("b", "2"), errors.New("half of it")
				}),
				detector(func(context.Context) (*resource.Resource, error) { panic("broken") }),
				detector(func(ctx context.Context) (*resource.Resource, error) { <-release; return attr("late", "3"), nil }),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("Setup took %v, want 2 s", took)
		}
		close(release)
		_, sp := tracing.TracerProvider().Tracer("").Start(t.Context(), "x")
		sp.End()
		set := rec.Ended()[0].Resource().Set()
		for k, want := range map[attribute.Key]string{"a": "1", "b": "2", "late": "", "shared": "resource"} {
			if v, _ := set.Value(k); v.AsString() != want {
				t.Errorf("resource has %s=%q, want %q", k, v.AsString(), want)
			}
		}
		for _, want := range []string{"Detectors[1]", "half of it", "Detectors[2]", "panic: broken", "Detectors[3]", "no answer within 2s"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("log %q does not say %q", log.String(), want)
			}
		}
		if err := tracing.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestDetectedService: a detector's service.name counts before nothing at all.
func TestDetectedService(t *testing.T) {
	found := []resource.Detector{detector(func(context.Context) (*resource.Resource, error) {
		return resource.NewSchemaless(attribute.String("service.name", "found")), nil
	})}
	for service, want := range map[string]string{"": "found", "said": "said"} {
		tracing, rec := setup(t, middleware.Config{Service: service, Detectors: found})
		_, sp := tracing.TracerProvider().Tracer("").Start(t.Context(), "x")
		sp.End()
		if v, _ := one(t, rec).Resource().Set().Value("service.name"); v.AsString() != want {
			t.Errorf("service.name = %q, want %q", v.AsString(), want)
		}
	}
}

// TestLogLevel: OTEL_LOG_LEVEL wins over the logger's own level.
func TestLogLevel(t *testing.T) {
	for _, tt := range []struct {
		variable      string
		own           slog.Level
		started, warn bool
	}{
		{"", slog.LevelInfo, true, true},
		{"", slog.LevelWarn, false, true},
		{"info", slog.LevelError, true, true},
		{"WARN", slog.LevelInfo, false, true},
		{"error", slog.LevelInfo, false, false},
		{"none", slog.LevelInfo, false, false},
		{"debug", slog.LevelInfo, true, true},
		{"loud", slog.LevelInfo, true, true}, // is reported and counts as unset
	} {
		var log bytes.Buffer
		setup(t, middleware.Config{
			Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: tt.own})).With("a", 1).WithGroup("g"),
			Getenv: environment(map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_LOG_LEVEL": tt.variable, "OTEL_SDK_DISABLED": "perhaps"}),
		})
		if got := strings.Contains(log.String(), "in force"); got != tt.started {
			t.Errorf("OTEL_LOG_LEVEL=%q under %v: the line at the start: %v, want %v", tt.variable, tt.own, got, tt.started)
		}
		if got := strings.Contains(log.String(), "OTEL_SDK_DISABLED"); got != tt.warn {
			t.Errorf("OTEL_LOG_LEVEL=%q under %v: the warning: %v, want %v", tt.variable, tt.own, got, tt.warn)
		}
		if got := strings.Contains(log.String(), "loud"); got != (tt.variable == "loud") {
			t.Errorf("OTEL_LOG_LEVEL=%q: log = %q", tt.variable, &log)
		}
	}
}

// TestSelfCheck: one line at the start says what is in force, from where.
func TestSelfCheck(t *testing.T) {
	var log bytes.Buffer
	tracing, err := middleware.Setup(t.Context(), middleware.Config{
		Service: "shop",
		Logger:  slog.New(slog.NewTextHandler(&log, nil)),
		Getenv: environment(map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_PROPAGATORS": "b3", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=SECRET",
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tracing.Shutdown(t.Context())
	line, _, _ := strings.Cut(log.String(), "\n")
	for _, want := range []string{"shop (Config)", "127.0.0.1:4318", "(OTEL_EXPORTER_OTLP_ENDPOINT)", "b3 (OTEL_PROPAGATORS)", "otlp (default)"} {
		if !strings.Contains(line, want) {
			t.Errorf("the first line is %q, want %q in it", line, want)
		}
	}
	if strings.Contains(line, "SECRET") {
		t.Errorf("the first line %q shows a credential", line)
	}
}

// TestHookMistakes: each is named.
func TestHookMistakes(t *testing.T) {
	_, err := middleware.Setup(t.Context(), middleware.Config{
		Getenv:            noExport,
		RequestHeaders:    []string{"X-Ok", "not a header"},
		ResponseHeaders:   make([]string, 65),
		SecretParameters:  []string{""},
		BaggageAttributes: []string{"a b"},
		ClientTrace:       9,
		Detectors:         []resource.Detector{nil},
	})
	if err == nil {
		t.Fatal("Setup = nil error")
	}
	for _, want := range []string{"RequestHeaders[1]", "ResponseHeaders has 65", "ResponseHeaders[0]", "SecretParameters[0]", "BaggageAttributes[0]", "ClientTrace(9)", "Detectors[0]"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
	provider := sdktrace.NewTracerProvider()
	defer provider.Shutdown(t.Context())
	_, err = middleware.Setup(t.Context(), middleware.Config{Getenv: noExport, TracerProvider: provider, BaggageAttributes: []string{"k"}, FlushOnSignal: true})
	for _, want := range []string{"BaggageAttributes are set beside Config.TracerProvider", "FlushOnSignal is set beside Config.TracerProvider"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Setup = %v, want it to say %s", err, want)
		}
	}
}

// TestMultipartFiles: the files of a form go with the request, which is a copy of the
// one that net/http cleans up after.
func TestMultipartFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, tp := range []string{traceparent, unsampled} {
		tracing, _ := setup(t, middleware.Config{})
		url, cl := serve(t, tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := r.ParseMultipartForm(1); err != nil {
				t.Errorf("ParseMultipartForm: %v", err)
			}
			if n := files(t, dir); n != 1 {
				t.Errorf("%d files while the form is there, want 1", n)
			}
		})))
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		part, _ := form.CreateFormFile("file", "name")
		part.Write(make([]byte, 11<<20))
		form.Close()
		req, _ := http.NewRequest("POST", url, &body)
		req.Header.Set("Content-Type", form.FormDataContentType())
		req.Header.Set("Traceparent", tp)
		resp, err := cl.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		deadline := time.Now().Add(5 * time.Second)
		for files(t, dir) > 0 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if n := files(t, dir); n != 0 {
			t.Errorf("%d files are left after the request, want none", n)
		}
	}
}

func files(t testing.TB, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
