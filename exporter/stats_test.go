package exporter

import (
	"encoding/json"
	"errors"
	"expvar"
	"testing"
)

// Stats has the form that expvar.Func makes of it.
func TestStatsJSON(t *testing.T) {
	s := Stats{Live: 1, Ended: 12, Delivered: 2, Rejected: map[string]uint64{"400": 3}, Dropped: map[string]uint64{DropQueueFull: 4}, Kept: Kept{Memory: 3}, LastError: errors.New("a\nb")}
	got := expvar.Func(func() any { return s }).String()
	const want = `{"live":1,"ended":12,"recovered":0,"delivered":2,"rejected":{"400":3},"dropped":{"queue_full":4},` +
		`"kept_memory":3,"kept_disk":0,"lost":7,"balanced":true,"repaired":0,"cut":0,"lost_parts":0,"requests":0,"retries":0,"panics":0,"last_error":"a b"}`
	if got != want {
		t.Errorf("expvar shows\n%s, want\n%s", got, want)
	}
	if b, err := json.Marshal(Stats{}); err != nil || !json.Valid(b) {
		t.Errorf("zero Stats: %s, %v", b, err)
	}
}
