package middleware

import (
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	otelprop "go.opentelemetry.io/otel/propagation"
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

// put gives the list back; a must not be used afterwards.
func (a *attrs) put() {
	if !a.pooled || cap(a.list) > 4*attrsCap {
		return
	}
	clear(a.list)
	a.list = a.list[:0]
	attrsPool.Put(a)
}

// header returns the value of a header that Envoy keeps in one slot: its lines
// joined with a comma, empty ones dropped (O-4), and whether it is there at all.
// name is in canonical form.
func header(c otelprop.TextMapCarrier, name string) (string, bool) {
	var lines []string
	switch c := c.(type) {
	case otelprop.HeaderCarrier:
		lines = c[name]
	case otelprop.ValuesGetter:
		lines = c.Values(strings.ToLower(name))
	default:
		v := c.Get(strings.ToLower(name))
		return v, v != ""
	}
	switch len(lines) {
	case 0:
		return "", false
	case 1:
		return lines[0], true
	}
	var b strings.Builder
	for _, l := range lines {
		if l == "" || b.Len() > maxSlot {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(l)
	}
	return b.String(), true
}

// maxSlot bounds what is joined: any longer value is refused by what reads it.
const maxSlot = 1 << 10
