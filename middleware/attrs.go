package middleware

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
)

// attrs collects a span's attributes. Lists go round in a pool, since the SDK
// copies what it is given.
type attrs struct {
	list   []attribute.KeyValue
	pooled bool
}

// attrsCap holds the attributes of an HTTP server span and a few of the caller's.
const attrsCap = 24

var attrsPool = sync.Pool{New: func() any {
	return &attrs{list: make([]attribute.KeyValue, 0, attrsCap), pooled: true}
}}

// attrs returns an empty list. A provider that is not the SDK's may keep what it
// gets, so it gets a list of its own.
func (t *Tracing) attrs() *attrs {
	if !t.sdk {
		return &attrs{list: make([]attribute.KeyValue, 0, attrsCap)}
	}
	return attrsPool.Get().(*attrs)
}

func (a *attrs) add(kv ...attribute.KeyValue) { a.list = append(a.list, kv...) }

// str adds one attribute in its place in the list, where add makes a copy. It is not
// inlined: a dozen of them would fill the stack of the request.
//
//go:noinline
func (a *attrs) str(k attribute.Key, v string) { a.list = append(a.list, k.String(v)) }

// num is str for a number.
//
//go:noinline
func (a *attrs) num(k attribute.Key, v int64) { a.list = append(a.list, k.Int64(v)) }

// put gives the list back; a must not be used afterwards.
func (a *attrs) put() {
	if !a.pooled || cap(a.list) > 4*attrsCap {
		return
	}
	clear(a.list)
	a.list = a.list[:0]
	attrsPool.Put(a)
}
