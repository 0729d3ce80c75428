package exporter

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/internal/otelenv"
	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// Exporter sends finished spans to a collector and accounts for each of them. It is
// an sdktrace.SpanProcessor, to be given to sdktrace.WithSpanProcessor, and safe for
// concurrent use.
//
// It is not an sdktrace.SpanExporter: behind a batch processor spans would be queued twice.
type Exporter struct {
	settings *settings
	sender   Sender
	log      *reporter
	ctx      context.Context // of requests; ends with Shutdown
	cancel   context.CancelFunc
	wake     chan struct{} // one signal for run
	owned    sync.WaitGroup

	maxSpan int // bytes of a span that a request can hold

	metrics   *metrics     // nil without a MeterProvider
	started   atomic.Int64 // recording spans
	unsampled atomic.Int64 // of these, ended and not ours to send
	known     atomic.Bool  // the line that says where spans go was written, or a failure was told
	groups    groups
	scratch   sync.Pool // of *[]byte, one span
	requests  sync.Pool // of *assembly, one request

	mu     sync.Mutex
	queue  queue
	acc    accounts
	closed bool          // OnEnd refuses
	halted chan struct{} // closed when Shutdown is done; nil before it began
	flow   flow
	flush  uint64          // spans numbered below go without waiting for company
	due    time.Time       // when those waiting go all the same; zero: none wait
	parked []*batch        // to be sent again, the next one first
	active []*batch        // being sent
	moved  chan struct{}   // closed, and made anew, whenever spans are settled
	line   []chan struct{} // who waits for room, under Block
	loss   loss
}

var _ sdktrace.SpanProcessor = (*Exporter)(nil)

// assembly is the memory of one request.
type assembly struct {
	batch otlpwire.Batch
	bytes []byte
}

// keepScratch and keepRequest bound what the pools hold on to.
const (
	keepScratch = 64 << 10
	keepRequest = 8 << 20
)

// spanOverhead is more than a request has around one span, its resource and scope aside.
const spanOverhead = 64

// New checks cfg and the environment and returns an Exporter that has begun to look
// for its collector. It does not wait for it: what is wrong is logged within a second.
//
// The error joins every mistake in cfg, each with field, value and what is allowed.
// Variables that cannot be used are logged the same way and count as unset.
func New(cfg Config) (*Exporter, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	env := otelenv.New(cfg.Getenv)
	s := cfg.resolve(env)
	logger := cfg.Logger
	if logger == nil {
		logger = slog.Default()
	}
	e := &Exporter{
		settings: s,
		sender:   cfg.Sender,
		log:      newReporter(logger),
		wake:     make(chan struct{}, 1),
		acc:      newAccounts(),
		moved:    make(chan struct{}),
		maxSpan:  s.requestBytes - spanOverhead,
	}
	e.scratch.New = func() any { return new([]byte) }
	e.requests.New = func() any { return new(assembly) }
	slab := slabSize(s.queueBytes, s.requestBytes)
	e.queue = queue{store: &heap{size: slab}, slabSize: slab, maxBytes: s.queueBytes, maxSpans: s.queueSpans}
	e.flow.requestBytes = s.requestBytes
	for _, p := range env.Problems() {
		e.log.warn("exporter: " + p.Error())
	}
	if e.sender == nil {
		e.sender = newTransport(s, e.log.panicked)
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.metrics = newMetrics(e, cfg.MeterProvider)
	e.owned.Go(e.run)
	if p, ok := e.sender.(prober); ok {
		e.owned.Go(func() { e.probe(p) })
	} else {
		e.owned.Go(e.introduceLater)
	}
	return e, nil
}

// slabSize keeps a slab small beside the queue, whose bound it rounds, and beside a
// request, which ends with one.
func slabSize(queueBytes int64, requestBytes int) int {
	const most, least = 256 << 10, 4 << 10
	return int(max(least, min(most, queueBytes/16, int64(requestBytes/8))))
}

// introduce writes where spans go and where each setting came from, once. A failure
// that was told takes its place.
func (e *Exporter) introduce(works bool) {
	if e.known.Load() || !e.known.CompareAndSwap(false, true) || !works {
		return
	}
	e.log.info(e.settings.line(e.sender))
}

// introduceLater does so for a program that has no spans yet.
func (e *Exporter) introduceLater() {
	timer := time.NewTimer(quietStart)
	defer timer.Stop()
	select {
	case <-timer.C:
		e.introduce(true)
	case <-e.ctx.Done():
	}
}

// quietStart is how long the first span may take before where it will go is told.
const quietStart = time.Second

// Settings lists what is in force and where it came from, without secrets. The
// slice is the caller's.
func (e *Exporter) Settings() []Setting {
	return append([]Setting(nil), e.settings.list...)
}

// OnStart counts the span as live. It is called by the SDK.
func (e *Exporter) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	e.started.Add(1)
	e.metrics.start(s)
}

