package exporter

import (
	"encoding/binary"
	"math"
	"sync"
	"time"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// store gives the queue its memory. It is called under the Exporter's lock.
type store interface {
	// slab returns an empty slab with room for at least size bytes.
	slab(size int) (slab, error)
}

// slab is a fixed run of bytes.
type slab interface {
	bytes() []byte // length 0, the capacity is what counts against the queue's bound
	free()         // nobody reads or writes bytes any more
}

// queue holds encoded spans, oldest first, in slabs that count whole against a
// bound, so that the bound is one of memory and not of content. It is guarded by
// the Exporter's lock; the content of a batch is read without it, since bytes that
// were written never change while a batch refers to them.
//
// A record is group (4 bytes), length (4 bytes), span body. Its eight bytes of
// header are never fewer than what a request needs around a span, so that the size
// of a run of records bounds the size of the request made of them.
type queue struct {
	store     store
	slabSize  int
	maxBytes  int64
	maxSpans  int // kept spans, those in flight included; 0: no bound
	segments  []*segment
	bytes     int64  // of all slabs not yet freed
	waiting   int    // spans not taken
	pending   int    // bytes of those
	unsettled int    // spans not released: waiting and taken
	taken     uint64 // spans that ever left waiting
}

const recordHeader = 8

// groupOverhead is more than tags and lengths around one resource and one scope take.
const groupOverhead = 32

// segment is a slab with records and the groups they name.
type segment struct {
	slab   slab
	size   int64 // what it counts
	buf    []byte
	groups []*group
	spans  int // not taken
	head   int // offset of the first record not taken
	extra  int // bytes that its groups add to a request
	pins   int // batches that refer to it
}

// full reports whether there is no room for a record with a body of n bytes.
func (s *segment) full(n int) bool { return cap(s.buf)-len(s.buf) < recordHeader+n }

// push appends a record. It returns false when the bound leaves no room.
func (q *queue) push(g *group, body []byte) bool {
	if q.maxSpans > 0 && q.unsettled >= q.maxSpans {
		return false
	}
	var s *segment
	if n := len(q.segments); n > 0 {
		s = q.segments[n-1]
	}
	if s == nil || s.full(len(body)) {
		if s = q.grow(recordHeader + len(body)); s == nil {
			return false
		}
	}
	index, ok := s.find(g)
	if !ok {
		if !g.interned {
			if q.bytes+int64(g.size) > q.maxBytes {
				return false
			}
			s.size += int64(g.size) // held by this segment alone: it counts as well
			q.bytes += int64(g.size)
		}
		index = len(s.groups)
		s.groups = append(s.groups, g)
		s.extra += g.size + groupOverhead
	}
	s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(index))
	s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(len(body)))
	s.buf = append(s.buf, body...)
	s.spans++
	q.waiting++
	q.unsettled++
	q.pending += recordHeader + len(body)
	return true
}

// maxScan bounds the search for a group in a segment; beyond it a group is listed
// again, which costs a request some bytes.
const maxScan = 64

func (s *segment) find(g *group) (index int, ok bool) {
	for i := len(s.groups) - 1; i >= max(0, len(s.groups)-maxScan); i-- {
		if s.groups[i] == g {
			return i, true
		}
	}
	return 0, false
}

// grow appends a segment with room for size bytes, or returns nil when the bound
// leaves no room for it.
func (q *queue) grow(size int) *segment {
	size = max(size, q.slabSize)
	if q.bytes+int64(size) > q.maxBytes {
		return nil
	}
	m, err := q.store.slab(size)
	if err != nil {
		return nil
	}
	s := &segment{slab: m, buf: m.bytes()}
	s.size = int64(cap(s.buf))
	q.bytes += s.size
	q.segments = append(q.segments, s)
	return s
}

// part is a run of records of one segment. It has slices of its own, so that it can
// be read while the segment grows.
type part struct {
	seg    *segment
	data   []byte
	groups []*group
	spans  int
	extra  int
}

// batch is what one request carries.
type batch struct {
	parts []part
	spans int
	bytes int    // bounds the size of the request from above
	first uint64 // number of its first span in the order of the queue

	tries     int       // requests made with it
	failures  int       // of these, failed ones since it was cut
	resume    time.Time // not to be sent before
	abandoned bool      // given up at Shutdown: whatever comes of it is counted already
}

// take removes the oldest records, as many as fit into maxBytes and maxSpans, at
// least one. It returns nil when the queue is empty. Where the bytes are what ends
// the batch, it ends with a segment, so that no record has to be looked at.
func (q *queue) take(maxBytes, maxSpans int) *batch {
	if q.waiting == 0 {
		return nil
	}
	b := &batch{first: q.taken}
	for _, s := range q.segments {
		if s.spans == 0 {
			continue
		}
		data, spans := s.buf[s.head:len(s.buf):len(s.buf)], s.spans
		room, left := maxBytes-b.bytes-s.extra, maxSpans-b.spans
		if left <= 0 || b.spans > 0 && len(data) > room {
			break
		}
		if len(data) > room || spans > left {
			data, spans = cut(data, room, left)
		}
		b.add(part{seg: s, data: data, groups: s.groups, spans: spans, extra: s.extra})
		s.pins++
		q.advance(s, len(data), spans)
	}
	return b
}

