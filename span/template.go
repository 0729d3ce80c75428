package span

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/meshtrace/meshtrace/internal/semconv"
)

// Template is a text with command operators, as Envoy's access log formats have them:
// it makes the name of a span or the value of a tag of what is known when the span
// ends. What is missing renders empty (N-14). The zero value is none; it renders "".
// A Template is immutable and safe for concurrent use.
//
//	%REQ(X?Y):Z%      header X of the request, else Y; pseudo headers as :path
//	%RESP(X?Y):Z%     of the response
//	%TRAILER(X?Y):Z%  of its trailers
//	%PATH(Q:S):Z%     the path. Q: WQ with query (default), NQ without. S: ORIG_OR_PATH
//	                  (default), ORIG of x-envoy-original-path or what
//	                  the HeaderPrefix of a gateway makes of that name, PATH of :path
//	%PROTOCOL%  %RESPONSE_CODE%  %RESPONSE_FLAGS%  %BYTES_RECEIVED%  %BYTES_SENT%
//	%ROUTE_NAME%  %UPSTREAM_CLUSTER%  %UPSTREAM_CLUSTER_RAW%  %UPSTREAM_HOST%
//	%UPSTREAM_REQUEST_ATTEMPT_COUNT%  %TRACE_ID%  %SPAN_ID%
//	%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%  %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%
//	%%                a percent sign
//
// :Z cuts to Z bytes and is optional, as are Y and the parameters of PATH. Names of
// headers are told apart without regard to case.
type Template struct{ parsed *parsedTemplate } // one word, since routes are copied

type parsedTemplate struct {
	text string
	ops  []op
}

// op is a part of a template: literal text, or an operator.
type op struct {
	kind        opKind
	text        string // literal
	name        headerName
	alternative headerName // zero: none
	limit       int        // bytes; negative none
	source      pathSource
	query       bool
}

type opKind uint8

const (
	opLiteral opKind = iota
	opRequest
	opResponse
	opTrailer
	opPath
	opProtocol
	opStatus
	opFlags
	opReceived
	opSent
	opRoute
	opClusterName
	opCluster
	opAddress
	opAttempt
	opTraceID
	opSpanID
	opClient
	opPeer
)

type pathSource uint8

const (
	sourceEither pathSource = iota
	sourceOriginal
	sourcePath
)

// operators are the commands by name. The first ones take parameters.
var operators = map[string]opKind{
	"REQ": opRequest, "RESP": opResponse, "TRAILER": opTrailer, "PATH": opPath,
	"PROTOCOL": opProtocol, "RESPONSE_CODE": opStatus, "RESPONSE_FLAGS": opFlags,
	"BYTES_RECEIVED": opReceived, "BYTES_SENT": opSent, "ROUTE_NAME": opRoute,
	"UPSTREAM_CLUSTER": opClusterName, "UPSTREAM_CLUSTER_RAW": opCluster, "UPSTREAM_HOST": opAddress,
	"UPSTREAM_REQUEST_ATTEMPT_COUNT": opAttempt, "TRACE_ID": opTraceID, "SPAN_ID": opSpanID,
	"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":        opClient,
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": opPeer,
}

// Limits of a template, and of what it renders.
const (
	maxTemplate = 4 << 10 // bytes
	maxOps      = 64
	maxRendered = 4 << 10 // bytes
)

// TemplateError says what is wrong with the text of a template.
type TemplateError struct {
	Text   string // the template
	Offset int    // of the first byte that is wrong
	Reason string // what is wrong, and what is allowed
}

// Error states text, offset and reason.
func (e *TemplateError) Error() string {
	return fmt.Sprintf("span: template %.200q, byte %d: %s", e.Text, e.Offset, e.Reason)
}

