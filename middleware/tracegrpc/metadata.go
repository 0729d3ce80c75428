package tracegrpc

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	otelprop "go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc/metadata"
)

// incoming reads the metadata of a served call. It is not to be written.
type incoming metadata.MD

var _ otelprop.ValuesGetter = incoming(nil)

// newIncoming returns the metadata that arrived with ctx.
//
// gRPC hands out copies only: of the whole map (8 allocations), or of one value, where
// each header that is absent costs a walk through the map. A call looks for thirteen
// headers and has two or three. So one value is asked for, and the map it is looked up
// in is noted in passing: 0.1 µs where the others take 0.4 and 0.8. Where gRPC keeps
// it in another form one day, the copy serves as well.
func newIncoming(ctx context.Context) incoming {
	t := tap{Context: ctx}
	metadata.ValueFromIncomingContext(&t, authority)
	if t.md == nil {
		md, _ := metadata.FromIncomingContext(ctx)
		return incoming(md)
	}
	return incoming(t.md)
}

// authority is the key of HTTP/2's :authority, which every call has.
const authority = ":authority"

// tap is a context that notes the metadata which goes through it.
type tap struct {
	context.Context
	md metadata.MD
}

func (t *tap) Value(key any) any {
	v := t.Context.Value(key)
	if md, ok := v.(metadata.MD); ok {
		t.md = md
	}
	return v
}

// Values returns all values of key, which may be in canonical form; the caller must
// not change them.
func (in incoming) Values(key string) []string {
	v, ok := in[key]
	if lower := strings.ToLower(key); !ok && lower != key {
		v = in[lower]
	}
	return v
}

// Get returns the first value of key, "" when there is none.
func (in incoming) Get(key string) string {
	if v := in.Values(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Keys returns the keys, lower case.
func (in incoming) Keys() []string { return slices.Collect(maps.Keys(in)) }

// Set does nothing: what arrived stays what it was.
func (in incoming) Set(string, string) {}

// outgoing collects the headers of a call that has no metadata yet.
type outgoing struct {
	pairs []string
	room  [8]string // trace context, request id, baggage and one more
}

var _ otelprop.TextMapCarrier = (*outgoing)(nil)

// Set sets key to value, unless gRPC would fail the call for it: a header never does.
func (out *outgoing) Set(key, value string) {
	if !sendable(key, value) {
		return
	}
	for i := 0; i < len(out.pairs); i += 2 {
		if out.pairs[i] == key {
			out.pairs[i+1] = value
			return
		}
	}
	if out.pairs == nil {
		out.pairs = out.room[:0]
	}
	out.pairs = append(out.pairs, key, value)
}

// Get returns the value of key, "" when there is none.
func (out *outgoing) Get(key string) string {
	for i := 0; i < len(out.pairs); i += 2 {
		if out.pairs[i] == key {
			return out.pairs[i+1]
		}
	}
	return ""
}

// Keys returns the keys that were set.
func (out *outgoing) Keys() []string {
	keys := make([]string, 0, len(out.pairs)/2)
	for i := 0; i < len(out.pairs); i += 2 {
		keys = append(keys, out.pairs[i])
	}
	return keys
}

// into returns ctx with the headers in its outgoing metadata.
func (out *outgoing) into(ctx context.Context) context.Context {
	if len(out.pairs) == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, out.pairs...)
}

// headers returns md as headers, so that what is written replaces what a program
// forwarded, and formats that are read and not written go (B-13).
func headers(md metadata.MD) otelprop.HeaderCarrier {
	h := make(otelprop.HeaderCarrier, len(md)+4)
	for k, v := range md {
		h[http.CanonicalHeaderKey(k)] = v
	}
	return h
}

// replace returns ctx with h for its outgoing metadata, which was md. What was
// written into h and gRPC would fail the call for is left out.
func replace(ctx context.Context, md metadata.MD, h otelprop.HeaderCarrier) context.Context {
	out := make(metadata.MD, len(h))
	for k, values := range h {
		key := strings.ToLower(k)
		written := !slices.Equal(values, md[key])
		if written && slices.ContainsFunc(values, func(v string) bool { return !sendable(key, v) }) {
			continue
		}
		out[key] = values
	}
	return metadata.NewOutgoingContext(ctx, out)
}

// sendable tells whether gRPC takes a pair: keys of [0-9a-z_.-] that are not its own,
// values of printable ASCII, or any bytes under a key that ends in -bin.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, "Custom-Metadata"
func sendable(key, value string) bool {
	if key == "" || strings.HasPrefix(key, "grpc-") {
		return false
	}
	for i := range len(key) {
		if c := key[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	if strings.HasSuffix(key, "-bin") {
		return true
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