// advance moves the head of s over records that are no longer waiting.
func (q *queue) advance(s *segment, bytes, spans int) {
	s.head += bytes
	s.spans -= spans
	q.pending -= bytes
	q.waiting -= spans
	q.taken += uint64(spans)
}

// cut returns the longest run of records at the start of data within the bounds, at
// least one record, and how many these are.
func cut(data []byte, maxBytes, maxSpans int) (run []byte, spans int) {
	off := 0
	for off < len(data) {
		end := off + recordSize(data[off:])
		if spans > 0 && (end > maxBytes || spans >= maxSpans) {
			break
		}
		off = end
		spans++
	}
	return data[:off:off], spans
}

func recordSize(data []byte) int {
	return recordHeader + int(binary.LittleEndian.Uint32(data[4:]))
}

// discard removes the oldest waiting record and reports whether there was one.
func (q *queue) discard() bool {
	for _, s := range q.segments {
		if s.spans == 0 {
			continue
		}
		q.advance(s, recordSize(s.buf[s.head:]), 1)
		q.unsettled--
		if s.spans == 0 && s.pins == 0 {
			q.collect()
		}
		return true
	}
	return false
}

// trim removes the oldest record of a batch that nobody reads, and reports whether it
// was the last one.
func (q *queue) trim(b *batch) (empty bool) {
	p := &b.parts[0]
	n := recordSize(p.data)
	p.data = p.data[n:]
	p.spans--
	b.bytes -= n
	b.spans--
	b.first++
	q.unsettled--
	if p.spans == 0 {
		b.bytes -= p.extra
		p.seg.pins--
		b.parts = b.parts[1:]
		q.collect()
	}
	return b.spans == 0
}

// release says that nobody reads b any more and that its spans are settled.
func (q *queue) release(b *batch) {
	q.unsettled -= b.spans
	for _, p := range b.parts {
		p.seg.pins--
	}
	b.parts = nil
	q.collect()
}

// collect frees segments that hold nothing. The last one is emptied and kept, for
// the next span.
func (q *queue) collect() {
	keep := q.segments[:0]
	for i, s := range q.segments {
		last := i == len(q.segments)-1
		switch {
		case s.spans > 0 || s.pins > 0:
			keep = append(keep, s)
		case last && cap(s.buf) == q.slabSize:
			q.bytes -= s.size - int64(cap(s.buf))
			*s = segment{slab: s.slab, buf: s.buf[:0], groups: s.groups[:0], size: int64(cap(s.buf))}
			clear(s.groups[:cap(s.groups)])
			keep = append(keep, s)
		default:
			q.bytes -= s.size
			s.slab.free()
		}
	}
	clear(q.segments[len(keep):])
	q.segments = keep
}

// split divides b in two of about the same number of spans. b is used up; it has
// at least two spans.
func (q *queue) split(b *batch) (first, second *batch) {
	half := b.spans / 2
	first = &batch{first: b.first, tries: b.tries}
	second = &batch{first: b.first + uint64(half), tries: b.tries}
	for _, p := range b.parts {
		left := half - first.spans
		switch {
		case left == 0:
			second.add(p)
		case left >= p.spans:
			first.add(p)
		default:
			run, n := cut(p.data, len(p.data), left)
			rest := p
			rest.data, rest.spans = p.data[len(run):], p.spans-n
			p.data, p.spans = run, n
			p.seg.pins++ // two batches refer to it now
			first.add(p)
			second.add(rest)
		}
	}
	b.parts = nil
	return first, second
}

func (b *batch) add(p part) {
	b.parts = append(b.parts, p)
	b.spans += p.spans
	b.bytes += len(p.data) + p.extra
}

// assemble fills w with the records of b. The bytes stay the queue's until b is released.
func (b *batch) assemble(w *otlpwire.Batch) {
	for _, p := range b.parts {
		for data := p.data; len(data) > 0; {
			g := p.groups[binary.LittleEndian.Uint32(data)]
			end := recordSize(data)
			w.Add(g.def, data[recordHeader:end:end], math.MaxInt)
			data = data[end:]
		}
	}
}

// heap is the store of a queue in memory. Slabs of the usual size come back through
// a sync.Pool: a steady flow of spans allocates nothing, and after a burst the
// garbage collector takes what is not used again.
type heap struct {
	size int
	pool sync.Pool // of *heapSlab
}

type heapSlab struct {
	b     []byte
	owner *heap
}

func (h *heap) slab(size int) (slab, error) {
	if size != h.size {
		return &heapSlab{b: make([]byte, 0, size)}, nil
	}
	if s, ok := h.pool.Get().(*heapSlab); ok {
		return s, nil
	}
	return &heapSlab{b: make([]byte, 0, size), owner: h}, nil
}

func (s *heapSlab) bytes() []byte { return s.b }

func (s *heapSlab) free() {
	if s.owner != nil {
		s.owner.pool.Put(s)
	}
}
