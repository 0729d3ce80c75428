package middleware

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/meshtrace/meshtrace/internal/tally"
)

// bodies are the response bodies that nobody has read to the end or closed so far. One that
// is dropped ends its call by a cleanup of the runtime, which costs as much as two
// allocations and locks that all processors share. Most bodies are closed before the next
// garbage collection: those that are not get their cleanup then, and are held until then.
// The zero value is ready.
type bodies struct {
	shards [1 << bodyShards]bodyShard
	armed  atomic.Bool // the next garbage collection calls age
}

const bodyShards = 4 // bits

type bodyShard struct {
	mu    sync.Mutex
	young []*body
	_     [64 - 8 - 24]byte // one cache line each
}

// ageAtOnce is how many bodies get their cleanup under one lock.
const ageAtOnce = 64

// add takes b, which nobody reads yet.
func (bs *bodies) add(b *body) {
	s := &bs.shards[tally.Part(unsafe.Pointer(b), bodyShards)]
	s.mu.Lock()
	b.shard, b.at = s, len(s.young)
	s.young = append(s.young, b)
	s.mu.Unlock()
	bs.arm()
}

// arm has age called by the next garbage collection.
func (bs *bodies) arm() {
	if !bs.armed.Load() && bs.armed.CompareAndSwap(false, true) {
		// Nobody holds what the cleanup is of.
		runtime.AddCleanup(&struct{ *bodies }{}, (*bodies).age, bs)
	}
}

// remove lets go of b, once.
func (b *body) remove() {
	s := b.shard
	s.mu.Lock()
	old := b.at < 0
	if !old {
		last := len(s.young) - 1
		s.young[b.at], s.young[last].at = s.young[last], b.at
		s.young[last] = nil
		s.young = s.young[:last]
	}
	s.mu.Unlock()
	if old {
		b.cleanup.Stop()
	}
}

// age gives the bodies that outlived a garbage collection their cleanup, and lets go of
// them. The runtime calls it on a goroutine of its own.
func (bs *bodies) age() {
	bs.armed.Store(false)
	for i := range bs.shards {
		s := &bs.shards[i]
		s.mu.Lock()
		for left := len(s.young); left > 0; left -= ageAtOnce {
			n := max(0, len(s.young)-min(left, ageAtOnce))
			for j := n; j < len(s.young); j++ {
				b := s.young[j]
				b.at = -1
				b.cleanup = runtime.AddCleanup(b, (*watchedCall).dropped, b.watched)
				s.young[j] = nil
			}
			s.young = s.young[:n]
			s.mu.Unlock() // others wait
			s.mu.Lock()
		}
		rest := len(s.young) > 0 // there came more meanwhile
		if !rest {
			s.young = nil // may be large, of a burst
		}
		s.mu.Unlock()
		if rest {
			bs.arm()
		}
	}
}
