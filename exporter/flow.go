package exporter

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"time"
)

// flow says when the next request may go out and how large it may be.
type flow struct {
	contacted    bool       // the collector answered once
	err          *SendError // of the last request; nil: it was accepted
	failing      bool       // the last request failed and may be repeated: one at a time now
	failures     int        // consecutive ones
	resume       time.Time  // no request before
	told         bool       // resume is the collector's word
	requestBytes int        // below Config's once the collector called a request too large
	grown        int        // accepted large requests since
	fresh        bool       // the last failure was a repeated batch's: a new one's turn
}

const (
	firstPause   = 100 * time.Millisecond
	longestAway  = 900 * time.Millisecond // no connection: once the collector is back it hears of us within a second
	longestPause = 5 * time.Second        // an answer that means later
	longestTold  = 5 * time.Minute        // whatever the collector asks for
)

// pause doubles with each failure up to longest; half of it is chance, so that many
// exporters that lost one collector do not return at once.
func pause(failures int, longest time.Duration) time.Duration {
	d := longest
	if n := failures - 1; n < 16 {
		d = min(longest, firstPause<<max(n, 0))
	}
	return d/2 + rand.N(d/2+1)
}

// hurry ends a pause that was our own idea and reports whether it was.
func (f *flow) hurry() bool {
	if f.told && time.Now().Before(f.resume) {
		return false
	}
	f.resume = time.Time{}
	return true
}

// accepted notes that the collector took a request of size bytes.
func (f *flow) accepted(size, configured int) {
	f.contacted, f.err, f.failing, f.failures, f.fresh = true, nil, false, 0, false
	if !f.told || !time.Now().Before(f.resume) {
		f.resume, f.told = time.Time{}, false
	}
	if f.requestBytes < configured && size > f.requestBytes/2 {
		if f.grown++; f.grown >= growAfter {
			f.grown, f.requestBytes = 0, min(configured, 2*f.requestBytes)
		}
	}
}

// growAfter is how many large requests pass before a limit that was learned is tried again.
const growAfter = 64

// refused notes a final answer to a request.
func (f *flow) refused(err *SendError) {
	f.contacted, f.err, f.failing, f.failures = true, err, false, 0
}

// outgrown notes that a request of size bytes was too large.
func (f *flow) outgrown(size int) {
	f.contacted, f.failing, f.failures = true, false, 0
	f.shrink(size)
}

// shrink makes the next requests smaller than one of size bytes.
func (f *flow) shrink(size int) {
	f.grown = 0
	f.requestBytes = max(minRequestBytes, min(f.requestBytes, size/2))
}

// failed notes a request that may be repeated.
func (f *flow) failed(err *SendError, now time.Time, repeated bool) {
	answered := err.answered()
	f.contacted = f.contacted || answered
	f.err, f.failing = err, true
	f.failures++
	f.fresh = answered && repeated
	if err.After > 0 {
		until := now.Add(min(err.After, longestTold))
		if !f.told || until.After(f.resume) {
			f.resume = until
		}
		f.told = true
		return
	}
	if f.told && now.Before(f.resume) {
		return
	}
	longest := longestAway
	if answered {
		longest = longestPause
	}
	f.resume, f.told = now.Add(pause(f.failures, longest)), false
}

// run starts requests when there is something to send. It owns the timers.
func (e *Exporter) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		e.mu.Lock()
		wait := e.dispatch(time.Now())
		news := e.loss.look(time.Now(), e.acc.lostHere())
		if e.loss.active {
			wait = min(wait, lossTick)
		}
		e.mu.Unlock()
		if news != "" {
			e.log.warn(news)
		}
		timer.Reset(wait)
		select {
		case <-e.wake:
		case <-timer.C:
		case <-e.ctx.Done():
			return
		}
	}
}

// never is longer than anybody waits.
const never = 24 * time.Hour

// dispatch starts the requests that may go now and returns how long there will be
// nothing to do unless a signal comes.
func (e *Exporter) dispatch(now time.Time) time.Duration {
	if e.ctx.Err() != nil {
		return never
	}
	for {
		limit := e.settings.inFlight
		if e.flow.failing {
			limit = 1
		}
		if len(e.active) >= limit {
			return never // the end of a request is a signal
		}
		if wait := e.flow.resume.Sub(now); wait > 0 {
			return wait
		}
		b := e.next(now)
		if b == nil {
			return e.idle(now)
		}
		b.tries++
		e.acc.requests++
		if b.tries > 1 {
			e.acc.retries++
		} else {
			e.acc.submitted += uint64(b.spans)
		}
		e.active = append(e.active, b)
		e.owned.Go(func() { e.attempt(b) })
	}
}

// next takes the batch that goes now, nil when there is none. Batches that are sent
// again go first, but never twice in a row while the collector answers "later" to
// them: the fault may be theirs, and a live span must not starve behind it.
func (e *Exporter) next(now time.Time) *batch {
	if !e.flow.fresh || e.queue.waiting == 0 {
		for i, b := range e.parked {
			if !now.Before(b.resume) {
				e.parked = append(e.parked[:i], e.parked[i+1:]...)
				return b
			}
		}
	}
	return e.cut(now)
}

// idle is how long there is nothing to do while next has nothing.
func (e *Exporter) idle(now time.Time) time.Duration {
	wait := never
	if !e.due.IsZero() {
		wait = e.due.Sub(now)
	}
	for _, b := range e.parked {
		wait = min(wait, b.resume.Sub(now))
	}
	return max(0, wait)
}

