package exporter

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

const allowedHeaders = "key=value,key=value with header names as keys and percent-encoded values, " +
	"at most 64 and 32 KiB, none that the protocol sets itself"

var (
	errHeaderName     = errors.New("not a header name")
	errHeaderReserved = errors.New("a header that the protocol sets itself")
	errHeaderValue    = errors.New("a value with control characters")
	errHeaderPercent  = errors.New("a value that is not percent-encoded")
	errHeaderPair     = errors.New("no key=value")
	errHeaderCount    = fmt.Errorf("more than %d headers", maxHeaders)
	errHeaderBytes    = fmt.Errorf("more than %d bytes", maxHeaderBytes)
)

// headerError names the member that is wrong and never its value.
type headerError struct {
	member int    // counted from 1; 0: none in particular
	name   string // "" when it is not a name
	err    error
}

func (e *headerError) Error() string {
	switch {
	case e.name != "":
		return fmt.Sprintf("%s: %v", e.name, e.err)
	case e.member > 0:
		return fmt.Sprintf("member %d: %v", e.member, e.err)
	}
	return e.err.Error()
}

func (e *headerError) Unwrap() error { return e.err }

// parseHeaders reads OTEL_EXPORTER_OTLP_HEADERS: the members of a W3C baggage
// header, without properties. Members that are wrong are left out and reported.
func parseHeaders(s string) (http.Header, []error) {
	h := make(http.Header)
	var errs []error
	size, member := 0, 0
	for part := range strings.SplitSeq(s, ",") {
		member++
		part = strings.Trim(part, " \t")
		if part == "" {
			continue
		}
		if len(h) >= maxHeaders {
			return h, append(errs, &headerError{err: errHeaderCount})
		}
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			errs = append(errs, &headerError{member: member, err: errHeaderPair})
			continue
		}
		key = strings.Trim(key, " \t")
		value, err := url.PathUnescape(strings.Trim(value, " \t"))
		if err != nil {
			errs = append(errs, &headerError{member: member, err: errHeaderPercent})
			continue
		}
		if err := checkHeader(key, value); err != nil {
			errs = append(errs, &headerError{member: member, err: err})
			continue
		}
		if size += len(key) + len(value); size > maxHeaderBytes {
			return h, append(errs, &headerError{err: errHeaderBytes})
		}
		h.Set(key, value)
	}
	return h, errs
}

// checkHeaders reads Config.Headers.
func checkHeaders(in map[string]string) (http.Header, error) {
	if len(in) > maxHeaders {
		return nil, errHeaderCount
	}
	h := make(http.Header, len(in))
	size := 0
	for k, v := range in {
		if err := checkHeader(k, v); err != nil {
			return nil, &headerError{name: oneLine(fmt.Sprintf("%q", k), 80), err: err}
		}
		size += len(k) + len(v)
		h.Set(k, v)
	}
	if size > maxHeaderBytes {
		return nil, errHeaderBytes
	}
	return h, nil
}

func checkHeader(name, value string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !tokenChar(r) }) {
		return errHeaderName
	}
	lower := strings.ToLower(name)
	switch lower {
	case "content-type", "content-length", "content-encoding", "transfer-encoding", "connection", "keep-alive",
		"upgrade", "te", "trailer", "host", "proxy-connection", "http2-settings":
		return errHeaderReserved
	}
	if strings.HasPrefix(lower, "grpc-") || strings.HasPrefix(lower, ":") {
		return errHeaderReserved
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return errHeaderValue
		}
	}
	return nil
}

// tokenChar is RFC 9110's tchar.
func tokenChar(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return true
	}
	return r < 0x80 && strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
