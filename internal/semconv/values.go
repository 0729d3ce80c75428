package semconv

import (
	"net/http"
	"strings"
	"unicode/utf8"
)

// Method returns http.request.method of a request's method, and whether it is one
// of those known by default: RFC 9110's, PATCH and QUERY. "" is GET, as in an
// http.Request; an unknown one is "_OTHER".
func Method(m string) (name string, known bool) {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace, "QUERY":
		return m, true
	case "":
		return http.MethodGet, true
	}
	return "_OTHER", false
}

// Route returns http.route of a pattern of http.ServeMux: "[METHOD ][HOST]" is cut
// off. What has no slash is a name of the program's own and stays.
func Route(pattern string) string {
	if i := strings.IndexAny(pattern, " \t"); i >= 0 && !strings.Contains(pattern[:i], "/") {
		pattern = strings.TrimLeft(pattern[i:], " \t")
	}
	if i := strings.IndexByte(pattern, '/'); i > 0 {
		return pattern[i:]
	}
	return pattern
}

// Cut returns s cut to at most n bytes, at the end of a character.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