// ParseTemplate reads a text of at most 4 KiB with at most 64 parts. The error is a
// *TemplateError.
func ParseTemplate(text string) (Template, error) {
	if text == "" {
		return Template{}, nil
	}
	t := &parsedTemplate{text: text}
	fail := func(at int, format string, args ...any) (Template, error) {
		return Template{}, &TemplateError{text, at, fmt.Sprintf(format, args...)}
	}
	if len(text) > maxTemplate {
		return fail(maxTemplate, "allowed are %d bytes", maxTemplate)
	}
	literal := func(s string) {
		if n := len(t.ops); n > 0 && t.ops[n-1].kind == opLiteral {
			t.ops[n-1].text += s
		} else if s != "" {
			t.ops = append(t.ops, op{text: s})
		}
	}
	for at := 0; at < len(text); {
		start := strings.IndexByte(text[at:], '%')
		if start < 0 {
			literal(text[at:])
			break
		}
		literal(text[at : at+start])
		at += start + 1
		if strings.HasPrefix(text[at:], "%") {
			literal("%")
			at++
			continue
		}
		end := commandEnd(text[at:])
		if end < 0 {
			return fail(at-1, "a %% begins an operator that has no end: allowed is %%NAME%%, and %%%% for the sign")
		}
		o, reason := parseOp(text[at : at+end])
		if reason != "" {
			return fail(at, "%s", reason)
		}
		if t.ops = append(t.ops, o); len(t.ops) > maxOps {
			return fail(at, "allowed are %d parts", maxOps)
		}
		at += end + 1
	}
	return Template{t}, nil
}

// MustTemplate is ParseTemplate for a text of the program's own: it panics on a
// mistake.
func MustTemplate(text string) Template {
	t, err := ParseTemplate(text)
	if err != nil {
		panic(err)
	}
	return t
}

// commandEnd returns where the % stands that ends a command, outside of its
// parentheses; -1 when there is none.
func commandEnd(s string) int {
	inside := false
	for i := range len(s) {
		switch s[i] {
		case '(':
			inside = true
		case ')':
			inside = false
		case '%':
			if !inside {
				return i
			}
		}
	}
	return -1
}

// parseOp reads what stands between two percent signs. reason is "" when it is right.
func parseOp(s string) (o op, reason string) {
	o.limit = -1
	name := s
	if i := strings.IndexAny(s, "(:"); i >= 0 {
		name = s[:i]
	}
	kind, ok := operators[name]
	if !ok {
		return o, fmt.Sprintf("no operator %.40q: allowed are %s", name, operatorNames())
	}
	o.kind = kind
	rest := s[len(name):]
	param, hasParam := "", strings.HasPrefix(rest, "(")
	if hasParam {
		end := strings.IndexByte(rest, ')')
		if end < 0 {
			return o, "( without )"
		}
		param, rest = rest[1:end], rest[end+1:]
	}
	if limit, ok := strings.CutPrefix(rest, ":"); ok {
		n, err := strconv.ParseUint(limit, 10, 16)
		if err != nil {
			return o, fmt.Sprintf("length %.40q: allowed is 0 to 65535", limit)
		}
		o.limit, rest = int(n), ""
	}
	if rest != "" {
		return o, fmt.Sprintf("%.40q after the operator: allowed is :LENGTH", rest)
	}
	return o, o.parameter(name, param, hasParam)
}

// parameter reads what stands in the parentheses of an operator.
func (o *op) parameter(name, param string, given bool) (reason string) {
	switch o.kind {
	case opRequest, opResponse, opTrailer:
		main, other, two := strings.Cut(param, "?")
		o.name = newHeaderName(main)
		if two {
			o.alternative = newHeaderName(other)
		}
		if !isHeader(main) || two && other != "" && !isHeader(other) {
			return fmt.Sprintf("%s(%.40s): allowed is the name of a header, or of two with ? between", name, param)
		}
	case opPath:
		query, source, _ := strings.Cut(param, ":")
		o.query = query == "" || query == "WQ"
		i := slices.Index([]string{"ORIG_OR_PATH", "ORIG", "PATH"}, source)
		if source == "" {
			i = 0
		}
		if i < 0 || !o.query && query != "NQ" {
			return fmt.Sprintf("PATH(%.40s): allowed is WQ or NQ, and ORIG_OR_PATH, ORIG or PATH after a colon", param)
		}
		o.source = pathSource(i)
	default:
		if given || o.limit >= 0 {
			return name + " takes no parameter and no length"
		}
	}
	return ""
}

// isHeader tells whether name can be a header's or pseudo header's.
func isHeader(name string) bool {
	name = strings.TrimPrefix(name, ":")
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return name != ""
}

