package middleware

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/internal/tracestore"
)

var updateDebug = flag.Bool("update-debug", false, "write the golden files of the debug page")

// messages is a TraceSource.
type messages [][]byte

func (m messages) OTLP() iter.Seq[[]byte] { return slices.Values(m) }

// several is the messages of several sources.
func several(sources ...TraceSource) (all messages) {
	for _, s := range sources {
		all = slices.AppendSeq(all, s.OTLP())
	}
	return all
}

// debugIDs numbers traces and spans.
type debugIDs struct{ n *uint64 }

func (g debugIDs) NewIDs(context.Context) (t trace.TraceID, s trace.SpanID) {
	*g.n++
	binary.BigEndian.PutUint64(t[8:], *g.n)
	return t, g.NewSpanID(context.Background(), t)
}

func (g debugIDs) NewSpanID(context.Context, trace.TraceID) (s trace.SpanID) {
	*g.n++
	binary.BigEndian.PutUint64(s[:], *g.n)
	return s
}

// recorded is a service whose spans are kept.
func recorded(service string, ids *uint64) (*tracestore.Recorder, trace.Tracer) {
	r := tracestore.NewRecorder(64 << 20)
	r.Activate()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r), sdktrace.WithIDGenerator(debugIDs{ids}),
		sdktrace.WithRawSpanLimits(sdktrace.SpanLimits{AttributeCountLimit: -1, EventCountLimit: -1, LinkCountLimit: -1,
			AttributePerEventCountLimit: -1, AttributePerLinkCountLimit: -1, AttributeValueLengthLimit: -1}),
		sdktrace.WithResource(resource.NewSchemaless(semconv.ServiceName.String(service))))
	return r, p.Tracer("example.org/scope", trace.WithInstrumentationVersion("1.2.3"))
}

// began is when the tests' traces begin.
var began = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func at(ms int) trace.SpanEventOption {
	return trace.WithTimestamp(began.Add(time.Duration(ms) * time.Millisecond))
}

// twoServices is a trace of four spans with everything in it.
func twoServices() messages {
	var n uint64
	front, tf := recorded("front", &n)
	back, tb := recorded("back", &n)
	id := semconv.EnvoyRequestID.String("a121e9e1-feae-9136-9e0e-6fac343d56c9")
	caller := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{9}, TraceFlags: trace.FlagsSampled, Remote: true})

	ctx, root := tf.Start(trace.ContextWithRemoteSpanContext(context.Background(), caller), "GET /carts/{id}", at(0), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(id, semconv.HTTPResponseStatusCode.Int(200), semconv.SamplingReason.String("D-9: in the random share"),
			attribute.StringSlice("list", []string{"a", "b"}), attribute.Bool("yes", true), attribute.Float64("half", 0.5)),
		trace.WithLinks(trace.Link{SpanContext: caller, Attributes: []attribute.KeyValue{attribute.String("why", "other format")}}))
	cctx, call := tf.Start(ctx, "GET", at(1), trace.WithSpanKind(trace.SpanKindClient))
	sctx, serve := tb.Start(cctx, "GET /items", at(2), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(id))
	_, query := tb.Start(sctx, "SELECT items", at(3), trace.WithSpanKind(trace.SpanKindClient))
	query.AddEvent("timeout", at(8), trace.WithAttributes(attribute.Int("tries", 3)))
	query.SetStatus(codes.Error, "no answer\nin time")
	query.End(at(9))
	serve.SetStatus(codes.Ok, "")
	serve.End(at(10))
	call.End(at(11))
	root.End(at(12))
	return several(front, back)
}

// get asks h for path and returns the answer.
func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// getJSON asks h for path and decodes the answer, which must have status.
func getJSON[T any](t *testing.T, h http.Handler, path string, status int) (v T) {
	t.Helper()
	w := get(t, h, path)
	if w.Code != status || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("GET %s = %d %s, %.200s; want %d", path, w.Code, w.Header().Get("Content-Type"), w.Body, status)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("GET %s: %v in %.200s", path, err, w.Body)
	}
	return v
}