// cut takes a batch from the queue if there is enough for one, or its time has come.
func (e *Exporter) cut(now time.Time) *batch {
	if !e.due.IsZero() && !now.Before(e.due) {
		e.flush = max(e.flush, e.queue.taken+uint64(e.queue.waiting))
		e.due = time.Time{}
	}
	if e.queue.taken >= e.flush && e.queue.pending < e.enough() && e.queue.waiting < e.enoughSpans() && !e.flow.failing {
		return nil
	}
	b := e.queue.take(e.enough(), cmp.Or(e.settings.requestSpans, math.MaxInt))
	if e.queue.waiting == 0 {
		e.due = time.Time{}
	} else if e.due.IsZero() {
		e.due = now.Add(e.settings.delay)
	}
	return b
}

// attempt sends b once and settles it.
func (e *Exporter) attempt(b *batch) {
	spans := b.spans
	a := e.requests.Get().(*assembly)
	b.assemble(&a.batch)
	a.bytes = a.batch.AppendTo(a.bytes[:0])
	a.batch.Reset()
	began := time.Now()
	o := send(e.ctx, e.sender, a.bytes, spans)
	e.metrics.request(time.Since(began), o)
	size := len(a.bytes)
	if cap(a.bytes) <= keepRequest {
		e.requests.Put(a)
	}
	if o.panicked {
		e.log.panics.Add(1)
	}

	e.mu.Lock()
	abandoned := b.abandoned
	e.remove(b)
	if abandoned {
		e.queue.release(b)
	} else {
		e.settle(b, size, o, time.Now())
	}
	e.announce()
	e.mu.Unlock()
	e.signal()
	if !abandoned {
		e.log.outcome(o, uint64(spans), e.settings.name())
		e.introduce(o.accepted())
	}
}

// announce tells those who wait in drain that spans were settled.
func (e *Exporter) announce() {
	close(e.moved)
	e.moved = make(chan struct{})
	e.admit()
}

func (e *Exporter) remove(b *batch) {
	for i, a := range e.active {
		if a == b {
			e.active = append(e.active[:i], e.active[i+1:]...)
			return
		}
	}
}

// settle moves the spans of b to where the outcome of its request sends them, all
// under one lock.
func (e *Exporter) settle(b *batch, size int, o outcome, now time.Time) {
	n := uint64(b.spans)
	if o.err != nil && !o.err.ours {
		e.acc.lastError = o.err
	}
	switch {
	case o.panicked:
		e.flow.refused(o.err)
		e.acc.dropLate(n, DropPanic)
		e.loss.begin(DropPanic, n, e.acc.lostHere())
	case o.accepted():
		e.flow.accepted(size, e.settings.requestBytes)
		e.acc.settle(n-o.rejected, o.rejected, CodePartialSuccess)
	case o.err.tooLarge() && b.spans > 1:
		if o.err.ours { // there was no request
			e.flow.shrink(size)
			e.acc.requests--
			if b.tries--; b.tries == 0 {
				e.acc.submitted -= n
			} else {
				e.acc.retries--
			}
		} else {
			e.flow.outgrown(size)
		}
		first, second := e.queue.split(b)
		e.parked = append([]*batch{first, second}, e.parked...)
		return
	case o.err.tooLarge():
		e.flow.refused(o.err)
		e.acc.dropLate(n, DropTooLarge)
		e.loss.begin(DropTooLarge, n, e.acc.lostHere())
	case o.err.Retry:
		e.flow.failed(o.err, now, b.tries > 1)
		e.park(b, size, o.err, now)
		return
	default:
		e.flow.refused(o.err)
		e.acc.settle(0, n, o.err.Code)
	}
	e.queue.release(b)
}

// park keeps b to be sent again.
func (e *Exporter) park(b *batch, size int, err *SendError, now time.Time) {
	b.failures++
	if err.answered() {
		b.resume = now.Add(pause(b.failures, longestPause))
		e.parked = append(e.parked, b)
		return
	}
	// Some servers hang up on what is too large. A request that is cut off again and again
	// goes in halves.
	if b.failures%cutsAreSize == 0 && err.cut && b.spans > 1 && size > minRequestBytes {
		e.flow.shrink(size)
		first, second := e.queue.split(b)
		e.parked = append([]*batch{first, second}, e.parked...)
		return
	}
	e.parked = append([]*batch{b}, e.parked...) // not the batch's fault: the oldest goes first
}

// cutsAreSize is how many times in a row a request is cut off before it is halved.
const cutsAreSize = 4

// contactTimeout bounds the first contact, so that what is wrong is told in time.
const contactTimeout = 900 * time.Millisecond

// probe contacts the collector at the start.
func (e *Exporter) probe(p prober) {
	ctx, cancel := context.WithTimeout(e.ctx, contactTimeout)
	defer cancel()
	err := p.probe(ctx)
	if e.ctx.Err() != nil {
		return
	}
	if err == nil {
		e.introduceLater()
		return
	}
	e.mu.Lock()
	if e.flow.contacted {
		e.mu.Unlock()
		return
	}
	e.acc.lastError = err
	if e.flow.err == nil {
		e.flow.err = err
	}
	e.mu.Unlock()
	e.log.outcome(outcome{err: err}, 0, e.settings.name())
	e.introduce(false)
}
