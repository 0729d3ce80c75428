package tracestore

import (
	"iter"
	"slices"
	"sync"
)

// overhead is what a kept request counts beyond its bytes: its slice header and its
// share of the allocator, so that a flood of empty requests is bounded too.
const overhead = 64

// Store keeps the newest OTLP requests up to a number of bytes. The zero value
// keeps nothing; use New.
type Store struct {
	max int64

	mu       sync.Mutex
	requests [][]byte // oldest first
	bytes    int64
	evicted  uint64
}

// New returns a Store of at most maxBytes bytes, 64 for each request included.
// With maxBytes 0 or less it keeps nothing.
func New(maxBytes int64) *Store { return &Store{max: maxBytes} }

// Add keeps a copy of request, an ExportTraceServiceRequest in protobuf, and lets go
// of the oldest ones where it needs their room. An empty request is ignored; one that
// is larger than the whole store counts as evicted. What request holds is not checked.
func (s *Store) Add(request []byte) {
	if size(request) > s.max { // before the copy
		s.refuse(request)
		return
	}
	s.keep(slices.Clone(request))
}

// keep is Add for a request that is the store's from here on.
func (s *Store) keep(request []byte) {
	if len(request) == 0 {
		return
	}
	if size(request) > s.max {
		s.refuse(request)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for s.bytes += size(request); s.bytes > s.max; n++ {
		s.bytes -= size(s.requests[n])
		s.requests[n] = nil // for the garbage collector; the array lives on
	}
	s.evicted += uint64(n)
	s.requests = append(s.requests[n:], request)
}

// refuse counts a request that no room can be made for.
func (s *Store) refuse(request []byte) {
	if len(request) == 0 {
		return
	}
	s.mu.Lock()
	s.evicted++
	s.mu.Unlock()
}

// OTLP ranges over the kept requests, oldest first. It sees the store as it was when
// the range began: requests that come or go meanwhile change nothing. The messages
// belong to the store and must not be written to.
func (s *Store) OTLP() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, r := range s.list() {
			if !yield(r) {
				return
			}
		}
	}
}

// list is the kept requests, in a slice of the caller's.
func (s *Store) list() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Evicted is the number of requests that were let go of to make room.
func (s *Store) Evicted() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.evicted
}

func size(request []byte) int64 { return int64(len(request)) + overhead }
