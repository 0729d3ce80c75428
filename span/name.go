package span

import (
	"net/http"
	"strings"
	"unicode/utf8"
)

// maxName bounds span names in bytes.
const maxName = 256

// HTTPName returns the name of an HTTP span: "{method} {route}", or "{method}"
// where route is "". route may be a pattern of http.ServeMux: a method and a host
// in front of the path are cut off. The methods of RFC 9110, PATCH and QUERY are
// known, "" is GET as in an http.Request, all others are "HTTP", so that no stranger
// adds names. A name is at most 256 bytes. Semantic conventions, "HTTP spans", Name.
func HTTPName(method, route string) string {
	name := knownMethod(method)
	if route = path(route); route == "" {
		return name
	}
	return name + " " + cut(route, maxName-len(name)-1)
}

func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace, "QUERY":
		return m
	case "":
		return http.MethodGet
	}
	return "HTTP"
}

// path cuts "[METHOD ][HOST]" off a pattern of http.ServeMux. What has no slash is
// a name of the program's own and stays.
func path(pattern string) string {
	if i := strings.IndexAny(pattern, " \t"); i >= 0 && !strings.Contains(pattern[:i], "/") {
		pattern = strings.TrimLeft(pattern[i:], " \t")
	}
	if i := strings.IndexByte(pattern, '/'); i > 0 {
		return pattern[i:]
	}
	return pattern
}

// RPCName returns the name of a gRPC span: "package.Service/Method" of the full
// method "/package.Service/Method", with or without the first slash. What has
// another shape is "grpc": an empty part, more than two parts, a byte outside
// printable ASCII, more than 256 bytes. It does not allocate. Semantic conventions,
// "gRPC", Name.
func RPCName(fullMethod string) string {
	const unknown = "grpc"
	name := strings.TrimPrefix(fullMethod, "/")
	if len(name) > maxName {
		return unknown
	}
	slash := strings.IndexByte(name, '/')
	if slash <= 0 || slash == len(name)-1 || strings.IndexByte(name[slash+1:], '/') >= 0 {
		return unknown
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' {
			return unknown
		}
	}
	return name
}

// cut returns s cut to at most n bytes, at the end of a character where s has them.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := n; i > n-utf8.UTFMax && i > 0; i-- {
		if utf8.RuneStart(s[i]) {
			return s[:i]
		}
	}
	return s[:n]
}
