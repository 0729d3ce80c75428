package span

import (
	"net/http"
	"strings"
)

// Facts is what is known of a call when its span ends, in a proxy's words: what a
// [Template] and the tags of a gateway are made of. Package middleware fills it in; a
// test of a template makes its own. The zero value knows nothing. It is read only.
type Facts struct {
	// Method, Scheme, Authority and Path are what HTTP/2 has as :method and so on. Path
	// has the query with it. "" is absent.
	Method, Scheme, Authority, Path string
	// Header is of the request as it went on, else as it arrived.
	Header http.Header
	// OriginalPath is the name of the header that has the path from before a rewrite; ""
	// is x-envoy-original-path. A gateway with a prefix of its own has another (ED-14).
	OriginalPath string
	// Protocol is such as "HTTP/1.1" or "HTTP/2"; "" is unknown.
	Protocol string
	// Status is the HTTP status code; 0 is no response.
	Status int
	// ResponseHeader and Trailer are of the response.
	ResponseHeader, Trailer http.Header
	// Flags are response flags as in the tag response_flags; "" is none (T-7).
	Flags string
	// RequestBytes and ResponseBytes are body sizes.
	RequestBytes, ResponseBytes int64
	// Route is the pattern of the route; "" is unknown.
	Route string
	// Cluster and ClusterName are the upstream cluster and the name it is observed by,
	// Address is its host as ip:port; "" is unknown.
	Cluster, ClusterName, Address string
	// Attempt counts the calls upstream from 1; 0 is none.
	Attempt int
	// Peer is the direct peer's address without port, Client the one taken for the
	// client's; "" is unknown.
	Peer, Client string
	// TraceID and SpanID are the ids of the span.
	TraceID, SpanID string
	// Request is the HTTP request itself; nil where there is none.
	Request *http.Request
	// Metadata is what the four kinds of metadata tags look into (T-15).
	Metadata [4]Metadata
}

// Metadata is what a program knows of a request, a route, a cluster or a host beside
// the headers, in the forms that JSON has: map[string]any, []any, string, float64,
// bool and nil. The first level are the names of who knows it. It is read only once
// it was given away.
type Metadata map[string]any

// headerName is the name of a header or pseudo header, in lower case and as the keys of
// an http.Header have it.
type headerName struct{ lower, key string }

func newHeaderName(name string) headerName {
	return headerName{strings.ToLower(name), http.CanonicalHeaderKey(name)}
}

const originalPath = "X-Envoy-Original-Path"

// header returns the first line of a header or pseudo header.
func (f *Facts) header(name headerName) (string, bool) {
	switch name.lower {
	case ":method":
		return f.Method, f.Method != ""
	case ":scheme":
		return f.Scheme, f.Scheme != ""
	case ":authority", "host":
		return f.Authority, f.Authority != ""
	case ":path":
		return f.Path, f.Path != ""
	}
	return first(f.Header, name)
}

// first returns the first line of a header.
func first(h http.Header, name headerName) (string, bool) {
	lines := h[name.key]
	if len(lines) == 0 {
		return "", false
	}
	return lines[0], true
}

// path returns the path by the parameters of %PATH%.
func (f *Facts) path(source pathSource, query bool) string {
	path, name := f.Path, originalPath
	if f.OriginalPath != "" {
		name = http.CanonicalHeaderKey(f.OriginalPath)
	}
	if lines := f.Header[name]; source != sourcePath && len(lines) > 0 {
		path = lines[0]
	} else if source == sourceOriginal {
		path = ""
	}
	if !query {
		path, _, _ = strings.Cut(path, "?")
	}
	return path
}
