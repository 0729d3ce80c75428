package span

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/meshtrace/meshtrace/internal/semconv"
)

// Tag is an attribute of a gateway's spans that its configuration defines, as Envoy's
// custom tags are: a string under a name, made when a span ends. It goes on the
// downstream and on the upstream spans (T-17) and may overwrite what the gateway itself
// writes (T-1); one named http.status_code or grpc.status_code also drives the span's
// status (T-18). The zero value is no tag. A Tag is immutable and safe for concurrent
// use.
type Tag struct {
	name  string
	value func(*Facts) (string, bool)
	err   error
}

// Limits of a tag.
const (
	maxTagName  = 128     // bytes
	maxTagValue = 4 << 10 // bytes
)

// newTag returns a tag that may be wrong.
func newTag(name string, errs []error, value func(*Facts) (string, bool)) Tag {
	if name == "" || len(name) > maxTagName {
		errs = append(errs, fmt.Errorf("span: name of a tag %.40q: allowed are 1 to %d bytes", name, maxTagName))
	}
	return Tag{name, value, errors.Join(errs...)}
}

// Literal returns a tag that always has the same value (T-12).
func Literal(name, value string) Tag {
	return newTag(name, nil, func(*Facts) (string, bool) { return value, value != "" })
}

// Environment returns a tag with the value of an environment variable, read now; def
// where it is not set. Set and empty is no tag, and so is "" for def (T-13).
func Environment(name, variable, def string) Tag {
	v, ok := os.LookupEnv(variable)
	if !ok {
		v = def
	}
	var errs []error
	if variable == "" || strings.ContainsAny(variable, "=\x00") {
		errs = append(errs, fmt.Errorf("span: tag %.40q: variable %.40q: allowed is the name of an environment variable", name, variable))
	}
	return newTag(name, errs, func(*Facts) (string, bool) { return v, v != "" })
}

// RequestHeader returns a tag with the first line of a header of the request, as it
// went upstream; def where the header is absent. Present and empty is no tag, and so is
// "" for def. header may be a pseudo header such as :path (T-14).
func RequestHeader(name, header, def string) Tag {
	h := newHeaderName(header)
	var errs []error
	if !isHeader(header) {
		errs = append(errs, fmt.Errorf("span: tag %.40q: header %.40q: allowed is the name of a header or pseudo header", name, header))
	}
	return newTag(name, errs, func(f *Facts) (string, bool) {
		v, ok := f.header(h)
		if !ok {
			v = def
		}
		return v, v != ""
	})
}

// Formatted returns a tag with what t renders; nothing rendered is no tag (T-16).
func Formatted(name string, t Template) Tag {
	return newTag(name, nil, func(f *Facts) (string, bool) {
		v := t.Render(f)
		return v, v != ""
	})
}

// Value returns a tag with what f makes of the HTTP request; "" is no tag. The
// request's context is that of the handler or of the call upstream, so f can tell what
// the program put there. f is called concurrently and must not change the request.
func Value(name string, f func(*http.Request) string) Tag {
	var errs []error
	if f == nil {
		errs = append(errs, fmt.Errorf("span: tag %.40q: its function is nil", name))
	}
	return newTag(name, errs, func(facts *Facts) (string, bool) {
		if facts.Request == nil {
			return "", false
		}
		v := f(facts.Request)
		return v, v != ""
	})
}

// MetadataKind is whose metadata a tag tells.
type MetadataKind uint8

const (
	// RequestMetadata is what filters found out about the request.
	RequestMetadata MetadataKind = iota
	// RouteMetadata is the route's.
	RouteMetadata
	// ClusterMetadata is that of the upstream cluster.
	ClusterMetadata
	// HostMetadata is that of the host in the cluster.
	HostMetadata
)

// maxMetadataPath bounds how deep a tag looks.
const maxMetadataPath = 16

// MetadataTag returns a tag with the value that stands under key and path in the
// metadata of a kind: a string as it is, also an empty one, true and false, a number
// with six digits, lists and objects as compact JSON. def stands for null and for what
// is missing; "" for def is no tag then (T-15).
func MetadataTag(name string, kind MetadataKind, key string, path []string, def string) Tag {
	path = slices.Clone(path)
	var errs []error
	if kind > HostMetadata {
		errs = append(errs, fmt.Errorf("span: tag %.40q: kind %d: allowed is RequestMetadata, RouteMetadata, ClusterMetadata or HostMetadata", name, kind))
		kind = 0
	}
	if key == "" || len(path) == 0 || len(path) > maxMetadataPath || slices.Contains(path, "") {
		errs = append(errs, fmt.Errorf("span: tag %.40q: key %.40q and path %.80q: allowed is a key, and a path of 1 to %d names", name, key, path, maxMetadataPath))
	}
	return newTag(name, errs, func(f *Facts) (string, bool) {
		if v, ok := metadataText(lookUp(f.Metadata[kind][key], path)); ok {
			return v, true
		}
		return def, def != ""
	})
}

// lookUp follows path through objects; nil when it leads nowhere.
func lookUp(v any, path []string) any {
	for _, name := range path {
		switch object := v.(type) {
		case map[string]any:
			v = object[name]
		case Metadata:
			v = object[name]
		default:
			return nil
		}
	}
	return v
}

// metadataText writes a value as Envoy does; false for null and for what JSON cannot
// have.
func metadataText(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", false
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'g', 6, 64), true
	case int:
		return strconv.FormatFloat(float64(v), 'g', 6, 64), true
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return "", false
	}
	return strings.TrimSuffix(b.String(), "\n"), true
}

// Name returns the name of t, "" for the zero value.
func (t Tag) Name() string { return t.name }

// Err tells what was wrong with what t was made from; nil when nothing was.
func (t Tag) Err() error { return t.err }

// Render returns the value of t, at most 4 KiB, and whether there is one.
func (t Tag) Render(f *Facts) (string, bool) {
	if t.value == nil || t.err != nil {
		return "", false
	}
	v, ok := t.value(f)
	return semconv.Cut(v, maxTagValue), ok
}
