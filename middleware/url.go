package middleware

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/span"
)

// Bounds in bytes of what a request may put into attributes.
const (
	maxPath   = 2 << 10
	maxHost   = 255
	maxAgent  = 512
	maxMethod = 32
)

// protocolVersion is network.protocol.version of HTTP.
func protocolVersion(major, minor int) string {
	switch {
	case major == 1 && minor == 1:
		return "1.1"
	case major == 1 && minor == 0:
		return "1.0"
	case major == 2:
		return "2"
	case major == 3:
		return "3"
	}
	return strconv.Itoa(major) + "." + strconv.Itoa(minor)
}

// splitHost splits "host:port", "[v6]:port" or "host"; 0 is no port.
func splitHost(hostport string) (host string, port int) {
	if strings.IndexByte(hostport, ':') < 0 {
		return hostport, 0
	}
	h, p, err := net.SplitHostPort(hostport)
	if err != nil {
		return strings.Trim(hostport, "[]"), 0
	}
	return h, number(p)
}

// portOf returns the port of "ip:port" without splitting it; 0 is none.
func portOf(hostport string) int {
	return number(hostport[strings.LastIndexByte(hostport, ':')+1:])
}

func number(port string) int {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

// secrets are the query parameters whose values are replaced.
type secrets struct {
	names map[string]bool
	quick bool // mayHoldSecret knows the names
}

func newSecrets(names []string) *secrets {
	s := &secrets{names: make(map[string]bool, len(names))}
	for _, n := range names {
		s.names[n] = true
	}
	return s
}

// defaultSecrets are those of span.SecretParameters.
var defaultSecrets = func() *secrets {
	s := newSecrets(span.SecretParameters())
	s.quick = true
	return s
}()

const redacted = "REDACTED"

// redact replaces the values of secret parameters in a query; keys stay. Names are
// compared after decoding, so an encoded name hides nothing.
func (s *secrets) redact(q string) string {
	if q == "" || len(s.names) == 0 || (s.quick && !mayHoldSecret(q)) {
		return q
	}
	var b strings.Builder
	for i, pair := range strings.Split(q, "&") {
		if i > 0 {
			b.WriteByte('&')
		}
		key, _, hasValue := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(key)
		if hasValue && (err != nil || s.names[name]) {
			b.WriteString(key)
			b.WriteString("=" + redacted)
		} else {
			b.WriteString(pair)
		}
	}
	return b.String()
}

// mayHoldSecret is a cheap test that spares most queries the walk: every secret
// name of defaultSecrets has "ig" or "X-" or "Key" in it, or is hidden behind an escape.
func mayHoldSecret(q string) bool {
	return strings.Contains(q, "ig") || strings.Contains(q, "X-") || strings.Contains(q, "Key") ||
		strings.IndexByte(q, '%') >= 0 || strings.IndexByte(q, '+') >= 0
}

// url is url.full: without user information and secrets, bounded.
func (s *secrets) url(u *url.URL) string {
	query := s.redact(u.RawQuery)
	if u.User == nil && query == u.RawQuery {
		return semconv.Cut(u.String(), maxPath)
	}
	c := *u
	c.RawQuery = query
	if u.User != nil {
		c.User = url.UserPassword(redacted, redacted)
	}
	return semconv.Cut(c.String(), maxPath)
}