// OnEnd encodes the span into the queue and returns; it waits for nothing but a
// short lock and keeps nothing of s. A span that is not sampled is none of the
// Exporter's; one that ends after Shutdown, finds the queue full or is larger than a
// request counts as dropped. It is called by the SDK.
func (e *Exporter) OnEnd(s sdktrace.ReadOnlySpan) {
	scratch := e.scratch.Get().(*[]byte)
	r, ours := e.encode((*scratch)[:0], s)
	if ours {
		e.mu.Lock()
		if e.settings.full == Block {
			e.awaitRoom(&r)
		}
		signal := e.enter(&r)
		e.mu.Unlock()
		if signal {
			e.signal()
		}
	}
	if cap(r.body) > 0 && cap(r.body) <= keepScratch {
		*scratch = r.body
	}
	e.scratch.Put(scratch)
}

// record is an ended span on its way into the queue.
type record struct {
	group     *group
	body      []byte
	repaired  int
	lostParts int
	shortened bool
	broken    bool // reading the span panicked
}

// encode reads everything there is to read of s. It reports false for a span that is
// not sampled.
func (e *Exporter) encode(dst []byte, s sdktrace.ReadOnlySpan) (r record, ours bool) {
	defer func() {
		if v := recover(); v != nil {
			e.log.panicked("reading a span", v)
			r, ours = record{broken: true}, true
		}
	}()
	if !s.SpanContext().IsSampled() {
		e.unsampled.Add(1)
		return record{}, false
	}
	r.group = e.groups.of(s)
	r.body, r.repaired, r.lostParts = otlpwire.AppendSpanLost(dst, s)
	if len(r.body)+r.group.size > e.maxSpan {
		e.shorten(&r, s)
	}
	return r, true
}

// enter puts one ended span into the accounts and reports whether run has to know.
func (e *Exporter) enter(r *record) (signal bool) {
	e.acc.ended++
	e.acc.repaired += uint64(r.repaired)
	e.acc.lostParts += uint64(r.lostParts)
	switch {
	case r.broken:
		e.acc.dropped[DropPanic]++
		return e.loss.begin(DropPanic, 1, e.acc.lostHere())
	case e.closed:
		e.acc.dropped[DropShutdown]++
		return false
	case len(r.body)+r.group.size > e.maxSpan:
		e.acc.dropped[DropTooLarge]++
		return e.loss.begin(DropTooLarge, 1, e.acc.lostHere())
	}
	before := e.queue.pending
	for !e.queue.push(r.group, r.body) {
		if e.settings.full != DropOldest || !e.dropOldest() {
			e.acc.dropped[DropQueueFull]++
			return e.loss.begin(DropQueueFull, 1, e.acc.lostHere())
		}
		signal = e.loss.begin(DropQueueFull, 1, e.acc.lostHere()) || signal
	}
	e.acc.kept++
	if r.shortened {
		e.acc.cut++
	}
	if e.due.IsZero() {
		e.due = time.Now().Add(e.delay())
		return true
	}
	return signal || before < e.enough() && e.queue.pending >= e.enough() || e.queue.waiting == e.enoughSpans()
}

