package middleware

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/internal/otlpwire"
	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/internal/tracetree"
)

// Bounds of an answer.
const (
	debugTraces    = 100 // listed unless ?limit= says otherwise
	debugMaxTraces = 1000
	debugRows      = 2000     // spans of one trace
	debugItems     = 128      // attributes, events, links of one span
	debugServices  = 64       // named in one listed trace
	debugName      = 1 << 10  // bytes of a name
	debugCode      = 32       // bytes of a protocol's status
	debugValue     = 16 << 10 // bytes of an attribute's value
	debugRunning   = 100      // calls under way of one program
	debugDetail    = 4 << 20  // bytes of all attributes, events and links together
)

// The answers. Times are milliseconds since 1970 as the page's clock has them, or
// nanoseconds after the start of the trace. Text is for display, see displayed.

type tracesJSON struct {
	Now     float64       `json:"now"`
	Present bool          `json:"present"` // there is a source
	Total   int           `json:"total"`
	Unread  int           `json:"unread"` // messages beyond the bounds
	Bad     int           `json:"bad"`    // messages that are not OTLP
	Traces  []summaryJSON `json:"traces"` // newest first
}

type summaryJSON struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	Service   string      `json:"service"`
	Services  []string    `json:"services"`
	Spans     int         `json:"spans"`
	Errors    int         `json:"errors"`
	Orphans   int         `json:"orphans"`
	Repeated  int         `json:"repeated"`
	Depth     int         `json:"depth"`
	Start     float64     `json:"start"`
	Duration  int64       `json:"duration"`
	RequestID string      `json:"requestId"`
	Reason    *reasonJSON `json:"reason"` // null without a request id
	Why       string      `json:"why"`    // the sampler's own words
}

type reasonJSON struct {
	Digit string `json:"digit"`
	Words string `json:"words"`
}

type traceJSON struct {
	summaryJSON
	Now       float64          `json:"now"`
	Cut       int              `json:"cut"` // spans left out
	Rows      []rowJSON        `json:"rows"`
	Resources [][]attributeTag `json:"resources"`
}

type rowJSON struct {
	ID           string         `json:"id"`
	Parent       string         `json:"parent"` // "" for a root
	Depth        int            `json:"depth"`
	Children     int            `json:"children"`
	Orphan       bool           `json:"orphan"`
	Remote       bool           `json:"remote"` // the parent is in another process
	Service      string         `json:"service"`
	Name         string         `json:"name"`
	Kind         string         `json:"kind"`
	Start        int64          `json:"start"`
	Duration     int64          `json:"duration"`
	Status       string         `json:"status"` // "", "ok", "error"
	StatusText   string         `json:"statusText"`
	Code         string         `json:"code"`  // the protocol's own status
	Flags        uint32         `json:"flags"` // W3C trace flags
	TraceState   string         `json:"traceState"`
	RequestID    string         `json:"requestId"`
	Reason       *reasonJSON    `json:"reason"`
	Scope        string         `json:"scope"`
	ScopeVersion string         `json:"scopeVersion"`
	Resource     int            `json:"resource"` // index in resources
	Attributes   []attributeTag `json:"attributes"`
	Events       []eventJSON    `json:"events"`
	Links        []linkJSON     `json:"links"`
	Dropped      droppedJSON    `json:"dropped"`
}

// droppedJSON counts what a span had and the page does not: left out before it came
// here, and for want of room in this answer.
type droppedJSON struct {
	Attributes uint64 `json:"attributes"`
	Events     uint64 `json:"events"`
	Links      uint64 `json:"links"`
}

type attributeTag struct {
	Key   string `json:"key"`
	Type  string `json:"type"`
	Value string `json:"value"`
}

type eventJSON struct {
	Name       string         `json:"name"`
	Time       int64          `json:"time"`
	Attributes []attributeTag `json:"attributes"`
}

type linkJSON struct {
	TraceID    string         `json:"traceId"`
	SpanID     string         `json:"spanId"`
	Here       bool           `json:"here"` // the page has that trace
	Attributes []attributeTag `json:"attributes"`
}

