package exporter

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// endpoint is where the collector listens, as it was given.
type endpoint struct {
	scheme string // "http", "https", or "" when none was given
	user   *url.Userinfo
	host   string // name or address without brackets and port; "" for unix
	port   string // "" when none was given
	path   string // "" when none was given; else begins with a slash
	query  string
	unix   string // socket path
	file   string // path of a file to write
}

const (
	maxEndpoint     = 2048
	allowedEndpoint = "host:port, ip:port, [::1]:port, http://host:port, https://host:port, unix:/path or file:/path"
)

var (
	errEndpointLong   = errors.New("longer than 2048 bytes")
	errEndpointByte   = errors.New("holds a space or a control character")
	errEndpointScheme = errors.New("unknown scheme")
	errEndpointHost   = errors.New("no valid host")
	errEndpointPort   = errors.New("port is no number from 1 to 65535")
	errEndpointPath   = errors.New("no path")
	errEndpointURL    = errors.New("not a URL")
)

// parseEndpoint reads the spellings of an endpoint. It looks nothing up.
func parseEndpoint(s string) (endpoint, error) {
	if len(s) > maxEndpoint {
		return endpoint{}, errEndpointLong
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return endpoint{}, errEndpointByte
		}
	}
	if rest, ok := cutPrefixFold(s, "unix:"); ok {
		// unix:path and unix:///path, as gRPC's names have it.
		if after, ok := strings.CutPrefix(rest, "//"); ok {
			rest = after
		}
		if rest == "" || rest == "/" {
			return endpoint{}, errEndpointPath
		}
		return endpoint{unix: rest}, nil
	}
	if rest, ok := cutPrefixFold(s, "file:"); ok {
		rest = strings.TrimPrefix(rest, "//")
		if rest == "" || strings.HasSuffix(rest, "/") {
			return endpoint{}, errEndpointPath
		}
		return endpoint{file: rest}, nil
	}
	var e endpoint
	full := s
	if i := strings.Index(s, "://"); i >= 0 {
		e.scheme = strings.ToLower(s[:i])
		if e.scheme != "http" && e.scheme != "https" {
			return endpoint{}, errEndpointScheme
		}
	} else {
		full = "http://" + s
	}
	u, err := url.Parse(full)
	if err != nil || u.Opaque != "" || u.Fragment != "" || u.RawFragment != "" {
		return endpoint{}, errEndpointURL
	}
	e.user, e.host, e.port, e.path, e.query = u.User, u.Hostname(), u.Port(), u.EscapedPath(), u.RawQuery
	if e.port != "" {
		if n, err := strconv.ParseUint(e.port, 10, 16); err != nil || n == 0 {
			return endpoint{}, errEndpointPort
		}
	} else if strings.HasSuffix(u.Host, ":") {
		return endpoint{}, errEndpointPort
	}
	if !validHost(e.host, u.Host) {
		return endpoint{}, errEndpointHost
	}
	return e, nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// validHost accepts addresses, in brackets where they have colons, and names as DNS
// and container networks have them.
func validHost(host, written string) bool {
	if strings.HasPrefix(written, "[") {
		a, err := netip.ParseAddr(host)
		return err == nil && a.Is6()
	}
	if host == "" || len(host) > 253 {
		return false
	}
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c >= 0x80:
		default:
			return false
		}
	}
	return true
}

// plaintextByName reports whether no public certificate can exist for the host, so
// that an address without a scheme means plaintext.
func (e endpoint) plaintextByName() bool {
	if e.unix != "" {
		return true
	}
	if a, err := netip.ParseAddr(e.host); err == nil {
		a = a.Unmap()
		return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified()
	}
	name := strings.ToLower(strings.TrimSuffix(e.host, "."))
	if !strings.Contains(name, ".") {
		return true
	}
	for _, suffix := range []string{".svc", ".local", ".localhost", ".internal", ".test"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// protocol is what the endpoint lets expect, Auto when nothing.
func (e endpoint) protocol() Protocol {
	switch {
	case e.path != "" && e.path != "/":
		return HTTPProtobuf
	case e.port == "4317":
		return GRPC
	case e.port == "4318":
		return HTTPProtobuf
	case e.unix == "" && e.port == "" && e.scheme == "":
		return HTTPProtobuf // the specification's default; the port follows it
	}
	return Auto
}

const (
	tracesPath = "/v1/traces"
	exportPath = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
)

// target is an endpoint with everything decided.
type target struct {
	url  *url.URL // of requests
	unix string   // dial this instead
	addr string   // host:port to dial, with the scheme's port where none was given
	name string   // for people: no user, no query
}

// resolve makes the target of protocol p. exact takes the path as it is, as the
// signal's own variable does.
func (e endpoint) resolve(p Protocol, plaintext, exact bool) target {
	u := &url.URL{Scheme: "https", User: e.user, RawQuery: e.query}
	if plaintext {
		u.Scheme = "http"
	}
	t := target{url: u, unix: e.unix}
	port := e.port
	if e.unix != "" {
		u.Host = "localhost"
		t.name = "unix:" + e.unix
	} else {
		if port == "" && e.scheme == "" {
			if port = "4318"; p == GRPC {
				port = "4317"
			}
		}
		host := e.host
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		u.Host = host
		if port != "" {
			u.Host += ":" + port
		} else if port = "443"; plaintext {
			port = "80"
		}
		t.addr = host + ":" + port
		t.name = u.Host
	}
	path := e.path
	switch {
	case p == GRPC:
		path, u.RawQuery = exportPath, ""
	case exact && e.scheme != "":
		if path == "" {
			path = "/"
		}
	case !strings.HasSuffix(strings.TrimSuffix(path, "/"), tracesPath):
		path = strings.TrimSuffix(path, "/") + tracesPath
	}
	u.Path, u.RawPath = path, ""
	if plain, err := url.PathUnescape(path); err == nil && plain != path {
		u.Path, u.RawPath = plain, path
	}
	if p == HTTPProtobuf || p == HTTPJSON {
		t.name += path
	}
	return t
}

// redactURL takes user and query out of an endpoint that may be malformed.
func redactURL(s string) string {
	start := 0
	if i := strings.Index(s, "://"); i >= 0 {
		start = i + len("://")
	}
	if i := strings.LastIndexByte(s, '@'); i >= start {
		s = s[:start] + s[i+1:]
	}
	if i := strings.IndexByte(s, '?'); i >= 0 {
		s = s[:i]
	}
	return s
}
