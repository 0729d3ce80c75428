package middleware

import (
	"net/http"
	"strings"

	"github.com/meshtrace/meshtrace/internal/semconv"
)

// target returns the scheme and the host that the client asked for: what a proxy in
// front says in Forwarded, else in X-Forwarded-Proto and X-Forwarded-Host, else those
// of the connection and the request. What a stranger says of a proxy that is not there
// does not count. Semantic conventions, "HTTP spans", url.scheme and server.address.
func (c *serverCall) target(r *http.Request) (scheme, host string) {
	if nth, ok := c.forwardedBy(); ok {
		if f := r.Header["Forwarded"]; len(f) > 0 {
			list, _ := joinForwarded(f)
			scheme, host = forwarded(nth.of(list))
		}
		if scheme == "" {
			if lines := r.Header["X-Forwarded-Proto"]; len(lines) > 0 {
				list, _ := joinForwarded(lines)
				scheme = schemeName(nth.of(list))
			}
		}
		if host == "" {
			if lines := r.Header["X-Forwarded-Host"]; len(lines) > 0 {
				list, _ := joinForwarded(lines)
				host = nth.of(list)
			}
		}
	}
	switch {
	case scheme != "":
	case r.TLS != nil:
		scheme = "https"
	default:
		scheme = "http"
	}
	if host == "" {
		host = r.Host
	}
	return scheme, semconv.Cut(host, maxHost)
}

// element tells which element of a list counts: 0 the first, n the nth from the end.
type element int

// forwardedBy tells which element of a list of forwarded values is to be believed, and
// whether any is. Inside the mesh it is the first, which is nearest to the client. What
// came from outside has as many elements as proxies are trusted.
func (c *serverCall) forwardedBy() (element, bool) {
	e := c.tracing.edge
	switch {
	case e == nil, c.origin.internal:
		return 0, true
	case e.Hops > 0:
		return element(e.Hops), true
	case e.Inner:
		return 1, true
	}
	return 0, false
}

// of returns the element of a comma list; a list that is too short has its first. A
// comma within quotes separates nothing. It collects nothing: a list may be all commas.
func (n element) of(list string) string {
	skip := 0
	if n > 0 && strings.IndexByte(list, ',') >= 0 {
		elements := 1
		for rest := list; ; elements++ {
			_, after, more := cutElement(rest)
			if !more {
				break
			}
			rest = after
		}
		skip = max(0, elements-int(n))
	}
	for ; skip > 0; skip-- {
		_, list, _ = cutElement(list)
	}
	first, _, _ := cutElement(list)
	return strings.TrimSpace(first)
}

// cutElement cuts list around its first comma that does not stand within quotes.
func cutElement(list string) (before, after string, found bool) {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch list[i] {
		case '"':
			quoted = !quoted
		case '\\':
			if quoted {
				i++
			}
		case ',':
			if !quoted {
				return list[:i], list[i+1:], true
			}
		}
	}
	return list, "", false
}

// forwarded reads proto and host of one element of Forwarded (RFC 7239, section 4); ""
// is what it does not say. Names are in any case, values may be quoted.
func forwarded(element string) (scheme, host string) {
	for rest := element; rest != ""; {
		var name, value string
		name, rest, _ = strings.Cut(rest, "=")
		name = strings.Trim(name, " \t;")
		if strings.HasPrefix(rest, `"`) {
			var b strings.Builder
			i := 1
			for ; i < len(rest) && rest[i] != '"'; i++ {
				if rest[i] == '\\' && i+1 < len(rest) {
					i++
				}
				b.WriteByte(rest[i])
			}
			value, rest = b.String(), rest[min(i+1, len(rest)):]
		} else if i := strings.IndexByte(rest, ';'); i >= 0 {
			value, rest = rest[:i], rest[i+1:]
		} else {
			value, rest = rest, ""
		}
		value = strings.TrimSpace(value)
		switch {
		case strings.EqualFold(name, "proto"):
			scheme = schemeName(value)
		case strings.EqualFold(name, "host"):
			host = value
		}
	}
	return scheme, host
}

// schemeName returns http or https; "" for anything else, since a stranger's word may
// not become a value of metrics.
func schemeName(s string) string {
	switch {
	case strings.EqualFold(s, "https"):
		return "https"
	case strings.EqualFold(s, "http"):
		return "http"
	}
	return ""
}
