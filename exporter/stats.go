package exporter

import "encoding/json"

// Stats is one consistent snapshot of the accounts; see the package documentation.
// Its maps are the caller's.
type Stats struct {
	Live      int64  // started and not ended: outside the accounts, shows spans that leak
	Ended     uint64 // sampled spans that ended
	Recovered uint64 // found in a queue directory, ended by another process; 0 without one

	Delivered uint64            // accepted by the collector
	Rejected  map[string]uint64 // refused by the collector, by its answer: "400", "INVALID_ARGUMENT", "partial_success"
	Dropped   map[string]uint64 // given up here, by reason: see the Drop constants
	Kept      Kept              // not settled yet, in flight included

	Repaired  uint64 // strings that were not UTF-8 and were made so
	Cut       uint64 // spans whose strings were shortened to fit into a request
	LostParts uint64 // attributes, events and links that the SDK's limits dropped
	Requests  uint64 // requests handed to the Sender
	Retries   uint64 // of these, with spans that had been sent before
	Panics    uint64 // panics of a Logger's handler, a Sender or a span that were contained

	LastError error // *SendError of the last request that failed or brought a remark; nil: none yet
}

// MarshalJSON writes the snapshot as one JSON object with names in snake_case, for
// expvar and pages of a program's own:
//
//	expvar.Publish("spans", expvar.Func(func() any { return exp.Stats() }))
//
// "lost" is the sum of what was rejected and dropped, "last_error" a text or null.
func (s Stats) MarshalJSON() ([]byte, error) {
	var last *string
	if s.LastError != nil {
		text := oneLine(s.LastError.Error(), 400)
		last = &text
	}
	return json.Marshal(struct {
		Live       int64             `json:"live"`
		Ended      uint64            `json:"ended"`
		Recovered  uint64            `json:"recovered"`
		Delivered  uint64            `json:"delivered"`
		Rejected   map[string]uint64 `json:"rejected"`
		Dropped    map[string]uint64 `json:"dropped"`
		KeptMemory uint64            `json:"kept_memory"`
		KeptDisk   uint64            `json:"kept_disk"`
		Lost       uint64            `json:"lost"`
		Balanced   bool              `json:"balanced"`
		Repaired   uint64            `json:"repaired"`
		Cut        uint64            `json:"cut"`
		LostParts  uint64            `json:"lost_parts"`
		Requests   uint64            `json:"requests"`
		Retries    uint64            `json:"retries"`
		Panics     uint64            `json:"panics"`
		LastError  *string           `json:"last_error"`
	}{
		s.Live, s.Ended, s.Recovered, s.Delivered, orEmpty(s.Rejected), orEmpty(s.Dropped), s.Kept.Memory, s.Kept.Disk,
		sum(s.Rejected) + sum(s.Dropped), s.Balanced(), s.Repaired, s.Cut, s.LostParts, s.Requests, s.Retries, s.Panics, last,
	})
}

// orEmpty is m, as an object in JSON even where it is nil.
func orEmpty(m map[string]uint64) map[string]uint64 {
	if m == nil {
		return map[string]uint64{}
	}
	return m
}

// Kept counts spans that are not settled, by where they are.
type Kept struct{ Memory, Disk uint64 }

// Reasons in [Stats].Dropped.
const (
	DropQueueFull = "queue_full" // the queue was full; Config.Full says which span goes
	DropShutdown  = "shutdown"   // ended after Shutdown, or not delivered by its deadline
	DropTooLarge  = "too_large"  // one span is larger than a request may be
	DropPanic     = "panic"      // reading the span or sending it panicked
)

// Balanced reports whether every span is accounted for:
//
//	Ended + Recovered = Delivered + sum(Rejected) + sum(Dropped) + Kept.Memory + Kept.Disk
//
// Each side is counted by itself, none is derived from the other.
func (s Stats) Balanced() bool {
	return s.Ended+s.Recovered == s.Delivered+sum(s.Rejected)+sum(s.Dropped)+s.Kept.Memory+s.Kept.Disk
}

func sum(m map[string]uint64) uint64 {
	var n uint64
	for _, v := range m {
		n += v
	}
	return n
}

// accounts are the counted numbers of one Exporter, under its lock. Every span is
// in exactly one of delivered, rejected, dropped and kept from the moment it is in ended.
type accounts struct {
	ended     uint64
	delivered uint64
	rejected  map[string]uint64
	dropped   map[string]uint64
	kept      uint64

	submitted uint64            // spans that were in a request, however often
	late      map[string]uint64 // of dropped, those

	repaired, cut, lostParts, requests, retries uint64

	lastError error
}

// maxCodes bounds the keys of rejected: codes come from outside.
const maxCodes = 64

// otherCodes takes what is beyond maxCodes.
const otherCodes = "other"

func newAccounts() accounts {
	return accounts{rejected: make(map[string]uint64), dropped: make(map[string]uint64), late: make(map[string]uint64)}
}

// settle moves kept spans of one batch to where they went.
func (a *accounts) settle(delivered, rejected uint64, code string) {
	a.kept -= delivered + rejected
	a.delivered += delivered
	if rejected == 0 {
		return
	}
	code = oneLine(code, 64)
	if _, known := a.rejected[code]; !known && len(a.rejected) >= maxCodes {
		code = otherCodes
	}
	a.rejected[code] += rejected
}

// drop moves kept spans to dropped.
func (a *accounts) drop(n uint64, reason string) {
	a.kept -= n
	a.dropped[reason] += n
}

// dropLate is drop for spans that were in a request before.
func (a *accounts) dropLate(n uint64, reason string) {
	a.drop(n, reason)
	a.late[reason] += n
}

// lostHere counts spans that were given up while the Exporter worked.
func (a *accounts) lostHere() uint64 { return sum(a.dropped) - a.dropped[DropShutdown] }

// lost is what a LossError counts.
func (a *accounts) lost() uint64 { return sum(a.rejected) + sum(a.dropped) }
