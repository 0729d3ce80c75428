package tracegrpc

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"

	"github.com/meshtrace/meshtrace/internal/semconv"
	"github.com/meshtrace/meshtrace/span"
)

// method is what all calls of one method to one target share.
type method struct {
	name  string // of the span
	attrs []attribute.KeyValue
}

// What stands where the method is not a known one.
const (
	noName   = "grpc"   // of the span
	noMethod = "_OTHER" // rpc.method
)

// newMethod describes the method full; one in a shape that is none is _OTHER.
func newMethod(full string, more ...attribute.KeyValue) *method {
	m := &method{name: span.RPCName(full)}
	m.attrs = append(m.attrs, semconv.RPCSystemName.String("grpc"))
	if m.name != noName {
		m.attrs = append(m.attrs, semconv.RPCMethod.String(m.name))
	} else {
		m.attrs = append(m.attrs, unknownMethod(full)...)
	}
	m.attrs = append(m.attrs, more...)
	return m
}

// unknownMethod are the attributes of a method that is not a known one.
func unknownMethod(full string) []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.RPCMethod.String(noMethod),
		semconv.RPCMethodOriginal.String(bounded(strings.TrimPrefix(full, "/"))),
	}
}

// maxText bounds in bytes what a stranger may put into an attribute or a message.
const maxText = 255

// bounded returns s as valid UTF-8 of at most maxText bytes.
func bounded(s string) string {
	if len(s) > maxText {
		s = s[:maxText] // may cut a character, which the next line mends
	}
	return strings.ToValidUTF8(s, "")
}

// maxMethods bounds a cache. Programs call and serve fewer; a proxy that passes on
// whatever it is asked for does not fill the memory.
const maxMethods = 1024

// cache keeps methods. Reading takes no lock, and writing happens once a key.
type cache[K comparable] struct {
	mu sync.Mutex
	m  atomic.Pointer[map[K]*method]
}

// get returns the method of key, made by build where it is not known yet.
func (c *cache[K]) get(key K, build func(K) *method) *method {
	if m := c.m.Load(); m != nil {
		if found, ok := (*m)[key]; ok {
			return found
		}
	}
	return c.add(key, build(key))
}

func (c *cache[K]) add(key K, made *method) *method {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[K]*method{}
	if m := c.m.Load(); m != nil {
		if len(*m) >= maxMethods {
			return made
		}
		next = maps.Clone(*m)
	}
	next[key] = made
	c.m.Store(&next)
	return made
}
