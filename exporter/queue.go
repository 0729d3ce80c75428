package exporter

import (
	"encoding/binary"
	"math"
	"sync"
	"time"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// store gives the queue the memory of its segments. The heap is the one there is: a queue
// in files is another store, whose slabs are mapped, under the same queue. It is called
// under the Exporter's lock.
type store interface {
	// slab returns an empty slab with room for at least size bytes.
	slab(size int) (slab, error)
}

// slab is the memory of one segment, a fixed run of bytes.
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

// segment is a slab with records and the groups they name.
type segment struct {
	slab   slab
	size   int64 // what it counts
	buf    []byte
	groups []*group
	index  map[*group]uint32 // of groups, when there are many
	spans  int               // not taken
	head   int               // offset of the first record not taken
	extra  int               // bytes that its groups add to a request
	pins   int               // batches that refer to it
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
		index = s.list(g)
	}
	s.buf = binary.LittleEndian.AppendUint32(s.buf, index)
	s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(len(body)))
	s.buf = append(s.buf, body...)
	s.spans++
	q.waiting++
	q.unsettled++
	q.pending += recordHeader + len(body)
	return true
}

// room reports whether push would find room for a record of g with a body of n bytes.
func (q *queue) room(g *group, n int) bool {
	if q.maxSpans > 0 && q.unsettled >= q.maxSpans {
		return false
	}
	need, known := int64(0), false
	if i := len(q.segments) - 1; i < 0 || q.segments[i].full(n) {
		need = int64(max(recordHeader+n, q.slabSize))
	} else {
		_, known = q.segments[i].find(g)
	}
	if !g.interned && !known {
		need += int64(g.size)
	}
	return q.bytes+need <= q.maxBytes
}

// maxScan is up to how many groups a search is faster than a map.
const maxScan = 8

func (s *segment) find(g *group) (index uint32, ok bool) {
	if len(s.groups) <= maxScan {
		for i := len(s.groups) - 1; i >= 0; i-- {
			if s.groups[i] == g {
				return uint32(i), true
			}
		}
		return 0, false
	}
	index, ok = s.index[g]
	return index, ok
}

// list adds g to the groups of s.
func (s *segment) list(g *group) (index uint32) {
	index = uint32(len(s.groups))
	s.groups = append(s.groups, g)
	s.extra += g.extra()
	if len(s.groups) > maxScan {
		if s.index == nil {
			s.index = make(map[*group]uint32)
		}
		for i := len(s.index); i < len(s.groups); i++ {
			s.index[s.groups[i]] = uint32(i)
		}
	}
	return index
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

// bytes bounds what p takes in a request.
func (p part) bytes() int { return len(p.data) + p.extra }

// cut divides p into the longest run of its first records within the bounds, and the rest.
func (p part) cut(maxBytes, maxSpans int) (run, rest part) {
	run, rest = p, p
	run.spans, run.extra = 0, 0
	off := 0
	last := uint32(math.MaxUint32)
	for off < len(p.data) && run.spans < maxSpans {
		end, extra := off+recordSize(p.data[off:]), run.extra
		if g := recordGroup(p.data[off:]); g != last {
			last = g
			extra += p.groups[g].extra()
		}
		if end+extra > maxBytes {
			break
		}
		off, run.extra = end, extra
		run.spans++
	}
	run.data, rest.data = p.data[:off:off], p.data[off:]
	run.extra = min(run.extra, p.extra)
	rest.spans -= run.spans
	return run, rest
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
// least one. It returns nil when the queue is empty. Only in the segment where the
// batch ends does it look at single records.
func (q *queue) take(maxBytes, maxSpans int) *batch {
	if q.waiting == 0 {
		return nil
	}
	b := &batch{first: q.taken}
	for _, s := range q.segments {
		if s.spans == 0 {
			continue
		}
		p := part{seg: s, data: s.buf[s.head:len(s.buf):len(s.buf)], groups: s.groups, spans: s.spans, extra: s.extra}
		room, left := maxBytes-b.bytes, maxSpans-b.spans
		whole := p.bytes() <= room && p.spans <= left
		if !whole {
			run, _ := p.cut(room, left)
			if run.spans == 0 && b.spans > 0 {
				break
			}
			if run.spans == 0 {
				run, _ = p.cut(math.MaxInt, 1)
			}
			p = run
		}
		b.add(p)
		s.pins++
		q.advance(s, len(p.data), p.spans)
		if !whole {
			break
		}
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

func recordGroup(data []byte) uint32 { return binary.LittleEndian.Uint32(data) }

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
			clear(s.groups)
			clear(s.index)
			*s = segment{slab: s.slab, buf: s.buf[:0], groups: s.groups[:0], index: s.index, size: int64(cap(s.buf))}
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
			run, rest := p.cut(math.MaxInt, left)
			p.seg.pins++ // two batches refer to it now
			first.add(run)
			second.add(rest)
		}
	}
	b.parts = nil
	return first, second
}

func (b *batch) add(p part) {
	b.parts = append(b.parts, p)
	b.spans += p.spans
	b.bytes += p.bytes()
}

// assemble fills w with the records of b. The bytes stay the queue's until b is released.
func (b *batch) assemble(w *otlpwire.Batch) {
	for _, p := range b.parts {
		for data := p.data; len(data) > 0; {
			g := p.groups[recordGroup(data)]
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
