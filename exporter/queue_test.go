package exporter

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

func testQueue(slab int, bytes int64, spans int) *queue {
	return &queue{store: &heap{size: slab}, slabSize: slab, maxBytes: bytes, maxSpans: spans}
}

func testGroup(name string, interned bool) *group {
	return &group{def: otlpwire.NewGroup([]byte(name), "", nil, ""), size: len(name), interned: interned}
}

// bodies lists the span bodies of a batch with the size of their group, in order.
func bodies(b *batch) []string {
	var out []string
	for _, p := range b.parts {
		n := 0
		for data := p.data; len(data) > 0; data = data[recordSize(data):] {
			g := p.groups[binary.LittleEndian.Uint32(data)]
			out = append(out, fmt.Sprintf("%d:%s", g.size, data[recordHeader:recordSize(data)]))
			n++
		}
		if n != p.spans {
			panic(fmt.Sprintf("part has %d records and says %d", n, p.spans))
		}
	}
	if len(out) != b.spans {
		panic(fmt.Sprintf("batch has %d records and says %d", len(out), b.spans))
	}
	return out
}

// The queue against a list: whatever order of calls, records leave in the order they
// came, with their group, and the counts are those of the list.
func TestQueueModel(t *testing.T) {
	groups := []*group{testGroup("ccc", false)}
	for i := range 12 { // more than are searched one by one
		groups = append(groups, testGroup(strings.Repeat("g", 10+i), true))
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		q := testQueue(512, 8<<10, 0)
		var waiting []string
		type out struct {
			b    *batch
			want []string
		}
		var taken []out
		for step := range 400 {
			switch r.IntN(9) {
			case 0, 1, 2, 3:
				g := groups[r.IntN(len(groups))]
				size := r.IntN(60)
				if r.IntN(20) == 0 {
					size = 600 // larger than a slab
				}
				body := []byte(fmt.Sprintf("%0*d", size, step))
				if q.push(g, body) {
					waiting = append(waiting, fmt.Sprintf("%d:%s", g.size, body))
				}
			case 4:
				b := q.take(200+r.IntN(2000), 1+r.IntN(30))
				if (b == nil) != (len(waiting) == 0) {
					t.Fatalf("seed %d: take = %v with %d waiting", seed, b, len(waiting))
				}
				if b != nil {
					taken = append(taken, out{b, slices.Clone(waiting[:b.spans])})
					waiting = waiting[b.spans:]
				}
			case 5:
				if q.discard() != (len(waiting) > 0) {
					t.Fatalf("seed %d: discard with %d waiting", seed, len(waiting))
				}
				if len(waiting) > 0 {
					waiting = waiting[1:]
				}
			case 6:
				if len(taken) > 0 {
					i := r.IntN(len(taken))
					q.release(taken[i].b)
					taken = slices.Delete(taken, i, i+1)
				}
			case 8:
				if len(taken) > 0 {
					i := r.IntN(len(taken))
					taken[i].want = taken[i].want[1:]
					if empty := q.trim(taken[i].b); empty != (len(taken[i].want) == 0) {
						t.Fatalf("seed %d: trim says empty %v with %d left", seed, empty, len(taken[i].want))
					} else if empty {
						taken = slices.Delete(taken, i, i+1)
					}
				}
			case 7:
				if len(taken) > 0 {
					i := r.IntN(len(taken))
					if o := taken[i]; o.b.spans > 1 {
						first, second := q.split(o.b)
						if first.spans == 0 || second.spans == 0 || second.first != first.first+uint64(first.spans) {
							t.Fatalf("seed %d: split %d into %d and %d", seed, len(o.want), first.spans, second.spans)
						}
						taken[i] = out{first, o.want[:first.spans]}
						taken = append(taken, out{second, o.want[first.spans:]})
					}
				}
			}
			unsettled, pending := len(waiting), 0
			for _, o := range taken {
				unsettled += len(o.want)
				if got := bodies(o.b); !slices.Equal(got, o.want) {
					t.Fatalf("seed %d step %d: batch = %q, want %q", seed, step, got, o.want)
				}
			}
			for _, s := range q.segments {
				pending += len(s.buf) - s.head
			}
			if q.waiting != len(waiting) || q.unsettled != unsettled || q.pending != pending {
				t.Fatalf("seed %d step %d: waiting %d, unsettled %d, pending %d; want %d, %d, %d", seed, step, q.waiting, q.unsettled, q.pending, len(waiting), unsettled, pending)
			}
			if q.bytes > q.maxBytes {
				t.Fatalf("seed %d: %d bytes, bound %d", seed, q.bytes, q.maxBytes)
			}
		}
		for _, o := range taken {
			q.release(o.b)
		}
		for q.discard() {
		}
		if q.bytes > int64(q.slabSize) || len(q.segments) > 1 || q.unsettled != 0 {
			t.Fatalf("seed %d: empty queue holds %d bytes in %d segments, %d unsettled", seed, q.bytes, len(q.segments), q.unsettled)
		}
	}
}

func TestQueueBounds(t *testing.T) {
	g := testGroup("g", true)
	q := testQueue(4<<10, 64<<10, 0)
	body := make([]byte, 500)
	n := 0
	for q.push(g, body) {
		n++
	}
	if want := 16 * (4 << 10 / (500 + recordHeader)); n != want {
		t.Errorf("64 KiB hold %d records of 500 bytes, want %d", n, want)
	}
	q = testQueue(4<<10, 64<<10, 10)
	for n = 0; q.push(g, body); n++ {
	}
	if n != 10 {
		t.Errorf("a queue of 10 spans holds %d", n)
	}
	b := q.take(1<<20, 4)
	if q.push(g, body) {
		t.Error("push succeeds though spans in flight fill the queue")
	}
	q.release(b)
	if !q.push(g, body) {
		t.Error("push fails after release")
	}
}

// What a batch says about its size bounds the request made of it.
func TestBatchBytesBoundRequest(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 100 {
		q := testQueue(4<<10, 1<<20, 0)
		var gs []*group
		for i := range 1 + r.IntN(100) {
			gs = append(gs, testGroup(string(bytes.Repeat([]byte{'r'}, r.IntN(100)))+fmt.Sprint(i), r.IntN(2) == 0))
		}
		for range r.IntN(300) {
			q.push(gs[r.IntN(len(gs))], make([]byte, r.IntN(300)))
		}
		limit := 2000 + r.IntN(20000)
		for {
			b := q.take(limit, 1<<20)
			if b == nil {
				break
			}
			var w otlpwire.Batch
			b.assemble(&w)
			if w.Size() > b.bytes || b.spans > 1 && b.bytes > limit || w.Len() != b.spans {
				t.Fatalf("request of %d bytes and %d spans; the batch says at most %d and %d, limit %d", w.Size(), w.Len(), b.bytes, b.spans, limit)
			}
			if b.spans > 1 && w.Size() > limit {
				t.Fatalf("request of %d bytes, limit %d", w.Size(), limit)
			}
			q.release(b)
		}
	}
}
