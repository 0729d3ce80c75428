package parity_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/parity"
)

// notEnvoys are the names of attributes that OpenTelemetry or meshtrace has and Envoy
// has not: the constants of the semantic conventions file but for those of Envoy.
var notEnvoys = sync.OnceValue(func() map[string]bool {
	file, err := parser.ParseFile(token.NewFileSet(), "../semconv/semconv.go", nil, 0)
	if err != nil {
		panic(err)
	}
	names := make(map[string]bool)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || strings.HasPrefix(spec.Names[0].Name, "Envoy") {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			name, err := strconv.Unquote(lit.Value)
			if err != nil {
				panic(err)
			}
			names[name] = true
		}
		return true
	})
	if len(names) < 50 {
		panic(fmt.Sprintf("semconv.go has %d names of OpenTelemetry: it is read wrongly", len(names)))
	}
	return names
})

// wholeTopics are those whose recorded attributes are complete.
var wholeTopics = []string{"span", "custom_tag", "exporter"}

// compareSpans compares what was exported: the span of the request, then those of its
// attempts, in the order in which they began.
func compareSpans(m *mismatches, ids binding, c parity.Case, spans []sdktrace.ReadOnlySpan) {
	var got []sdktrace.ReadOnlySpan
	for _, s := range spans {
		if s.SpanContext().IsSampled() {
			got = append(got, s)
		}
	}
	want := c.Expect.Spans
	if len(got) != len(want) {
		var names []string
		for _, s := range got {
			names = append(names, s.Name())
		}
		m.addf("spans = %d %q, want %d", len(got), names, len(want))
		return
	}
	for i := range want {
		what := fmt.Sprintf("span %d ", i+1)
		compareSpan(m, ids, c, what, viewSpan(c.Config, got[i]), want[i])
		if r := want[i].Resource; r != nil {
			if name, ok := r["localEndpoint.serviceName"]; ok { // B-16
				r = map[string]string{"service.name": name}
			}
			compareResource(m, what, got[i].Resource(), r)
		}
		if want[i].Scope != nil {
			scope := got[i].InstrumentationScope()
			equal(m, what+"scope", scope.Name+" "+scope.Version, *want[i].Scope)
		}
	}
}

// spanView is a span of ours in the words of the recording.
type spanView struct {
	parity.Span
	attributes map[string]string
}

// viewSpan translates a span. For Zipkin it does what Envoy's reporter does (B-16,
// T-19): ids of 64 bits are short, an annotation tells the kind, tags with empty values
// are left out, and there is no status.
func viewSpan(p parity.Proxy, s sdktrace.ReadOnlySpan) spanView {
	zipkin := p.Tracer == "zipkin"
	sc := s.SpanContext()
	state := sc.TraceState().String()
	v := spanView{attributes: make(map[string]string)}
	v.Name, v.Kind = s.Name(), strings.ToUpper(s.SpanKind().String())
	v.TraceID, v.SpanID, v.TraceState = sc.TraceID().String(), sc.SpanID().String(), &state
	if s.Parent().SpanID().IsValid() {
		v.Parent = s.Parent().SpanID().String()
	}
	const sampled, known, remote = 1, 1 << 8, 1 << 9 // of OTLP's flags
	v.Flags = uint32(sc.TraceFlags()&trace.FlagsSampled) | known
	if s.Parent().IsRemote() {
		v.Flags |= remote
	}
	v.Status = map[codes.Code]string{codes.Unset: "UNSET", codes.Ok: "OK", codes.Error: "ERROR"}[s.Status().Code]
	for _, e := range s.Events() {
		v.Events = append(v.Events, e.Name)
	}
	for _, kv := range s.Attributes() {
		if name := string(kv.Key); !notEnvoys()[name] && !(zipkin && kv.Value.String() == "") {
			v.attributes[name] = kv.Value.String()
		}
	}
	if zipkin {
		v.Status, v.Flags, v.TraceState = "", 0, nil
		v.TraceID = strings.TrimPrefix(v.TraceID, "0000000000000000")
		switch s.SpanKind() {
		case trace.SpanKindServer:
			v.Events = append(v.Events, "ss")
		case trace.SpanKindClient:
			v.Events = append(v.Events, "cr")
		}
	}
	return v
}

func compareSpan(m *mismatches, ids binding, c parity.Case, what string, got spanView, want parity.Span) {
	match := func(field, got, want string) {
		if err := ids.match(got, want); err != nil {
			m.addf("%s%s = %v", what, field, err)
		}
	}
	match("name", got.Name, want.Name)
	equal(m, what+"kind", got.Kind, want.Kind)
	equal(m, what+"status", got.Status, want.Status)
	match("trace id", got.TraceID, want.TraceID)
	match("span id", got.SpanID, want.SpanID)
	match("parent", got.Parent, want.Parent)
	equal(m, what+"flags", got.Flags, want.Flags)
	if want.TraceState != nil {
		equal(m, what+"tracestate", *got.TraceState, *want.TraceState)
	}
	if !slices.Equal(got.Events, want.Events) {
		m.addf("%sevents = %q, want %q", what, got.Events, want.Events)
	}
	names := make(map[string]bool)
	for name := range want.Attributes {
		names[name] = true
	}
	if slices.Contains(wholeTopics, c.Topic) {
		for name := range got.attributes {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		value, ok := got.attributes[name]
		expected, wanted := want.Attributes[name]
		switch {
		case !ok:
			m.addf("%s%s is absent, want %q", what, name, expected)
		case !wanted:
			m.addf("%s%s = %q, want none", what, name, value)
		default:
			match(name, value, expected)
		}
	}
}