// awaitRoom waits until the queue has room for r, Config.Block at most, in the order of
// arrival. The lock is released meanwhile; the span enters the accounts when enter is
// called.
func (e *Exporter) awaitRoom(r *record) {
	if r.broken || len(r.body)+r.group.size > e.maxSpan {
		return
	}
	fits := func() bool { return e.closed || e.queue.room(r.group, len(r.body)) }
	if len(e.line) == 0 && fits() {
		return
	}
	turn := make(chan struct{}, 1)
	e.line = append(e.line, turn)
	timer := time.NewTimer(e.settings.block)
	defer timer.Stop()
	for late := false; !late && !(e.line[0] == turn && fits()) && !e.closed; {
		e.mu.Unlock()
		select {
		case <-turn:
		case <-timer.C:
			late = true
		}
		e.mu.Lock()
	}
	for i, t := range e.line {
		if t == turn {
			e.line = append(e.line[:i], e.line[i+1:]...)
			break
		}
	}
	e.admit()
}

// admit has whoever is first in line look for room.
func (e *Exporter) admit() {
	if len(e.line) > 0 {
		select {
		case e.line[0] <- struct{}{}:
		default:
		}
	}
}

// dropOldest makes room by giving up the span that waited longest.
func (e *Exporter) dropOldest() bool {
	if len(e.parked) > 0 {
		if b := e.parked[0]; e.queue.trim(b) {
			e.parked = e.parked[1:]
		}
		e.acc.dropLate(1, DropQueueFull)
		return true
	}
	if !e.queue.discard() {
		return false
	}
	e.acc.drop(1, DropQueueFull)
	return true
}

// delay is how long the first of the waiting spans waits for others.
func (e *Exporter) delay() time.Duration {
	if !e.flow.contacted {
		return min(e.settings.delay, firstDelay)
	}
	return e.settings.delay
}

// firstDelay is short, so that a mistake in the configuration is told soon.
const firstDelay = 100 * time.Millisecond

// enough is how many bytes make a request: as much as it may hold, or a part of a
// queue that would otherwise be full before.
func (e *Exporter) enough() int {
	return int(min(int64(e.flow.requestBytes), e.queue.maxBytes/4))
}

// enoughSpans is the same in spans.
func (e *Exporter) enoughSpans() int {
	n := math.MaxInt
	if e.settings.requestSpans > 0 {
		n = e.settings.requestSpans
	}
	if e.settings.queueSpans > 0 {
		n = min(n, max(1, e.settings.queueSpans/4))
	}
	return n
}

func (e *Exporter) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Stats returns one consistent snapshot of the accounts.
func (e *Exporter) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	unsampled := e.unsampled.Load()
	return Stats{
		Live:      max(0, e.started.Load()-unsampled-int64(e.acc.ended)),
		Ended:     e.acc.ended,
		Delivered: e.acc.delivered,
		Rejected:  clone(e.acc.rejected),
		Dropped:   clone(e.acc.dropped),
		Kept:      Kept{Memory: e.acc.kept},
		Repaired:  e.acc.repaired,
		Cut:       e.acc.cut,
		LostParts: e.acc.lostParts,
		Requests:  e.acc.requests,
		Retries:   e.acc.retries,
		Panics:    e.log.panics.Load(),
		LastError: e.acc.lastError,
	}
}

func clone(m map[string]uint64) map[string]uint64 {
	c := make(map[string]uint64, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

// patience is how long Shutdown and ForceFlush wait where their context has no deadline.
const patience = 5 * time.Second

// withDeadline gives ctx a deadline when it has none.
func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, patience)
}

// ForceFlush sends what ended before the call and returns once all of it is settled,
// or ctx ends (5 s where it has no deadline). It tries at once even when the
// collector failed before, unless the collector itself asked to wait.
//
// The error is a *LossError when spans were rejected or dropped meanwhile, wraps
// ctx's error when spans are still kept, and is ErrShutdown after Shutdown.
func (e *Exporter) ForceFlush(ctx context.Context) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return ErrShutdown
	}
	lost := e.acc.lost()
	e.mu.Unlock()
	late := e.drain(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	lost = e.acc.lost() - lost
	err := e.why(late)
	if late != nil {
		err = fmt.Errorf("exporter: flushing: %d spans not delivered yet: %w", e.acc.kept, err)
	}
	if lost > 0 {
		return &LossError{Lost: lost, Err: err}
	}
	if late != nil {
		return err
	}
	return nil
}

