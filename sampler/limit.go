package sampler

import (
	"sync/atomic"
	"time"
)

// limiter is a token bucket that is filled with one token an interval and holds
// window/interval of them. The zero value has no limit. It keeps the time at
// which the bucket will be full again, which one compare-and-swap moves on.
type limiter struct {
	interval, window int64 // nanoseconds; interval 0: no limit
	full             atomic.Int64
}

func (l *limiter) set(perSecond float64) {
	if perSecond == 0 {
		return
	}
	l.interval = max(1, int64(float64(time.Second)/perSecond)) // cut, so that a whole second is enough
	l.window = l.interval * max(1, int64(perSecond))
}

// take takes a token at the time now, nanoseconds on one clock that starts at
// or after 0. It is false where the bucket is empty; must then takes all the same,
// without going into debt.
func (l *limiter) take(now int64, must bool) bool {
	if l.interval == 0 {
		return true
	}
	for {
		old := l.full.Load()
		next := max(old, now) + l.interval
		if next-now > l.window {
			if !must {
				return false
			}
			next = max(old, now+l.window)
		}
		if l.full.CompareAndSwap(old, next) {
			return true
		}
	}
}

// giveBack returns a token that take gave.
func (l *limiter) giveBack() {
	l.full.Add(-l.interval)
}