type statusJSON struct {
	Now      float64       `json:"now"`
	Source   sourceJSON    `json:"source"`
	Programs []programJSON `json:"programs"`
}

type sourceJSON struct {
	Present  bool `json:"present"`
	Messages int  `json:"messages"`
	Bytes    int  `json:"bytes"`
	Traces   int  `json:"traces"`
	Unread   int  `json:"unread"`
	Bad      int  `json:"bad"`
}

type programJSON struct {
	Service    string            `json:"service"`
	Role       string            `json:"role"`
	Notes      []string          `json:"notes"`
	Settings   []settingJSON     `json:"settings"`
	Exporters  []exporterJSON    `json:"exporters"`
	Sampling   map[string]uint64 `json:"sampling"`
	RequestIDs map[string]uint64 `json:"requestIds"`
	Running    []runningJSON     `json:"running"`  // the oldest first
	Underway   int               `json:"underway"` // all of them
}

// runningJSON is a traced call that has not ended.
type runningJSON struct {
	Name      string  `json:"name"`
	Kind      string  `json:"kind"`
	Target    string  `json:"target"` // path, URL or method; "" where the call has none
	TraceID   string  `json:"traceId"`
	SpanID    string  `json:"spanId"`
	RequestID string  `json:"requestId"`
	Start     float64 `json:"start"`
}

type settingJSON struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

type exporterJSON struct {
	Name       string            `json:"name"`
	Live       int64             `json:"live"`
	Ended      uint64            `json:"ended"`
	Recovered  uint64            `json:"recovered"`
	Delivered  uint64            `json:"delivered"`
	Rejected   map[string]uint64 `json:"rejected"`
	Dropped    map[string]uint64 `json:"dropped"`
	KeptMemory uint64            `json:"keptMemory"`
	KeptDisk   uint64            `json:"keptDisk"`
	Balanced   bool              `json:"balanced"`
	Requests   uint64            `json:"requests"`
	Retries    uint64            `json:"retries"`
	Repaired   uint64            `json:"repaired"`
	Cut        uint64            `json:"cut"`
	LostParts  uint64            `json:"lostParts"`
	LastError  *errorJSON        `json:"lastError"` // null when there was none
}

type errorJSON struct {
	Message string `json:"message"`
	Advice  string `json:"advice"`
	Retry   bool   `json:"retry"`
}

// serveTraces answers api/traces?limit=N with the newest traces.
func (p *debugPage) serveTraces(w http.ResponseWriter, r *http.Request) {
	limit := debugTraces
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > debugMaxTraces {
			serveError(w, http.StatusBadRequest, fmt.Sprintf("limit: allowed is a whole number from 1 to %d", debugMaxTraces))
			return
		}
		limit = n
	}
	v := p.load()
	out := tracesJSON{Now: nowMillis(), Present: p.src != nil, Total: len(v.traces), Unread: v.unread, Bad: v.bad, Traces: []summaryJSON{}}
	for _, t := range slices.Backward(v.traces) {
		if len(out.Traces) == limit {
			break
		}
		out.Traces = append(out.Traces, summary(t))
	}
	serveJSON(w, http.StatusOK, out)
}

// serveTrace answers api/trace?id=HEX with one trace.
func (p *debugPage) serveTrace(w http.ResponseWriter, r *http.Request) {
	id, err := trace.TraceIDFromHex(strings.ToLower(r.URL.Query().Get("id")))
	if err != nil {
		serveError(w, http.StatusBadRequest, "id: allowed are 32 hexadecimal digits that are not all zero")
		return
	}
	v := p.load()
	t := v.byID[id]
	switch {
	case t != nil:
		serveJSON(w, http.StatusOK, detail(t, v))
	case p.underway(id):
		serveJSON(w, http.StatusNotFound, map[string]any{"error": "a call of this trace is under way: its spans come when they end", "underway": true})
	default:
		serveError(w, http.StatusNotFound, "no span of this trace is here: it has not arrived yet, or was let go of to make room")
	}
}

