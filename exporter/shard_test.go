package exporter

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// sharded is a queue in parts with a lock each, to be measured beside the single lock that
// Exporter has. A goroutine takes the part that a pool of its processor names, and a
// snapshot locks all parts, since it must be of one instant.
type sharded struct {
	parts []*shard
	next  atomic.Uint32
	pool  sync.Pool // of *shard
}

type shard struct {
	mu    sync.Mutex
	queue *queue
	ended uint64
	kept  uint64
	_     [64]byte // parts do not share a cache line
}

func newSharded(n int) *sharded {
	s := &sharded{}
	for range n {
		s.parts = append(s.parts, &shard{queue: testQueue(256<<10, 1<<40, 0)})
	}
	s.pool.New = func() any { return s.parts[int(s.next.Add(1))%n] }
	return s
}

func (s *sharded) push(g *group, body []byte) {
	p := s.pool.Get().(*shard)
	p.mu.Lock()
	p.ended++
	p.queue.push(g, body)
	p.kept++
	full := p.queue.pending > 4<<20
	p.mu.Unlock()
	s.pool.Put(p)
	if full {
		p.drain()
	}
}

func (p *shard) drain() {
	p.mu.Lock()
	if b := p.queue.take(1<<30, 1<<30); b != nil {
		p.kept -= uint64(b.spans)
		p.queue.release(b)
	}
	p.mu.Unlock()
}

// balanced takes a snapshot.
func (s *sharded) balanced() bool {
	for _, p := range s.parts {
		p.mu.Lock()
	}
	ok := true
	for _, p := range s.parts {
		ok = ok && p.kept == uint64(p.queue.waiting)
	}
	for _, p := range s.parts {
		p.mu.Unlock()
	}
	return ok
}

// BenchmarkLock puts records into a queue under one lock and under one a processor and
// more, as OnEnd does, with a snapshot now and then; parallel, and 16 goroutines a processor.
func BenchmarkLock(b *testing.B) {
	g := testGroup("group", true)
	body := make([]byte, 350)
	for _, parts := range []int{1, runtime.GOMAXPROCS(0), 4 * runtime.GOMAXPROCS(0)} {
		for _, parallel := range []int{1, 16} {
			b.Run(fmt.Sprintf("parts=%d/goroutines=%d", parts, parallel*runtime.GOMAXPROCS(0)), func(b *testing.B) {
				s := newSharded(parts)
				b.SetParallelism(parallel)
				b.RunParallel(func(pb *testing.PB) {
					for n := 0; pb.Next(); n++ {
						s.push(g, body)
						if n%10_000 == 0 && !s.balanced() {
							b.Error("not balanced")
						}
					}
				})
			})
		}
	}
}