// TestDebugHeaders: every answer, errors too, has the headers that keep it private
// and inert, and nothing but GET and HEAD is served.
func TestDebugHeaders(t *testing.T) {
	h := DebugHandler(twoServices())
	for path, status := range map[string]int{
		"/": 200, "/app.js": 200, "/app.css": 200, "/api/traces": 200, "/api/status": 200,
		"/api/trace?id=01000000000000000000000000000000": 200, "/api/trace?id=02000000000000000000000000000000": 404,
		"/api/trace": 400, "/api/traces?limit=x": 400, "/nothing": 404, "/api/nothing": 404, "/index.html": 404, "/../debug.go": 404,
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			want := status
			if method != "GET" && method != "HEAD" {
				want = 405
				if allow := w.Header().Get("Allow"); allow != "GET, HEAD" {
					t.Errorf("%s %s: Allow: %q", method, path, allow)
				}
			}
			if w.Code != want {
				t.Errorf("%s %s = %d, want %d", method, path, w.Code, want)
			}
			for name, value := range map[string]string{
				"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
				"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow", "Cache-Control": "no-store",
			} {
				if got := w.Header().Get(name); got != value {
					t.Errorf("%s %s: %s: %q, want %q", method, path, name, got, value)
				}
			}
		}
	}
}