// underway tells whether a program of the page has begun a call of the trace that has
// not ended.
func (p *debugPage) underway(id trace.TraceID) bool {
	return slices.ContainsFunc(p.more, func(t *Tracing) bool { return t.running.Has(id) })
}

// serveStatus answers api/status with accounts and configuration.
func (p *debugPage) serveStatus(w http.ResponseWriter) {
	v := p.load()
	out := statusJSON{
		Now: nowMillis(),
		Source: sourceJSON{
			Present: p.src != nil, Messages: len(v.messages), Bytes: v.bytes,
			Traces: len(v.traces), Unread: v.unread, Bad: v.bad,
		},
		Programs: []programJSON{},
	}
	for _, t := range p.more {
		out.Programs = append(out.Programs, program(t.debugInfo()))
	}
	serveJSON(w, http.StatusOK, out)
}

// summary is a trace as the list shows it.
func summary(t *tracetree.Trace) summaryJSON {
	root := t.Roots[0]
	s := summaryJSON{
		ID:       t.ID.String(),
		Name:     displayed(root.Name, debugName, false),
		Service:  displayed(root.Service(), debugName, false),
		Services: []string{},
		Spans:    t.Spans,
		Errors:   t.Errors,
		Orphans:  t.Orphans,
		Repeated: t.Repeated,
		Depth:    t.Depth,
		Start:    float64(t.Start) / 1e6,
		Duration: int64(t.Duration()),
	}
	for _, name := range t.Services[:min(len(t.Services), debugServices)] {
		s.Services = append(s.Services, displayed(name, debugName, false))
	}
	for n := range t.Walk() {
		if s.RequestID == "" {
			s.RequestID, s.Reason = requestID(n)
		}
		if v, ok := n.Attr(semconv.SamplingReason); ok && s.Why == "" {
			s.Why = displayed(v.String(), debugName, false)
		}
		if s.RequestID != "" && s.Why != "" {
			break
		}
	}
	return s
}

// requestID is the id recorded on n, for display, and the reason that it carries.
func requestID(n *tracetree.Node) (string, *reasonJSON) {
	id := n.RequestID()
	if id == "" {
		return "", nil
	}
	digit, words := tracetree.Reason(id)
	return displayed(id, debugName, false), &reasonJSON{digit, words}
}

// detail is a trace with its spans, parents before their children.
func detail(t *tracetree.Trace, v *debugView) traceJSON {
	out := traceJSON{
		summaryJSON: summary(t),
		Now:         nowMillis(),
		Rows:        make([]rowJSON, 0, min(t.Spans, debugRows)),
		Resources:   [][]attributeTag{},
	}
	b := budget{left: debugDetail}
	resources := make(map[*otlpwire.Resource]int)
	for n := range t.Walk() {
		if len(out.Rows) == debugRows {
			out.Cut = t.Spans - debugRows
			break
		}
		row := b.row(n, t.Start, v)
		index, ok := resources[n.Resource]
		if !ok {
			index = len(out.Resources)
			resources[n.Resource] = index
			var kvs []attribute.KeyValue
			if n.Resource != nil {
				kvs = n.Resource.Attributes
			}
			tags, _ := b.attributes(kvs)
			out.Resources = append(out.Resources, tags)
		}
		row.Resource = index
		out.Rows = append(out.Rows, row)
	}
	return out
}

// budget bounds what attributes, events and links put into one answer, in bytes.
type budget struct{ left int }