// why explains spans that were not delivered: late is the context's error, if that ended.
func (e *Exporter) why(late error) error {
	switch {
	case e.flow.err != nil && late != nil:
		return fmt.Errorf("%w: %w", late, e.flow.err)
	case e.flow.err != nil:
		return e.flow.err
	case late != nil:
		return late
	}
	return e.acc.lastError
}

// drain lets everything in the queue go at once and waits until it is settled.
func (e *Exporter) drain(ctx context.Context) error {
	e.mu.Lock()
	target := e.queue.taken + uint64(e.queue.waiting)
	e.flush = max(e.flush, target)
	if e.flow.hurry() {
		for _, b := range e.parked {
			b.resume = time.Time{}
		}
	}
	e.mu.Unlock()
	e.signal()
	for {
		e.mu.Lock()
		open, moved := e.oldest() < target, e.moved
		e.mu.Unlock()
		if !open {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// oldest is the number of the oldest span that is not settled.
func (e *Exporter) oldest() uint64 {
	n := uint64(math.MaxUint64)
	if e.queue.waiting > 0 {
		n = e.queue.taken
	}
	for _, b := range e.parked {
		n = min(n, b.first)
	}
	for _, b := range e.active {
		n = min(n, b.first)
	}
	return n
}

// grace is how long Shutdown waits beyond its deadline for requests that were cancelled.
const grace = 50 * time.Millisecond

// Shutdown refuses further spans, sends what is there and stops all goroutines. It
// returns by ctx's deadline (5 s where it has none); what is not delivered by then
// counts as dropped, and nothing is sent afterwards. Call it before the SDK
// provider's Shutdown, after which nobody hears of spans that end late.
//
// The error is a *LossError when spans were lost since the call. A second call waits
// for the first and returns nil, or ctx's error.
func (e *Exporter) Shutdown(ctx context.Context) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	e.mu.Lock()
	if e.closed {
		halted := e.halted
		e.mu.Unlock()
		select {
		case <-halted:
			return nil
		case <-ctx.Done():
		}
		select {
		case <-halted:
			return nil
		default:
			return ctx.Err()
		}
	}
	e.closed = true
	e.halted = make(chan struct{})
	lost := e.acc.lost()
	for _, turn := range e.line {
		select {
		case turn <- struct{}{}:
		default:
		}
	}
	e.mu.Unlock()

	late := e.drain(ctx)
	e.cancel()
	e.mu.Lock()
	e.abandon()
	lost = e.acc.lost() - lost
	why := e.why(late)
	over := e.loss.end(time.Now(), e.acc.lostHere())
	e.mu.Unlock()
	if over != "" {
		e.log.warn(over)
	}

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		e.owned.Wait()
		e.closeSender()
	}()
	select {
	case <-stopped:
	case <-ctx.Done():
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-stopped:
		case <-timer.C:
		}
	}
	e.metrics.stop()
	close(e.halted)
	if lost == 0 {
		return nil
	}
	err := &LossError{Lost: lost, Err: why}
	e.log.warn(err.Error())
	return err
}

// abandon gives up every span that is not settled.
func (e *Exporter) abandon() {
	for _, b := range e.active {
		b.abandoned = true
		e.acc.dropLate(uint64(b.spans), DropShutdown)
	}
	for _, b := range e.parked {
		e.acc.dropLate(uint64(b.spans), DropShutdown)
		e.queue.release(b)
	}
	e.parked = nil
	for e.queue.discard() {
		e.acc.drop(1, DropShutdown)
	}
	e.announce()
}

func (e *Exporter) closeSender() {
	defer func() {
		if v := recover(); v != nil {
			e.log.panicked("closing the Sender", v)
		}
	}()
	if err := e.sender.Close(); err != nil {
		e.log.warn("exporter: closing the Sender: " + err.Error())
	}
}