func operatorNames() string {
	var names []string
	for n := range operators {
		names = append(names, n)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// ParseGlooTemplate reads the name of a spanTransformer: text with {{header("X")}} for
// headers of the request, of the functions of Gloo's templates the only one that is
// known here. The error is a *TemplateError (GL-5).
func ParseGlooTemplate(text string) (Template, error) {
	const open, end = "{{", "}}"
	if text == "" {
		return Template{}, nil
	}
	t := &parsedTemplate{text: text}
	if len(text) > maxTemplate {
		return Template{}, &TemplateError{text, maxTemplate, fmt.Sprintf("allowed are %d bytes", maxTemplate)}
	}
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, open)
		if before != "" {
			t.ops = append(t.ops, op{text: before})
		}
		if !found {
			break
		}
		at := len(text) - len(after)
		expr, after, closed := strings.Cut(after, end)
		expr = strings.TrimSpace(expr)
		name, ok := strings.CutPrefix(expr, `header("`)
		name, ok2 := strings.CutSuffix(name, `")`)
		if !closed || !ok || !ok2 || !isHeader(name) {
			return Template{}, &TemplateError{text, at, `allowed is {{header("name")}}`}
		}
		t.ops = append(t.ops, op{kind: opRequest, name: newHeaderName(name), limit: -1})
		if len(t.ops) > maxOps {
			return Template{}, &TemplateError{text, at, fmt.Sprintf("allowed are %d parts", maxOps)}
		}
		rest = after
	}
	return Template{t}, nil
}

// IsZero tells whether t is no template at all.
func (t Template) IsZero() bool { return t.parsed == nil }

// String returns the text of t.
func (t Template) String() string {
	if t.parsed == nil {
		return ""
	}
	return t.parsed.text
}

// Render returns the text that t makes of f, at most 4 KiB.
func (t Template) Render(f *Facts) string {
	if t.parsed == nil {
		return ""
	}
	ops := t.parsed.ops
	if len(ops) == 1 {
		return semconv.Cut(ops[0].render(f), maxRendered)
	}
	var b strings.Builder
	for i := range ops {
		b.WriteString(ops[i].render(f))
		if b.Len() > maxRendered {
			break
		}
	}
	return semconv.Cut(b.String(), maxRendered)
}

func (o *op) render(f *Facts) string {
	switch o.kind {
	case opLiteral:
		return o.text
	case opRequest:
		v, ok := f.header(o.name)
		if !ok {
			v, _ = f.header(o.alternative)
		}
		return o.cut(v)
	case opResponse:
		return o.cut(o.line(f, f.ResponseHeader))
	case opTrailer:
		return o.cut(o.line(f, f.Trailer))
	case opPath:
		return o.cut(f.path(o.source, o.query))
	case opProtocol:
		return f.Protocol
	case opStatus:
		return strconv.Itoa(f.Status)
	case opFlags:
		if f.Flags == "" {
			return "-"
		}
		return f.Flags
	case opReceived:
		return strconv.FormatInt(f.RequestBytes, 10)
	case opSent:
		return strconv.FormatInt(f.ResponseBytes, 10)
	case opRoute:
		return f.Route
	case opClusterName:
		return f.ClusterName
	case opCluster:
		return f.Cluster
	case opAddress:
		return f.Address
	case opAttempt:
		return strconv.Itoa(f.Attempt)
	case opTraceID:
		return f.TraceID
	case opSpanID:
		return f.SpanID
	case opClient:
		return f.Client
	case opPeer:
		return f.Peer
	}
	return ""
}

// line returns the header of a response that o names, or its alternative.
func (o *op) line(f *Facts, h http.Header) string {
	of := func(name headerName) (string, bool) {
		if name.lower == ":status" && f.Status != 0 && o.kind == opResponse {
			return strconv.Itoa(f.Status), true
		}
		return first(h, name)
	}
	v, ok := of(o.name)
	if !ok {
		v, _ = of(o.alternative)
	}
	return v
}

// cut cuts a value to the operator's length.
func (o *op) cut(v string) string {
	if o.limit >= 0 && len(v) > o.limit {
		return v[:o.limit]
	}
	return v
}