func (b *budget) row(n *tracetree.Node, traceStart uint64, v *debugView) rowJSON {
	row := rowJSON{
		ID:           n.SpanID.String(),
		Depth:        n.Depth,
		Children:     len(n.Children),
		Orphan:       n.Orphan,
		Remote:       n.Remote(),
		Service:      displayed(n.Service(), debugName, false),
		Name:         displayed(n.Name, debugName, false),
		Kind:         n.KindName(),
		Start:        after(traceStart, n.Start),
		Duration:     int64(n.Duration()),
		Status:       [...]string{"", "ok", "error"}[statusIndex(n.StatusCode)],
		StatusText:   displayed(n.StatusText, debugName, true),
		Flags:        n.Flags & 0xff,
		TraceState:   displayed(n.TraceState, debugName, false),
		Scope:        displayed(n.ScopeName, debugName, false),
		ScopeVersion: displayed(n.ScopeVersion, debugName, false),
	}
	if n.Parent.IsValid() {
		row.Parent = n.Parent.String()
	}
	row.RequestID, row.Reason = requestID(n)
	for _, key := range codeKeys {
		if v, ok := n.Attr(key); ok {
			row.Code = displayed(v.String(), debugCode, false)
			break
		}
	}

	var cut int
	row.Attributes, cut = b.attributes(n.Attributes)
	row.Dropped.Attributes = uint64(n.DroppedAttributes) + uint64(cut)

	row.Events, row.Links = []eventJSON{}, []linkJSON{}
	for _, e := range n.Events {
		if len(row.Events) == debugItems || !b.take(len(e.Name)) {
			break
		}
		tags, _ := b.attributes(e.Attributes)
		row.Events = append(row.Events, eventJSON{displayed(e.Name, debugName, false), after(traceStart, e.Time), tags})
	}
	row.Dropped.Events = uint64(n.DroppedEvents) + uint64(len(n.Events)-len(row.Events))
	for _, l := range n.Links {
		if len(row.Links) == debugItems || !b.take(len(l.TraceID)) {
			break
		}
		tags, _ := b.attributes(l.Attributes)
		row.Links = append(row.Links, linkJSON{l.TraceID.String(), l.SpanID.String(), v.byID[l.TraceID] != nil, tags})
	}
	row.Dropped.Links = uint64(n.DroppedLinks) + uint64(len(n.Links)-len(row.Links))
	return row
}

// codeKeys are the attributes that hold a protocol's status, OpenTelemetry's first.
var codeKeys = [...]attribute.Key{
	semconv.HTTPResponseStatusCode, semconv.RPCResponseStatusCode, semconv.EnvoyHTTPStatusCode, semconv.EnvoyGRPCStatusCode,
}

// attributes is kvs for display, by key, and how many had no room.
func (b *budget) attributes(kvs []attribute.KeyValue) (tags []attributeTag, cut int) {
	tags = make([]attributeTag, 0, min(len(kvs), debugItems))
	for _, kv := range kvs {
		if len(tags) == debugItems || b.left <= 0 {
			break
		}
		tag := attributeTag{
			Key:   displayed(string(kv.Key), debugName, false),
			Type:  strings.ToLower(kv.Value.Type().String()),
			Value: displayed(kv.Value.String(), debugValue, true),
		}
		b.take(len(tag.Key) + len(tag.Value))
		tags = append(tags, tag)
	}
	slices.SortStableFunc(tags, func(a, b attributeTag) int { return cmp.Compare(a.Key, b.Key) })
	return tags, len(kvs) - len(tags)
}

// take uses n bytes and something for the frame around them, and tells whether there
// was anything left.
func (b *budget) take(n int) bool {
	const frame = 64
	had := b.left > 0
	b.left -= min(n, debugValue) + frame
	return had
}