// TestDebugMounts: the page and what it asks for are there wherever it is mounted.
func TestDebugMounts(t *testing.T) {
	page := DebugHandler(twoServices())
	mux := http.NewServeMux()
	mux.Handle("/debug/", http.StripPrefix("/debug", page))
	mux.Handle("/debug", http.StripPrefix("/debug", page))
	mux.Handle("/plain/", page)
	mux.Handle("/in/here/", http.StripPrefix("/in/here/", page))
	mux.Handle("/in/here", http.StripPrefix("/in/here", page))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	for _, tt := range []struct{ path, end string }{
		{"/debug/", "/debug/"}, {"/debug", "/debug/"}, {"/debug?a=b", "/debug/?a=b"}, {"/plain/", "/plain/"}, {"/plain", "/plain/"},
		{"/in/here", "/in/here/"}, {"/in/here/", "/in/here/"},
	} {
		resp, err := http.Get(srv.URL + tt.path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := resp.Request.URL.RequestURI(); got != tt.end || !strings.Contains(string(body), "<title>") {
			t.Errorf("GET %s ended at %s with %.40q, want the page at %s", tt.path, got, body, tt.end)
			continue
		}
		for _, asset := range []string{"app.js", "app.css", "api/traces", "api/status"} {
			ref, err := resp.Request.URL.Parse(asset)
			if err != nil {
				t.Fatal(err)
			}
			r, err := http.Get(ref.String())
			if err != nil {
				t.Fatal(err)
			}
			r.Body.Close()
			if r.StatusCode != 200 {
				t.Errorf("GET %s = %s", ref, r.Status)
			}
		}
	}
}

// TestDebugRedirect: the way to the slash never leads to another host.
func TestDebugRedirect(t *testing.T) {
	h := http.StripPrefix("//evil.example", DebugHandler(nil))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.URL.Path, r.RequestURI = "//evil.example", "//evil.example"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if loc := w.Header().Get("Location"); loc != "" && !strings.HasPrefix(loc, "./") {
		t.Errorf("Location: %q, want a relative one", loc)
	}
}

// TestDebugJSON holds the answers to what app.js reads.
func TestDebugJSON(t *testing.T) {
	h := DebugHandler(twoServices())
	for name, path := range map[string]string{
		"debug_traces.json": "/api/traces",
		"debug_trace.json":  "/api/trace?id=01000000000000000000000000000000",
		"debug_status.json": "/api/status",
	} {
		v := getJSON[map[string]any](t, h, path, 200)
		if now, ok := v["now"].(float64); !ok || now < float64(began.UnixMilli())-1e12 {
			t.Errorf("%s: now = %v", path, v["now"])
		}
		v["now"] = 0
		got, err := json.MarshalIndent(v, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		file := filepath.Join("testdata", name)
		if *updateDebug {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

// TestDebugList: newest first, as many as asked for.
func TestDebugList(t *testing.T) {
	var n uint64
	r, tracer := recorded("s", &n)
	for i := range 300 {
		_, sp := tracer.Start(context.Background(), strconv.Itoa(i), at(i))
		sp.End(at(i + 1))
	}
	h := DebugHandler(r)
	for _, tt := range []struct {
		query string
		count int
	}{{"", debugTraces}, {"?limit=1", 1}, {"?limit=300", 300}, {"?limit=1000", 300}} {
		got := getJSON[tracesJSON](t, h, "/api/traces"+tt.query, 200)
		if len(got.Traces) != tt.count || got.Total != 300 || got.Traces[0].Name != "299" {
			t.Errorf("%q: %d traces of %d from %q on, want %d of 300 from 299 on", tt.query, len(got.Traces), got.Total, got.Traces[0].Name, tt.count)
		}
	}
	for _, bad := range []string{"0", "-1", "1001", "x", "1e3", "99999999999999999999"} {
		got := getJSON[map[string]string](t, h, "/api/traces?limit="+bad, 400)
		if !strings.Contains(got["error"], "from 1 to 1000") {
			t.Errorf("limit=%s: error %q does not say what is allowed", bad, got["error"])
		}
	}
	for _, bad := range []string{"", "1", "00000000000000000000000000000000", "g1000000000000000000000000000000", strings.Repeat("a", 1<<10), "<script>"} {
		getJSON[map[string]string](t, h, "/api/trace?id="+bad, 400)
	}
	upper := getJSON[traceJSON](t, DebugHandler(twoServices()), "/api/trace?id=01"+strings.Repeat("0", 30), 200)
	if len(upper.Rows) != 4 {
		t.Errorf("%d rows, want 4", len(upper.Rows))
	}
}

// TestDebugLimits: what a trace may put into one answer, whatever it holds.
func TestDebugLimits(t *testing.T) {
	var n uint64
	r, tracer := recorded("s", &n)
	ctx, root := tracer.Start(context.Background(), strings.Repeat("name", 5000), at(0))
	long := strings.Repeat("é", debugValue)
	for i := range 400 {
		root.SetAttributes(attribute.String(fmt.Sprintf("key%03d", i), "value"))
		root.AddEvent("event", at(i))
		root.AddLink(trace.Link{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{7}, SpanID: trace.SpanID{7}})})
	}
	root.SetAttributes(attribute.String("key000", long))
	for i := range debugRows + 10 {
		_, sp := tracer.Start(ctx, "child", at(i), trace.WithAttributes(attribute.String("long", long[:4<<10]), attribute.String("short", "s")))
		sp.End(at(i + 1))
	}
	root.End(at(9000))

	w := get(t, DebugHandler(r), "/api/trace?id="+root.SpanContext().TraceID().String())
	if size := w.Body.Len(); size > 16<<20 {
		t.Errorf("the answer has %d bytes", size)
	}
	var got traceJSON
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Rows) != debugRows || got.Cut != 11 || got.Spans != debugRows+11 {
		t.Fatalf("%d rows, %d cut, %d spans; want %d, 11, %d", len(got.Rows), got.Cut, got.Spans, debugRows, debugRows+11)
	}
	row := got.Rows[0]
	if len(row.Attributes) != debugItems || len(row.Events) != debugItems || len(row.Links) != debugItems {
		t.Errorf("%d attributes, %d events, %d links, want %d of each", len(row.Attributes), len(row.Events), len(row.Links), debugItems)
	}
	if row.Dropped != (droppedJSON{400 - debugItems, 400 - debugItems, 400 - debugItems}) {
		t.Errorf("dropped %+v, want %d of each", row.Dropped, 400-debugItems)
	}
	if v := row.Attributes[0].Value; len(v) > debugValue+40 || !strings.HasSuffix(v, " B)") || !utf8.ValidString(v) {
		t.Errorf("a long value has %d bytes and ends in %q", len(v), v[len(v)-30:])
	}
	if len(row.Name) > debugName+40 {
		t.Errorf("a long name has %d bytes", len(row.Name))
	}
	last := got.Rows[debugRows-1]
	if len(last.Attributes) != 0 || last.Dropped.Attributes != 2 || last.Name != "child" {
		t.Errorf("beyond the budget: %d attributes, %d dropped, name %q; want 0, 2, child", len(last.Attributes), last.Dropped.Attributes, last.Name)
	}
}

// TestDebugHostile: text from spans and errors leaves as JSON without markup and
// without characters that do not print, and no page has any of it.
func TestDebugHostile(t *testing.T) {
	const evil = "<img src=x onerror=alert(1)></script><!--\u202e\u2066\x1b[31m\x00\x7f\u2028&amp;"
	var n uint64
	r, tracer := recorded(evil, &n)
	_, sp := tracer.Start(context.Background(), evil, at(0), trace.WithAttributes(
		attribute.String(evil, evil), attribute.StringSlice("list", []string{evil}), semconv.EnvoyRequestID.String(evil),
		semconv.HTTPResponseStatusCode.String(evil), semconv.SamplingReason.String(evil)))
	sp.AddEvent(evil, trace.WithAttributes(attribute.String(evil, evil)))
	sp.AddLink(trace.Link{SpanContext: sp.SpanContext(), Attributes: []attribute.KeyValue{attribute.String(evil, evil)}})
	sp.SetStatus(codes.Error, evil)
	sp.End(at(1))

	tracing := failing(t, evil)
	h := DebugHandler(r, tracing)
	for _, path := range []string{"/", "/app.js", "/api/traces", "/api/trace?id=" + sp.SpanContext().TraceID().String(), "/api/status",
		"/api/trace?id=%3Cscript%3E", "/api/traces?limit=%3Cscript%3E", "/%3Cscript%3E"} {
		w := get(t, h, path)
		body := w.Body.String()
		if strings.Contains(path, "api") {
			if strings.ContainsAny(body, "<>&") {
				t.Errorf("%s: markup in %.300s", path, body)
			}
			if !json.Valid([]byte(body)) {
				t.Errorf("%s: not JSON: %.300s", path, body)
			}
			var v any
			json.Unmarshal([]byte(body), &v)
			for _, s := range texts(v) {
				for _, c := range s {
					if !strconv.IsPrint(c) && c != '\n' && c != '\t' {
						t.Errorf("%s: %q in %.100q", path, c, s)
					}
				}
			}
		} else if strings.Contains(body, "onerror") || strings.Contains(body, "<script>") {
			t.Errorf("%s: span text in the page", path)
		}
	}
	got := getJSON[traceJSON](t, h, "/api/trace?id="+sp.SpanContext().TraceID().String(), 200)
	if want := `<img src=x onerror=alert(1)></script><!--\u202e\u2066\x1b[31m\x00\x7f\u2028&amp;`; got.Rows[0].Name != want || got.Rows[0].Service != want {
		t.Errorf("name %q, want %q", got.Rows[0].Name, want)
	}
}

// texts is every string in a decoded JSON value, keys included.
func texts(v any) (all []string) {
	switch v := v.(type) {
	case string:
		all = append(all, v)
	case []any:
		for _, e := range v {
			all = append(all, texts(e)...)
		}
	case map[string]any:
		for k, e := range v {
			all = append(append(all, k), texts(e)...)
		}
	}
	return all
}

// refusing is a Sender that refuses every request.
type refusing struct{ message string }

func (s refusing) Send(context.Context, []byte, int) (int, error) {
	return 0, &exporter.SendError{Status: 401, Code: "401", Advice: "set OTEL_EXPORTER_OTLP_HEADERS: " + s.message, Err: errors.New(s.message)}
}
func (refusing) Close() error { return nil }

// failing is a Tracing whose first span was refused.
func failing(t *testing.T, message string) *Tracing {
	t.Helper()
	tracing, err := Setup(context.Background(), Config{
		Service: "failing", Getenv: func(string) string { return "" }, Logger: slog.New(slog.DiscardHandler),
		Export: exporter.Config{Sender: refusing{message}, Delay: time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tracing.Shutdown(context.Background()) })
	_, sp := tracing.TracerProvider().Tracer("test").Start(context.Background(), "span")
	sp.End()
	for end := time.Now().Add(10 * time.Second); tracing.Stats().LastError == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no error of the exporter within 10 s")
		}
	}
	return tracing
}

// TestDebugStatus: the accounts, the last error with its cure, and the settings with
// their sources.
func TestDebugStatus(t *testing.T) {
	got := getJSON[statusJSON](t, DebugHandler(nil, failing(t, "no entry")), "/api/status", 200)
	if len(got.Programs) != 1 || got.Source.Present {
		t.Fatalf("status = %+v", got)
	}
	p := got.Programs[0]
	if p.Service != "failing" || p.Role != "service" || len(p.Exporters) != 1 {
		t.Fatalf("program = %+v", p)
	}
	e := p.Exporters[0]
	if e.Ended != 1 || e.Delivered != 0 || !e.Balanced {
		t.Errorf("accounts = %+v, want one span ended, not delivered, balanced", e)
	}
	if e.LastError == nil || e.LastError.Advice != "set OTEL_EXPORTER_OTLP_HEADERS: no entry" || e.LastError.Retry ||
		strings.Contains(e.LastError.Message, "OTEL_") || !strings.Contains(e.LastError.Message, "no entry") {
		t.Errorf("last error = %+v, want what happened and the advice apart", e.LastError)
	}
	sources := 0
	for _, s := range p.Settings {
		if s.Name == "" || s.Source == "" {
			t.Errorf("setting %+v has no name or source", s)
		}
		sources++
	}
	if sources == 0 {
		t.Error("no setting is shown")
	}
}

// TestDebugOwnSpans: a program's own spans are there from DebugHandler on.
func TestDebugOwnSpans(t *testing.T) {
	tracing, err := Setup(context.Background(), Config{
		Service: "own", Getenv: func(string) string { return "" }, Logger: slog.New(slog.DiscardHandler),
		Export: exporter.Config{Sender: refusing{"x"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tracing.Shutdown(context.Background())
	tracer := tracing.TracerProvider().Tracer("test")
	_, sp := tracer.Start(context.Background(), "before")
	sp.End()
	h := tracing.DebugHandler()
	_, sp = tracer.Start(context.Background(), "after")
	sp.End()
	got := getJSON[tracesJSON](t, h, "/api/traces", 200)
	if len(got.Traces) != 1 || got.Traces[0].Name != "after" || got.Traces[0].Service != "own" || !got.Present {
		t.Errorf("traces = %+v, want the span after DebugHandler", got)
	}

	theirs, err := Setup(context.Background(), Config{TracerProvider: sdktrace.NewTracerProvider(), Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	if got := getJSON[tracesJSON](t, theirs.DebugHandler(), "/api/traces", 200); got.Present || len(got.Traces) != 0 {
		t.Errorf("with a provider of the caller's: %+v, want no source", got)
	}
}

// TestDebugGarbage: what is not OTLP is counted, and the rest is shown.
func TestDebugGarbage(t *testing.T) {
	src := append(messages{nil, []byte("no protobuf"), {0xff}, []byte(strings.Repeat("\x0a", 1000))}, twoServices()...)
	got := getJSON[tracesJSON](t, DebugHandler(src), "/api/traces", 200)
	if len(got.Traces) != 1 || got.Bad != 3 {
		t.Errorf("%d traces, %d bad, want 1 and 3 (an empty message is a valid one)", len(got.Traces), got.Bad)
	}
}

// TestDebugBounds: of a large source the newest part is read.
func TestDebugBounds(t *testing.T) {
	src := twoServices()
	big := make(messages, 40, 44)
	for i := range big {
		big[i] = make([]byte, 1<<20) // not OTLP, and read all the same
	}
	got := getJSON[tracesJSON](t, DebugHandler(append(big, src...)), "/api/traces", 200)
	if len(got.Traces) != 1 || got.Bad != 15 || got.Unread != 25 {
		t.Errorf("%d traces, %d bad, %d unread, want 1, 15, 25", len(got.Traces), got.Bad, got.Unread)
	}
}

// TestDebugViewReuse: the trees are made once for the same messages.
func TestDebugViewReuse(t *testing.T) {
	var n uint64
	r, tracer := recorded("s", &n)
	end := func() { _, sp := tracer.Start(context.Background(), "span", at(0)); sp.End(at(1)) }
	end()
	p := newDebugPage(r, nil)
	first := p.load()
	if again := p.load(); again != first {
		t.Error("the same messages were read twice")
	}
	end()
	if second := p.load(); second == first || len(second.traces) != 2 || len(first.traces) != 1 {
		t.Error("a new span is not seen, or the old view changed")
	}
}

// TestDebugAssets: the page is its own: no address elsewhere, no inline script or
// style, and no way from text to markup in the script.
func TestDebugAssets(t *testing.T) {
	read := func(name string) string {
		b, err := debugFiles.ReadFile("debug/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	html, js, css := read("index.html"), read("app.js"), read("app.css")
	for name, forbidden := range map[string]string{
		"index.html": `(?i)\son\w+\s*=|\sstyle\s*=|<style|<script(\s[^>]*)?>[^<]|<base|<form|(src|href)="(https?:)?//`,
		"app.js": `innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|setTimeout\("|srcdoc|DOMParser|createContextualFragment|` +
			`setAttribute\("(style|on)|https?://`,
		"app.css": `@import|url\(|https?://|expression`,
	} {
		body := map[string]string{"index.html": html, "app.js": js, "app.css": css}[name]
		if found := regexp.MustCompile(forbidden).FindString(body); found != "" {
			t.Errorf("%s has %q", name, found)
		}
	}
	for _, m := range regexp.MustCompile(`\$\("([^"]+)"\)`).FindAllStringSubmatch(js, -1) {
		if !strings.Contains(html, `id="`+m[1]+`"`) {
			t.Errorf("app.js asks for #%s, which index.html lacks", m[1])
		}
	}
	if size := len(html) + len(js) + len(css); size > 64<<10 {
		t.Errorf("the page has %d bytes", size)
	}
}

func TestDisplayed(t *testing.T) {
	for _, tt := range []struct {
		in    string
		limit int
		lines bool
		want  string
	}{
		{"plain", 5, false, "plain"},
		{"plain", 4, false, "plai… (+1 B)"},
		{"", 4, false, ""},
		{"a\nb\tc", 9, false, `a\nb\tc`},
		{"a\nb\tc\r", 9, true, "a\nb\tc\\r"},
		{"é", 1, false, "… (+2 B)"},
		{"aé", 2, false, "a… (+2 B)"},
		{"\xff", 9, false, `\xff`},
		{"\ufffd", 9, false, "\ufffd"},
		{"\u202eabc", 9, true, `\u202eabc`},
		{"'\"\\", 9, false, `'"\`},
	} {
		if got := displayed(tt.in, tt.limit, tt.lines); got != tt.want {
			t.Errorf("displayed(%q, %d, %v) = %q, want %q", tt.in, tt.limit, tt.lines, got, tt.want)
		}
	}
}

// FuzzDebugSource: whatever a source holds, every answer is JSON for display.
func FuzzDebugSource(f *testing.F) {
	f.Add([]byte("garbage"))
	for _, m := range twoServices() {
		f.Add(m)
		f.Add(m[:len(m)-7])
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		h := DebugHandler(messages{message, message[:len(message)/2]})
		list := getJSON[tracesJSON](t, h, "/api/traces?limit=1000", 200)
		for _, s := range list.Traces[:min(len(list.Traces), 5)] {
			if s.ID == strings.Repeat("0", 32) {
				continue // no id to ask for
			}
			got := getJSON[traceJSON](t, h, "/api/trace?id="+s.ID, 200)
			if len(got.Rows)+got.Cut != s.Spans {
				t.Fatalf("%d rows and %d cut of %d spans", len(got.Rows), got.Cut, s.Spans)
			}
			for _, r := range got.Rows {
				for _, c := range r.Name + r.Service {
					if !strconv.IsPrint(c) {
						t.Fatalf("%q in %q", c, r.Name)
					}
				}
			}
		}
	})
}

// BenchmarkDebugLoad reads a source of about 8 MiB, as DebugHandler keeps it.
func BenchmarkDebugLoad(b *testing.B) {
	var n uint64
	r, tracer := recorded("s", &n)
	for i := range 20_000 {
		ctx, root := tracer.Start(context.Background(), "GET /carts/{id}", at(i), trace.WithAttributes(
			semconv.HTTPRequestMethod.String("GET"), semconv.HTTPRoute.String("/carts/{id}"), semconv.HTTPResponseStatusCode.Int(200),
			semconv.URLPath.String("/carts/17"), semconv.EnvoyRequestID.String("a121e9e1-feae-9136-9e0e-6fac343d56c9")))
		_, sp := tracer.Start(ctx, "GET", at(i))
		sp.End(at(i + 1))
		root.End(at(i + 2))
	}
	size := 0
	for m := range r.OTLP() {
		size += len(m)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		newDebugPage(r, nil).load()
	}
}
