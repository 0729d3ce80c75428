package otlpwire

import (
	"slices"
	"unique"
)

// Group is what the spans of one resource and one instrumentation scope share,
// encoded once. It is immutable and safe for concurrent use.
type Group struct {
	resource unique.Handle[string] // the fields of ResourceSpans but scope_spans
	scope    string                // the fields of ScopeSpans but spans
}

// NewGroup makes a Group of the bodies that AppendResource and AppendScope give and
// their schema URLs ("": none). It keeps no slice. Groups with equal resources share
// one ResourceSpans in a Batch, whichever way the groups came about.
func NewGroup(resource []byte, resourceURL string, scope []byte, scopeURL string) *Group {
	return &Group{
		resource: unique.Make(string(head(resource, resourceURL))),
		scope:    string(head(scope, scopeURL)),
	}
}

// head is what ResourceSpans and ScopeSpans begin with; the two agree in the numbers.
func head(body []byte, schemaURL string) []byte {
	var b []byte
	if len(body) > 0 {
		b = appendBytes(b, 1, body) // Resource resource = 1; InstrumentationScope scope = 1;
	}
	var repaired int
	return appendString(b, 3, schemaURL, &repaired) // string schema_url = 3;
}

// Batch assembles one ExportTraceServiceRequest out of span bodies that are ready:
// it sorts them by resource and scope and adds tags and lengths around them.
//
//	var b otlpwire.Batch
//	for rec := range queue {
//		if !b.Add(rec.group, rec.body, limit) {
//			break // full: rec begins the next batch, or is too large for any
//		}
//	}
//	request = b.AppendTo(request[:0])
//	b.Reset()
//
// The size of the request is known before a byte is copied. The zero value is an
// empty batch. A Batch that is Reset and used again allocates nothing once it has
// seen its largest request. It is not safe for concurrent use.
type Batch struct {
	size      int
	resources []resourceSpans
	scopes    []scopeSpans
	spans     []spanBody

	byResource map[unique.Handle[string]]int32
	byGroup    map[*Group]int32
	lastGroup  *Group // of the span added last
	lastScope  int32  // its link
}

// The spans of a scope and the scopes of a resource are chained in the order they
// came in. A link is an index plus one: 0 ends the chain.

type resourceSpans struct {
	head        string
	size        int // of the content
	first, last int32
}

type scopeSpans struct {
	head        string
	size        int // of the content
	resource    int32
	next        int32
	first, last int32
}

type spanBody struct {
	body []byte
	next int32
}

// Add adds a span body made by AppendSpan. It returns false and changes nothing when
// the request would become larger than limit bytes. The bytes of body are not copied:
// they stay the caller's and must not change until Reset.
func (b *Batch) Add(g *Group, body []byte, limit int) bool {
	// What each level grows by: a new one by its tag, its length and its head as well.
	scope, rs := b.lookup(g)
	inScope := sizeField(len(body))
	inResource := sizeField(len(g.scope) + inScope)
	if scope != 0 {
		size := b.scopes[scope-1].size
		inResource = sizeField(size+inScope) - sizeField(size)
	}
	inRequest := sizeField(len(g.resource.Value()) + inResource)
	if rs != 0 {
		size := b.resources[rs-1].size
		inRequest = sizeField(size+inResource) - sizeField(size)
	}
	if b.size+inRequest > limit {
		return false
	}

	if rs == 0 {
		b.resources = append(b.resources, resourceSpans{head: g.resource.Value(), size: len(g.resource.Value())})
		rs = int32(len(b.resources))
		b.byResource[g.resource] = rs
	}
	r := &b.resources[rs-1]
	if scope == 0 {
		b.scopes = append(b.scopes, scopeSpans{head: g.scope, size: len(g.scope), resource: rs})
		scope = int32(len(b.scopes))
		b.byGroup[g] = scope
		if r.first == 0 {
			r.first = scope
		} else {
			b.scopes[r.last-1].next = scope
		}
		r.last = scope
	}
	s := &b.scopes[scope-1]
	b.spans = append(b.spans, spanBody{body: body})
	if n := int32(len(b.spans)); s.first == 0 {
		s.first, s.last = n, n
	} else {
		b.spans[s.last-1].next = n
		s.last = n
	}
	s.size += inScope
	r.size += inResource
	b.size += inRequest
	b.lastGroup, b.lastScope = g, scope
	return true
}

// lookup returns the links of the scope and resource that g has in b, 0 for none.
func (b *Batch) lookup(g *Group) (scope, resource int32) {
	if g == b.lastGroup {
		return b.lastScope, b.scopes[b.lastScope-1].resource
	}
	if b.byGroup == nil {
		b.byGroup = make(map[*Group]int32)
		b.byResource = make(map[unique.Handle[string]]int32)
	}
	return b.byGroup[g], b.byResource[g.resource]
}

// Len is the number of spans.
func (b *Batch) Len() int { return len(b.spans) }

// Size is the length in bytes of what AppendTo appends.
func (b *Batch) Size() int { return b.size }

// AppendTo appends the request, whose spans stand in the order they were added
// within their scope, and returns the extended slice. An empty batch is an empty request.
func (b *Batch) AppendTo(dst []byte) []byte {
	dst = slices.Grow(dst, b.size)
	for _, r := range b.resources {
		dst = appendVarint(append(dst, 1<<3|wireBytes), uint64(r.size)) // repeated ResourceSpans resource_spans = 1;
		dst = append(dst, r.head...)
		for i := r.first; i != 0; i = b.scopes[i-1].next {
			s := &b.scopes[i-1]
			dst = appendVarint(append(dst, 2<<3|wireBytes), uint64(s.size)) // repeated ScopeSpans scope_spans = 2;
			dst = append(dst, s.head...)
			for j := s.first; j != 0; j = b.spans[j-1].next {
				dst = appendBytes(dst, 2, b.spans[j-1].body) // repeated Span spans = 2;
			}
		}
	}
	return dst
}

// Reset empties the batch and lets go of the bodies; it keeps its own memory.
func (b *Batch) Reset() {
	clear(b.resources)
	clear(b.scopes)
	clear(b.spans)
	clear(b.byGroup)
	clear(b.byResource)
	b.resources, b.scopes, b.spans = b.resources[:0], b.scopes[:0], b.spans[:0]
	b.size, b.lastGroup, b.lastScope = 0, nil, 0
}