// program is one Tracing as the page shows it.
func program(info debugInfo) programJSON {
	out := programJSON{
		Service:    displayed(info.Service, debugName, false),
		Role:       info.Role,
		Notes:      []string{},
		Settings:   []settingJSON{},
		Exporters:  []exporterJSON{},
		Sampling:   counts(info.Sampling),
		RequestIDs: counts(info.RequestIDs),
		Running:    []runningJSON{},
		Underway:   info.Underway,
	}
	for _, s := range info.Running {
		out.Running = append(out.Running, running(s))
	}
	for _, n := range info.Notes[:min(len(info.Notes), debugItems)] {
		out.Notes = append(out.Notes, displayed(n, debugName, true))
	}
	for _, s := range info.Settings[:min(len(info.Settings), debugItems)] {
		out.Settings = append(out.Settings, settingJSON{
			displayed(s.Name, debugName, false), displayed(s.Value, debugName, false), displayed(s.Source, debugName, false),
		})
	}
	for _, e := range info.Exporters {
		s := e.Stats
		out.Exporters = append(out.Exporters, exporterJSON{
			Name: displayed(e.Name, debugName, false), Live: s.Live,
			Ended: s.Ended, Recovered: s.Recovered, Delivered: s.Delivered,
			Rejected: counts(s.Rejected), Dropped: counts(s.Dropped),
			KeptMemory: s.Kept.Memory, KeptDisk: s.Kept.Disk, Balanced: s.Balanced(),
			Requests: s.Requests, Retries: s.Retries,
			Repaired: s.Repaired, Cut: s.Cut, LostParts: s.LostParts,
			LastError: lastError(s.LastError),
		})
	}
	return out
}

// running is a call under way, for display.
func running(s sdktrace.ReadOnlySpan) runningJSON {
	out := runningJSON{
		Name:    displayed(s.Name(), debugName, false),
		Kind:    strings.ToUpper(s.SpanKind().String()),
		TraceID: s.SpanContext().TraceID().String(),
		SpanID:  s.SpanContext().SpanID().String(),
		Start:   float64(s.StartTime().UnixNano()) / 1e6,
	}
	for _, kv := range s.Attributes() {
		switch kv.Key {
		case semconv.URLPath, semconv.URLFull, semconv.RPCMethod:
			out.Target = displayed(kv.Value.String(), debugName, false)
		case semconv.EnvoyRequestID:
			out.RequestID = displayed(kv.Value.String(), debugName, false)
		}
	}
	return out
}

// lastError splits an error into what happened and its cure.
func lastError(err error) *errorJSON {
	if err == nil {
		return nil
	}
	message, out := err.Error(), &errorJSON{}
	if se := (*exporter.SendError)(nil); errors.As(err, &se) {
		message = strings.TrimSuffix(message, ": "+se.Advice) // which has its own line here
		out.Advice, out.Retry = displayed(se.Advice, debugName, true), se.Retry
	}
	out.Message = displayed(message, debugName, true)
	return out
}

// counts is m for display, never null.
func counts(m map[string]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(m))
	for k, n := range m {
		out[displayed(k, debugName, false)] += n
	}
	return out
}

// after is t in nanoseconds after start.
func after(start, t uint64) int64 {
	if t < start {
		return -int64(min(start-t, math.MaxInt64))
	}
	return int64(min(t-start, math.MaxInt64))
}

// statusIndex is an OTLP status code, anything unknown being UNSET.
func statusIndex(code int32) int32 {
	if code < 0 || code > 2 {
		return 0
	}
	return code
}

func nowMillis() float64 { return float64(time.Now().UnixMicro()) / 1e3 }

// displayed makes text out of s that shows what it holds: characters that do not
// print, direction marks among them, are written as Go escapes them, and what goes
// beyond limit bytes is cut with a note. lines lets line breaks and tabs stay.
func displayed(s string, limit int, lines bool) string {
	cut := 0
	if len(s) > limit {
		end := limit
		for end > limit-utf8.UTFMax && !utf8.RuneStart(s[end]) {
			end--
		}
		s, cut = s[:end], len(s)-end
	}
	plain := func(r rune, size int) bool {
		return strconv.IsPrint(r) && (r != utf8.RuneError || size > 1) || lines && (r == '\n' || r == '\t')
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case plain(r, size):
			b.WriteString(s[i : i+size])
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
		i += size
	}
	if cut > 0 {
		fmt.Fprintf(&b, "… (+%d B)", cut)
	}
	return b.String()
}

// serveJSON answers with v. encoding/json writes <, > and & as escapes, so the answer
// has no markup even for a reader that takes it for HTML.
func serveJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // no value of these types fails
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

func serveError(w http.ResponseWriter, status int, message string) {
	serveJSON(w, status, map[string]string{"error": message})
}
