package middleware

import (
	"embed"
	"io"
	"iter"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"weak"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/exporter"
)

// TraceSource is a store of finished spans that DebugHandler shows.
type TraceSource interface {
	// OTLP ranges over the kept spans, oldest first, as OTLP
	// ExportTraceServiceRequest messages in protobuf. A message is not changed
	// after it was yielded. Concurrent calls are allowed.
	OTLP() iter.Seq[[]byte]
}

// DebugHandler returns a page for developers over this program's own spans: the
// latest traces as waterfalls, the traced calls under way by age, what became of every
// span that ended, and the configuration in force with the source of each value. Mount it on a path that
// ends in a slash, with or without http.StripPrefix:
//
//	mux.Handle("/debug/", tracing.DebugHandler())
//
// From this call on the newest sampled spans are kept, in at most 8 MiB as OTLP.
// With a Config.TracerProvider of the caller's there are none to keep, and the page
// shows the rest.
//
// The page shows request ids and attributes to whoever can reach it: mount it where
// only developers can. It is read-only, needs nothing from elsewhere, is in no cache
// and no search index, and shows text from spans as text only.
func (t *Tracing) DebugHandler() http.Handler {
	if t.own == nil {
		return newDebugPage(nil, []*Tracing{t})
	}
	t.own.Activate()
	return newDebugPage(t.own, []*Tracing{t})
}

// DebugHandler returns the page that Tracing.DebugHandler describes, over any source
// of OTLP spans: a receiver, several services at once. It shows accounting and
// configuration of each Tracing in more. A nil src shows no traces.
//
// Of a source that holds more, the newest 16 MiB and 100,000 spans are read; a
// message that is not OTLP is counted and left out.
func DebugHandler(src TraceSource, more ...*Tracing) http.Handler {
	return newDebugPage(src, more)
}

// debugInfo is what a Tracing tells its debug page.
type debugInfo struct {
	Service, Role string
	Settings      []exporter.Setting // in the order to show them
	Exporters     []debugExporter
	Notes         []string          // what a developer should know: bad variables, the first stranger
	Sampling      map[string]uint64 // decisions by reason
	RequestIDs    map[string]uint64 // requests by what became of their id

	Running  []sdktrace.ReadOnlySpan // traced calls under way, the oldest first
	Underway int                     // how many there are
}

// debugExporter is one exporter's accounts.
type debugExporter struct {
	Name  string
	Stats exporter.Stats
}

//go:embed debug
var debugFiles embed.FS

// debugHeaders are on every answer. The policy lets the page load its own script and
// style, ask its own server, and nothing else: text from a span that became markup
// would still not run.
var debugHeaders = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
		"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"X-Content-Type-Options":       "nosniff",
	"Referrer-Policy":              "no-referrer",
	"X-Robots-Tag":                 "noindex, nofollow",
	"Cache-Control":                "no-store",
}

// debugPage is the handler behind both DebugHandlers.
type debugPage struct {
	src   TraceSource // nil: no traces
	more  []*Tracing
	files map[string]debugFile // by last path element

	mu   sync.Mutex // one reader of src at a time
	view weak.Pointer[debugView]
}

type debugFile struct{ contentType, body string }

func newDebugPage(src TraceSource, more []*Tracing) *debugPage {
	p := &debugPage{src: src, more: more, files: make(map[string]debugFile)}
	for _, t := range more {
		t.running.Activate()
	}
	for name, contentType := range map[string]string{
		"index.html": "text/html; charset=utf-8",
		"app.js":     "text/javascript; charset=utf-8",
		"app.css":    "text/css; charset=utf-8",
	} {
		body, err := debugFiles.ReadFile("debug/" + name)
		if err != nil {
			panic("middleware: the debug page is not in the program: " + err.Error()) // the build put it there
		}
		p.files[name] = debugFile{contentType, string(body)}
	}
	return p
}

// ServeHTTP routes by the end of the path, so that the prefix it is mounted under
// does not matter; the page asks by relative addresses only.
func (p *debugPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for name, value := range debugHeaders {
		w.Header().Set(name, value)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the debug page is read-only: GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	at := "/" + r.URL.Path // StripPrefix may have taken the slash
	switch {
	case r.URL.Path == "" && redirectIntoDir(w, r):
	case strings.HasSuffix(at, "/"):
		p.serveFile(w, "index.html")
	case strings.HasSuffix(at, "/app.js"):
		p.serveFile(w, "app.js")
	case strings.HasSuffix(at, "/app.css"):
		p.serveFile(w, "app.css")
	case strings.HasSuffix(at, "/api/traces"):
		p.serveTraces(w, r)
	case strings.HasSuffix(at, "/api/trace"):
		p.serveTrace(w, r)
	case strings.HasSuffix(at, "/api/status"):
		p.serveStatus(w)
	default:
		http.Error(w, "there is no such page here", http.StatusNotFound)
	}
}

// redirectIntoDir sends "/debug", of which http.StripPrefix leaves "", to "/debug/":
// the page's relative addresses need the slash. The address it gives is relative too,
// for the sake of proxies that strip a prefix. It returns false where there is no
// prefix to add a slash to.
func redirectIntoDir(w http.ResponseWriter, r *http.Request) bool {
	uri, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return false
	}
	_, name := path.Split(uri.Path)
	if name == "" {
		return false
	}
	to := url.URL{Path: "./" + name + "/", RawQuery: r.URL.RawQuery}
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusTemporaryRedirect)
	return true
}

func (p *debugPage) serveFile(w http.ResponseWriter, name string) {
	f := p.files[name]
	w.Header().Set("Content-Type", f.contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(f.body)))
	io.WriteString(w, f.body) // net/http leaves it out for HEAD
}
